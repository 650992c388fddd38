"""path_in_root: where paths below the root lead, what is made on the way, and what is refused.

A FIFO shows where root_parent() led, a bind where root_make() did, a remount where root_open() did.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import Attributes, Bind, MakeDevice, MakeReadonly, MountFs, Op, OpenTree, Remount
from tests.c.sandbox import SLOT, Container


def fifo(path: str) -> MakeDevice:
    return MakeDevice("/linux/devices/0", path, stat.S_IFIFO | 0o600, 0, 0, 0, 0)


def tmpfs(path: str) -> MountFs:
    return MountFs("/mounts/0", "tmpfs", "tmpfs", path)


def bind_file(path: str) -> tuple[Op, ...]:
    return OpenTree("", "/dev/null", 0, SLOT), Bind("/mounts/0", path, SLOT)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host's, which nothing may ever appear in."""
    outside = tmp_path / "outside"
    outside.mkdir()
    return outside


def tree_of(rootfs: Path) -> set[str]:
    """Everything in the root file system, with no link followed."""
    return {
        os.path.relpath(os.path.join(folder, name), rootfs)
        for folder, dirs, files in os.walk(rootfs)
        for name in dirs + files
    }


@pytest.mark.parametrize(
    ("links", "path", "found"),
    [
        ({}, "/a/b/c", "a/b/c"),
        ({}, "a/b/c", "a/b/c"),
        ({}, "//a///b/./c/", "a/b/c"),
        ({}, "/a/../b", "b"),
        ({}, "/../../b", "b"),
        ({}, "/a/b/../../../../c", "c"),
        ({"a": "/b"}, "/a/c", "b/c"),
        ({"a": "b"}, "/a/c", "b/c"),
        ({"a": "/"}, "/a/c", "c"),
        ({"a": "../../../.."}, "/a/c", "c"),
        ({"a": "b/../../c"}, "/a/d", "c/d"),
        ({"a": "/b/", "b": "c//d"}, "/a/e", "c/d/e"),
        ({"a": "b/x", "b": "/c"}, "/a/e", "c/x/e"),
        ({"a": "/b/c"}, "/a/../d", "b/d"),
        ({"a": "."}, "/a/a/b", "b"),
        ({"made/a": "../b"}, "/made/a/c", "b/c"),
        ({"made/a": "../../../b"}, "/made/a/c", "b/c"),
    ],
)
def test_where_it_leads(container: Container, links: dict[str, str], path: str, found: str) -> None:
    """Missing components are made; links are resolved below the root, and so are those that lead to nothing yet."""
    for link, target in links.items():
        (container.rootfs / link).parent.mkdir(exist_ok=True)
        (container.rootfs / link).symlink_to(target)
    container.do(tmpfs(path))
    assert container.points() == [f"/{found}"]
    for link, target in links.items():
        assert os.readlink(container.rootfs / link) == target


def test_what_is_made_has_mode_0755_and_0644(container: Container) -> None:
    container.do(*bind_file("/a/b/file"))
    modes = [stat.S_IMODE((container.rootfs / path).lstat().st_mode) for path in ("a", "a/b", "a/b/file")]
    assert modes == [0o755, 0o755, 0o644]


