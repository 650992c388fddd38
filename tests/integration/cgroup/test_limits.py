"""The limits of config.json in the files of the container's cgroup, and what a host cannot do of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cgroups import process_in, remove_tree
from tests.support.isolation import CGROUP, why_no_controllers
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SOME_VERSION_1 = [name for name in ("memory", "pids", "cpu", "io") if why_no_controllers(name)]


@pytest.fixture
def limited(container: Container) -> Iterator[Container]:
    """Its cgroup is `cgroup_of` it, below another one."""
    container.linux["cgroupsPath"] = f"/{container.id}-above/c"
    yield container
    container.cleanup()
    remove_tree(cgroup_of(container).parent)


def cgroup_of(container: Container) -> Path:
    return CGROUP / str(container.linux["cgroupsPath"]).strip("/")


def limit(container: Container, **resources: Any) -> None:
    container.linux["resources"] = resources


def read(container: Container, *files: str) -> list[str]:
    return [(cgroup_of(container) / file).read_text().strip() for file in files]


@pytest.mark.controllers("memory")
def test_memory(limited: Container) -> None:
    limit(limited, memory={"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20})
    limited.hold()
    files = ["memory.max", "memory.low", "memory.swap.max"]
    assert read(limited, *files) == [str(64 << 20), str(32 << 20), str(32 << 20)]


@pytest.mark.controllers("cpu", "cpuset")
def test_cpu(limited: Container) -> None:
    limit(limited, cpu={"shares": 2048, "quota": 50000, "period": 20000, "burst": 1000, "cpus": "0", "mems": "0"})
    limited.hold()
    files = ["cpu.weight", "cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems", "cpuset.cpus.effective"]
    assert read(limited, *files) == ["174", "50000 20000", "1000", "0", "0", "0"]
    assert "Cpus_allowed_list:\t0\n" in Path(f"/proc/{limited.pid}/status").read_text()


@pytest.mark.controllers("cpu")
@pytest.mark.parametrize(("idle", "weight"), [(0, "174"), (1, "0")])
def test_an_idle_cgroup_is_one_with_shares_too(limited: Container, idle: int, weight: str) -> None:
    limit(limited, cpu={"shares": 2048, "idle": idle})
    limited.hold()
    assert read(limited, "cpu.idle", "cpu.weight") == [str(idle), weight]


@pytest.mark.controllers("pids")
@pytest.mark.parametrize(("asked", "value"), [(-1, "max"), (0, "0"), (1, "1"), (100, "100")])
def test_pids_also_with_a_limit_below_what_init_needs(limited: Container, asked: int, value: str) -> None:
    limit(limited, pids={"limit": asked})
    limited.hold()
    assert read(limited, "pids.max", "pids.current") == [value, "1"]


@pytest.mark.controllers("hugetlb")
def test_huge_pages(limited: Container) -> None:
    if not Path("/sys/kernel/mm/hugepages/hugepages-2048kB").exists():
        pytest.skip("needs huge pages of 2 MB")
    limit(limited, hugepageLimits=[{"pageSize": "2MB", "limit": (4 << 20) + 1}])
    limited.hold()
    assert read(limited, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(4 << 20)] * 2


@pytest.mark.controllers("hugetlb")
def test_a_size_of_pages_that_the_host_has_not(limited: Container) -> None:
    limit(limited, hugepageLimits=[{"pageSize": "3MB", "limit": 0}])
    error = limited.refused()
    assert "/linux/resources/hugepageLimits/0/limit: write" in error
    assert "hugetlb.3MB.max: no such file or directory" in error
    assert "the sizes of huge pages on this host are" in error
    assert not cgroup_of(limited).parent.exists()


def test_unified_files_without_a_controller(limited: Container) -> None:
    limit(limited, unified={"cgroup.max.depth": "3", "cgroup.max.descendants": "7"})
    limited.hold()
    assert read(limited, "cgroup.max.depth", "cgroup.max.descendants") == ["3", "7"]


@pytest.mark.controllers("hugetlb")
def test_unified_has_the_last_word(limited: Container) -> None:
    limit(
        limited,
        unified={"hugetlb.2MB.max": str(6 << 20)},
        hugepageLimits=[{"pageSize": "2MB", "limit": 4 << 20}],
    )
    limited.hold()
    assert read(limited, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(6 << 20), str(4 << 20)]


@pytest.mark.parametrize("file", ["nothing.max", "nothing.stat"])
def test_unified_of_a_controller_that_is_not_there(limited: Container, file: str) -> None:
    limit(limited, unified={file: "1"})
    assert limited.refused().endswith(
        f'/linux/resources/unified/{file}: the requested cgroup controller "nothing" is not available: '
        "this kernel has no such controller"
    )
    assert not cgroup_of(limited).parent.exists()


def test_unified_of_a_file_that_is_not_there(limited: Container) -> None:
    limit(limited, unified={"cgroup.nothing": "1"})
    assert "/linux/resources/unified/cgroup.nothing: write" in (error := limited.refused())
    assert 'no such file or directory (the value was "1"; this kernel has no such file)' in error


def test_unified_with_a_value_that_the_kernel_refuses(limited: Container) -> None:
    limit(limited, unified={"cgroup.max.depth": "x"})
    assert limited.refused().endswith('cgroup.max.depth: invalid argument (the value was "x")')
    assert not cgroup_of(limited).parent.exists()


@pytest.mark.skipif(not SOME_VERSION_1, reason="needs a hybrid host with controllers in cgroup v1")
def test_a_limit_of_a_controller_in_version_1_is_an_error(limited: Container) -> None:
    asked = {
        "memory": ({"memory": {"limit": 64 << 20}}, "memory/limit"),
        "pids": ({"pids": {"limit": 5}}, "pids/limit"),
        "cpu": ({"cpu": {"shares": 5}}, "cpu/shares"),
        "io": ({"blockIO": {"weight": 10}}, "blockIO/weight"),
    }
    for name in SOME_VERSION_1:
        resources, pointer = asked[name]
        limit(limited, **resources)
        assert limited.refused().endswith(
            f'/linux/resources/{pointer}: the requested cgroup controller "{name}" is not available: '
            "on this host it is in cgroup v1"
        )
        assert not cgroup_of(limited).parent.exists()


def test_what_is_unlimited_or_not_set_needs_no_controller(limited: Container) -> None:
    limit(
        limited,
        memory={"limit": -1, "swap": -1, "reservation": 0},
        pids={"limit": -1},
        cpu={"shares": 0, "quota": -1, "period": 0},
        blockIO={"weight": 0},
    )
    limited.hold()


@pytest.mark.skipif("pids" not in SOME_VERSION_1, reason="needs a hybrid host with pids in cgroup v1")
def test_no_processes_is_left_out_without_the_controller(limited: Container) -> None:
    limit(limited, pids={"limit": 0})
    limited.hold()


def test_a_new_cgroup_has_all_the_controllers_there_are(limited: Container) -> None:
    limited.hold()
    everything = set((CGROUP / "cgroup.controllers").read_text().split())
    assert everything
    assert set(read(limited, "cgroup.controllers")[0].split()) == everything


@pytest.mark.controllers("hugetlb")
def test_a_cgroup_above_that_has_processes_is_an_error_only_for_a_limit(limited: Container) -> None:
    above = cgroup_of(limited).parent
    above.mkdir()
    with process_in(above):
        limit(limited, hugepageLimits=[{"pageSize": "2MB", "limit": 0}])
        error = limited.refused()
        assert f"/linux/resources/hugepageLimits/0/limit: write {above}/cgroup.subtree_control" in error
        assert "no internal processes" in error
        assert not cgroup_of(limited).exists()
        limit(limited)
        limited.hold()


def test_a_limit_without_a_cgroup_is_an_error(limited: Container) -> None:
    limit(limited, unified={"cgroup.max.depth": "3"})
    limited.write_config()
    manager = ("--cgroup-manager", "disabled")
    result = limited.runtime.run(*manager, "run", "--bundle", limited.bundle, limited.id, check=False)
    assert result.rc != 0
    assert "/linux/resources/unified/cgroup.max.depth: cannot set a limit without a cgroup" in result.error


def test_the_debug_log_says_what_is_not_set(limited: Container) -> None:
    limit(limited, memory={"limit": 0}, cpu={"shares": 0})
    limited.write_config()
    log = limited.bundle / "log"
    limited.runtime.run("--debug", "--log", log, "--log-format", "json", "run", "--bundle", limited.bundle, limited.id)
    messages = [json.loads(line)["msg"] for line in log.read_text().splitlines()]
    assert "/linux/resources/memory/limit: 0 means that it is not set" in messages
    assert "/linux/resources/cpu/shares: 0 means that it is not set" in messages
