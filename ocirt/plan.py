"""The plan: the operations with every decision taken, as data, as bytes for ocirt-init, and as text for a person.

`ocirt plan` prints the object that `create` encodes: what is shown is what runs. The layout is c_ext/plan.h's, read
through cffi, so that there is no second description of it. The encoder refuses what the decoder would: a slot that is
read before it is filled, a string with a NUL, a record too long.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ocirt import constants as k
from ocirt._native import ffi, lib
from ocirt.errors import SpecError, one_line
from ocirt.ops import Attributes, Execute, Op

_UINT_FORMATS = {"uint16_t": "H", "uint32_t": "I", "uint64_t": "Q", "int32_t": "i"}
_ATTRIBUTES_FORMAT = "QQQQII"
# Characters of a line of `ocirt plan` that several operations share.
_SHARED_LINE_LENGTH = 80
_FILLS = {"OpenTree": "slot", "MountFs": "slot", "Bind": "slot"}
_READS = {
    "AttachRoot": ("tree",),
    "Bind": ("tree",),
    "SetMountAttributes": ("slot",),
    "JoinCgroup": ("slot",),
    "WaitStart": ("start", "result"),
    "CloseDescriptors": ("start", "result"),
}


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class _Layout:
    """How one class of operations is packed: opcode, struct format and the attributes in the record's order."""

    def __init__(self, cls: type[Op]) -> None:
        name = _snake(cls.__name__)
        ctype = ffi.typeof(f"struct op_{name}")
        attributes = {f.name for f in fields(cls)} - {"origin", "tolerated"}
        self.opcode: int = getattr(lib, f"OP_{name.upper()}")
        self.bytes: int = ffi.sizeof(ctype)
        self.names: list[str] = []
        form = "=HHHH"
        for field_name, field in ctype.fields[1:]:
            if field_name == "reserved":
                form += "x" * ffi.sizeof(field.type)
                continue
            attributes.remove(field_name)
            self.names.append(field_name)
            form += _ATTRIBUTES_FORMAT if field_name == "attributes" else _UINT_FORMATS[field.type.cname]
        form += "x" * (self.bytes - struct.calcsize(form))
        if attributes or struct.calcsize(form) != self.bytes:
            raise TypeError(f"{cls.__name__} and struct op_{name} differ: {attributes or form}")
        self.pack = struct.Struct(form).pack


_LAYOUTS = {cls: _Layout(cls) for cls in Op.__subclasses__()}


class _Data:
    """The data section: strings are kept once each; offset 0 stands for "absent"."""

    def __init__(self) -> None:
        self.parts: list[bytes] = [bytes(8)]
        self.length = 8
        self.strings: dict[str, int] = {}

    def _add(self, data: bytes, alignment: int) -> int:
        padding = -self.length % alignment
        offset = self.length + padding
        self.parts.append(bytes(padding) + data)
        self.length = offset + len(data)
        return offset

    def string(self, value: str, pointer: str) -> int:
        offset = self.strings.get(value)
        if offset is None:
            data = value.encode("utf-8", "surrogateescape")
            if b"\0" in data:
                raise SpecError(pointer, "a string holds a NUL character")
            offset = self.strings[value] = self._add(data + b"\0", 1)
        return offset

    def reference(self, value: Any, pointer: str) -> int:
        """An attribute's number in the record: itself, or the offset of what it refers to."""
        if isinstance(value, int):
            return value
        if value is None:
            return 0
        if isinstance(value, str):
            return self.string(value, pointer)
        if isinstance(value, bytes):
            return self._add(struct.pack("=II", len(value), 0) + value, 8)
        numbers = [v if isinstance(v, int) else self.string(v, pointer) for v in value]
        return self._add(struct.pack(f"={len(numbers) + 1}I", len(numbers), *numbers), 4)

    def finish(self) -> bytes:
        self._add(b"\0", 1)
        return b"".join(self.parts)


def _rows(operations: Iterable[Op]) -> list[tuple[str, str]]:
    """(origin, text) for each line."""
    rows: list[tuple[list[str], str, str]] = []
    for op in operations:
        verb, what = op.phrase()
        origins, last_verb, line = rows[-1] if rows else ([], "", "")
        near = bool(origins) and _parent(op.origin) == _parent(origins[-1])
        if what and near and verb == last_verb and len(line) + len(what) < _SHARED_LINE_LENGTH:
            rows[-1] = ([*origins, op.origin], verb, f"{line}, {what}")
        else:
            rows.append(([op.origin], verb if what else "", f"{verb} {what}".rstrip()))
    return [(_origin_range(origins), line) for origins, _, line in rows]


def _parent(origin: str) -> str:
    return origin.rpartition("/")[0]


