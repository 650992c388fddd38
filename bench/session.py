"""A place on the machine for the benchmark alone, and its end.

Guarantees: whatever happens between, also Ctrl-C and SIGTERM, afterwards there is no process, container, cgroup, mount
or file of the session; what could not be removed is named. Nothing that others have on the machine is touched: mounts
are made in a namespace of its own, in which /sys/fs/cgroup is cgroup v2 also on a hybrid host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from bench.runtimes import Runtime
from bench.spawner import BenchError, CommandError, Spawner
from tests.support import isolation, leaks

TOKEN_PREFIX = "ocirt-bench-"
CLEAN_UP_SECONDS = 5.0


@dataclass(slots=True)
class Session:
    """`folder` is an empty tmpfs. Every id has the token in it, and so has the name of its cgroup."""

    token: str
    folder: Path
    spawner: Spawner
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_id(self) -> str:
        """A container's id that was never used before."""
        return f"{self.token}-{next(self._numbers)}"

    def own_root(self, runtime: Runtime) -> Path:
        """Where a runtime is to keep its state."""
        root = self.folder / "state" / runtime.name
        root.mkdir(parents=True, exist_ok=True)
        return root

    def delete(self, runtime: Runtime, container: str) -> None:
        """Deletes a container, if there is one and the runtime can. What stays is removed at the session's end."""
        with contextlib.suppress(CommandError):
            self.spawner.run([runtime.argv("delete", "--force", container)])


def why_not_here() -> str | None:
    """The reason why nothing can be measured here, or None."""
    return None if os.geteuid() == 0 else "needs root"


@contextlib.contextmanager
def session(left_behind: list[str]) -> Iterator[Session]:
    """Makes the place. What could not be removed at its end is added to `left_behind`, a line each."""
    if reason := why_not_here():
        raise BenchError(reason)
    token = f"{TOKEN_PREFIX}{os.getpid()}"
    isolation.enter_private_mounts()
    isolation.become_subreaper()
    folder = Path("/tmp") / token
    spawner: Spawner | None = None
    with _ends_at_sigterm():
        before = leaks.Snapshot.take(token)
        folder.mkdir(mode=0o755)
        try:
            isolation.mount("tmpfs", str(folder), "tmpfs", data="mode=755,size=512m")
            spawner = Spawner()
            yield Session(token, folder, spawner)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C is of no help
            if spawner is not None:
                spawner.close()
            _clean_up(token, folder)
            left_behind += before.leaks()


def _clean_up(token: str, folder: Path) -> None:
    """The containers' processes were the spawner's children, and are this process's since it has ended."""
    deadline = time.monotonic() + CLEAN_UP_SECONDS
    # A runtime that is being killed may have spawned one more; a cgroup is busy for a moment after its last process.
    while (_end_processes() or _remove_cgroups(token)) and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        isolation.umount(str(folder))
    with contextlib.suppress(OSError):
        folder.rmdir()


def _end_processes() -> bool:
    """Whether there were any."""
    processes = leaks.descendants()
    leaks.end_processes(list(processes))
    leaks.reap_children()
    return bool(processes)


def _remove_cgroups(token: str) -> bool:
    """Whether there were any."""
    paths = sorted(leaks.cgroups(token), reverse=True)
    for path in paths:
        with contextlib.suppress(OSError):
            leaks.remove_cgroup(path)
    return bool(paths)


@contextlib.contextmanager
def _ends_at_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack, as SIGINT does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
