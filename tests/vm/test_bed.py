"""In the test bed's machine: what tools/vm.py promises of the guest is there."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cgroups import counters
from tests.support.isolation import CGROUP

HOG = "import os, sys; sys.stdin.read(); b = bytearray(os.urandom(1)) * (64 << 20)"

pytestmark = [
    pytest.mark.cgroup,
    pytest.mark.skipif("OCIRT_VM" not in os.environ, reason="needs the test bed's machine"),
]
is_systemd = (Path("/proc/1/comm").read_text() == "systemd\n", "systemd gives its subtree what its units ask for")


def words(path: Path) -> set[str]:
    return set(path.read_text().split())


@pytest.fixture
def group() -> Iterator[Path]:
    path = CGROUP / f"bed-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    yield path
    path.rmdir()


def test_every_controller_is_there() -> None:
    wanted = {"cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"}
    assert words(CGROUP / "cgroup.controllers") >= wanted


@pytest.mark.skipif(is_systemd[0], reason=is_systemd[1])
def test_every_controller_is_enabled(group: Path) -> None:
    assert words(CGROUP / "cgroup.subtree_control") == words(CGROUP / "cgroup.controllers")
    assert words(group / "cgroup.controllers") == words(CGROUP / "cgroup.controllers")


def test_cgroup_v1_is_absent() -> None:
    types = {line.split(" - ")[1].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert "cgroup2" in types
    assert "cgroup" not in types
    assert Path("/proc/self/cgroup").read_text().startswith("0::/")
    for line in Path("/proc/cgroups").read_text().splitlines()[1:]:
        _, hierarchy, _, _ = line.split()
        assert hierarchy == "0", f"is in a hierarchy of cgroup v1: {line}"


@pytest.mark.root
@pytest.mark.controllers("memory")
@pytest.mark.skipif(is_systemd[0], reason=is_systemd[1])
def test_a_memory_limit_kills(group: Path) -> None:
    (group / "memory.max").write_text(str(16 << 20))
    (group / "memory.swap.max").write_text("0")
    hog = subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE)
    (group / "cgroup.procs").write_text(str(hog.pid))
    hog.communicate(b"go", timeout=60)
    assert hog.returncode == -9
    assert counters(group, "memory.events")["oom_kill"] >= 1


def test_a_process_below_its_limit_lives(group: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    (group / "cgroup.procs").write_text(str(process.pid))
    process.communicate(b"go", timeout=60)
    assert process.returncode == 0


def test_temporary_folders_are_of_memory() -> None:
    types = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert types["/tmp"] == types["/run"] == types["/dev/shm"] == "tmpfs"


def test_loopback_is_up() -> None:
    assert "LOOPBACK,UP" in subprocess.check_output(["ip", "link", "show", "lo"], text=True)


def test_there_are_a_disk_for_limits_and_huge_pages() -> None:
    assert int(Path("/sys/block/vda/size").read_text()) * 512 >= 1 << 30
    assert int(Path("/proc/sys/vm/nr_hugepages").read_text()) >= 4


@pytest.mark.systemd
def test_systemd_is_the_first_process() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    state = subprocess.run(
        ["systemctl", "is-system-running", "--wait"], stdout=subprocess.PIPE, timeout=120, check=False
    )
    assert state.stdout == b"running\n", subprocess.getoutput("systemctl --failed --no-pager")


@pytest.mark.systemd
def test_the_bus_answers() -> None:
    command = ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]
    command += ["org.freedesktop.systemd1.Manager", "GetUnit", "s", "ocirt-vm.service"]
    assert subprocess.check_output(command, text=True, timeout=60).startswith("o ")
