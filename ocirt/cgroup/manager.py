"""Makes and removes containers' cgroups: one manager a way of doing it, all with the same few methods.

Guarantees:

- `prepare` only reads. The record that it returns is to be on disk before `create` makes anything, and again, as
  `create` returns it, before the container's process is started; `remove` then works from any moment of death.
- A container's cgroup is its own: `create` refuses one that has processes, is frozen (a process would never start in
  it), or is another container's, stopped or just being created ones included. So `remove` may kill what it finds, after
  it made sure that the directory is the one which was created: by its inode, which the kernel never uses again, or,
  where death came before that was recorded, by the claim.
- What was made is removed, and nothing else: parents when they are empty and some ocirt made them; a cgroup that was
  there before stays, without what the container made in it.
"""

from __future__ import annotations

import errno
import os
import posixpath
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ocirt.cgroup.controllers import enable_controllers
from ocirt.cgroup.directory import DIRECTORY_FLAGS, Cgroup, failure
from ocirt.cgroup.owner import apply_cgroup_owner
from ocirt.cgroup.paths import POINTER, CgroupHost, is_within, parent_paths, plan_cgroup, probe_process_cgroup
from ocirt.cgroup.settings import NO_CONTROLLERS, Setting
from ocirt.errors import HostError, StateError, UsageError

# Extended attributes of cgroup directories (Linux 5.7): whose it is, and a mark on what an ocirt made, so that the last
# container in a parent removes it.
_CLAIM = "user.ocirt.container"
_MADE = "user.ocirt.made"

# How often a parent that is removed while it is walked through is made again, or a removal begun again.
_RACES = 1000

_NONE = "the container gets no cgroup of its own"


@dataclass(frozen=True, slots=True)
class CgroupRecord:
    """What the state keeps of a container's cgroup; all of it fits into JSON.

    `path`: below the mount point; None: the container has none of its own. `claim`: the id and a random number, which
    mark the cgroup as this container's. `made`: the directories, outermost first, that create makes: before it those
    that were missing. `inode`: of the container's cgroup; None until create is through.
    """

    manager: str
    path: str | None
    claim: str = ""
    made: tuple[str, ...] = ()
    inode: int | None = None
    unit: str = ""
    slice: str = ""
    bus: str = ""
    invocation: str = ""


