"""The plan's encoding: one layout for C and Python, nothing lost, nothing that the decoder would refuse."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt import ops
from ocirt._native import ffi, lib
from ocirt.errors import SpecError
from ocirt.plan import Plan

HEADER_BYTES = ffi.sizeof("struct plan_header")
CLASSES = ops.Op.__subclasses__()


def snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


def header_of(data: bytes) -> Any:
    return ffi.from_buffer("struct plan_header *", data)


def records_of(data: bytes) -> list[tuple[int, Any]]:
    """(opcode, struct) of every record."""
    header, at, found = header_of(data), HEADER_BYTES, []
    names = {getattr(lib, f"OP_{snake(cls.__name__).upper()}"): snake(cls.__name__) for cls in CLASSES}
    for _ in range(header.op_count):
        head = ffi.cast("struct op_head *", ffi.from_buffer(data) + at)
        found.append((head.opcode, ffi.cast(f"struct op_{names[head.opcode]} *", head)))
        at += head.bytes
    assert at == HEADER_BYTES + header.op_bytes
    return found


def string_at(data: bytes, offset: int) -> str | None:
    start = HEADER_BYTES + header_of(data).op_bytes + offset
    return data[start : data.index(b"\0", start)].decode("utf-8", "surrogateescape") if offset else None


def test_every_opcode_has_its_class() -> None:
    assert {getattr(lib, f"OP_{snake(cls.__name__).upper()}") for cls in CLASSES} == set(range(1, lib.OP_COUNT))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_class_and_struct_have_the_same_fields(cls: type[ops.Op]) -> None:
    struct_fields = {name for name, _ in ffi.typeof(f"struct op_{snake(cls.__name__)}").fields}
    assert struct_fields - {"head", "reserved"} == {f.name for f in fields(cls)} - {"origin", "tolerated"}


def test_attributes_have_the_fields_of_the_struct() -> None:
    names = [name for name, _ in ffi.typeof("struct mount_attributes").fields]
    assert names == [f.name for f in fields(ops.Attributes)]


def test_what_goes_in_is_in_the_bytes() -> None:
    attributes = ops.Attributes(1, 2, 3, 4, 5, 6)
    mount = ops.MountFs(
        "/mounts/0", "tmpfs", "none", "/tmp", ("size=1m", "mode=755"), lib.MOUNT_TAKE_OVER, 1, attributes
    )
    plan = Plan(host_ops=(ops.OpenProc(""),), ops=(mount, ops.SetRlimit("", 7, 2**64 - 1, 5)), slot_count=2)
    data = plan.encode()
    header = header_of(data)
    assert (header.magic, header.bytes, header.op_count, header.host_op_count) == (lib.PLAN_MAGIC, len(data), 3, 1)
    _, (_, record), (_, limit) = records_of(data)
    assert [string_at(data, o) for o in (record.fstype, record.source, record.target)] == ["tmpfs", "none", "/tmp"]
    start = HEADER_BYTES + header.op_bytes + record.options
    count, first, second = struct.unpack_from("=III", data, start)
    assert (count, string_at(data, first), string_at(data, second)) == (2, "size=1m", "mode=755")
    assert (record.flags, record.slot, record.attributes.set, record.attributes.recursive_propagation) == (2, 1, 1, 6)
    assert (limit.resource, limit.soft, limit.hard) == (7, 2**64 - 1, 5)


@given(st.lists(st.text(st.characters(exclude_characters="\0", categories=None, exclude_categories=["Cs"]))))
def test_strings_of_any_kind_survive(args: list[str]) -> None:
    data = Plan(ops=(ops.Execute("/process/args", tuple(args), ()),)).encode()
    ((_, record),) = records_of(data)
    start = HEADER_BYTES + header_of(data).op_bytes + record.args
    (count,) = struct.unpack_from("=I", data, start)
    offsets = struct.unpack_from(f"={count}I", data, start + 4)
    assert [string_at(data, offset) for offset in offsets] == args
    assert data[-1] == 0


def test_absent_and_empty_differ() -> None:
    data = Plan(
        ops=(ops.Remount("", "/x", None, ops.NO_ATTRIBUTES), ops.Remount("", "/x", (), ops.NO_ATTRIBUTES))
    ).encode()
    (_, absent), (_, empty) = records_of(data)
    assert absent.options == 0
    assert empty.options != 0


def test_tolerated_errnos_are_in_the_head() -> None:
    ((_, record),) = records_of(Plan(ops=(ops.NewKeyring("", "x", tolerated=(38, 1)),)).encode())
    assert list(record.head.tolerated) == [38, 1]


@pytest.mark.parametrize(
    ("op", "pointer"),
    [
        (ops.SetHostname("/hostname", "a\0b"), "/hostname"),
        (ops.Execute("/process/args", ("a", "b\0"), ()), "/process/args"),
    ],
)
def test_a_nul_is_an_error_with_the_pointer(op: ops.Op, pointer: str) -> None:
    before, after = ops.SetDomainname("/domainname", "b"), ops.MaskPath("/linux/maskedPaths/0", "/x\0")
    with pytest.raises(SpecError, match=f"^{pointer}: .*NUL"):
        Plan(ops=(before, op, after)).encode()


def test_what_is_the_same_is_kept_once() -> None:
    env, mask = ("A=1", "B=2"), b"\1\2\3"
    execute = ops.Execute("/process/args", ("A=1",), env)
    hook = ops.RunHook("", "A=1", env, env, "B=2", "")
    data = Plan(ops=(hook, ops.SetCpuAffinity("", mask), ops.SetCpuAffinity("", mask), execute)).encode()
    (_, first), (_, one), (_, other), (_, last) = records_of(data)
    assert first.args == first.env == last.env != last.args
    assert one.mask == other.mask
    start = HEADER_BYTES + header_of(data).op_bytes
    assert (one.mask % 8, data[start + one.mask + 8 :][: len(mask)]) == (0, mask)
    assert data.count(b"A=1\0") == data.count(b"B=2\0") == 1


@pytest.mark.parametrize(
    "plan",
    [
        Plan(ops=(ops.Bind("", "/x", 0),), slot_count=1),
        Plan(ops=(ops.Bind("", "/x", 0), ops.OpenTree("", "/", 0, 0)), slot_count=1),
        Plan(ops=(ops.OpenTree("", "/", 0, 1),), slot_count=1),
        Plan(joins=((0x20000000, 0),), slot_count=1),
        Plan(pidfd_flags=1, pidfd_slot=3, slot_count=4, filled_slots=3),
        Plan(slot_count=lib.PLAN_MAX_SLOTS + 1),
        Plan(ops=(ops.WaitStart("", 0, 1),), slot_count=2, filled_slots=1),
    ],
)
def test_a_slot_that_nothing_has_filled_is_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="slot"):
        plan.encode()


def test_a_record_of_op_knows_its_place() -> None:
    host, inside = ops.OpenProc(""), ops.SetHostname("/hostname", "x")
    plan = Plan(host_ops=(host,), ops=(inside,))
    assert (plan.at(0), plan.at(1), plan.at(2), plan.at(0xFFFFFFFF)) == (host, inside, None, None)


def test_rendered_text_has_no_control_characters() -> None:
    assert "\x1b" not in Plan(ops=(ops.SetHostname("/hostname", "a\x1b[2J\nb"),)).render()
