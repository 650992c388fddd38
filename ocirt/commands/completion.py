"""completion: print the script with which a shell completes ocirt's command lines."""

from __future__ import annotations

from ocirt.cli import Args, Context
from ocirt.cli.completion import script
from ocirt.output import write_out


def run(args: Args, context: Context) -> int:  # noqa: ARG001
    write_out(script(args.positional[0]))
    return 0
