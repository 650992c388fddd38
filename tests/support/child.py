"""Forked processes for tests: without an interpreter's start, and with everything that the test has at hand."""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable

PR_SET_NAME = 15


def in_child(function: Callable[[], object]) -> int:
    """Run the function in a forked process, which exits with 0, or with 1 when it raises; the pid."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def rename_process(name: bytes) -> None:
    """Give this process a name, as /proc/PID/comm and stat show it."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)
