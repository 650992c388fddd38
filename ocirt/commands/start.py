"""start: have the created container's init execute the user's program."""

from __future__ import annotations

from ocirt.cli import Args, Context
from ocirt.starting import check_startable, start


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    check_startable(container)
    with container.locked():
        check_startable(container)
        start(container, context.log)
    return 0
