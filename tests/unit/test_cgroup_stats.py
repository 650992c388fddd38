"""What `events` makes of the texts of a cgroup's files: values, units and names."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.stats import UNLIMITED, compile_stats, probe_stats_files
from ocirt.errors import HostError

CPU_STAT = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 3\nthrottled_usec 42\n"
PRESSURE = "some avg10=1.25 avg60=0.50 avg300=0.10 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n"


def stats(**files: str) -> Any:
    """The statistics, as they arrive. The names of files are written with __ for a dot."""
    return json.loads(json.dumps(compile_stats({name.replace("__", "."): text for name, text in files.items()})))


def test_without_any_file_all_is_zero_or_absent() -> None:
    value = stats()
    assert list(value) == ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"]
    assert value["cpu"] == {
        "usage": {"total": 0, "kernel": 0, "user": 0},
        "throttling": {"periods": 0, "throttledPeriods": 0, "throttledTime": 0},
    }
    assert value["memory"]["usage"] == {"limit": 0, "usage": 0, "failcnt": 0}
    assert value["memory"]["kernelTCP"] == {"limit": 0, "failcnt": 0}
    assert "raw" not in value["memory"]
    assert value["pids"] == {"current": 0, "limit": 0}
    assert (value["blkio"], value["hugetlb"], value["intel_rdt"]) == ({}, {}, {})
    assert value["network_interfaces"] is None
    assert set(value["cpuset"].values()) == {0}


def test_cpu_is_in_nanoseconds() -> None:
    value = stats(cpu__stat=CPU_STAT, cpu__pressure=PRESSURE)["cpu"]
    assert value["usage"] == {"total": 1_500_000, "user": 1_000_000, "kernel": 500_000}
    assert value["throttling"] == {"periods": 7, "throttledPeriods": 3, "throttledTime": 42_000}
    assert value["psi"] == {
        "some": {"avg10": 1.25, "avg60": 0.5, "avg300": 0.1, "total": 12345},
        "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 99},
    }


def test_cpu_without_its_controller_has_usage_alone() -> None:
    value = stats(cpu__stat="usage_usec 5\nuser_usec 2\nsystem_usec 3\n")["cpu"]
    assert value["usage"]["total"] == 5000
    assert value["throttling"]["periods"] == 0


def test_cpuset_lists() -> None:
    value = stats(cpuset__cpus__effective="0-2,7\n", cpuset__mems__effective="0\n")["cpuset"]
    assert (value["cpus"], value["mems"]) == ([0, 1, 2, 7], [0])
    assert "cpus" not in stats(cpuset__cpus__effective="\n")["cpuset"]


def test_memory() -> None:
    value = stats(
        memory__current="4096\n",
        memory__max="8192\n",
        memory__peak="6000\n",
        memory__events="low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n",
        memory__stat="anon 100\nfile 200\n",
        memory__swap__current="10\n",
        memory__swap__max="1000\n",
        memory__swap__events="high 0\nmax 2\nfail 0\n",
        memory__pressure=PRESSURE,
    )["memory"]
    assert value["cache"] == 200
    assert value["usage"] == {"limit": 8192, "usage": 4096, "failcnt": 5, "max": 6000}
    assert value["swap"] == {"limit": 9192, "usage": 4106, "failcnt": 2}, "as in cgroup v1, with the memory"
    assert value["raw"] == {"anon": 100, "file": 200}
    assert value["psi"]["full"]["total"] == 99


@pytest.mark.parametrize(("limit", "swap"), [("max", "max"), ("max", "0"), ("8192", "max")])
def test_no_limit_is_the_largest_number(limit: str, swap: str) -> None:
    value = stats(memory__max=limit, memory__swap__max=swap, memory__current="1")["memory"]
    assert value["swap"]["limit"] == UNLIMITED == 18446744073709551615
    assert value["usage"]["limit"] == (UNLIMITED if limit == "max" else 8192)


def test_pids() -> None:
    assert stats(pids__current="3\n", pids__max="10\n")["pids"] == {"current": 3, "limit": 10}
    assert stats(pids__current="3\n", pids__max="max\n")["pids"] == {"current": 3, "limit": 0}
    assert stats(cgroup__procs="1\n2\n")["pids"] == {"current": 2, "limit": 0}, "without the controller"


def test_block_io() -> None:
    text = (
        "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\n"
        "7:0 7:1 254:16 rbytes=11 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n"
    )
    value = stats(io__stat=text, io__pressure=PRESSURE)["blkio"]
    assert value["ioServiceBytesRecursive"][:4] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 1},
        {"major": 8, "minor": 0, "op": "Write", "value": 2},
        {"major": 8, "minor": 0, "op": "Discard", "value": 5},
        {"major": 254, "minor": 16, "op": "Read", "value": 11},
    ]
    assert [entry["value"] for entry in value["ioServicedRecursive"]] == [3, 4, 6, 1, 0, 0]
    assert value["psi"]["some"]["avg10"] == 1.25


def test_hugetlb() -> None:
    value = stats(
        hugetlb__2MB__current="2097152",
        hugetlb__2MB__rsvd__current="4194304",
        hugetlb__2MB__events="max 4\n",
        hugetlb__1GB__current="0",
        hugetlb__1GB__events="max 0\n",
    )["hugetlb"]
    assert value == {"1GB": {"usage": 0, "failcnt": 0}, "2MB": {"usage": 4194304, "failcnt": 4}}


def test_rdma() -> None:
    value = stats(
        rdma__current="mlx5_0 hca_handle=2 hca_object=20\n", rdma__max="mlx5_0 hca_handle=3 hca_object=max\n"
    )["rdma"]
    assert value == {
        "rdma_current": [{"device": "mlx5_0", "hca_handles": 2, "hca_objects": 20}],
        "rdma_limit": [{"device": "mlx5_0", "hca_handles": 3, "hca_objects": 4294967295}],
    }
    assert "rdma" not in stats(rdma__current="", rdma__max="")


@pytest.fixture
def folder(tmp_path: Path) -> Cgroup:
    return Cgroup(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY), str(tmp_path))


def test_files_are_read_and_missing_ones_left_out(folder: Cgroup, tmp_path: Path) -> None:
    (tmp_path / "pids.max").write_text("5\n")
    (tmp_path / "hugetlb.2MB.current").write_text("0\n")
    (tmp_path / "hugetlb.2MB.numa_stat").write_text("total=0\n")
    (tmp_path / "memory.oom.group").write_text("0\n")
    with folder:
        assert probe_stats_files(folder) == {"pids.max": "5\n", "hugetlb.2MB.current": "0\n"}


def test_other_errors_are_told(folder: Cgroup, tmp_path: Path) -> None:
    (tmp_path / "pids.max").symlink_to("elsewhere")
    with folder, pytest.raises(HostError, match=r"pids\.max") as caught:
        probe_stats_files(folder)
    assert caught.value.errno == errno.ELOOP
