"""What is found out by doing it, with the same code that containers are made with.

Guarantees: whatever is tried ends with the trial, in processes and namespaces of its own; no file is made, and the one
cgroup is removed. A trial that fails is an OcirtError that is returned, not raised.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ocirt import constants as k
from ocirt._native import lib
from ocirt.cgroup.bpf import apply_device_filter
from ocirt.cgroup.bus import Bus, BusError
from ocirt.cgroup.controllers import obtainable_controllers, why_unavailable
from ocirt.cgroup.devices import compile_device_filter
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.freeze import freeze, thaw
from ocirt.cgroup.paths import CgroupHost, path_below, plan_cgroup, probe_cgroup_host
from ocirt.compile import CreateRequest, IdmappedTree, compile_create
from ocirt.doctor.system import System
from ocirt.driver import Session
from ocirt.errors import HostError, OcirtError
from ocirt.host import probe_host
from ocirt.ops import LoadSeccomp, Op, OpenProc, SetNoNewPrivileges, SetRlimit, Sync
from ocirt.plan import Plan
from ocirt.usermap import UserMapping, apply_mapping, open_idmapped_tree, open_mapped_namespace

_NAME = "ocirt-doctor"
_BUS_TIMEOUT_SECONDS = 5.0
_CGROUP_TIMEOUT_SECONDS = 5.0

# The numbers are the same on every architecture (since Linux 5.1). All of these find their arguments wrong before they
# ask for privileges.
_CALLS: Mapping[str, int] = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "faccessat2": 439,
    "mount_setattr": 442,
}


@dataclass(slots=True)
class CgroupTrial:
    """What became of a cgroup that was made: the error of each step that failed, by its name in STEPS."""

    STEPS = ("make", "enter", "freeze", "devices", "kill", "remove")

    where: str
    errors: dict[str, OcirtError] = field(default_factory=dict)
    device_warning: str = ""


@dataclass(frozen=True, slots=True)
class Systemd:
    """One that answers; `cgroup` is its own, in the terms of /proc/PID/cgroup."""

    version: str
    cgroup: str


class Trials:
    """Each is done when it is asked for."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._cgroup: CgroupTrial | None = None
        self._done: dict[str, OcirtError | None] = {}

    def missing_calls(self) -> list[str]:
        """System calls that the kernel does not have, or that a seccomp filter around this process keeps from it."""
        absent = (errno.ENOSYS, errno.EPERM)
        return [name for name, number in _CALLS.items() if lib.ocirt_call_error(number) in absent]

    def init(self) -> OcirtError | None:
        """Executing ocirt-init from its sealed memfd."""
        return self._once("init", Plan())

    def namespace(self, kind: str) -> OcirtError | None:
        """A new namespace, for a user without privileges in a new user namespace."""
        flags = k.NAMESPACES[kind][0] | (0 if self._system.is_admin else k.CLONE_NEWUSER)
        maps = lib.PLAN_MAPS if flags & k.CLONE_NEWUSER else 0
        return self._once(kind, Plan(host_ops=(OpenProc(""),), clone_flags=flags, flags=maps))

    def own_mapping(self) -> UserMapping:
        """The user's own ids and no other, which takes no privileges (user_namespaces(7))."""
        return UserMapping(f"0 {self._system.uid} 1\n", f"0 {self._system.gid} 1\n", deny_setgroups=True)

    def map_ids(self, mapping: UserMapping) -> OcirtError | None:
        """A user namespace with these mappings."""
        return _attempt(lambda: os.close(open_mapped_namespace(mapping)))

    def container(self) -> OcirtError | None:
        """The container that `ocirt spec` describes, made up to where it waits for its start, on the host's root."""
        return _attempt(self._make_container)

    def idmapped_mount(self, path: str) -> OcirtError | None:
        """A detached copy of the mount that a path is on, with other ids."""
        tree = IdmappedTree("", path, recursive=False, map_recursive=False, nofollow=False, mapping=None)
        mapping = UserMapping("0 1000 1\n", "0 1000 1\n")
        return _attempt(lambda: os.close(open_idmapped_tree(tree, lambda: open_mapped_namespace(mapping))))

    def raised_limit(self) -> OcirtError | None:
        """A hard limit above this process's own, in a process of its own."""
        import resource

        # Of a type that has no further bound (fs.nr_open is one for files), and that is seldom infinite.
        kind = resource.RLIMIT_MSGQUEUE
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY:
            return None
        return _attempt(lambda: self._run(Plan(ops=(SetRlimit("", kind, hard, hard + 1),))))

    def seccomp_filter(self, *, listener: bool = False) -> OcirtError | None:
        """A filter that is compiled and loaded, with a listener or without."""
        return _attempt(lambda: self._load_filter(listener))

    def seccomp_flags(self) -> int:
        from ocirt.seccomp import probe_flags

        return probe_flags()

    def seccomp_version(self) -> str:
        """libseccomp's."""
        version = int(lib.ocirt_seccomp_version())
        return f"{version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}"

    def cgroup_host(self) -> CgroupHost | None:
        return probe_cgroup_host()

    def controllers(self) -> set[str]:
        """What a container's cgroup can have; none where none can be made."""
        host = self.cgroup_host()
        return obtainable_controllers(host, plan_cgroup(None, _NAME, host)) if host else set()

    def why_no_controller(self, name: str) -> str:
        return why_unavailable(name)

    def cgroup(self) -> CgroupTrial | None:
        """A cgroup where containers without a cgroupsPath have theirs; None without cgroup v2."""
        host = self.cgroup_host()
        if host and self._cgroup is None:
            path = plan_cgroup(None, f"{_NAME}-{os.getpid()}-{os.urandom(4).hex()}", host)
            self._cgroup = _try_cgroup(host.directory(path), rootless=self._system.rootless)
        return self._cgroup

    def systemd(self, address: str) -> Systemd | OcirtError:
        """The systemd on a message bus."""
        name, path = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"

        def get(bus: Bus, what: str) -> str:
            interface, method = "org.freedesktop.DBus.Properties", "Get"
            (value,) = bus.call(name, path, interface, method, "ss", (f"{name}.Manager", what))
            return str(value[1])

        try:
            with Bus(address, _BUS_TIMEOUT_SECONDS) as bus:
                return Systemd(get(bus, "Version"), get(bus, "ControlGroup"))
        except BusError as error:
            return OcirtError(f"D-Bus {address}: {error}")
        except OcirtError as error:
            return error

    def controllers_of(self, cgroup: str) -> set[str]:
        """What the cgroups below one can have that somebody else sees to."""
        host = self.cgroup_host()
        path = path_below(cgroup, host.root) if host else None
        found = Cgroup.open(host.directory(path)) if host and path else None
        if found is None:
            return set()
        with found:
            return set(found.read("cgroup.controllers").split())

    def writable(self, directory: str) -> OcirtError | None:
        """Whether files can be made in a directory; the one that is made has no name."""

        def make() -> None:
            try:
                os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except OSError as error:
                # A file system that cannot have files without a name has to be taken at its word.
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT) or not os.path.isdir(directory):
                    raise
                if not os.access(directory, os.W_OK | os.X_OK):
                    raise HostError("access", directory, errno.EACCES) from None

        return _attempt(make, "make a file in")

    # ---- how it is done

    def _once(self, name: str, plan: Plan) -> OcirtError | None:
        if name not in self._done:
            self._done[name] = _attempt(lambda: self._run(plan))
        return self._done[name]

    def _run(self, plan: Plan, handlers: Mapping[int, Callable[[Session, int], None]] | None = None) -> None:
        def maps(session: Session, _fd: int) -> None:
            apply_mapping(session.pid, self.own_mapping())

        with Session.start(plan) as session:
            session.serve({lib.SYNC_MAPS: maps, **(handlers or {})})

    def _load_filter(self, listener: bool) -> None:
        from ocirt.seccomp import compile_seccomp
        from ocirt.spec import Seccomp, Syscall

        action = "SCMP_ACT_NOTIFY" if listener else "SCMP_ACT_ERRNO"
        entry = Syscall(names=("swapon",), action=action)
        profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(entry,), listener_path="/" if listener else None)
        program = compile_seccomp(profile, supported_flags=self.seccomp_flags())
        load = LoadSeccomp("", program.bpf, program.flags, program.listener)
        ops: tuple[Op, ...] = (SetNoNewPrivileges(""), load)
        self._run(Plan(ops=ops), {lib.SYNC_SECCOMP_FD: lambda _session, fd: os.close(fd)})

    def _make_container(self) -> None:
        from ocirt.spec import parse_config

        spec = parse_config(trial_config(self._system))
        compiled = compile_create(
            spec,
            probe_host(spec, rootless=self._system.rootless_given),
            CreateRequest(container_id=_NAME, bundle="/", rootfs="/"),
        )

        def maps(session: Session, _fd: int) -> None:
            assert compiled.mapping
            apply_mapping(session.pid, compiled.mapping)

        # In the place of the FIFOs: nobody will start it.
        pipe = os.pipe2(os.O_CLOEXEC)
        try:
            with Session.start(compiled.plan, pipe) as session:
                session.serve({lib.SYNC_MAPS: maps, lib.SYNC_READY: lambda _session, _fd: None})
                session.end()
        finally:
            for fd in pipe:
                os.close(fd)


