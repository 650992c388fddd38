"""Values that are not valid, each beside the valid one."""

from __future__ import annotations

import json
from typing import Any

from conformance.bed import Bed
from conformance.expect import case_of, not_testable, that
from conformance.machine import disks, rdma_devices
from requirements import Requirement

from tests.support.bundle import Config

CASES = dict[str, list[tuple[Config, Config]]]


def linux(**properties: Any) -> Config:
    return {"linux": properties}


def process(**properties: Any) -> Config:
    return {"process": properties}


def refuse(requirement: Requirement, bed: Bed, cases: CASES) -> None:
    """That every bad patch of the requirement's is refused, and the good one beside it taken."""
    refused, taken, unsound = 0, [], []
    for bad, good in case_of(cases, requirement.id):
        control = bed.attempt(bed.config(good))
        if not control.taken:
            unsound.append(f"{json.dumps(good)}: {control.error}")
            continue
        seen = bed.attempt(bed.config(bad))
        that(not seen.left, f"after the refusal of {json.dumps(bad)}", "nothing changed", "; ".join(seen.left))
        refused += not seen.taken
        if seen.taken:
            taken.append(json.dumps(bad))
    that(not taken, "create or start", "an error", f"none for {'; '.join(taken)}")
    if not refused:
        not_testable(f"what differs only in being valid is refused too: {'; '.join(unsound)}")


NAMESPACES = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
LIMIT = {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}
CORE = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
RULE = {"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}

DUPLICATES: CASES = {
    "config-linux.namespaces.duplicate-type": [
        (linux(namespaces=[*NAMESPACES, {"type": "uts"}]), linux(namespaces=NAMESPACES)),
        (
            linux(namespaces=[*NAMESPACES, {"type": "network", "path": "/proc/self/ns/net"}]),
            linux(namespaces=NAMESPACES),
        ),
    ],
    "config.process.rlimits-duplicate-type": [
        (process(rlimits=[LIMIT, CORE, LIMIT]), process(rlimits=[LIMIT, CORE])),
        (process(rlimits=[LIMIT, {**LIMIT, "soft": 99}]), process(rlimits=[LIMIT, CORE])),
    ],
}


def test_duplicates(requirement: Requirement, bed: Bed) -> None:
    refuse(requirement, bed, DUPLICATES)


EMPTY: CASES = {
    "config-linux.seccomp.names-not-empty": [
        (
            linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "names": []}]}),
            linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [RULE]}),
        )
    ],
    "config.annotations.keys-not-empty": [({"annotations": {"": "value"}}, {"annotations": {"key": "value"}})],
}


def test_empty(requirement: Requirement, bed: Bed) -> None:
    refuse(requirement, bed, EMPTY)


NAMES: CASES = {
    "config-linux.personality.no-flags": [
        (linux(personality={"domain": "LINUX", "flags": [name]}), linux(personality={"domain": "LINUX", "flags": []}))
        for name in ("ADDR_NO_RANDOMIZE", "anything")
    ],
    "config.process.rlimits-unknown-type": [
        (process(rlimits=[{**LIMIT, "type": name}]), process(rlimits=[LIMIT]))
        for name in ("RLIMIT_NO_SUCH_THING", "NOFILE", "")
    ],
}


def test_names(requirement: Requirement, bed: Bed) -> None:
    refuse(requirement, bed, NAMES)


RELATIVE: CASES = {
    "config-linux.namespaces.path-absolute": [
        (
            linux(namespaces=[*NAMESPACES, {"type": "user", "path": "proc/self/ns/user"}][1:]),
            linux(namespaces=NAMESPACES[1:]),
        ),
        (
            linux(
                namespaces=[{"type": "network", "path": "../../proc/self/ns/net"}, {"type": "mount"}, {"type": "uts"}]
            ),
            linux(namespaces=[{"type": "mount"}, {"type": "uts"}, {"type": "network"}]),
        ),
    ],
    "config-linux.masked-paths.absolute": [(linux(maskedPaths=["proc/kcore"]), linux(maskedPaths=["/proc/kcore"]))],
    "config-linux.readonly-paths.absolute": [(linux(readonlyPaths=["proc/sys"]), linux(readonlyPaths=["/proc/sys"]))],
    "config.process.cwd-absolute": [
        (process(cwd="usr"), process(cwd="/usr")),
        (process(cwd="."), process(cwd="/")),
        (process(cwd=""), process(cwd="/")),
    ],
}


