"""The life of a container's cgroup on the kernel's own cgroup2: made, claimed, killed, removed, from any moment."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.manager import (
    CgroupfsManager,
    CgroupRecord,
    CreatedCgroup,
    DisabledManager,
    cgroup_manager,
)
from ocirt.cgroup.owner import apply_cgroup_owner, probe_delegated_files
from ocirt.cgroup.paths import CgroupHost, probe_cgroup_host
from ocirt.errors import HostError, SpecError, StateError, UsageError
from tests.support.cgroups import process_in, remove_tree

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

NOBODY = 65534


@pytest.fixture
def host() -> CgroupHost:
    found = probe_cgroup_host()
    assert found is not None
    return found


@pytest.fixture
def manager(host: CgroupHost) -> CgroupfsManager:
    return CgroupfsManager(host)


@pytest.fixture
def base(host: CgroupHost, token: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a cgroup of this test alone, not made yet; whatever is there in the end is removed."""
    path = f"/{token}-{os.environ.get('PYTEST_XDIST_WORKER', '')}-{abs(hash(request.node.nodeid))}"
    yield path
    remove_tree(Path(host.directory(path)))


@pytest.fixture
def directory(host: CgroupHost, base: str) -> Path:
    return Path(host.directory(base))


def create(manager: CgroupfsManager, path: str, container_id: str = "c1") -> CgroupRecord:
    """A cgroup made to its end; its record."""
    created = manager.create(manager.prepare(path, container_id))
    assert created.cgroup is not None
    created.cgroup.close()
    return created.record


