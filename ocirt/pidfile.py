"""The pid file that engines read: written whole, or not at all."""

from __future__ import annotations

import os

from ocirt.errors import HostError


def write_pid_file(path: str, pid: int) -> None:
    """The digits without a newline, written beside and renamed. Raises HostError."""
    directory, name = os.path.split(path)
    beside = os.path.join(directory, f".{name}.{os.getpid()}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError as error:
        raise HostError("write the pid file", path, error.errno or 0) from None
