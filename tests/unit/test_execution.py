"""exec against a delete of the same container."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from ocirt import execution
from ocirt.errors import HostError, StateError


def check(error: int, *, ignore_paused: bool = False) -> None:
    def events() -> dict[str, int]:
        raise HostError("read", "/sys/fs/cgroup/c1/cgroup.events", error)

    container: Any = SimpleNamespace(id="c1")
    cgroup: Any = SimpleNamespace(events=events)
    options: Any = SimpleNamespace(ignore_paused=ignore_paused)
    execution._check_running(container, cgroup, options)


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENODEV])
def test_a_cgroup_that_was_removed_meanwhile(error: int) -> None:
    with pytest.raises(StateError, match="container not running: c1: it is gone"):
        check(error)


def test_another_error_stays() -> None:
    with pytest.raises(HostError, match="input/output error"):
        check(errno.EIO)
    check(errno.EIO, ignore_paused=True)
