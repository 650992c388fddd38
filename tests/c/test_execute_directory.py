"""CHANGE_DIRECTORY and FIND_HOME."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import FIRST_FD, InitRunner, failing, shell

POINTER = "/process/cwd"
PWD = (ops.ResolveExecutable("", "/bin/sh", None), ops.Execute("", ("sh", "-c", "pwd -P"), ()))


def change(path: Path | str, flags: int = 0, tolerated: tuple[int, ...] = ()) -> ops.ChangeDirectory:
    return ops.ChangeDirectory(POINTER, str(path), flags, tolerated=tolerated)


def test_directory_is_entered(init: InitRunner, tmp_path: Path) -> None:
    assert init.run(change(tmp_path), *PWD).text() == f"{tmp_path}\n"


def test_missing_directory(init: InitRunner, tmp_path: Path) -> None:
    outcome = init.run(change(tmp_path / "a"))
    assert (outcome.error, outcome.detail) == (errno.ENOENT, f"chdir {tmp_path}/a")


def test_missing_directory_is_made(init: InitRunner, tmp_path: Path) -> None:
    assert init.run(change(tmp_path / "a/b", lib.CHDIR_CREATE), *PWD).text() == f"{tmp_path}/a/b\n"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755


def test_directory_that_cannot_be_made(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = init.run(change(tmp_path / "file/a", lib.CHDIR_CREATE))
    assert outcome.error == errno.ENOTDIR


def test_file_in_its_place(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = init.run(change(tmp_path / "file"))
    assert (outcome.error, outcome.detail) == (errno.ENOTDIR, f"chdir {tmp_path}/file")


@pytest.mark.root
def test_directory_that_only_root_can_enter(init: InitRunner, scratch: Path) -> None:
    """Entered before the user is changed, it stays the working directory."""
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    plan = (change(closed), ops.SetUser("", 1234, 1234), change(closed, lib.CHDIR_AGAIN), *PWD)
    outcome = init.run(*plan)
    closed.rmdir()
    assert outcome.text() == f"{closed}\n"


@pytest.mark.root
def test_directory_that_only_the_user_can_enter(init: InitRunner, scratch: Path) -> None:
    """Root without its capabilities has no way in, the user has."""
    owned = scratch / "owned"
    owned.mkdir(mode=0o700)
    os.chown(owned, 1234, 1234)
    weak = ops.SetCapabilities("", k.CAPABILITY_BITS["CAP_SETUID"] | k.CAPABILITY_BITS["CAP_SETGID"], 0xC0, 0, 0)
    plan = (weak, change(owned, 0, (errno.EACCES,)), ops.SetUser("", 1234, 1234), change(owned, lib.CHDIR_AGAIN), *PWD)
    outcome = init.run(*plan)
    owned.rmdir()
    assert outcome.text() == f"{owned}\n"


@pytest.mark.root
def test_directory_that_nobody_can_enter(init: InitRunner, scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    weak = ops.SetCapabilities("", 0, 0, 0, 0)
    outcome = init.run(ops.SetUser("", 1234, 1234), weak, change(closed, lib.CHDIR_AGAIN))
    closed.rmdir()
    assert (outcome.error, outcome.detail) == (errno.EACCES, f"chdir {closed}")


@pytest.mark.root
@pytest.mark.parametrize("flags", [0, lib.CHDIR_AGAIN])
@pytest.mark.parametrize("suffix", ["", "/..", "/usr"])
def test_directory_outside_of_the_root(init: InitRunner, tmp_path: Path, flags: int, suffix: str) -> None:
    """CVE-2024-21626: a descriptor of the host's, reached through /proc/self/fd."""
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    cwd = f"/proc/self/fd/{FIRST_FD + 2}{suffix}"  # init has the slots behind its socket and the plan
    plan = (
        ops.SetPropagation("", k.MS_PRIVATE, True),
        ops.OpenTree("", str(tmp_path), 0, 1),
        ops.AttachRoot("", str(tmp_path), 1),
        ops.MountFs("", "proc", "proc", "/proc"),
        ops.Pivot("", lib.PIVOT_ROOT),
    )
    try:
        own, proc = k.CLONE_NEWNS | k.CLONE_NEWPID, [ops.OpenProc("")]
        outcome = init.run(*plan, change(cwd, flags), host_ops=proc, clone_flags=own, slots=[host])
    finally:
        os.close(host)
    assert (outcome.error, outcome.detail) == (0, f"{cwd} is outside of the container's root")


