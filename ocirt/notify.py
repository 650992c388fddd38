"""sd_notify(3) through the container's wall: a socket of ours inside, the service manager's outside.

create makes the directory `notify` in the container's state and has it bound on /run/notify; start (or run) binds the
socket in it, waits for READY=1 and passes it on with the container's own pid, as runc does.
"""

from __future__ import annotations

import os
import select
import socket

from ocirt.errors import HostError

CONTAINER_DIRECTORY = "/run/notify"
SOCKET_NAME = "notify.sock"


class NotifyProxy:
    """`directory_fd` is the notify directory of the container's state, `host_socket` the value of NOTIFY_SOCKET."""

    def __init__(self, directory_fd: int, host_socket: str) -> None:
        self.host_socket = "\0" + host_socket[1:] if host_socket.startswith("@") else host_socket
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"/proc/self/fd/{directory_fd}/{SOCKET_NAME}"
        try:
            self._socket.bind(path)
            os.chmod(path, 0o777)  # the container's user, whoever that is, writes to it
        except OSError as error:
            self._socket.close()
            raise HostError.of(error, "bind the notify socket") from error

    def forward(self, pid: int, pidfd: int) -> None:
        """Wait until the container says READY=1 or its process ends; pass READY and MAINPID on."""
        poll = select.poll()
        for fd in (self._socket.fileno(), pidfd):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._socket.fileno() in ready:
                lines = self._socket.recv(4096).split(b"\n")
                if any(line.startswith(b"READY=") for line in lines):
                    self._send(b"READY=1\nMAINPID=%d" % pid)
                    return
            elif pidfd in ready:
                return

    def _send(self, message: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(message, self.host_socket)
            except OSError as error:
                raise HostError.of(error, "send READY to NOTIFY_SOCKET") from error

    def close(self) -> None:
        self._socket.close()
