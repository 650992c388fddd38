"""The conversation with ocirt-init as a pure automaton: which message may follow which, and what it means.

    init                                    runtime
     |                          <------  GO    |   the plan is written
     | CLONED pid, pidfd                       |   from the process that executed the host section; may come late, and
     |                                         |   doesn't where that one is the container's init itself (PLAN_ALONE)
     | SYNC MAPS ... SYNC SECCOMP_FD  ------>  |   each at most once, in the order of enum sync_kind
     |                          <------  GO    |
     | SYNC DEVICES  ----------------------->  |   likewise, but it is not answered
     | SYNC READY  ------------------------->  |   create: the state is saved, then
     |                          <------  GO    |   from here on init survives the runtime
     | EXECUTE, then end of file  ---------->  |   exec: the program runs
     | FAILED op, errno, detail  ----------->  |   at any time, the last word

End of file without READY or EXECUTE means that init was killed. Only this module knows the order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ocirt._native import ffi, lib

_MESSAGE = struct.Struct(f"=IIiI{lib.MESSAGE_DETAIL_BYTES}s")
if ffi.sizeof("struct message") != _MESSAGE.size:
    raise TypeError("struct message has another layout")
MESSAGE_BYTES = _MESSAGE.size
GO = _MESSAGE.pack(lib.MESSAGE_GO, 0, 0, 0, b"")
OUTSIDE_OPS = 0xFFFFFFFF
UNANSWERED = lib.SYNC_DEVICES


class ProtocolError(Exception):
    """init said what it must not say at that point: an error of ocirt's own, or a tampered init."""


@dataclass(frozen=True, slots=True)
class Message:
    """struct message of c_ext/plan.h; `fd` is a descriptor that came with it, or -1."""

    kind: int
    op: int = OUTSIDE_OPS
    error: int = 0
    value: int = 0
    detail: str = ""
    fd: int = -1

    @classmethod
    def decode(cls, data: bytes, fd: int = -1) -> Message:
        if len(data) != _MESSAGE.size:
            raise ProtocolError(f"a message of {len(data)} bytes")
        kind, op, error, value, detail = _MESSAGE.unpack(data)
        return cls(kind, op, error, value, detail.split(b"\0", 1)[0].decode("utf-8", "replace"), fd)


class Conversation:
    """Takes messages as they arrive (None: end of file) and gives those that are due, in the order of the protocol.

    What the container's init says before its CLONED has come is kept until then: they are two processes on one socket.
    `cloned`: none will come.
    """

    def __init__(self, *, cloned: bool = False) -> None:
        self.cloned = cloned
        self.last_sync = 0
        self.ready = False
        self.executing = False
        self._held: list[Message] = []

    def receive(self, message: Message) -> list[Message]:
        """The messages to act upon now. Raises ProtocolError."""
        if message.kind == lib.MESSAGE_CLONED:
            if self.cloned:
                raise ProtocolError("cloned twice")
            self.cloned = True
            held, self._held = self._held, []
            for earlier in held:
                self._check(earlier)
            return [message, *held]
        if not self.cloned and message.kind != lib.MESSAGE_FAILED:
            self._held.append(message)
            return []
        self._check(message)
        return [message]

    def _check(self, message: Message) -> None:
        if self.ready:
            raise ProtocolError("a message after READY")
        if message.kind == lib.MESSAGE_SYNC:
            if not self.last_sync < message.value <= lib.SYNC_READY:
                raise ProtocolError(f"sync {message.value} after {self.last_sync}")
            self.last_sync = message.value
            self.ready = message.value == lib.SYNC_READY
        elif message.kind == lib.MESSAGE_EXECUTE:
            self.executing = True
        elif message.kind != lib.MESSAGE_FAILED:
            raise ProtocolError(f"a message of kind {message.kind}")
