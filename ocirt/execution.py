"""exec: one more process in a container, as a second plan for the same init.

The process joins all namespaces of the container's init with one setns(2) on its pidfd, and starts in the cgroup that
init really is in. What is running already does not change, whatever goes wrong here.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from ocirt import constants as k
from ocirt._native import lib
from ocirt.assistant import Assistant
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.paths import REMOVED
from ocirt.compile import compile_exec
from ocirt.compile.request import CgroupDirectory, Compiled, ExecRequest
from ocirt.driver import Session
from ocirt.errors import HostError, StateError
from ocirt.host import probe_host
from ocirt.log import Logger
from ocirt.membership import open_cgroup_for_exec
from ocirt.needs import open_needs, probe_user
from ocirt.pidfile import write_pid_file
from ocirt.record import Status
from ocirt.seccomp_profile import container_filter
from ocirt.spec import Process, Spec
from ocirt.state import Container
from ocirt.terminal import connect_unix, send_console


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What exec takes from the command line beside the process. Paths are absolute; `pointer` is the process's."""

    console_socket: str | None = None
    pidfd_socket: str | None = None
    pid_file: str | None = None
    no_new_keyring: bool = False
    preserve_fds: int = 0
    sub_cgroup: str | None = None
    ignore_paused: bool = False
    pointer: str = "/process"
    seccomp_cache: str = ""


def check_executable(container: Container) -> None:
    """Raises StateError for a container in which nothing can be executed."""
    status = container.status()
    if status not in (Status.CREATED, Status.RUNNING, Status.PAUSED):
        raise StateError(
            f"cannot exec in a {status} container: container not running: {container.id}", code="state.not-running"
        )


def probe_namespaces(pid: int) -> int:
    """CLONE_NEW* of the namespaces in which the process differs from this one: the others cannot be joined anew."""
    flags = 0
    for flag, name in k.NAMESPACES.values():
        with contextlib.suppress(FileNotFoundError):  # a kernel without that type
            if not os.path.samestat(os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")):
                flags |= flag
    return flags


def compile_execution(
    container: Container, process: Process, spec: Spec, pid: int, options: ExecOptions, log: Logger
) -> Compiled:
    """The plan for a process in a running container."""
    try:
        namespaces = probe_namespaces(pid)
        user = probe_user(pid) if namespaces & k.CLONE_NEWUSER else None
    except OSError as error:
        raise HostError.of(error, "read") from None
    request = ExecRequest(
        container_id=container.id,
        rootfs=container.record.rootfs,
        namespaces=namespaces,
        no_new_keyring=options.no_new_keyring,
        preserve_fds=options.preserve_fds,
        seccomp=container_filter(spec, options.seccomp_cache),
        user=user,
        pointer=options.pointer,
    )
    compiled = compile_exec(process, spec, probe_host(spec, process), request)
    for warning in compiled.warnings:
        log.warning(warning)
    return compiled


def execute(
    container: Container, process: Process, spec: Spec, options: ExecOptions, log: Logger
) -> tuple[Session, int]:
    """Execute the process; its session, and its terminal's master or -1. Raises OcirtError when it could not be.

    `spec` is the container's, as savedspec.saved_spec gives it.
    """
    check_executable(container)
    pidfd = container.pidfd()
    if pidfd is None:
        check_executable(container)
        raise StateError(f"container not running: {container.id}", code="state.not-running")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, pidfd)
        assistant = stack.enter_context(contextlib.closing(Assistant()))
        assistant.begin()
        cgroup = open_cgroup_for_exec(container, options.sub_cgroup)
        if cgroup:
            stack.callback(cgroup.close)
            _check_running(container, cgroup, options)
        compiled = compile_execution(container, process, spec, container.record.pid, options, log)
        slots = open_needs(compiled.needs, container, cgroup, stack, pidfd)
        joins_later = any(isinstance(need, CgroupDirectory) for need in compiled.needs)
        console = connect_unix(options.console_socket, "console socket") if options.console_socket else None
        master: list[int] = []

        def take_console(_session: Session, fd: int) -> None:
            if console:
                send_console(console, fd)
            else:
                master.append(fd)

        try:
            cgroup_fd = cgroup.fd if cgroup and not joins_later else -1
            session = Session.start(compiled.plan, slots, cgroup_fd, assistant=assistant)
        except HostError as error:
            if error.errno in REMOVED:  # clone3(2) into a cgroup
                raise _gone(container) from None
            raise
        try:
            session.serve({lib.SYNC_CONSOLE: take_console, lib.SYNC_SECCOMP_FD: _listener(container, spec)})
            _hand_over(session, options)
        except BaseException:
            session.end()
            session.close()
            if console:
                console.close()
            raise
        return session, master[0] if master else -1


def _check_running(container: Container, cgroup: Cgroup, options: ExecOptions) -> None:
    if options.ignore_paused:
        return
    try:
        frozen = cgroup.events().get("frozen")
    except HostError as error:
        if error.errno in REMOVED:
            raise _gone(container) from None
        raise
    if frozen:
        raise StateError("cannot exec in a paused container (use --ignore-paused to override)", code="state.paused")


def _gone(container: Container) -> StateError:
    return StateError(f"container not running: {container.id}: it is gone", code="state.not-running")


def _listener(container: Container, spec: Spec) -> Callable[[Session, int], None]:
    def send(session: Session, fd: int) -> None:
        from ocirt.seccomp_agent import give_listener

        assert spec.linux is not None
        assert spec.linux.seccomp is not None
        state = container.record.oci_state(container.status(), container.record.pid)
        give_listener(spec.linux.seccomp, state, fd, pid=session.pid)

    return send


def _hand_over(session: Session, options: ExecOptions) -> None:
    if options.pidfd_socket:
        with connect_unix(options.pidfd_socket, "pidfd socket") as receiver:
            socket.send_fds(receiver, [b"pidfd"], [session.pidfd])
    if options.pid_file:
        write_pid_file(options.pid_file, session.pid)
