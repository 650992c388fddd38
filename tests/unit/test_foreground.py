"""The signals of a foreground command."""

from __future__ import annotations

import select
import signal
import threading

import pytest

from ocirt import foreground


def raise_signal(number: int) -> None:
    """To this thread: a process of pytest-xdist has others, which block nothing."""
    signal.pthread_kill(threading.get_ident(), number)


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def handling() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGRTMIN, signal.SIGRTMAX])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_is_read_and_all_is_as_before(number: int, ignored: bool) -> None:
    original = signal.getsignal(number)
    if ignored:
        signal.signal(number, signal.SIG_IGN)
    try:
        before = blocked(), handling()
        with foreground.caught_signals() as fd:
            raise_signal(number)
            assert select.select([fd], [], [], 5)[0] == [fd]
            assert number in foreground._read_signals(fd)
        assert (blocked(), handling()) == before
    finally:
        signal.signal(number, original)


def test_what_is_unread_is_dropped() -> None:
    with foreground.caught_signals():
        for _ in range(40):
            raise_signal(signal.SIGRTMIN)
        raise_signal(signal.SIGTERM)
    assert signal.SIGTERM not in signal.sigpending()


def test_many_at_once() -> None:
    with foreground.caught_signals() as fd:
        for _ in range(40):
            raise_signal(signal.SIGRTMIN)
        numbers: list[int] = []
        while select.select([fd], [], [], 0)[0]:
            numbers += foreground._read_signals(fd)
    assert numbers.count(signal.SIGRTMIN) == 40
