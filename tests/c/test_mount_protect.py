"""MASK_PATH, MAKE_READONLY and SET_SYSCTL."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import (
    Attributes,
    Bind,
    MakeDevice,
    MakeReadonly,
    MaskPath,
    MountFs,
    Op,
    OpenProc,
    OpenTree,
    Pivot,
    SetPropagation,
    SetSysctl,
    Sync,
)
from tests.c.init_runner import InitRunner
from tests.c.sandbox import SLOT, Container, MakeSandbox, Sandbox

PIVOT = Pivot("", lib.PIVOT_ROOT)


def bind_null() -> tuple[Op, ...]:
    """The container's /dev/null as it is in a user namespace: the host's."""
    return OpenTree("", "/dev/null", 0, SLOT), Bind("", "/dev/null", SLOT)


def mask(*paths: str) -> tuple[MaskPath, ...]:
    return tuple(MaskPath(f"/linux/maskedPaths/{i}", path) for i, path in enumerate(paths))


class TestMaskPath:
    @pytest.fixture
    def secrets(self, rootfs: Path) -> None:
        for name in ("a", "b"):
            (rootfs / name).write_text("secret")
            (rootfs / f"{name}-folder").mkdir()
            (rootfs / f"{name}-folder/secret").touch()

    @pytest.mark.parametrize("pivot", [(), (PIVOT,)], ids=["before the pivot", "after it"])
    def test_files_and_directories(self, container: Container, secrets: None, pivot: tuple[Op, ...]) -> None:
        container.do(*bind_null(), *pivot, *mask("/a", "/a-folder", "/b", "/b-folder"))
        root = container.sandbox.path("/") if pivot else container.inside("/")
        for name in ("a", "b"):
            info = (root / name).stat()
            assert (stat.S_ISCHR(info.st_mode), info.st_rdev) == (True, os.makedev(1, 3))
            assert (root / name).read_bytes() == b""
            (root / name).write_bytes(b"swallowed")
            assert os.listdir(root / f"{name}-folder") == []
        assert (container.rootfs / "a").read_text() == "secret"

    def test_nothing_about_a_mask_can_be_changed(self, container: Container, secrets: None) -> None:
        container.do(*bind_null(), *mask("/a", "/b", "/a-folder", "/b-folder"))
        for name in ("/a", "/b", "/a-folder", "/b-folder"):
            assert {"ro", "nosuid", "noexec"} <= container.mount(name).options
        with pytest.raises(OSError, match="Read-only"):
            container.inside("/a").chmod(0)
        with pytest.raises(OSError, match="Read-only"):
            (container.inside("/a-folder") / "new").touch()

    def test_what_is_missing_needs_no_mask(self, container: Container) -> None:
        (container.rootfs / "file").touch()
        container.do(*mask("/missing", "/missing/below", "/file/below"))
        assert os.listdir(container.rootfs) == ["file"]
        assert container.points() == []

    def test_a_link_masks_what_it_leads_to_below_the_root(self, container: Container, secrets: None) -> None:
        (container.rootfs / "link").symlink_to("/../../../a")
        container.do(*bind_null(), *mask("/link"))
        assert container.points() == ["/dev/null", "/a"]

    def test_a_magic_link_is_refused(self, container: Container) -> None:
        tree = OpenTree("", "/proc", lib.TREE_RECURSIVE, SLOT)
        expected = (errno.ELOOP, "openat2 /proc/self/root/etc")
        assert container.fail(tree, Bind("", "/proc", SLOT), *mask("/proc/self/root/etc")) == expected

    def test_the_root(self, container: Container) -> None:
        assert container.fail(*mask("/")) == (errno.EINVAL, "mask the root itself: /")

    def test_without_a_null_device(self, container: Container, secrets: None) -> None:
        assert container.fail(*mask("/a")) == (errno.ENOENT, "openat2 /dev/null")

    @pytest.mark.parametrize("forgery", ["file", "link", "fifo", "directory"])
    def test_forged_null_device(self, container: Container, secrets: None, forgery: str) -> None:
        """CVE-2025-31133: the container's /dev/null is a link to what the container wants to be writable."""
        null = container.rootfs / "dev/null"
        null.parent.mkdir()
        if forgery == "directory":
            null.mkdir()
        elif forgery == "fifo":
            os.mkfifo(null)
        elif forgery == "link":
            null.symlink_to("/b")
        else:
            null.touch()
        what = "/dev/null of the container is not the null device"
        assert container.fail(*mask("/a")) == (0, what)
        assert container.run(*mask("/a")).message == f"/linux/maskedPaths/0: mask /a: {what}"
        assert container.points() == []

    @pytest.mark.root
    @pytest.mark.parametrize(("kind", "minor"), [(stat.S_IFCHR, 5), (stat.S_IFBLK, 3)])
    def test_another_device_in_its_place(self, root_container: Container, secrets: None, kind: int, minor: int) -> None:
        device = MakeDevice("", "/dev/null", kind | 0o666, 1, minor, 0, 0)
        assert root_container.fail(device, *mask("/a")) == (0, "/dev/null of the container is not the null device")

    @pytest.mark.root
    def test_link_to_a_null_device(self, root_container: Container, secrets: None) -> None:
        """The device alone is not enough: it has to be in its place."""
        (root_container.rootfs / "dev").mkdir()
        (root_container.rootfs / "dev/null").symlink_to("elsewhere")
        device = MakeDevice("", "/dev/elsewhere", stat.S_IFCHR | 0o666, 1, 3, 0, 0)
        assert root_container.fail(device, *mask("/a")) == (0, "/dev/null of the container is not the null device")

    @pytest.mark.root
    def test_the_containers_own_null_device(self, root_container: Container, secrets: None) -> None:
        device = MakeDevice("", "/dev/null", stat.S_IFCHR | 0o666, 1, 3, 0, 0)
        root_container.do(device, *mask("/a"))
        assert root_container.inside("/a").stat().st_ino == (root_container.rootfs / "dev/null").stat().st_ino


