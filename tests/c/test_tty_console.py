"""OPEN_CONSOLE: the terminal of a container's own devpts, and images that want it to be another one."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import termios
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, Outcome, failing, shell

OWN = k.CLONE_NEWUSER | k.CLONE_NEWNS
POINTER = "/process/terminal"
CONSOLE = ops.OpenConsole(POINTER, 0, 0, lib.CONSOLE_BIND, 0)
PRIVATE = ops.SetPropagation("", k.MS_PRIVATE, True)
DEV = (PRIVATE, ops.OpenRoot("", "/"), ops.MountFs("", "tmpfs", "tmpfs", "/dev"))
DEVPTS = ops.MountFs("", "devpts", "devpts", "/dev/pts", ("newinstance", "ptmxmode=0666", "mode=0620"))


@dataclass(slots=True)
class Terminal:
    """Keeps the other end that init sends, and reads from it."""

    fd: int = -1
    attributes: list[object] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    def take(self, fd: int) -> None:
        self.fd = fd
        self.attributes = termios.tcgetattr(fd)
        buffer = array.array("H", [0] * 4)
        fcntl.ioctl(fd, termios.TIOCGWINSZ, buffer)
        self.size = (buffer[0], buffer[1])

    def read(self) -> str:
        """All that the container wrote."""
        data = b""
        try:
            while chunk := os.read(self.fd, 4096):
                data += chunk
        except OSError as error:
            if error.errno != errno.EIO:  # which means that the other end is closed
                raise
        os.close(self.fd)
        return data.decode()


def open_console(init: InitRunner, *plan: ops.Op, **how: object) -> tuple[Outcome, Terminal]:
    terminal = Terminal()
    how.setdefault("clone_flags", OWN)
    return init.run(*plan, handlers={lib.SYNC_CONSOLE: terminal.take}, **how), terminal


def on_terminal(init: InitRunner, script: str, console: ops.OpenConsole = CONSOLE) -> str:
    """What a program prints on its terminal."""
    outcome, terminal = open_console(init, *DEV, DEVPTS, console, *shell(script))
    assert outcome.text() == ""
    return terminal.read()


def refused(init: InitRunner, *plan: ops.Op) -> tuple[int, str]:
    outcome, terminal = open_console(init, *plan)
    assert terminal.fd == -1, "a terminal was handed out"
    return outcome.error, outcome.detail


def test_it_is_all_of_stdio(init: InitRunner) -> None:
    assert on_terminal(init, "test -t 0 && test -t 1 && test -t 2 && echo yes >&2") == "yes\r\n"


def test_it_is_read(init: InitRunner) -> None:
    terminal = Terminal()
    with init.start(*DEV, DEVPTS, CONSOLE, *shell("read line; echo got $line"), clone_flags=OWN) as running:

        def take(fd: int) -> None:
            terminal.take(fd)
            os.write(fd, b"a line\n")

        outcome = running.outcome({lib.SYNC_CONSOLE: take})
    assert outcome.status == 0
    assert "got a line" in terminal.read()


def test_it_is_the_controlling_terminal(init: InitRunner) -> None:
    fields = on_terminal(init, "cat /proc/self/stat").rpartition(")")[2].split()
    assert int(fields[4]) == os.makedev(136, 0)  # tty_nr (proc(5), /proc/pid/stat)


def test_console_is_the_same_terminal(init: InitRunner) -> None:
    script = "test /dev/console -ef /dev/pts/0 || echo other file; test -c /dev/console; echo on console >/dev/console"
    assert on_terminal(init, script) == "on console\r\n"


def test_console_is_bound_only_where_it_is_wanted(init: InitRunner) -> None:
    assert on_terminal(init, "ls /dev", ops.OpenConsole(POINTER, 0, 0, 0, 0)) == "pts\r\n"


def test_console_replaces_a_device(init: InitRunner, tmp_path: Path) -> None:
    """A file that is there is mounted upon, not opened: /dev/console of an image may be any device."""
    (tmp_path / "console").write_text("of the image")
    host = (ops.OpenTree("", str(tmp_path), 0, 0),)
    plan = (*DEV, ops.Bind("", "/dev", 0), DEVPTS, CONSOLE, *shell("echo terminal >/dev/console"))
    outcome, terminal = open_console(init, PRIVATE, *host, *plan)
    assert outcome.text() == ""
    assert terminal.read() == "terminal\r\n"
    assert (tmp_path / "console").read_text() == "of the image"


def test_size(init: InitRunner) -> None:
    console = ops.OpenConsole(POINTER, 33, 77, 0, 0)
    outcome, terminal = open_console(init, *DEV, DEVPTS, console)
    assert outcome.failure is None
    assert terminal.size == (33, 77)
    os.close(terminal.fd)


def test_line_discipline_is_the_kernels(init: InitRunner) -> None:
    """Who gets the other end decides about newline translation, as with runc: Docker's client needs it on."""
    outcome, terminal = open_console(init, *DEV, DEVPTS, CONSOLE)
    assert outcome.failure is None
    assert terminal.attributes[1] & termios.ONLCR  # type: ignore[operator]
    assert terminal.attributes[3] & termios.ECHO  # type: ignore[operator]
    os.close(terminal.fd)


