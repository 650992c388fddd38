"""The caller's side of the sockets that a runtime sends descriptors over: consoles, pidfds, seccomp listeners."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Received:
    """One connection: the bytes of the first message, its descriptors, and all that came until the end of file."""

    data: bytes
    fds: list[int]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class FdSocket:
    """A listening unix socket. Use it as a context manager; received descriptors are closed at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._received: list[Received] = []

    def __enter__(self) -> FdSocket:
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.close()
        self.path.unlink(missing_ok=True)
        for received in self._received:
            with contextlib.suppress(OSError):
                received.close()

    def receive(self, timeout_seconds: float = 10) -> Received:
        """Waits for a connection and reads it to its end. Raises TimeoutError."""
        self._server.settimeout(timeout_seconds)
        connection, _ = self._server.accept()
        with connection:
            connection.settimeout(timeout_seconds)
            data, fds, _, _ = socket.recv_fds(connection, 65536, 16)
            while more := connection.recv(65536):
                data += more
        self._received.append(Received(data, fds))
        return self._received[-1]

    def receive_console(self) -> Console:
        received = self.receive()
        assert len(received.fds) == 1
        return Console(received.fds[0])


@dataclass(frozen=True, slots=True)
class Console:
    """The master of a container's terminal."""

    fd: int

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, text: str, timeout_seconds: float = 10) -> str:
        """Reads until the text was seen. Raises AssertionError with what there was instead."""
        seen = ""
        while text not in seen:
            chunk = self._read(timeout_seconds)
            assert chunk, f"{text!r} did not come; there was {seen!r}"
            seen += chunk
        return seen

    def read_all(self, timeout_seconds: float = 10) -> str:
        """Reads until the last user of the terminal is gone."""
        chunks = iter(lambda: self._read(timeout_seconds), "")
        return "".join(chunks)

    def _read(self, timeout_seconds: float) -> str:
        if not select.select([self.fd], [], [], timeout_seconds)[0]:
            return ""
        try:
            return os.read(self.fd, 65536).decode(errors="replace")
        except OSError:  # EIO: nobody has the other end open
            return ""