class TestMakeReadonly:
    def test_file_and_directory(self, container: Container) -> None:
        (container.rootfs / "folder").mkdir()
        (container.rootfs / "file").touch()
        container.do(*(MakeReadonly("/linux/readonlyPaths/0", path) for path in ("/folder", "/file")))
        for path in ("/folder", "/file"):
            assert "ro" in container.mount(path).options
        with pytest.raises(OSError, match="Read-only"):
            (container.inside("/folder") / "new").touch()
        assert os.access(container.inside("/"), os.W_OK)

    def test_flags_stay_and_mounts_below_it_too(self, container: Container) -> None:
        tmpfs = MountFs("", "tmpfs", "tmpfs", "/a", attributes=Attributes(set=k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV))
        container.do(tmpfs, MountFs("", "tmpfs", "tmpfs", "/a/b"), MakeReadonly("/linux/readonlyPaths/0", "/a"))
        assert {"ro", "nosuid", "nodev"} <= container.mount("/a").options
        assert "rw" in container.mount("/a/b").options
        assert container.points() == ["/a", "/a/b", "/a", "/a/b"]

    def test_missing(self, container: Container) -> None:
        (container.rootfs / "file").touch()
        container.do(*(MakeReadonly("/linux/readonlyPaths/0", path) for path in ("/missing", "/file/below")))
        assert os.listdir(container.rootfs) == ["file"]

    def test_the_root(self, container: Container) -> None:
        container.do(PIVOT, MakeReadonly("/linux/readonlyPaths/0", "/"))
        assert "ro" in container.sandbox.mount("/").options

    def test_links_are_resolved_below_the_root(self, container: Container) -> None:
        (container.rootfs / "folder").mkdir()
        (container.rootfs / "link").symlink_to("/../../folder")
        container.do(MakeReadonly("/linux/readonlyPaths/0", "/link"))
        assert container.points() == ["/folder"]

    def test_failure(self, container: Container) -> None:
        (container.rootfs / "loop").symlink_to("loop")
        assert container.fail(MakeReadonly("/linux/readonlyPaths/0", "/loop")) == (errno.ELOOP, "openat2 /loop")


