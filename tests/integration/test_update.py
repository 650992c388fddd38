"""update: what is in the files of the cgroup afterwards, and that an update that fails has changed nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cgroups import cgroup_of
from tests.support.isolation import why_no_controllers
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MIB = 1 << 20
# What no driver has (Documentation/admin-guide/devices.txt: 240-254 are for local use): an allowed open says ENXIO.
DEVICE = {"type": "c", "major": 249, "minor": 4242}
DENY_ALL = {"allow": False, "access": "rwm"}

Values = Callable[..., list[str]]
Update = Callable[..., None]


def values(container: Container, *files: str) -> list[str]:
    return [(cgroup_of(container) / file).read_text().strip() for file in files]


def update(container: Container, *flags: str, **resources: Any) -> None:
    """By flags, or by JSON from the standard input."""
    if resources:
        flags = (*flags, "--resources", "-")
    container.runtime.run("update", *flags, container.id, stdin=json.dumps(resources))


def refused(container: Container, *flags: str, **resources: Any) -> str:
    """Asserts that it fails, and that no file of the cgroup and nothing in the state has changed; the error."""
    before = snapshot(container)
    if resources:
        flags = (*flags, "--resources", "-")
    result = container.runtime.run("update", *flags, container.id, stdin=json.dumps(resources), check=False)
    assert result.rc == 1
    assert "warning" not in result.err
    assert snapshot(container) == before
    return result.error


def snapshot(container: Container) -> dict[str, str]:
    """Everything that may be written in the cgroup, and the state directory."""
    found = {}
    for path in (*cgroup_of(container).iterdir(), *(container.runtime.root / container.id).iterdir()):
        if path.is_file() and path.stat().st_mode & 0o600 == 0o600 and path.name != "cgroup.pressure":
            try:
                found[path.name] = path.read_text()
            except OSError as error:
                found[path.name] = str(error)
    return {name: text for name, text in found.items() if not name.endswith((".pressure", ".procs", ".threads"))}


@pytest.fixture
def block_device() -> str:
    """The numbers of a disk that is no partition."""
    for path in sorted(Path("/sys/block").iterdir()):
        if (path / "device").exists():
            return (path / "dev").read_text().strip()
    pytest.skip("needs a disk")


# ---- with few controllers


def test_unified_without_a_controller(container: Container) -> None:
    container.linux["resources"] = {"unified": {"cgroup.max.depth": "3"}}
    container.hold()
    update(container, unified={"cgroup.max.descendants": "7"})
    assert values(container, "cgroup.max.depth", "cgroup.max.descendants") == ["3", "7"]


def test_what_is_written_before_the_failure_is_undone(container: Container) -> None:
    container.linux["resources"] = {"unified": {"cgroup.max.depth": "3"}}
    container.hold()
    error = refused(container, unified={"cgroup.max.depth": "5", "cgroup.max.descendants": "x"})
    assert "/unified/cgroup.max.descendants: write " in error
    assert 'invalid argument (the value was "x")' in error
    assert values(container, "cgroup.max.depth") == ["3"]


def test_file_with_resources(container: Container) -> None:
    container.hold()
    path = container.bundle / "resources.json"
    path.write_text('{"unified": {"cgroup.max.depth": "4"}}')
    update(container, "-r", str(path), "--memory", "1m")
    assert values(container, "cgroup.max.depth") == ["4"]


@pytest.mark.common
def test_container_that_has_ended(container: Container) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    result = container.runtime.run("update", "--pids-limit", "5", container.id, check=False)
    assert result.rc != 0
    assert "container not running" in result.error


def test_created_and_paused_containers(container: Container) -> None:
    container.create()
    update(container, unified={"cgroup.max.depth": "4"})
    container.runtime.run("pause", container.id)
    update(container, unified={"cgroup.max.descendants": "5"})
    container.runtime.run("resume", container.id)
    assert container.status == "created"
    assert values(container, "cgroup.max.depth", "cgroup.max.descendants") == ["4", "5"]


def test_nothing_asked_changes_nothing(container: Container) -> None:
    container.hold()
    before = snapshot(container)
    update(container)
    assert snapshot(container) == before


def test_without_a_cgroup_of_its_own(container: Container, runtime: Runtime) -> None:
    container.write_config()
    argv = ("--cgroup-manager", "disabled", "create", "--bundle", container.bundle, "--pid-file", container.pid_file)
    runtime.run(*argv, container.id, stdout=container.bundle / "output")
    result = runtime.run("update", "--pids-limit", "5", container.id, check=False)
    assert result.rc == 1
    assert f"container {container.id} has no cgroup of its own" in result.error


@pytest.mark.skipif(not why_no_controllers("memory"), reason="needs a hybrid host with memory in cgroup v1")
def test_controller_that_is_not_there(container: Container) -> None:
    container.hold()
    error = refused(container, unified={"cgroup.max.depth": "9"}, memory={"limit": MIB})
    assert error.startswith('ocirt: /memory/limit: the requested cgroup controller "memory" is not available')


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"cpu": {"realtimeRuntime": 5}}, "/cpu/realtimeRuntime"),
        ({"memory": {"swap": MIB}}, "/memory/swap"),
        ({"network": {"classID": 1}}, "/network/classID"),
        ({"unified": {"cgroup.procs": "1"}}, "/unified/cgroup.procs"),
        ({"devices": [{"allow": True, "access": "x"}]}, "/devices/0/access"),
    ],
)
def test_what_is_refused_has_its_pointer(container: Container, resources: dict[str, Any], pointer: str) -> None:
    container.hold()
    assert refused(container, **resources).startswith(f"ocirt: {pointer}: ")


def test_intel_rdt_that_the_config_has_not(container: Container) -> None:
    container.hold()
    error = refused(container, "--l3-cache-schema", "L3:0=f")
    assert error == "ocirt: /linux/intelRdt: updating a non-existent Intel RDT configuration is not supported"


def test_intel_rdt_that_fails_takes_the_rest_back(container: Container) -> None:
    container.hold()
    refused(container, "--mem-bw-schema", "MB:0=10", unified={"cgroup.max.depth": "5"})


def test_state_that_cannot_be_saved_takes_the_rest_back(container: Container) -> None:
    container.hold()
    obstacle = container.runtime.root / container.id / "resources.json.new"
    obstacle.mkdir()
    error = refused(container, unified={"cgroup.max.depth": "5"}, devices=[DENY_ALL])
    assert "resources.json: is a directory" in error
    obstacle.rmdir()
    assert values(container, "cgroup.max.depth") == ["max"]


def test_update_of_another_user_s_container(container: Container, runtime: Runtime) -> None:
    container.hold()
    os.chown(runtime.root / container.id, 12345, -1)
    try:
        result = runtime.run("update", "--pids-limit", "5", container.id, check=False)
        assert "operation not permitted" in result.error
    finally:
        os.chown(runtime.root / container.id, 0, -1)


# ---- devices


class Opener:
    """A container that tells whether it may open DEVICE."""

    def __init__(self, container: Container, *rules: dict[str, Any]) -> None:
        self.container = container
        container.linux["resources"] = {"devices": [DENY_ALL, *rules]}
        container.process["capabilities"]["bounding"].append("CAP_MKNOD")
        container.linux["devices"] = [{**DEVICE, "path": "/dev/special", "fileMode": 0o666}]
        container.hold()

    def says(self) -> str:
        return self.container.exec("/bin/sh", "-c", "cat /dev/special", check=False).err

    def may(self) -> bool:
        said = self.says()
        assert "No such device or address" in said or "Operation not permitted" in said
        return "No such device" in said


def test_devices_are_allowed_and_denied_again(container: Container) -> None:
    opener = Opener(container)
    assert not opener.may()
    update(container, devices=[DENY_ALL, {"allow": True, "access": "r", **DEVICE}])
    assert opener.may()
    assert container.exec("/bin/sh", "-c", "head -c 1 /dev/zero >/dev/null").rc == 0
    update(container, unified={"cgroup.max.depth": "4"})
    assert opener.may(), "rules stay where an update has none"
    update(container, devices=[DENY_ALL])
    assert not opener.may()


def test_devices_of_an_update_that_fails_later(container: Container) -> None:
    opener = Opener(container)
    rules = [DENY_ALL, {"allow": True, "access": "r", **DEVICE}]
    refused(container, "--mem-bw-schema", "MB:0=10", devices=rules)
    assert not opener.may()


def test_devices_are_what_the_container_has(container: Container) -> None:
    """Engines send all that they know with every update; a filter that a plug-in has replaced must stay then."""
    rules = [DENY_ALL, {"allow": True, "access": "r", **DEVICE}]
    opener = Opener(container, *rules[1:])
    programs = attached(container)
    update(container, devices=rules)
    assert attached(container) == programs
    assert opener.may()


def attached(container: Container) -> list[int]:
    from ocirt.cgroup.bpf import _attached

    fd = os.open(cgroup_of(container), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _attached(fd)
    finally:
        os.close(fd)


# ---- with every controller


@pytest.mark.controllers("memory")
@pytest.mark.common
def test_memory_and_swap(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}
    container.hold()
    update(container, "--memory", "80m", "--memory-swap", "200m", "--memory-reservation", "30M")
    limits = [str(80 * MIB), str(120 * MIB), str(30 * MIB)]
    assert values(container, "memory.max", "memory.swap.max", "memory.low") == limits


@pytest.mark.controllers("memory")
def test_memory_flags_one_by_one(container: Container) -> None:
    """runc before 1.2 forgets the limit of memory and swap with an update of the memory alone."""
    container.linux["resources"] = {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}
    container.hold()
    files = ("memory.max", "memory.swap.max", "memory.low")
    assert values(container, *files) == [str(64 * MIB), str(32 * MIB), "0"]
    update(container, "--memory", "80m", "--memory-reservation", "30M")
    assert values(container, *files) == [str(80 * MIB), str(16 * MIB), str(30 * MIB)]
    update(container, "--memory-swap", "200m")
    assert values(container, *files) == [str(80 * MIB), str(120 * MIB), str(30 * MIB)]
    update(container, "--memory-swap", "-1")
    assert values(container, *files) == [str(80 * MIB), "max", str(30 * MIB)]
    update(container, "--memory", "-1")
    assert values(container, *files) == ["max", "max", str(30 * MIB)]


@pytest.mark.controllers("memory")
def test_memory_limits_that_contradict_each_other(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}
    container.hold()
    assert refused(container, "--memory", "100m").startswith("ocirt: /memory/swap: ")
    update(container, "--memory", "100m", "--memory-swap", "100m")
    assert values(container, "memory.max", "memory.swap.max") == [str(100 * MIB), "0"]


@pytest.mark.controllers("memory")
def test_limit_below_what_is_used(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 256 * MIB, "checkBeforeUpdate": True}}
    container.shell("head -c 20m /dev/zero | tail -c 20m | (sleep 1000)")
    container.start_new()
    wait_for(lambda: int(values(container, "memory.current")[0]) > 10 * MIB)
    error = refused(container, "--memory", "4m")
    assert "/memory/limit: rejected by memory.checkBeforeUpdate" in error
    update(container, "--memory", "200m")
    assert values(container, "memory.max") == [str(200 * MIB)]


@pytest.mark.controllers("cpu")
@pytest.mark.common
def test_cpu_flags(container: Container) -> None:
    container.linux["resources"] = {"cpu": {"quota": 50000, "period": 200000}}
    container.hold()
    update(container, "--cpu-quota", "60000")
    assert values(container, "cpu.max") == ["60000 200000"]
    update(container, "--cpu-period", "100000")
    assert values(container, "cpu.max") == ["60000 100000"]
    update(container, "--cpu-quota", "-1")
    assert values(container, "cpu.max") == ["max 100000"]


@pytest.mark.controllers("cpu")
def test_cpu_shares_burst_and_idle(container: Container) -> None:
    container.hold()
    update(container, "--cpu-share", "2048", "--cpu-quota", "50000", "--cpu-burst", "40000")
    assert values(container, "cpu.weight", "cpu.max", "cpu.max.burst") == ["174", "50000 100000", "40000"]
    update(container, "--cpu-quota", "20000", "--cpu-burst", "10000")
    assert values(container, "cpu.max", "cpu.max.burst") == ["20000 100000", "10000"]
    update(container, "--cpu-quota", "90000", "--cpu-burst", "80000")
    assert values(container, "cpu.max", "cpu.max.burst") == ["90000 100000", "80000"]
    update(container, "--cpu-burst", "0")
    update(container, "--cpu-idle", "1")
    assert values(container, "cpu.idle", "cpu.max.burst") == ["1", "0"]
    update(container, "--cpu-idle", "0")
    assert values(container, "cpu.idle", "cpu.weight") == ["0", "174"], "idle has reset it"


@pytest.mark.controllers("cpu")
def test_shares_of_an_idle_container_wait(container: Container, runtime: Runtime) -> None:
    container.linux["resources"] = {"cpu": {"shares": 1024, "idle": 1}}
    container.hold()
    result = runtime.run("update", "--cpu-share", "2048", container.id)
    assert "warning: /cpu/shares: recorded for when the cgroup is no longer idle" in result.err
    assert values(container, "cpu.idle") == ["1"]
    update(container, "--cpu-idle", "0")
    assert values(container, "cpu.weight") == ["174"]


@pytest.mark.controllers("cpu")
def test_burst_above_the_quota(container: Container) -> None:
    container.linux["resources"] = {"cpu": {"quota": 50000, "burst": 40000}}
    container.hold()
    assert "/cpu/burst: " in refused(container, "--cpu-quota", "30000")


@pytest.mark.controllers("cpu")
def test_quota_throttles(container: Container) -> None:
    container.shell("while :; do :; done")
    container.start_new()
    assert "nr_throttled 0" in values(container, "cpu.stat")[0]
    update(container, "--cpu-quota", "1000", "--cpu-period", "10000")
    wait_for(lambda: "nr_throttled 0" not in values(container, "cpu.stat")[0])


@pytest.mark.controllers("cpuset")
@pytest.mark.common
def test_cpuset_flags(container: Container) -> None:
    container.hold()
    update(container, "--cpuset-cpus", "0", "--cpuset-mems", "0")
    assert values(container, "cpuset.cpus", "cpuset.mems", "cpuset.cpus.effective") == ["0", "0", "0"]
    assert "Cpus_allowed_list:\t0\n" in Path(f"/proc/{container.pid}/status").read_text()


@pytest.mark.controllers("cpuset", "pids")
def test_cpu_that_the_host_has_not(container: Container) -> None:
    container.hold()
    error = refused(container, "--cpuset-cpus", "0,999", "--pids-limit", "50")
    assert "/cpu/cpus: write " in error
    assert values(container, "pids.max", "cpuset.cpus") == ["max", ""]


@pytest.mark.controllers("pids")
@pytest.mark.common
def test_pids_flag(container: Container) -> None:
    container.linux["resources"] = {"pids": {"limit": 20}}
    container.hold()
    update(container, "--pids-limit", "30")
    assert values(container, "pids.max") == ["30"]
    update(container, "--pids-limit", "-1")
    assert values(container, "pids.max") == ["max"]


@pytest.mark.controllers("pids")
def test_pids_limit_of_zero(container: Container) -> None:
    container.hold()
    update(container, "--pids-limit", "0")
    assert values(container, "pids.max") == ["0"]


@pytest.mark.controllers("memory", "cpu", "pids")
@pytest.mark.common
def test_json_of_an_engine(container: Container) -> None:
    """Zeros and empty strings stand for what the caller doesn't mean to change."""
    resources = {
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
        "cpu": {"quota": 50000, "period": 100000, "shares": 1024},
        "pids": {"limit": 10},
    }
    container.linux["resources"] = resources
    container.hold()
    files = ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
    before = values(container, *files)
    assert before == [str(64 * MIB), "0", "50000 100000", "10"]
    update(
        container,
        memory={"limit": 0, "reservation": 0, "swap": 0},
        cpu={"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        blockIO={"weight": 0},
    )
    assert values(container, *files) == before


@pytest.mark.controllers("memory", "pids")
def test_failure_in_the_middle_takes_everything_back(container: Container) -> None:
    container.linux["resources"] = {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}, "pids": {"limit": 20}}
    container.hold()
    error = refused(
        container,
        memory={"limit": 80 * MIB, "swap": 160 * MIB},
        pids={"limit": 30},
        unified={"memory.high": "50331648", "memory.oom.group": "7"},
    )
    assert "/unified/memory.oom.group: write " in error
    # The record too: the next update starts from what was.
    update(container, "--memory", "70m")
    assert values(container, "memory.max", "memory.swap.max") == [str(70 * MIB), str(26 * MIB)]


