"""The kernel does with a container what its limits say."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cgroups import call_in, counters
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, wait_for
from tests.vm.test_resources_like_runc import DISK, DISK_NUMBER

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

IN_VM = pytest.mark.skipif("OCIRT_VM" not in os.environ, reason="changes the machine: runs in the VM alone")
# What they change shows in every cgroup, so in the files that other tests compare.
ALONE = pytest.mark.alone
MIB = 1 << 20
MAP_HUGETLB = 0x40000


@pytest.fixture
def limited(container: Container) -> Container:
    container.linux["cgroupsPath"] = f"/{container.id}"
    return container


def cgroup_of(container: Container) -> Path:
    return CGROUP / container.id


def limit(container: Container, **resources: Any) -> None:
    container.linux["resources"] = resources


@pytest.mark.controllers("memory")
def test_a_hog_is_killed(limited: Container) -> None:
    limit(limited, memory={"limit": 16 * MIB, "swap": 16 * MIB})
    limited.shell("dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?; exec sleep 100")
    limited.start_new()
    wait_for(lambda: limited.output.endswith("\n137\n") or limited.output == "137\n", timeout_seconds=30)
    assert counters(cgroup_of(limited), "memory.events")["oom_kill"] >= 1


@pytest.mark.controllers("memory")
def test_what_is_below_the_limit_lives(limited: Container) -> None:
    limit(limited, memory={"limit": 64 * MIB, "swap": 64 * MIB})
    limited.shell("dd if=/dev/zero of=/dev/null bs=16M count=1")
    assert limited.run().rc == 0


@pytest.mark.controllers("memory")
@pytest.mark.parametrize(
    ("limit_bytes", "words"),
    [
        (4096, "/linux/resources/memory/limit: clone3 ocirt-init: cannot allocate memory (memory limit too low?)"),
        (128 << 10, "container init was OOM-killed (memory limit too low?)"),
    ],
)
def test_a_limit_that_init_itself_does_not_fit_in(limited: Container, limit_bytes: int, words: str) -> None:
    limit(limited, memory={"limit": limit_bytes, "swap": limit_bytes})
    assert words in limited.refused()
    assert not cgroup_of(limited).exists()


@pytest.mark.controllers("pids")
def test_a_fork_bomb_is_stopped(limited: Container) -> None:
    limit(limited, pids={"limit": 10})
    limited.shell("for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 100 & done; wait")
    limited.start_new()
    wait_for(lambda: counters(cgroup_of(limited), "pids.events")["max"] >= 1, timeout_seconds=30)
    assert int((cgroup_of(limited) / "pids.current").read_text()) <= 10


@pytest.mark.controllers("pids")
def test_a_limit_of_0_is_no_child_at_all(limited: Container) -> None:
    limit(limited, pids={"limit": 0})
    limited.shell("/bin/true & wait")
    result = limited.run(check=False)
    assert result.rc != 0
    assert "can't fork" in result.err


@pytest.mark.controllers("cpu")
def test_a_loop_is_throttled(limited: Container) -> None:
    limit(limited, cpu={"quota": 10000, "period": 100_000})
    limited.shell("while :; do :; done")
    limited.start_new()
    wait_for(lambda: counters(cgroup_of(limited), "cpu.stat")["nr_throttled"] >= 5, timeout_seconds=30)
    assert counters(cgroup_of(limited), "cpu.stat")["throttled_usec"] > 0


@pytest.mark.controllers("cpuset")
def test_the_set_of_cpus_is_all_there_is(limited: Container) -> None:
    limit(limited, cpu={"cpus": "1", "mems": "0"})
    limited.shell("nproc; grep Cpus_allowed_list /proc/self/status")
    assert limited.run().out.split() == ["1", "Cpus_allowed_list:", "1"]


@pytest.mark.controllers("cpuset")
def test_a_cpu_that_is_not_there(limited: Container) -> None:
    limit(limited, cpu={"cpus": "4000"})
    error = limited.refused()
    assert "/linux/resources/cpu/cpus: write" in error
    assert '(the value was "4000"; not all of these are CPUs of this host)' in error
    assert not cgroup_of(limited).exists()


@pytest.mark.controllers("io")
def test_the_limits_of_a_disk(limited: Container) -> None:
    limit(
        limited,
        blockIO={
            "throttleReadBpsDevice": [{**DISK, "rate": MIB}],
            "throttleWriteIOPSDevice": [{**DISK, "rate": 100}],
        },
    )
    limited.hold()
    line = f"{DISK['major']}:{DISK['minor']} rbps={MIB} wbps=max riops=max wiops=100\n"
    assert (cgroup_of(limited) / "io.max").read_text() == line


@pytest.mark.controllers("io")
@pytest.mark.parametrize("kind", ["throttleReadBpsDevice", "weightDevice"])
def test_a_disk_that_is_not_there(limited: Container, kind: str) -> None:
    value, key = ("rate", "rate") if kind == "throttleReadBpsDevice" else ("weight", "weight")
    limit(limited, blockIO={kind: [{"major": 249, "minor": 4242, value: 100}]})
    error = limited.refused()
    assert f"/linux/resources/blockIO/{kind}/0/{key}: write" in error
    assert "no such block device" in error


def weights(weight: int, of_disk: int) -> dict[str, Any]:
    return {"weight": weight, "weightDevice": [{**DISK, "weight": of_disk}]}


@IN_VM
@ALONE
@pytest.mark.controllers("io")
def test_weights_of_the_cost_model(limited: Container) -> None:
    """Which has to be enabled for the disk, and is asked for where the kernel has no BFQ."""
    if (CGROUP / "io.bfq.weight").exists() or list(CGROUP.glob("*/io.bfq.weight")):
        pytest.skip("BFQ is loaded already")
    limit(limited, blockIO=weights(500, 100))
    assert "weights of devices need the BFQ scheduler or the io.cost model" in limited.refused()
    (CGROUP / "io.cost.qos").write_text(f"{DISK_NUMBER} enable=1")
    try:
        limited.hold()
        assert (cgroup_of(limited) / "io.weight").read_text() == f"default 4950\n{DISK_NUMBER} 910\n"
    finally:
        (CGROUP / "io.cost.qos").write_text(f"{DISK_NUMBER} enable=0")


@IN_VM
@ALONE
@pytest.mark.controllers("io")
def test_weights_of_bfq(limited: Container) -> None:
    if subprocess.run(["modprobe", "bfq"], check=False).returncode != 0:
        pytest.skip("needs the module bfq")
    scheduler = Path(f"/sys/dev/block/{DISK_NUMBER}/queue/scheduler")
    scheduler.write_text("bfq")
    try:
        limit(limited, blockIO=weights(500, 100))
        limited.hold()
        assert (cgroup_of(limited) / "io.bfq.weight").read_text() == f"default 500\n{DISK_NUMBER} 100\n"
        assert (cgroup_of(limited) / "io.weight").read_text() == "default 100\n"
    finally:
        scheduler.write_text("none")


@pytest.fixture
def rdma_device() -> Iterator[str]:
    """A device of software, over a network device of its own."""
    name, under = "rxe7", "ocirt-rxe"
    commands = [
        ["modprobe", "rdma_rxe"],
        ["ip", "link", "add", under, "type", "dummy"],
        ["ip", "link", "set", under, "up"],
        ["rdma", "link", "add", name, "type", "rxe", "netdev", under],
    ]
    if not shutil.which("rdma") or any(subprocess.run(command, check=False).returncode for command in commands):
        pytest.skip("needs the program rdma and the module rdma_rxe")
    yield name
    subprocess.run(["rdma", "link", "delete", name], check=True)
    subprocess.run(["ip", "link", "delete", under], check=True)


@IN_VM
@ALONE
@pytest.mark.controllers("rdma")
def test_rdma(limited: Container, rdma_device: str) -> None:
    limit(limited, rdma={rdma_device: {"hcaHandles": 3, "hcaObjects": 2**32 - 1}})
    limited.hold()
    assert (cgroup_of(limited) / "rdma.max").read_text().split() == [rdma_device, "hca_handle=3", "hca_object=max"]


@pytest.mark.controllers("rdma")
def test_an_rdma_device_that_is_not_there(limited: Container) -> None:
    limit(limited, rdma={"none0": {"hcaHandles": 3}})
    assert "/linux/resources/rdma/none0: write" in (error := limited.refused())
    assert '(the value was "none0 hca_handle=3"; no such RDMA device)' in error


def map_huge(count: int) -> str:
    """Maps so many huge pages of 2 MiB, which reserves them; "" or the error."""
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB
        with mmap.mmap(-1, count * 2 * MIB, flags=flags):
            return ""
    except OSError as error:
        return str(error)


def reserved_huge_pages() -> int:
    try:
        return int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    except FileNotFoundError:
        return 0


@pytest.mark.controllers("hugetlb")
@pytest.mark.skipif(reserved_huge_pages() < 4, reason="needs 4 free huge pages of 2 MB (hugepages=4)")
def test_huge_pages_are_refused_when_they_are_reserved(limited: Container) -> None:
    limit(limited, hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}])
    limited.hold()
    assert map_huge(4) == ""
    assert call_in(cgroup_of(limited), lambda: map_huge(2)) == ""
    assert "Cannot allocate memory" in call_in(cgroup_of(limited), lambda: map_huge(4))
