"""linux.resources becomes files and values: what is written, in which order, and what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest

from ocirt.cgroup.resources import compile_resources, convert_shares, resource_notices, resource_problems
from ocirt.cgroup.settings import Setting, asked_controllers, settings_by_time
from ocirt.errors import SpecError
from ocirt.spec import Resources, parse_resources


def resources(**properties: Any) -> Resources:
    return parse_resources(properties)


def written(**properties: Any) -> list[tuple[str, str]]:
    return [(setting.file, setting.value) for setting in compile_resources(resources(**properties)).settings]


def refusal(**properties: Any) -> tuple[str, str]:
    """Pointer and code."""
    with pytest.raises(SpecError) as refused:
        compile_resources(resources(**properties), "/r")
    return refused.value.pointer, refused.value.code


def noticed(**properties: Any) -> list[tuple[str, str]]:
    return [(notice.pointer, notice.code) for notice in compile_resources(resources(**properties), "/r").notices]


def test_nothing_asked_is_nothing_written() -> None:
    assert compile_resources(None).settings == ()
    assert written() == []
    assert written(memory={}, cpu={}, pids={}, blockIO={}, network={}, rdma={}, unified={}, hugepageLimits=[]) == []
    assert written(devices=[{"allow": False, "access": "rwm"}]) == []


@pytest.mark.parametrize(
    ("memory", "files"),
    [
        ({"limit": 4096}, [("memory.max", "4096")]),
        ({"limit": 2**63 - 1}, [("memory.max", str(2**63 - 1))]),
        ({"reservation": 4096}, [("memory.low", "4096")]),
        ({"reservation": -1}, [("memory.low", "max")]),
        ({"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0}, []),
        # As in version 1: no limit of the memory is none of memory and swap.
        ({"limit": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"limit": -1, "swap": 0}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"limit": -1, "swap": 4096}, [("memory.swap.max", "4096"), ("memory.max", "max")]),
        ({"limit": 4096, "swap": 4096}, [("memory.swap.max", "0"), ("memory.max", "4096")]),
        ({"limit": 4096, "swap": 12288}, [("memory.swap.max", "8192"), ("memory.max", "4096")]),
        ({"limit": 4096, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "4096")]),
        ({"limit": 4096, "swap": 0}, [("memory.max", "4096")]),
        ({"swap": -1}, [("memory.swap.max", "max")]),
        ({"swappiness": 0}, [("memory.swappiness", "0")]),
        ({"swappiness": 100}, [("memory.swappiness", "100")]),
        # What cgroup v2 does anyway.
        ({"kernel": -1, "kernelTCP": -1, "useHierarchy": True, "disableOOMKiller": False}, []),
        ({"checkBeforeUpdate": True}, []),
    ],
)
def test_memory(memory: dict[str, Any], files: list[tuple[str, str]]) -> None:
    assert written(memory=memory) == files


@pytest.mark.parametrize(
    ("memory", "pointer", "code"),
    [
        ({"limit": -2}, "limit", "spec.range"),
        ({"reservation": -4096}, "reservation", "spec.range"),
        ({"swap": -2}, "swap", "spec.range"),
        ({"swap": 4096}, "swap", "spec.requires"),
        ({"swap": 4096, "limit": 0}, "swap", "spec.requires"),
        ({"swap": 4096, "limit": -2}, "swap", "spec.requires"),
        ({"swap": 4095, "limit": 4096}, "swap", "spec.conflict"),
        ({"kernel": 4096}, "kernel", "spec.unsupported"),
        ({"kernelTCP": 4096}, "kernelTCP", "spec.unsupported"),
        ({"kernel": -2}, "kernel", "spec.unsupported"),
        ({"swappiness": 101}, "swappiness", "spec.range"),
        ({"disableOOMKiller": True}, "disableOOMKiller", "spec.unsupported"),
        ({"useHierarchy": False}, "useHierarchy", "spec.unsupported"),
    ],
)
def test_memory_that_is_refused(memory: dict[str, Any], pointer: str, code: str) -> None:
    assert refusal(memory=memory) == (f"/r/memory/{pointer}", code)


@pytest.mark.parametrize(
    ("cpu", "files"),
    [
        ({"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0}, []),
        ({"shares": 1024}, [("cpu.weight", "100")]),
        ({"shares": 2**64 - 1}, [("cpu.weight", "10000")]),
        ({"quota": 50000}, [("cpu.max", "50000 100000")]),
        ({"quota": 50000, "period": 20000}, [("cpu.max", "50000 20000")]),
        ({"period": 20000}, [("cpu.max", "max 20000")]),
        ({"quota": -1}, [("cpu.max", "max 100000")]),
        ({"quota": -500, "period": 1000}, [("cpu.max", "max 1000")]),
        ({"quota": 50000, "burst": 50000}, [("cpu.max", "50000 100000"), ("cpu.max.burst", "50000")]),
        ({"burst": 0}, [("cpu.max.burst", "0")]),
        ({"quota": -1, "burst": 10}, [("cpu.max", "max 100000"), ("cpu.max.burst", "10")]),
        ({"quota": 2**43, "burst": 2**43 - 1}, [("cpu.max", f"{2**43} 100000"), ("cpu.max.burst", f"{2**43 - 1}")]),
        # The kernel takes no weight for an idle cgroup, and gives one that is idle no more the default's.
        ({"idle": 1, "shares": 1024}, [("cpu.weight", "100"), ("cpu.idle", "1")]),
        ({"idle": 0, "shares": 1024}, [("cpu.idle", "0"), ("cpu.weight", "100")]),
        ({"cpus": "0-3,7", "mems": "0"}, [("cpuset.cpus", "0-3,7"), ("cpuset.mems", "0")]),
        ({"cpus": "0\n"}, [("cpuset.cpus", "0")]),
        ({"cpus": "", "mems": ""}, []),
    ],
)
def test_cpu(cpu: dict[str, Any], files: list[tuple[str, str]]) -> None:
    assert written(cpu=cpu) == files


@pytest.mark.parametrize(
    ("cpu", "pointer", "code"),
    [
        ({"quota": 999}, "quota", "spec.range"),
        ({"quota": 2**44}, "quota", "spec.range"),
        ({"period": 999}, "period", "spec.range"),
        ({"period": 1_000_001}, "period", "spec.range"),
        ({"quota": 5000, "burst": 5001}, "burst", "spec.conflict"),
        ({"quota": 2**43, "burst": 2**43}, "burst", "spec.range"),
        ({"burst": 2**44}, "burst", "spec.range"),
        ({"realtimeRuntime": 1}, "realtimeRuntime", "spec.unsupported"),
        ({"realtimeRuntime": -1}, "realtimeRuntime", "spec.unsupported"),
        ({"realtimePeriod": 1}, "realtimePeriod", "spec.unsupported"),
        ({"idle": 2}, "idle", "spec.range"),
        ({"idle": -1}, "idle", "spec.range"),
        ({"cpus": "0-"}, "cpus", "spec.value"),
        ({"mems": "1-0"}, "mems", "spec.value"),
    ],
)
def test_cpu_that_is_refused(cpu: dict[str, Any], pointer: str, code: str) -> None:
    assert refusal(cpu=cpu) == (f"/r/cpu/{pointer}", code)


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (1025, 101), (2048, 174), (262143, 10000)]
)
def test_shares_are_converted_by_the_curve_through_the_default(shares: int, weight: int) -> None:
    assert convert_shares(shares) == weight


def test_more_shares_never_weigh_less() -> None:
    weights = [convert_shares(shares) for shares in range(1, 262_200)]
    assert weights == sorted(weights)
    assert weights[0] == 1
    assert weights[-1] == 10000


@pytest.mark.parametrize(
    ("limit", "value"),
    [(-1, "max"), (-7, "max"), (0, "0"), (1, "1"), (4194304, "4194304"), (4194305, "max"), (2**63 - 1, "max")],
)
def test_pids(limit: int, value: str) -> None:
    assert written(pids={"limit": limit}) == [("pids.max", value)]


def io(setting: Setting) -> list[tuple[str, str]]:
    """A setting and what stands in for it."""
    return [(setting.file, setting.value), *(io(setting.otherwise) if setting.otherwise else [])]


@pytest.mark.parametrize(
    ("weight", "converted"), [(1, "1"), (9, "1"), (10, "1"), (11, "11"), (100, "910"), (500, "4950"), (1000, "10000")]
)
def test_a_weight_is_bfqs_or_converted(weight: int, converted: str) -> None:
    for_all, for_one = compile_resources(
        resources(blockIO={"weight": weight, "weightDevice": [{"major": 8, "minor": 16, "weight": weight}]})
    ).settings
    assert io(for_all) == [("io.bfq.weight", str(weight)), ("io.weight", converted)]
    assert io(for_one) == [("io.bfq.weight", f"8:16 {weight}"), ("io.weight", f"8:16 {converted}")]
    assert for_one.origin == "/linux/resources/blockIO/weightDevice/0/weight"


def test_a_weight_of_0_is_none_of_its_own() -> None:
    assert written(blockIO={"weight": 0}) == []
    (setting,) = compile_resources(
        resources(blockIO={"weightDevice": [{"major": 8, "minor": 0, "weight": 0, "leafWeight": 0}]})
    ).settings
    assert io(setting) == [("io.bfq.weight", "8:0 default"), ("io.weight", "8:0 default")]


def test_each_throttle_is_a_write() -> None:
    rate = {"major": 8, "minor": 0, "rate": 1000}
    kinds = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")
    block_io = {kind: [rate, {**rate, "minor": 16, "rate": 0}] for kind in kinds}
    assert written(blockIO=block_io) == [
        ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:16 rbps=max"),
        ("io.max", "8:0 wbps=1000"),
        ("io.max", "8:16 wbps=max"),
        ("io.max", "8:0 riops=1000"),
        ("io.max", "8:16 riops=max"),
        ("io.max", "8:0 wiops=1000"),
        ("io.max", "8:16 wiops=max"),
    ]


@pytest.mark.parametrize(
    ("block_io", "pointer", "code"),
    [
        ({"weight": 1001}, "weight", "spec.range"),
        ({"leafWeight": 10}, "leafWeight", "spec.unsupported"),
        ({"weightDevice": [{"major": 8, "minor": 0}]}, "weightDevice/0", "spec.requires"),
        ({"weightDevice": [{"major": 8, "minor": 0, "weight": 1001}]}, "weightDevice/0/weight", "spec.range"),
        (
            {"weightDevice": [{"major": 8, "minor": 0, "weight": 9, "leafWeight": 9}]},
            "weightDevice/0/leafWeight",
            "spec.unsupported",
        ),
        ({"weightDevice": [{"major": -1, "minor": 0, "weight": 9}]}, "weightDevice/0/major", "spec.range"),
        (
            {"throttleReadBpsDevice": [{"major": 8, "minor": 2**20, "rate": 9}]},
            "throttleReadBpsDevice/0/minor",
            "spec.range",
        ),
        (
            {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]},
            "throttleWriteBpsDevice/0/rate",
            "spec.range",
        ),
        (
            {"throttleWriteIOPSDevice": [{"major": 2**12, "minor": 0, "rate": 9}]},
            "throttleWriteIOPSDevice/0/major",
            "spec.range",
        ),
    ],
)
def test_block_io_that_is_refused(block_io: dict[str, Any], pointer: str, code: str) -> None:
    assert refusal(blockIO=block_io) == (f"/r/blockIO/{pointer}", code)


def test_huge_pages_are_limited_when_reserved_where_the_kernel_can() -> None:
    settings = compile_resources(resources(hugepageLimits=[{"pageSize": "2MB", "limit": 2**64 - 1}])).settings
    assert [(setting.file, setting.value, setting.optional) for setting in settings] == [
        ("hugetlb.2MB.rsvd.max", str(2**64 - 1), True),
        ("hugetlb.2MB.max", str(2**64 - 1), False),
    ]


def test_rdma() -> None:
    limits = {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}, "rxe3": {"hcaObjects": 2**32 - 1}}
    assert written(rdma=limits) == [
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=0"),
        ("rdma.max", "rxe3 hca_object=max"),
    ]
    assert noticed(rdma=limits) == [("/r/rdma/rxe3/hcaObjects", "warning.lossy")]
    assert refusal(rdma={"a/b": {}}) == ("/r/rdma/a~1b", "spec.requires")
    for name in ("a b", "a\nb", " a"):
        assert refusal(rdma={name: {"hcaHandles": 3}}) == (f"/r/rdma/{name}", "spec.value")


def test_what_version_2_has_no_controller_for() -> None:
    assert refusal(network={"classID": 1}) == ("/r/network/classID", "spec.unsupported")
    assert refusal(network={"priorities": [{"name": "eth0", "priority": 0}]}) == (
        "/r/network/priorities",
        "spec.unsupported",
    )
    assert written(network={"classID": 0, "priorities": []}) == []
    assert noticed(network={"classID": 0}) == [("/r/network/classID", "warning.ignored")]


def test_unified_is_written_last_and_line_by_line() -> None:
    unified = {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "pids.max": "7", "cgroup.max.depth": "3", "new.thing": " x "}
    settings = compile_resources(resources(unified=unified, pids={"limit": 5})).settings
    assert [(setting.file, setting.value) for setting in settings] == [
        ("pids.max", "5"),
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:16 rbps=2"),
        ("pids.max", "7"),
        ("cgroup.max.depth", "3"),
        ("new.thing", " x "),
    ]
    assert settings[1].origin == "/linux/resources/unified/io.max"
    assert not any(setting.optional for setting in settings)


def test_an_empty_value_of_unified_is_not_written_in_silence() -> None:
    assert written(unified={"memory.max": " \n"}) == []
    assert noticed(unified={"memory.max": ""}) == [("/r/unified/memory.max", "warning.ignored")]


@pytest.mark.parametrize(
    "key", ["memory/max", "../memory.max", "..", ".", "memory", ".max", "memory.", "a/../b.c", "a..b"]
)
def test_a_key_of_unified_is_the_name_of_a_file(key: str) -> None:
    pointer, code = refusal(unified={key: "1"})
    assert (pointer, code) == (f"/r/unified/{key.replace('/', '~1')}", "spec.value")


@pytest.mark.parametrize(
    "key", ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control"]
)
def test_files_that_act_are_no_resources(key: str) -> None:
    assert refusal(unified={key: "1"}) == (f"/r/unified/{key}", "spec.unsupported")


def test_what_0_means_is_said() -> None:
    zeros = {
        "memory": dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), 0),
        "cpu": dict.fromkeys(("shares", "quota", "period", "realtimeRuntime", "realtimePeriod"), 0),
        "blockIO": {"weight": 0, "leafWeight": 0},
        "network": {"classID": 0},
    }
    compiled = compile_resources(resources(**zeros), "/r")
    assert compiled.settings == ()
    assert {notice.pointer for notice in compiled.notices} == {
        f"/r/{group}/{name}" for group, names in zeros.items() for name in names
    }
    assert {notice.code for notice in compiled.notices} == {"warning.ignored"}


def test_a_loss_is_said() -> None:
    assert noticed(cpu={"shares": 1}) == [("/r/cpu/shares", "warning.lossy")]
    assert noticed(pids={"limit": 0}) == [("/r/pids/limit", "warning.lossy")]
    assert noticed(pids={"limit": 4194305}) == [("/r/pids/limit", "warning.lossy")]
    assert noticed(cpu={"shares": 300_000}) == [("/r/cpu/shares", "warning.lossy")]
    assert noticed(memory={"limit": -1, "swap": 5}) == [("/r/memory/swap", "warning.lossy")]
    assert noticed(memory={"limit": -1, "swap": 0}) == [("/r/memory/swap", "warning.ignored")]
    assert noticed(memory={"limit": 5, "swap": 5}, cpu={"shares": 2}) == []


def test_all_problems_and_notices_are_found() -> None:
    bad = resources(memory={"limit": -5, "reservation": 0, "disableOOMKiller": True}, cpu={"idle": 3})
    assert [problem.pointer for problem in resource_problems(bad, "/r")] == [
        "/r/memory/limit",
        "/r/memory/disableOOMKiller",
        "/r/cpu/idle",
    ]
    assert [notice.pointer for notice in resource_notices(bad, "/r")] == ["/r/memory/reservation"]


@pytest.mark.parametrize(
    ("file", "controller"),
    [
        ("memory.max", "memory"),
        ("cpu.max.burst", "cpu"),
        ("cpuset.cpus", "cpuset"),
        ("io.bfq.weight", "io"),
        ("hugetlb.2MB.rsvd.max", "hugetlb"),
        ("rdma.max", "rdma"),
        ("misc.max", "misc"),
        # These are there without the controller.
        ("cgroup.max.depth", ""),
        ("memory.pressure", ""),
    ],
)
def test_whose_file_it_is(file: str, controller: str) -> None:
    assert Setting("/x", file, "1").controller == controller


def test_the_controllers_that_cannot_be_done_without() -> None:
    asked = compile_resources(
        resources(
            memory={"limit": -1},
            cpu={"quota": -1, "shares": 5, "burst": 0},
            pids={"limit": -1},
            hugepageLimits=[{"pageSize": "2MB", "limit": 0}],
            unified={"cgroup.max.depth": "2", "misc.max": "x 1", "cpu.weight": "5"},
        )
    ).settings
    assert asked_controllers(asked) == {
        "cpu": "/linux/resources/cpu/shares",
        "hugetlb": "/linux/resources/hugepageLimits/0/limit",
        "misc": "/linux/resources/unified/misc.max",
    }


def test_the_number_of_processes_is_limited_when_init_is_through() -> None:
    asked = compile_resources(resources(pids={"limit": 1}, memory={"limit": 1}, unified={"pids.max": "2"})).settings
    before, after = settings_by_time(asked)
    assert [setting.file for setting in before] == ["memory.max"]
    assert [(setting.file, setting.value) for setting in after] == [("pids.max", "1"), ("pids.max", "2")]