@dataclass(frozen=True, slots=True)
class CreatedCgroup:
    """`cgroup` is None when the container stays in the runtime's own; `warnings` say why, or what else was left out."""

    record: CgroupRecord
    cgroup: Cgroup | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScopeRequest:
    """What a scope of systemd's is made from beside its place: the container's limits and annotations.

    `rootless`: the user's systemd is asked, if there is one, and not the machine's.
    """

    settings: tuple[Setting, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    rootless: bool = False


class CgroupManager(Protocol):
    """A way to make cgroups. All errors are OcirtErrors that name the property which asked for the cgroup."""

    name: str

    def fit(self, settings: Sequence[Setting]) -> tuple[Setting, ...]:
        """The settings as this manager can keep them."""

    def prepare(self, cgroups_path: str | None, container_id: str, *, optional: bool = False) -> CgroupRecord:
        """Where the cgroup will be. Raises SpecError for a cgroupsPath that this manager cannot take.

        `optional`, as resources.may_do_without_cgroup says it: no cgroup, where this user may make none.
        """

    def create(
        self,
        record: CgroupRecord,
        *,
        owner_uid: int | None = None,
        optional: bool = False,
        controllers: Mapping[str, str] = NO_CONTROLLERS,
    ) -> CreatedCgroup:
        """Make the cgroup, or take the empty one that is there; leaves nothing behind on an error, but controllers that
        it enabled in cgroups which were there before.

        `owner_uid`: see owner.compile_cgroup_owner. `optional`: as for prepare. `controllers`: those that the cgroup
        must have, as settings.asked_controllers gives them.
        """

    def open(self, record: CgroupRecord) -> Cgroup | None:
        """The container's cgroup, made sure to be it; None when it has none or it is gone."""

    def open_for_exec(self, record: CgroupRecord, pid: int) -> Cgroup | None:
        """The cgroup for another process: where the container's init `pid` really is, if that is in the container's."""

    def update(self, record: CgroupRecord, settings: Sequence[Setting]) -> None:
        """Tell whoever else keeps the limits of the cgroup of what was written into it. All or nothing."""

    def remove(self, record: CgroupRecord, *, timeout: float = 10.0) -> None:
        """Kill what is in the cgroup, and remove it with all below it. Nothing to remove is no error.

        `timeout` in seconds; HostError EBUSY after it, when a process does not die.
        """


def cgroup_manager(
    name: str, host: CgroupHost | None, *, optional: bool = False, scope: ScopeRequest | None = None
) -> CgroupManager:
    """The manager of a name, as given with --cgroup-manager or recorded in the state. `optional`: as for prepare.

    `scope`: what the systemd manager is to make a new cgroup from.
    """
    if name == "disabled":
        return DisabledManager()
    if name not in ("cgroupfs", "systemd"):
        raise UsageError(f'unknown cgroup manager "{name}" (there are cgroupfs, systemd and disabled)')
    if host is None and optional:
        return DisabledManager(f"{_NONE}: cgroup v2 is not mounted here")
    if host is None:
        raise StateError(f"{POINTER}: cgroup v2 is not mounted on this host", code="cgroup.missing")
    if name == "systemd":
        from ocirt.cgroup.systemd import SystemdManager

        return SystemdManager(host, scope)
    return CgroupfsManager(host)


class DisabledManager:
    """Leaves the container in the cgroup of the runtime (Podman's --cgroups=disabled)."""

    name = "disabled"

    def __init__(self, *warnings: str) -> None:
        self._warnings = warnings

    def fit(self, settings: Sequence[Setting]) -> tuple[Setting, ...]:
        return tuple(settings)

    def prepare(self, cgroups_path: str | None, container_id: str, *, optional: bool = False) -> CgroupRecord:  # noqa: ARG002
        return CgroupRecord(self.name, None)

    def create(
        self,
        record: CgroupRecord,
        *,
        owner_uid: int | None = None,  # noqa: ARG002
        optional: bool = False,  # noqa: ARG002
        controllers: Mapping[str, str] = NO_CONTROLLERS,  # noqa: ARG002
    ) -> CreatedCgroup:
        return CreatedCgroup(record, None, self._warnings)

    def open(self, record: CgroupRecord) -> Cgroup | None:  # noqa: ARG002
        return None

    def open_for_exec(self, record: CgroupRecord, pid: int) -> Cgroup | None:  # noqa: ARG002
        return None

    def update(self, record: CgroupRecord, settings: Sequence[Setting]) -> None:
        pass

    def remove(self, record: CgroupRecord, *, timeout: float = 10.0) -> None:
        pass


class CgroupfsManager:
    """Makes directories in the cgroup2 file system."""

    name = "cgroupfs"

    def __init__(self, host: CgroupHost) -> None:
        self._host = host

    def fit(self, settings: Sequence[Setting]) -> tuple[Setting, ...]:
        return tuple(settings)

    def prepare(self, cgroups_path: str | None, container_id: str, *, optional: bool = False) -> CgroupRecord:
        if optional and self._host.delegated is None:
            return CgroupRecord(self.name, None)
        path = plan_cgroup(cgroups_path, container_id, self._host)
        missing = tuple(each for each in (*parent_paths(path), path) if not os.path.isdir(self._host.directory(each)))
        return CgroupRecord(self.name, path, f"{container_id} {os.urandom(8).hex()}", missing)

    def create(
        self,
        record: CgroupRecord,
        *,
        owner_uid: int | None = None,
        optional: bool = False,
        controllers: Mapping[str, str] = NO_CONTROLLERS,
    ) -> CreatedCgroup:
        if record.path is None:
            return CreatedCgroup(record, None, (f"{_NONE}: this user may make none",))
        made: list[str] = []
        try:
            cgroup = self._make(record.path, record.claim, made)
        except HostError as error:
            self._unmake(made)
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            for pointer in controllers.values():
                hint = "a limit needs a cgroup of the container's own, and this user may make none there"
                raise HostError(
                    "mkdir", self._host.directory(record.path), error.errno, pointer=pointer, hint=hint
                ) from None
            if not optional:
                raise
            return CreatedCgroup(replace(record, path=None, made=()), None, (f"{_NONE}: {error}",))
        except BaseException:
            self._unmake(made)
            raise
        record = CgroupRecord(self.name, record.path, record.claim, tuple(made), os.fstat(cgroup.fd).st_ino)
        try:
            assert record.path
            enable_controllers(self._host, record.path, cgroup, controllers)
            return CreatedCgroup(record, cgroup, give_cgroup(cgroup, owner_uid))
        except BaseException:
            cgroup.close()
            self.remove(record)
            raise

    def open(self, record: CgroupRecord) -> Cgroup | None:
        if record.path is None:
            return None
        cgroup = Cgroup.open(self._host.directory(record.path))
        if cgroup is None:
            return None
        if record.inode is None:
            is_own = _attribute(cgroup.fd, _CLAIM) == record.claim
        else:
            is_own = os.fstat(cgroup.fd).st_ino == record.inode
        if is_own:
            return cgroup
        cgroup.close()
        return None

    def open_for_exec(self, record: CgroupRecord, pid: int) -> Cgroup | None:
        cgroup = self.open(record)
        if cgroup is None or record.path is None:
            return None
        try:
            path = probe_process_cgroup(self._host, pid)
        except OSError:
            return cgroup
        if path is None or path == record.path or not is_within(path, record.path):
            return cgroup
        inner = Cgroup.open(self._host.directory(path))
        if inner is None:
            return cgroup
        cgroup.close()
        return inner

    def update(self, record: CgroupRecord, settings: Sequence[Setting]) -> None:
        pass

    def remove(self, record: CgroupRecord, *, timeout: float = 10.0) -> None:
        if record.path is None:
            return
        directory = self._host.directory(record.path)
        cgroup = self.open(record)
        if cgroup is not None:
            with cgroup:
                # The mark too: of two creates at once, one may have made the directory and the other got it.
                was_made = record.path in record.made or _attribute(cgroup.fd, _MADE) is not None
                _destroy(cgroup, time.monotonic() + timeout, keep=not was_made)
        elif record.inode is None and record.path in record.made and _attribute(directory, _CLAIM) is None:
            # Death came between mkdir and claim.
            _try_rmdir(directory)
        for path in reversed(parent_paths(record.path)):
            parent = self._host.directory(path)
            unmarked = _attribute(parent, _MADE) is None and not (record.inode is None and path in record.made)
            if (unmarked and os.path.isdir(parent)) or not _try_rmdir(parent):
                break

    def _make(self, path: str, claim: str, made: list[str]) -> Cgroup:
        """Make and claim the cgroup; `made` has afterwards what was made, also on an error."""
        where = self._host.directory(path)
        for _ in range(_RACES):
            try:
                cgroup = Cgroup(self._descend(path, made), where)
            except FileNotFoundError:
                # Another container's delete removed a parent under our feet.
                continue
            except OSError as error:
                raise failure(error, "mkdir", where) from None
            try:
                require_fitness(cgroup)
                claim_cgroup(cgroup, claim)
            except BaseException:
                cgroup.close()
                raise
            return cgroup
        raise HostError("mkdir", where, errno.ENOENT, pointer=POINTER, hint="something keeps removing its parents")

    def _descend(self, path: str, made: list[str]) -> int:
        """A descriptor of the cgroup's directory, each missing component made on the descriptor of its parent."""
        fd = os.open(self._host.mount, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for component in (*parent_paths(path), path):
                name = posixpath.basename(component)
                is_new = _mkdir(name, fd)
                if is_new and component not in made:
                    made.append(component)
                child = os.open(name, DIRECTORY_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = child
                if is_new:
                    # Whatever the umask: the container's users read their limits here.
                    os.fchmod(fd, 0o755)
                    os.setxattr(fd, _MADE, b"1")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _unmake(self, made: list[str]) -> None:
        for directory in map(self._host.directory, reversed(made)):
            if _attribute(directory, _CLAIM) is None:
                _try_rmdir(directory)


def _mkdir(name: str, dir_fd: int) -> bool:
    """Whether the directory is new."""
    try:
        os.mkdir(name, 0o755, dir_fd=dir_fd)
    except FileExistsError:
        return False
    return True


def require_fitness(cgroup: Cgroup) -> None:
    """config-linux.md#control-groups: an error for a cgroup that has processes, is frozen, or cannot take a process."""
    events = cgroup.events()
    if events["populated"]:
        count = len(cgroup.processes())
        raise StateError(
            f"{POINTER}: container's cgroup is not empty: {count} process(es) found in {cgroup.where}",
            code="cgroup.not-empty",
        )
    if events["frozen"]:
        raise StateError(f"{POINTER}: container's cgroup unexpectedly frozen: {cgroup.where}", code="cgroup.frozen")
    kind = cgroup.read("cgroup.type").strip()
    if kind != "domain":
        raise StateError(
            f"{POINTER}: container's cgroup is unusable: cgroup.type of {cgroup.where} is {kind}", code="cgroup.type"
        )


def claim_cgroup(cgroup: Cgroup, claim: str) -> None:
    try:
        os.setxattr(cgroup.fd, _CLAIM, claim.encode(), os.XATTR_CREATE)
    except FileExistsError:
        holder = holder_of(cgroup)
        raise StateError(
            f'{POINTER}: the cgroup {cgroup.where} belongs to the container "{holder}": delete that one first (or the '
            "directory, if the container's state is lost)",
            code="cgroup.taken",
        ) from None
    except OSError as error:
        raise failure(error, "setxattr", cgroup.where) from None


def holder_of(cgroup: Cgroup) -> str:
    """The id of the container that the cgroup belongs to; "" where it belongs to none."""
    return (_attribute(cgroup.fd, _CLAIM) or "").partition(" ")[0]


def give_cgroup(cgroup: Cgroup, owner_uid: int | None) -> tuple[str, ...]:
    if owner_uid is None:
        return ()
    try:
        apply_cgroup_owner(cgroup.fd, cgroup.where, owner_uid)
    except HostError as error:
        # The specification leaves it to the runtime, and a user without privileges can give nothing away.
        if error.errno != errno.EPERM or os.geteuid() == 0:
            raise
        return (f"the cgroup keeps its owner: {error}",)
    return ()


def _destroy(cgroup: Cgroup, deadline: float, *, keep: bool) -> None:
    for _ in range(_RACES):
        if not keep and _try_rmdir(cgroup.where):
            return
        cgroup.kill()
        cgroup.wait_empty(deadline)
        if cgroup.remove_children() and keep:
            if _attribute(cgroup.fd, _CLAIM) is not None:
                os.removexattr(cgroup.fd, _CLAIM)
            return
    raise HostError("rmdir", cgroup.where, errno.EBUSY, pointer=POINTER, hint="something keeps making cgroups in it")


def _try_rmdir(directory: str) -> bool:
    """Whether the cgroup is gone; False if there is something in it, or it is not ours to remove."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.EACCES, errno.EPERM):
            raise failure(error, "rmdir", directory) from None
        return False
    return True


def _attribute(file: int | str, name: str) -> str | None:
    try:
        return os.getxattr(file, name).decode(errors="replace")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOENT, errno.EOPNOTSUPP):
            return None
        raise failure(error, "getxattr", str(file)) from None
