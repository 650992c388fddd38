"""The containers below one root directory: how they come to be, are found, and what a killed command left is removed.

What is guaranteed of a container's directory stands in state.py.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ocirt.errors import HostError, OcirtError, StateError
from ocirt.lock import locked, try_lock, wait_for_lock
from ocirt.record import NEW_SUFFIX, Record, check_id, is_id
from ocirt.state import Container, missing, read_record
from ocirt.statedir import DIRECTORY, STATE, close_quietly, empty, is_still, rmdir_if


class Store:
    """The containers below one root directory (an absolute path). `sticky` is for one in $XDG_RUNTIME_DIR."""

    def __init__(self, root: str, *, sticky: bool = False) -> None:
        self.root = root
        self._sticky = sticky
        self._fd = -1

    def create(self, container_id: str, record: Record) -> Container:
        """Make the container's directory with its first record. The lock is held until the result is closed.

        Raises StateError if the container exists, HostError where the directory can't be written.
        """
        check_id(container_id)
        root_fd = self.open(create=True)
        name = container_id + NEW_SUFFIX
        dir_fd = self._make(root_fd, name)
        container = Container(self, container_id, dir_fd, record, locked=True)
        try:
            container.write_first(STATE, record.encode())
            _rename_new(root_fd, container_id)
        except BaseException as error:
            with suppress(OSError):
                empty(dir_fd)
                rmdir_if(root_fd, name, dir_fd)
            container.close()
            if isinstance(error, OSError):
                raise HostError("stat", f"{self.root}/{name}", error.errno or 0) from None
            raise
        return container

    def load(self, container_id: str) -> Container:
        """The container, not locked. Raises StateError ("container does not exist" among others)."""
        check_id(container_id)
        try:
            dir_fd = os.open(container_id, DIRECTORY, dir_fd=self.open())
        except (FileNotFoundError, NotADirectoryError):
            raise missing(container_id) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise missing(container_id) from None
            raise HostError("open", f"{self.root}/{container_id}", error.errno or 0) from None
        try:
            return Container(self, container_id, dir_fd, read_record(dir_fd, container_id))
        except BaseException:
            os.close(dir_fd)
            raise

    def list(self, on_error: Callable[[str, OcirtError], None]) -> Iterator[Container]:
        """The containers, by id. What is no container is passed over, one that can't be read is told to on_error."""
        try:
            names = sorted(os.listdir(self.open()))
        except OSError as error:
            raise HostError("read", self.root, error.errno or 0) from None
        for name in names:
            if not is_id(name):
                continue
            try:
                yield self.load(name)
            except StateError as error:
                if error.code != "state.missing":
                    on_error(name, error)
            except HostError as error:
                on_error(name, error)

    def sweep(self, container_id: str) -> None:
        """Remove what a killed create or delete left behind of this id; nothing of a container that exists."""
        check_id(container_id)
        with suppress(StateError):
            root_fd = self.open()
            with self._settling(root_fd, container_id):
                _sweep(root_fd, container_id + NEW_SUFFIX, everything=True)
                _sweep(root_fd, container_id, everything=False)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        close_quietly(fd)

    __del__ = close

    def open(self, *, create: bool = False) -> int:
        """The root's descriptor. Raises StateError("... does not exist") for a root that doesn't exist."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if self._fd < 0:
            try:
                try:
                    self._fd = os.open(self.root, flags)
                except FileNotFoundError:
                    if not create:
                        raise
                    self._make_root()
                    self._fd = os.open(self.root, flags)
            except FileNotFoundError:
                raise StateError(
                    f"container does not exist: there is no state directory {self.root}", code="state.missing"
                ) from None
            except OSError as error:
                hint = "XDG_RUNTIME_DIR or --root can name another directory" if error.errno == errno.EACCES else ""
                raise HostError("open the state directory", self.root, error.errno or 0, hint=hint) from None
        return self._fd

    def _make_root(self) -> None:
        path = ""
        for part in self.root.strip("/").split("/"):
            path += "/" + part
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        if self._sticky:
            # The XDG base directory specification: or else it may be cleaned up after some hours.
            os.chmod(self.root, 0o700 | stat.S_ISVTX)

    @contextmanager
    def _settling(self, root_fd: int, name: str) -> Iterator[None]:
        """Hold the root's lock for a moment, so that what is just being made is not taken for a killed create's."""
        try:
            with locked(root_fd):
                yield
        except TimeoutError:
            raise StateError(
                f"the state directory {self.root} is busy: locked for too long", code="state.busy"
            ) from None
        except OSError as error:
            raise HostError("prepare", f"{self.root}/{name}", error.errno or 0) from None

    def _make(self, root_fd: int, name: str) -> int:
        """Make the directory of a container to be, and lock it: its descriptor. A killed create's is replaced."""
        with self._settling(root_fd, name):
            if not _sweep(root_fd, name, everything=True):
                raise _exists(name.removesuffix(NEW_SUFFIX))
            os.mkdir(name, 0o700, dir_fd=root_fd)
            try:
                return _open_locked(root_fd, name)
            except OSError:
                with suppress(OSError):
                    os.rmdir(name, dir_fd=root_fd)
                raise


def _rename_new(root_fd: int, container_id: str) -> None:
    """The step with which the container exists. An empty directory in its place is replaced (rename(2))."""
    try:
        os.rename(container_id + NEW_SUFFIX, container_id, src_dir_fd=root_fd, dst_dir_fd=root_fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
            raise _exists(container_id) from None
        raise HostError("rename", container_id, error.errno or 0) from None


def _sweep(root_fd: int, name: str, *, everything: bool) -> bool:
    """Remove a directory that nobody holds the lock of: with everything in it, or if it is empty. True if it's gone."""
    try:
        dir_fd = os.open(name, DIRECTORY, dir_fd=root_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    try:
        if not try_lock(dir_fd) or not is_still(root_fd, name, dir_fd):
            return False
        if everything:
            empty(dir_fd)
        os.rmdir(name, dir_fd=root_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    finally:
        close_quietly(dir_fd)
    return True


def _open_locked(root_fd: int, name: str) -> int:
    """The descriptor of a directory that nobody else knows yet, locked."""
    fd = os.open(name, DIRECTORY, dir_fd=root_fd)
    try:
        wait_for_lock(fd)
    except OSError:
        close_quietly(fd)
        raise
    return fd


def _exists(container_id: str) -> StateError:
    return StateError(f"container with given ID already exists: {container_id}", code="state.exists")
