"""OPEN_PROC, SET_PROPAGATION, ATTACH_ROOT, OPEN_ROOT and PIVOT: the root is the container's, with no way out of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import (
    AttachRoot,
    Attributes,
    Bind,
    MakeDevice,
    MountFs,
    OpenProc,
    OpenRoot,
    OpenTree,
    Pivot,
    SetCapabilities,
    SetMountAttributes,
    SetPropagation,
    Sync,
)
from tests.c.init_runner import InitRunner
from tests.c.sandbox import SLOT, Container, MakeSandbox, Sandbox, mounts_of

READY = Sync("", lib.SYNC_READY)


def fifo(path: str) -> MakeDevice:
    return MakeDevice("/linux/devices/0", path, 0o010600, 0, 0, 0, 0)


class TestOpenProc:
    def test_covered_by_something_else(self, init: InitRunner, make_sandbox: MakeSandbox) -> None:
        sandbox = make_sandbox(user=True, prepare="mount -t tmpfs x /proc")
        outcome = sandbox.run(init, OpenProc(""), host_ops=())
        assert (outcome.error, outcome.detail) == (0, "/proc is not the root of a procfs")

    def test_a_folder_of_a_procfs(self, init: InitRunner, make_sandbox: MakeSandbox) -> None:
        sandbox = make_sandbox(user=True, prepare="mount --bind /proc/sys /proc")
        outcome = sandbox.run(init, OpenProc(""), host_ops=())
        assert (outcome.error, outcome.detail) == (0, "/proc is not the root of a procfs")

    def test_success(self, sandbox: Sandbox, init: InitRunner) -> None:
        assert sandbox.run(init, OpenProc(""), OpenProc("")).failure is None


class TestSetPropagation:
    @pytest.mark.parametrize("recursive", [False, True])
    def test_one_or_all(self, sandbox: Sandbox, init: InitRunner, recursive: bool) -> None:
        outcome = sandbox.run(init, SetPropagation("/linux/rootfsPropagation", k.MS_SHARED, recursive))
        assert outcome.failure is None, outcome.failure
        shared = {mount.point: "shared" in mount.propagation for mount in sandbox.mounts()}
        assert (shared["/"], shared["/proc"]) == (True, recursive)

    def test_slave(self, init: InitRunner, make_sandbox: MakeSandbox) -> None:
        sandbox = make_sandbox(user=True, propagation="shared", prepare="mount --make-rshared /")
        outcome = sandbox.run(init, SetPropagation("", k.MS_PRIVATE, True), SetPropagation("", k.MS_SLAVE, True))
        assert outcome.failure is None, outcome.failure
        assert {word for mount in sandbox.mounts() for word in mount.propagation} == set()

    def test_without_privileges(self, sandbox: Sandbox, init: InitRunner) -> None:
        weak = SetCapabilities("", 0, 0, 0, 0)
        outcome = sandbox.run(init, weak, SetPropagation("/linux/rootfsPropagation", k.MS_SHARED, True))
        assert (outcome.error, outcome.detail) == (errno.EPERM, "mount_setattr /")


class TestAttachRoot:
    def test_over_its_own_path(self, container: Container) -> None:
        (container.rootfs / "a").mkdir()
        container.do(fifo("/a/fifo"))
        mount = container.mount("")
        assert mount.root.endswith("/rootfs")
        assert (container.rootfs / "a/fifo").is_fifo()

    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_the_mount_around_it_becomes_private(
        self, init: InitRunner, make_sandbox: MakeSandbox, tmp_path: Path, depth: int
    ) -> None:
        """Otherwise the root would be mounted on the host, too, and could not be pivoted into."""
        mount, rootfs = tmp_path / "mount", tmp_path.joinpath("mount", *("abc"[:depth]))
        mount.mkdir()
        sandbox = make_sandbox(
            user=True,
            propagation="unchanged",
            prepare=f"mount -t tmpfs x {mount}; mount --make-rshared /; mkdir -p {rootfs}",
        )
        container = Container(init, sandbox, rootfs)
        container.do()
        around = next(found for found in sandbox.mounts() if found.point == str(mount))
        assert "shared" not in around.propagation
        assert container.mount("").propagation <= {"master"}
        container.do(Pivot("", lib.PIVOT_ROOT))

    def test_what_is_no_directory(self, container: Container) -> None:
        (container.rootfs / "file").touch()
        path = str(container.rootfs / "file")
        tree, attach = OpenTree("", path, 0, SLOT), AttachRoot("/root/path", path, SLOT)
        assert container.fail(tree, attach) == (errno.ENOTDIR, f"open {path}")

    def test_missing(self, container: Container) -> None:
        path = str(container.rootfs / "missing")
        tree, attach = OpenTree("", str(container.rootfs), 0, SLOT), AttachRoot("/root/path", path, SLOT)
        assert container.fail(tree, attach) == (errno.ENOENT, f"open {path}")

    def test_below_a_root_that_is_no_mount(self, sandbox: Sandbox, init: InitRunner, rootfs: Path) -> None:
        """As in a chroot(2): no way leads up to the mount that has to be private."""
        (rootfs / "below").mkdir()
        chroot = OpenRoot("", str(rootfs)), Pivot("", lib.PIVOT_CHROOT)
        outcome = sandbox.run(init, *chroot, OpenTree("", "/below", 0, SLOT), AttachRoot("/root/path", "/below", SLOT))
        assert (outcome.error, outcome.detail) == (errno.EINVAL, "find the mount point above /below")

    def test_without_a_tree(self, container: Container) -> None:
        path = str(container.rootfs)
        tree = OpenTree("", path, 0, SLOT)
        attach = AttachRoot("/root/path", path, SLOT)
        assert container.fail(tree, attach, attach) == (errno.EBADF, f"mount_setattr {path}")


@pytest.mark.root
class TestRootThatCannotBeReached:
    """A root below a folder that a user namespace's root must not search."""

    @pytest.fixture
    def hidden(self, init: InitRunner, make_sandbox: MakeSandbox, rootfs: Path) -> Container:
        (rootfs / "marker").touch()
        rootfs.parent.chmod(0o700)
        sandbox = make_sandbox(user=True, uid=65534)
        return Container(init, sandbox, rootfs)

    def host_ops(self, rootfs: Path) -> tuple[OpenProc, OpenTree]:
        return OpenProc(""), OpenTree("/root/path", str(rootfs), lib.TREE_RECURSIVE, SLOT)

    def test_is_stacked_on_slash(self, hidden: Container) -> None:
        attach = AttachRoot("/root/path", str(hidden.rootfs), SLOT, lib.ROOT_STACK_ON_SLASH)
        tmpfs, pivot = MountFs("/mounts/0", "tmpfs", "tmpfs", "/marker-below"), Pivot("", lib.PIVOT_ROOT)
        (hidden.rootfs / "marker-below").mkdir()
        outcome = hidden.sandbox.run(hidden.init, attach, tmpfs, pivot, host_ops=self.host_ops(hidden.rootfs))
        assert outcome.failure is None, outcome.failure
        assert [mount.point for mount in hidden.sandbox.mounts()] == ["/", "/marker-below"]
        assert hidden.sandbox.path("/marker").exists()

    @pytest.mark.parametrize("path", ["/no-such-directory/rootfs", "/dev/null/rootfs"])
    def test_path_that_a_joined_mount_namespace_lacks(self, hidden: Container, path: str) -> None:
        attach, pivot = AttachRoot("/root/path", path, SLOT, lib.ROOT_STACK_ON_SLASH), Pivot("", lib.PIVOT_ROOT)
        outcome = hidden.sandbox.run(hidden.init, attach, pivot, host_ops=self.host_ops(hidden.rootfs))
        assert outcome.failure is None, outcome.failure
        assert [mount.point for mount in hidden.sandbox.mounts()] == ["/"]

    def test_fails_without_the_flag(self, hidden: Container) -> None:
        attach = AttachRoot("/root/path", str(hidden.rootfs), SLOT)
        outcome = hidden.sandbox.run(hidden.init, attach, host_ops=self.host_ops(hidden.rootfs))
        assert (outcome.error, outcome.detail) == (errno.EACCES, f"open {hidden.rootfs}")

    def test_cannot_be_moved(self, hidden: Container) -> None:
        attach = AttachRoot("/root/path", str(hidden.rootfs), SLOT, lib.ROOT_STACK_ON_SLASH)
        move = Pivot("", lib.PIVOT_MOVE)
        outcome = hidden.sandbox.run(hidden.init, attach, move, host_ops=self.host_ops(hidden.rootfs))
        assert (outcome.error, outcome.detail) == (0, "the root lies on / and cannot be moved there")


