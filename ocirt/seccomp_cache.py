"""Compiled seccomp programs on disk: engines give hundreds of containers one profile, and compiling it takes 4 ms.

Guarantees: what `get` returns was stored by `put` for exactly these bytes (they are in the file, and compared), whole
(a checksum), by the same user, in a directory that nobody else can write. Anything else is a miss, never an error: the
program is then compiled. Two processes may use one directory.
"""

from __future__ import annotations

import binascii
import contextlib
import os
import stat
import struct
from dataclasses import dataclass

MAX_PROGRAMS = 32
_HEADER = struct.Struct("=4sIII")
_MAGIC = b"oSC1"
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class DirectoryCache:
    """Up to MAX_PROGRAMS files below `path`, which is made when something is to be stored; its parent must exist."""

    path: str

    def get(self, source: bytes) -> bytes | None:
        with contextlib.suppress(OSError), _Directory(self.path) as directory_fd:
            fd = os.open(_name(source), os.O_RDONLY | _OPEN, dir_fd=directory_fd)
            try:
                status = os.fstat(fd)
                # Renamed into its place when it was whole: it never grows. A short read is a miss.
                return _decode(os.read(fd, status.st_size), source) if _is_ours(status) else None
            finally:
                os.close(fd)
        return None

    def put(self, source: bytes, value: bytes) -> None:
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            with _Directory(self.path) as directory_fd:
                _make_room(directory_fd)
                temporary = f".{os.getpid()}"
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=directory_fd)
                with open(fd, "wb") as file:
                    file.write(_encode(source, value))
                os.rename(temporary, _name(source), src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


class _Directory:
    """The directory's descriptor, if nobody else can write into it."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN)

    def __enter__(self) -> int:
        if _is_ours(os.fstat(self.fd)):
            return self.fd
        os.close(self.fd)
        raise PermissionError

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o022


def _name(source: bytes) -> str:
    return f"{binascii.crc32(source):08x}-{len(source)}"


def _encode(source: bytes, value: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, len(source), len(value), binascii.crc32(value)) + source + value


def _decode(data: bytes, source: bytes) -> bytes | None:
    start = _HEADER.size + len(source)
    value = data[start:]
    expected = _HEADER.pack(_MAGIC, len(source), len(value), binascii.crc32(value)) + source
    return value if data[:start] == expected else None


def _make_room(directory_fd: int) -> None:
    names = os.listdir(directory_fd)
    if len(names) < MAX_PROGRAMS:
        return
    ages = sorted((os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mtime_ns, name) for name in names)
    for _, name in ages[: len(names) - MAX_PROGRAMS + 1]:
        os.unlink(name, dir_fd=directory_fd)
