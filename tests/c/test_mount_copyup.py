"""MOUNT_FS with MOUNT_COPY_UP: a tmpfs begins with what it covers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import Attributes, Bind, MountFs, OpenTree
from tests.c.sandbox import SLOT, Container

BIG = os.urandom(300_000)


def copied(*options: str, **attributes: int) -> MountFs:
    flags = lib.MOUNT_COPY_UP | lib.MOUNT_TAKE_OVER
    return MountFs("/mounts/0", "tmpfs", "tmpfs", "/var", options, flags, attributes=Attributes(**attributes))


@pytest.fixture
def var(rootfs: Path) -> Path:
    """A directory with one of each kind that needs no root."""
    var = rootfs / "var"
    (var / "folder/below").mkdir(parents=True)
    (var / "empty").touch()
    (var / "big").write_bytes(BIG)
    (var / "folder/below/file").write_text("content")
    (var / "link").symlink_to("/etc/passwd")
    (var / "dangling").symlink_to("nothing")
    os.mkfifo(var / "fifo", 0o622)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(var / "socket"))
    (var / "big").chmod(0o4751)
    (var / "folder/below").chmod(0o1770)
    (var / "folder").chmod(0o2750)
    for number, path in enumerate(sorted(var.rglob("*"), reverse=True)):
        os.utime(path, ns=(10**18 + number, 2 * 10**18 + number), follow_symlinks=False)
    return var


def listing(folder: Path) -> dict[str, tuple[int, int, int, int, int, str]]:
    """Mode, owner, device numbers, time of modification and link target of everything in a folder."""
    found = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        target = os.readlink(path) if path.is_symlink() else ""
        name = str(path.relative_to(folder))
        found[name] = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_mtime_ns, target)
    return found


def test_everything_is_there(container: Container, var: Path) -> None:
    container.do(copied())
    assert container.points() == ["/var"]
    assert listing(container.inside("/var")) == listing(var)
    assert container.inside("/var/big").read_bytes() == BIG
    assert container.inside("/var/folder/below/file").read_text() == "content"
    assert container.inside("/var/big").stat().st_atime_ns > 10**18


def test_it_is_a_copy(container: Container, var: Path) -> None:
    container.do(copied())
    container.inside("/var/folder/below/file").write_text("changed")
    (container.inside("/var") / "new").touch()
    assert (var / "folder/below/file").read_text() == "content"
    assert not (var / "new").exists()


def test_many_entries_and_long_names(container: Container, rootfs: Path) -> None:
    (rootfs / "var").mkdir()
    names = {f"{number:03}" + "n" * (number % 250) for number in range(500)}
    for name in names:
        (rootfs / "var" / name).touch()
    container.do(copied())
    assert set(os.listdir(container.inside("/var"))) == names


def test_extended_attributes(container: Container, var: Path) -> None:
    os.setxattr(var / "big", "user.test", b"value")
    os.setxattr(var / "folder", "user.test", b"of a folder")
    container.do(copied())
    if "user.test" not in os.listxattr(container.inside("/var/big")):
        pytest.skip("this kernel's tmpfs has no user attributes")
    assert os.getxattr(container.inside("/var/big"), "user.test") == b"value"
    assert os.getxattr(container.inside("/var/folder"), "user.test") == b"of a folder"


@pytest.mark.root
def test_owners_devices_and_capabilities(root_container: Container, rootfs: Path) -> None:
    var = rootfs / "var"
    (var / "folder").mkdir(parents=True)
    os.mknod(var / "null", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    (var / "ping").touch()
    (var / "ping").chmod(0o6755)
    (var / "link").symlink_to("ping")
    for number, path in enumerate(sorted(var.rglob("*"))):
        os.chown(path, 1000 + number, 2000 + number, follow_symlinks=False)
    (var / "ping").chmod(0o6755)
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)  # VFS_CAP_REVISION_2, cap_net_raw=ep
    os.setxattr(var / "ping", "security.capability", capability)
    root_container.do(copied())
    assert listing(root_container.inside("/var")) == listing(var)
    assert os.getxattr(root_container.inside("/var/ping"), "security.capability") == capability


@pytest.mark.root
def test_what_a_user_namespace_cannot_have_is_left_out(container: Container, rootfs: Path) -> None:
    (rootfs / "var").mkdir()
    (rootfs / "var/file").write_text("content")
    (rootfs / "var/file").chmod(0o644)
    os.chown(rootfs / "var/file", 1000, 1000)
    os.mknod(rootfs / "var/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    container.do(copied())
    assert os.listdir(container.inside("/var")) == ["file"]
    assert container.inside("/var/file").read_text() == "content"
    assert container.inside("/var/file").stat().st_uid == os.geteuid()


@pytest.mark.parametrize(
    ("options", "flags"), [((), k.MOUNT_ATTR_RDONLY), (("ro",), 0), (("ro",), k.MOUNT_ATTR_RDONLY)]
)
def test_read_only_afterwards(container: Container, var: Path, options: tuple[str, ...], flags: int) -> None:
    container.do(copied(*options, set=flags))
    assert listing(container.inside("/var")) == listing(var)
    assert "ro" in container.mount("/var").options


def test_directory_that_is_made_is_empty(container: Container) -> None:
    container.do(copied())
    assert os.listdir(container.inside("/var")) == []


def test_mounts_below_are_their_mount_points(container: Container, var: Path) -> None:
    (var / "mounted").mkdir()
    (var / "mounted-file").touch()
    ops = (MountFs("", "tmpfs", "tmpfs", "/var/mounted"), MountFs("", "tmpfs", "tmpfs", "/var/mounted/inner"))
    bind = OpenTree("", "/dev/null", 0, SLOT), Bind("", "/var/mounted-file", SLOT)
    container.do(*ops, *bind, copied())
    assert os.listdir(container.inside("/var/mounted")) == []
    assert not container.inside("/var/mounted-file").exists()
    assert container.inside("/var/folder/below/file").read_text() == "content"


def test_deep(container: Container, rootfs: Path) -> None:
    rootfs.joinpath("var", *(["d"] * 128)).mkdir(parents=True)
    container.do(copied())
    assert container.inside("/var" + "/d" * 128).is_dir()


def test_too_deep(container: Container, rootfs: Path) -> None:
    rootfs.joinpath("var", *(["d"] * 130)).mkdir(parents=True)
    assert container.fail(copied()) == (errno.ELOOP, "copy up: directories more than 128 levels deep")
    assert container.points() == []


def test_too_big_for_the_tmpfs(container: Container, var: Path) -> None:
    assert container.fail(copied("size=64k")) == (errno.ENOSPC, "copy up: sendfile big")
    assert container.points() == []


def test_too_many_for_the_tmpfs(container: Container, rootfs: Path) -> None:
    (rootfs / "var/a/b").mkdir(parents=True)
    error, detail = container.fail(copied("nr_inodes=2"))
    assert (error, detail) == (errno.ENOSPC, "copy up: mkdir b")