class TestPivotRoot:
    def test_nothing_else_is_left(self, container: Container) -> None:
        (container.rootfs / "mnt").mkdir()
        container.do(MountFs("", "tmpfs", "tmpfs", "/mnt"), Pivot("", lib.PIVOT_ROOT))
        assert [mount.point for mount in container.sandbox.mounts()] == ["/", "/mnt"]
        assert os.listdir(container.sandbox.path("/")) == ["mnt"]

    def test_the_root_is_still_held(self, container: Container) -> None:
        readonly = SetMountAttributes("/root/readonly", Attributes(set=k.MOUNT_ATTR_RDONLY))
        container.do(Pivot("", lib.PIVOT_ROOT), fifo("/fifo"), readonly)
        assert (container.rootfs / "fifo").is_fifo()
        assert "ro" in container.sandbox.mount("/").options

    def test_over_a_covered_root(self, container: Container, tmp_path: Path) -> None:
        """A mount on "/" is the root from then on."""
        (tmp_path / "other").mkdir()
        tree, bind = OpenTree("", str(tmp_path / "other"), 0, SLOT), Bind("/mounts/0", "/", SLOT)
        container.do(tree, bind, Pivot("", lib.PIVOT_ROOT), fifo("/fifo"))
        assert (tmp_path / "other/fifo").is_fifo()
        assert [mount.point for mount in container.sandbox.mounts()] == ["/"]
        assert os.listdir(container.sandbox.path("/")) == ["fifo"]

    def test_root_that_is_no_mount(self, container: Container) -> None:
        assert container.fail(OpenRoot("", str(container.rootfs.parent)), Pivot("", lib.PIVOT_ROOT)) == (
            errno.EINVAL,
            "pivot_root",
        )

    def test_without_a_root(self, sandbox: Sandbox, init: InitRunner) -> None:
        outcome = sandbox.run(init, Pivot("", lib.PIVOT_ROOT))
        assert (outcome.error, outcome.detail) == (errno.EBADF, "fchdir the root")

    def test_unknown_kind(self, container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Pivot, "describe", lambda op: f"pivot of kind {op.kind}")
        outcome = container.run(Pivot("", 9))
        assert (outcome.error, outcome.detail) == (errno.EINVAL, "invalid plan: kind of pivot")

    @pytest.mark.root
    def test_the_host_does_not_see_it(self, init: InitRunner, make_sandbox: MakeSandbox, rootfs: Path) -> None:
        """The mounts of the host stay where they are, even though they are shared with the container's."""
        outer = make_sandbox(user=False, propagation="shared")
        before = outer.mounts()
        with outer.namespaces() as namespaces:
            path, slots = str(rootfs), list(namespaces.values())
            attach = OpenTree("", path, 0, SLOT), AttachRoot("", path, SLOT)
            rslave = SetPropagation("", k.MS_SLAVE, True)
            joins = [(k.CLONE_NEWNS, 0)]
            for ops in (
                (rslave, *attach, Pivot("", lib.PIVOT_ROOT)),
                (*attach, Pivot("", lib.PIVOT_ROOT)),
                (*attach, Pivot("", lib.PIVOT_MOVE)),
            ):
                outcome = init.run(*ops, host_ops=(OpenProc(""),), clone_flags=k.CLONE_NEWNS, joins=joins, slots=slots)
                assert outcome.failure is None, outcome.failure
                assert outer.mounts() == before


