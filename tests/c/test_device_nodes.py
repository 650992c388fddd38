"""MAKE_DEVICE, MAKE_SYMLINK and COPY_SYMLINK: made by their directory's descriptor, following nothing at the end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ocirt._native import lib
from ocirt.ops import Bind, CopySymlink, MakeDevice, MakeSymlink, OpenTree
from tests.c.sandbox import SLOT, Container

NULL = (stat.S_IFCHR, 1, 3)


def device(
    path: str, kind: tuple[int, int, int] = (stat.S_IFIFO, 0, 0), mode: int = 0o620, uid: int = 0, gid: int = 0
) -> MakeDevice:
    return MakeDevice("/linux/devices/0", path, kind[0] | mode, kind[1], kind[2], uid, gid)


def facts(path: Path) -> tuple[int, int, int, int, int]:
    """Kind, device numbers, permissions, owner and group."""
    info = path.lstat()
    return stat.S_IFMT(info.st_mode), info.st_rdev, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid


class TestFifo:
    def test_made_with_its_parents(self, container: Container) -> None:
        container.do(device("/dev/a/fifo", mode=0o1662))
        assert facts(container.rootfs / "dev/a/fifo")[:3] == (stat.S_IFIFO, 0, 0o1662)

    def test_one_that_is_there_gets_the_mode(self, container: Container) -> None:
        os.mkfifo(container.rootfs / "fifo", 0o600)
        container.do(device("/fifo", mode=0o666))
        assert facts(container.rootfs / "fifo")[2] == 0o666

    @pytest.mark.parametrize("there", ["file", "link", "directory", "dangling", "fifo behind a link"])
    def test_something_else_is_there(self, container: Container, there: str) -> None:
        path, other = container.rootfs / "fifo", container.rootfs / "other"
        if there == "directory":
            path.mkdir()
        elif there == "file":
            path.touch()
        else:
            path.symlink_to("missing" if there == "dangling" else "other")
            os.mkfifo(other, 0o600) if there == "fifo behind a link" else other.touch(0o600)
        assert container.fail(device("/fifo")) == (errno.EEXIST, "/fifo exists and is not the device asked for")
        assert not other.exists() or stat.S_IMODE(other.stat().st_mode) == 0o600
        assert not (container.rootfs / "missing").exists()

    @pytest.mark.parametrize("path", ["/", "/dev/..", "/dev/.", "..", ""])
    def test_path_without_a_name(self, container: Container, path: str) -> None:
        assert container.fail(device(path)) == (errno.EINVAL, f"a path without a last component: {path}")

    def test_parent_that_is_a_file(self, container: Container) -> None:
        (container.rootfs / "dev").touch()
        assert container.fail(device("/dev/fifo")) == (errno.ENOTDIR, "openat2 /dev")

    def test_owner_without_mapping(self, container: Container) -> None:
        assert container.fail(device("/fifo", uid=5)) == (errno.EINVAL, "chown /fifo")

    def test_relative_path_begins_at_the_root(self, container: Container) -> None:
        container.do(device("fifo"), device("a/fifo/"))
        assert (container.rootfs / "fifo").is_fifo()
        assert (container.rootfs / "a/fifo").is_fifo()

    def test_default_acl_does_not_take_bits_away(self, container: Container) -> None:
        (container.rootfs / "dev").mkdir()
        # version 2; user::rw-, group::r--, other::---
        acl = b"\2\0\0\0" + b"".join(bytes((tag, 0, bits, 0)) + b"\xff" * 4 for tag, bits in ((1, 6), (4, 4), (32, 0)))
        try:
            os.setxattr(container.rootfs / "dev", "system.posix_acl_default", acl)
        except OSError as error:
            pytest.skip(f"no ACLs here: {error}")
        container.do(device("/dev/fifo", mode=0o666))
        assert facts(container.rootfs / "dev/fifo")[2] == 0o666


def test_device_in_a_user_namespace(container: Container) -> None:
    assert container.fail(device("/dev/null", NULL)) == (errno.EPERM, "mknod /dev/null")
    assert os.listdir(container.rootfs / "dev") == []


@pytest.mark.root
class TestDevice:
    @pytest.mark.parametrize("kind", [NULL, (stat.S_IFBLK, 259, 70000), (stat.S_IFCHR, 4095, 1048575)])
    def test_numbers_mode_and_owner(self, root_container: Container, kind: tuple[int, int, int]) -> None:
        root_container.do(device("/dev/node", kind, 0o642, 1000, 1001))
        expected = (kind[0], os.makedev(kind[1], kind[2]), 0o642, 1000, 1001)
        assert facts(root_container.rootfs / "dev/node") == expected

    def test_one_that_is_there_gets_mode_and_owner(self, root_container: Container) -> None:
        os.mknod(root_container.rootfs / "node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        root_container.do(device("/node", NULL, 0o666, 1000, 1001))
        assert facts(root_container.rootfs / "node")[2:] == (0o666, 1000, 1001)

    @pytest.mark.parametrize("other", [(stat.S_IFCHR, 1, 5), (stat.S_IFBLK, 1, 3), (stat.S_IFIFO, 0, 0)])
    def test_another_one_is_there(self, root_container: Container, other: tuple[int, int, int]) -> None:
        os.mknod(root_container.rootfs / "node", other[0] | 0o600, os.makedev(*other[1:]))
        expected = (errno.EEXIST, "/node exists and is not the device asked for")
        assert root_container.fail(device("/node", NULL)) == expected
        assert facts(root_container.rootfs / "node")[2] == 0o600

    def test_link_to_such_a_device(self, root_container: Container, tmp_path: Path) -> None:
        """CVE-2026-88265: it would get the mode and owner that the container asks for."""
        os.mknod(root_container.rootfs / "real", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        (root_container.rootfs / "node").symlink_to("real")
        expected = (errno.EEXIST, "/node exists and is not the device asked for")
        assert root_container.fail(device("/node", NULL, 0o666, 5, 5)) == expected
        assert facts(root_container.rootfs / "real")[2:] == (0o600, 0, 0)


class TestSymlink:
    def link(self, path: str, target: str, flags: int = 0) -> MakeSymlink:
        return MakeSymlink("", path, target, flags)

    def test_made_with_its_parents(self, container: Container) -> None:
        container.do(self.link("/dev/fd", "/proc/self/fd"))
        assert os.readlink(container.rootfs / "dev/fd") == "/proc/self/fd"

    def test_the_same_one_will_do(self, container: Container) -> None:
        (container.rootfs / "link").symlink_to("target")
        container.do(self.link("/link", "target"))

    @pytest.mark.parametrize("target", ["target", "target-longer", "targe"])
    def test_another_one_is_there(self, container: Container, target: str) -> None:
        (container.rootfs / "link").symlink_to("targ" if target == "target" else "target")
        assert container.fail(self.link("/link", target)) == (errno.EEXIST, "symlink /link")

    def test_a_file_is_there(self, container: Container) -> None:
        (container.rootfs / "link").touch()
        assert container.fail(self.link("/link", "target")) == (errno.EEXIST, "symlink /link")

    @pytest.mark.parametrize("there", ["file", "link", "fifo"])
    def test_replaces(self, container: Container, there: str) -> None:
        path = container.rootfs / "ptmx"
        (container.rootfs / "kept").touch()
        if there == "fifo":
            os.mkfifo(path)
        elif there == "link":
            path.symlink_to("kept")
        else:
            path.touch()
        container.do(self.link("/ptmx", "pts/ptmx", lib.SYMLINK_REPLACE))
        assert os.readlink(path) == "pts/ptmx"
        assert (container.rootfs / "kept").exists()

    def test_replaces_no_directory(self, container: Container) -> None:
        (container.rootfs / "ptmx").mkdir()
        assert container.fail(self.link("/ptmx", "pts/ptmx", lib.SYMLINK_REPLACE)) == (errno.EISDIR, "unlink /ptmx")

    def test_replaces_no_mount(self, container: Container) -> None:
        (container.rootfs / "ptmx").touch()
        bind = OpenTree("", "/dev/null", 0, SLOT), Bind("", "/ptmx", SLOT)
        link = self.link("/ptmx", "pts/ptmx", lib.SYMLINK_REPLACE)
        assert container.fail(*bind, link) == (errno.EBUSY, "unlink /ptmx")

    @pytest.mark.parametrize(
        ("path", "target", "exists"),
        [
            ("/dev/core", "/proc/kcore", True),
            ("/dev/core", "/proc/missing", False),
            ("/dev/core", "/proc/kcore/below", False),
            ("/dev/core", "../proc/kcore", True),
            ("/dev/core", "proc/kcore", False),
            ("/dev/core", "../../../../proc/kcore", True),
            ("core", "proc/kcore", True),
            ("/dev/core", "/escape/etc/passwd", False),
        ],
    )
    def test_only_where_the_target_exists(self, container: Container, path: str, target: str, exists: bool) -> None:
        (container.rootfs / "dev").mkdir()
        (container.rootfs / "proc").mkdir()
        (container.rootfs / "proc/kcore").touch()
        (container.rootfs / "escape").symlink_to("/")
        container.do(self.link(path, target, lib.SYMLINK_IF_TARGET))
        assert os.path.lexists(container.rootfs / path.lstrip("/")) is exists

    def test_a_link_as_target_is_there_itself(self, container: Container) -> None:
        """/proc/self/fd/0 is a magic one, and /dev/stdin is to lead to it."""
        proc = OpenTree("", "/proc", lib.TREE_RECURSIVE, SLOT), Bind("", "/proc", SLOT)
        container.do(*proc, self.link("/dev/stdin", "/proc/self/fd/0", lib.SYMLINK_IF_TARGET))
        assert os.readlink(container.rootfs / "dev/stdin") == "/proc/self/fd/0"

    def test_target_that_cannot_be_resolved(self, container: Container) -> None:
        (container.rootfs / "loop").symlink_to("loop")
        assert container.fail(self.link("/a", "/loop/a", lib.SYMLINK_IF_TARGET)) == (errno.ELOOP, "openat2 /loop/a")

    def test_parent_is_a_link(self, container: Container) -> None:
        """CVE-2026-41579: it is resolved below the root."""
        (container.rootfs / "dev").symlink_to("/tmp/elsewhere")
        container.do(self.link("/dev/fd", "/proc/self/fd"))
        assert os.readlink(container.rootfs / "tmp/elsewhere/fd") == "/proc/self/fd"
        assert not Path("/tmp/elsewhere").exists()


class TestCopySymlink:
    def test_copied(self, container: Container, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("../any/where")
        container.do(CopySymlink("/mounts/0", str(tmp_path / "link"), "/etc/link"))
        assert os.readlink(container.rootfs / "etc/link") == "../any/where"

    def test_the_same_one_is_there(self, container: Container, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("target")
        (container.rootfs / "link").symlink_to("target")
        container.do(CopySymlink("/mounts/0", str(tmp_path / "link"), "/link"))

    def test_something_else_is_there(self, container: Container, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("target")
        (container.rootfs / "link").touch()
        operation = CopySymlink("/mounts/0", str(tmp_path / "link"), "/link")
        assert container.fail(operation) == (errno.EEXIST, "symlink /link")

    def test_source_is_no_link(self, container: Container, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        operation = CopySymlink("/mounts/0", str(tmp_path / "file"), "/link")
        assert container.fail(operation) == (errno.EINVAL, f"readlink {tmp_path / 'file'}")
