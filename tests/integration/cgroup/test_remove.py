"""A container's cgroup is emptied and removed, from any moment at which the runtime may have been killed."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.manager import CgroupfsManager
from ocirt.errors import HostError
from tests.integration.cgroup.conftest import create, is_alive
from tests.support.cgroups import process_in

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


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