@pytest.mark.root
def test_owner(init: InitRunner) -> None:
    """The user's, but in the group that the devpts gives it (runc's behaviour): mode 0620 with tty is for write(1)."""
    console = ops.OpenConsole(POINTER, 0, 0, 0, 1234)
    grouped = ops.MountFs("", "devpts", "devpts", "/dev/pts", ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5"))
    plan = (*DEV, grouped, console, *shell("stat -c '%u %g %a' /dev/pts/0"))
    outcome, terminal = open_console(init, *plan, clone_flags=k.CLONE_NEWNS)
    assert outcome.text() == ""
    assert terminal.read() == "1234 5 620\r\n"


def test_no_descriptor_of_it_is_left(init: InitRunner) -> None:
    script = "cd /proc/self/fd; for fd in *; do test -t $fd && echo $fd; done; true"
    outcome, terminal = open_console(init, *DEV, DEVPTS, CONSOLE, ops.CloseDescriptors(""), *shell(script))
    assert outcome.text() == ""
    assert set(terminal.read().split()) <= {"0", "1", "2", "10"}  # 10: dash's own copy of a terminal


def test_without_devpts(init: InitRunner) -> None:
    assert refused(init, *DEV, CONSOLE) == (errno.ENOENT, "openat2 /dev/pts")


def test_directory_in_its_place(init: InitRunner) -> None:
    tmpfs = ops.MountFs("", "tmpfs", "tmpfs", "/dev/pts")
    assert refused(init, *DEV, tmpfs, CONSOLE) == (0, "/dev/pts is not a devpts")


def test_link_to_the_hosts_devpts_stays_in_the_root(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/pts").symlink_to("/dev/pts")
    assert refused(init, ops.OpenRoot("", str(tmp_path)), CONSOLE)[0] == errno.ELOOP


def test_ptmx_that_is_mounted_upon(init: InitRunner, tmp_path: Path) -> None:
    """CVE-2025-52565: /dev/pts/ptmx leads to something else."""
    (tmp_path / "ptmx").touch()
    trap = (ops.OpenTree("", str(tmp_path / "ptmx"), 0, 0), ops.Bind("", "/dev/pts/ptmx", 0))
    assert refused(init, *DEV, DEVPTS, *trap, CONSOLE) == (errno.EXDEV, "openat2 /dev/pts/ptmx")


def test_other_end_is_not_looked_up(init: InitRunner) -> None:
    """CVE-2025-52565: /dev/pts/0 may be exchanged at any time, so it is opened by no name at all."""
    names = {"openat": errno.EIO} | ({"open": errno.EIO} if os.uname().machine == "x86_64" else {})
    console = ops.OpenConsole(POINTER, 0, 0, 0, 0)
    outcome, terminal = open_console(init, *DEV, DEVPTS, ops.SetNoNewPrivileges(""), failing(**names), console)
    assert outcome.failure is None
    os.close(terminal.fd)


def test_console_that_is_a_symbolic_link(init: InitRunner, tmp_path: Path) -> None:
    """CVE-2026-88264: a file is made where it points to."""
    link = ops.MakeSymlink("", "/dev/console", str(tmp_path / "made"))
    assert refused(init, *DEV, DEVPTS, link, CONSOLE) == (0, "/dev/console is a symbolic link")
    assert not (tmp_path / "made").exists()


def test_console_that_is_a_directory(init: InitRunner) -> None:
    directory = ops.MountFs("", "tmpfs", "tmpfs", "/dev/console")
    assert refused(init, *DEV, DEVPTS, directory, CONSOLE) == (0, "/dev/console is no file or device")


def test_console_on_a_readonly_dev(init: InitRunner) -> None:
    readonly = ops.MountFs("", "tmpfs", "tmpfs", "/dev", slot=7)
    seal = ops.SetMountAttributes("", ops.Attributes(set=k.MOUNT_ATTR_RDONLY), 7)
    plan = (*DEV[:2], readonly, DEVPTS, seal, CONSOLE)
    assert refused(init, *plan) == (errno.EROFS, "openat /dev/console")


def test_runtime_that_is_gone(init: InitRunner) -> None:
    with init.start(*DEV, DEVPTS, CONSOLE, clone_flags=OWN) as running:
        running.serve(until=lib.SYNC_CONSOLE)
        running.socket.close()
        assert running.wait() == 1


@pytest.mark.parametrize("call", ["move_mount", "open_tree", "ioctl", "dup2", "statfs"])
def test_system_calls_that_fail(init: InitRunner, call: str) -> None:
    numbers = {"dup2": "dup3"} if os.uname().machine != "x86_64" else {}
    broken = failing(**{{"statfs": "fstatfs"}.get(call, numbers.get(call, call)): errno.EIO})
    outcome, terminal = open_console(init, *DEV, DEVPTS, ops.SetNoNewPrivileges(""), broken, CONSOLE)
    assert outcome.error == errno.EIO
    assert outcome.detail.startswith({"statfs": "fstatfs"}.get(call, call))
    if terminal.fd >= 0:
        os.close(terminal.fd)
