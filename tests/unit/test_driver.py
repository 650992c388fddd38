"""ocirt.driver: which way ocirt-init is spawned, and what follows where the kernel refuses the short one."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

import pytest

from ocirt import constants as k
from ocirt import driver, ops
from ocirt._native import ffi, lib
from ocirt.errors import HostError, OcirtError
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


@pytest.mark.root
@pytest.mark.parametrize("refused", [False, True])
def test_a_refused_spawn_is_done_with_two_processes(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    spawn = driver._spawn

    def refusing(
        request: Any, fds: Sequence[int], data: bytes, alone: bool, new_pids: int
    ) -> driver.Spawned | HostError:
        tried.append((alone, bool(header(data).flags & lib.PLAN_ALONE), header(data).clone_flags & k.CLONE_NEWPID))
        if alone and refused:
            return HostError("clone3", "ocirt-init", errno.ENOSPC)
        return spawn(request, fds, data, alone, new_pids)

    monkeypatch.setattr(driver, "_spawn", refusing)
    with driver.Session.start(Plan(ops=WAITS, clone_flags=k.CLONE_NEWPID)) as session:
        seen = []
        session.serve({lib.SYNC_READY: lambda session, _: seen.append(session.pid)}, lambda one: seen.append(one.pid))
        inside = os.readlink(f"/proc/{session.pid}/ns/pid")
        assert seen == [session.pid] * 2
        assert inside != os.readlink("/proc/self/ns/pid")
        session.end()
    assert tried == [(True, True, 0)] + [(False, False, k.CLONE_NEWPID)] * refused


@pytest.mark.parametrize(("born", "times"), [(False, 2), (True, 1)])
def test_a_spawn_that_fails_is_an_error(born: bool, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where there was a process, which could not execute."""
    tried = []

    def failing(request: Any, *_: object) -> HostError:
        request.born = born
        tried.append(request)
        return HostError("clone3", "ocirt-init", errno.EAGAIN)

    monkeypatch.setattr(driver, "_spawn", failing)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OcirtError, match="clone3 ocirt-init: resource temporarily unavailable"):
        driver.Session.start(Plan(ops=WAITS, clone_flags=k.CLONE_NEWPID))
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(tried) == times
