"""process.terminal: the console socket, the size, /dev/console, and what is refused."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import stat
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest

from tests.support.console import Console, FdSocket
from tests.support.facts import Facts
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def console_socket(container: Container) -> Iterator[FdSocket]:
    with FdSocket(container.bundle / "console.sock") as listening:
        yield listening


def start(container: Container, console_socket: FdSocket) -> Console:
    """Creates and starts the container with a terminal; its master."""
    container.process["terminal"] = True
    container.create("--console-socket", console_socket.path)
    console = console_socket.receive_console()
    container.start()
    return console


def facts_of(console: Console) -> Facts:
    return Facts.parse(console.read_all())


@pytest.mark.common
def test_stdio_is_the_terminal(container: Container, console_socket: FdSocket) -> None:
    facts = facts_of(start(container, console_socket))
    assert [facts["fds"][fd] for fd in "012"] == ["/dev/pts/0"] * 3
    assert facts["terminal"]["stdin"] is not None


@pytest.mark.common
def test_dialogue(container: Container, console_socket: FdSocket) -> None:
    container.shell("read line; echo got $line; exit 4")
    console = start(container, console_socket)
    console.write("hello\n")
    assert "got hello" in console.read_until("got hello")
    assert container.wait() == 4


@pytest.mark.common
def test_console_size(container: Container, console_socket: FdSocket) -> None:
    container.process["consoleSize"] = {"height": 31, "width": 97}
    assert facts_of(start(container, console_socket))["terminal"]["stdout"] == [31, 97]


@pytest.mark.common
def test_resizing(container: Container, console_socket: FdSocket) -> None:
    container.shell("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done")
    console = start(container, console_socket)
    console.read_until("ready")
    fcntl.ioctl(console.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 34, 0, 0))
    assert "12 34" in console.read_until("12 34")


@pytest.mark.common
def test_it_is_the_controlling_terminal(container: Container, console_socket: FdSocket) -> None:
    container.shell("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    console = start(container, console_socket)
    console.read_until("ready")
    console.write("\x03")
    console.read_until("interrupted")
    assert container.wait() == 5


@pytest.mark.common
def test_dev_console(container: Container, console_socket: FdSocket) -> None:
    container.shell("echo to the console > /dev/console; stat -c %F /dev/console; tty")
    out = start(container, console_socket).read_all()
    assert out.split("\r\n") == ["to the console", "character special file", "/dev/pts/0", ""]


@pytest.mark.common
def test_console_belongs_to_the_user(container: Container, console_socket: FdSocket) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.shell("stat -c %u $(tty); echo again > /dev/pts/0")
    assert start(container, console_socket).read_all().split() == ["1000", "again"]


@pytest.mark.common
def test_master_is_not_in_the_container(container: Container, console_socket: FdSocket) -> None:
    facts = facts_of(start(container, console_socket))
    assert set(facts["fds"]) == {"0", "1", "2"}


@pytest.mark.common
def test_terminal_with_a_read_only_root(container: Container, console_socket: FdSocket) -> None:
    container.config["root"]["readonly"] = True
    container.shell("tty")
    assert start(container, console_socket).read_all().split() == ["/dev/pts/0"]


@pytest.mark.common
def test_message_names_the_terminal(container: Container, console_socket: FdSocket) -> None:
    container.process["terminal"] = True
    container.create("--console-socket", console_socket.path)
    received = console_socket.receive()
    assert received.data
    assert stat.S_ISCHR(os.fstat(received.fds[0]).st_mode)


@pytest.mark.common
def test_terminal_without_a_socket(container: Container) -> None:
    container.process["terminal"] = True
    assert "console" in container.refused()


@pytest.mark.common
def test_socket_without_a_terminal(container: Container, console_socket: FdSocket) -> None:
    assert "console" in container.refused("--console-socket", str(console_socket.path))


@pytest.mark.common
def test_missing_socket(container: Container) -> None:
    container.process["terminal"] = True
    container.refused("--console-socket", "/nowhere/console.sock")


@pytest.mark.common
def test_path_that_is_no_socket(container: Container) -> None:
    container.process["terminal"] = True
    container.refused("--console-socket", "/etc/passwd")


@pytest.mark.common
def test_exec_with_a_terminal(container: Container, console_socket: FdSocket) -> None:
    container.hold()
    container.exec("--tty", "--console-socket", console_socket.path, "--detach", "/probe")
    facts = facts_of(console_socket.receive_console())
    assert facts["terminal"]["stdout"] is not None
    assert set(facts["fds"]) == {"0", "1", "2"}


@pytest.mark.common
def test_exec_with_a_process_file_and_a_terminal(container: Container, console_socket: FdSocket) -> None:
    container.hold()
    process = {**container.process, "args": ["/probe"], "terminal": True, "consoleSize": {"height": 7, "width": 8}}
    (container.bundle / "process.json").write_text(json.dumps(process))
    flags = ["--console-socket", console_socket.path, "--process", container.bundle / "process.json", "--detach"]
    pid_file = container.bundle / "exec.pid"
    container.exec(*map(str, flags), "--pid-file", pid_file)
    assert facts_of(console_socket.receive_console())["terminal"]["stdout"] == [7, 8]
    os.waitpid(int(pid_file.read_text()), 0)


@contextlib.contextmanager
def at_a_terminal(container: Container, stdout: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], Console]]:
    """`run` as a person at a shell does it: the runtime stands between two terminals, this one of 21 lines by 43."""
    container.process["terminal"] = True
    container.write_config()
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 21, 43, 0, 0))
    before = termios.tcgetattr(slave)
    argv = container.runtime.argv("run", "--bundle", container.bundle, container.id)
    process = subprocess.Popen(
        argv, stdin=slave, stdout=slave if stdout is None else stdout, stderr=slave, start_new_session=True
    )
    try:
        yield process, Console(master)
        process.wait(10)
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets the size after the program has begun, which busybox stty may find without one")
def test_foreground_run_copies_the_terminal(container: Container) -> None:
    container.shell("read line; echo got $line; stty size; exit 6")
    with at_a_terminal(container) as (process, console):
        console.write("hello\n")
        assert "got hello" in console.read_until("21 43")
        assert process.wait(10) == 6


@pytest.mark.common
def test_foreground_run_translates_newlines_once(container: Container) -> None:
    container.shell("echo one; echo two")
    with at_a_terminal(container) as (_, console):
        assert console.read_until("two\r\n") == "one\r\ntwo\r\n"


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets the size after the program has begun, which busybox stty may find without one")
def test_foreground_run_into_a_pipe_has_no_carriage_returns(container: Container) -> None:
    container.shell("echo one; echo two; stty -a | grep -o -e '-onlcr'")
    with at_a_terminal(container, subprocess.PIPE) as (process, _):
        assert process.communicate(timeout=10)[0] == b"one\ntwo\n-onlcr\n"


@pytest.mark.common
def test_foreground_run_passes_the_interrupt_key_on(container: Container) -> None:
    container.shell("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    with at_a_terminal(container) as (process, console):
        console.read_until("ready")
        console.write("\x03")
        console.read_until("interrupted")
        assert process.wait(10) == 5


@pytest.mark.common
def test_foreground_run_follows_the_terminals_size(container: Container) -> None:
    container.shell("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done")
    with at_a_terminal(container) as (process, console):
        console.read_until("ready")
        fcntl.ioctl(console.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 34, 0, 0))
        process.send_signal(signal.SIGWINCH)
        assert "12 34" in console.read_until("12 34")


@pytest.mark.common
@pytest.mark.known_bad("runc", "wants a controlling terminal, /dev/tty, where standard input is none")
def test_terminal_with_a_file_for_standard_input(container: Container) -> None:
    """There is no terminal to copy from, yet the container has one."""
    container.process["terminal"] = True
    container.shell("tty")
    result = container.run()
    assert (result.out, result.err) == ("/dev/pts/0\n", "")