def test_a_file_at_the_end_of_a_link_to_nothing(container: Container) -> None:
    (container.rootfs / "etc").mkdir()
    (container.rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolv.conf")
    container.do(*bind_file("/etc/resolv.conf"))
    assert container.points() == ["/run/systemd/resolv.conf"]
    assert (container.rootfs / "run/systemd/resolv.conf").is_file()


def test_a_mount_on_the_way_is_entered(container: Container) -> None:
    container.do(tmpfs("/a"), tmpfs("/a/b/../c"), fifo("/a/d/fifo"))
    assert container.points() == ["/a", "/a/c"]
    assert container.inside("/a/d/fifo").is_fifo()
    assert os.listdir(container.rootfs / "a") == []


@pytest.mark.parametrize("path", ["/loop/a", "/loop", "/one/a"])
def test_loops(container: Container, path: str) -> None:
    for link, target in {"loop": "loop", "one": "two", "two": "one"}.items():
        (container.rootfs / link).symlink_to(target)
    assert container.fail(tmpfs(path)) == (errno.ELOOP, f"openat2 {path}")


def test_loop_behind_what_has_to_be_made(container: Container) -> None:
    (container.rootfs / "loop").symlink_to("missing/../loop")
    assert container.fail(tmpfs("/loop/a")) == (errno.ELOOP, "make /loop/a")


@pytest.mark.parametrize("links", [38, 41])
def test_number_of_links(container: Container, links: int) -> None:
    for number in range(links):
        (container.rootfs / f"l{number}").symlink_to(f"l{number + 1}" if number < links - 1 else "end")
    if links <= 40:
        container.do(tmpfs("/l0"))
        assert container.points() == ["/end"]
    else:
        assert container.fail(tmpfs("/l0"))[0] == errno.ELOOP


@pytest.mark.parametrize("path", ["/file/a", "/file/../a", "/link/a"])
def test_a_file_on_the_way(container: Container, path: str) -> None:
    (container.rootfs / "file").touch()
    (container.rootfs / "link").symlink_to("file")
    assert container.fail(tmpfs(path)) == (errno.ENOTDIR, f"openat2 {path}")


def test_a_file_behind_what_has_to_be_made(container: Container) -> None:
    (container.rootfs / "file").touch()
    assert container.fail(tmpfs("/made/../file/a")) == (errno.ENOTDIR, "make /made/../file/a")


def test_name_that_is_too_long(container: Container) -> None:
    path = "/made/" + "n" * 256
    assert container.fail(tmpfs(path)) == (errno.ENAMETOOLONG, f"make {path}")


def test_path_that_is_too_long(container: Container) -> None:
    assert container.fail(tmpfs("/made/" + "a/" * 2100))[0] == errno.ENAMETOOLONG
    assert container.fail(fifo("/made/" + "a/" * 2100))[0] == errno.ENAMETOOLONG


def test_links_that_become_too_long(container: Container) -> None:
    (container.rootfs / "link").symlink_to("made/" * 700 + "..")
    error, detail = container.fail(tmpfs("/link/" + "a/" * 400 + "b"))
    assert (error, detail[:10]) == (errno.ENAMETOOLONG, "make /link")


def test_a_deep_path(container: Container) -> None:
    container.do(tmpfs("/d" * 200))
    assert container.points() == ["/d" * 200]


def test_empty_path(container: Container) -> None:
    assert container.fail(Remount("/mounts/0", "", None, Attributes(set=1))) == (errno.ENOENT, "openat2 ")


def test_read_only_root(container: Container) -> None:
    readonly = MakeReadonly("", "/")
    assert container.fail(readonly, tmpfs("/missing")) == (errno.EROFS, "make /missing")


def test_directory_that_must_not_be_searched(container: Container) -> None:
    """Of another user, which a user namespace's root cannot read either."""
    (container.rootfs / "private").mkdir(mode=0)
    container.do(tmpfs("/private/a"))  # the owner's root may
    assert container.points() == ["/private/a"]


class TestMagicLinks:
    """/proc/PID/{root,cwd,exe,fd/N} lead out of any root: the kernel jumps to what they stand for."""

    PROC = (OpenTree("", "/proc", lib.TREE_RECURSIVE, SLOT), Bind("", "/proc", SLOT))

    @pytest.mark.parametrize("link", ["root", "cwd", "fd/3", "exe"])
    @pytest.mark.parametrize("through", ["/proc/self", "/proc/thread-self", "/indirect"])
    def test_refused(self, container: Container, link: str, through: str) -> None:
        (container.rootfs / "indirect").symlink_to("proc/self")
        path = f"{through}/{link}"
        assert container.fail(*self.PROC, tmpfs(path)) == (errno.ELOOP, f"openat2 {path}")
        assert container.fail(*self.PROC, fifo(f"{path}/fifo")) == (errno.ELOOP, f"openat2 {path}")

    def test_refused_behind_what_has_to_be_made(self, container: Container) -> None:
        path = "/made/../proc/self/root/tmp/ocirt-test-magic"
        assert container.fail(*self.PROC, tmpfs(path)) == (errno.ELOOP, f"openat2 {path}")
        assert not Path("/tmp/ocirt-test-magic").exists()

    def test_a_link_to_one(self, container: Container) -> None:
        (container.rootfs / "dev").symlink_to("/proc/self/root/dev")
        assert container.fail(*self.PROC, fifo("/dev/fifo")) == (errno.ELOOP, "openat2 /dev")


class TestNothingAppearsOutside:
    """The root file system's own links lead to a folder of the host's, absolutely and by way of the parents."""

    @pytest.fixture(params=["absolute", "parents", "indirect"])
    def escaping(self, request: pytest.FixtureRequest, container: Container, outside: Path) -> Container:
        target = {"absolute": str(outside), "parents": "../" * 20 + str(outside)[1:], "indirect": "b"}[request.param]
        (container.rootfs / "b").symlink_to(f"../..{outside}")
        for name in ("dev", "proc", "sys", "etc"):
            (container.rootfs / name).symlink_to(target)
        return container

    def test_devices(self, escaping: Container, outside: Path) -> None:
        escaping.do(fifo("/dev/fifo"), fifo("/dev/sub/fifo"))
        assert os.listdir(outside) == []
        assert (escaping.rootfs / str(outside)[1:] / "sub/fifo").is_fifo()

    def test_mounts(self, escaping: Container, outside: Path) -> None:
        escaping.do(tmpfs("/dev"), tmpfs("/etc/sub"), *bind_file("/sys/file"))
        assert os.listdir(outside) == []
        assert all(point.startswith(str(outside)) for point in escaping.points())
        assert not any(mount.point.startswith(str(outside)) for mount in escaping.sandbox.mounts())

    def test_read_only_paths(self, escaping: Container, outside: Path) -> None:
        escaping.do(MakeReadonly("", "/dev"))
        assert escaping.points() == []
        assert not any(mount.point.startswith(str(outside)) for mount in escaping.sandbox.mounts())


def test_remount_follows_links_below_the_root(container: Container, outside: Path) -> None:
    (container.rootfs / "link").symlink_to("/../mnt")
    container.do(tmpfs("/mnt"), Remount("/mounts/1", "/link", None, Attributes(set=k.MOUNT_ATTR_RDONLY)))
    assert "ro" in container.mount("/mnt").options