def _origin_range(origins: list[str]) -> str:
    """ "/linux/maskedPaths/0-4" for several."""
    first, last = origins[0], origins[-1]
    return first if first == last else f"{first}-{last.rpartition('/')[2]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What ocirt-init will do. `host_ops` run before the namespaces are entered, `ops` in the container's init.

    `entry_ops` come before `ops`: in the new namespaces, but with the ids that the runtime has outside of them.

    Slots [0, filled_slots) arrive with the spawn. `clone_flags` are the new namespaces; `joins` are (CLONE_NEW*, slot)
    of those to join; `pidfd_flags` of those to join through the container's pidfd in `pidfd_slot`.
    """

    host_ops: tuple[Op, ...] = ()
    ops: tuple[Op, ...] = ()
    entry_ops: tuple[Op, ...] = ()
    clone_flags: int = 0
    joins: tuple[tuple[int, int], ...] = ()
    pidfd_flags: int = 0
    pidfd_slot: int = lib.NO_SLOT
    flags: int = 0
    user_root_uid: int = 0
    user_root_gid: int = 0
    preserve_fds: int = 0
    slot_count: int = 0
    filled_slots: int = 0

    def at(self, index: int) -> Op | None:
        """The operation with ocirt-init's index; None for what is outside of any."""
        operations = self.all_ops()
        return operations[index] if index < len(operations) else None

    def all_ops(self) -> tuple[Op, ...]:
        """In the order of their execution."""
        return (*self.host_ops, *self.entry_ops, *self.ops)

    def executes(self) -> bool:
        """Whether a program of the user's is executed at its end."""
        return bool(self.ops) and isinstance(self.ops[-1], Execute)

    def encode(self) -> bytes:
        """The bytes of the plan. Raises SpecError for a string with NUL, ValueError for a plan that makes no sense."""
        self.check_slots()
        data, records = _Data(), []
        for op in self.all_ops():
            layout = _LAYOUTS[type(op)]
            values: list[int] = []
            for name in layout.names:
                value = getattr(op, name)
                if isinstance(value, Attributes):
                    values += (value.set, value.clear, value.recursive_set, value.recursive_clear)
                    values += (value.propagation, value.recursive_propagation)
                else:
                    values.append(data.reference(value, op.origin))
            tolerated = (*op.tolerated, 0, 0)
            records.append(layout.pack(layout.opcode, layout.bytes, tolerated[0], tolerated[1], *values))
        op_bytes, data_bytes = b"".join(records), data.finish()
        header = ffi.new("struct plan_header *")
        header.magic, header.version = lib.PLAN_MAGIC, lib.PLAN_VERSION
        header.bytes = ffi.sizeof("struct plan_header") + len(op_bytes) + len(data_bytes)
        header.op_count, header.host_op_count = len(records), len(self.host_ops)
        header.entry_op_count = len(self.entry_ops)
        header.op_bytes, header.data_bytes = len(op_bytes), len(data_bytes)
        for name in ("flags", "clone_flags", "pidfd_flags", "pidfd_slot", "slot_count", "filled_slots"):
            setattr(header, name, getattr(self, name))
        header.user_root_uid, header.user_root_gid = self.user_root_uid, self.user_root_gid
        header.preserve_fds, header.join_count = self.preserve_fds, len(self.joins)
        for i, (kind, slot) in enumerate(self.joins):
            header.joins[i].type, header.joins[i].slot = kind, slot
        return bytes(ffi.buffer(header)) + op_bytes + data_bytes

    def check_slots(self) -> None:
        """Raises ValueError where a slot is read before it is filled, or is beyond the plan's slots."""
        filled = set(range(self.filled_slots))
        entered = [slot for _, slot in self.joins] + ([self.pidfd_slot] if self.pidfd_flags else [])
        if self.slot_count > lib.PLAN_MAX_SLOTS or not filled.issuperset(entered):
            raise ValueError(f"slots {entered} of {self.slot_count} are not filled at the spawn")
        for op in self.all_ops():
            kind = type(op).__name__
            for name in _READS.get(kind, ()):
                slot = getattr(op, name)
                if slot != lib.NO_SLOT and slot not in filled:
                    raise ValueError(f"{kind} at {op.origin!r} reads slot {slot}, which nothing has filled")
            if kind in _FILLS and (slot := getattr(op, _FILLS[kind])) != lib.NO_SLOT:
                if slot >= self.slot_count:
                    raise ValueError(f"{kind} at {op.origin!r} fills slot {slot} of {self.slot_count}")
                filled.add(slot)

    def render(self) -> str:
        """A line an operation: its origin, and what will be done. The form of `ocirt plan` and of the golden files.

        Operations in a row that do the same share a line, up to some length.
        """
        rows = _rows(self.host_ops)
        rows += [("/linux/namespaces", line) for line in self._namespace_lines()]
        rows += _rows((*self.entry_ops, *self.ops))
        width = max((len(origin) for origin, _ in rows), default=0)
        return "".join(f"{one_line(origin):<{width}}  {one_line(text)}\n" for origin, text in rows)

    def to_json(self) -> dict[str, Any]:
        """The same as data: every attribute of every operation."""

        def plain(op: Op) -> dict[str, Any]:
            values = {f.name: getattr(op, f.name) for f in fields(op) if f.name not in ("origin", "tolerated")}
            for name, value in values.items():
                if isinstance(value, bytes):
                    values[name] = value.hex()
                elif isinstance(value, Attributes):
                    values[name] = {f.name: getattr(value, f.name) for f in fields(value)}
            return {"op": type(op).__name__, "origin": op.origin, "does": op.describe()} | values

        return {
            "namespaces": {"new": self._names(self.clone_flags), "joined": self._names(self._joined_flags())},
            "hostOperations": [plain(op) for op in self.host_ops],
            "entryOperations": [plain(op) for op in self.entry_ops],
            "operations": [plain(op) for op in self.ops],
        }

    def _joined_flags(self) -> int:
        return self.pidfd_flags | sum(kind for kind, _ in self.joins)

    @staticmethod
    def _names(flags: int) -> list[str]:
        return [name for name, (flag, _) in k.NAMESPACES.items() if flags & flag]

    def _namespace_lines(self) -> list[str]:
        lines = [f"join namespaces {', '.join(self._names(flags))}" for flags in (self._joined_flags(),) if flags]
        lines += [f"new namespaces {', '.join(self._names(flags))}" for flags in (self.clone_flags,) if flags]
        if self.flags & lib.PLAN_MAPS:
            lines.append("map the user namespace's ids")
        if self.flags & lib.PLAN_TIME_OFFSETS:
            lines.append("set the time namespace's offsets")
        return lines
