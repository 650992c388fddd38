"""Spawns ocirt-init with a plan, answers what it asks, and turns what it reports into errors with their origin.

The only place that starts ocirt-init. Whatever happens in here, no process is left: closing the socket ends an init
that has not been answered READY, and the pidfd tells that it has ended. Nothing polls or sleeps.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ocirt import constants as k
from ocirt._native import ffi, lib
from ocirt.assistant import Assistant
from ocirt.errors import HostError, OcirtError
from ocirt.explain import plan_error
from ocirt.plan import Plan
from ocirt.protocol import GO, MESSAGE_BYTES, UNANSWERED, Conversation, Message

Handler = Callable[["Session", int], None]
"""Answers a sync: gets the session and the descriptor that came along (-1: none), which it owns."""


def checked(result: int, syscall: str, path: str = "") -> int:
    """A native function's result. Raises HostError for a negative errno."""
    if result < 0:
        raise HostError(syscall, path, -result)
    return result


@dataclass(frozen=True, slots=True)
class Spawned:
    """An ocirt-init, and the runtime's end of its socket. `alone`: it is the container's init itself."""

    socket: socket.socket
    pid: int
    pidfd: int
    alone: bool


def spawn_init(
    plan: Plan,
    slots: Sequence[int] = (),
    cgroup_fd: int = -1,
    stdio: Sequence[int] = (-1, -1, -1),
    assistant: Assistant | None = None,
) -> Spawned:
    """Execute ocirt-init from a sealed memfd; the plan is in another, sealed when init goes on. Raises HostError,
    SpecError."""
    assistant = assistant or Assistant()
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan_fd = image_fd = -1
    try:
        plan_fd = checked(lib.ocirt_memfd(b"ocirt-plan", 0), "memfd_create", "ocirt-plan")
        image_fd = checked(assistant.image(), "memfd_create", "ocirt-init")
        fds = [peer.fileno(), plan_fd, *slots]
        request, _kept = _request(3 + plan.preserve_fds, fds, stdio, cgroup_fd, image_fd)
        pid, pidfd, alone = _spawn(request, plan, plan_fd, assistant)
        with contextlib.suppress(BrokenPipeError):  # what is received next tells why
            ours.send(GO)
        return Spawned(ours, pid, pidfd, alone)
    except BaseException:
        ours.close()
        raise
    finally:
        peer.close()
        for fd in (plan_fd, image_fd):
            if fd >= 0:
                os.close(fd)


def _request(
    first: int, fds: Sequence[int], stdio: Sequence[int], cgroup_fd: int, image_fd: int
) -> tuple[Any, tuple[object, ...]]:
    """A `struct spawn`, whose descriptors are placed from `first` on, and what must live as long as it."""
    request = ffi.new("struct spawn *")
    texts = [ffi.new("char[]", arg) for arg in (b"ocirt-init", str(first).encode())]
    request.argv = argv = ffi.new("char *[]", [*texts, ffi.NULL])
    request.envp = envp = ffi.new("char *[]", [ffi.NULL])
    request.fds = places = ffi.new("int[]", fds)
    request.stdio, request.fd_count = list(stdio), len(fds)
    request.first_fd = request.keep_below = first
    request.exe_fd, request.cgroup_fd, request.cwd_fd = image_fd, cgroup_fd, -1
    return request, (texts, argv, envp, places)


def _spawn(request: Any, plan: Plan, plan_fd: int, assistant: Assistant) -> tuple[int, int, bool]:
    """Pid, pidfd, and whether it is alone. The plan is encoded while the kernel is at it."""
    born_in = k.CLONE_NEWNET if assistant.has_network() else 0
    alone = plan.can_be_alone()
    new_pids = plan.clone_flags & k.CLONE_NEWPID if alone else 0
    pid, pidfd, data = _spawn_once(request, plan, alone, born_in | new_pids, assistant)
    if pid < 0 and new_pids and not request.born:
        # What stands against new namespaces, init says better.
        alone = False
        pid, pidfd, data = _spawn_once(request, plan, alone, born_in, assistant)
    if pid < 0:
        raise HostError("clone3", "ocirt-init", -pid)
    try:
        checked(lib.ocirt_fill_memfd(plan_fd, data, len(data)), "write", "ocirt-plan")
    except BaseException:
        _abandon(pidfd)
        raise
    return pid, pidfd, alone


def _spawn_once(request: Any, plan: Plan, alone: bool, born_in: int, assistant: Assistant) -> tuple[int, int, bytes]:
    request.new_pids = bool(born_in & k.CLONE_NEWPID)
    assistant.spawn(request)
    try:
        data = plan.encode(alone=alone, born_in=born_in)
    except BaseException:
        pid, pidfd = assistant.spawned()
        if pid >= 0:
            _abandon(pidfd)
        raise
    pid, pidfd = assistant.spawned()
    return pid, pidfd, data


