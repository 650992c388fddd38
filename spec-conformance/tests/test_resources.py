"""The limits of a container's cgroup, as its files have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.bed import Bed
from conformance.expect import Mismatch, case_of, equal, not_testable, that
from conformance.machine import disks, rdma_devices
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, wait_for

MIB = 1 << 20


def created(bed: Bed, **resources: Any) -> Container:
    container = bed.new({"linux": {"resources": resources}})
    container.process["args"] = ["/probe", "hold"]
    result = container.create(check=False)
    that(result.rc == 0, f"a container with the resources {resources}", "taken", result.error)
    return container


def folder(container: Container) -> Path:
    lines = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
    return CGROUP / next(line[3:] for line in lines if line.startswith("0::")).lstrip("/")


def file(container: Container, name: str) -> str:
    """A file of the container's cgroup, or of the one above it, where the runtime puts the process one further down."""
    for place in (folder(container), folder(container).parent):
        if (place / name).exists() and place != CGROUP:
            return (place / name).read_text().strip()
    raise Mismatch(f"the file {name} of the cgroup", "there", "not there")


def shows(name: str, expected: str, **resources: Any) -> Callable[[Bed], None]:
    """That with the resources a file of the cgroup reads so."""

    def check(bed: Bed) -> None:
        equal(name, file(created(bed, **resources), name), expected)

    return check


def all_of(*checks: Callable[[Bed], None]) -> Callable[[Bed], None]:
    def check(bed: Bed) -> None:
        for one in checks:
            one(bed)
            bed.clean()

    return check


def shares(bed: Bed) -> None:
    weights = []
    for number in (2, 512, 1024, 4096, 262144):
        weights.append(int(file(created(bed, cpu={"shares": number}), "cpu.weight")))
        bed.clean()
    that(weights == sorted(weights), "the weights of more and more shares", "never less", weights)
    that(weights[2] in (39, 100), "the weight of 1024 shares", "100, or 39 by the old formula", weights[2])


LIMIT, SWAP = 128 * MIB, 192 * MIB
VALUES: dict[str, Callable[[Bed], None]] = {
    "config-linux.resources.memory.unlimited": all_of(
        shows("memory.max", "max", memory={"limit": -1}),
        shows("memory.low", "max", memory={"reservation": -1}),
    ),
    "config-linux.resources.pids.zero": shows("pids.max", "0", pids={"limit": 0}),
    "config-linux.resources.memory.limit-applied": shows("memory.max", str(LIMIT), memory={"limit": LIMIT}),
    "config-linux.resources.memory.reservation-applied": shows("memory.low", str(MIB), memory={"reservation": MIB}),
    "config-linux.resources.memory.swap-applied": shows(
        "memory.swap.max", str(SWAP - LIMIT), memory={"limit": LIMIT, "swap": SWAP}
    ),
    "config-linux.resources.cpu.shares-applied": shares,
    "config-linux.resources.cpu.quota-applied": all_of(
        shows("cpu.max", "50000 100000", cpu={"quota": 50000, "period": 100000}),
        shows("cpu.max", "max 100000", cpu={"quota": -1, "period": 100000}),
    ),
    "config-linux.resources.cpu.burst-applied": shows(
        "cpu.max.burst", "20000", cpu={"quota": 50000, "period": 100000, "burst": 20000}
    ),
    "config-linux.resources.cpu.period-applied": shows("cpu.max", "20000 50000", cpu={"quota": 20000, "period": 50000}),
    "config-linux.resources.cpu.idle-applied": shows("cpu.idle", "1", cpu={"idle": 1}),
    "config-linux.resources.cpu.cpus-applied": shows("cpuset.cpus", "0", cpu={"cpus": "0"}),
    "config-linux.resources.cpu.mems-applied": shows("cpuset.mems", "0", cpu={"mems": "0"}),
    "config-linux.resources.pids.limit-applied": all_of(
        shows("pids.max", "123", pids={"limit": 123}), shows("pids.max", "max", pids={"limit": -1})
    ),
}


