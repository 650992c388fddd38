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
from ocirt.errors import HostError, OcirtError
from ocirt.explain import plan_error
from ocirt.plan import Plan
from ocirt.protocol import GO, MESSAGE_BYTES, Conversation, Message

Handler = Callable[["Session", int], None]
"""Answers a sync: gets the session and the descriptor that came along (-1: none), which it owns."""


def checked(result: int, syscall: str, path: str = "") -> int:
    """A native function's result. Raises HostError for a negative errno."""
    if result < 0:
        raise HostError(syscall, path, -result)
    return result


@dataclass(frozen=True, slots=True)
class Spawned:
    """An ocirt-init. `alone`: it is the container's init itself."""

    pid: int
    pidfd: int
    alone: bool


def spawn_init(
    plan: Plan, peer_fd: int, slots: Sequence[int], cgroup_fd: int, stdio: Sequence[int], network_fd: int = -1
) -> Spawned:
    """Execute ocirt-init from a sealed memfd with a plan in another. Raises HostError, SpecError."""
    first = 3 + plan.preserve_fds
    fds = [peer_fd, -1, *slots]
    keep = [ffi.new("char[]", arg) for arg in (b"ocirt-init", str(first).encode())]
    argv, envp = ffi.new("char *[]", [*keep, ffi.NULL]), ffi.new("char *[]", [ffi.NULL])
    request = ffi.new("struct spawn *")
    request.argv, request.envp = argv, envp
    request.stdio, request.fd_count = list(stdio), len(fds)
    request.first_fd, request.keep_below = first, first
    request.cgroup_fd, request.network_fd, request.cwd_fd = cgroup_fd, network_fd, -1
    born_in = k.CLONE_NEWNET if network_fd >= 0 else 0
    request.exe_fd = checked(lib.ocirt_init_image(), "memfd_create", "ocirt-init")
    try:
        alone = plan.can_be_alone()
        new_pids = plan.clone_flags & k.CLONE_NEWPID if alone else 0
        spawned = _spawn(request, fds, plan.encode(alone=alone, born_in=born_in | new_pids), alone, new_pids)
        if isinstance(spawned, HostError) and new_pids and not request.born:
            # What stands against new namespaces, init says better.
            spawned = _spawn(request, fds, plan.encode(born_in=born_in), False, 0)
    finally:
        os.close(request.exe_fd)
    if isinstance(spawned, HostError):
        raise spawned
    return spawned


def _spawn(request: Any, fds: Sequence[int], data: bytes, alone: bool, new_pids: int) -> Spawned | HostError:
    plan_fd = checked(lib.ocirt_sealed_memfd(b"ocirt-plan", data, len(data), 0), "memfd_create", "ocirt-plan")
    try:
        places = ffi.new("int[]", [fds[0], plan_fd, *fds[2:]])
        request.fds, request.new_pids = places, bool(new_pids)
        pidfd = ffi.new("int *", -1)
        pid = lib.ocirt_spawn(request, pidfd)
        return Spawned(pid, pidfd[0], alone) if pid >= 0 else HostError("clone3", "ocirt-init", -pid)
    finally:
        os.close(plan_fd)


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
        network_fd: int = -1,
    ) -> Session:
        """Spawn init, in the cgroup and the network namespace, if any. `slots` are the descriptors of the plan's filled
        slots; all stay the caller's to close."""
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            spawned = spawn_init(plan, peer.fileno(), slots, cgroup_fd, stdio, network_fd)
        except BaseException:
            ours.close()
            raise
        finally:
            peer.close()
        if spawned.alone:
            return cls(plan, ours, spawned.pid, spawned.pidfd, _conversation=Conversation(cloned=True))
        return cls(plan, ours, _host_pidfd=spawned.pidfd)

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
