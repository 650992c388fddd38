"""SET_USER, and who owns stdio then."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, failing, shell, status_field

STATUS = shell("cat /proc/self/status")
USER_POINTER = "/process/user"


@pytest.mark.root
def test_user_and_groups(init: InitRunner) -> None:
    outcome = init.run(ops.SetUser(USER_POINTER, 1234, 2345, (77, 88)), *STATUS)
    assert status_field(outcome, "Uid") == "1234 1234 1234 1234"
    assert status_field(outcome, "Gid") == "2345 2345 2345 2345"
    assert status_field(outcome, "Groups") == "77 88"


@pytest.mark.root
def test_largest_ids(init: InitRunner) -> None:
    """2^32-1 is "no change" to the kernel; the one below is a user like any other."""
    outcome = init.run(ops.SetUser(USER_POINTER, 2**32 - 2, 2**32 - 2), *STATUS)
    assert status_field(outcome, "Uid") == " ".join(4 * ["4294967294"])
    assert status_field(outcome, "Groups") == ""


@pytest.mark.root
def test_groups_are_dropped(init: InitRunner) -> None:
    in_groups = ops.SetUser("", 0, 0, (5, 6))
    assert status_field(init.run(in_groups, ops.SetUser(USER_POINTER, 9, 9), *STATUS), "Groups") == ""


@pytest.mark.root
def test_groups_are_kept(init: InitRunner) -> None:
    in_groups = ops.SetUser("", 0, 0, (5, 6))
    kept = ops.SetUser(USER_POINTER, 9, 9, (), lib.USER_KEEP_GROUPS)
    assert status_field(init.run(in_groups, kept, *STATUS), "Groups") == "5 6"


def test_user_that_is_not_mapped(init: InitRunner) -> None:
    user = ops.SetUser(USER_POINTER, 5, 0, (), lib.USER_KEEP_GROUPS)
    outcome = init.run(user, clone_flags=k.CLONE_NEWUSER)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "setresuid 5")


def test_group_that_is_not_mapped(init: InitRunner) -> None:
    user = ops.SetUser(USER_POINTER, 0, 6, (), lib.USER_KEEP_GROUPS)
    outcome = init.run(user, clone_flags=k.CLONE_NEWUSER)
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "setresgid 6")


@pytest.mark.root
def test_groups_without_privileges(init: InitRunner) -> None:
    plan = (ops.SetUser("", 9, 9), ops.SetCapabilities("", 0, 0, 0, 0), ops.SetUser(USER_POINTER, 9, 9, (5,)))
    outcome = init.run(*plan)
    assert (outcome.error, outcome.detail) == (errno.EPERM, "setgroups")


@pytest.mark.root
def test_dumpable_stays_off(init: InitRunner) -> None:
    """CVE-2016-9962: the user's other processes may not trace init, nor look at its descriptors."""
    with init.start(ops.SetUser(USER_POINTER, 1234, 2345), ops.Sync("", lib.SYNC_READY)) as running:
        running.serve(until=lib.SYNC_READY)
        assert os.stat(f"/proc/{running.pid}/fd").st_uid == 0


@pytest.mark.root
def test_stdio_is_given_to_the_user(init: InitRunner, tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.fchown(fd, 0, 7)
    try:
        init.run(ops.ChownStdio(USER_POINTER, 1234), stdout=fd)
    finally:
        os.close(fd)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 7)


@pytest.mark.root
def test_null_device_is_not_given_away(init: InitRunner, tmp_path: Path) -> None:
    device = tmp_path / "null"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    fd = os.open(device, os.O_RDWR)
    try:
        init.run(ops.ChownStdio(USER_POINTER, 1234), stdout=fd, stdin=fd)
    finally:
        os.close(fd)
    assert device.stat().st_uid == 0


@pytest.mark.root
def test_another_device_is_given_away(init: InitRunner, tmp_path: Path) -> None:
    device = tmp_path / "zero"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    fd = os.open(device, os.O_RDWR)
    try:
        init.run(ops.ChownStdio(USER_POINTER, 1234), stdout=fd)
    finally:
        os.close(fd)
    assert device.stat().st_uid == 1234


def test_stdio_for_a_user_who_is_not_mapped_stays_as_it_is(init: InitRunner, tmp_path: Path) -> None:
    assert stdio_in_a_user_namespace(init, tmp_path / "log", os.getuid(), 12) == os.getuid()


@pytest.mark.root
def test_stdio_of_a_user_who_is_not_mapped_stays_as_it_is(init: InitRunner, tmp_path: Path) -> None:
    assert stdio_in_a_user_namespace(init, tmp_path / "log", 4242, 0) == 4242


def stdio_in_a_user_namespace(init: InitRunner, path: Path, owner: int, user: int) -> int:
    """The file's owner, after a program has written into it."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    os.fchown(fd, owner, -1)
    try:
        plan = (ops.ChownStdio(USER_POINTER, user), *shell("echo written"))
        assert init.run(*plan, stdout=fd, clone_flags=k.CLONE_NEWUSER).text() == ""
    finally:
        os.close(fd)
    assert path.read_text() == "written\n"
    return path.stat().st_uid


def test_closed_stdio_is_nobodys(init: InitRunner) -> None:
    outcome = init.run(ops.ChownStdio(USER_POINTER, os.getuid()), closed_stdin=True)
    assert outcome.failure is None


def test_stdio_that_cannot_be_given_away(init: InitRunner) -> None:
    broken = failing(fchownat=errno.EIO)
    outcome = init.run(ops.SetNoNewPrivileges(""), broken, ops.ChownStdio(USER_POINTER, os.getuid() + 1))
    assert (outcome.error, outcome.detail) == (errno.EIO, "fchownat 1")


@pytest.mark.root
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs chown(2) as a system call of its own")
def test_nothing_is_looked_up_to_change_an_owner(init: InitRunner, tmp_path: Path) -> None:
    """musl's fchown(3) goes through /proc/self/fd for such a descriptor, where a container's /proc may lie."""
    path = tmp_path / "log"
    path.touch()
    fd = os.open(path, os.O_PATH)
    forbidden = failing(chown=errno.EIO)
    try:
        outcome = init.run(
            ops.SetNoNewPrivileges(""), forbidden, ops.ChownStdio(USER_POINTER, 1234), stdin=fd, stdout=fd
        )
    finally:
        os.close(fd)
    assert outcome.failure is None
    assert path.stat().st_uid == 1234
