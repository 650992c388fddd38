"""Processes in cgroups, for the tests of the cgroup code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.isolation import CGROUP
from tests.support.runtime import Container
from tests.support.unprivileged import cgroup_of as path_of


def cgroup_of(container: Container) -> Path:
    """The directory of a running container's cgroup."""
    return CGROUP / path_of(container.pid).removeprefix("/")


def counters(cgroup: Path, file: str) -> dict[str, int]:
    """A file of names and numbers."""
    lines = (cgroup / file).read_text().splitlines()
    return {name: int(number) for name, number in (line.split() for line in lines)}


def _join(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text("0")


def call_in(cgroup: Path, function: Callable[[], Any]) -> Any:
    """The function's result (as JSON gives it back) in a child process that has joined the cgroup."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            _join(cgroup)
            os.write(write_end, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


@contextlib.contextmanager
def process_in(cgroup: Path, *, ignore_sigterm: bool = False) -> Iterator[int]:
    """A process that waits in the cgroup; killed and reaped at the end. It has joined when the block begins."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if ignore_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _join(cgroup)
            os.write(write_end, b"1")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(write_end)
    try:
        with open(read_end, "rb") as pipe:
            assert pipe.read(1) == b"1", f"could not join {cgroup}"
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def remove_tree(cgroup: Path) -> None:
    """Removes a cgroup without processes, with all below it."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)
