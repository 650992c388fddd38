"""Standing in for a foreground container: its signals, its terminal, its orphans and its exit code.

Signals that the caller sends go to the container's process through its pidfd; SIGWINCH resizes its terminal; SIGCHLD
means orphans to reap, since a foreground run is a subreaper. One poll loop, no polling by time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence

from ocirt._native import ffi, lib
from ocirt.errors import HostError
from ocirt.terminal import Relay

# Not caught: what cannot be, what the runtime itself raises, and 32 and 33, which are libc's.
_LEFT_ALONE = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, 32, 33}
_LEFT_ALONE |= {signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
_CAUGHT = sum(1 << (number - 1) for number in range(1, 65) if number not in _LEFT_ALONE)
_SIGINFO_BYTES = 128  # struct signalfd_siginfo, which begins with the number as 32 bits


@contextlib.contextmanager
def caught_signals() -> Iterator[int]:
    """All signals caught: yields a descriptor to read them from. Raises HostError.

    To be entered before the container's program runs, as runc does: what it is sent from its first moment on is
    forwarded, and kills nobody here.
    """
    before = ffi.new("struct caught_signals *")
    fd = lib.ocirt_catch_signals(_CAUGHT, before)
    if fd < 0:
        raise HostError("signalfd", "", -fd)
    try:
        yield fd
    finally:
        lib.ocirt_release_signals(fd, before)


def _read_signals(fd: int) -> list[int]:
    """The numbers of some signals that have arrived; there may be more."""
    data = os.read(fd, 16 * _SIGINFO_BYTES)
    return [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), _SIGINFO_BYTES)]


def wait_foreground(signals_fd: int, pid: int, pidfd: int, relay: Relay | None) -> int:
    """Wait for the container's process, our child; its exit code, or 128 plus the signal that killed it.

    What it has written to its terminal is then passed on as far as the caller takes it; a signal ends that.
    """
    code: int | None = None
    numbers: list[int] = []
    while code is None:
        _, numbers, ended = _poll(signals_fd, pidfd, relay)
        _forward(numbers, pid, pidfd, relay)
        if ended:
            code = _exit_code(pidfd)
    if relay:
        relay.end_input()
        copied = True
        while copied and not set(numbers) - {signal.SIGCHLD, signal.SIGWINCH}:
            copied, numbers, _ = _poll(signals_fd, -1, relay)
    return code


def _poll(signals_fd: int, pidfd: int, relay: Relay | None) -> tuple[bool, list[int], bool]:
    """Wait for what comes, and copy: whether there may be more, the signals' numbers, whether pidfd is ready.

    Without a pidfd (-1) it waits only for output to be taken.
    """
    poll = select.poll()
    poll.register(signals_fd, select.POLLIN)
    if pidfd >= 0:
        poll.register(pidfd, select.POLLIN)
    for fd, events in relay.interest().items() if relay else ():
        poll.register(fd, events)
    waits = pidfd >= 0 or (relay is not None and relay.pending)
    ready = {fd for fd, _ in poll.poll(None if waits else 0)}
    numbers = _read_signals(signals_fd) if signals_fd in ready else []
    if relay:
        for fd in ready - {signals_fd, pidfd}:
            relay.handle(fd)
    copying = bool(ready - {signals_fd, pidfd}) or bool(relay and relay.pending)
    return copying, numbers, pidfd in ready


def _forward(numbers: Sequence[int], pid: int, pidfd: int, relay: Relay | None) -> None:
    for number in numbers:
        if number == signal.SIGCHLD:
            _reap_orphans(pid)
        elif number == signal.SIGWINCH and relay:
            relay.resize()
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)


def _reap_orphans(pid: int) -> None:
    """Reap what has ended, but for the container's process, whose status is still to be read."""
    with contextlib.suppress(ChildProcessError):
        while info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if info.si_pid == pid:
                return
            os.waitid(os.P_PID, info.si_pid, os.WEXITED | os.WNOHANG)


def _exit_code(pidfd: int) -> int | None:
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status