@pytest.mark.controllers("hugetlb")
def test_huge_pages(container: Container) -> None:
    container.hold()
    update(container, hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}])
    assert values(container, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(4 * MIB)] * 2
    error = refused(container, hugepageLimits=[{"pageSize": "2MB", "limit": 0}, {"pageSize": "3MB", "limit": 0}])
    assert "/hugepageLimits/1/limit: " in error
    assert values(container, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(4 * MIB)] * 2


@pytest.mark.controllers("io")
def test_block_io(container: Container, block_device: str) -> None:
    major, minor = map(int, block_device.split(":"))
    container.linux["resources"] = {
        "blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": MIB}]}
    }
    container.hold()
    device = {"major": major, "minor": minor}
    update(
        container,
        blockIO={
            "throttleReadBpsDevice": [{**device, "rate": 2 * MIB}],
            "throttleWriteIOPSDevice": [{**device, "rate": 100}],
        },
    )
    assert values(container, "io.max") == [f"{block_device} rbps={2 * MIB} wbps=max riops=max wiops=100"]
    update(container, blockIO={"throttleReadBpsDevice": [{**device, "rate": 0}]})
    assert values(container, "io.max") == [f"{block_device} rbps=max wbps=max riops=max wiops=100"]


@pytest.mark.controllers("io")
def test_block_io_that_fails(container: Container, block_device: str) -> None:
    major, minor = map(int, block_device.split(":"))
    container.hold()
    rates = [{"major": major, "minor": minor, "rate": MIB}, {"major": 4095, "minor": 7, "rate": MIB}]
    error = refused(container, blockIO={"throttleReadBpsDevice": rates})
    assert "/blockIO/throttleReadBpsDevice/1/rate: write " in error
    assert values(container, "io.max") == [""]


@pytest.mark.controllers("io")
def test_weight(container: Container) -> None:
    container.hold()
    names = [name for name in ("io.bfq.weight", "io.weight") if (cgroup_of(container) / name).exists()]
    if not names:
        pytest.skip("needs BFQ or the io.cost model")
    update(container, "--blkio-weight", "1000")
    assert values(container, names[0]) == ["default 10000" if names[0] == "io.weight" else "default 1000"]


@pytest.mark.controllers("memory")
def test_hog_after_a_lower_limit(container: Container) -> None:
    """A limit that is set later kills what grows above it."""
    container.shell("read line; head -c 200m /dev/zero | tail -c 200m >/dev/null; echo rc $?")
    container.write_config()
    process = subprocess.Popen(
        container.runtime.argv("run", "--bundle", container.bundle, "--pid-file", container.pid_file, container.id),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: container.pid_file.exists() and container.status == "running")
    update(container, "--memory", "16m", "--memory-swap", "16m")
    out, _ = process.communicate("go\n", timeout=60)
    assert out == "rc 137\n"
