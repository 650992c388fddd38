"""Reading files of proc, sysfs and cgroup2, which are small, of unknown size, and no terminals.

Python's own text files ask for a size, a position and a terminal first, five system calls that tell nothing here. What
a kernel's file says of paths is bytes, and comes out as Python's paths do (surrogateescape).
"""

from __future__ import annotations

import os

_BLOCK_BYTES = 1 << 16


def read_text(path: str, dir_fd: int | None = None, flags: int = 0) -> str:
    """The whole text. Raises OSError, with the path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    try:
        data = os.read(fd, _BLOCK_BYTES)
        while data and (block := os.read(fd, _BLOCK_BYTES)):
            data += block
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
    return os.fsdecode(data)
