"""What the test session does to itself so that its tests neither need nor change more of the machine than they must."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
PR_SET_CHILD_SUBREAPER = 36
CGROUP = Path("/sys/fs/cgroup")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, filesystem: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError."""
    encoded = [None if text is None else text.encode() for text in (source, target, filesystem, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")


def umount(target: str) -> None:
    """umount2(2), detaching. Raises OSError."""
    _check(_libc.umount2(target.encode(), 2), f"umount {target}")


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def is_cgroup2(path: Path) -> bool:
    """Whether a cgroup v2 file system is mounted there."""
    return (path / "cgroup.controllers").exists()


def enter_private_mounts() -> None:
    """Gives this process a mount namespace of its own, with cgroup v2 over a hybrid host's /sys/fs/cgroup."""
    unshare(CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    if not is_cgroup2(CGROUP):
        mount("cgroup2", str(CGROUP), "cgroup2")


def become_subreaper() -> None:
    """From now on, orphaned descendants become children of this process, which can wait for them and miss none."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def why_no_cgroup() -> str | None:
    """The reason why no cgroup can be made here, or None."""
    if not is_cgroup2(CGROUP):
        return "needs cgroup v2"
    return None if os.access(CGROUP, os.W_OK) else "needs a writable cgroup v2 hierarchy"


def why_no_controllers(*names: str) -> str | None:
    """The reason why cgroups cannot have these controllers here, or None."""
    if reason := why_no_cgroup():
        return reason
    missing = set(names) - set((CGROUP / "cgroup.controllers").read_text().split())
    return f"needs in cgroup v2: {', '.join(sorted(missing))}" if missing else None


def remove_tree(path: Path) -> None:
    """Removes a folder, of which nothing may be a mount point any more."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
