"""The devices that a container's cgroup allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from conformance.bed import Bed
from conformance.expect import case_of, equal
from requirements import Requirement

from tests.support.bundle import Config

EPERM = 1
NONE: Config = {"allow": False, "access": "rwm"}
# In the root file system of the test: a name, a type, and numbers for local use, behind which there is nothing. To open
# what the cgroup allows is ENXIO then, and needs no privilege.
NODES = {"one": ("c", 240, 7), "two": ("c", 240, 8), "block": ("b", 240, 7)}

ONE: Config = {"type": "c", "major": 240, "minor": 7}


def entry(allow: bool = True, access: str = "rwm", **numbers: Any) -> Config:
    return {"allow": allow, "access": access, **numbers}


def errnos(bed: Bed, *entries: Config, way: str = "read") -> dict[str, bool]:
    """Which of the nodes may be opened, for reading or for writing: what the cgroup refuses is EPERM."""
    container = bed.new()
    for name, (kind, major, minor) in NODES.items():
        mode = stat.S_IFBLK if kind == "b" else stat.S_IFCHR
        os.mknod(container.rootfs / name, 0o666 | mode, os.makedev(major, minor))
    container.linux["resources"] = {"devices": list(entries)}
    container.process["args"] = ["/probe", *(f"/{name}" for name in NODES)]
    facts = bed.launch(container).facts()
    return {name: facts.path(f"/{name}")[f"{way}_errno"] != EPERM for name in NODES}


def allow(bed: Bed) -> None:
    equal("whether 240:7 can be opened, allowed", errnos(bed, NONE, entry(**ONE))["one"], True)
    equal("whether 240:7 can be opened, denied", errnos(bed, entry(), entry(False, **ONE))["one"], False)


def kind(bed: Bed) -> None:
    seen = errnos(bed, NONE, entry(type="c"))
    equal("what can be opened where characters are allowed", seen, {"one": True, "two": True, "block": False})
    everything: tuple[Config, ...] = ({"type": "a"}, {})
    for more in everything:
        seen = errnos(bed, NONE, entry(**more))
        equal("what can be opened where all are allowed", seen, dict.fromkeys(NODES, True))


def numbers(bed: Bed) -> None:
    seen = errnos(bed, NONE, entry(type="c", major=240, minor=7))
    equal("what can be opened where 240:7 is allowed", seen, {"one": True, "two": False, "block": False})
    seen = errnos(bed, NONE, entry(type="c", major=240))
    equal("what can be opened where 240:* is allowed", seen, {"one": True, "two": True, "block": False})


def access(bed: Bed) -> None:
    for letters, reading, writing in (("r", True, False), ("w", False, True), ("m", False, False)):
        rules = (NONE, entry(access=letters, **ONE))
        equal(f"whether 240:7 can be read with access {letters}", errnos(bed, *rules)["one"], reading)
        equal(f"whether 240:7 can be written with access {letters}", errnos(bed, *rules, way="write")["one"], writing)


ENTRIES: dict[str, Callable[[Bed], None]] = {
    "config-linux.resources.devices.allow-applied": allow,
    "config-linux.resources.devices.type-applied": kind,
    "config-linux.resources.devices.major-minor-applied": numbers,
    "config-linux.resources.devices.access-applied": access,
}


def test_entries(requirement: Requirement, bed: Bed) -> None:
    case_of(ENTRIES, requirement.id)(bed)


def test_order(requirement: Requirement, bed: Bed) -> None:
    equal("allowed, then denied", errnos(bed, NONE, entry(**ONE), entry(False, **ONE))["one"], False)
    equal("denied, then allowed", errnos(bed, NONE, entry(False, **ONE), entry(**ONE))["one"], True)