def is_alive(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


class TestCreate:
    def test_what_is_recorded_before_is_what_is_made(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        record = manager.prepare(f"{base}/pod/c1", "c1")
        assert not directory.exists()
        assert record.path == f"{base}/pod/c1"
        assert record.made == (base, f"{base}/pod", f"{base}/pod/c1")
        assert record.inode is None

        with_inode = create(manager, f"{base}/pod/c1")
        assert with_inode.made == record.made
        assert with_inode.inode == (directory / "pod/c1").stat().st_ino
        manager.remove(with_inode)
        assert not directory.exists()

    def test_the_descriptor_is_the_cgroups(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        created = manager.create(manager.prepare(base, "c1"))
        assert created.warnings == ()
        assert created.cgroup is not None
        with created.cgroup as cgroup:
            assert os.fstat(cgroup.fd).st_ino == directory.stat().st_ino
            assert not os.get_inheritable(cgroup.fd)
        manager.remove(created.record)

    def test_the_mode_does_not_depend_on_the_umask(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        old = os.umask(0o077)
        try:
            record = create(manager, f"{base}/c1")
        finally:
            os.umask(old)
        assert directory.stat().st_mode & 0o777 == 0o755
        assert (directory / "c1").stat().st_mode & 0o777 == 0o755
        manager.remove(record)

    def test_processes_in_it_are_an_error(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        (directory / "below").mkdir(parents=True)
        with process_in(directory / "below"), pytest.raises(StateError) as refused:
            create(manager, base)
        assert "/linux/cgroupsPath: container's cgroup is not empty: 1 process(es) found" in str(refused.value)
        assert refused.value.code == "cgroup.not_empty"
        assert (directory / "below").exists()

    def test_a_frozen_one_is_an_error(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        directory.mkdir()
        (directory / "cgroup.freeze").write_text("1")
        with pytest.raises(StateError, match="frozen") as refused:
            create(manager, base)
        assert refused.value.code == "cgroup.frozen"

    def test_one_below_a_frozen_one_is_an_error(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        """The container's first process would never run a single instruction."""
        directory.mkdir()
        (directory / "cgroup.freeze").write_text("1")
        with pytest.raises(StateError, match="frozen"):
            create(manager, f"{base}/c1")
        assert not (directory / "c1").exists()

    def test_one_below_a_threaded_one_is_an_error(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        (directory / "threads").mkdir(parents=True)
        (directory / "threads/cgroup.type").write_text("threaded")
        with pytest.raises(StateError, match="domain invalid") as refused:
            create(manager, f"{base}/threads/c1")
        assert refused.value.code == "cgroup.type"
        assert not (directory / "threads/c1").exists()

    def test_one_of_another_container_is_an_error(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        record = create(manager, base, "first")
        with pytest.raises(StateError, match='belongs to the container "first"') as refused:
            create(manager, base, "second")
        assert refused.value.code == "cgroup.taken"
        assert directory.exists()
        manager.remove(record)

    def test_of_many_at_once_one_wins(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        records: list[CgroupRecord] = []
        refused: list[Exception] = []

        def attempt(number: int) -> None:
            try:
                records.append(create(manager, f"{base}/pod/c", f"c{number}"))
            except StateError as error:
                refused.append(error)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(records) == 1
        assert len(refused) == 7
        manager.remove(records[0])
        assert not directory.exists()

    def test_a_parent_that_goes_away_meanwhile_is_made_again(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        """Another container's delete removes the parent that they share, over and over."""
        stop = threading.Event()

        def remover() -> None:
            while not stop.is_set():
                for path in (directory / "pod", directory):
                    with contextlib.suppress(OSError):
                        path.rmdir()

        thread = threading.Thread(target=remover)
        thread.start()
        try:
            records = [create(manager, f"{base}/pod/c{number}", f"c{number}") for number in range(50)]
        finally:
            stop.set()
            thread.join()
        for record in records:
            manager.remove(record)
        assert not directory.exists()

    def test_a_name_that_is_a_file_of_the_kernels_is_an_error(self, manager: CgroupfsManager, base: str) -> None:
        with pytest.raises(HostError) as refused:
            create(manager, f"{base}/cgroup.procs")
        assert refused.value.pointer == "/linux/cgroupsPath"
        assert refused.value.errno == errno.ENOTDIR

    def test_the_kernels_refusal_is_an_error_that_leaves_nothing(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        directory.mkdir()
        (directory / "cgroup.max.depth").write_text("2")
        with pytest.raises(HostError) as refused:
            create(manager, f"{base}/a/b/c1")
        assert refused.value.pointer == "/linux/cgroupsPath"
        assert refused.value.errno == errno.EAGAIN
        assert not (directory / "a").exists()

    def test_a_bad_cgroups_path_is_an_error(self, manager: CgroupfsManager) -> None:
        with pytest.raises(SpecError):
            manager.prepare("/a/../b", "c1")


class TestRemove:
    def test_all_processes_and_cgroups_in_it_are_ended(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        record = create(manager, f"{base}/c1")
        (directory / "c1/inner/most").mkdir(parents=True)
        with (
            process_in(directory / "c1", ignore_sigterm=True) as first,
            process_in(directory / "c1/inner/most") as second,
        ):
            opened = manager.open(record)
            assert opened is not None
            with opened:
                assert opened.processes() == sorted([first, second])
            manager.remove(record)
            assert not is_alive(first)
            assert not is_alive(second)
        assert not directory.exists()

    def test_a_frozen_container_is_ended(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        record = create(manager, base)
        with process_in(directory):
            (directory / "cgroup.freeze").write_text("1")
            manager.remove(record)
        assert not directory.exists()

    def test_neither_depth_nor_width_is_a_hindrance(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        """A container can nest cgroups deeper than Python recurses or descriptors last, and beyond PATH_MAX."""
        record = create(manager, base)
        fd = os.open(directory, os.O_PATH)
        for _ in range(1500):
            os.mkdir("deep", dir_fd=fd)
            inner = os.open("deep", os.O_PATH, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(fd)
        for number in range(100):
            (directory / f"wide{number}").mkdir()
        opened = manager.open(record)
        assert opened is not None
        with opened, process_in(directory / "wide7") as pid:
            assert opened.processes() == [pid]
        manager.remove(record)
        assert not directory.exists()

    def test_removing_twice_is_no_error(self, manager: CgroupfsManager, base: str) -> None:
        record = create(manager, f"{base}/c1")
        manager.remove(record)
        manager.remove(record)
        assert manager.open(record) is None

    def test_the_last_container_in_a_parent_removes_it(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        first = create(manager, f"{base}/pod/c1", "c1")
        second = create(manager, f"{base}/pod/c2", "c2")
        assert second.made == (f"{base}/pod/c2",)
        manager.remove(first)
        assert (directory / "pod/c2").exists()
        manager.remove(second)
        assert not directory.exists()

    def test_what_was_there_before_stays(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        (directory / "c1").mkdir(parents=True)
        record = create(manager, f"{base}/c1")
        assert record.made == ()
        (directory / "c1/inner").mkdir()
        with process_in(directory / "c1/inner") as pid:
            manager.remove(record)
            assert not is_alive(pid)
        assert (directory / "c1").exists()
        assert not (directory / "c1/inner").exists()
        # and another container can have it
        manager.remove(create(manager, f"{base}/c1", "c2"))

    def test_a_cgroup_made_anew_by_someone_else_is_left_alone(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        record = create(manager, base)
        directory.rmdir()
        directory.mkdir()
        with process_in(directory) as pid:
            assert manager.open(record) is None
            manager.remove(record)
            assert is_alive(pid)
        assert directory.exists()

    def test_a_container_cannot_evade_it_by_a_claim_of_its_own(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        record = create(manager, base)
        os.setxattr(directory, "user.ocirt.container", b"another 0123456789abcdef")
        os.removexattr(directory, "user.ocirt.made")
        with process_in(directory) as pid:
            manager.remove(record)
            assert not is_alive(pid)
        assert not directory.exists()

    def test_it_gives_up_at_the_deadline(
        self, manager: CgroupfsManager, base: str, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = create(manager, base)
        monkeypatch.setattr(Cgroup, "kill", lambda _: None)
        with process_in(directory) as pid:
            begin = time.monotonic()
            with pytest.raises(HostError) as failed:
                manager.remove(record, timeout=0.2)
            assert 0.2 <= time.monotonic() - begin < 2
            assert failed.value.errno == errno.EBUSY
            assert f"still there: [{pid}]" in str(failed.value)
        manager.remove(record)

    def test_it_waits_for_the_kernels_event(
        self, manager: CgroupfsManager, base: str, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = create(manager, base)
        monkeypatch.setattr(Cgroup, "kill", lambda _: None)
        with process_in(directory) as pid:
            ending = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
            begin = time.monotonic()
            ending.start()
            used = time.process_time()
            manager.remove(record, timeout=20)
            assert time.monotonic() - begin < 5
            assert time.process_time() - used < 0.2, "it asked again and again"
        assert not directory.exists()


class TestDeathOfTheRuntime:
    """`delete --force` with the record that was on disk when the runtime was killed."""

    def test_before_anything_was_made(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        manager.remove(manager.prepare(f"{base}/pod/c1", "c1"))
        assert not directory.exists()

    @pytest.mark.parametrize("made", ["", "pod", "pod/c1"])
    def test_between_mkdir_and_mark(self, manager: CgroupfsManager, base: str, directory: Path, made: str) -> None:
        record = manager.prepare(f"{base}/pod/c1", "c1")
        (directory / made).mkdir(parents=True)
        manager.remove(record)
        assert not directory.exists()

    def test_after_the_claim(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        record = manager.prepare(f"{base}/pod/c1", "c1")
        created = manager.create(record)
        assert created.cgroup is not None
        created.cgroup.close()
        with process_in(directory / "pod/c1") as pid:
            manager.remove(record)
            assert not is_alive(pid)
        assert not directory.exists()

    def test_after_another_container_got_the_place(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        """Also one of the same id, which may be in another state directory."""
        record = manager.prepare(base, "c1")
        other = create(manager, base, "c1")
        with process_in(directory) as pid:
            manager.remove(record)
            assert is_alive(pid)
        manager.remove(record)
        assert directory.exists(), "a stopped container keeps its cgroup"
        manager.remove(other)

    def test_in_an_unclaimed_cgroup_that_was_there_before(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        directory.mkdir()
        manager.remove(manager.prepare(base, "c1"))
        assert directory.exists()


class TestExec:
    def test_it_is_where_init_really_is(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        record = create(manager, base)
        (directory / "init.scope").mkdir()
        with process_in(directory / "init.scope") as pid:
            cgroup = manager.open_for_exec(record, pid)
            assert cgroup is not None
            with cgroup:
                assert os.fstat(cgroup.fd).st_ino == (directory / "init.scope").stat().st_ino
            manager.remove(record)

    def test_an_init_outside_of_the_containers_cgroup_is_not_followed(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        record = create(manager, f"{base}/c1")
        (directory / "c10").mkdir()
        with process_in(directory / "c10") as pid:
            cgroup = manager.open_for_exec(record, pid)
            assert cgroup is not None
            with cgroup:
                assert os.fstat(cgroup.fd).st_ino == record.inode
        manager.remove(record)


class TestOwner:
    def test_only_the_directory_and_the_delegated_files_change(
        self, manager: CgroupfsManager, base: str, directory: Path
    ) -> None:
        created = manager.create(manager.prepare(base, "c1"), owner_uid=1234)
        assert created.cgroup is not None
        created.cgroup.close()
        assert directory.stat().st_uid == 1234
        owned = {entry.name for entry in directory.iterdir() if entry.stat().st_uid == 1234}
        assert owned == {name for name in probe_delegated_files() if (directory / name).exists()}
        assert {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} <= owned
        assert not {"cgroup.freeze", "cgroup.kill", "cgroup.max.depth"} & owned
        assert directory.stat().st_gid == 0
        manager.remove(created.record)
        assert not directory.exists()

    def test_a_failure_names_the_uids_pointer(self, manager: CgroupfsManager, base: str, directory: Path) -> None:
        record = create(manager, base)
        with Cgroup(os.open(directory, os.O_PATH), str(directory)) as cgroup, pytest.raises(HostError) as failed:
            apply_cgroup_owner(cgroup.fd, cgroup.where, 1234)
        assert str(failed.value) == f"/process/user/uid: fchown {directory}: bad file descriptor"
        manager.remove(record)


def run_python(code: str, *command: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python code in another process, perhaps in other namespaces or as another user."""
    return subprocess.run(
        [*command, sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        user=uid,
        group=uid,
        extra_groups=[],
        cwd=Path(__file__).parents[2],
    )


class TestUnprivileged:
    CODE = """
import os, sys
from ocirt.cgroup.manager import CgroupfsManager
from ocirt.cgroup.paths import probe_cgroup_host
host = probe_cgroup_host()
manager = CgroupfsManager(host)
record = manager.prepare({path!r}, "c1", optional={early!r})
created = manager.create(record, optional={optional!r}, owner_uid={owner!r})
made = created.record
print(host.own, host.delegated, record.path, made.path, created.cgroup is not None, *created.warnings, sep="|")
manager.remove(made)
"""

    @pytest.fixture(autouse=True)
    def readable(self) -> None:
        probe = run_python("import ocirt.cgroup.manager, ocirt._native", uid=NOBODY)
        if probe.returncode:
            pytest.skip("another user cannot read this folder")

    def run(
        self,
        directory: Path,
        path: str | None = None,
        *,
        early: bool = False,
        optional: bool = True,
        owner: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        join = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(directory)]
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return run_python(self.CODE.format(path=path, early=early, optional=optional, owner=owner), *join, *become)

    def test_in_a_delegated_cgroup_it_is_below_the_own_one(self, base: str, directory: Path) -> None:
        (directory / "scope").mkdir(parents=True)
        for path in (directory, directory / "cgroup.procs", directory / "scope", directory / "scope/cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        result = self.run(directory / "scope")
        assert result.stderr == ""
        assert result.stdout == f"{base}/scope|{base}|{base}/c1|{base}/c1|True\n"
        result = self.run(directory / "scope", "pods/c1")
        assert result.stdout == f"{base}/scope|{base}|{base}/pods/c1|{base}/pods/c1|True\n"
        result = self.run(directory, None)
        assert result.stdout == f"{base}|{base}|{base}/c1|{base}/c1|True\n"
        assert sorted(entry.name for entry in directory.iterdir() if entry.is_dir()) == ["scope"]

    def test_without_permission_it_does_without_if_it_may(self, base: str, directory: Path) -> None:
        directory.mkdir()
        result = self.run(directory)
        own, delegated, planned, path, has_cgroup, warning = result.stdout.strip().split("|")
        assert (own, delegated, planned, path, has_cgroup) == (base, "None", "/c1", "None", "False")
        assert "no cgroup of its own" in warning
        assert "permission denied" in warning

    def test_without_permission_it_is_planned_without(self, base: str, directory: Path) -> None:
        """So that the plan, and a mount of the cgroup in it, is of what will be."""
        directory.mkdir()
        result = self.run(directory, early=True)
        own, delegated, planned, path, has_cgroup, warning = result.stdout.strip().split("|")
        assert (own, delegated, planned, path, has_cgroup) == (base, "None", "None", "None", "False")
        assert "no cgroup of its own" in warning

    def test_without_permission_it_fails_if_it_may_not(self, directory: Path) -> None:
        directory.mkdir()
        result = self.run(directory, "/c1", optional=False)
        assert "HostError: /linux/cgroupsPath: mkdir /sys/fs/cgroup/c1: permission denied" in result.stderr

    def test_a_user_can_give_nothing_away_and_is_told(self, base: str, directory: Path) -> None:
        directory.mkdir()
        for path in (directory, directory / "cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        result = self.run(directory, owner=1234)
        assert result.stdout.startswith(f"{base}|{base}|{base}/c1|{base}/c1|True|the cgroup keeps its owner:")


class TestProbe:
    CODE = """
from ocirt.cgroup.paths import probe_cgroup_host
print(probe_cgroup_host())
"""

    def run(self, script: str) -> str:
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{script}\nexec "$@"', "sh"]
        result = run_python(self.CODE, *command)
        assert result.stderr == ""
        return result.stdout.strip()

    def test_a_pure_host(self, host: CgroupHost) -> None:
        assert (host.mount, host.root, host.delegated) == ("/sys/fs/cgroup", "/", "/")

    def test_a_hybrid_host(self) -> None:
        script = (
            "mount -t tmpfs t /sys/fs/cgroup; mkdir /sys/fs/cgroup/unified; mount -t cgroup2 c /sys/fs/cgroup/unified"
        )
        assert "mount='/sys/fs/cgroup/unified', root='/', " in self.run(script)

    def test_an_unusual_place(self, scratch: Path) -> None:
        place = scratch / "an unusual place"
        place.mkdir()
        script = f"mount -t tmpfs t /sys/fs/cgroup; mount -t cgroup2 c '{place}'"
        assert f"mount='{place}', root='/', " in self.run(script)
        place.rmdir()

    def test_a_part_of_the_hierarchy(self, base: str, directory: Path) -> None:
        """As in a container without a cgroup namespace: mountinfo has what paths in /proc/self/cgroup begin with."""
        (directory / "inner").mkdir(parents=True)
        script = f"mount --bind {directory} /sys/fs/cgroup; echo 0 > /sys/fs/cgroup/inner/cgroup.procs"
        assert self.run(script) == f"CgroupHost(mount='/sys/fs/cgroup', root='{base}', own='/inner', delegated='/')"

    def test_a_read_only_mount_is_nobodys(self) -> None:
        assert "delegated=None" in self.run("mount -o remount,bind,ro /sys/fs/cgroup")

    def test_no_cgroup2_at_all(self) -> None:
        """Whatever else there is: the file system's magic counts."""
        script = "umount -a -t cgroup2; mount -t tmpfs t /sys/fs/cgroup; touch /sys/fs/cgroup/cgroup.controllers"
        assert self.run(script) == "None"


class TestManagers:
    def test_disabled_does_nothing(self) -> None:
        manager = cgroup_manager("disabled", None)
        assert isinstance(manager, DisabledManager)
        record = manager.prepare("a.slice:b:c", "c1")
        assert record == CgroupRecord("disabled", None)
        assert manager.create(record) == CreatedCgroup(record, None)
        assert manager.open(record) is None
        assert manager.open_for_exec(record, os.getpid()) is None
        manager.remove(record)

    def test_by_name(self, host: CgroupHost) -> None:
        assert cgroup_manager("cgroupfs", host).name == "cgroupfs"
        with pytest.raises(UsageError, match='"systemdx"'):
            cgroup_manager("systemdx", host)
        with pytest.raises(StateError, match="cgroup v2 is not mounted") as refused:
            cgroup_manager("cgroupfs", None)
        assert refused.value.code == "cgroup.missing"

    def test_a_record_without_a_cgroup(self, manager: CgroupfsManager) -> None:
        record = CgroupRecord("cgroupfs", None)
        assert manager.open(record) is None
        assert manager.open_for_exec(record, os.getpid()) is None
        manager.remove(record)

    def test_a_record_is_plain_data(self, manager: CgroupfsManager, base: str) -> None:
        record = manager.prepare(base, "c1")
        assert CgroupRecord(**dataclasses.asdict(record)) == record
        assert record.claim.startswith("c1 ")
        assert manager.prepare(base, "c1").claim != record.claim
