"""Namespaces that are there before a runtime is: held by a process that sleeps, or by a file they are mounted on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.isolation import mount, umount

MS_BIND = 0x1000
FIRST_ID = 100000
WHOLE_MAP = f"0 {FIRST_ID} 65536"
# config.json's names: below /proc/PID/ns, and unshare(1)'s flag
KINDS = {
    "user": ("user", "--user"),
    "pid": ("pid_for_children", "--pid"),
    "network": ("net", "--net"),
    "ipc": ("ipc", "--ipc"),
    "uts": ("uts", "--uts"),
    "mount": ("mnt", "--mount"),
    "cgroup": ("cgroup", "--cgroup"),
    "time": ("time_for_children", "--time"),
}


@dataclass(frozen=True, slots=True)
class Held:
    """A process in new namespaces of some kinds."""

    pid: int

    def path(self, kind: str) -> Path:
        """The namespace's path."""
        return Path(f"/proc/{self.pid}/ns/{KINDS[kind][0]}")

    def inode(self, kind: str) -> int:
        return self.path(kind).stat().st_ino

    def entry(self, kind: str) -> dict[str, str]:
        """An element of linux.namespaces that joins it."""
        return {"type": kind, "path": str(self.path(kind))}

    def argv(self, *command: str) -> tuple[str, ...]:
        """A command line that executes the command in the user and mount namespaces, as root there."""
        return ("nsenter", f"--target={self.pid}", "--user", "--mount", "--setuid=0", "--setgid=0", "--", *command)


@contextlib.contextmanager
def held(
    *kinds: str, id_map: str = WHOLE_MAP, deny_setgroups: bool = False, prefix: tuple[str, ...] = ()
) -> Iterator[Held]:
    """New namespaces, all of the new user namespace where that is one of them, with the ids mapped."""
    fork = ["--fork", "--kill-child"] if "pid" in kinds else []
    command = [*prefix, "unshare", *(KINDS[kind][1] for kind in kinds), *fork, "sh", "-c", "echo; exec sleep 1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "no namespaces"
        if deny_setgroups:
            Path(f"/proc/{process.pid}/setgroups").write_text("deny")
        for name in ("uid_map", "gid_map") if "user" in kinds else ():
            Path(f"/proc/{process.pid}/{name}").write_text(id_map)
        yield Held(process.pid)
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def mounted(namespace: Path, target: Path) -> Iterator[Path]:
    """The namespace as a file that lives without any process in it."""
    target.touch()
    mount(str(namespace), str(target), None, MS_BIND)
    try:
        yield target
    finally:
        umount(str(target))
        target.unlink()
