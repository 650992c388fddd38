"""events: what a container uses, and that the kernel killed one of its processes for want of memory.

One JSON object a line. Statistics come by time, the rest when it happens: memory.events and cgroup.events wake up who
polls them (cgroup-v2.rst). The command ends with the last process of the container, or when nobody reads it any more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable

from ocirt.cgroup.directory import Cgroup, failure, parse_keyed
from ocirt.cgroup.paths import REMOVED
from ocirt.cgroup.stats import compile_stats, probe_stats_files
from ocirt.cli import Args, Context
from ocirt.errors import HostError, StateError, UsageError
from ocirt.membership import require_cgroup
from ocirt.output import STDOUT_FD, OutputClosedError, write_json
from ocirt.record import Status
from ocirt.state import Container

# poll(2) takes milliseconds as an int.
_LONGEST_POLL_SECONDS = 86400.0


def run(args: Args, context: Context) -> int:
    container = context.store.load(args.positional[0])
    interval = args.seconds("interval")
    if interval <= 0:
        raise UsageError("--interval must be above 0")
    status = container.status(with_pause=False)
    if status not in (Status.CREATED, Status.RUNNING):
        raise StateError(f"container not running: {container.id} is {status}", code="state.not-running")
    rdt_stats = _rdt_stats(container)
    with require_cgroup(container) as cgroup:

        def write_stats() -> None:
            data = compile_stats(probe_stats_files(cgroup), rdt_stats())
            write_json({"type": "stats", "id": container.id, "data": data}, indent=None)

        def write_oom() -> None:
            write_json({"type": "oom", "id": container.id}, indent=None)

        if args.switch("stats"):
            write_stats()
        else:
            with contextlib.suppress(CgroupGoneError):
                watch(cgroup, interval, write_stats, write_oom)
    return 0


def _rdt_stats(container: Container) -> Callable[[], dict[str, object] | None]:
    """What tells the numbers of the container's resctrl group; None where it has none."""
    from ocirt.savedspec import saved_spec

    linux = saved_spec(container).linux
    if linux is None or linux.intel_rdt is None:
        return lambda: None
    from ocirt.rdt_stats import probe_rdt_stats

    intel_rdt = linux.intel_rdt
    return lambda: probe_rdt_stats(intel_rdt, container.id)


class CgroupGoneError(Exception):
    """Somebody has removed the cgroup, so the container has ended."""


def watch(cgroup: Cgroup, interval_seconds: float, on_interval: Callable[[], None], on_oom: Callable[[], None]) -> None:
    """Call back, until no process is left in the cgroup. Raises CgroupGoneError, OutputClosedError, HostError.

    Of kills that come at once, the kernel may tell in one event.
    """
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        poll.register(STDOUT_FD, 0)  # which reports that the reader is gone
        state = _Watched.open(cgroup, "cgroup.events", poll, stack)
        memory = _Watched.open(cgroup, "memory.events", poll, stack)
        if state is None:
            raise CgroupGoneError
        kills = memory.get("oom_kill") if memory else 0
        next_time = time.monotonic() + interval_seconds
        while True:
            populated = state.get("populated")  # asked first: the last process may die of this kill
            if memory and (now_kills := memory.get("oom_kill")) > kills:
                kills = now_kills
                on_oom()
            if not populated:
                return
            left = next_time - time.monotonic()
            if left <= 0:
                _call(on_interval)
                next_time = max(next_time + interval_seconds, time.monotonic())
                continue
            for fd, _ in poll.poll(min(left, _LONGEST_POLL_SECONDS) * 1000):
                if fd == STDOUT_FD:
                    raise OutputClosedError


def _call(on_interval: Callable[[], None]) -> None:
    try:
        on_interval()
    except HostError as error:
        if error.errno in REMOVED:
            raise CgroupGoneError from None
        raise


class _Watched:
    """An open file of a cgroup that poll(2) tells the changes of, once it has been read."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd, self._path = fd, path

    @classmethod
    def open(cls, cgroup: Cgroup, name: str, poll: select.poll, stack: contextlib.ExitStack) -> _Watched | None:
        """None where there is no such file."""
        path = f"{cgroup.where}/{name}"
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=cgroup.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, "open", path) from None
        stack.callback(os.close, fd)
        poll.register(fd, select.POLLPRI)
        return cls(fd, path)

    def get(self, key: str) -> int:
        """The value of a key, which some older kernels lack. Raises CgroupGoneError, HostError."""
        try:
            text = os.pread(self._fd, 4096, 0).decode()
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise CgroupGoneError from None
            raise failure(error, "read", self._path) from None
        return parse_keyed(text).get(key, 0)
