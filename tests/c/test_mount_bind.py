"""OPEN_TREE, BIND, REMOUNT and SET_MOUNT_ATTRIBUTES: what is bound where, with which flags and propagation."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import Attributes, Bind, MountFs, Op, OpenProc, OpenTree, Remount, SetMountAttributes
from tests.c.init_runner import InitRunner
from tests.c.sandbox import ROOT_SLOT, SLOT, Container, MakeSandbox, Sandbox


def bind(
    source: Path | str,
    target: str,
    *,
    tree: int = lib.TREE_RECURSIVE,
    flags: int = 0,
    slot: int = lib.NO_SLOT,
    **attributes: int,
) -> tuple[Op, ...]:
    origin = "/mounts/0"
    return OpenTree(origin, str(source), tree, SLOT), Bind(origin, target, SLOT, flags, slot, Attributes(**attributes))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    return source


def test_directory_on_one_that_is_made(container: Container, source: Path) -> None:
    container.do(*bind(source, "/a/b"))
    assert container.points() == ["/a/b"]
    assert (container.inside("/a/b/file")).read_text() == "content"
    assert (container.rootfs / "a/b").is_dir()


def test_file_on_one_that_is_made(container: Container, source: Path) -> None:
    container.do(*bind(source / "file", "/etc/made/resolv.conf"))
    assert container.inside("/etc/made/resolv.conf").read_text() == "content"
    assert (container.rootfs / "etc/made/resolv.conf").read_bytes() == b""


def test_fifo_and_socket_are_bound_on_files(container: Container, source: Path) -> None:
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    container.do(*bind(source / "fifo", "/fifo"), *bind(source / "socket", "/socket"))
    assert container.inside("/fifo").is_fifo()
    assert container.inside("/socket").is_socket()
    assert (container.rootfs / "fifo").is_file()


@pytest.mark.parametrize(("kind", "make"), [("", "mkdir"), ("file", "touch")])
def test_a_directory_and_a_file_do_not_cover_each_other(
    container: Container, source: Path, kind: str, make: str
) -> None:
    getattr(container.rootfs / "target", "touch" if make == "mkdir" else "mkdir")()
    expected = (errno.ENOTDIR, "bind /target: a directory cannot cover a file, nor a file a directory")
    assert container.fail(*bind(source / kind, "/target")) == expected
    assert container.points() == []


def test_a_file_asked_for_where_the_source_is_a_directory(container: Container, source: Path) -> None:
    error, detail = container.fail(*bind(source, "/target", flags=lib.MOUNT_CREATE_FILE))
    assert (error, detail[:13]) == (errno.ENOTDIR, "bind /target:")


def test_missing_source(container: Container, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert container.fail(OpenTree("/mounts/0", missing, 0, SLOT)) == (errno.ENOENT, f"open_tree {missing}")


def test_tree_that_was_used_before(container: Container, source: Path) -> None:
    again = Bind("/mounts/1", "/b", SLOT)
    assert container.fail(*bind(source, "/a"), again) == (errno.EBADF, "fstat the tree to bind")


def test_link_as_source(container: Container, source: Path) -> None:
    (source / "link").symlink_to("file")
    container.do(*bind(source / "link", "/followed"))
    assert container.inside("/followed").read_text() == "content"


def test_link_as_source_itself(container: Container, source: Path) -> None:
    """As crun's src-nofollow with dest-nofollow: the link is seen at the target."""
    (source / "link").symlink_to("somewhere")
    container.do(*bind(source / "link", "/link", tree=lib.TREE_NOFOLLOW))
    assert os.readlink(container.inside("/link")) == "somewhere"


def test_link_as_target_is_followed_in_the_root(container: Container, source: Path) -> None:
    (container.rootfs / "link").symlink_to("/inner")
    container.do(*bind(source, "/link"))
    assert container.points() == ["/inner"]


def test_link_as_target_is_covered_itself(container: Container, source: Path) -> None:
    (container.rootfs / "link").symlink_to("/inner")
    container.do(*bind(source / "file", "/link", flags=lib.MOUNT_TARGET_NOFOLLOW))
    assert container.points() == ["/link"]
    assert container.inside("/link").read_text() == "content"
    assert os.listdir(container.rootfs) == ["link"]