def test_relative_paths(requirement: Requirement, bed: Bed) -> None:
    refuse(requirement, bed, RELATIVE)


TYPES: CASES = {
    "config.annotations.map": [
        ({"annotations": bad}, {"annotations": {"key": "value"}}) for bad in (["key", "value"], "text", 7, True)
    ],
    "config.annotations.values-are-strings": [
        ({"annotations": {"key": bad}}, {"annotations": {"key": "value"}}) for bad in (7, True, ["a"], {"a": "b"})
    ],
    "config.valid-values.error": [
        (process(cwd=7), process(cwd="/")),
        (process(args="/probe"), process(args=["/probe"])),
        (process(args=[7]), process(args=["/probe"])),
        (process(env={"A": "B"}), process(env=["A=B"])),
        (process(user={"uid": "0"}), process(user={"uid": 0})),
        (process(user={"uid": -1}), process(user={"uid": 0})),
        (process(user={"uid": 1.5}), process(user={"uid": 1})),
        (process(user={"gid": 4294967296}), process(user={"gid": 1})),
        (process(terminal="false"), process(terminal=False)),
        (process(oomScoreAdj=1001), process(oomScoreAdj=1000)),
        (process(noNewPrivileges="yes"), process(noNewPrivileges=True)),
        (process(rlimits=[{**LIMIT, "soft": 300}]), process(rlimits=[LIMIT])),
        (process(rlimits=[{**LIMIT, "soft": -1}]), process(rlimits=[LIMIT])),
        ({"root": {"readonly": "true"}}, {"root": {"readonly": True}}),
        ({"root": {"path": ["rootfs"]}}, {"root": {"path": "rootfs"}}),
        ({"mounts": {"destination": "/x"}}, {}),
        ({"hostname": 7}, {"hostname": "seven"}),
        (linux(namespaces=[*NAMESPACES, {"type": "nonsense"}]), linux(namespaces=NAMESPACES)),
        (linux(rootfsPropagation="sideways"), linux(rootfsPropagation="private")),
        (linux(seccomp={"defaultAction": "SCMP_ACT_NONSENSE"}), linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW"})),
        (
            linux(devices=[{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}]),
            linux(devices=[{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]),
        ),
        (linux(sysctl={"net.ipv4.ip_forward": 1}), linux(sysctl={"net.ipv4.ip_forward": "1"})),
    ],
}


def test_types(requirement: Requirement, bed: Bed) -> None:
    refuse(requirement, bed, TYPES)


def test_versions(requirement: Requirement, bed: Bed) -> None:
    if requirement.id == "config.version.semver":
        cases: list[tuple[Config, Config]] = []
        for version in ("1.0", "v1.0.0", "latest", "1", "1.0.0.0", "01.0.0", "1.0.x", ""):
            cases.append(({"ociVersion": version}, {}))
        refuse(requirement, bed, {requirement.id: cases})
        return
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        attempt = bed.attempt(bed.config({"ociVersion": version}))
        that(attempt.taken, f"a configuration of version {version}", "taken", attempt.summary)


def test_at_least_one(requirement: Requirement, bed: Bed) -> None:
    # One that the machine has, if any: a runtime that looks may refuse another.
    numbers = dict(zip(("major", "minor"), (disks() or [(8, 0)])[0], strict=True))
    device = (rdma_devices() or ["mlx5_0"])[0]
    cases: CASES = {
        "config-linux.resources.block-io.weight-device-not-empty": [
            (
                linux(resources={"blockIO": {"weightDevice": [numbers]}}),
                linux(resources={"blockIO": {"weightDevice": [{**numbers, "weight": 100}]}}),
            )
        ],
        "config-linux.resources.rdma.not-empty": [
            (
                linux(resources={"rdma": {device: {}}}),
                linux(resources={"rdma": {device: {"hcaHandles": 2}}}),
            )
        ],
    }
    refuse(requirement, bed, cases)
