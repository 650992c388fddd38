"""The plan: the operations with every decision taken, as data, as bytes for ocirt-init, and as text for a person.

`ocirt plan` prints the object that `create` encodes: what is shown is what runs. The layout is c_ext/plan.h's, read
through cffi, so that there is no second description of it. The encoder refuses what the decoder would: a slot that is
read before it is filled, a string with a NUL, a record too long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import accumulate, chain, compress, count
from operator import add, attrgetter
from typing import Any

from ocirt import constants as k
from ocirt._native import ffi, lib
from ocirt.errors import SpecError, one_line
from ocirt.ops import (
    AttachRoot,
    Attributes,
    Bind,
    CloseDescriptors,
    Execute,
    JoinCgroup,
    MountFs,
    Op,
    OpenTree,
    SetMountAttributes,
    WaitStart,
)

_UINT_FORMATS = {"uint16_t": "H", "uint32_t": "I", "uint64_t": "Q", "int32_t": "i"}
# Characters of a line of `ocirt plan` that several operations share.
_SHARED_LINE_LENGTH = 80
# The attributes that are slots: those that the operation reads, and those that it fills.
_SLOTS: dict[type[Op], tuple[tuple[str, ...], tuple[str, ...]]] = {
    OpenTree: ((), ("slot",)),
    MountFs: ((), ("slot",)),
    Bind: (("tree",), ("slot",)),
    AttachRoot: (("tree",), ()),
    SetMountAttributes: (("slot",), ()),
    JoinCgroup: (("slot",), ()),
    WaitStart: (("start", "result"), ()),
    CloseDescriptors: (("start", "result"), ()),
}


class _NulError(ValueError):
    """A string holds a NUL."""


class _Data:
    """The data section: what the values of records refer to, each string, list and blob of bytes once.

    `offset_or(value, value)` is what stands for a value in a record: its offset, 0 for None ("absent"), or a number
    itself, which refers to nothing.
    """

    def __init__(self, values: Collection[object]) -> None:
        lists = _those_of(tuple, values)
        strings = _those_of(str, _with_items(values))
        encoded = "\0".join((*strings, "")).encode("utf-8", "surrogateescape")
        if encoded.count(b"\0") != len(strings):
            raise _NulError
        self.bytes = bytearray(8) + encoded
        # Each begins behind those before it and a NUL for each of these.
        starts = map(add, accumulate(map(len, encoded.split(b"\0")), initial=8), count())
        self._offsets: dict[object, int] = dict(zip(strings, starts, strict=False))
        self._offsets[None] = 0
        self.offset_or: Callable[[object, Any], int] = self._offsets.get
        for items in lists:
            numbers = map(self.offset_or, items, items)
            self._add(items, 4, struct.pack(f"={len(items) + 1}I", len(items), *numbers))
        for blob in _those_of(bytes, values):
            self._add(blob, 8, struct.pack("=II", len(blob), 0) + blob)

    def _add(self, value: object, alignment: int, data: bytes) -> None:
        self.bytes += bytes(-len(self.bytes) % alignment)
        self._offsets[value] = len(self.bytes)
        self.bytes += data


def _with_items(values: Collection[object]) -> Iterable[object]:
    """The values, and what the lists among them have."""
    return chain(values, *_those_of(tuple, values))


def _those_of(kind: type, values: Iterable[object]) -> dict[Any, None]:
    """The values of a type, each once."""
    return dict.fromkeys(filter(kind.__instancecheck__, values))


def _nul_error(rows: Iterable[tuple[Op, tuple[Any, ...]]]) -> SpecError:
    """With the origin of the first operation that has such a string."""
    origins = (op.origin for op, row in rows if any("\0" in text for text in _those_of(str, _with_items(row))))
    return SpecError(next(origins), "a string holds a NUL character")


def _tuple_getter(names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    """attrgetter() gives a tuple for several names alone."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    get = attrgetter(names[0])
    return lambda op: (get(op),)


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class _Layout:
    """How one class of operations is packed, found out once: encoding is then a few calls an operation.

    `values` gives what the record of an operation has, in order. `pack` takes the two errnos, and the record's numbers.
    """

    def __init__(self, cls: type[Op]) -> None:
        name = _snake(cls.__name__)
        ctype = ffi.typeof(f"struct op_{name}")
        attributes = {f.name for f in fields(cls)} - {"origin", "tolerated"}
        names: list[str] = []
        form = "=HHHH"
        for field_name, field in ctype.fields[1:]:
            if field_name == "reserved":
                form += "x" * ffi.sizeof(field.type)
                continue
            attributes.remove(field_name)
            members = field.type.fields if field.type.kind == "struct" else [("", field)]
            names += [f"{field_name}.{member}".rstrip(".") for member, _ in members]
            form += "".join(_UINT_FORMATS[member.type.cname] for _, member in members)
        size = ffi.sizeof(ctype)
        form += "x" * (size - struct.calcsize(form))
        if attributes or struct.calcsize(form) != size:
            raise TypeError(f"{cls.__name__} and struct op_{name} differ: {attributes or form}")
        self.values = _tuple_getter(names)
        self.pack = partial(struct.Struct(form).pack, getattr(lib, f"OP_{name.upper()}"), size)