def trial_config(system: System) -> dict[str, Any]:
    """The config.json of `ocirt spec`, or of `ocirt spec --rootless`, for a program that is there and without limits.

    Only such mounts are in it as have a directory on the host's root already, where nothing is to be made.
    """
    from ocirt.commands.spec import default_config, rootless_config

    config: dict[str, Any] = default_config()
    if system.needs_user_namespace:
        config = rootless_config(system.uid, system.gid)
    config["process"] |= {"terminal": False, "args": ["/proc/self/exe"], "rlimits": []}
    config["mounts"] = [mount for mount in config["mounts"] if os.path.isdir("/" + mount["destination"].split("/")[1])]
    return config


def _attempt(action: Callable[[], None], syscall: str = "a system call") -> OcirtError | None:
    """`syscall` is what an OSError is about."""
    try:
        action()
    except OcirtError as error:
        return error
    except OSError as error:
        return HostError.of(error, syscall)
    return None


def _try_cgroup(where: str, *, rootless: bool) -> CgroupTrial:
    trial = CgroupTrial(where)

    def attempt(step: str, action: Callable[[], None], syscall: str = "a system call") -> bool:
        error = _attempt(action, syscall)
        if error:
            trial.errors[step] = error
        return error is None

    def steps(_session: Session, _fd: int) -> None:
        attempt("freeze", freeze_and_thaw)
        attempt("devices", filter_devices)
        attempt("kill", kill)

    def freeze_and_thaw() -> None:
        freeze(cgroup, _CGROUP_TIMEOUT_SECONDS)
        thaw(cgroup, _CGROUP_TIMEOUT_SECONDS)

    def kill() -> None:
        cgroup.kill()
        if not cgroup.wait_event("populated", 0, time.monotonic() + _CGROUP_TIMEOUT_SECONDS):
            raise HostError("cgroup.kill", where, errno.EBUSY)

    def filter_devices() -> None:
        from ocirt.spec import DeviceRule

        rules = compile_device_filter((DeviceRule(allow=False, access="rwm"),))
        trial.device_warning = apply_device_filter(cgroup.fd, rules, rootless=rootless) or ""

    def enter() -> None:
        with Session.start(Plan(ops=(Sync("", lib.SYNC_READY),)), cgroup_fd=cgroup.fd) as session:
            session.serve({lib.SYNC_READY: steps})
            session.end()

    if not attempt("make", lambda: os.mkdir(where, 0o755), "mkdir"):
        return trial
    try:
        opened = Cgroup.open(where)
        assert opened
        with opened as cgroup:
            attempt("enter", enter)
            cgroup.wait_event("populated", 0, time.monotonic() + _CGROUP_TIMEOUT_SECONDS)
    finally:
        attempt("remove", lambda: os.rmdir(where), "rmdir")
    return trial