def test_values(requirement: Requirement, bed: Bed) -> None:
    case_of(VALUES, requirement.id)(bed)


# Block devices.


def weight(bed: Bed) -> None:
    container = created(bed, blockIO={"weight": 100})
    names = [name for name in ("io.bfq.weight", "io.weight") if (folder(container) / name).exists()]
    seen = {name: file(container, name).splitlines()[0].split()[-1] for name in names}
    # By the older formula, 1..10000 stands for 10..1000.
    that(seen.get("io.bfq.weight") == "100" or seen.get("io.weight") in ("100", "910"), "the weight", "100", seen)


def weight_device(bed: Bed) -> None:
    major, minor = disks()[0]
    numbers = {"major": major, "minor": minor}
    container = created(bed, blockIO={"weight": 100, "weightDevice": [{**numbers, "weight": 200}]})
    names = [name for name in ("io.bfq.weight", "io.weight") if (folder(container) / name).exists()]
    seen = "\n".join(file(container, name) for name in names)
    # By the older formula it is 1919.98.
    weights = [f"{major}:{minor} {number}" for number in (200, 1919, 1920)]
    that(any(line in weights for line in seen.splitlines()), "the device's weight", weights, seen)


def throttle(bed: Bed, unit: str, words: tuple[str, str]) -> None:
    major, minor = disks()[0]
    for way, word in zip(("Read", "Write"), words, strict=True):
        entry = {"major": major, "minor": minor, "rate": MIB}
        container = created(bed, blockIO={f"throttle{way}{unit}Device": [entry]})
        lines = [line for line in file(container, "io.max").splitlines() if line.startswith(f"{major}:{minor} ")]
        that(lines and f"{word}={MIB}" in lines[0], "io.max", f"{major}:{minor} {word}={MIB}", lines)
        bed.clean()


BLOCK_IO: dict[str, Callable[[Bed], None]] = {
    "config-linux.resources.block-io.weight-applied": weight,
    "config-linux.resources.block-io.weight-device-applied": weight_device,
    "config-linux.resources.block-io.throttle-bps-applied": lambda bed: throttle(bed, "Bps", ("rbps", "wbps")),
    "config-linux.resources.block-io.throttle-iops-applied": lambda bed: throttle(bed, "IOPS", ("riops", "wiops")),
}


def test_block_io(requirement: Requirement, bed: Bed) -> None:
    case_of(BLOCK_IO, requirement.id)(bed)


# Huge pages, RDMA.


