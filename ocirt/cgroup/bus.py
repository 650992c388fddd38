"""A connection to a D-Bus message bus: calls, and the signals that come meanwhile.

Guarantees: nothing waits longer than the connection's limit, whatever the other side does; what goes wrong with the
connection is a HostError, what the called one refuses is a BusError. The bus knows this process by the credentials that
the kernel gives with the socket, not by a uid that it says itself, so that it works in user namespaces.
"""

from __future__ import annotations

import errno
import os
import socket
import string
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ocirt.cgroup.paths import POINTER
from ocirt.errors import HostError, one_line

if TYPE_CHECKING:
    from jeepney import Message

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
TIMEOUT_SECONDS = 30.0

_READ_BYTES = 65536
_AUTH_MAX_BYTES = 4096


class BusError(Exception):
    """An error reply. `name` is the D-Bus error's, "org.freedesktop.systemd1.UnitExists"."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{text} ({name})" if text else name)
        self.name = name
        self.text = text


class Bus:
    """To be closed. `address` as in the D-Bus specification ("Server Addresses")."""

    def __init__(self, address: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        from jeepney import Parser

        self.address = address
        self._timeout = timeout_seconds
        self._parser = Parser()
        self._signals: list[Message] = []
        self._serial = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._deadline = time.monotonic() + timeout_seconds
        try:
            self._connect()
            self._authenticate()
            self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        except BusError as error:
            self.close()
            raise self._failure("Hello", errno.ECONNREFUSED, str(error)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Bus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(
        self, destination: str, path: str, interface: str, method: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """Call a method; the values of its reply. Raises BusError, HostError."""
        from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call

        self._deadline = time.monotonic() + self._timeout
        self._serial += 1
        serial = self._serial
        message = new_method_call(DBusAddress(path, destination, interface), method, signature or None, body)
        try:
            self._send(message.serialise(serial=serial))
            while True:
                reply = self._receive()
                if reply.header.message_type is MessageType.signal:
                    self._signals.append(reply)
                elif reply.header.fields.get(HeaderFields.reply_serial) == serial:
                    break
        except OSError as error:
            raise self._os_failure(method, error) from None
        if reply.header.message_type is MessageType.error:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise BusError(str(reply.header.fields.get(HeaderFields.error_name, "")), one_line(text))
        return tuple(reply.body)

    def subscribe(self, rule: str) -> None:
        """Have the bus send the signals of a match rule."""
        bus = "org.freedesktop.DBus"
        self.call(bus, "/org/freedesktop/DBus", bus, "AddMatch", "s", (rule,))

    def wait_signal(self, member: str, accept: Callable[[tuple[Any, ...]], bool]) -> tuple[Any, ...]:
        """The values of the next signal of that name that is accepted, those that have come already included."""
        from jeepney import HeaderFields, MessageType

        self._deadline = time.monotonic() + self._timeout
        try:
            while True:
                while self._signals:
                    message = self._signals.pop(0)
                    if message.header.fields.get(HeaderFields.member) == member and accept(message.body):
                        return tuple(message.body)
                message = self._receive()
                if message.header.message_type is MessageType.signal:
                    self._signals.append(message)
        except OSError as error:
            raise self._os_failure(member, error) from None

    def _connect(self) -> None:
        from jeepney.bus import get_connectable_addresses

        try:
            places = list(get_connectable_addresses(self.address))
        except (RuntimeError, ValueError):
            raise self._failure("connect", errno.EAFNOSUPPORT, "only addresses unix:path=... are known") from None
        for index, place in enumerate(places):
            try:
                self._socket.settimeout(self._left())
                self._socket.connect(place)
            except OSError as error:
                if index + 1 == len(places):
                    raise self._os_failure("connect", error) from None
            else:
                return

    def _authenticate(self) -> None:
        """The mechanism EXTERNAL without an identity: that of the socket counts ("Authentication Protocol")."""
        try:
            self._send(b"\0AUTH EXTERNAL\r\nDATA\r\n")
            said = b""
            while not (said.endswith(b"\r\n") and any(line.startswith(b"OK") for line in said.splitlines())):
                if b"REJECTED" in said or b"ERROR" in said or len(said) > _AUTH_MAX_BYTES:
                    raise PermissionError(errno.EACCES, "")
                said += self._read()
            self._send(b"BEGIN\r\n")
        except OSError as error:
            raise self._os_failure("authenticate", error) from None

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(self._left())
        self._socket.sendall(data)

    def _read(self) -> bytes:
        self._socket.settimeout(self._left())
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "")
        return data

    def _receive(self) -> Message:
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data(self._read())
        return message

    def _os_failure(self, what: str, error: OSError) -> HostError:
        if isinstance(error, TimeoutError):
            return self._failure(what, errno.ETIMEDOUT, f"no answer within {self._timeout:g} s")
        return self._failure(what, error.errno or errno.EIO)

    def _failure(self, what: str, number: int, hint: str = "") -> HostError:
        hint = hint or "the systemd cgroup manager needs a running systemd and its D-Bus"
        return HostError("D-Bus", f"{self.address} {what}", number, pointer=POINTER, hint=hint)


def user_bus_address(environ: Mapping[str, str], uid: int) -> str | None:
    """The address of a user's bus; None where there is none. `uid`: as the initial user namespace knows it."""
    if address := environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    for directory in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if directory.startswith("/") and os.path.exists(f"{directory}/bus"):
            return f"unix:path={_escape(directory)}/bus"
    return None


def _escape(path: str) -> str:
    """Of an address only these may stand for themselves ("Server Addresses")."""
    plain = frozenset(b"-_/.*" + string.ascii_letters.encode() + string.digits.encode())
    return "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in os.fsencode(path))
