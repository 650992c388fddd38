"""A property that must be there is missed, and one that need not be is not.

Each case takes one property out of a configuration that has it and its siblings. Where the machine cannot do what the
whole configuration asks for, the smallest one around the property takes its place, or the case shows nothing here.
"""

from __future__ import annotations

import copy
import subprocess
from typing import Any

from conformance.bed import Attempt, Bed
from conformance.calls import all_calls
from conformance.expect import Mismatch, merged, not_testable
from conformance.machine import disks, rdma_devices
from conformance.pointers import alternatives, holders, lacks, remove
from requirements import Requirement

from tests.support.bundle import Config, mount_entry
from tests.support.console import FdSocket

# A hook that reads its stdin: what a runtime makes of one that doesn't is no matter of presence.
HOOK: Config = {"path": "/bin/cat", "args": ["cat"], "env": ["A=B"], "timeout": 10}
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
CAPABILITIES = ["CAP_KILL"]

# What any machine can do.
PLAIN: Config = {
    "hostname": "name",
    "domainname": "domain",
    "annotations": {"org.example.key": "value"},
    "hooks": {kind: [copy.deepcopy(HOOK)] for kind in KINDS},
    "process": {
        "consoleSize": {"height": 24, "width": 80},
        "user": {"umask": 18, "additionalGids": [5]},
        "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 256, "hard": 512}],
        "oomScoreAdj": 500,
        "scheduler": {
            "policy": "SCHED_OTHER",
            "nice": 1,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            **dict.fromkeys(("priority", "runtime", "deadline", "period"), 0),
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0", "final": "0"},
    },
    "linux": {
        "devices": [
            {"type": "c", "path": "/dev/one", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0},
        ],
        "sysctl": {"kernel.msgmax": "8191"},
        "rootfsPropagation": "private",
        "personality": {"domain": "LINUX", "flags": []},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": [],
            "syscalls": [
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 2,
                    "args": [{"index": 0, "value": 7, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
    },
}
# The default action takes an error only where it returns one.
DEFAULT_ERROR: Config = {
    "linux": {
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "syscalls": [{"names": all_calls(but=("ptrace",)), "action": "SCMP_ACT_ALLOW"}],
        }
    }
}


def _device() -> Config:
    """The numbers of a block device of this machine, if it has one."""
    return dict(zip(("major", "minor"), (disks() or [(8, 0)])[0], strict=True))


def _resources(**parts: Any) -> Config:
    return {"linux": {"resources": parts}}


def _block_io() -> Config:
    throttle = {f"throttle{way}Device": [{**_device(), "rate": 1000000}] for way in
                ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")}  # fmt: skip
    return _resources(blockIO={"weight": 100, "weightDevice": [{**_device(), "weight": 100}], **throttle})


def _user_namespace(config: Config) -> Config:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    namespaces = [*config["linux"]["namespaces"], {"type": "user"}]
    return {"linux": {"namespaces": namespaces, "uidMappings": mapping, "gidMappings": mapping}}


def _time_namespace(config: Config) -> Config:
    namespaces = [*config["linux"]["namespaces"], {"type": "time"}]
    return {"linux": {"namespaces": namespaces, "timeOffsets": {"boottime": {"secs": 5, "nanosecs": 7}}}}


def _mounts(config: Config) -> Config:
    bind = mount_entry("/mnt", "bind", "/etc", "rbind", "ro")
    return {"mounts": [mount_entry("/tmp", "tmpfs", "tmpfs", "nosuid"), *config["mounts"], bind]}


# What is around a property: a patch, or what makes one of the base configuration, by the beginning of the pointer.
AROUND: dict[str, Any] = {
    "/linux/seccomp/defaultErrnoRet": DEFAULT_ERROR,
    "/linux/uidMappings|gidMappings/-": _user_namespace,
    "/linux/timeOffsets/": _time_namespace,
    "/linux/netDevices/": {"linux": {"netDevices": {"there0": {"name": "here0"}}}},
    "/linux/resources/devices/-": _resources(
        devices=[{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]
    ),
    "/linux/resources/memory/": _resources(
        memory={"limit": 67108864, "reservation": 33554432, "swap": 134217728, "disableOOMKiller": False}
    ),
    "/linux/resources/cpu/": _resources(
        cpu={"shares": 512, "quota": 50000, "burst": 1000, "period": 100000, "cpus": "0", "mems": "0"}
    ),
    "/linux/resources/blockIO": _block_io(),
    "/linux/resources/hugepageLimits": _resources(hugepageLimits=[{"pageSize": "2MB", "limit": 4194304}]),
    "/linux/resources/network": _resources(network={"classID": 1, "priorities": [{"name": "lo", "priority": 1}]}),
    "/linux/resources/pids/": _resources(pids={"limit": 100}),
    "/linux/resources/rdma": _resources(rdma={(rdma_devices() or ["mlx5_0"])[0]: {"hcaHandles": 2, "hcaObjects": 2}}),
    "/linux/resources": _resources(unified={"cgroup.max.descendants": "10"}),
    "/linux/intelRdt/": {"linux": {"intelRdt": {"closID": "/", "enableMonitoring": True}}},
    "/linux/memoryPolicy/": {"linux": {"memoryPolicy": {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": []}}},
    "/mounts/-": _mounts,
    "/hooks/": {"hooks": PLAIN["hooks"]},
}
# The smallest object around it: what has no required sibling.
SMALLEST: dict[str, Config] = {
    "/linux/resources/memory/": _resources(memory={}),
    "/linux/resources/cpu/": _resources(cpu={}),
    "/linux/resources/blockIO/": _resources(blockIO={}),
    "/linux/resources/network/": _resources(network={}),
    "/linux/resources/pids/": _resources(pids={}),
    "/linux/resources": _resources(),
}
# What goes with a property, and is left out too.
ALSO = {
    "/linux/resources/memory/limit": ["/linux/resources/memory/swap"],
    # A runtime may connect to the listener that no rule needs.
    "/linux/seccomp/listenerMetadata": ["/linux/seccomp/listenerPath"],
    "/linux/seccomp/listenerPath": ["/linux/seccomp/listenerMetadata"],
    "/linux/resources/cpu/quota": ["/linux/resources/cpu/burst"],
    "/linux/seccomp/syscalls/-/args/-/valueTwo": [],
    "/linux/memoryPolicy/nodes": ["/linux/memoryPolicy/flags"],
    "/process/capabilities/bounding": ["/process/capabilities/inheritable", "/process/capabilities/ambient"],
    "/process/capabilities/permitted": ["/process/capabilities/effective", "/process/capabilities/ambient"],
    "/process/capabilities/inheritable": ["/process/capabilities/ambient"],
    "/mounts": ["/linux/sysctl", "/linux/maskedPaths", "/linux/readonlyPaths"],
}


def whole(bed: Bed, pointer: str) -> Config:
    """A configuration that has the property and its siblings."""
    base = bed.config()
    if pointer == "/linux":
        return merged(base, {"hostname": None, "mounts": [mount_entry("/proc", "proc")]})
    for beginning, around in AROUND.items():
        if pointer.startswith(beginning):
            config = copy.deepcopy(merged(base, around(base) if callable(around) else around))
            if pointer == "/linux/resources/blockIO/weightDevice/-/weight":
                # One of the two has to be there.
                config["linux"]["resources"]["blockIO"]["weightDevice"][0]["leafWeight"] = 100
            return config
    config = merged(base, PLAIN)
    if pointer == "/linux/seccomp/syscalls/-/args/-/valueTwo":
        config["linux"]["seccomp"]["syscalls"][0]["args"][0]["op"] = "SCMP_CMP_EQ"
    if pointer.startswith("/linux/seccomp/listener"):
        # Nobody listens there, nor has to: no rule notifies.
        config["linux"]["seccomp"] |= {"listenerPath": "/run/nobody.sock", "listenerMetadata": "x"}
    return config


def lacking(config: Config, pointer: str) -> Config:
    """As remove(), for one mount alone: of a tmpfs the source and the options, of a bind mount the type."""
    config = copy.deepcopy(config)
    if pointer.startswith("/mounts/-/"):
        mount = config["mounts"][-1 if pointer.endswith("type") else 0]
        mount.pop(pointer.rpartition("/")[2], None)
        return config
    return remove(config, pointer)


def attempt(bed: Bed, config: Config) -> Attempt:
    """As Bed.attempt(), with the network devices, and with somebody at the console socket where there is a terminal."""
    for name in config.get("linux", {}).get("netDevices", {}):
        # It goes with the container's network namespace. One that was not taken is still there.
        command = ["ip", "link", "add", "name", name, "type", "veth", "peer", "name", f"{name}p"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if not config["process"].get("terminal"):
        return bed.attempt(config)
    container = bed.new()
    with FdSocket(container.bundle / "console.sock") as console:
        container.config = config
        result = container.create("--console-socket", console.path, check=False)
    return Attempt("create" if result.rc else "", result.error)


def test_refused_without(requirement: Requirement, bed: Bed) -> None:
    for pointer in alternatives(requirement.pointer):
        good = whole(bed, requirement.pointer)
        if "consoleSize" in pointer:
            good["process"]["terminal"] = True
        control = attempt(bed, good)
        if not control.taken:
            not_testable(f"a configuration that has it is refused too: {control.error}")
        bed.clean()
        with bed.unchanged():
            seen = attempt(bed, lacking(good, pointer))
            bed.clean()
        if seen.taken:
            raise Mismatch(f"a configuration without {pointer}", "create or start fails", seen.summary)
        if seen.left:
            raise Mismatch("after the create that failed", "nothing changed", "; ".join(seen.left))


def test_taken_without(requirement: Requirement, bed: Bed) -> None:
    for pointer in alternatives(requirement.pointer):
        good = whole(bed, requirement.pointer)
        config = good
        for name in (pointer, *ALSO.get(pointer, [])):
            config = lacking(config, name)
        seen = attempt(bed, config)
        if seen.taken:
            continue
        # Where no configuration here has it, the base configuration is the one that must be taken without.
        control = attempt(bed, good)
        if control.taken or (lacks(good, pointer) and not bed.attempt(bed.config()).taken):
            raise Mismatch(f"a configuration without {pointer}", "taken", seen.summary)
        small = next((patch for beginning, patch in SMALLEST.items() if pointer.startswith(beginning)), None)
        if small is None or not holders(small, pointer):
            not_testable(f"a configuration that has it is refused too: {control.error}")
        seen = bed.attempt(bed.config(small))
        if not seen.taken:
            raise Mismatch(f"a configuration without {pointer}", "taken", seen.summary)