def _abandon(pidfd: int) -> None:
    """End a process that has no plan yet, and let go of its pidfd."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_pidfd(pidfd)
    os.close(pidfd)


@dataclass(slots=True)
class Session:
    """One ocirt-init at work. `pid` and `pidfd` are the container init's, once it has been cloned."""

    plan: Plan
    socket: socket.socket
    pid: int = 0
    pidfd: int = -1
    _host_pidfd: int = -1
    _conversation: Conversation = field(default_factory=Conversation)

    @classmethod
    def start(
        cls,
        plan: Plan,
        slots: Sequence[int] = (),
        cgroup_fd: int = -1,
        stdio: Sequence[int] = (-1, -1, -1),
        assistant: Assistant | None = None,
    ) -> Session:
        """Spawn init, in the cgroup, if any. `slots` are the descriptors of the plan's filled slots; all stay the
        caller's to close, and the assistant."""
        spawned = spawn_init(plan, slots, cgroup_fd, stdio, assistant)
        if spawned.alone:
            return cls(plan, spawned.socket, spawned.pid, spawned.pidfd, _conversation=Conversation(cloned=True))
        return cls(plan, spawned.socket, _host_pidfd=spawned.pidfd)

    def serve(self, handlers: Mapping[int, Handler], cloned: Callable[[Session], None] | None = None) -> None:
        """Answer until the container is READY, or its program executes. `cloned` is called as soon as the pid is known.

        A plan without Execute is served to its end. Raises PlanError for what init reports, and what a handler raises.
        """
        if cloned and self._conversation.cloned:
            cloned(self)
        while True:
            message = self._receive()
            if message is None:
                self._ended()
                return
            for due in self._conversation.receive(message):
                if due.kind == lib.MESSAGE_CLONED:
                    self.pid, self.pidfd = due.value, due.fd
                    if cloned:
                        cloned(self)
                elif due.kind == lib.MESSAGE_FAILED:
                    raise plan_error(self.plan, due)
                elif due.kind == lib.MESSAGE_SYNC:
                    handlers[due.value](self, due.fd)
                    if due.value == UNANSWERED:
                        continue
                    # An init that is gone has been killed, or has said why: what is received next tells.
                    with contextlib.suppress(BrokenPipeError):
                        self.socket.send(GO)
                    if self._conversation.ready:
                        return

    def _receive(self) -> Message | None:
        if not self._conversation.cloned:
            self._await_message()
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # init ended without having read our answer. The kernel says so once, then gives what init has said.
            data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        return Message.decode(data, fds[0] if fds else -1) if data else None

    def _await_message(self) -> None:
        """Wait for a message or the end of file, as long as the pid is not known.

        Where the process that cloned the container's init is killed before it has said so, there is none to come: the
        container's init holds the socket, and waits for an answer. Raises OcirtError then.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.register(self._host_pidfd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        poll.unregister(self._host_pidfd)
        # It may have spoken and ended between the kernel's look at the one and at the other.
        if self.socket.fileno() not in ready and not poll.poll(0):
            raise OcirtError(f"ocirt-init ended before the container was ready: {self._reap_host()}")

    def _ended(self) -> None:
        """End of file: the program has been executed, a plan without one has been done, or init was killed."""
        if self._conversation.executing:
            return
        how = self.end()
        if how != "exit status 0" or self.plan.executes():
            raise OcirtError(f"ocirt-init ended before the container was ready: {how or 'no exit status'}")

    def end(self) -> str:
        """Have init end (closing the socket does it, SIGKILL makes sure), reap it; how it ended, "" if not known."""
        self.socket.close()
        how = self._reap_host()
        if self.pidfd < 0:
            return how
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        return wait_pidfd(self.pidfd)

    def _reap_host(self) -> str:
        if self._host_pidfd < 0:
            return ""
        fd, self._host_pidfd = self._host_pidfd, -1
        try:
            return wait_pidfd(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the descriptors and the process that executed the host section; a READY container lives on.

        Everything is done by now: nothing in here may make a failure of it.
        """
        with contextlib.suppress(OSError):
            self.socket.close()
        with contextlib.suppress(OSError):
            self._reap_host()
        fd, self.pidfd = self.pidfd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.end()
        self.close()


def wait_pidfd(pidfd: int) -> str:
    """Wait for the process to end and reap it where it is ours: "exit status 1", "killed by signal 9"."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return ""
    if info is None:
        return ""
    return f"exit status {info.si_status}" if info.si_code == os.CLD_EXITED else f"killed by signal {info.si_status}"
