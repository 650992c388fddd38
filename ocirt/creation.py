"""create: from a bundle to a container that waits for start, or to an error and nothing left behind.

`prepare` decides everything and changes nothing (`ocirt plan` prints its plan). `create` then acts in the order that
makes a death at any moment harmless: the state (with what is about to be made), the cgroup, init, its pid into the
state as soon as it is known, what init asks for, and at READY the committed state, before init is told to go on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocirt import SPEC_VERSION
from ocirt._native import lib
from ocirt.assistant import Assistant
from ocirt.cgroup.apply import apply_settings
from ocirt.cgroup.bpf import LoadedFilter
from ocirt.cgroup.devices import compile_device_filter
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.manager import CgroupManager, CgroupRecord, ScopeRequest, cgroup_manager
from ocirt.cgroup.owner import compile_cgroup_owner
from ocirt.cgroup.resources import compile_resources, may_do_without_cgroup
from ocirt.cgroup.settings import CompiledResources, asked_controllers, settings_by_time
from ocirt.compile import compile_create
from ocirt.compile.request import Compiled, CreateRequest
from ocirt.destroy import destroy
from ocirt.driver import Handler, Session
from ocirt.errors import HostError, OcirtError, PlanError, SpecError, StateError
from ocirt.host import Host, probe_host
from ocirt.needs import open_needs, probe_joined_user
from ocirt.ops import RunHook
from ocirt.pidfile import write_pid_file
from ocirt.record import Record, Status, cgroup_properties, check_id, created_now, probe_process
from ocirt.seccomp_profile import container_filter
from ocirt.spec import Hooks, Linux, Spec, load_config
from ocirt.state import CONFIG, NOTIFY_DIRECTORY, RESULT_FIFO, START_FIFO, Container
from ocirt.terminal import connect_unix, send_console
from ocirt.usermap import apply_mapping

if TYPE_CHECKING:
    from ocirt.cli import Context

# Those that commands after create have to do with: name -> attribute.
_LATER_HOOKS = {"startContainer": "start_container", "poststart": "poststart", "poststop": "poststop"}


@dataclass(frozen=True, slots=True)
class Options:
    """What create and run take from the command line and the environment. Paths are absolute."""

    bundle: str
    console_socket: str | None = None
    pidfd_socket: str | None = None
    pid_file: str | None = None
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0
    listen_fds: int = 0
    notify_socket: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything decided: what create will do."""

    spec: Spec
    config: bytes
    host: Host
    request: CreateRequest
    compiled: Compiled
    manager: CgroupManager
    cgroup: CgroupRecord
    resources: CompiledResources
    warnings: tuple[str, ...] = ()

    @property
    def linux(self) -> Linux:
        return self.spec.linux or Linux()

    @property
    def hooks(self) -> Hooks:
        return self.spec.hooks or Hooks()


def prepare(context: Context, container_id: str, options: Options, assistant: Assistant | None = None) -> Prepared:
    """Read, check and compile a bundle; changes nothing, but that the assistant begins its work. Raises SpecError,
    HostError, StateError."""
    spec, config = load_config(options.bundle, on_decoded=assistant.begin if assistant else None)
    linux = spec.linux or Linux()
    host = probe_host(spec, bundle=options.bundle, rootless=context.rootless)
    resources = compile_resources(linux.resources)
    optional = may_do_without_cgroup(linux, resources.settings, rootless=host.rootless)
    scope = ScopeRequest(resources.settings, spec.annotations, host.rootless)
    manager = cgroup_manager(context.cgroup_manager, host.cgroup, optional=optional, scope=scope)
    resources = CompiledResources(manager.fit(resources.settings), resources.notices)
    cgroup = manager.prepare(linux.cgroups_path, container_id, optional=optional)
    seccomp = container_filter(spec, context.seccomp_cache)
    request = CreateRequest(
        container_id=container_id,
        bundle=options.bundle,
        rootfs=probe_rootfs(spec, options.bundle),
        state=_oci_state(spec, container_id, options.bundle),
        no_pivot=options.no_pivot,
        no_new_keyring=options.no_new_keyring,
        preserve_fds=options.preserve_fds,
        listen_fds=options.listen_fds,
        notify_directory=f"{context.root}/{container_id}/{NOTIFY_DIRECTORY}" if options.notify_socket else None,
        cgroup=cgroup.path,
        seccomp=seccomp,
        joined_user=probe_joined_user(linux),
    )
    compiled = compile_create(spec, host, request)
    warnings = (*compiled.warnings, *(seccomp.warnings if seccomp else ()))
    return Prepared(spec, config, host, request, compiled, manager, cgroup, resources, warnings)


