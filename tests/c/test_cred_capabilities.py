"""SET_CAPABILITIES, DROP_BOUNDING and SET_NO_NEW_PRIVILEGES."""

from __future__ import annotations

import errno

import pytest

from ocirt import constants as k
from ocirt import ops
from tests.c.init_runner import InitRunner, failing, shell, status_field

STATUS = shell("cat /proc/self/status")
POINTER = "/process/capabilities"
CHOWN, KILL, SETPCAP, RAW = (k.CAPABILITY_BITS[f"CAP_{name}"] for name in ("CHOWN", "KILL", "SETPCAP", "NET_RAW"))
OWN = k.CLONE_NEWUSER


def bits(outcome: object, name: str) -> int:
    return int(status_field(outcome, name), 16)  # type: ignore[arg-type]


def test_no_new_privileges(init: InitRunner) -> None:
    outcome = init.run(ops.SetNoNewPrivileges("/process/noNewPrivileges"), *STATUS)
    assert status_field(outcome, "NoNewPrivs") == "1"


def test_no_new_privileges_that_are_refused(init: InitRunner) -> None:
    again = ops.SetNoNewPrivileges("/process/noNewPrivileges")
    outcome = init.run(ops.SetNoNewPrivileges(""), failing(prctl=errno.EINVAL), again)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "prctl PR_SET_NO_NEW_PRIVS")


def test_bounding_set(init: InitRunner) -> None:
    outcome = init.run(ops.DropBounding(POINTER, CHOWN | KILL), *STATUS, clone_flags=OWN)
    assert bits(outcome, "CapBnd") == CHOWN | KILL


def test_bounding_set_without_setpcap(init: InitRunner) -> None:
    without = ops.SetCapabilities("", KILL, KILL, 0, 0)
    outcome = init.run(without, ops.DropBounding(POINTER, k.ALL_CAPABILITIES & ~CHOWN), clone_flags=OWN)
    assert (outcome.error, outcome.detail) == (errno.EPERM, "prctl PR_CAPBSET_DROP capability 0")


def test_bounding_set_that_is_to_stay_needs_no_privileges(init: InitRunner) -> None:
    without = ops.SetCapabilities("", 0, 0, 0, 0)
    assert init.run(without, ops.DropBounding(POINTER, k.ALL_CAPABILITIES), *STATUS, clone_flags=OWN).text()


@pytest.mark.root
def test_capabilities_survive_the_change_of_user(init: InitRunner) -> None:
    """Without ambient ones, execve(2) takes them from a user who is not root; inheritable ones stay for files."""
    user = ops.SetUser("", 1234, 1234)
    sets = ops.SetCapabilities(POINTER, KILL, KILL | CHOWN, KILL | CHOWN, KILL | CHOWN)
    outcome = init.run(user, sets, *STATUS)
    assert bits(outcome, "CapAmb") == KILL | CHOWN
    assert bits(outcome, "CapPrm") == KILL | CHOWN
    assert bits(outcome, "CapEff") == KILL | CHOWN
    assert bits(outcome, "CapInh") == KILL | CHOWN


@pytest.mark.root
def test_user_without_ambient_capabilities_has_none(init: InitRunner) -> None:
    """CVE-2022-29162: and nothing is inheritable that was not asked for."""
    outcome = init.run(ops.SetUser("", 1234, 1234), ops.SetCapabilities(POINTER, KILL, KILL, 0, 0), *STATUS)
    assert {bits(outcome, name) for name in ("CapAmb", "CapPrm", "CapEff", "CapInh")} == {0}


def test_sets_are_cut_down_to_what_was_asked_for(init: InitRunner) -> None:
    plan = (ops.DropBounding(POINTER, KILL | RAW), ops.SetCapabilities(POINTER, KILL, KILL | RAW, RAW, 0))
    outcome = init.run(*plan, *STATUS, clone_flags=OWN)
    assert bits(outcome, "CapPrm") == KILL | RAW  # execve(2) gives root what the bounding set allows
    assert bits(outcome, "CapInh") == RAW
    assert bits(outcome, "CapAmb") == 0


def test_earlier_ambient_capabilities_are_cleared(init: InitRunner) -> None:
    before = ops.SetCapabilities("", KILL, KILL, KILL, KILL)
    outcome = init.run(before, ops.SetCapabilities(POINTER, KILL, KILL, KILL, 0), *STATUS, clone_flags=OWN)
    assert bits(outcome, "CapAmb") == 0


def test_highest_capability(init: InitRunner) -> None:
    """Of the second half of capset(2)'s structure."""
    highest = k.CAPABILITY_BITS["CAP_CHECKPOINT_RESTORE"]
    outcome = init.run(ops.SetCapabilities(POINTER, highest, highest, highest, highest), *STATUS, clone_flags=OWN)
    assert bits(outcome, "CapAmb") == highest


def test_what_is_not_there_cannot_be_had(init: InitRunner) -> None:
    without = ops.SetCapabilities("", 0, 0, 0, 0)
    outcome = init.run(without, ops.SetCapabilities(POINTER, KILL, KILL, 0, 0), clone_flags=OWN)
    assert (outcome.error, outcome.detail) == (errno.EPERM, "capset")


def test_ambient_needs_inheritable(init: InitRunner) -> None:
    outcome = init.run(ops.SetCapabilities(POINTER, KILL, KILL, 0, KILL), clone_flags=OWN)
    assert (outcome.error, outcome.detail) == (errno.EPERM, "prctl PR_CAP_AMBIENT_RAISE capability 5")
