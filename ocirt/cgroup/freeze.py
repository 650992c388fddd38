"""Stopping all processes of a cgroup, and letting them run again (cgroup.freeze, Linux 5.2).

Guarantees: after freeze() not one of them runs, be it in a cgroup below; when that cannot be reached they all run on.
Waiting is for the kernel's events and ends at a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import time

from ocirt.cgroup.directory import Cgroup
from ocirt.errors import HostError, StateError

DEADLINE_SECONDS = 10.0


def freeze(cgroup: Cgroup, deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Raises HostError, EBUSY at the deadline: a process that sleeps in a driver stops only when it wakes."""
    try:
        cgroup.write("cgroup.freeze", "1")
        _wait(cgroup, 1, deadline_seconds, "a process cannot be stopped; all go on")
    except BaseException:
        with contextlib.suppress(HostError):
            cgroup.write("cgroup.freeze", "0")
        raise


def thaw(cgroup: Cgroup, deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Raises StateError, and changes nothing, where a cgroup above is frozen; HostError, EBUSY at the deadline."""
    if is_frozen_from_above(cgroup):
        raise StateError(f"cannot resume: a cgroup above {cgroup.where} is frozen", code="cgroup.frozen")
    cgroup.write("cgroup.freeze", "0")
    _wait(cgroup, 0, deadline_seconds, "the processes do not run yet")


def is_to_freeze(cgroup: Cgroup) -> bool:
    """Whether someone froze this very cgroup, though its processes may not have stopped yet."""
    return cgroup.read("cgroup.freeze").strip() == "1"


def is_frozen_from_above(cgroup: Cgroup) -> bool:
    try:
        return cgroup.keyed("../cgroup.events")["frozen"] == 1
    except HostError as error:
        if error.errno == errno.ENOENT:  # the root of the hierarchy is never frozen
            return False
        raise


def _wait(cgroup: Cgroup, frozen: int, deadline_seconds: float, hint: str) -> None:
    if not cgroup.wait_event("frozen", frozen, time.monotonic() + deadline_seconds):
        raise HostError("poll", f"{cgroup.where}/cgroup.events", errno.EBUSY, hint=hint)