@pytest.mark.root
class TestPivotMove:
    def views(self, pid: int) -> list[str]:
        return [mount.point for mount in mounts_of(pid) if mount.kind in ("proc", "sysfs")]

    def test_the_root_is_moved_over_slash(self, root_container: Container) -> None:
        (root_container.rootfs / "marker").touch()
        ops = (*root_container.attach(), MountFs("", "proc", "proc", "/proc"), Pivot("", lib.PIVOT_MOVE), READY)
        with root_container.sandbox.start(root_container.init, *ops) as running:
            running.serve(until=lib.SYNC_READY)
            assert running.failure is None, running.failure
            assert sorted(os.listdir(f"/proc/{running.pid}/root")) == ["marker", "proc"]
            assert os.readlink(f"/proc/{running.pid}/cwd") == "/"
            assert [mount.point for mount in mounts_of(running.pid)] == ["/", "/proc"]

    def test_the_hosts_views_of_the_kernel_are_gone(self, root_container: Container) -> None:
        """Where a procfs without masks is visible, a user namespace may mount another one."""
        (root_container.rootfs / "proc").mkdir()
        strange = root_container.rootfs.parent / "a b\\c"
        strange.mkdir()
        outside = root_container.rootfs.parent
        setup = Container(root_container.init, root_container.sandbox, outside)
        setup.do(MountFs("", "proc", "proc", "/a b\\c"))
        assert len(self.views(root_container.sandbox.pid)) >= 3
        root_container.do(MountFs("", "proc", "proc", "/proc"), Pivot("", lib.PIVOT_MOVE))
        # The helper's root is still the host's, where only what belongs to the container may be left.
        left = self.views(root_container.sandbox.pid)
        assert left == ["/proc"]
        assert not (root_container.sandbox.path(strange) / "self").exists()
        assert not Path(f"/proc/{root_container.sandbox.pid}/root/proc/self").is_symlink()
        assert not Path(f"/proc/{root_container.sandbox.pid}/root/sys/kernel").exists()

    def test_views_that_are_locked_are_covered(self, container: Container) -> None:
        (container.rootfs / "marker").touch()
        container.do(Pivot("", lib.PIVOT_MOVE))
        assert os.listdir(container.sandbox.path("/sys")) == []
        assert os.listdir(container.sandbox.path("/proc")) == []


@pytest.mark.root
class TestChroot:
    def test_without_a_mount_namespace(self, root_container: Container) -> None:
        (root_container.rootfs / "marker").touch()
        ops = (
            OpenRoot("/root/path", str(root_container.rootfs)),
            Pivot("", lib.PIVOT_CHROOT),
            fifo("/../../fifo"),
            READY,
        )
        with root_container.sandbox.start(root_container.init, *ops) as running:
            running.serve(until=lib.SYNC_READY)
            assert running.failure is None, running.failure
            assert sorted(os.listdir(f"/proc/{running.pid}/root")) == ["fifo", "marker"]
            assert os.readlink(f"/proc/{running.pid}/cwd") == str(root_container.rootfs)

    def test_what_is_no_directory(self, root_container: Container) -> None:
        (root_container.rootfs / "file").touch()
        path = str(root_container.rootfs / "file")
        assert root_container.fail(OpenRoot("/root/path", path)) == (errno.ENOTDIR, f"open {path}")
