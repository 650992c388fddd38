"""Runs commands through the small program in spawner.c, which times them and sees their peak memory.

Guarantees: a command that hangs is noticed; after `close` the program is gone. What the commands left running is then
this process's to end, if it is a subreaper.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "spawner.c"
BUILD = Path(__file__).parent.parent / "build"
TIMEOUT_SECONDS = 120.0
# What an engine's shim would give a runtime; the same for all.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

_LENGTH = struct.Struct("=I")
_OUTCOME = struct.Struct("=qqqq")

Command = Sequence[str]
Step = Sequence[Command]


class BenchError(Exception):
    """What keeps the benchmark from going on, in one line."""


class CommandError(BenchError):
    """A command failed; others may go on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command that has ended: times of CLOCK_MONOTONIC, its peak memory, and its exit code (-N: by signal N)."""

    begin_nsec: int
    end_nsec: int
    peak_bytes: int
    code: int

    @classmethod
    def unpack(cls, data: bytes) -> Outcome:
        """Raises CommandError where the command could not be spawned."""
        begin_nsec, end_nsec, peak_kib, status = _OUTCOME.unpack(data)
        if status < 0:
            raise CommandError(f"posix_spawn: {os.strerror(-status).lower()}")
        return cls(begin_nsec, end_nsec, peak_kib * 1024, os.waitstatus_to_exitcode(status))


def elapsed_seconds(outcomes: Sequence[Outcome]) -> float:
    """From before the first command until after the last."""
    return (max(one.end_nsec for one in outcomes) - min(one.begin_nsec for one in outcomes)) / 1e9


def build_spawner() -> Path:
    """The compiled program, made once for each version of its source. Raises BenchError without a compiler."""
    target = BUILD / f"spawner-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        # musl's is the smaller: what this program has touched is the least that a command can show.
        compiler = shutil.which("musl-gcc") or shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise BenchError("needs a C compiler")
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        flags = ["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(unfinished)]
        subprocess.run([compiler, *flags, str(SOURCE)], check=True, stdin=subprocess.DEVNULL)
        unfinished.rename(target)
    return target


def encode_request(steps: Iterable[Step]) -> bytes:
    """The words of a request, and their length before them."""
    words: list[str] = []
    for step in steps:
        words.append(str(len(step)))
        for command in step:
            words += [str(len(command)), *command]
    body = b"".join(word.encode() + b"\0" for word in words)
    return _LENGTH.pack(len(body)) + body


class Spawner:
    """The running program."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this object
        # Written at its end wherever that is: it is truncated before each request.
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(TIMEOUT_SECONDS)
        with theirs:
            # In a session of its own: Ctrl-C is for the benchmark, which then ends everything in its order.
            self._process = subprocess.Popen(
                [build_spawner(), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(self, *steps: Step) -> list[Outcome]:
        """Runs the steps one after another, the commands of each side by side; what came of each command, in order.

        Raises CommandError, with what was last written to stderr, where a command fails; the others are
        carried out all the same. Raises BenchError where they are not over in time: nothing else can be run then.
        """
        commands = [command for step in steps for command in step]
        self._log.truncate(0)
        self._socket.sendall(encode_request(steps))
        try:
            data = self._receive(_OUTCOME.size * len(commands))
        except TimeoutError:
            raise BenchError(f"{' '.join(commands[0])}: not over after {TIMEOUT_SECONDS:.0f} s") from None
        outcomes = [Outcome.unpack(data[at : at + _OUTCOME.size]) for at in range(0, len(data), _OUTCOME.size)]
        for command, outcome in zip(commands, outcomes, strict=True):
            if outcome.code != 0:
                raise CommandError(f"{' '.join(command)}: exit code {outcome.code}: {self._last_error()}")
        return outcomes

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise BenchError(f"the spawner has ended: exit code {self._process.wait()}")
            data += piece
        return data

    def _last_error(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="backslashreplace").strip().splitlines()
        return lines[-1] if lines else "nothing on stderr"

    def close(self) -> None:
        """Ends the program, also in the middle of a command."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._log.close()
