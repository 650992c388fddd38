"""A D-Bus with a systemd on it that says what a test wants: the errors, the silence and the order of a real one's.

Guarantees: it serves one connection after another on a socket of its own until it is closed; what it was asked is kept.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return, new_signal
from jeepney.wrappers import DBusAddress

MANAGER = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
JOB = "/org/freedesktop/systemd1/job/7"


class RefusedError(Exception):
    """Answered as an error of D-Bus: (name, text)."""


class SilenceError(Exception):
    """No answer."""


Answer = Callable[[tuple[Any, ...]], tuple[str, tuple[Any, ...]]]


class FakeSystemd:
    """`answers`: by method, what replaces the usual answer; `calls`: (method, values) of what was asked.

    `job_result`: what JobRemoved says; None: it never comes. `greeting`: what authentication is answered with.
    """

    def __init__(self, path: Path) -> None:
        self.address = f"unix:path={path}"
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.properties: dict[str, tuple[str, Any]] = {
            "ControlGroup": ("s", "/top"),
            "Version": ("s", "252.39-1~deb12u2"),
            "InvocationID": ("ay", bytes(range(16))),
            "ActiveState": ("s", "active"),
        }
        self.job_result: str | None = "done"
        self.greeting = [b"DATA\r\n", b"OK 1234\r\n"]
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Again is no error."""
        if not self._thread.is_alive():
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            # Closing alone would not end another thread's recv(2), nor the connection.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(10)

    def asked(self) -> list[str]:
        return [method for method, _ in self.calls]

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # Until the client is gone, or the test is over.
        with connection, contextlib.suppress(OSError, EOFError):
            self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        said = b""
        while said.count(b"\r\n") < 2:
            said += _received(connection)
        assert said == b"\0AUTH EXTERNAL\r\nDATA\r\n"
        for line in self.greeting:
            connection.sendall(line)
        while b"BEGIN\r\n" not in said:
            said += _received(connection)
        parser = Parser()
        parser.add_data(said.partition(b"BEGIN\r\n")[2])
        while True:
            while (message := parser.get_next_message()) is None:
                parser.add_data(_received(connection))
            self._answer(connection, message)

    def _answer(self, connection: socket.socket, message: Message) -> None:
        method = message.header.fields[HeaderFields.member]
        self.calls.append((method, message.body))
        serial = message.header.serial
        job = None
        try:
            signature, values = (self.answers.get(method) or self._usual(method))(message.body)
            reply = new_method_return(message, signature or None, values)
            if method in ("StartTransientUnit", "Stop") and self.job_result is not None:
                # Before the answer, as it may well come: the client must not miss it.
                body = (7, JOB, "x.scope", self.job_result)
                job = new_signal(MANAGER, "JobRemoved", "uoss", body)
        except RefusedError as refusal:
            reply = new_error(message, refusal.args[0], "s", (refusal.args[1],))
        except SilenceError:
            return
        if job:
            connection.sendall(new_signal(MANAGER, "JobRemoved", "uoss", (6, JOB + "6", "y", "failed")).serialise(97))
            connection.sendall(job.serialise(98))
        assert reply.header.fields[HeaderFields.reply_serial] == serial
        assert message.header.message_type is MessageType.method_call
        connection.sendall(reply.serialise(99))

    def _usual(self, method: str) -> Answer:
        return {
            "Hello": lambda values: ("s", (":1.1",)),
            "AddMatch": lambda values: ("", ()),
            "Get": lambda values: ("v", (self.properties[values[1]],)),
            "StartTransientUnit": lambda values: ("o", (JOB,)),
            "Stop": lambda values: ("o", (JOB,)),
            "ResetFailed": lambda values: ("", ()),
            "ResetFailedUnit": lambda values: ("", ()),
            "SetProperties": lambda values: ("", ()),
        }[method]


def refuse(name: str, text: str) -> Answer:
    def answer(values: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        raise RefusedError(name, text)

    return answer


def be_silent(values: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    raise SilenceError


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError
    return data