def page_sizes() -> list[str]:
    """The sizes in the kernel's notation of the cgroup's files: 2MB."""
    sizes = [int(path.name[10:-2]) for path in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")]
    return [f"{size >> 20}GB" if size >= 1 << 20 else f"{size >> 10}MB" for size in sorted(sizes)]


def test_hugepages(requirement: Requirement, bed: Bed) -> None:
    size, limit = page_sizes()[0], 64 * MIB
    good = bed.config({"linux": {"resources": {"hugepageLimits": [{"pageSize": size, "limit": limit}]}}})
    if requirement.id.endswith("page-size-known"):
        for bad in ("3MB", "2M", "2048kB", "", "nonsense"):
            entry = [{"pageSize": bad, "limit": limit}]
            bed.refused(bed.config({"linux": {"resources": {"hugepageLimits": entry}}}), good)
        return
    container = created(bed, hugepageLimits=[{"pageSize": size, "limit": limit}])
    seen = {name: file(container, f"hugetlb.{size}.{name}") for name in ("max", "rsvd.max")}
    that(str(limit) in seen.values(), f"the limits of pages of {size}", limit, seen)
    if requirement.id.endswith("limit-applied"):
        equal(f"hugetlb.{size}.rsvd.max", seen["rsvd.max"], str(limit))


def test_rdma(requirement: Requirement, bed: Bed) -> None:
    device = rdma_devices()[0]
    container = created(bed, rdma={device: {"hcaHandles": 3, "hcaObjects": 5}})
    line = next((line for line in file(container, "rdma.max").splitlines() if line.startswith(device)), "")
    for word in ("hca_handle=3", "hca_object=5"):
        if requirement.id.endswith(("both", "handles-applied" if "handle" in word else "objects-applied")):
            that(word in line.split(), "rdma.max", word, line)


# unified, and what is not converted to v2.


def unified(bed: Bed) -> None:
    container = created(bed, unified={"cgroup.max.descendants": "7", "cgroup.max.depth": "3"})
    equal("cgroup.max.descendants", file(container, "cgroup.max.descendants"), "7")
    equal("cgroup.max.depth", file(container, "cgroup.max.depth"), "3")


UNIFIED: dict[str, Callable[[Bed], None]] = {
    "config-linux.unified.controllers-enabled": shows("pids.max", "77", unified={"pids.max": "77"}),
    "config-linux.unified.unknown-files": unified,
    "config-linux.resources.unified-applied": unified,
}


def test_unified(requirement: Requirement, bed: Bed) -> None:
    case_of(UNIFIED, requirement.id)(bed)


def refused(bed: Bed, what: str, **resources: Any) -> None:
    attempt = bed.attempt(bed.config({"linux": {"resources": resources}}))
    that(attempt.failed == "create", f"create with {what}", "an error", attempt.summary)
    that(not attempt.left, "after the create that failed", "nothing changed", "; ".join(attempt.left))


def test_unified_missing(requirement: Requirement, bed: Bed) -> None:
    control = bed.attempt(bed.config({"linux": {"resources": {"unified": {"cgroup.max.depth": "3"}}}}))
    if not control.taken:
        not_testable(f"a file that is there is refused too: {control.error}")
    there = (CGROUP / "cgroup.controllers").read_text().split()
    absent = [name for name in ("memory", "io", "misc", "rdma", "cpuset", "pids") if name not in there]
    files = {f"{name}.max": "1" for name in absent} or {}
    for name, value in {**files, "nosuch.max": "1"}.items():
        refused(bed, f"the file {name} of a controller that is not there", unified={name: value})


ONLY_V1: dict[str, Config] = {
    "a swappiness": {"memory": {"swappiness": 50}},
    "the switch of the OOM killer": {"memory": {"disableOOMKiller": True}},
    "a limit of kernel memory": {"memory": {"kernel": 64 * MIB}},
    "a limit of the kernel's TCP memory": {"memory": {"kernelTCP": 64 * MIB}},
    "a real-time budget": {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 100000}},
    "a class of packets": {"network": {"classID": 1048577}},
    "priorities of packets": {"network": {"priorities": [{"name": "lo", "priority": 5}]}},
    "a leaf weight": {"blockIO": {"leafWeight": 100}},
}


def test_without_conversion(requirement: Requirement, bed: Bed) -> None:
    taken = []
    for what, resources in ONLY_V1.items():
        attempt = bed.attempt(bed.config({"linux": {"resources": resources}}))
        that(not attempt.left, f"after create with {what}", "nothing changed", "; ".join(attempt.left))
        if attempt.failed != "create":
            taken.append(what)
    that(not taken, "create with what cgroup v2 does not have", "an error", f"none for {', '.join(taken)}")


def test_check_before_update(requirement: Requirement, bed: Bed) -> None:
    container = bed.new({"linux": {"resources": {"memory": {"limit": 128 * MIB, "checkBeforeUpdate": True}}}})
    container.mounts.append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": []})
    container.shell("dd if=/dev/zero of=/mnt/file bs=1M count=48 2>/dev/null; echo ready; exec sleep 1000")
    container.start_new()
    wait_for(lambda: "ready" in container.output, 30)
    request = container.bundle / "resources.json"
    request.write_text('{"memory": {"limit": 8388608, "checkBeforeUpdate": true}}')
    result = bed.runtime.run("update", "--resources", request, container.id, check=False)
    if result.rc == 0:
        not_testable("the runtime leaves the check out, which it may")
    equal("memory.max after the refusal", file(container, "memory.max"), str(128 * MIB))
    equal("the status of the container", container.status, "running")
