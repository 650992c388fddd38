"""Runs the programs of the official validation suite (opencontainers/runtime-tools, built) against a runtime.

Guarantees: each program runs in a mount namespace of its own with cgroup v2 at /sys/fs/cgroup, with a state directory
of its own, and for a bounded time; whatever it leaves behind (processes, containers, folders) is ended and removed, and
said in its outcome.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tap

PR_SET_CHILD_SUBREAPER = 36
MOUNT_CGROUP2 = '[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"'


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime to test: its name in the table, and its command line."""

    name: str
    command: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Runtime:
        """From `COMMAND [ARG...]` or `NAME=COMMAND [ARG...]`. Raises ValueError where there is no such command."""
        name, equals, command = text.partition("=")
        words = shlex.split(command if equals else text)
        if not words or shutil.which(words[0]) is None:
            raise ValueError(f"{text}: no such command")
        return cls(name if equals else Path(words[0]).name, (os.path.abspath(str(shutil.which(words[0]))), *words[1:]))


@dataclass(slots=True)
class Outcome:
    """A program's exit code (None: it ran out of time), its TAP, and what it left behind."""

    program: str
    rc: int | None
    tap: tap.Result
    stderr: str
    seconds: float
    left: list[str] = field(default_factory=list)


def programs_of(suite: Path) -> list[str]:
    """The names of the built programs. Raises ValueError where `suite` isn't a built checkout."""
    names = sorted(path.stem for path in suite.glob("validation/*/*.t"))
    if not names or not (suite / "runtimetest").is_file():
        raise ValueError(f"{suite}: not a built suite: run 'make runtimetest validation-executables' there")
    return names


def become_subreaper() -> None:
    """From now on, orphaned descendants are children of this process, which can thus find and end them."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def isolated(command: list[str]) -> list[str]:
    """The command in a private mount namespace with cgroup v2 at /sys/fs/cgroup, as on hosts without cgroup v1."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", MOUNT_CGROUP2, "sh", *command]


def run_program(suite: Path, program: str, runtime: Runtime, timeout_seconds: float) -> Outcome:
    """Runs one program of the suite. Requires become_subreaper()."""
    with tempfile.TemporaryDirectory(prefix="ocirt-suite-") as scratch:
        wrapper = _write_wrapper(Path(scratch), runtime)
        begin = time.monotonic()
        rc, out, err = _run(suite, program, wrapper, Path(scratch), timeout_seconds)
        outcome = Outcome(program, rc, tap.parse(out), err, time.monotonic() - begin)
        outcome.left = [f"container {name}" for name in _delete_containers(wrapper, Path(scratch) / "state")]
        outcome.left += [f"process {name}" for name in _end_children()]
    return outcome


def _write_wrapper(scratch: Path, runtime: Runtime) -> Path:
    """The suite takes the runtime as a single word, and knows no --root."""
    wrapper = scratch / runtime.name
    words = shlex.join([*runtime.command, "--root", str(scratch / "state")])
    wrapper.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def _run(
    suite: Path, program: str, wrapper: Path, scratch: Path, timeout_seconds: float
) -> tuple[int | None, str, str]:
    # As /tmp is: the root users of user namespaces must get at the bundles in it.
    scratch.chmod(0o755)
    (scratch / "tmp").mkdir()
    (scratch / "tmp").chmod(0o1777)
    environment = {**os.environ, "RUNTIME": str(wrapper), "TMPDIR": str(scratch / "tmp")}
    # Files, not pipes: a container that is left behind may hold the other end of a pipe for ever.
    with (scratch / "out").open("w+b") as out, (scratch / "err").open("w+b") as err:
        process = subprocess.Popen(
            isolated([str(suite / "validation" / program / f"{program}.t")]),
            cwd=suite,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        rc: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            rc = process.wait(timeout_seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return rc, texts[0], texts[1]


def _delete_containers(wrapper: Path, state: Path) -> Iterator[str]:
    """Deletes what is in the state directory; yields the names."""
    for entry in sorted(state.iterdir()) if state.is_dir() else []:
        if entry.is_dir() and not entry.name.startswith("."):
            command = isolated([str(wrapper), "delete", "--force", entry.name])
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
            yield entry.name


def _end_children() -> Iterator[str]:
    """Kills and reaps every child of this process; yields their names."""
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for child in children:
            name, status = _name_and_status(child)
            if status != "Z":
                yield name
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(int(child), 0)


def _name_and_status(pid: str) -> tuple[str, str]:
    """A process's name and one-letter state, as in proc_pid_stat(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "?", "Z"
    return stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2]
