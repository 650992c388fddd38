"""The directories below the root of the state, held by descriptors and removed only if they are still the opened ones.

Guarantees: state.json is unlinked last, since a container exists until then; no name is followed through a symlink.
"""

from __future__ import annotations

import os
from contextlib import suppress

STATE = "state.json"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def empty(dir_fd: int) -> None:
    """Unlink everything in a directory, state.json last: until then the container exists."""
    names = os.listdir(dir_fd)
    for name in sorted(names, key=lambda name: name == STATE):
        try:
            os.unlink(name, dir_fd=dir_fd)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            below = os.open(name, DIRECTORY, dir_fd=dir_fd)
            try:
                empty(below)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=dir_fd)


def rmdir_if(root_fd: int, name: str, dir_fd: int) -> None:
    """rmdir, unless another create has put a directory of its own in the place of the empty one."""
    if not is_still(root_fd, name, dir_fd):
        return
    try:
        os.rmdir(name, dir_fd=root_fd)
    except OSError:
        if is_still(root_fd, name, dir_fd):
            raise


def is_still(root_fd: int, name: str, dir_fd: int) -> bool:
    """Whether the name is still that of the open directory. (Its link count wouldn't tell on every file system.)

    Raises OSError: what can't be looked at is not taken to be gone.
    """
    try:
        named = os.stat(name, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(dir_fd))


def close_quietly(fd: int) -> None:
    """Close a directory's descriptor, if there is one. close(2) has done it even when it says otherwise."""
    if fd >= 0:
        with suppress(OSError):
            os.close(fd)
