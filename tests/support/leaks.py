"""Finds what tests leave behind: processes, mounts, cgroups, folders and descriptors.

Only what belongs to the session counts: descendants of its process (a subreaper), mounts of its private namespace, and
names with its token in them. Other sessions, and everything else on the machine, may go on meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
STATE_FOLDERS = (Path("/run"), Path("/run/ocirt"), Path("/run/runc"), Path("/run/crun"), Path("/tmp"))


def _processes() -> Iterator[tuple[int, int, str, str]]:
    """Every process: pid, parent, state and name."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
                yield int(entry.name), int(parent), state, stat[stat.index("(") + 1 : stat.rindex(")")]


def descendants() -> dict[int, str]:
    """Every process below this one that lives: pid and name."""
    alive = {pid: (parent, name) for pid, parent, state, name in _processes() if state not in "ZX"}
    parents = {pid: parent for pid, (parent, _) in alive.items()}
    return {pid: name for pid, (_, name) in alive.items() if _is_below(pid, parents)}


def reap_children(but_not: int = 0) -> None:
    """Reaps the children of this process that have ended.

    A process that was executed in a container is one of those, and as long as it isn't reaped the container's init
    cannot end: it waits for all of its pid namespace.
    """
    for pid, parent, state, _ in _processes():
        if state == "Z" and parent == os.getpid() and pid != but_not:
            _is_gone(pid)


def _is_below(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == os.getpid():
            return True
    return False


def mounts() -> list[str]:
    """The mount points of this mount namespace."""
    return sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())


def cgroups(token: str) -> Iterator[str]:
    """The cgroups with the token in their name."""
    for folder, names, _ in os.walk(CGROUP):
        yield from (os.path.join(folder, name) for name in names if token in name)


def remove_cgroup(path: str) -> None:
    """Removes a cgroup without processes, and those below it."""
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)


def folders(token: str) -> Iterator[str]:
    """The state directories and scratch folders with the token in their name."""
    for folder in STATE_FOLDERS:
        with contextlib.suppress(OSError):
            yield from (str(entry) for entry in folder.iterdir() if token in entry.name)


def descriptors() -> dict[int, str]:
    """This process's descriptors."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def end_processes(pids: list[int]) -> None:
    """Kills processes, and reaps those that are children of this one.

    In whatever order they end: the init of a pid namespace does so only when all the others in it have been reaped.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (pids := [pid for pid in pids if not _is_gone(pid)]) and time.monotonic() < deadline:
        time.sleep(0.005)


def _is_gone(pid: int) -> bool:
    """Whether a process is reaped, perhaps just now, or somebody else's child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there at one moment."""

    token: str
    processes: frozenset[int]
    mounts: tuple[str, ...]
    descriptors: dict[int, str]

    @classmethod
    def take(cls, token: str) -> Snapshot:
        return cls(token, frozenset(descendants()), tuple(mounts()), descriptors())

    def new_processes(self, patience_seconds: float = 1.0) -> dict[int, str]:
        """Descendants that weren't there; those that are just ending get some time to do so."""
        deadline = time.monotonic() + patience_seconds
        while new := {pid: name for pid, name in descendants().items() if pid not in self.processes}:
            reap_children()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return new

    def new_mounts(self) -> list[str]:
        return sorted((Counter(mounts()) - Counter(self.mounts)).elements())

    def leaks(self, *, only_own_process: bool = False) -> list[str]:
        """What was left behind, a line each. `only_own_process` leaves out what the whole session shares."""
        new = self.new_processes()
        found = [f"process {pid} {name}" for pid, name in new.items()]
        found += [f"mount {point}" for point in self.new_mounts()]
        if not only_own_process:
            found += [f"cgroup {path}" for path in cgroups(self.token)]
            found += [f"folder {path}" for path in folders(self.token)]
        gc.collect()
        # pytest opens and closes files of its own; a container's or a runtime's descriptors are none of those.
        found += [
            f"descriptor {fd} {target}"
            for fd, target in descriptors().items()
            if fd not in self.descriptors
            and (self.token in target or target.startswith(("/proc/", "anon_inode:[pidfd")))
        ]
        return found