def test_link_as_target_cannot_be_covered_by_a_directory(container: Container, source: Path) -> None:
    (container.rootfs / "link").symlink_to("/inner")
    error, detail = container.fail(*bind(source, "/link", flags=lib.MOUNT_TARGET_NOFOLLOW))
    assert (error, detail[:11]) == (errno.ENOTDIR, "bind /link:")


@pytest.mark.parametrize("link", ["elsewhere", "/nowhere"])
def test_real_directory_refuses_links(container: Container, source: Path, link: str) -> None:
    (container.rootfs / "elsewhere").mkdir()
    (container.rootfs / "sys").symlink_to(link)
    expected = (errno.ELOOP, "openat2 /sys: must be a real directory")
    assert container.fail(*bind(source, "/sys", flags=lib.MOUNT_REAL_DIRECTORY)) == expected
    assert container.points() == []


def test_over_the_root_itself(container: Container, source: Path) -> None:
    container.do(*bind(source, "/"), *bind(source, "/below"))
    assert (source / "below").is_dir()
    assert container.points() == ["/below"]


@pytest.fixture
def nested(init: InitRunner, sandbox: Sandbox, tmp_path: Path, rootfs: Path, source: Path) -> Container:
    """A container whose host has a mount below the source of binds."""
    (source / "below").mkdir()
    Container(init, sandbox, tmp_path).do(MountFs("", "tmpfs", "tmpfs", "/source/below"))
    return Container(init, sandbox, rootfs)


def test_recursive_and_not(nested: Container, source: Path) -> None:
    nested.do(*bind(source, "/with"), *bind(source, "/without", tree=0))
    assert nested.points() == ["/with", "/with/below", "/without"]


def test_recursive_flags(nested: Container, source: Path) -> None:
    ro, nodev = k.MOUNT_ATTR_RDONLY, k.MOUNT_ATTR_NODEV
    nested.do(*bind(source, "/ro", set=ro), *bind(source, "/rro", recursive_set=ro, set=nodev))
    assert [("ro" in nested.mount(point).options) for point in ("/ro", "/ro/below")] == [True, False]
    assert [("ro" in nested.mount(point).options) for point in ("/rro", "/rro/below")] == [True, True]
    assert [("nodev" in nested.mount(point).options) for point in ("/rro", "/rro/below")] == [True, False]


def test_recursive_propagation(nested: Container, source: Path) -> None:
    shared, private = k.MS_SHARED, k.MS_PRIVATE
    nested.do(
        *bind(source, "/a", recursive_propagation=shared, propagation=private), *bind(source, "/b", propagation=shared)
    )
    propagation = {point: nested.mount(point).propagation for point in nested.points()}
    assert propagation == {"/a": set(), "/a/below": {"shared"}, "/b": {"shared"}, "/b/below": set()}


def test_slave_tree(container: Container) -> None:
    """The copy of a shared mount is its peer, and a mount on it would appear on the original."""
    shared = MountFs("", "tmpfs", "tmpfs", "/shared", attributes=Attributes(propagation=k.MS_SHARED))
    original = container.rootfs / "shared"
    container.do(shared, *bind(original, "/peer"), *bind(original, "/slave", tree=lib.TREE_RECURSIVE | lib.TREE_SLAVE))
    assert container.mount("/peer").propagation == {"shared"}
    assert container.mount("/slave").propagation == {"master"}


def test_flags_are_cleared(container: Container, source: Path) -> None:
    flags = k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOEXEC | k.MOUNT_ATTR_NOSUID
    container.do(*bind(source, "/a", set=flags), *bind(container.rootfs / "a", "/b", clear=k.MOUNT_ATTR_RDONLY))
    assert {"ro", "noexec", "nosuid"} <= container.mount("/a").options
    assert {"rw", "noexec", "nosuid"} <= container.mount("/b").options


class TestLockedFlags:
    @pytest.fixture
    def locked(self, init: InitRunner, make_sandbox: MakeSandbox, rootfs: Path, source: Path) -> Container:
        """A container whose source of binds has flags that its user namespace must not clear."""
        sandbox = make_sandbox(user=True, outer=f"mount -t tmpfs -o nosuid,nodev,ro,noatime x {source}")
        return Container(init, sandbox, rootfs)

    def test_stay(self, locked: Container, source: Path) -> None:
        locked.do(*bind(source, "/mnt", set=k.MOUNT_ATTR_NOEXEC))
        assert {"nosuid", "nodev", "ro", "noatime", "noexec"} <= locked.mount("/mnt").options

    def test_are_not_cleared(self, locked: Container, source: Path) -> None:
        expected = (errno.EPERM, "mount_setattr /mnt: clears flags that the user namespace locks")
        assert locked.fail(*bind(source, "/mnt", clear=k.MOUNT_ATTR_RDONLY)) == expected
        assert locked.points() == []


