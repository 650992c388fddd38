"""Signals as callers write them: 9, KILL, SIGKILL, sigkill, RTMIN+3, RTMAX-1."""

from __future__ import annotations

import re
import signal

from ocirt.errors import UsageError

# The numbers that glibc gives to programs: its own threads use 32 and 33. A runtime that is linked to another libc must
# not send another signal for the same word.
_REALTIME = {"RTMIN": 34, "RTMAX": 64}
_LAST = 64
_REALTIME_FORM = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?", re.ASCII)


def parse_signal(text: str) -> int:
    """The signal's number, 0 (which asks whether the process is there) to 64. Raises UsageError."""
    number = -1
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        number = int(text)
    else:
        name = text.upper().removeprefix("SIG")
        realtime = _REALTIME_FORM.fullmatch(name)
        if realtime:
            base, sign, offset = realtime.groups("0")
            number = _REALTIME[base] + (-int(offset) if sign == "-" else int(offset))
            number = number if _REALTIME["RTMIN"] <= number else -1
        elif f"SIG{name}" in signal.Signals.__members__:
            number = signal.Signals[f"SIG{name}"]
    if not 0 <= number <= _LAST:
        raise UsageError(f'unknown signal "{text}"')
    return int(number)