def probe_rootfs(spec: Spec, bundle: str) -> str:
    """The root file system's absolute path without symbolic links. Raises SpecError where there is no directory."""
    path = os.path.join(bundle, spec.root.path)
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        what = "is not a directory" if os.path.lexists(real) else "no such file or directory"
        raise SpecError("/root/path", f"{path}: {what}", "spec.root")
    if real == "/":
        raise SpecError("/root/path", "the host's own / cannot be a container's root", "spec.root")
    return real


def _oci_state(spec: Spec, container_id: str, bundle: str) -> Mapping[str, object]:
    state: dict[str, object] = {"ociVersion": SPEC_VERSION, "id": container_id, "bundle": bundle}
    if spec.annotations:
        state["annotations"] = dict(spec.annotations)
    return state


def _first_record(prepared: Prepared) -> Record:
    spec, hooks = prepared.spec, prepared.hooks
    new_pid = any(namespace.type == "pid" and namespace.path is None for namespace in prepared.linux.namespaces)
    return Record(
        id=prepared.request.container_id,
        oci_version=SPEC_VERSION,
        bundle=prepared.request.bundle,
        rootfs=prepared.request.rootfs,
        created=created_now(),
        annotations=dict(spec.annotations),
        private_pid=new_pid,
        has_process=spec.process is not None,
        hooks=tuple(name for name, attribute in _LATER_HOOKS.items() if getattr(hooks, attribute)),
        cgroup=cgroup_properties(prepared.cgroup),
    )