class TestRemount:
    def remount(self, *options: str, **attributes: int) -> Remount:
        return Remount("/mounts/1", "/mnt", options or None, Attributes(**attributes))

    def test_flags(self, container: Container) -> None:
        ro = k.MOUNT_ATTR_RDONLY
        container.do(
            MountFs("", "tmpfs", "tmpfs", "/mnt"), self.remount(set=ro | k.MOUNT_ATTR_NODEV), self.remount(clear=ro)
        )
        assert {"rw", "nodev"} <= container.mount("/mnt").options

    def test_options(self, container: Container) -> None:
        container.do(MountFs("", "tmpfs", "tmpfs", "/mnt", ("size=64k",)), self.remount("size=128k", "ro"))
        assert {"ro", "size=128k"} <= container.mount("/mnt").super_options

    def test_propagation(self, container: Container) -> None:
        container.do(MountFs("", "tmpfs", "tmpfs", "/mnt"), self.remount(propagation=k.MS_SHARED))
        assert container.mount("/mnt").propagation == {"shared"}

    def test_bad_option(self, container: Container) -> None:
        mount = MountFs("", "tmpfs", "tmpfs", "/mnt")
        expected = (errno.EINVAL, "fsconfig size=much: tmpfs: Bad value for 'size'")
        assert container.fail(mount, self.remount("size=much")) == expected

    def test_option_that_cannot_change(self, container: Container) -> None:
        mount = MountFs("", "tmpfs", "tmpfs", "/mnt", ("size=0",))
        expected = (errno.EINVAL, "fsconfig reconfigure /mnt: tmpfs: Cannot retroactively limit size")
        assert container.fail(mount, self.remount("size=64k")) == expected

    def test_what_is_no_mount_point(self, container: Container) -> None:
        (container.rootfs / "mnt").mkdir()
        assert container.fail(self.remount(set=1)) == (errno.EINVAL, "remount /mnt: not a mount point")

    def test_what_is_missing(self, container: Container) -> None:
        assert container.fail(self.remount(set=1)) == (errno.ENOENT, "openat2 /mnt")
        assert os.listdir(container.rootfs) == []

    def test_the_root(self, container: Container) -> None:
        container.do(Remount("/mounts/1", "/", None, Attributes(set=k.MOUNT_ATTR_RDONLY)))
        assert "ro" in container.mount("").options


class TestSetMountAttributes:
    def test_the_root(self, container: Container) -> None:
        container.do(SetMountAttributes("/root/readonly", Attributes(set=k.MOUNT_ATTR_RDONLY)))
        assert "ro" in container.mount("").options

    def test_a_bind_in_a_slot(self, container: Container, source: Path) -> None:
        later = SetMountAttributes("/mounts/0", Attributes(set=k.MOUNT_ATTR_NOEXEC, propagation=k.MS_SHARED), SLOT + 1)
        container.do(*bind(source, "/mnt", slot=SLOT + 1), later)
        assert "noexec" in container.mount("/mnt").options
        assert container.mount("/mnt").propagation == {"shared"}

    def test_failure(self, container: Container) -> None:
        """0x60 is no mode of access times."""
        op = SetMountAttributes("/root/readonly", Attributes(set=0x60, clear=k.MOUNT_ATTR__ATIME))
        assert container.fail(op) == (errno.EINVAL, "mount_setattr the root")


@pytest.mark.root
def test_tree_of_the_host_section(container: Container, source: Path) -> None:
    """Opened in the runtime's mount namespace, attached in the container's."""
    tree, here = OpenTree("/mounts/0", str(source), lib.TREE_RECURSIVE, SLOT), Bind("/mounts/0", "/mnt", SLOT)
    outcome = container.sandbox.run(container.init, *container.attach(), here, host_ops=(OpenProc(""), tree))
    assert outcome.failure is None, outcome.failure
    assert container.inside("/mnt/file").read_text() == "content"


def test_the_root_slot_is_consumed(container: Container) -> None:
    assert container.fail(Bind("/mounts/0", "/b", ROOT_SLOT)) == (errno.EBADF, "fstat the tree to bind")