class TestSetSysctl:
    def set_sysctl(self, init: InitRunner, name: str, value: str) -> tuple[int, str]:
        """In new namespaces: errno and detail, or -1 and what is read afterwards."""
        flags = k.CLONE_NEWUSER | k.CLONE_NEWNET | k.CLONE_NEWIPC | k.CLONE_NEWUTS
        ops = (SetSysctl(f"/linux/sysctl/{name}", name, value), Sync("", lib.SYNC_READY))
        with init.start(*ops, host_ops=(OpenProc(""),), clone_flags=flags) as running:
            running.serve(until=lib.SYNC_READY)
            if running.failure is not None:
                return running.failure.error, running.failure.detail
            command = ["nsenter", f"--target={running.pid}", "--net", "--ipc", "--uts", "cat", f"/proc/sys/{name}"]
            return -1, subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @pytest.mark.root
    @pytest.mark.parametrize(("name", "value"), [("net/ipv4/ip_forward", "1"), ("kernel/domainname", "example.org")])
    def test_of_the_containers_namespaces(self, init: InitRunner, name: str, value: str) -> None:
        before = Path("/proc/sys", name).read_text()
        assert self.set_sysctl(init, name, value) == (-1, value)
        assert Path("/proc/sys", name).read_text() == before

    def test_unknown(self, init: InitRunner) -> None:
        assert self.set_sysctl(init, "net/nonsense", "1") == (errno.ENOENT, "openat2 /proc/sys: net/nonsense")

    def test_bad_value(self, init: InitRunner) -> None:
        assert self.set_sysctl(init, "net/ipv4/ip_forward", "yes") == (errno.EINVAL, "write sysctl net/ipv4/ip_forward")

    def test_directory(self, init: InitRunner) -> None:
        assert self.set_sysctl(init, "net/ipv4", "1") == (errno.EISDIR, "openat2 /proc/sys: net/ipv4")

    @pytest.mark.parametrize("name", ["../sysrq-trigger", "net/../../self/oom_score_adj", "/etc/passwd"])
    def test_no_way_out_of_sys(self, init: InitRunner, name: str) -> None:
        assert self.set_sysctl(init, name, "1") == (errno.EXDEV, f"openat2 /proc/sys: {name}")

    def test_without_a_procfs(self, sandbox: Sandbox, init: InitRunner) -> None:
        outcome = sandbox.run(init, SetSysctl("/linux/sysctl/a", "a", "1"), host_ops=())
        assert (outcome.error, outcome.detail) == (errno.EBADF, "openat2 /proc/sys")

    def test_covered_by_another_file_system(self, init: InitRunner, make_sandbox: MakeSandbox) -> None:
        """CVE-2025-52881: the write must reach the kernel, not what somebody put in its place."""
        sandbox = make_sandbox(
            user=True, prepare="mount -t tmpfs x /proc/sys; mkdir /proc/sys/net; touch /proc/sys/net/a"
        )
        outcome = sandbox.run(init, OpenProc(""), SetSysctl("/linux/sysctl/net.a", "net/a", "1"), host_ops=())
        assert (outcome.error, outcome.detail) == (errno.EXDEV, "openat2 /proc/sys")


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("propagation", [k.MS_SHARED, k.MS_SLAVE, k.MS_PRIVATE])
def test_whatever_the_propagation_of_the_root(container: Container, propagation: int, recursive: bool) -> None:
    """/linux/rootfsPropagation takes effect after the pivot, before the paths are protected."""
    for name in ("masked", "readonly"):
        (container.rootfs / name).mkdir()
        (container.rootfs / f"{name}-file").touch()
    protect = (
        MaskPath("", "/masked"),
        MaskPath("", "/masked-file"),
        MakeReadonly("", "/readonly"),
        MakeReadonly("", "/readonly-file"),
    )
    again = (MaskPath("", "/readonly"), MaskPath("", "/readonly-file"))
    container.do(*bind_null(), PIVOT, SetPropagation("", propagation, recursive), *protect, *again)
    for name in ("masked-file", "readonly-file"):
        assert container.sandbox.path(f"/{name}").is_char_device()
    points = {mount.point for mount in container.sandbox.mounts()}
    assert points == {"/", "/dev/null", "/masked", "/masked-file", "/readonly", "/readonly-file"}


@pytest.mark.parametrize("op", [MaskPath("", "/file"), MakeReadonly("", "/file")])
def test_what_is_unbindable_cannot_be_copied(container: Container, op: Op) -> None:
    (container.rootfs / "file").touch()
    error, detail = container.fail(*bind_null(), PIVOT, SetPropagation("", k.MS_UNBINDABLE, True), op)
    assert (error, detail.split()[0]) == (errno.EINVAL, "open_tree")
