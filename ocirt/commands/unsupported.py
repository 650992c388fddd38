"""checkpoint, restore: understood, and refused in clear words."""

from __future__ import annotations

from ocirt.cli import Args, Context
from ocirt.errors import OcirtError


class UnsupportedError(OcirtError):
    """A command that this version parses, but does not support."""

    code = "unsupported"


def run(args: Args, context: Context) -> int:  # noqa: ARG001
    raise UnsupportedError(f"{args.command} is not supported by this version of ocirt")
