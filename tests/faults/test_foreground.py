"""A `run` in the foreground that is killed or gets signals, or whose terminal, input or output is gone or stuck."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.support import leaks
from tests.support.console import Console
from tests.support.runtime import Container, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

DEVNULL = subprocess.DEVNULL
Stream = int | IO[bytes]


@contextlib.contextmanager
def running(
    container: Container, stdin: Stream = DEVNULL, stdout: Stream = DEVNULL, *, session: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """`run` with these streams, once the container has written its file `ready`. Nothing of it is left in the end."""
    before = leaks.Snapshot.take("none")
    container.write_config()
    argv = container.runtime.argv("run", "--bundle", container.bundle, "--pid-file", container.pid_file, container.id)
    errors = (container.bundle / "errors").open("wb")
    process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=errors, start_new_session=session)
    try:
        wait_for((container.rootfs / "ready").exists)
        yield process
        process.wait(10)
        assert (container.bundle / "errors").read_bytes() == b""
    finally:
        process.kill()
        process.wait()
        errors.close()
        container.delete("--force")
    assert before.new_processes() == {}


def ends(process: subprocess.Popen[bytes], timeout_seconds: float = 5) -> int:
    return process.wait(timeout_seconds)


def test_killed(container: Container) -> None:
    """The container lives on, as with runc, and its caller's subreaper has it; it can be seen and deleted."""
    container.shell("touch /ready; exec sleep 1000")
    with running(container) as process:
        process.kill()
        process.wait()
        assert container.status == "running"
        assert container.id in container.runtime.run("list", "-q").out
        assert os.readlink(f"/proc/{container.pid}/exe").endswith("busybox")
        container.delete("--force")
        assert container.runtime.run("state", container.id, check=False).rc == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_signals_are_forwarded(container: Container, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    container.shell(f"trap 'exit {20 + number}' {name}; touch /ready; while :; do sleep 0.02; done")
    with running(container) as process:
        process.send_signal(number)
        assert ends(process) == 20 + number
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_start_is_through(container: Container, number: signal.Signals) -> None:
    """The program runs already, while a poststart hook keeps `run` from waiting for it."""
    name = number.name.removeprefix("SIG")
    container.shell(f"trap 'exit {20 + number}' {name}; touch /ready; while :; do sleep 0.02; done")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "sleep 1"]}
    container.config["hooks"] = {"poststart": [hook]}
    with running(container) as process:
        process.send_signal(number)
        assert ends(process) == 20 + number


def test_signal_that_ends_the_program(container: Container) -> None:
    container.config["linux"]["namespaces"].remove({"type": "pid"})  # as the first of one, it would not get it
    container.shell("touch /ready; exec sleep 1000")
    with running(container) as process:
        process.send_signal(signal.SIGTERM)
        assert ends(process) == 128 + signal.SIGTERM


def test_many_signals(container: Container) -> None:
    """More than the pipe has room for that they are caught in."""
    container.shell("trap 'exit 9' TERM; touch /ready; while :; do sleep 0.02; done")
    with running(container) as process:
        os.kill(process.pid, signal.SIGSTOP)
        for _ in range(3):
            for number in range(signal.SIGRTMIN, signal.SIGRTMIN + 20):
                os.kill(process.pid, number)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert ends(process) == 9


