"""Standing in for a foreground container: its signals, its terminal, its orphans and its exit code.

Signals that the caller sends go to the container's process through its pidfd; SIGWINCH resizes its terminal; SIGCHLD
means orphans to reap, since a foreground run is a subreaper. One poll loop, no polling by time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

from ocirt.terminal import Relay

# Ours alone: of no use to the container, or raised by its own doing. SIGURG is the Go runtime's in other runtimes.
_NOT_FORWARDED = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH, signal.SIGSEGV}
_NOT_FORWARDED |= {signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}


@contextlib.contextmanager
def _caught_signals() -> Iterator[int]:
    """All signals caught: yields a descriptor on which their numbers arrive."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    caught = [n for n in signal.valid_signals() if n not in _NOT_FORWARDED - {signal.SIGCHLD, signal.SIGWINCH}]
    before = {}
    wakeup = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    try:
        for number in caught:
            before[number] = signal.signal(number, lambda *_: None)
        yield read_fd
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(wakeup)
        os.close(read_fd)
        os.close(write_fd)


def wait_foreground(pid: int, pidfd: int, relay: Relay | None) -> int:
    """Wait for the container's process, our child; its exit code, or 128 plus the signal that killed it.

    What it has written to its terminal is then passed on as far as the caller takes it; a signal ends that.
    """
    with _caught_signals() as signals_fd:
        code, numbers = None, b""
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


def _poll(signals_fd: int, pidfd: int, relay: Relay | None) -> tuple[bool, bytes, bool]:
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
    numbers = os.read(signals_fd, 256) if signals_fd in ready else b""
    if relay:
        for fd in ready - {signals_fd, pidfd}:
            relay.handle(fd)
    copying = bool(ready - {signals_fd, pidfd}) or bool(relay and relay.pending)
    return copying, numbers, pidfd in ready


def _forward(numbers: bytes, pid: int, pidfd: int, relay: Relay | None) -> None:
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