@dataclass(slots=True)
class Creation:
    """One create under way. After `run` the container is created, its lock still held; `undo` removes everything."""

    context: Context
    prepared: Prepared
    options: Options
    container: Container
    assistant: Assistant
    at_ready: Callable[[Creation], None] | None = None
    cgroup: Cgroup | None = None
    console: socket.socket | None = None
    master_fd: int = -1
    hooks_begun: bool = False
    _device_filter: LoadedFilter | None = None
    _created: Record | None = None
    # Descriptors until create is through; and what a failure has to take back while the container's init still lives.
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _rollback: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def run(self) -> Session:
        """Make the container. The session's pid and pidfd are those of its init."""
        self.container.write_first(CONFIG, self.prepared.config)
        for name in (START_FIFO, RESULT_FIFO):
            self.container.make_fifo(name)
        if self.prepared.request.notify_directory:
            os.mkdir(NOTIFY_DIRECTORY, 0o755, dir_fd=self.container.dir_fd)
        self.cgroup = self._make_cgroup()
        slots = open_needs(self.prepared.compiled.needs, self.container, self.cgroup, self._stack)
        if self.options.console_socket:
            self.console = connect_unix(self.options.console_socket, "console socket")
        session = self._start_init(slots)
        try:
            session.serve(self._handlers(), self._cloned)
        except BaseException as error:
            self.hooks_begun |= isinstance(error, PlanError) and isinstance(error.op, RunHook)
            self._rollback.close()
            session.end()
            session.close()
            if type(error) is OcirtError and self._was_oom_killed():
                raise OcirtError("container init was OOM-killed (memory limit too low?)") from error
            raise
        self._stack.close()
        return session

    def _start_init(self, slots: Sequence[int]) -> Session:
        plan, cgroup_fd = self.prepared.compiled.plan, self.cgroup.fd if self.cgroup else -1
        try:
            return Session.start(plan, slots, cgroup_fd, assistant=self.assistant)
        except HostError as error:
            # What the kernel needs for a process counts too.
            limits = [each.origin for each in self.prepared.resources.settings if each.file == "memory.max"]
            if error.errno == errno.ENOMEM and limits:
                hint = "memory limit too low?"
                raise HostError(error.syscall, error.path, error.errno, pointer=limits[0], hint=hint) from None
            # cgroup-v2.rst, "No Internal Process Constraint"
            if error.errno == errno.EBUSY and self.cgroup:
                hint = "controllers are enabled below this cgroup, which may thus have no processes of its own"
                where, syscall = self.cgroup.where, f"{error.syscall} into cgroup"
                raise HostError(syscall, where, error.errno, pointer="/linux/cgroupsPath", hint=hint) from None
            raise

    def undo(self) -> None:
        """Leave nothing behind. poststop hooks run only where other hooks have (runtime.md#lifecycle, steps 3 to 5)."""
        self._stack.close()
        if self.console:
            self.console.close()
        if not self.hooks_begun:
            # In memory alone: the disk may be full, and that may be the error.
            self.container.record = self.container.record.changed(hooks=())
        destroy(self.container, self.context.log)

    def _make_cgroup(self) -> Cgroup | None:
        prepared, linux = self.prepared, self.prepared.linux
        mappings = None
        if joined := prepared.request.joined_user:
            mappings = joined.uid_mappings
        elif any(namespace.type == "user" for namespace in linux.namespaces):
            mappings = linux.uid_mappings
        made = prepared.manager.create(
            prepared.cgroup,
            owner_uid=compile_cgroup_owner(prepared.spec, mappings),
            optional=may_do_without_cgroup(linux, prepared.resources.settings, rootless=prepared.host.rootless),
            controllers=asked_controllers(prepared.resources.settings),
        )
        if made.cgroup:
            self._stack.callback(made.cgroup.close)
        self.container.update(cgroup=cgroup_properties(made.record))
        for warning in made.warnings:
            self.context.log.warning(warning)
        self._set_limits(made.cgroup)
        return made.cgroup

    def _set_limits(self, cgroup: Cgroup | None) -> None:
        settings = self.prepared.resources.settings
        if cgroup:
            apply_settings(cgroup, settings_by_time(settings)[0])
        for setting in settings:
            if not cgroup and not setting.optional:
                raise StateError(
                    f"{setting.origin}: cannot set a limit without a cgroup of the container's own", code="cgroup.none"
                )

    def _set_late_limits(self) -> None:
        late = settings_by_time(self.prepared.resources.settings)[1]
        if not self.cgroup or not late:
            return
        apply_settings(self.cgroup, late)
        if record := self.container.record.cgroup_record():
            self.prepared.manager.update(record, late)

    def _was_oom_killed(self) -> bool:
        """Whether the kernel has killed for the cgroup's memory (memory.events): why init ended without a word."""
        if self.cgroup is None:
            return False
        with contextlib.suppress(HostError):
            return self.cgroup.keyed("memory.events").get("oom_kill", 0) != 0
        return False

    def _load_device_filter(self) -> None:
        if self.cgroup is None:
            return
        resources = self.prepared.linux.resources
        self._device_filter = LoadedFilter(compile_device_filter(resources.devices if resources else ()))
        self._stack.callback(self._device_filter.close)

    def _filter_devices(self, _session: Session, _fd: int) -> None:
        """After the mounts, some of which may need a block device that the container itself is not to open; init goes
        on meanwhile."""
        if self.cgroup and self._device_filter:
            warning = self._device_filter.attach(self.cgroup.fd, rootless=self.prepared.host.rootless)
            if warning:
                self.context.log.warning(warning)

    # ---- what init asks for

    def _handlers(self) -> dict[int, Handler]:
        return {
            lib.SYNC_MAPS: self._maps,
            lib.SYNC_TIMENS: self._time_offsets,
            lib.SYNC_NETDEVS: self._network_devices,
            lib.SYNC_RUNTIME_HOOKS: self._runtime_hooks,
            lib.SYNC_CONSOLE: self._console,
            lib.SYNC_DEVICES: self._filter_devices,
            lib.SYNC_SECCOMP_FD: self._seccomp_listener,
            lib.SYNC_READY: self._ready,
        }

    def _cloned(self, session: Session) -> None:
        process = probe_process(session.pid)
        self.container.update(pid=session.pid, start_time=process.start_time if process else 0)
        if self.prepared.linux.intel_rdt:
            self._join_rdt(session.pid)
        # While init is at its mounts.
        self._load_device_filter()
        self._created = self.container.prepare(status=Status.CREATED.value)

    def _join_rdt(self, pid: int) -> None:
        from ocirt.rdt import apply_rdt, remove_rdt

        assert self.prepared.linux.intel_rdt
        shared = apply_rdt(
            self.prepared.linux.intel_rdt,
            self.container.id,
            pid,
            record=lambda made: self.container.update(rdt_made=tuple(made)),
        )
        # A group with a name of its own outlives its containers, but not a create that failed.
        self._rollback.callback(remove_rdt, shared)

    def _maps(self, session: Session, _fd: int) -> None:
        assert self.prepared.compiled.mapping
        apply_mapping(session.pid, self.prepared.compiled.mapping)

    def _time_offsets(self, session: Session, _fd: int) -> None:
        path = f"/proc/{session.pid}/timens_offsets"
        try:
            with open(path, "wb", buffering=0) as file:
                file.write((self.prepared.compiled.time_offsets or "").encode())
        except OSError as error:
            raise HostError("write", path, error.errno or 0, pointer="/linux/timeOffsets") from None

    def _network_devices(self, session: Session, fd: int) -> None:
        from ocirt.netdev import move_netdevs, restore_netdevs

        inside = socket.socket(fileno=fd)
        self._stack.callback(inside.close)
        with open(f"/proc/{session.pid}/ns/net", "rb") as namespace:
            moved = move_netdevs(self.prepared.linux.net_devices, inside, namespace.fileno())

        def restore() -> None:
            for problem in restore_netdevs(moved, inside):
                self.context.log.warning(problem)

        # With the container's namespace the kernel would destroy virtual devices.
        self._rollback.callback(restore)

    def _runtime_hooks(self, session: Session, _fd: int) -> None:
        from ocirt.hooks import run_hooks

        self.hooks_begun = True
        # The deprecated prestart hooks come "after step 2 in the lifecycle", which runtime.md#state calls "created", as
        # the official suite does; createRuntime hooks are part of what is still "creating", as with runc.
        for kind, hooks, status in (
            ("prestart", self.prepared.hooks.prestart, Status.CREATED),
            ("createRuntime", self.prepared.hooks.create_runtime, Status.CREATING),
        ):
            state = self.container.record.oci_state(status, session.pid)
            run_hooks(kind, hooks, state, init_pidfd=session.pidfd)

    def _console(self, _session: Session, fd: int) -> None:
        if self.console:
            send_console(self.console, fd)
            self.console = None
        else:
            self.master_fd = fd

    def _seccomp_listener(self, session: Session, fd: int) -> None:
        from ocirt.seccomp_agent import give_listener

        assert self.prepared.linux.seccomp is not None
        give_listener(self.prepared.linux.seccomp, self.container.record.oci_state(Status.CREATING, session.pid), fd)

    def _ready(self, session: Session, _fd: int) -> None:
        self._set_late_limits()
        if self.options.pidfd_socket:
            with connect_unix(self.options.pidfd_socket, "pidfd socket") as receiver:
                socket.send_fds(receiver, [b"pidfd"], [session.pidfd])
        if self.options.pid_file:
            write_pid_file(self.options.pid_file, session.pid)
        assert self._created
        self.container.commit(self._created)
        if self.at_ready:
            self.at_ready(self)


