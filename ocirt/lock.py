"""flock(2) with a deadline. A lock goes with the descriptor: a command that is killed lets go of it."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DEADLINE_SECONDS = 10.0


def try_lock(fd: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Take the lock (LOCK_EX or LOCK_SH) if it is free. Raises OSError."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(fd: int, deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Take the lock, waiting for it. Raises TimeoutError, OSError.

    flock(2) has no timeout of its own. The timer repeats: a first signal may come just before the call.
    """
    if try_lock(fd):
        return

    def expire(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    try:
        signal.setitimer(signal.ITIMER_REAL, deadline_seconds, 0.1)
        fcntl.flock(fd, fcntl.LOCK_EX)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGALRM, before)


def unlock(fd: int) -> None:
    """Let go of the lock, which closing the descriptor would do, too."""
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def locked(fd: int) -> Iterator[None]:
    """Hold the lock for a moment. Raises TimeoutError, OSError."""
    wait_for_lock(fd)
    try:
        yield
    finally:
        unlock(fd)
