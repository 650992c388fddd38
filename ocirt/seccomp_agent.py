"""Handing a seccomp listener to its agent (config-linux.md#containerprocessstate).

Guarantees: one connection carries one container process state, with the descriptors in its first message, and is
closed; an agent that doesn't take it within a bounded time is an error.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ocirt.errors import HostError

if TYPE_CHECKING:
    from ocirt.spec import Seccomp

# The name, in the state's `fds`, of the descriptor that seccomp(2) returned.
SECCOMP_FD_NAME = "seccompFd"
TIMEOUT_SECONDS = 10.0
# sizeof(sockaddr_un.sun_path) without the final NUL
_MAX_SOCKET_PATH = 107


def container_process_state(state: Mapping[str, Any], metadata: str | None, pid: int) -> bytes:
    """The message for a container's state (runtime.md#state) and a process of it, its init or one that exec adds."""
    message = {"ociVersion": state["ociVersion"], "fds": [SECCOMP_FD_NAME], "pid": pid}
    if metadata is not None:
        message["metadata"] = metadata
    return json.dumps({**message, "state": dict(state)}, ensure_ascii=False).encode(errors="replace")


def give_listener(seccomp: Seccomp, state: Mapping[str, Any], seccomp_fd: int, *, pid: int | None = None) -> None:
    """Hand the listener of the process `pid` (the container's init, whose pid the state has), which is closed then, to
    the agent of a profile. Raises HostError."""
    try:
        assert seccomp.listener_path is not None
        message = container_process_state(state, seccomp.listener_metadata, state["pid"] if pid is None else pid)
        send_listener(seccomp.listener_path, message, seccomp_fd)
    finally:
        os.close(seccomp_fd)


def send_listener(
    path: str,
    message: bytes,
    seccomp_fd: int,
    *,
    pointer: str = "/linux/seccomp/listenerPath",
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Connect to the agent at `path`, send the message with the descriptor, close. Raises HostError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as agent:
        agent.settimeout(timeout_seconds)
        try:
            _connect(agent, path)
        except OSError as error:
            raise _failure("connect", path, error, pointer) from None
        try:
            sent = socket.send_fds(agent, [message], [seccomp_fd])
            agent.sendall(message[sent:])
        except OSError as error:
            raise _failure("sendmsg", path, error, pointer) from None


def _connect(agent: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        agent.connect(path)
        return
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        agent.connect(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _failure(syscall: str, path: str, error: OSError, pointer: str) -> HostError:
    # a timeout of Python's own and EAGAIN of a full backlog mean the same
    slow = isinstance(error, (TimeoutError, BlockingIOError))
    hint = "the seccomp agent does not answer" if slow else "seccomp agent"
    return HostError(
        syscall, path, errno.ETIMEDOUT if slow else error.errno or errno.EINVAL, pointer=pointer, hint=hint
    )
