"""Every operation has a test of its success and one of its failure in this folder, and its failure names its origin.

InitRunner asserts the latter of whatever fails, and keeps the record that is judged here when all else has been run.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from ocirt.errors import OcirtError
from ocirt.plan import Plan
from ocirt.protocol import OUTSIDE_OPS, Message
from tests.c import init_runner
from tests.c.init_runner import InitRunner
from tests.c.op_record import Exceptions, Record, Result, every_op

NEVER_TESTED: dict[tuple[type[ops.Op], Result], str] = {
    (ops.SetUmask, "failure"): "it keeps the mask for the program and for hooks, without a system call",
}
TOO_LONG = ops.SetHostname("/hostname", "n" * 65)


def exceptions() -> Exceptions:
    """Those of every machine and of this one."""
    if Path("/proc/self/numa_maps").exists():
        return NEVER_TESTED
    return NEVER_TESTED | {(ops.SetMemoryPolicy, "success"): "this kernel has no memory policies"}


@pytest.mark.root
@pytest.mark.cgroup
def test_success_and_failure_of_every_operation(record: Record, why_incomplete: str | None) -> None:
    if why_incomplete:
        pytest.skip(f"judges complete runs of tests/c alone: {why_incomplete}")
    complaints = record.complaints(exceptions())
    assert not complaints, "\n".join(complaints)


# ---- what the record takes for a success or a failure


PLAN = Plan((ops.OpenProc("/a"),), (ops.SetUmask("/b", 0), ops.SetDomainname("/c", "n", tolerated=(errno.EPERM,))))


def failure(index: int, detail: str = "") -> Message:
    return Message(lib.MESSAGE_FAILED, index, errno.EIO, 0, detail)


def test_what_comes_before_is_a_success() -> None:
    record = Record()
    record.went_on(PLAN, OUTSIDE_OPS)
    record.went_on(PLAN, 0)
    assert record.seen == set()
    record.went_on(PLAN, 1)
    assert record.seen == {(ops.OpenProc, "success")}


def test_what_may_have_been_tolerated_is_no_success() -> None:
    record = Record()
    record.ended(PLAN)
    assert record.seen == {(ops.OpenProc, "success"), (ops.SetUmask, "success")}


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        (failure(1, "umask"), {(ops.SetUmask, "failure")}),
        (failure(1, "invalid plan: offset"), set()),
        (failure(OUTSIDE_OPS, "clone3"), set()),
    ],
)
def test_what_is_a_failure(message: Message, seen: set[object]) -> None:
    record = Record()
    record.failed(PLAN, message)
    assert record.seen == seen


def test_complaints() -> None:
    both: set[tuple[type[ops.Op], Result]] = {(op, "success") for op in every_op()}
    both |= {(op, "failure") for op in every_op()}
    assert Record(both).complaints({}) == []
    assert Record(both - {(ops.Pivot, "failure")}).complaints({}) == ["Pivot: no test of its failure"]
    assert Record(both - {(ops.Pivot, "success")}).complaints({(ops.Pivot, "success"): "why"}) == []
    expected = ["Pivot: its failure is tested: take it out of the exceptions"]
    assert Record(both).complaints({(ops.Pivot, "failure"): "why"}) == expected


def test_every_operation_of_plan_h_is_judged() -> None:
    names = {"OP_" + "".join("_" + c if c.isupper() else c for c in op.__name__)[1:].upper() for op in every_op()}
    assert names == {name for name in dir(lib) if name.startswith("OP_")} - {"OP_NONE", "OP_COUNT"}


# ---- the message


def test_an_operation_without_an_origin_is_named_by_its_index(init: InitRunner) -> None:
    outcome = init.run(ops.SetUmask("", 0), ops.ChangeDirectory("", "/nowhere", 0), host_ops=[ops.OpenProc("")])
    assert outcome.message == "/tests/2: enter directory /nowhere: chdir /nowhere: no such file or directory"


def test_a_failure_between_the_operations_is_the_namespaces(init: InitRunner) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        outcome = init.run(slots=[null], joins=[(k.CLONE_NEWUTS, 0)])
    finally:
        os.close(null)
    assert outcome.message == "/linux/namespaces: setns 0: invalid argument"


@pytest.mark.parametrize("text", ["set hostname", "/hostnames: no", "/host: no", ""])
def test_a_message_without_the_pointer_is_not_accepted(
    init: InitRunner, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(init_runner, "plan_error", lambda plan, message: OcirtError(text))
    with pytest.raises(AssertionError, match="does not begin with /hostname"):
        init.run(TOO_LONG, clone_flags=k.CLONE_NEWUTS | k.CLONE_NEWUSER)
