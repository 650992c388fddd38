"""Every way to write a signal."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import UsageError
from ocirt.signals import parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[(word, 9) for word in ("9", "KILL", "SIGKILL", "sigkill", "kill", "SigKill", "09")],
        ("0", 0),
        ("64", 64),
        ("TERM", 15),
        ("CLD", signal.SIGCHLD),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmin+30", 64),
        ("RTMAX", 64),
        ("RTMAX-1", 63),
        ("RTMAX-30", 34),
    ],
)
def test_accepted(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "65", "-9", "+9", " 9", "9 ", "٩", "9" * 30, "BOGUS", "SIG", "SIGSIGKILL", "SIG_DFL", "KILL\n"),
        *("RTMIN+31", "RTMIN-1", "RTMIN+", "RTMIN+٣", "RTMAX+1", "RTMAX-31"),
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        parse_signal(text)


@given(st.text())
def test_a_signal_or_an_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= parse_signal(text) <= 64


@pytest.mark.skipif(shutil.which("kill") is None, reason="kill(1) isn't installed")
@pytest.mark.parametrize("number", range(1, 32))
def test_names_are_those_of_kill(number: int) -> None:
    name = subprocess.run(["kill", "-l", str(number)], capture_output=True, text=True, check=True).stdout.strip()
    assert parse_signal(name) == number
