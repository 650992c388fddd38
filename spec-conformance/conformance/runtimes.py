"""The runtimes that are named on the command line."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from suite import Runtime

_CAP_SYS_RESOURCE = 24


def resolve(text: str) -> Runtime:
    """From `COMMAND [ARG...]` or `NAME=COMMAND [ARG...]`; `ocirt` is this tree's, or $OCIRT. Raises ValueError."""
    if text == "ocirt":
        words = shlex.split(os.environ.get("OCIRT", "")) or [sys.executable, "-I", "-m", "ocirt"]
        return Runtime("ocirt", tuple(words))
    runtime = Runtime.of(text)
    # crun raises RLIMIT_MEMLOCK for its device filter, which not every root may: without, it makes no container.
    if Path(runtime.command[0]).name == "crun" and len(runtime.command) == 1 and not _may_raise_limits():
        return Runtime(runtime.name, (*runtime.command, "--cgroup-manager=disabled"))
    return runtime


def _may_raise_limits() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    return bool(next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff")) >> _CAP_SYS_RESOURCE & 1)