@pytest.mark.parametrize("fds", [(0,), (1,), (0, 1), (0, 1, 2)], ids=lambda fds: "".join(map(str, fds)))
@pytest.mark.parametrize("terminal", [False, True])
def test_closed_streams(container: Container, fds: tuple[int, ...], terminal: bool) -> None:
    container.process["terminal"] = terminal
    container.shell("echo hello; read line; exit 5")
    container.write_config()
    argv = container.runtime.argv("run", "--bundle", container.bundle, container.id)
    script = " ".join(["exec", *(f"{fd}<&-" for fd in fds), '"$@"'])
    process = subprocess.Popen(["sh", "-c", script, "sh", *argv], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    assert ends(process, 10) == 5
    assert not (container.runtime.root / container.id).exists()


def test_output_to_a_pipe_without_a_reader(container: Container) -> None:
    """Without a terminal the pipe is the container's own: its program gets the signal, or the error."""
    container.shell("touch /ready; sleep 0.2; echo hello 2>/dev/null || exit 7; exit 8")
    read_fd, write_fd = os.pipe()
    try:
        with running(container, stdout=write_fd) as process:
            os.close(write_fd)
            os.close(read_fd)
            assert ends(process) in (7, 128 + signal.SIGPIPE)
    finally:
        for fd in (read_fd, write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that has room for nothing."""
    read_fd, write_fd = os.pipe()
    size = fcntl.fcntl(write_fd, fcntl.F_GETPIPE_SZ)
    os.write(write_fd, b"x" * size)
    try:
        yield read_fd, write_fd
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_signals_reach_a_container_whose_output_nobody_takes(container: Container) -> None:
    """The relay keeps what it cannot write, and does not wait in write(2) for the reader."""
    container.process["terminal"] = True
    container.shell("seq 1 100000 & trap 'exit 9' TERM; touch /ready; while :; do sleep 0.02; done")
    with full_pipe() as (_, write_fd), running(container, stdout=write_fd) as process:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        # The program is gone; what it has printed still waits for the reader, until another signal.
        assert container.status == "stopped"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert ends(process) == 9


def test_output_that_is_taken_late_is_whole(container: Container) -> None:
    container.process["terminal"] = True
    container.shell("touch /ready; seq 1 20000; exit 3")
    with full_pipe() as (read_fd, write_fd), running(container, stdout=write_fd) as process:
        time.sleep(0.3)
        os.set_blocking(read_fd, False)
        seen = b""
        while process.poll() is None or seen.count(b"\n") < 20000:
            with contextlib.suppress(BlockingIOError):
                seen += os.read(read_fd, 65536)
        assert ends(process) == 3
        assert seen.lstrip(b"x").split() == [b"%d" % number for number in range(1, 20001)]


def test_terminals_output_without_a_reader(container: Container) -> None:
    """As a shell's pipe ends a program: the container's terminal is hung up, which ends what does not ask otherwise."""
    container.process["terminal"] = True
    container.shell("trap 'exit 6' HUP; touch /ready; while :; do echo hello; sleep 0.02; done")
    read_fd, write_fd = os.pipe()
    try:
        with running(container, stdout=write_fd) as process:
            os.close(read_fd)
            os.close(write_fd)
            assert ends(process) == 6
    finally:
        for fd in (read_fd, write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


def test_program_that_ignores_the_hangup(container: Container) -> None:
    """It goes on without a terminal, and `run` with it, at rest."""
    container.process["terminal"] = True
    container.shell("trap '' HUP; touch /ready; for i in 1 2 3 4 5; do echo hello; sleep 0.1; done; sleep 0.5; exit 4")
    read_fd, write_fd = os.pipe()
    try:
        with running(container, stdout=write_fd) as process:
            os.close(read_fd)
            os.close(write_fd)
            time.sleep(0.3)
            begin = cpu_seconds(process.pid)
            assert ends(process) == 4
            assert begin < 2
    finally:
        for fd in (read_fd, write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_terminal_of_the_caller_is_gone(container: Container) -> None:
    """The window is closed: the kernel's SIGHUP to `run` is passed on, and reading a dead terminal is no error."""
    container.process["terminal"] = True
    container.shell("trap 'exit 6' HUP; touch /ready; while :; do echo hello; sleep 0.02; done")
    master, slave = os.openpty()
    try:
        with running(container, stdin=slave, stdout=slave, session=True) as process:
            Console(master).read_until("hello")
            os.close(slave)
            os.close(master)
            assert ends(process) == 6
    finally:
        for fd in (master, slave):
            with contextlib.suppress(OSError):
                os.close(fd)


def test_input_that_the_container_does_not_read(container: Container) -> None:
    """More than its terminal has room for: signals still come through."""
    container.process["terminal"] = True
    container.shell("stty raw -echo; trap 'exit 9' TERM; touch /ready; while :; do sleep 0.02; done")
    large = container.bundle / "large"
    large.write_bytes(b"x" * 1000000)
    with large.open("rb") as stdin, running(container, stdin=stdin) as process:
        time.sleep(0.2)
        begin = cpu_seconds(process.pid)
        time.sleep(0.5)
        assert cpu_seconds(process.pid) - begin < 0.1
        process.send_signal(signal.SIGTERM)
        assert ends(process) == 9
