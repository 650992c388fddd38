"""An open cgroup: the processes in it, their end, and the removal of what is below it.

Guarantees: everything happens on descriptors of the hierarchy, with a constant number of them however deep a container
has nested cgroups in its own; waiting is for the kernel's events, never by sleeping, and ends at a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator
from types import TracebackType

from ocirt._native import ffi, lib
from ocirt.cgroup.paths import POINTER, REMOVED
from ocirt.errors import HostError
from ocirt.pseudofile import read_text

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Cgroup:
    """A cgroup's directory, held by a descriptor, which CLONE_INTO_CGROUP takes as it is. Errors are HostErrors."""

    __slots__ = ("fd", "where")

    def __init__(self, fd: int, where: str) -> None:
        self.fd = fd
        self.where = where

    @classmethod
    def open(cls, directory: str) -> Cgroup | None:
        """The cgroup at a directory; None where there is none."""
        try:
            return cls(os.open(directory, DIRECTORY_FLAGS), directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, "open", directory) from None

    def open_below(self, path: str) -> Cgroup:
        """The cgroup at a relative path, "" for this one, in its place: this one is closed."""
        try:
            fd = os.open(path or ".", DIRECTORY_FLAGS, dir_fd=self.fd)
        except OSError as error:
            raise failure(error, "open", f"{self.where}/{path}") from None
        finally:
            self.close()
        return Cgroup(fd, f"{self.where}/{path}")

    def close(self) -> None:
        """close(2) has done it even when it says otherwise, and what was done with the cgroup is done."""
        with contextlib.suppress(OSError):
            os.close(self.fd)

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, name: str) -> str:
        try:
            return _read(self.fd, name)
        except OSError as error:
            raise failure(error, "read", f"{self.where}/{name}") from None

    def write(self, name: str, text: str) -> None:
        error, _ = self.try_write(name, text)
        if error:
            raise HostError("write", f"{self.where}/{name}", error, pointer=POINTER)

    def try_write(self, name: str, text: str) -> tuple[int, bool]:
        """One write(2): the errno or 0, and whether the file could be opened."""
        data = text.encode(errors="surrogateescape")
        opened = ffi.new("int *")
        result = lib.ocirt_write_at(self.fd, os.fsencode(name), data, len(data), opened)
        return -result, bool(opened[0])

    def events(self) -> dict[str, int]:
        """cgroup.events: `populated` counts the whole subtree, `frozen` the ancestors' freezing too."""
        return self.keyed("cgroup.events")

    def keyed(self, name: str) -> dict[str, int]:
        """A file of the format "flat keyed" (cgroup-v2.rst)."""
        return parse_keyed(self.read(name))

    def processes(self) -> list[int]:
        """The pids of all processes in the cgroup and below it, ascending, without those of foreign pid namespaces."""
        pids: set[int] = set()
        for fd in _walk(self.fd):
            try:
                pids.update(int(line) for line in _read(fd, "cgroup.procs").split())
            except OSError as error:
                # Removed meanwhile; or a threaded cgroup, whose processes the domain above it lists.
                if error.errno not in (*REMOVED, errno.EOPNOTSUPP):
                    raise failure(error, "read", f"{self.where}/cgroup.procs") from None
        return sorted(pids - {0})

    def kill(self) -> None:
        """SIGKILL to all processes in the cgroup and below it, frozen ones too (cgroup.kill, Linux 5.14)."""
        try:
            self.write("cgroup.kill", "1")
        except HostError as error:
            # The cgroup is gone: nobody is in it.
            if error.errno not in REMOVED:
                raise

    def wait_event(self, name: str, value: int, deadline: float) -> bool:
        """Until events() has the value; False where it has not at the deadline, in time.monotonic(). Raises HostError:
        ENOENT and ENODEV for a cgroup that is gone."""
        path = f"{self.where}/cgroup.events"
        try:
            fd = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            raise failure(error, "open", path) from None
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        try:
            while parse_keyed(os.pread(fd, 4096, 0).decode())[name] != value:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(left * 1000)
        except OSError as error:
            raise failure(error, "read", path) from None
        finally:
            os.close(fd)
        return True

    def wait_empty(self, deadline: float) -> None:
        """Until no process is left, in the subtree either; `deadline` in time.monotonic(). Raises HostError EBUSY."""
        try:
            if not self.wait_event("populated", 0, deadline):
                path, left = f"{self.where}/cgroup.events", self.processes()[:8]
                raise HostError("poll", path, errno.EBUSY, hint=f"still there: {left}")
        except HostError as error:
            # The whole cgroup was removed by someone else.
            if error.errno not in REMOVED:
                raise

    def remove_children(self) -> bool:
        """Remove all cgroups below this one. False: some process is in one of them, or something made one meanwhile."""
        here = os.dup(self.fd)
        # What is yet to be removed: at each level below this cgroup the names there, the last one being entered.
        levels = [_children(here)]
        try:
            while levels[-1] or len(levels) > 1:
                if not levels[-1]:
                    levels.pop()
                    here = _step(here, "..")
                    if not _rmdir(levels[-1][-1], here):
                        return False
                    levels[-1].pop()
                elif _rmdir(levels[-1][-1], here):
                    levels[-1].pop()
                else:
                    here = _step(here, levels[-1][-1])
                    levels.append(_children(here))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise failure(error, "rmdir", self.where) from None
        finally:
            os.close(here)
        return True


def failure(error: OSError, syscall: str, path: str) -> HostError:
    return HostError(syscall, path, error.errno or 0, pointer=POINTER)


def _read(dir_fd: int, name: str) -> str:
    return read_text(name, dir_fd, os.O_NOFOLLOW)


def parse_keyed(text: str) -> dict[str, int]:
    """The text of a flat keyed file."""
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def _children(fd: int) -> list[str]:
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _step(fd: int, name: str) -> int:
    """Exchange a directory's descriptor for that of a neighbour. cgroups cannot be renamed: ".." leads back."""
    neighbour = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
    os.close(fd)
    return neighbour


def _rmdir(name: str, dir_fd: int) -> bool:
    """Whether the cgroup is gone; False if there is something in it."""
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def _walk(fd: int) -> Iterator[int]:
    """Descriptors of a cgroup and of all below it, each valid until the next is asked for."""
    here = os.dup(fd)
    try:
        yield here
        levels = [_children(here)]
        while levels:
            if levels[-1]:
                try:
                    here = _step(here, levels[-1].pop())
                except FileNotFoundError:
                    continue
                yield here
                levels.append(_children(here))
            else:
                levels.pop()
                if levels:
                    here = _step(here, "..")
    finally:
        os.close(here)
