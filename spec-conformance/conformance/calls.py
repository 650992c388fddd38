"""The names of this machine's system calls, for profiles that allow nearly all of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import cache


@cache
def _known() -> tuple[str, ...]:
    """As the C library's headers have them."""
    command = ["gcc", "-E", "-dM", "-x", "c", "-include", "sys/syscall.h", "/dev/null"]
    output = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    return tuple(sorted(set(re.findall(r"#define SYS_(\w+)", output))))


def all_calls(but: Sequence[str] = ()) -> list[str]:
    """Every call except those."""
    return [name for name in _known() if name not in but]
