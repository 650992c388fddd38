"""MOUNT_FS: new file systems, their options, and targets that are not what they should be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import Attributes, MountFs, SetMountAttributes
from tests.c.sandbox import SLOT, Container


def tmpfs(target: str, *options: str, flags: int = 0, slot: int = lib.NO_SLOT, **attributes: int) -> MountFs:
    return MountFs("/mounts/0", "tmpfs", "tmpfs", target, options, flags, slot, Attributes(**attributes))


def test_mounts_on_a_directory_that_is_made(container: Container) -> None:
    container.do(tmpfs("/run/user/1", "size=64k", "mode=0711"))
    mount = container.mount("/run/user/1")
    assert (mount.kind, mount.source) == ("tmpfs", "tmpfs")
    assert {"size=64k", "mode=711"} <= mount.super_options
    assert stat.S_IMODE((container.rootfs / "run/user").stat().st_mode) == 0o755


def test_flags_are_set_before_it_is_attached(container: Container) -> None:
    flags = k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC | k.MOUNT_ATTR_NOATIME
    container.do(tmpfs("/tmp", set=flags, clear=k.MOUNT_ATTR__ATIME))
    mount = container.mount("/tmp")
    assert mount.options == {"rw", "nosuid", "nodev", "noexec", "noatime"}


def test_recursive_flags_are_those_of_the_one_mount(container: Container) -> None:
    container.do(tmpfs("/tmp", recursive_set=k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSYMFOLLOW))
    mount = container.mount("/tmp")
    assert {"ro", "nosymfollow"} <= mount.options
    assert "rw" in mount.super_options


@pytest.mark.parametrize("word", ["ro", "sync", "dirsync", "lazytime"])
def test_words_of_the_superblock(container: Container, word: str) -> None:
    container.do(tmpfs("/tmp", word))
    mount = container.mount("/tmp")
    assert word in mount.super_options


@pytest.mark.parametrize("propagation", [k.MS_SHARED, k.MS_PRIVATE, k.MS_UNBINDABLE])
@pytest.mark.parametrize("kind", ["propagation", "recursive_propagation"])
def test_propagation_counts_below_a_shared_mount(container: Container, kind: str, propagation: int) -> None:
    below = tmpfs("/tmp/below", **{kind: propagation})
    container.do(tmpfs("/tmp", propagation=k.MS_SHARED), below)
    mount = container.mount("/tmp/below")
    expected = {k.MS_SHARED: {"shared"}, k.MS_PRIVATE: set(), k.MS_UNBINDABLE: {"unbindable"}}
    assert mount.propagation == expected[propagation]


def test_the_slot_holds_the_mount_and_not_what_it_covers(container: Container) -> None:
    later = SetMountAttributes("/mounts/0", Attributes(set=k.MOUNT_ATTR_RDONLY), SLOT)
    container.do(tmpfs("/dev", slot=SLOT), tmpfs("/dev/shm"), later)
    dev, shm = (container.sandbox.mount(container.rootfs / path) for path in ("dev", "dev/shm"))
    assert ("ro" in dev.options, "ro" in shm.options) == (True, False)


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "source", "options"),
    [
        ("proc", "proc", ()),
        ("proc", "", ("hidepid=invisible",)),
        ("sysfs", "sysfs", ()),
        ("tmpfs", "shm", ("mode=1777", "size=65536k", "nr_inodes=1k")),
        ("devpts", "devpts", ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
        ("mqueue", "mqueue", ()),
        ("cgroup2", "cgroup", ()),
        ("ramfs", "ramfs", ("mode=0700",)),
        ("bpf", "bpf", ("mode=0700",)),
    ],
)
def test_kinds_of_file_systems(root_container: Container, kind: str, source: str, options: tuple[str, ...]) -> None:
    root_container.do(MountFs("/mounts/0", kind, source, "/mnt", options))
    mount = root_container.sandbox.mount(root_container.rootfs / "mnt")
    assert (mount.kind, mount.source) == (kind, source or "none")


def overlay_layers(folder: Path, count: int) -> list[str]:
    layers = [folder / f"layer-{number:02}" for number in range(count)]
    for layer in layers:
        layer.mkdir()
        (layer / layer.name).touch()
    return [str(layer) for layer in layers]


@pytest.mark.parametrize("count", [2, 12])
def test_overlay(container: Container, tmp_path: Path, count: int) -> None:
    layers = overlay_layers(tmp_path, count)
    container.do(MountFs("/mounts/0", "overlay", "overlay", "/mnt", (f"lowerdir={':'.join(layers)}",)))
    assert len(list(container.inside("/mnt").iterdir())) == count


def test_overlay_with_escapes_that_are_too_long(container: Container) -> None:
    option = "lowerdir=" + ":".join("/escaped\\:colon/" + "x" * 60 for _ in range(4))
    error, detail = container.fail(MountFs("/mounts/0", "overlay", "overlay", "/mnt", (option,)))
    assert (error, detail) == (errno.ENAMETOOLONG, "fsconfig lowerdir: escapes and data layers in more than 255 bytes")


def test_the_first_equals_sign_ends_the_key(container: Container) -> None:
    error, detail = container.fail(tmpfs("/tmp", "size=1=2"))
    assert (error, detail) == (errno.EINVAL, "fsconfig size=1=2: tmpfs: Bad value for 'size'")


@pytest.mark.parametrize(
    ("kind", "option", "expected"),
    [
        ("tmpfs", "size=much", (errno.EINVAL, "fsconfig size=much: tmpfs: Bad value for 'size'")),
        ("tmpfs", "nonsense", (errno.EINVAL, "fsconfig nonsense: tmpfs: Unknown parameter 'nonsense'")),
        ("tmpfs", "k" * 300, (errno.ENAMETOOLONG, f"fsconfig {'k' * 300}")),
        ("tmpfs", "size=" + "1" * 300, (errno.ENAMETOOLONG, f"fsconfig size={'1' * 300}")),
        ("nonsense", "", (errno.ENODEV, "fsopen nonsense")),
        ("ext4", "", (errno.EPERM, "fsconfig create ext4")),
    ],
)
def test_refused_by_the_kernel(container: Container, kind: str, option: str, expected: tuple[int, str]) -> None:
    assert container.fail(MountFs("/mounts/0", kind, "", "/mnt", (option,) if option else ())) == expected
    assert container.points() == []


def test_the_kernel_says_why_it_cannot_be_created(container: Container) -> None:
    error, detail = container.fail(MountFs("/mounts/0", "overlay", "", "/mnt", ("lowerdir=/nowhere",)))
    assert error in (errno.ENOENT, errno.EINVAL)
    assert "/nowhere" in detail


def test_target_that_is_a_file(container: Container) -> None:
    (container.rootfs / "tmp").touch()
    assert container.fail(tmpfs("/tmp")) == (errno.ENOTDIR, "openat2 /tmp")
    assert container.run(tmpfs("/tmp")).message == "/mounts/0: mount tmpfs on /tmp: openat2 /tmp: not a directory"


def test_target_below_a_file(container: Container) -> None:
    (container.rootfs / "tmp").touch()
    assert container.fail(tmpfs("/tmp/below")) == (errno.ENOTDIR, "openat2 /tmp/below")


@pytest.mark.parametrize("link", ["elsewhere", "/elsewhere", "../../elsewhere", "/nowhere"])
def test_real_directory_refuses_links(container: Container, link: str) -> None:
    (container.rootfs / "elsewhere").mkdir()
    (container.rootfs / "proc").symlink_to(link)
    assert container.fail(MountFs("/mounts/0", "proc", "proc", "/proc", flags=lib.MOUNT_REAL_DIRECTORY)) in {
        (code, "openat2 /proc: must be a real directory") for code in (errno.ELOOP, errno.ENOTDIR)
    }
    assert container.points() == []
    assert sorted(os.listdir(container.rootfs)) == ["elsewhere", "proc"]


def test_real_directory_refuses_a_link_among_the_parents(container: Container) -> None:
    (container.rootfs / "elsewhere").mkdir()
    (container.rootfs / "a").symlink_to("elsewhere")
    assert container.fail(MountFs("/mounts/0", "proc", "proc", "/a/proc", flags=lib.MOUNT_REAL_DIRECTORY)) == (
        errno.ELOOP,
        "openat2 /a/proc: must be a real directory",
    )
    assert list((container.rootfs / "elsewhere").iterdir()) == []


def test_real_directory_refuses_a_file(container: Container) -> None:
    (container.rootfs / "proc").touch()
    assert container.fail(MountFs("/mounts/0", "proc", "proc", "/proc", flags=lib.MOUNT_REAL_DIRECTORY)) == (
        errno.ENOTDIR,
        "openat2 /proc: must be a real directory",
    )


@pytest.mark.root
@pytest.mark.parametrize("target", ["/proc", "/made/on/the/way"])
def test_real_directory_is_made(root_container: Container, target: str) -> None:
    root_container.do(MountFs("/mounts/0", "proc", "proc", target, flags=lib.MOUNT_REAL_DIRECTORY))
    assert (root_container.inside(target) / "self").is_symlink()


def test_over_the_root_itself_becomes_the_root(container: Container) -> None:
    (container.rootfs / "covered").mkdir()
    container.do(tmpfs("/"), tmpfs("/below"))
    root = container.mount("")
    assert root.kind == "tmpfs"
    assert container.points() == ["/below"]
    assert os.listdir(container.inside("/")) == ["below"]


class TestTakeOver:
    def test_mode_and_owner(self, container: Container) -> None:
        (container.rootfs / "tmp").mkdir()
        (container.rootfs / "tmp").chmod(0o3751)
        container.do(tmpfs("/tmp", flags=lib.MOUNT_TAKE_OVER))
        assert stat.S_IMODE(container.inside("/tmp").stat().st_mode) == 0o3751

    def test_explicit_options_win(self, container: Container) -> None:
        (container.rootfs / "tmp").mkdir(mode=0o700)
        container.do(tmpfs("/tmp", "mode=1770", flags=lib.MOUNT_TAKE_OVER))
        assert stat.S_IMODE(container.inside("/tmp").stat().st_mode) == 0o1770

    def test_a_directory_that_is_made_has_nothing_to_take_over(self, container: Container) -> None:
        container.do(tmpfs("/tmp", flags=lib.MOUNT_TAKE_OVER))
        assert stat.S_IMODE(container.inside("/tmp").stat().st_mode) == 0o1777

    @pytest.mark.root
    def test_owner(self, root_container: Container) -> None:
        (root_container.rootfs / "tmp").mkdir()
        os.chown(root_container.rootfs / "tmp", 1000, 1001)
        root_container.do(tmpfs("/tmp", flags=lib.MOUNT_TAKE_OVER))
        info = root_container.inside("/tmp").stat()
        assert (info.st_uid, info.st_gid) == (1000, 1001)

    @pytest.mark.root
    def test_an_owner_without_mapping_becomes_root(self, container: Container) -> None:
        (container.rootfs / "tmp").mkdir(mode=0o750)
        os.chown(container.rootfs / "tmp", 1000, 1001)
        container.do(tmpfs("/tmp", flags=lib.MOUNT_TAKE_OVER))
        info = container.inside("/tmp").stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, 0, 0o750)
