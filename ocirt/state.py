"""The state directory: ROOT/ID/, which exists exactly when the container does.

What is guaranteed:

- A container appears and vanishes in one step. Its directory is made as ROOT/ID:new (no id has a colon), filled with
  state.json, and renamed; of several creates the rename has one winner. In the end state.json is unlinked last. A
  directory without state.json is no container: what is left of a killed command, removed by the next one of its id.
- state.json is always whole: the first is there before the directory has its name, later ones are written beside and
  renamed. fsync isn't needed, since it would outlive a power cut on a disk alone, and describes processes that don't.
- The first record (status "creating") is there before create has any side effect, and names what it is about to make.
- A container is its init process: pid and start time. A pid that was given to another process is never taken for it,
  and signals go through a pidfd.
- Commands that change a container hold a lock on its directory (flock(2): a killed command lets go). They wait for it
  up to a deadline, without polling. Commands that read don't lock.
- Nothing inside is reached by a path: the root's and the container's directory are held by descriptors.

Directories are 0700, files 0600.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ocirt._native import lib
from ocirt.errors import HostError, StateError
from ocirt.lock import DEADLINE_SECONDS as LOCK_DEADLINE_SECONDS
from ocirt.lock import try_lock, unlock, wait_for_lock
from ocirt.membership import is_frozen
from ocirt.record import Process, Record, Status, probe_process
from ocirt.statedir import STATE, close_quietly, empty, is_still, rmdir_if

if TYPE_CHECKING:
    from ocirt.store import Store

INIT_COMM = b"ocirt-init"
CONFIG = "config.json"
# init waits at the one for start, and says in the other what has become of it.
START_FIFO = "start"
RESULT_FIFO = "result"
NOTIFY_DIRECTORY = "notify"
_BESIDE = ".new"

# Annotations are most of it, and they were read from a config.json that is limited, too.
_STATE_MAX_BYTES = 64 << 20


class Container:
    """One container: its record and its directory, which is open for as long as this object lives."""

    def __init__(self, store: Store, container_id: str, dir_fd: int, record: Record, *, locked: bool = False) -> None:
        self.store, self.id, self.dir_fd, self.record = store, container_id, dir_fd, record
        self._locked = locked
        self._beside: Record | None = None
        self.removed = False

    # ---- files

    def path(self, name: str) -> str:
        """A file's path, for messages and for other processes; here use open()."""
        return f"{self.store.root}/{self.id}/{name}"

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """open(2) of a file in the directory, never through a symlink. Raises StateError for a deleted container's."""
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.dir_fd)
        except OSError as error:
            if error.errno == errno.ENOENT and self._is_deleted():
                raise missing(self.id) from None
            raise HostError("open", self.path(name), error.errno or 0) from None

    def make_fifo(self, name: str) -> None:
        try:
            os.mkfifo(name, 0o600, dir_fd=self.dir_fd)
        except OSError as error:
            raise HostError("mkfifo", self.path(name), error.errno or 0) from None

    def read(self, name: str) -> bytes:
        """A whole file."""
        fd = self.open(name, os.O_RDONLY)
        with os.fdopen(fd, "rb", buffering=0) as file:
            try:
                return file.readall()
            except OSError as error:
                raise HostError("read", self.path(name), error.errno or 0) from None

    def write(self, name: str, data: bytes) -> None:
        """A whole file, as new: written beside and renamed."""
        self._write(name + _BESIDE, data, os.O_TRUNC)
        self._replace(name)

    def _replace(self, name: str) -> None:
        result = lib.ocirt_replace(self.dir_fd, (name + _BESIDE).encode(), name.encode())
        if result < 0:
            raise HostError("write", self.path(name), -result)

    def write_first(self, name: str, data: bytes) -> None:
        """A file that nobody looks for yet."""
        self._write(name, data, os.O_EXCL)

    def _write(self, name: str, data: bytes, flags: int) -> None:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o600, dir_fd=self.dir_fd)
            try:
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
        except OSError as error:
            raise HostError("write", self.path(name.removesuffix(_BESIDE)), error.errno or 0) from None

    # ---- the record

    def save(self, record: Record) -> None:
        """Replace the record, here and on disk."""
        self._beside = None
        self.write(STATE, record.encode())
        self.record = record

    def update(self, **changes: object) -> None:
        """save() with some properties changed."""
        self.save(self.record.changed(**changes))

    def prepare(self, **changes: object) -> Record:
        """The record with some properties changed, for `commit`; what can be done of that is done."""
        record = self.record.changed(**changes)
        self._write(STATE + _BESIDE, record.encode(), os.O_TRUNC)
        self._beside = record
        return record

    def commit(self, record: Record) -> None:
        """save() of a record that was prepared, in one step where no other was saved meanwhile."""
        if self._beside is not record:
            self.save(record)
            return
        self._beside = None
        self._replace(STATE)
        self.record = record

    def remove(self) -> None:
        """Remove the directory: the container no longer exists. Everything that it stands for must be gone by now."""
        self.removed = True
        try:
            empty(self.dir_fd)
            rmdir_if(self.store.open(), self.id, self.dir_fd)
        except OSError as error:
            raise HostError("remove", self.path(""), error.errno or 0) from None

    @property
    def owner_uid(self) -> int:
        """Who made the container."""
        return os.fstat(self.dir_fd).st_uid

    def check_owner(self) -> None:
        """Raises StateError unless the container is the caller's own.

        Whoever owns the state says which process, hooks and directories it is about: root must not act on a user's.
        """
        uid = self.owner_uid
        if uid != os.geteuid():
            raise StateError(f"operation not permitted: container {self.id} belongs to user {uid}", code="state.owner")

    def close(self) -> None:
        """Forget the directory; a lock is let go."""
        fd, self.dir_fd = self.dir_fd, -1
        self._locked = False
        close_quietly(fd)

    __del__ = close

    # ---- the lock

    def try_lock(self) -> bool:
        """Take the lock if it is free. True when this object holds it."""
        self._locked = self._locked or try_lock(self.dir_fd)
        return self._locked

    def unlock(self) -> None:
        if self._locked:
            unlock(self.dir_fd)
            self._locked = False

    @contextmanager
    def locked(self, deadline_seconds: float = LOCK_DEADLINE_SECONDS) -> Iterator[Container]:
        """Hold the lock, with the record read anew. Raises StateError if it isn't to be had, or the container gone."""
        if self._locked:
            yield self
            return
        self.check_owner()
        if not self.try_lock():
            self._wait_for_lock(deadline_seconds)
        try:
            if not self._is_there():
                raise missing(self.id)
            self.record = read_record(self.dir_fd, self.id)
            yield self
        finally:
            self.unlock()

    def _is_deleted(self) -> bool:
        """Whether another command has deleted the container, or is at work on it: about a file that is missing."""
        if not self._locked:
            if not try_lock(self.dir_fd, fcntl.LOCK_SH):
                return True
            unlock(self.dir_fd)
        return not self._is_there()

    def _is_there(self) -> bool:
        try:
            return is_still(self.store.open(), self.id, self.dir_fd)
        except OSError as error:
            raise HostError("stat", self.path(""), error.errno or 0) from None

    def _wait_for_lock(self, deadline_seconds: float) -> None:
        try:
            wait_for_lock(self.dir_fd, deadline_seconds)
        except TimeoutError:
            raise StateError(
                f"container is busy: another command has been at work on {self.id} for {deadline_seconds:g} s",
                code="state.busy",
            ) from None
        self._locked = True

    # ---- the process

    def status(self, *, with_pause: bool = True) -> Status:
        """What the container is at this moment; without `with_pause` a paused one is what it was before."""
        process = self.process()
        if self.record.status == Status.CREATING.value:
            if process is None and self._abandoned():
                return Status.STOPPED
            if self.record.status == Status.CREATING.value:
                return Status.CREATING
            process = self.process()
        if process is None:
            return Status.STOPPED
        if with_pause and self.record.cgroup_path is not None and is_frozen(self.record.cgroup_path):
            return Status.PAUSED
        return Status.CREATED if process.comm == INIT_COMM else Status.RUNNING

    def process(self) -> Process | None:
        """The init process, or None when it has exited, waited for or not."""
        if not self.record.pid:
            return None
        process = probe_process(self.record.pid)
        if process is None or process.start_time != self.record.start_time or process.state in "ZX":
            return None
        return process

    def pidfd(self) -> int | None:
        """A pidfd of the init process, or None. Opened first and compared then: the pid can't change hands between.

        Raises StateError for a container of another user's, which may name any process: see check_owner().
        """
        self.check_owner()
        if not self.record.pid:
            return None
        try:
            fd = os.pidfd_open(self.record.pid)
        except ProcessLookupError:
            return None
        except OSError as error:
            # Older kernels (6.1 among them) say so of a number that is still a session's or a group's.
            if error.errno == errno.EINVAL:
                return None
            raise HostError("pidfd_open", str(self.record.pid), error.errno or 0) from None
        if self.process() is None:
            os.close(fd)
            return None
        return fd

    def send_signal(self, number: int) -> bool:
        """Send a signal to the init process. False when there is no such process any more."""
        fd = self.pidfd()
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise HostError("pidfd_send_signal", str(self.record.pid), error.errno or 0) from None
        finally:
            os.close(fd)
        return True

    def _abandoned(self) -> bool:
        """Whether the create that wrote "creating" is gone. The record is read anew, in case it has just finished."""
        if self._locked or not try_lock(self.dir_fd, fcntl.LOCK_SH):
            return False
        try:
            self.record = read_record(self.dir_fd, self.id)
            return self.record.status == Status.CREATING.value and self.process() is None
        finally:
            unlock(self.dir_fd)


def read_record(dir_fd: int, container_id: str) -> Record:
    """Raises StateError: no state.json (no container), or one that this version can't read."""
    try:
        fd = os.open(STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        raise missing(container_id) from None
    except OSError as error:
        raise HostError("open", f"{container_id}/{STATE}", error.errno or 0) from None
    try:
        # Renamed into its place when it was whole: it never grows.
        text = os.read(fd, min(os.fstat(fd).st_size, _STATE_MAX_BYTES))
        record = Record.decode(text)
        if record.id != container_id:
            raise ValueError(f"it is about {record.id}")
    except OSError as error:
        raise HostError("read", f"{container_id}/{STATE}", error.errno or 0) from None
    except (ValueError, RecursionError) as error:
        raise StateError(
            f"state of container {container_id} is unreadable: {STATE}: {error}", code="state.unreadable"
        ) from None
    finally:
        os.close(fd)
    return record


def missing(container_id: str) -> StateError:
    return StateError(f"container does not exist: {container_id}", code="state.missing")
