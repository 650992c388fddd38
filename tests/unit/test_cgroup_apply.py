"""Settings are written as they stand, and what goes wrong is told with its property, file, value and reason."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup import apply
from ocirt.cgroup.apply import apply_settings
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.settings import Setting
from ocirt.errors import HostError

AT = "/linux/resources/x"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("memory.max", "memory.low", "io.weight", "hugetlb.2MB.max", "hugetlb.1GB.max", "hugetlb.2MB.rsvd.max"):
        (tmp_path / name).touch()
    (tmp_path / "cgroup.controllers").write_text("memory io hugetlb rdma\n")
    return tmp_path


@pytest.fixture
def cgroup(directory: Path) -> Iterator[Cgroup]:
    opened = Cgroup.open(str(directory))
    assert opened
    with opened:
        yield opened


class RefusingCgroup(Cgroup):
    """Refuses every write with an errno."""

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), str(directory))
        self.number = number

    def try_write(self, name: str, text: str) -> tuple[int, bool]:
        return self.number, True


def failure_of(cgroup: Cgroup, setting: Setting) -> HostError:
    with pytest.raises(HostError) as failed:
        apply_settings(cgroup, [setting])
    return failed.value


def test_each_value_is_written_in_order(cgroup: Cgroup, directory: Path) -> None:
    apply_settings(cgroup, [Setting(AT, "memory.max", "17"), Setting(AT, "memory.low", "max")])
    assert (directory / "memory.max").read_text() == "17"
    assert (directory / "memory.low").read_text() == "max"


def test_nothing_is_created(cgroup: Cgroup, directory: Path) -> None:
    failure_of(cgroup, Setting(AT, "memory.new", "1"))
    assert not (directory / "memory.new").exists()


def test_a_link_is_not_followed(cgroup: Cgroup, directory: Path) -> None:
    (directory / "pids.max").symlink_to("memory.max")
    assert failure_of(cgroup, Setting(AT, "pids.max", "1")).errno == errno.ELOOP


def test_what_is_optional_may_be_missing(cgroup: Cgroup, directory: Path) -> None:
    apply_settings(cgroup, [Setting(AT, "pids.max", "max", optional=True), Setting(AT, "memory.max", "1")])
    assert (directory / "memory.max").read_text() == "1"


def test_what_is_optional_must_be_written_where_it_is_there(directory: Path) -> None:
    with RefusingCgroup(directory, errno.ENOENT) as cgroup:
        assert failure_of(cgroup, Setting(AT, "memory.max", "max", optional=True)).errno == errno.ENOENT


def test_the_other_is_written_where_the_first_is_missing(cgroup: Cgroup, directory: Path) -> None:
    setting = Setting(AT, "io.bfq.weight", "500", otherwise=Setting(AT, "io.weight", "4950"))
    apply_settings(cgroup, [setting])
    assert (directory / "io.weight").read_text() == "4950"
    (directory / "io.bfq.weight").touch()
    (directory / "io.weight").write_text("")
    apply_settings(cgroup, [setting])
    assert (directory / "io.bfq.weight").read_text() == "500"
    assert (directory / "io.weight").read_text() == ""


def test_the_first_failure_ends_it(cgroup: Cgroup, directory: Path) -> None:
    with pytest.raises(HostError):
        apply_settings(cgroup, [Setting(AT, "memory.none", "1"), Setting(AT, "memory.max", "1")])
    assert (directory / "memory.max").read_text() == ""


def test_an_error_names_all_there_is_to_know(directory: Path) -> None:
    with RefusingCgroup(directory, errno.ENODEV) as cgroup:
        error = failure_of(cgroup, Setting(AT, "io.max", "8:99 rbps=1"))
    assert str(error) == (
        f"{AT}: write {directory}/io.max: no such device "
        '(the value was "8:99 rbps=1"; no such block device; a partition has no limits of its own)'
    )
    assert (error.pointer, error.errno) == (AT, errno.ENODEV)


@pytest.mark.parametrize(
    ("file", "number", "reason"),
    [
        ("memory.max", errno.EACCES, "not this user's"),
        ("io.weight", errno.EOPNOTSUPP, "io.cost"),
        ("io.weight", errno.EPERM, "not this user's"),
        ("rdma.max", errno.ENODEV, "no such RDMA device"),
        ("cpuset.cpus", errno.ERANGE, "not all of these are CPUs of this host"),
        ("cpuset.mems", errno.EINVAL, "not all of these are memory nodes"),
        ("misc.max", errno.EINVAL, '(the value was "1")'),
    ],
)
def test_why_the_kernel_refuses(directory: Path, file: str, number: int, reason: str) -> None:
    with RefusingCgroup(directory, number) as cgroup:
        assert reason in str(failure_of(cgroup, Setting(AT, file, "1")))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("memory.swappiness", "Linux has no swappiness of a cgroup"),
        ("memory.swap.max", "swapaccount=1"),
        ("hugetlb.64KB.max", "the sizes of huge pages on this host are 1GB, 2MB"),
        ("memory.other", "this kernel has no such file"),
        ("pids.max", "the cgroup has no pids controller: because of the test"),
    ],
)
def test_why_a_file_is_missing(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch, file: str, reason: str) -> None:
    monkeypatch.setattr(apply, "why_unavailable", lambda name: "because of the test")
    error = failure_of(cgroup, Setting(AT, file, "1"))
    assert error.errno == errno.ENOENT
    assert reason in str(error)


def test_neither_of_two_files(cgroup: Cgroup, directory: Path) -> None:
    (directory / "io.weight").unlink()
    setting = Setting(AT, "io.bfq.weight", "500", otherwise=Setting(AT, "io.weight", "4950"))
    error = failure_of(cgroup, setting)
    assert error.path == f"{directory}/io.weight"
    assert "neither the BFQ scheduler nor the io.cost model" in str(error)
