"""The client of server.py: commands of ocirt in processes that can be made to fail at any of their system calls.

`sample` chooses the points of a test: all of them where $OCIRT_FAULTS is "all", else as many as the test has time for,
spread evenly, and shifted by $OCIRT_FAULTS_SEED.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent
DEADLINE_SECONDS = 8.0
ERRORS = (errno.ENOMEM, errno.EIO, errno.EPERM, errno.ENOSPC, errno.EINTR)

# By their manual pages these have no error that could come at any moment, or are libc's own doing: an error would be
# one that no kernel gives.
CANNOT_FAIL = frozenset(
    """
    exit exit_group rt_sigreturn restart_syscall rt_sigaction rt_sigprocmask futex set_tid_address set_robust_list rseq
    arch_prctl brk munmap getpid getppid gettid getuid geteuid getgid getegid umask clock_gettime gettimeofday
    sched_yield
    """.split()
)

# Where processes begin, end and speak with each other, and files come and go: a kill here is always tried.
TURNING_POINTS = frozenset(
    """
    clone clone3 fork vfork execve execveat wait4 waitid sendmsg sendto recvmsg mkdir mkdirat rmdir rename
    renameat renameat2 unlink unlinkat mknodat linkat fsetxattr flock
    """.split()
)

T = TypeVar("T")


@cache
def syscall_names() -> Mapping[int, str]:
    """The numbers of this machine's system calls, as the compiler knows them."""
    command = ["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {int(number): name for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", text, re.MULTILINE)}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of a traced command: its process and its place among that one's calls, from 1."""

    process: int
    number: int
    name: str
    ours: bool  # and not a hook's, or of the container's program
    of_runtime: bool  # by one of its threads, and not by a process that it has started

    def __str__(self) -> str:
        return f"process {self.process}, call {self.number}, {self.name}"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command.

    `fired`: the name of the call that went wrong, "" for none. `text`: a string among its arguments, or what hung.
    """

    rc: int
    out: str
    err: str
    hung: bool = False
    fired: str = ""
    text: str = ""
    calls: tuple[Call, ...] = ()

    @property
    def unclean(self) -> str:
        """What is wrong with how it failed: no error but one line on stderr, and that within the deadline."""
        if self.hung:
            return f"hung: {self.text}"
        lines = [line for line in self.err.splitlines() if not line.startswith("ocirt: warning: ")]
        if self.rc < 0:
            return f"died by signal {-self.rc}: {self.err!r}"
        if self.rc and (len(lines) != 1 or not lines[0].startswith("ocirt")):
            return f"exit code {self.rc} without one line of error: {self.err!r}"
        if "signal wakeup fd" in self.err:
            return ""  # the interpreter's own words for an error that no kernel gives for this pipe
        if "Traceback" in self.err or "internal error" in self.err or "Exception ignored" in self.err:
            return f"internal error: {self.err!r}"
        return ""


class Server:
    """server.py at work, as a context manager."""

    def __init__(self, folder: Path, root: Path) -> None:
        tracer = folder / "tracer.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(tracer)]
        subprocess.run([*command, str(HERE / "tracer.c")], check=True, stdin=subprocess.DEVNULL)
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(HERE / "server.py"), str(tracer)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *unused: object) -> None:
        self.process.communicate(timeout=10)

    def request(self, operation: str, **more: Any) -> Any:
        """One request and its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"operation": operation, **more}).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def argv(self, arguments: Sequence[str | Path]) -> list[str]:
        return ["--root", str(self.root), *map(str, arguments)]

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """A command as it is."""
        answer = self.request("run", argv=self.argv(arguments), env=env, deadline_seconds=DEADLINE_SECONDS)
        return Done(**answer)

    def together(self, *commands: Sequence[str | Path], delays_usec: Sequence[int] = ()) -> list[Done]:
        """Commands that begin at the same moment, or as many microseconds later."""
        delays = [*delays_usec, *[0] * len(commands)]
        requests = [
            {"argv": self.argv(each), "delay_usec": delay} for each, delay in zip(commands, delays, strict=False)
        ]
        answers = self.request("together", commands=requests, deadline_seconds=2 * DEADLINE_SECONDS)
        return [Done(**answer) for answer in answers]

    def trace(self, *arguments: str | Path, other: int = 0) -> Done:
        """A command, and the calls of all its processes. `other` is the pid of one that is traced with them, as 1."""
        return self._trace([-1, 0, 0], arguments, other)

    def kill_at(self, call: Call, *arguments: str | Path, other: int = 0) -> Done:
        """A command, the process of which is killed as it enters the call."""
        return self._trace([call.process, call.number, 0], arguments, other)

    def fail_at(self, call: Call, error: int, *arguments: str | Path, other: int = 0) -> Done:
        """A command in which the call fails with the errno."""
        return self._trace([call.process, call.number, error], arguments, other)

    def _trace(self, fault: list[int], arguments: Sequence[str | Path], other: int) -> Done:
        answer = self.request(
            "trace", argv=self.argv(arguments), fault=fault, other=other, deadline_seconds=DEADLINE_SECONDS
        )
        calls: list[Call] = []
        threads = answer.pop("threads")
        for process, numbers in enumerate(answer.pop("calls")):
            for i, number in enumerate(numbers, 1):
                name = syscall_names().get(number if number >= 0 else -1 - number, "?")
                calls.append(Call(process, i, name, number >= 0, process == 0 or bool(threads[process])))
        answer["fired"] = syscall_names().get(answer["fired"], "")
        return Done(**answer, calls=tuple(calls))

    def processes(self, *expected: int, patience_seconds: float = 3.0) -> dict[str, str]:
        """What lives below the server but for the expected, given some time to end."""
        answer: dict[str, str] = self.request("alone", **{"except": expected}, deadline_seconds=patience_seconds)
        return answer


def is_complete() -> bool:
    """Whether all points are wanted, however long it takes."""
    return os.environ.get("OCIRT_FAULTS") == "all"


def seed() -> int:
    """Another number chooses other points."""
    return int(os.environ.get("OCIRT_FAULTS_SEED", "0"))


def sample(points: Sequence[T], count: int) -> list[T]:
    """Some of the points in their order, evenly spread: the same ones at every run with the same seed."""
    if is_complete() or len(points) <= count:
        return list(points)
    chance = random.Random(seed())
    step = len(points) / count
    return [points[int(i * step + chance.random() * step)] for i in range(count)]


def sample_calls(calls: Sequence[Call], count: int) -> list[Call]:
    """Some of the calls, and all turning points."""
    chosen = set(sample(calls, count))
    return [call for call in calls if call.name in TURNING_POINTS or call in chosen]
