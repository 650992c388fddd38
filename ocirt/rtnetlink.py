"""rtnetlink(7): messages as bytes and back, and a socket that asks the kernel one thing at a time.

Guarantees: the codec touches nothing, and refuses with ValueError what isn't well-formed. The socket takes answers from
the kernel alone, waits for each a bounded time, and repeats a dump that the kernel marks as inconsistent or whose
answers were lost. A refusal comes as NetlinkError with the kernel's own explanation, where it gives one.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
# linux/rtnetlink.h
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 16, 18, 20, 22, 24, 26
MESSAGE_NAMES = {
    RTM_NEWLINK: "RTM_NEWLINK",
    RTM_GETLINK: "RTM_GETLINK",
    RTM_NEWADDR: "RTM_NEWADDR",
    RTM_GETADDR: "RTM_GETADDR",
    RTM_NEWROUTE: "RTM_NEWROUTE",
    RTM_GETROUTE: "RTM_GETROUTE",
}

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_ATTRIBUTE_TYPE_MASK = 0x3FFF
_INT = struct.Struct("=i")

TIMEOUT_SECONDS = 10.0
_DUMP_ATTEMPTS = 10
# The kernel's largest datagram is 32 KiB plus a header; an answer about one device may be larger than a dump's.
_RECEIVE_BYTES = 1 << 18
_MAX_DUMP_BYTES = 1 << 28

Attributes = list[tuple[int, bytes]]


class NetlinkError(Exception):
    """The kernel's refusal: an errno, and its explanation (NETLINK_EXT_ACK) or ""."""

    def __init__(self, number: int, explanation: str = "") -> None:
        super().__init__(number, explanation)
        self.errno, self.explanation = number, explanation


@dataclass(frozen=True, slots=True)
class Message:
    type: int
    flags: int
    sequence: int
    payload: bytes


def _padding(length: int) -> int:
    return -length % 4


def attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padding(length))


def attributes(items: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(attribute(kind, value) for kind, value in items)


def parse_attributes(data: bytes) -> Attributes:
    """The attributes in `data`, nested ones as bytes. Raises ValueError."""
    result: Attributes = []
    place = 0
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size or place + length > len(data):
            raise ValueError("a netlink attribute has a wrong length")
        result.append((kind & _ATTRIBUTE_TYPE_MASK, data[place + _ATTRIBUTE.size : place + length]))
        place += length + _padding(length)
    return result


def encode_message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def parse_messages(data: bytes) -> list[Message]:
    """The messages of one datagram. Raises ValueError."""
    result = []
    place = 0
    while place < len(data):
        if place + _HEADER.size > len(data):
            raise ValueError("a netlink message is cut short")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, place)
        if length < _HEADER.size or place + length > len(data):
            raise ValueError("a netlink message has a wrong length")
        result.append(Message(kind, flags, sequence, data[place + _HEADER.size : place + length]))
        place += length + _padding(length)
    return result


def parse_error(message: Message) -> NetlinkError | None:
    """What NLMSG_ERROR or NLMSG_DONE says; None is success. Raises ValueError."""
    if len(message.payload) < _INT.size:
        if message.type == NLMSG_DONE and not message.payload:
            return None
        raise ValueError("a netlink acknowledgement is cut short")
    (number,) = _INT.unpack_from(message.payload)
    if number >= 0:
        return None
    explanation = ""
    if message.flags & _NLM_F_ACK_TLVS:
        start = _INT.size
        if message.type == NLMSG_ERROR:  # the request's header follows, and all of the request unless capped
            (length,) = struct.unpack_from("=I", message.payload, start)
            start += _HEADER.size if message.flags & _NLM_F_CAPPED else length + _padding(length)
        for kind, value in parse_attributes(message.payload[start:]):
            if kind == _NLMSGERR_ATTR_MSG:
                explanation = value.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(-number, explanation)


class RouteSocket:
    """A NETLINK_ROUTE socket, acting in the network namespace that it was opened in. Does not own the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = 0
        sock.settimeout(TIMEOUT_SECONDS)
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK):
            sock.setsockopt(_SOL_NETLINK, option, 1)

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[Message]:
        """Send, and wait for the acknowledgement; what came before it. Raises NetlinkError."""
        sequence = self._send(kind, payload, flags | NLM_F_ACK)
        answers: list[Message] = []
        while True:
            for message in self._receive(sequence):
                if message.type == NLMSG_ERROR:
                    if error := parse_error(message):
                        raise error
                    return answers
                answers.append(message)

    def dump(self, kind: int, payload: bytes) -> list[Message]:
        """All objects of a kind, as they were at one moment. Raises NetlinkError."""
        for _ in range(_DUMP_ATTEMPTS):
            try:
                messages = list(self._dump_once(kind, payload))
            except NetlinkError as error:
                if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                    raise
                continue
            if not any(message.flags & NLM_F_DUMP_INTR for message in messages):
                return [message for message in messages if message.type != NLMSG_DONE]
        raise NetlinkError(errno.EAGAIN, "the kernel's tables do not come to rest")

    def _dump_once(self, kind: int, payload: bytes) -> Iterator[Message]:
        sequence = self._send(kind, payload, NLM_F_DUMP)
        size = 0
        while True:
            for message in self._receive(sequence):
                size += len(message.payload)
                if size > _MAX_DUMP_BYTES:
                    raise NetlinkError(errno.EMSGSIZE)
                if message.type in (NLMSG_ERROR, NLMSG_DONE) and (error := parse_error(message)):
                    raise error
                yield message
                if message.type == NLMSG_DONE:
                    return

    def _send(self, kind: int, payload: bytes, flags: int) -> int:
        self._sequence += 1
        message = encode_message(kind, NLM_F_REQUEST | flags, self._sequence, payload)
        try:
            self._socket.sendto(message, (0, 0))
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO) from None
        return self._sequence

    def _receive(self, sequence: int) -> list[Message]:
        """A datagram's messages, if it is from the kernel and answers the request; leftovers of earlier ones aren't."""
        try:
            data, _, flags, sender = self._socket.recvmsg(_RECEIVE_BYTES)
        except TimeoutError:
            raise NetlinkError(errno.ETIMEDOUT, "the kernel does not answer") from None
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO) from None
        if sender[0] != 0:  # processes may write to each other
            return []
        if flags & socket.MSG_TRUNC:
            raise NetlinkError(errno.EMSGSIZE)
        return [message for message in parse_messages(data) if message.sequence == sequence]


def open_route_socket() -> socket.socket:
    """A socket in the caller's network namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