def test_directory_that_has_been_removed(init: InitRunner, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    fd = os.open(gone, os.O_PATH)
    gone.rmdir()
    try:
        outcome = init.run(change(f"/proc/self/fd/{fd}"), inherited=[fd], preserve_fds=190)
    finally:
        os.close(fd)
    assert (outcome.error, outcome.detail) == (errno.ENOENT, f"getcwd /proc/self/fd/{fd}")


# ---- HOME


def home(init: InitRunner, rootfs: Path, uid: int, *env: str) -> str:
    find = ops.FindHome("/process/env", uid)
    return init.run(ops.OpenRoot("", str(rootfs)), find, *shell("echo $HOME", env)).text().rstrip("\n")


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc/passwd"


def test_home_of_the_user(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    passwd.write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000:A,B:/home/user:/bin/sh\n")
    assert home(init, tmp_path, 1000) == "/home/user"
    assert home(init, tmp_path, 0) == "/root"


def test_home_of_the_environment_counts(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    passwd.write_text("root:x:0:0::/root:/bin/sh\n")
    assert home(init, tmp_path, 0, "A=1", "HOME=/other") == "/other"
    assert home(init, tmp_path, 0, "HOMES=/other") == "/root"


def test_first_match_counts(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    passwd.write_text("a:x:7:7::/first:/bin/sh\nb:x:7:7::/second:/bin/sh\n")
    assert home(init, tmp_path, 7) == "/first"


def test_last_line_without_newline(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    passwd.write_text("a:x:1:1::/a:\nb:x:7:7::/b:/bin/sh")
    assert home(init, tmp_path, 7) == "/b"


@pytest.mark.parametrize(
    "line",
    [
        "a:x: 0:0::/evil:/bin/sh",
        "a:x:+0:0::/evil:/bin/sh",
        "a:x:00:0::/evil:/bin/sh",
        "a:x::0::/evil:/bin/sh",
        "a:x:0x0:0::/evil:/bin/sh",
        "a:x:4294967296:0::/evil:/bin/sh",
        "a:x:root:0::/evil:/bin/sh",
        "a:x:0:0::/evil",
        "0:0:a:0:0:/evil:/bin/sh",
        "",
        ":::::::::",
    ],
)
def test_lines_that_are_not_roots(init: InitRunner, tmp_path: Path, passwd: Path, line: str) -> None:
    """CVE-2016-3697, CVE-2026-46680: what atoi() would take for 0."""
    passwd.write_text(f"{line}\nroot:x:0:0::/root:/bin/sh\n")
    assert home(init, tmp_path, 0) == "/root"


@pytest.mark.parametrize("value", ["", "relative", "/" + "d" * 5000])
def test_home_that_is_no_path(init: InitRunner, tmp_path: Path, passwd: Path, value: str) -> None:
    passwd.write_text(f"root:x:0:0::{value}:/bin/sh\n")
    assert home(init, tmp_path, 0) == "/"


def test_large_file_with_long_lines(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    """A line that fits in no buffer is nobody's, and neither is its end, which looks like a line of its own."""
    filler = "".join(f"u{n}:x:{n + 10}:1::/h/{n}:/bin/sh\n" for n in range(3000))
    long_line = "x" * 8191 + "a:x:7:7::/evil:/bin/sh\n" + "y" * 20000 + "\n"
    passwd.write_text(filler + long_line + filler.replace("u", "v") + "me:x:7:7::/mine:/bin/sh\n")
    assert home(init, tmp_path, 7) == "/mine"
    assert home(init, tmp_path, 2999) == "/h/2989"


def test_without_passwd(init: InitRunner, tmp_path: Path) -> None:
    assert home(init, tmp_path, 0) == "/"


def test_user_that_is_not_listed(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    passwd.write_text("root:x:0:0::/root:/bin/sh\n")
    assert home(init, tmp_path, 1) == "/"


def test_passwd_of_the_host_is_not_read(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    """An absolute link means below the root, where it leads to itself."""
    passwd.symlink_to("/etc/passwd")
    assert home(init, tmp_path, os.getuid()) == "/"


def test_passwd_that_is_a_fifo(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    os.mkfifo(passwd)
    assert home(init, tmp_path, 0) == "/"


def test_passwd_that_is_a_directory(init: InitRunner, tmp_path: Path, passwd: Path) -> None:
    passwd.mkdir()
    assert home(init, tmp_path, 0) == "/"


def test_home_without_a_root(init: InitRunner) -> None:
    """An exec has no root opened: it is the namespace's."""
    assert init.run(ops.FindHome("/process/env", 0), *shell("echo $HOME")).text() == "/root\n"


def test_root_that_cannot_be_opened(init: InitRunner) -> None:
    names = {"openat": errno.EIO} | ({"open": errno.EIO} if os.uname().machine == "x86_64" else {})
    outcome = init.run(ops.SetNoNewPrivileges(""), failing(**names), ops.FindHome("/process/env", 0))
    assert (outcome.error, outcome.detail) == (errno.EIO, "open /")
