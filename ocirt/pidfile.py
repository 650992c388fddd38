"""A pid file as engines read it: written whole, or not at all, and nothing is left beside it by a command that dies."""

from __future__ import annotations

import contextlib
import errno
import os

from ocirt.errors import HostError

# open(2): what kernels and file systems without O_TMPFILE say.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)


def write_pid_file(path: str, pid: int) -> None:
    """The digits without a newline, in a file without a name that then gets one. Raises HostError."""
    directory, name = os.path.split(path)
    data = str(pid).encode()
    try:
        dir_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not _write_unnamed(dir_fd, name, data):
                _write_beside(dir_fd, name, data)
        finally:
            os.close(dir_fd)
    except OSError as error:
        raise HostError("write the pid file", path, error.errno or 0) from None


def _write_unnamed(dir_fd: int, name: str, data: bytes) -> bool:
    """False where the file system has no O_TMPFILE."""
    try:
        fd = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o644, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NO_TMPFILE:
            return False
        raise
    try:
        os.write(fd, data)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=dir_fd)
        # open(2) has it so. Without the directory's descriptor, Python would call link(2), which doesn't follow.
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=dir_fd, follow_symlinks=True)
    finally:
        os.close(fd)
    return True


def _write_beside(dir_fd: int, name: str, data: bytes) -> None:
    beside = f".{name}.{os.getpid()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=dir_fd)
    try:
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(beside, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=dir_fd)
        raise
