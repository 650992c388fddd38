"""ps: the processes in the container's cgroup, as ps(1) shows them, or their pids as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ocirt.cli import Args, Context
from ocirt.errors import OcirtError
from ocirt.membership import processes
from ocirt.output import write_json, write_out

# Engines run some commands without an environment.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    pids = processes(container)
    if args.text("format") == "json":
        write_json(pids, indent=None)
    else:
        write_out(select_lines(ps_output(args.positional[1:] or ("-ef",)), frozenset(pids)))
    return 0


def ps_output(options: Sequence[str]) -> str:
    """What ps(1) prints. Raises OcirtError, with what it printed, when it fails."""
    import subprocess

    environment = {"PATH": _DEFAULT_PATH} | os.environ
    try:
        done = subprocess.run(
            ["ps", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except FileNotFoundError:
        raise OcirtError('exec: "ps": executable file not found in $PATH (--format json needs no ps)') from None
    if done.returncode != 0:
        raise OcirtError(
            f"ps {' '.join(options)}: exit status {done.returncode}: {(done.stderr + done.stdout).strip()}"
        )
    return done.stdout


def select_lines(output: str, pids: frozenset[int]) -> str:
    """The title and the lines of these processes. Raises OcirtError when there is no PID column to tell by."""
    title, *lines = output.splitlines() or [""]
    names = title.split()
    if "PID" not in names:
        raise OcirtError("couldn't find PID field in ps output: the options must leave the title and this column")
    column = names.index("PID")
    chosen = [title, *(line for line in lines if _pid(line, column) in pids)]
    return "".join(f"{line}\n" for line in chosen)


def _pid(line: str, column: int) -> int | None:
    cells = line.split()
    return int(cells[column]) if len(cells) > column and cells[column].isdecimal() else None
