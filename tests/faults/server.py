"""Runs ocirt's command lines in forks of itself, which have everything imported: `server.py TRACER.so`.

A command costs a few milliseconds this way, and its first system call is one of its own doing, not of the
interpreter's start. Requests and answers are JSON, one a line, on stdin and stdout. As a subreaper it gets, and counts,
what the commands leave behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

MARKER = 0x6F636972
MAX_PROCESSES, MAX_CALLS, TEXT_BYTES = 64, 16384, 200
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class Fault(ctypes.Structure):
    """struct fault of tracer.c."""

    _fields_ = [(name, ctypes.c_int32) for name in ("process", "call", "error")]


class Outcome(ctypes.Structure):
    """struct outcome of tracer.c."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("status", "hung", "fired", "process_count")),
        ("pids", ctypes.c_int32 * MAX_PROCESSES),
        ("threads", ctypes.c_int32 * MAX_PROCESSES),
        ("counts", ctypes.c_int32 * MAX_PROCESSES),
        ("call_count", ctypes.c_int32),
        ("callers", ctypes.c_int32 * MAX_CALLS),
        ("calls", ctypes.c_int32 * MAX_CALLS),
        ("text", ctypes.c_char * TEXT_BYTES),
    ]


def import_all() -> None:
    """Every module of ocirt, and what it imports late, so that no command has to import one."""
    for name in ("encodings.ascii", "encodings.latin_1", "encodings.utf_8", "prctl"):
        importlib.import_module(name)
    package = importlib.import_module("ocirt")
    for module in pkgutil.walk_packages(package.__path__, "ocirt."):
        if not module.name.endswith((".__main__", ".generate")):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


class Command:
    """One command line, in a forked process that begins when its `gate` is closed."""

    def __init__(self, request: dict[str, Any], *, marked: bool) -> None:
        self.out_fd, self.err_fd = os.memfd_create("out"), os.memfd_create("err")
        wait_fd, self.gate = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.gate)
            self._become(request, wait_fd, marked)
        os.close(wait_fd)

    def _become(self, request: dict[str, Any], wait_fd: int, marked: bool) -> NoReturn:
        try:
            from ocirt.cli import execute

            os.environ.clear()
            os.environ.update(request.get("env") or {})
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(self.out_fd, 1)
            os.dup2(self.err_fd, 2)
            os.read(wait_fd, 1)
            os.closerange(3, 100)
            if marked:
                with contextlib.suppress(ProcessLookupError):
                    os.getpgid(MARKER)
            elif delay := request.get("delay_usec"):
                time.sleep(delay / 1e6)
            os._exit(execute(request["argv"]))
        except BaseException as error:
            os.write(2, f"Traceback: {error!r}".encode())
            os._exit(99)

    def go(self) -> None:
        os.close(self.gate)

    def result(self, status: int, **more: Any) -> dict[str, Any]:
        """What became of it, after its end."""
        texts = []
        for fd in (self.out_fd, self.err_fd):
            texts.append(os.pread(fd, 1 << 20, 0).decode(errors="backslashreplace"))
            os.close(fd)
        return {"rc": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1], **more}


def run_together(requests: list[dict[str, Any]], deadline_seconds: float) -> list[dict[str, Any]]:
    """Several commands, which begin at once."""
    commands = [Command(request, marked=False) for request in requests]
    for command in commands:
        command.go()
    deadline = time.monotonic() + deadline_seconds
    return [_wait(command, deadline) for command in commands]


def _wait(command: Command, deadline: float) -> dict[str, Any]:
    pidfd = os.pidfd_open(command.pid)
    try:
        hung = not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]
        if hung:
            os.kill(command.pid, signal.SIGKILL)
    finally:
        os.close(pidfd)
    return command.result(os.waitpid(command.pid, 0)[1], hung=hung)


def run_traced(request: dict[str, Any], tracer: Any) -> dict[str, Any]:
    """A command with a fault, or with none and its calls told. The tracer is a process: what it traces outlives it."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_fd)
            os.write(write_fd, json.dumps(_trace(request, tracer)).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    result: dict[str, Any] = json.loads(answer)
    return result


def _trace(request: dict[str, Any], tracer: Any) -> dict[str, Any]:
    fault, outcome = Fault(*request["fault"]), Outcome()
    command = Command(request, marked=True)
    deadline_msec = int(request["deadline_seconds"] * 1000)
    other = request.get("other", 0)
    arguments = (command.pid, other, command.gate, ctypes.byref(fault), ctypes.byref(outcome), deadline_msec)
    error = tracer.trace(*arguments)
    if error:
        raise OSError(error, os.strerror(error))
    calls: list[list[int]] = [[] for _ in range(outcome.process_count)]
    if fault.process < 0:
        for index in range(outcome.call_count):
            calls[outcome.callers[index]].append(outcome.calls[index])
    return command.result(
        outcome.status,
        hung=bool(outcome.hung),
        fired=outcome.fired - 1,
        text=outcome.text.decode(errors="replace"),
        calls=calls,
        threads=list(outcome.threads[: outcome.process_count]),
    )


def descendants() -> dict[int, str]:
    """The processes below this one that live, by pid; children of it that have ended are reaped."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            pass
    found: dict[int, str] = {}
    new = [os.getpid()]
    while new:
        for child in _children(new.pop()):
            with contextlib.suppress(OSError), open(f"/proc/{child}/comm", errors="replace") as file:
                found[child] = file.read().strip()
                new.append(child)
    return found


def _children(pid: int) -> list[int]:
    """proc(5): reliable where none of them ends meanwhile; who waits looks again."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(number) for number in file.read().split()]
    except OSError:
        return []


def wait_alone(except_pids: list[int], deadline_seconds: float) -> dict[int, str]:
    """The descendants but for some, once there are none any more, or when the deadline has passed."""
    deadline = time.monotonic() + deadline_seconds
    while (left := {p: n for p, n in descendants().items() if p not in except_pids}) and time.monotonic() < deadline:
        time.sleep(0.002)
    return left


def main() -> None:
    tracer = ctypes.CDLL(sys.argv[1], use_errno=True)
    # Network devices that are moved into containers are not to be the machine's.
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    import_all()
    operations: dict[str, Callable[[dict[str, Any]], Any]] = {
        "run": lambda request: run_together([request], request["deadline_seconds"])[0],
        "together": lambda request: run_together(request["commands"], request["deadline_seconds"]),
        "trace": lambda request: run_traced(request, tracer),
        "alone": lambda request: wait_alone(request["except"], request["deadline_seconds"]),
    }
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(operations[request["operation"]](request)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