def create(
    context: Context,
    container_id: str,
    options: Options,
    check_console: Callable[[bool, Options], None],
    at_ready: Callable[[Creation], None] | None = None,
) -> tuple[Creation, Session]:
    """Create a container. Its lock is held until the creation's container is closed. Raises OcirtError.

    `at_ready` is called when it is created, before init is told to go on, which will then wait for its start.
    """
    check_id(container_id)
    check_preserved(options.preserve_fds + options.listen_fds)
    with contextlib.closing(Assistant()) as assistant:
        return _create(context, container_id, options, check_console, at_ready, assistant)


def _create(
    context: Context,
    container_id: str,
    options: Options,
    check_console: Callable[[bool, Options], None],
    at_ready: Callable[[Creation], None] | None,
    assistant: Assistant,
) -> tuple[Creation, Session]:
    prepared = prepare(context, container_id, options, assistant)
    check_console(bool(prepared.spec.process and prepared.spec.process.terminal), options)
    for warning in prepared.warnings:
        context.log.warning(warning)
    for notice in prepared.resources.notices:
        context.log.debug(str(notice))
    container = context.store.create(container_id, _first_record(prepared))
    creation = Creation(context, prepared, options, container, assistant, at_ready)
    try:
        return creation, creation.run()
    except BaseException as error:
        try:
            creation.undo()
        except OcirtError as second:
            context.log.warning(f"not everything could be removed after the error: {second}")
        if options.pid_file:
            with contextlib.suppress(OSError):
                os.unlink(options.pid_file)
        if isinstance(error, OSError):
            raise HostError.of(error, "create") from error
        raise


def check_preserved(count: int) -> None:
    """Every descriptor to preserve must be open. Raises OcirtError; runc's and crun's are silent here, or crash."""
    for fd in range(3, 3 + count):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            raise OcirtError(f"--preserve-fds: file descriptor {fd} is not open") from None
