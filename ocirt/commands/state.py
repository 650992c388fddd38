"""state: what runtime.md#state asks for, and runc's additions, as JSON."""

from __future__ import annotations

from ocirt.cli import Args, Context
from ocirt.output import container_object, write_json


def run(args: Args, context: Context) -> int:
    write_json(container_object(context.store.load(args.positional[0])))
    return 0
