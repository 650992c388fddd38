"""The files of a container's cgroup are those that Debian's runc leaves for the same config, but for what is listed.

Only what can be set is compared: what is counted differs from one moment to the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import leaks
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, Runtime, find_runtime

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.slow,
    pytest.mark.controllers("cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"),
]

MIB = 1 << 20
COUNTED = (".current", ".stat", ".events", ".local", ".peak", ".pressure", ".effective", ".numa_stat", ".kill")
# The processes, and another view of cpu.weight.
NOT_COMPARED = ("cgroup.procs", "cgroup.threads", "cpu.weight.nice", "memory.reclaim")

_numbers = itertools.count()


def block_device() -> dict[str, int]:
    """The numbers of a whole disk."""
    for device in sorted(Path("/sys/block").glob("[a-z]d*/dev")):
        major, minor = device.read_text().split(":")
        return {"major": int(major), "minor": int(minor)}
    return {"major": 249, "minor": 4242}


DISK = block_device()
DISK_NUMBER = f"{DISK['major']}:{DISK['minor']}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that ocirt leaves otherwise than runc; `ocirt` and `runc` are what it has then."""

    ocirt: str
    runc: str
    reason: str


CURVE = "runc before 1.3.2 converts shares by a straight line from end to end, on which the default of 1024 is 39"
CASES: dict[str, tuple[dict[str, Any], dict[str, Difference]]] = {
    "nothing": ({}, {}),
    "memory": ({"memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB}}, {}),
    "memory without swap": ({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}, {}),
    "memory with all swap": ({"memory": {"limit": 64 * MIB, "swap": -1}}, {}),
    "memory unlimited": ({"memory": {"limit": -1, "reservation": -1}}, {}),
    "memory that is no page": ({"memory": {"limit": 64 * MIB + 1}}, {}),
    "memory of zeros": ({"memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0}}, {}),
    "cpu shares of the default": ({"cpu": {"shares": 1024}}, {"cpu.weight": Difference("100", "39", CURVE)}),
    "cpu shares, least": ({"cpu": {"shares": 2}}, {}),
    "cpu shares, most": ({"cpu": {"shares": 262144}}, {}),
    "cpu quota": ({"cpu": {"quota": 50000}}, {}),
    "cpu quota and period": ({"cpu": {"quota": 50000, "period": 20000}}, {}),
    "cpu period": ({"cpu": {"period": 20000}}, {}),
    "cpu without a quota": ({"cpu": {"quota": -1, "period": 50000}}, {}),
    "cpu of zeros": ({"cpu": {"shares": 0, "quota": 0, "period": 0}}, {}),
    "cpu burst": (
        {"cpu": {"quota": 50000, "burst": 10000}},
        {"cpu.max.burst": Difference("10000", "0", "runc 1.1 knows no burst and ignores it")},
    ),
    "cpu idle": (
        {"cpu": {"idle": 1}},
        {
            "cpu.idle": Difference("1", "0", "runc 1.1 knows no idle and ignores it"),
            "cpu.weight": Difference("0", "100", "the kernel's answer for an idle cgroup"),
        },
    ),
    "cpuset": ({"cpu": {"cpus": "0", "mems": "0"}}, {}),
    "pids": ({"pids": {"limit": 100}}, {}),
    "pids unlimited": ({"pids": {"limit": -1}}, {}),
    "pids of 0": (
        {"pids": {"limit": 0}},
        {
            "pids.max": Difference(
                "0", "max", "runc 1.1 takes 0 for not set; config-linux.md#pids says that it is valid"
            )
        },
    ),
    "io weight": ({"blockIO": {"weight": 500}}, {}),
    "io throttles": (
        {
            "blockIO": {
                "throttleReadBpsDevice": [{**DISK, "rate": MIB}],
                "throttleWriteBpsDevice": [{**DISK, "rate": 2 * MIB}],
                "throttleReadIOPSDevice": [{**DISK, "rate": 100}],
                "throttleWriteIOPSDevice": [{**DISK, "rate": 2**32}],
            }
        },
        {},
    ),
    "huge pages": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
        {"hugetlb.2MB.rsvd.max": Difference(str(4 * MIB), "max", "runc 1.1 knows no limits of reservations")},
    ),
    "unified": (
        {
            "unified": {
                "memory.high": str(48 * MIB),
                "cgroup.max.depth": "5",
                "io.max": f"{DISK_NUMBER} rbps=1000000 wiops=70",
            }
        },
        {},
    ),
    "unified over all": (
        {"memory": {"limit": 64 * MIB}, "pids": {"limit": 10}, "unified": {"memory.max": "max", "pids.max": "20"}},
        {},
    ),
}

# What runc 1.1 fails at: the resources, what it says, and what ocirt leaves, as later versions of runc do.
ONLY_OCIRT: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "a limit of swap where memory has none": (
        {"memory": {"limit": -1, "swap": 64 * MIB}},
        "unable to set swap limit without memory limit",
        {"memory.max": "max", "memory.swap.max": str(64 * MIB)},
    ),
    "unified of several lines": (
        {"unified": {"io.max": f"{DISK_NUMBER} rbps=1000000\n{DISK_NUMBER} wiops=70"}},
        "invalid argument",
        {"io.max": f"{DISK_NUMBER} rbps=1000000 wbps=max riops=max wiops=70"},
    ),
}


@pytest.fixture(scope="module")
def files_of(scratch: Path, template: Path, token: str) -> Callable[[str, dict[str, Any]], dict[str, str]]:
    """What is in the files that can be set, of the cgroup of a container that the named runtime has created."""

    def created(name: str, resources: dict[str, Any]) -> dict[str, str]:
        runtime = find_runtime(name, scratch / f"state-vm-{name}")
        if runtime is None:
            pytest.skip(f"{name} is not installed")
        return _files_of_created(runtime, resources, scratch, template, token)

    return created


def _files_of_created(
    runtime: Runtime, resources: dict[str, Any], scratch: Path, template: Path, token: str
) -> dict[str, str]:
    container = Container.prepare(runtime, f"{token}-vm-{next(_numbers)}", scratch, template)
    container.linux["cgroupsPath"] = f"/{container.id}"
    container.linux["resources"] = resources
    directory = CGROUP / container.id
    try:
        container.create()
        return {
            path.name: path.read_text()
            for path in sorted(directory.iterdir())
            if path.is_file() and not path.name.endswith(COUNTED) and path.name not in NOT_COMPARED
        }
    finally:
        container.cleanup()
        if directory.exists():
            leaks.remove_cgroup(str(directory))


@pytest.mark.parametrize("case", CASES)
def test_the_files_are_those_that_runc_leaves(
    case: str, files_of: Callable[[str, dict[str, Any]], dict[str, str]]
) -> None:
    resources, differences = CASES[case]
    ours, runcs = files_of("ocirt", resources), files_of("runc", resources)
    found = {
        file: (ours.get(file, "").strip(), runcs.get(file, "").strip())
        for file in sorted({*ours, *runcs})
        if ours.get(file) != runcs.get(file)
    }
    assert found == {file: (listed.ocirt, listed.runc) for file, listed in differences.items()}


@pytest.mark.parametrize("case", ONLY_OCIRT)
def test_what_runc_of_debian_cannot(case: str, files_of: Callable[[str, dict[str, Any]], dict[str, str]]) -> None:
    resources, words, files = ONLY_OCIRT[case]
    ours = files_of("ocirt", resources)
    assert {file: ours[file].strip() for file in files} == files
    with pytest.raises(AssertionError, match=words):
        files_of("runc", resources)
