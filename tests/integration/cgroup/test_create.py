"""A cgroup that is made and claimed, handed to its owner and joined by exec; and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import threading
from pathlib import Path

import pytest

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.manager import CgroupfsManager, CgroupRecord, CreatedCgroup, DisabledManager, cgroup_manager
from ocirt.cgroup.owner import apply_cgroup_owner, probe_delegated_files
from ocirt.cgroup.paths import CgroupHost
from ocirt.errors import HostError, SpecError, StateError, UsageError
from tests.integration.cgroup.conftest import create
from tests.support.cgroups import process_in

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


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
        assert refused.value.code == "cgroup.not-empty"
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