_LAYOUTS = {cls: _Layout(cls) for cls in Op.__subclasses__()}


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

    def can_be_alone(self) -> bool:
        """Whether ocirt-init can be the container's init itself (PLAN_ALONE).

        An execve(2) in a new user namespace without mappings loses its capabilities, and a process that joins a pid
        namespace isn't in it, its children are.
        """
        elsewhere = k.CLONE_NEWUSER | k.CLONE_NEWPID
        joined = any(kind & elsewhere for kind, _ in self.joins)
        return not joined and not self.pidfd_flags and not self.clone_flags & k.CLONE_NEWUSER

    def encode(self, *, alone: bool = False, born_in: int = 0) -> bytes:
        """The bytes of the plan, for an ocirt-init that is born in some of the new namespaces (CLONE_NEW*).

        Raises SpecError for a string with NUL, ValueError for a plan that makes no sense.
        """
        self.check_slots()
        operations = self.all_ops()
        layouts = [_LAYOUTS[type(op)] for op in operations]
        rows = [layout.values(op) for layout, op in zip(layouts, operations, strict=True)]
        try:
            data = _Data(dict.fromkeys(chain.from_iterable(rows)))
        except _NulError:
            raise _nul_error(zip(operations, rows, strict=True)) from None
        records = [
            layout.pack(*(*op.tolerated, 0, 0)[:2], *map(data.offset_or, row, row))
            for layout, op, row in zip(layouts, operations, rows, strict=True)
        ]
        data.bytes.append(0)
        op_bytes = b"".join(records)
        header = ffi.new(
            "struct plan_header *",
            {
                "magic": lib.PLAN_MAGIC,
                "version": lib.PLAN_VERSION,
                "bytes": ffi.sizeof("struct plan_header") + len(op_bytes) + len(data.bytes),
                "op_count": len(records),
                "host_op_count": len(self.host_ops),
                "op_bytes": len(op_bytes),
                "data_bytes": len(data.bytes),
                "flags": self.flags | (lib.PLAN_ALONE if alone else 0),
                "clone_flags": self.clone_flags & ~born_in,
                "pidfd_flags": self.pidfd_flags,
                "pidfd_slot": self.pidfd_slot,
                "join_count": len(self.joins),
                "slot_count": self.slot_count,
                "filled_slots": self.filled_slots,
                "user_root_uid": self.user_root_uid,
                "user_root_gid": self.user_root_gid,
                "preserve_fds": self.preserve_fds,
                "entry_op_count": len(self.entry_ops),
                "joins": list(self.joins),
            },
        )
        return b"".join((ffi.buffer(header), op_bytes, data.bytes))

    def check_slots(self) -> None:
        """Raises ValueError where a slot is read before it is filled, or is beyond the plan's slots."""
        filled = set(range(self.filled_slots))
        entered = [slot for _, slot in self.joins] + ([self.pidfd_slot] if self.pidfd_flags else [])
        if self.slot_count > lib.PLAN_MAX_SLOTS or not filled.issuperset(entered):
            raise ValueError(f"slots {entered} of {self.slot_count} are not filled at the spawn")
        operations = self.all_ops()
        for op in compress(operations, map(_SLOTS.__contains__, map(type, operations))):
            kind = type(op)
            reads, fills = _SLOTS[kind]
            for name in reads:
                slot = getattr(op, name)
                if slot != lib.NO_SLOT and slot not in filled:
                    raise ValueError(f"{kind.__name__} at {op.origin!r} reads slot {slot}, which nothing has filled")
            for name in fills:
                slot = getattr(op, name)
                if slot == lib.NO_SLOT:
                    continue
                if slot >= self.slot_count:
                    raise ValueError(f"{kind.__name__} at {op.origin!r} fills slot {slot} of {self.slot_count}")
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
