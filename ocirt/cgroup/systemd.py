"""The systemd cgroup manager: a container's cgroup is that of a transient scope, which systemd makes over D-Bus.

Guarantees:

- As with every manager, `prepare` only reads, and `remove` works from any moment of death: a scope lives as long as
  there is a process in it, and the first one is a placeholder, which ends with this process at the latest. The
  container's are cloned beside it.
- A unit is stopped only if it is the one that was started for the container: by the id of its invocation, which systemd
  never uses again, so that a later unit of the same name is safe.
- Every limit that systemd has a property for is one (see unit.py); the files are written besides, by who calls.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ocirt.cgroup.bus import SYSTEM_BUS, TIMEOUT_SECONDS, Bus, BusError, user_bus_address
from ocirt.cgroup.controllers import enable_controllers
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.manager import (
    CgroupfsManager,
    CgroupRecord,
    CreatedCgroup,
    ScopeRequest,
    claim_cgroup,
    give_cgroup,
    holder_of,
    require_fitness,
)
from ocirt.cgroup.paths import (
    POINTER,
    CgroupHost,
    is_within,
    path_below,
    probe_cgroup_host,
    probe_process_cgroup,
)
from ocirt.cgroup.settings import NO_CONTROLLERS, Setting
from ocirt.cgroup.unit import (
    UnitProperty,
    compile_annotations,
    compile_properties,
    fit_settings,
    object_path,
    plan_unit,
)
from ocirt.errors import HostError, StateError
from ocirt.idmap import host_id, read_map

# "252.39-1~deb12u2", "v245.4-1.fc32"
_VERSION = re.compile(r"v?([0-9]+)")
_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_UNIT = f"{_SYSTEMD}.Unit"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_JOBS = f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}',member='JobRemoved',path='{_MANAGER_PATH}'"

_EXISTS = f"{_SYSTEMD}.UnitExists"
_GONE = (
    f"{_SYSTEMD}.NoSuchUnit",
    f"{_SYSTEMD}.NoUnitForInvocationID",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownMethod",
)

_FEW_PROCESSES = frozenset(map(str, range(8)))

_WRONG_TYPE = ("System.Error.ENXIO", "org.freedesktop.DBus.Error.InvalidArgs")

# systemd takes these only when a unit is made.
_AT_START_ONLY = frozenset(("OOMPolicy",))


class SystemdManager:
    """Has systemd make scopes. `timeout_seconds`: for each answer of systemd's."""

    name = "systemd"

    def __init__(
        self, host: CgroupHost, request: ScopeRequest | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._host = host
        self._request = request or ScopeRequest()
        self._timeout_seconds = timeout_seconds
        self._files = CgroupfsManager(host)
        # What create has told systemd, for an update to it that says the same.
        self._given: frozenset[Setting] = frozenset()

    def fit(self, settings: Sequence[Setting]) -> tuple[Setting, ...]:
        return fit_settings(settings)

    def prepare(self, cgroups_path: str | None, container_id: str, *, optional: bool = False) -> CgroupRecord:  # noqa: ARG002
        user_bus = user_bus_address(os.environ, _probe_uid()) if self._request.rootless else None
        unit = plan_unit(cgroups_path, container_id, user=user_bus is not None)
        compile_annotations(self._request.annotations)
        address = user_bus or os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
        with Bus(address, self._timeout_seconds) as bus:
            root = str(_get(bus, _MANAGER_PATH, _MANAGER, "ControlGroup"))
        path = path_below(posixpath.join("/", root.strip("/"), unit.path.lstrip("/")), self._host.root)
        if path is None:
            raise StateError(
                f"{POINTER}: the cgroups of the systemd at {address} are not below {self._host.mount}",
                code="cgroup.systemd",
            )
        claim = f"{container_id} {os.urandom(8).hex()}"
        return CgroupRecord(self.name, path, claim, (path,), unit=unit.name, slice=unit.slice, bus=address)

    def create(
        self,
        record: CgroupRecord,
        *,
        owner_uid: int | None = None,
        optional: bool = False,  # noqa: ARG002
        controllers: Mapping[str, str] = NO_CONTROLLERS,
    ) -> CreatedCgroup:
        path = record.path
        assert path is not None
        self._require_free(path)
        placeholder = Placeholder()
        try:
            with Bus(record.bus, self._timeout_seconds) as bus:
                version = _LazyVersion(bus)
                self._come_near(bus, path, record)
                record = replace(record, invocation=self._start(bus, record, placeholder.pid, version))
                cgroup = self._open_new(record, placeholder)
                claim_cgroup(cgroup, record.claim)
                record = replace(record, inode=os.fstat(cgroup.fd).st_ino)
                enable_controllers(self._host, path, cgroup, controllers)
                self._set(bus, record, [each for each in self._request.settings if each.otherwise], cgroup, version)
                self._given = frozenset(self._at_start()) | {each for each in self._request.settings if each.otherwise}
                return CreatedCgroup(record, cgroup, give_cgroup(cgroup, owner_uid))
        except BaseException:
            placeholder.end()
            if record.invocation:
                self.remove(record)
            raise

    def open(self, record: CgroupRecord) -> Cgroup | None:
        return self._files.open(record)

    def open_for_exec(self, record: CgroupRecord, pid: int) -> Cgroup | None:
        if record.path is not None and not self._is_near(record.path):
            with Bus(record.bus, self._timeout_seconds) as bus:
                self._come_near(bus, record.path, record)
        return self._files.open_for_exec(record, pid)

    def update(self, record: CgroupRecord, settings: Sequence[Setting]) -> None:
        settings = [each for each in settings if each not in self._given]
        cgroup = self.open(record) if settings and record.invocation else None
        if cgroup is None:
            return
        with cgroup, Bus(record.bus, self._timeout_seconds) as bus:
            self._set(bus, record, settings, cgroup, _LazyVersion(bus))

    def remove(self, record: CgroupRecord, *, timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout
        cgroup = self.open(record)
        if cgroup is not None:
            with cgroup:
                cgroup.kill()
                cgroup.wait_empty(deadline)
        if record.invocation:
            self._stop(record)
        self._files.remove(record, timeout=max(deadline - time.monotonic(), 0.0))

    def _is_near(self, path: str) -> bool:
        """Whether this process may clone another one into the cgroup: from its own way there, all must be its user's
        from where the ways part (cgroups(7), delegation containment)."""
        return self._host.delegated is not None and is_within(path, self._host.delegated)

    def _come_near(self, bus: Bus, path: str, record: CgroupRecord) -> None:
        """Have a user's systemd put this process into a scope of its own among the user's, where it is not yet.

        A login session is root's, and beside what systemd gives to the user. The scope ends with this process.
        """
        if self._is_near(path):
            return
        unit = f"ocirt-runtime-{os.getpid()}.scope"
        properties = [
            UnitProperty("Description", "s", "ocirt"),
            UnitProperty("Slice", "s", record.slice),
            UnitProperty("PIDs", "au", [os.getpid()]),
            UnitProperty("CollectMode", "s", "inactive-or-failed"),
        ]
        bus.subscribe(_JOBS)
        try:
            result = _wait_job(bus, _start_transient(bus, unit, properties))
        except BusError as error:
            raise _refusal(f"start {unit}", error, ()) from None
        self._host = probe_cgroup_host() or self._host
        self._files = CgroupfsManager(self._host)
        if not self._is_near(path):
            raise StateError(
                f"{POINTER}: the runtime is in the cgroup {self._host.own}, and may not move a process from there to "
                f'{path}: systemd\'s answer to {unit} is "{result}" (systemd-run --user --scope may help)',
                code="cgroup.systemd",
            )

    def _require_free(self, path: str) -> None:
        """systemd would take a directory that is there, whatever is in it."""
        cgroup = Cgroup.open(self._host.directory(path))
        if cgroup is None:
            return
        with cgroup:
            require_fitness(cgroup)
            if holder := holder_of(cgroup):
                raise StateError(
                    f'{POINTER}: the cgroup {cgroup.where} belongs to the container "{holder}": delete that one first',
                    code="cgroup.taken",
                )

    def _start(self, bus: Bus, record: CgroupRecord, pid: int, version: _LazyVersion) -> str:
        """Start the scope with a process in it; the id of its invocation."""
        properties = [*self._fixed(record, pid), *compile_annotations(self._request.annotations)]
        properties += version.known(compile_properties(self._at_start()))
        bus.subscribe(_JOBS)
        try:
            job = _start_transient(bus, record.unit, properties)
        except BusError as error:
            if error.name != _EXISTS or not _reset_failed(bus, record.unit):
                raise _refusal(f"start {record.unit}", error, properties) from None
            try:
                job = _start_transient(bus, record.unit, properties)
            except BusError as second:
                raise _refusal(f"start {record.unit}", second, properties) from None
        result = _wait_job(bus, job)
        if result != "done":
            _reset_failed(bus, record.unit)
            raise StateError(
                f'{POINTER}: systemd could not start {record.unit}: the result is "{result}" '
                f"(its journal may tell more)",
                code="cgroup.systemd",
            )
        try:
            return bytes(_get(bus, object_path(record.unit), _UNIT, "InvocationID")).hex()
        except BusError as error:
            raise _refusal(f"start {record.unit}", error, properties) from None

    def _at_start(self) -> list[Setting]:
        """What the scope is started with: not what depends on the files that its cgroup will have, and no limit of
        processes that the placeholder and ocirt-init might exceed."""
        return [
            each
            for each in self._request.settings
            if not each.otherwise and not (each.file == "pids.max" and each.value in _FEW_PROCESSES)
        ]

    def _fixed(self, record: CgroupRecord, pid: int) -> list[UnitProperty]:
        """What every scope of ocirt's has; an annotation may say otherwise for what is not the manager's own."""
        container_id = record.claim.partition(" ")[0]
        own = [
            UnitProperty("Description", "s", f"ocirt container {container_id}"),
            UnitProperty("Slice", "s", record.slice),
            UnitProperty("PIDs", "au", [pid]),
            # Sub-cgroups are the container's, and the files ocirt's; systemd enables its controllers here.
            UnitProperty("Delegate", "b", True),
            # Engines stop containers in their own order; systemd's would be before them at a shutdown.
            UnitProperty("DefaultDependencies", "b", False),
            # A scope whose process was killed for memory has failed; it is to go with its last process nevertheless.
            UnitProperty("CollectMode", "s", "inactive-or-failed"),
        ]
        own += [UnitProperty(f"{each}Accounting", "b", True) for each in ("CPU", "Memory", "IO", "Tasks")]
        annotated = {each.name for each in compile_annotations(self._request.annotations)}
        return [each for each in own if each.name not in annotated]

    def _open_new(self, record: CgroupRecord, placeholder: Placeholder) -> Cgroup:
        assert record.path is not None
        try:
            path = probe_process_cgroup(self._host, placeholder.pid)
        except OSError as error:
            raise HostError.of(error, "open", pointer=POINTER) from None
        cgroup = ScopeCgroup.open(self._host.directory(record.path)) if path == record.path else None
        if not isinstance(cgroup, ScopeCgroup):
            raise StateError(
                f"{POINTER}: systemd has put {record.unit} into {path}, and not into {record.path}",
                code="cgroup.systemd",
            )
        cgroup.placeholder = placeholder
        return cgroup

    def _set(
        self,
        bus: Bus,
        record: CgroupRecord,
        settings: Sequence[Setting],
        cgroup: Cgroup,
        version: _LazyVersion,
    ) -> None:
        compiled = compile_properties([_effective(setting, cgroup) for setting in settings])
        properties = [each for each in version.known(compiled) if each.name not in _AT_START_ONLY]
        if not properties:
            return
        try:
            path = object_path(record.invocation)
            bus.call(_SYSTEMD, path, _UNIT, "SetProperties", "ba(sv)", (True, _encode(properties)))
        except BusError as error:
            raise _refusal(f"change {record.unit}", error, properties) from None

    def _stop(self, record: CgroupRecord) -> None:
        """Stop the unit, whose processes are dead, and have systemd forget it."""
        path = object_path(record.invocation)
        try:
            bus = Bus(record.bus, self._timeout_seconds)
        except HostError as error:
            # Without a systemd there is no unit; the cgroup remains to be removed.
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return
            raise
        with bus:
            bus.subscribe(_JOBS)
            try:
                (job,) = bus.call(_SYSTEMD, path, _UNIT, "Stop", "s", ("replace",))
                _wait_job(bus, str(job))
                bus.call(_SYSTEMD, path, _UNIT, "ResetFailed")
            except BusError as error:
                if error.name not in _GONE:
                    raise _refusal(f"stop {record.unit}", error, ()) from None


class Placeholder:
    """A process that keeps a scope alive until the container's processes are in it: an ocirt-init that waits for an
    answer, and ends when there is nobody left to give one."""

    def __init__(self) -> None:
        from ocirt._native import lib
        from ocirt.driver import spawn_init
        from ocirt.ops import Sync
        from ocirt.plan import Plan

        spawned = spawn_init(Plan(host_ops=(Sync(POINTER, lib.SYNC_READY),)))
        self._socket, self.pid, self._pidfd = spawned.socket, spawned.pid, spawned.pidfd

    def end(self) -> None:
        """Have it end, and wait for that; again is no error."""
        from ocirt.driver import wait_pidfd

        if self._pidfd >= 0:
            self._socket.close()
            wait_pidfd(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class ScopeCgroup(Cgroup):
    """The cgroup of a new scope, whose placeholder ends when it is closed."""

    __slots__ = ("placeholder",)

    placeholder: Placeholder

    def close(self) -> None:
        self.placeholder.end()
        super().close()


class _LazyVersion:
    """The version of a systemd, asked for when it is needed."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._version: int | None = None

    def known(self, properties: Iterable[UnitProperty]) -> list[UnitProperty]:
        """Those properties that this systemd has."""
        return [each for each in properties if not each.since or self._number() >= each.since]

    def _number(self) -> int:
        if self._version is None:
            text = str(_get(self._bus, _MANAGER_PATH, _MANAGER, "Version"))
            match = _VERSION.match(text)
            self._version = int(match[1]) if match else 0
        return self._version


def _effective(setting: Setting, cgroup: Cgroup) -> Setting:
    """The setting, or what stands for it where its file is missing."""
    while setting.otherwise and not os.access(setting.file, os.F_OK, dir_fd=cgroup.fd):
        setting = setting.otherwise
    return setting


def _encode(properties: Iterable[UnitProperty]) -> list[tuple[str, tuple[str, object]]]:
    """As a(sv)."""
    return [(each.name, (each.signature, each.value)) for each in properties]


def _get(bus: Bus, path: str, interface: str, name: str) -> Any:
    """A property's value. Raises BusError, HostError."""
    (variant,) = bus.call(_SYSTEMD, path, _PROPERTIES, "Get", "ss", (interface, name))
    return variant[1]


def _start_transient(bus: Bus, unit: str, properties: Iterable[UnitProperty]) -> str:
    """The path of the job. A job that is in the way is an error: it is another's, such as a shutdown's."""
    signature = "ssa(sv)a(sa(sv))"
    body: tuple[Any, ...] = (unit, "fail", _encode(properties), [])
    (job,) = bus.call(_SYSTEMD, _MANAGER_PATH, _MANAGER, "StartTransientUnit", signature, body)
    return str(job)


def _wait_job(bus: Bus, job: str) -> str:
    """The result of a job: "done", "failed", "canceled" ..."""
    return str(bus.wait_signal("JobRemoved", lambda values: values[1] == job)[3])


def _reset_failed(bus: Bus, unit: str) -> bool:
    """Have systemd forget a unit that has failed; whether there was one. Others stay."""
    try:
        if _get(bus, object_path(unit), _UNIT, "ActiveState") != "failed":
            return False
        bus.call(_SYSTEMD, _MANAGER_PATH, _MANAGER, "ResetFailedUnit", "s", (unit,))
    except BusError as error:
        if error.name not in _GONE:
            raise _refusal(f"reset {unit}", error, ()) from None
        return False
    return True


def _refusal(what: str, error: BusError, properties: Iterable[UnitProperty]) -> StateError:
    """Names the property of the config that asked, as far as systemd says which of the unit's it is about."""
    origins = [each.origin for each in properties if re.search(rf"\b{re.escape(each.name)}\b", error.text)]
    hint = ""
    if error.name == _EXISTS:
        hint = ": another unit, or a container that is not deleted, has this name"
    elif error.name in _WRONG_TYPE and not origins:
        # systemd doesn't say which, and ocirt's own have the right ones.
        origins = [each.origin for each in properties if each.origin.startswith("/annotations/")]
        hint = f": a value is not of the type that systemd wants, among {', '.join(origins)}" if origins[1:] else ""
    return StateError(
        f"{origins[0] if origins else POINTER}: systemd refuses to {what}: {error}{hint}",
        code="cgroup.taken" if error.name == _EXISTS else "cgroup.systemd",
    )


def _probe_uid() -> int:
    """This process's uid as the initial user namespace knows it, whose systemd it is."""
    uid = os.getuid()
    try:
        outside = host_id(uid, read_map("/proc/self/uid_map"))
    except OSError:
        return uid
    return uid if outside is None else outside
