"""The runtimes that are named on the command line, and the machine that they run on."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from conformance.session import PROJECT
from suite import Runtime

_CAP_SYS_RESOURCE = 24


def resolve(text: str) -> Runtime:
    """From `COMMAND [ARG...]` or `NAME=COMMAND [ARG...]`; `ocirt` is this tree's, or $OCIRT. Raises ValueError."""
    if text == "ocirt":
        program, *rest = shlex.split(os.environ.get("OCIRT", "")) or [sys.executable, "-I", "-m", "ocirt"]
        # The tests call it from other folders too.
        return Runtime("ocirt", (os.path.abspath(program) if "/" in program else program, *rest))
    runtime = Runtime.of(text)
    # crun raises RLIMIT_MEMLOCK for its device filter, which not every root may: without, it makes no container.
    if Path(runtime.command[0]).name == "crun" and len(runtime.command) == 1 and not _may_raise_limits():
        return Runtime(runtime.name, (*runtime.command, "--cgroup-manager=disabled"))
    return runtime


def _may_raise_limits() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    return bool(next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff")) >> _CAP_SYS_RESOURCE & 1)


def command_line(runtime: Runtime) -> str:
    """As it is from the project's folder."""
    return shlex.join([runtime.command[0].removeprefix(f"{PROJECT}/"), *runtime.command[1:]])


def version(runtime: Runtime) -> str:
    """The first line of what the runtime says of itself."""
    command = [*runtime.command, "--version"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (result.stdout.splitlines() or ["unknown"])[0]


def machine() -> str:
    """The kernel, as the reports have it."""
    return f"Linux {platform.release()} on {platform.machine()}"
