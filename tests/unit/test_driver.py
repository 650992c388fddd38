"""ocirt.driver: which way ocirt-init is spawned, and what follows where the kernel refuses the short one."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from ocirt import constants as k
from ocirt import driver, ops
from ocirt._native import ffi, lib
from ocirt.assistant import Assistant
from ocirt.errors import OcirtError
from ocirt.plan import Plan

WITH_PIDS = k.CLONE_NEWPID | k.CLONE_NEWNS | k.CLONE_NEWNET
WAITS = (ops.Sync("", lib.SYNC_READY),)


def header(data: bytes) -> Any:
    return ffi.from_buffer("struct plan_header *", data[: ffi.sizeof("struct plan_header")])


@pytest.mark.parametrize(
    ("plan", "alone"),
    [
        (Plan(clone_flags=WITH_PIDS), True),
        (Plan(), True),
        (Plan(joins=((k.CLONE_NEWNET, 0),), slot_count=1, filled_slots=1), True),
        (Plan(clone_flags=WITH_PIDS | k.CLONE_NEWUSER), False),
        (Plan(joins=((k.CLONE_NEWPID, 0),), slot_count=1, filled_slots=1), False),
        (Plan(joins=((k.CLONE_NEWUSER, 0),), slot_count=1, filled_slots=1), False),
        (Plan(pidfd_flags=k.CLONE_NEWNS, pidfd_slot=0, slot_count=1, filled_slots=1), False),
    ],
)
def test_when_init_can_be_alone(plan: Plan, alone: bool) -> None:
    assert plan.can_be_alone() is alone


def test_what_init_is_born_in_it_need_not_make() -> None:
    plan = Plan(clone_flags=WITH_PIDS, flags=lib.PLAN_TIME_OFFSETS)
    born = header(plan.encode(alone=True, born_in=k.CLONE_NEWPID | k.CLONE_NEWNET))
    assert (born.clone_flags, born.flags) == (k.CLONE_NEWNS, lib.PLAN_TIME_OFFSETS | lib.PLAN_ALONE)
    usual = header(plan.encode())
    assert (usual.clone_flags, usual.flags) == (WITH_PIDS, lib.PLAN_TIME_OFFSETS)


class Refusing(Assistant):
    """Does not spawn in a new pid namespace, or not at all; with `born`, there was a process that could not execute."""

    def __init__(self, *, all_of_them: bool, born: bool = False) -> None:
        super().__init__()
        self.tried: list[bool] = []
        self._all, self._born = all_of_them, born
        self._refused = False

    def spawn(self, request: Any) -> None:
        self.tried.append(bool(request.new_pids))
        self._refused = self._all or bool(request.new_pids)
        request.born = self._born
        if not self._refused:
            super().spawn(request)

    def spawned(self) -> tuple[int, int]:
        return (-errno.EAGAIN, -1) if self._refused else super().spawned()


@pytest.mark.root
@pytest.mark.parametrize("refused", [False, True])
def test_a_refused_spawn_is_done_with_two_processes(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    encode = Plan.encode

    def encoding(plan: Plan, *, alone: bool = False, born_in: int = 0) -> bytes:
        data = encode(plan, alone=alone, born_in=born_in)
        tried.append((alone, bool(header(data).flags & lib.PLAN_ALONE), header(data).clone_flags & k.CLONE_NEWPID))
        return data

    monkeypatch.setattr(Plan, "encode", encoding)
    assistant = Refusing(all_of_them=False) if refused else Assistant()
    plan = Plan(ops=WAITS, clone_flags=k.CLONE_NEWPID)
    with driver.Session.start(plan, assistant=assistant) as session:
        seen = []
        session.serve({lib.SYNC_READY: lambda session, _: seen.append(session.pid)}, lambda one: seen.append(one.pid))
        inside = os.readlink(f"/proc/{session.pid}/ns/pid")
        assert seen == [session.pid] * 2
        assert inside != os.readlink("/proc/self/ns/pid")
        session.end()
    assert tried == [(True, True, 0)] + [(False, False, k.CLONE_NEWPID)] * refused
    assert not isinstance(assistant, Refusing) or assistant.tried == [True, False]


@pytest.mark.parametrize(("born", "tried"), [(False, [True, False]), (True, [True])])
def test_a_spawn_that_fails_is_an_error(born: bool, tried: list[bool]) -> None:
    """At once where there was a process, which could not execute."""
    assistant = Refusing(all_of_them=True, born=born)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OcirtError, match="clone3 ocirt-init: resource temporarily unavailable"):
        driver.Session.start(Plan(ops=WAITS, clone_flags=k.CLONE_NEWPID), assistant=assistant)
    assert len(os.listdir("/proc/self/fd")) == before
    assert assistant.tried == tried
