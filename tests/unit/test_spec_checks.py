"""The semantic checks: what each refuses, with pointer and code, and what must pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ocirt.errors import SpecError
from ocirt.spec import (
    all_problems,
    check_process,
    check_resources,
    check_spec,
    parse_config,
    parse_process,
    parse_resources,
)
from ocirt.spec.checks import CHECKS, sysctl_path
from tests.unit.spec_samples import NAMESPACES, findings, problems, small_config, with_value, without

MAPPING = {"containerID": 0, "hostID": 1000, "size": 10}


def with_namespace(kind: str, path: str = "") -> dict[str, Any]:
    entry = {"type": kind, "path": path} if path else {"type": kind}
    return with_value("/linux/namespaces/-", entry)


def without_namespace(kind: str) -> dict[str, Any]:
    return with_value("/linux/namespaces", [{"type": other} for other in NAMESPACES if other != kind])


def in_user_namespace() -> dict[str, Any]:
    config = with_namespace("user")
    config["linux"] |= {"uidMappings": [MAPPING.copy()], "gidMappings": [MAPPING.copy()]}
    return config


def mount(**changes: Any) -> dict[str, Any]:
    return with_value("/mounts", [{"destination": "/m", "type": "tmpfs", "source": "tmpfs"} | changes])


def hook(name: str = "createRuntime", **changes: Any) -> dict[str, Any]:
    return with_value("/hooks", {name: [{"path": "/bin/true"} | changes]})


def process(**changes: Any) -> dict[str, Any]:
    config = small_config()
    config["process"] |= changes
    return config


def linux(**changes: Any) -> dict[str, Any]:
    config = small_config()
    config["linux"] |= changes
    return config


def seccomp(**changes: Any) -> dict[str, Any]:
    return linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW"} | changes)


def rule(**changes: Any) -> dict[str, Any]:
    listener = "/s" if changes.get("action") == "SCMP_ACT_NOTIFY" else ""
    return seccomp(syscalls=[{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"} | changes], listenerPath=listener)


def device(**changes: Any) -> dict[str, Any]:
    return linux(devices=[{"path": "/dev/x", "type": "c", "major": 1, "minor": 3} | changes])


def device_rule(**changes: Any) -> dict[str, Any]:
    return linux(resources={"devices": [{"allow": True, "access": "rwm"} | changes]})


def scheduler(**changes: Any) -> dict[str, Any]:
    return process(scheduler={"policy": "SCHED_OTHER"} | changes)


def policy(mode: str, **changes: Any) -> dict[str, Any]:
    return linux(memoryPolicy={"mode": mode} | changes)


NAMED = {"hostname": "h"}

REFUSED: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    # config.md#specification-version
    "version empty": (with_value("/ociVersion", ""), [("/ociVersion", "spec.version")]),
    "version short": (with_value("/ociVersion", "1.0"), [("/ociVersion", "spec.version")]),
    "version leading zero": (with_value("/ociVersion", "1.02.0"), [("/ociVersion", "spec.version")]),
    "version v": (with_value("/ociVersion", "v1.0.0"), [("/ociVersion", "spec.version")]),
    "version newline": (with_value("/ociVersion", "1.0.0\n"), [("/ociVersion", "spec.version")]),
    "version 2": (with_value("/ociVersion", "2.0.0"), [("/ociVersion", "spec.version")]),
    "version digits": (with_value("/ociVersion", "9" * 5000 + ".0.0"), [("/ociVersion", "spec.version")]),
    "version not ASCII": (with_value("/ociVersion", "\u0661.0.0"), [("/ociVersion", "spec.version")]),
    # config.md#root
    "root empty": (with_value("/root/path", ""), [("/root/path", "spec.path")]),
    "root /": (with_value("/root/path", "/"), [("/root/path", "spec.path")]),
    "root //": (with_value("/root/path", "//"), [("/root/path", "spec.path")]),
    "root /.": (with_value("/root/path", "/."), [("/root/path", "spec.path")]),
    "root /a/..": (with_value("/root/path", "/a/.."), [("/root/path", "spec.path")]),
    # config.md#process
    "cwd relative": (process(cwd="tmp"), [("/process/cwd", "spec.path")]),
    "cwd empty": (process(cwd=""), [("/process/cwd", "spec.path")]),
    "args empty string": (process(args=["", "a"]), [("/process/args/0", "spec.path")]),
    "env without =": (process(env=["A=b", "C"]), [("/process/env/1", "spec.value")]),
    "env without name": (process(env=["=b"]), [("/process/env/0", "spec.value")]),
    "console too large": (
        process(terminal=True, consoleSize={"height": 65536, "width": 80}),
        [("/process/consoleSize/height", "spec.range")],
    ),
    "rlimit twice": (
        process(rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2),
        [("/process/rlimits/1/type", "spec.duplicate")],
    ),
    "rlimit soft above hard": (
        process(rlimits=[{"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 2}]),
        [("/process/rlimits/0/soft", "spec.conflict")],
    ),
    "affinity words": (
        process(execCPUAffinity={"initial": "a"}),
        [("/process/execCPUAffinity/initial", "spec.value")],
    ),
    "affinity backwards": (
        process(execCPUAffinity={"final": "3-1"}),
        [("/process/execCPUAffinity/final", "spec.value")],
    ),
    "affinity huge": (
        process(execCPUAffinity={"final": "0-99999999999"}),
        [("/process/execCPUAffinity/final", "spec.value")],
    ),
    "affinity none": (process(execCPUAffinity={"final": ","}), [("/process/execCPUAffinity/final", "spec.value")]),
    "nice": (scheduler(nice=20), [("/process/scheduler/nice", "spec.range")]),
    "nice batch": (scheduler(policy="SCHED_BATCH", nice=-21), [("/process/scheduler/nice", "spec.range")]),
    "priority of other": (scheduler(priority=1), [("/process/scheduler/priority", "spec.conflict")]),
    "fifo without priority": (scheduler(policy="SCHED_FIFO"), [("/process/scheduler/priority", "spec.range")]),
    "rr priority": (scheduler(policy="SCHED_RR", priority=100), [("/process/scheduler/priority", "spec.range")]),
    "iso": (scheduler(policy="SCHED_ISO"), [("/process/scheduler/policy", "spec.unsupported")]),
    "runtime of other": (scheduler(runtime=1), [("/process/scheduler/runtime", "spec.conflict")]),
    "deadline without": (scheduler(policy="SCHED_DEADLINE"), [("/process/scheduler/runtime", "spec.range")]),
    "deadline order": (
        scheduler(policy="SCHED_DEADLINE", runtime=3000, deadline=2000, period=1500),
        [("/process/scheduler/runtime", "spec.conflict"), ("/process/scheduler/deadline", "spec.conflict")],
    ),
    "deadline huge": (
        scheduler(policy="SCHED_DEADLINE", runtime=3000, deadline=4000, period=2**63),
        [("/process/scheduler/period", "spec.range")],
    ),
    # hostname and domainname
    "hostname too long": (with_value("/hostname", "h" * 65), [("/hostname", "spec.range")]),
    "hostname too long in bytes": (with_value("/hostname", "é" * 33), [("/hostname", "spec.range")]),
    "domainname too long": (with_value("/domainname", "d" * 65), [("/domainname", "spec.range")]),
    "hostname of the host": (without_namespace("uts") | NAMED, [("/hostname", "spec.requires")]),
    "domainname of the host": (
        without_namespace("uts") | {"domainname": "d"},
        [("/domainname", "spec.requires")],
    ),
    # config.md#mounts
    "destination ..": (mount(destination="/a/../b"), [("/mounts/0/destination", "spec.path")]),
    "destination ends in ..": (mount(destination="a/.."), [("/mounts/0/destination", "spec.path")]),
    "destination empty": (mount(destination=""), [("/mounts/0/destination", "spec.path")]),
    "bind without source": (mount(options=["rbind"], source=""), [("/mounts/0", "spec.required")]),
    "no type": (mount(type=""), [("/mounts/0", "spec.required")]),
    "uid mappings alone": (mount(uidMappings=[MAPPING]), [("/mounts/0/uidMappings", "spec.requires")]),
    "gid mappings alone": (mount(gidMappings=[MAPPING]), [("/mounts/0/gidMappings", "spec.requires")]),
    "idmap without": (mount(options=["ro", "idmap"]), [("/mounts/0/options/1", "spec.requires")]),
    "ridmap without": (mount(options=["ridmap"]), [("/mounts/0/options/0", "spec.requires")]),
    "mount mapping overflows": (
        mount(uidMappings=[MAPPING], gidMappings=[MAPPING | {"hostID": 2**32 - 5}]),
        [("/mounts/0/gidMappings/0/size", "spec.range")],
    ),
    # config.md#posix-platform-hooks
    "hook relative": (hook(path="true"), [("/hooks/createRuntime/0/path", "spec.path")]),
    "hook empty": (hook("startContainer", path=""), [("/hooks/startContainer/0/path", "spec.path")]),
    "hook timeout 0": (hook("poststop", timeout=0), [("/hooks/poststop/0/timeout", "spec.range")]),
    "hook timeout negative": (hook("poststart", timeout=-1), [("/hooks/poststart/0/timeout", "spec.range")]),
    # config-linux.md#namespaces
    "namespace twice": (with_namespace("pid"), [("/linux/namespaces/6/type", "spec.duplicate")]),
    "namespace twice by path": (
        with_namespace("pid", "/proc/1/ns/pid"),
        [("/linux/namespaces/6/type", "spec.duplicate")],
    ),
    "namespace path relative": (
        with_namespace("time", "proc/1/ns/time"),
        [("/linux/namespaces/6/path", "spec.path")],
    ),
    # config-linux.md#user-namespace-mappings
    "mappings without user namespace": (
        linux(uidMappings=[MAPPING], gidMappings=[MAPPING]),
        [("/linux/uidMappings", "spec.requires"), ("/linux/gidMappings", "spec.requires")],
    ),
    "user namespace without mappings": (with_namespace("user"), [("/linux/namespaces", "spec.requires")] * 2),
    "overlap in the container": (
        with_value("/linux/uidMappings/-", {"containerID": 9, "hostID": 1, "size": 1}, in_user_namespace()),
        [("/linux/uidMappings/1/containerID", "spec.conflict")],
    ),
    "overlap on the host": (
        with_value("/linux/gidMappings/-", {"containerID": 10, "hostID": 995, "size": 6}, in_user_namespace()),
        [("/linux/gidMappings/1/hostID", "spec.conflict")],
    ),
    "mapping overflows": (
        with_value("/linux/uidMappings/0/size", 2**32 - 1000, in_user_namespace()),
        [("/linux/uidMappings/0/size", "spec.range")],
    ),
    "mapping of nothing": (
        with_value("/linux/uidMappings/0/size", 0, in_user_namespace()),
        [("/linux/uidMappings/0/size", "spec.range")],
    ),
    "too many mappings": (
        with_value(
            "/linux/uidMappings",
            [{"containerID": n, "hostID": n, "size": 1} for n in range(341)],
            in_user_namespace(),
        ),
        [("/linux/uidMappings", "spec.range")],
    ),
    # config-linux.md#offset-for-time-namespace
    "time offsets without": (
        linux(timeOffsets={"boottime": {"secs": 1}}),
        [("/linux/timeOffsets", "spec.requires")],
    ),
    "time offsets of a joined one": (
        with_value("/linux/timeOffsets", {"boottime": {}}, with_namespace("time", "/t")),
        [("/linux/timeOffsets", "spec.conflict")],
    ),
    "unknown clock": (
        with_value("/linux/timeOffsets", {"realtime": {}}, with_namespace("time")),
        [("/linux/timeOffsets/realtime", "spec.value")],
    ),
    # config-linux.md#network-devices
    "device of the host's network": (
        with_value("/linux/netDevices", {"eth0": {}}, without_namespace("network")),
        [("/linux/netDevices", "spec.requires")],
    ),
    "device name too long": (linux(netDevices={"e" * 16: {}}), [(f"/linux/netDevices/{'e' * 16}", "spec.range")]),
    "device name with /": (linux(netDevices={"a/b": {}}), [("/linux/netDevices/a~1b", "spec.value")]),
    "device name ..": (linux(netDevices={"eth0": {"name": ".."}}), [("/linux/netDevices/eth0/name", "spec.value")]),
    "device name space": (
        linux(netDevices={"eth0": {"name": "a b"}}),
        [("/linux/netDevices/eth0/name", "spec.value")],
    ),
    "device name %s": (linux(netDevices={"eth0": {"name": "a%s"}}), [("/linux/netDevices/eth0/name", "spec.value")]),
    "device name %d%d": (
        linux(netDevices={"eth0": {"name": "%d%d"}}),
        [("/linux/netDevices/eth0/name", "spec.value")],
    ),
    "two devices of one name": (
        linux(netDevices={"eth0": {"name": "eth1"}, "eth1": {}}),
        [("/linux/netDevices/eth1", "spec.duplicate")],
    ),
    # config-linux.md#sysctl
    "sysctl of the host": (
        linux(sysctl={"kernel.core_pattern": "|/x"}),
        [("/linux/sysctl/kernel.core_pattern", "spec.unsupported")],
    ),
    "sysctl of the host with /": (
        linux(sysctl={"vm/swappiness": "1"}),
        [("/linux/sysctl/vm~1swappiness", "spec.unsupported")],
    ),
    "sysctl ..": (
        linux(sysctl={"net/../kernel/core_pattern": "|/x"}),
        [("/linux/sysctl/net~1..~1kernel~1core_pattern", "spec.path")],
    ),
    "sysctl .. in dots": (
        linux(sysctl={"net.//.kernel.core_pattern": "|/x"}),
        [("/linux/sysctl/net.~1~1.kernel.core_pattern", "spec.path")],
    ),
    "sysctl empty part": (linux(sysctl={"net..x": "1"}), [("/linux/sysctl/net..x", "spec.path")]),
    "sysctl absolute": (
        linux(sysctl={"/proc/sys/net/x": "1"}),
        [("/linux/sysctl/~1proc~1sys~1net~1x", "spec.path")],
    ),
    "sysctl without ipc": (
        with_value("/linux/sysctl", {"kernel.sem": "1"}, without_namespace("ipc")),
        [("/linux/sysctl/kernel.sem", "spec.requires")],
    ),
    "sysctl of mqueue without ipc": (
        with_value("/linux/sysctl", {"fs.mqueue.msg_max": "1"}, without_namespace("ipc")),
        [("/linux/sysctl/fs.mqueue.msg_max", "spec.requires")],
    ),
    "sysctl without network": (
        with_value("/linux/sysctl", {"net.ipv4.ip_forward": "1"}, without_namespace("network")),
        [("/linux/sysctl/net.ipv4.ip_forward", "spec.requires")],
    ),
    "sysctl without uts": (
        with_value("/linux/sysctl", {"kernel.domainname": "d"}, without_namespace("uts")),
        [("/linux/sysctl/kernel.domainname", "spec.requires")],
    ),
    "sysctl without user": (
        linux(sysctl={"user.max_ipc_namespaces": "1"}),
        [("/linux/sysctl/user.max_ipc_namespaces", "spec.requires")],
    ),
    "sysctl against hostname": (
        linux(sysctl={"kernel.hostname": "g"}) | NAMED,
        [("/linux/sysctl/kernel.hostname", "spec.conflict")],
    ),
    "sysctl twice": (
        linux(sysctl={"net.core.somaxconn": "1", "net/core/somaxconn": "2"}),
        [("/linux/sysctl/net~1core~1somaxconn", "spec.duplicate")],
    ),
    **{
        f"sysctl {key}": (linux(sysctl={key: "1"}), [(f"/linux/sysctl/{key}", "spec.unsupported")])
        for key in ("fs.file-max", "fs.mqueue", "network.x", "net", "kernel.msg", "kernel.hostnames", "userx.y")
    },
    "sysctl like one of ipc": (linux(sysctl={"kernel.semx": "1"}), [("/linux/sysctl/kernel.semx", "spec.unsupported")]),
    # config-linux.md#devices
    "device relative": (device(path="dev/x"), [("/linux/devices/0/path", "spec.path")]),
    "device ..": (device(path="/dev/../x"), [("/linux/devices/0/path", "spec.path")]),
    "device /": (device(path="/"), [("/linux/devices/0/path", "spec.path")]),
    "device without numbers": (
        linux(devices=[{"path": "/x", "type": "b"}]),
        [("/linux/devices/0", "spec.required")] * 2,
    ),
    "device numbers": (
        device(major=4096, minor=-1),
        [("/linux/devices/0/major", "spec.range"), ("/linux/devices/0/minor", "spec.range")],
    ),
    "device uid": (device(uid=2**32 - 1), [("/linux/devices/0/uid", "spec.range")]),
    # config-linux.md#control-groups
    "cgroupsPath ..": (linux(cgroupsPath="/a/../../b"), [("/linux/cgroupsPath", "spec.path")]),
    "rule without access": (
        linux(resources={"devices": [{"allow": False}]}),
        [("/linux/resources/devices/0", "spec.required")],
    ),
    "rule access": (device_rule(access="rwx"), [("/linux/resources/devices/0/access", "spec.value")]),
    "rule type": (device_rule(type="p"), [("/linux/resources/devices/0/type", "spec.value")]),
    "rule numbers": (
        device_rule(major=-2, minor=2**32),
        [("/linux/resources/devices/0/major", "spec.range"), ("/linux/resources/devices/0/minor", "spec.range")],
    ),
    **{
        f"resource {pointer}": (linux(resources={name: value}), [(f"/linux/resources/{pointer}", code)])
        for name, value, pointer, code in (
            ("memory", {"swap": 1}, "memory/swap", "spec.requires"),
            ("memory", {"disableOOMKiller": True}, "memory/disableOOMKiller", "spec.unsupported"),
            ("cpu", {"period": 1}, "cpu/period", "spec.range"),
            ("blockIO", {"leafWeight": 10}, "blockIO/leafWeight", "spec.unsupported"),
            ("network", {"classID": 1}, "network/classID", "spec.unsupported"),
            ("rdma", {"mlx5_1": {}}, "rdma/mlx5_1", "spec.requires"),
            ("unified", {"cgroup.procs": "1"}, "unified/cgroup.procs", "spec.unsupported"),
        )
    },
    "resources with several problems": (
        linux(resources={"memory": {"limit": -2, "useHierarchy": False}}),
        [
            ("/linux/resources/memory/limit", "spec.range"),
            ("/linux/resources/memory/useHierarchy", "spec.unsupported"),
        ],
    ),
    # config-linux.md#intelrdt
    **{
        f"closID {value!r}": (linux(intelRdt={"closID": value}), [("/linux/intelRdt/closID", "spec.path")])
        for value in ("..", ".", "a/b", "/a", "a/", "//", "a\nb")
    },
    "memBwSchema": (linux(intelRdt={"memBwSchema": "L3:0=f"}), [("/linux/intelRdt/memBwSchema", "spec.value")]),
    "memBwSchema newline": (
        linux(intelRdt={"memBwSchema": "MB:0=20\n"}),
        [("/linux/intelRdt/memBwSchema", "spec.value")],
    ),
    "schemata newline": (
        linux(intelRdt={"schemata": ["L3:0=f", "MB:0=10\n"]}),
        [("/linux/intelRdt/schemata/1", "spec.value")],
    ),
    # The memory policy: what the man page of set_mempolicy says
    "default with nodes": (policy("MPOL_DEFAULT", nodes="0"), [("/linux/memoryPolicy/nodes", "spec.conflict")]),
    "local with nodes": (policy("MPOL_LOCAL", nodes="0"), [("/linux/memoryPolicy/nodes", "spec.conflict")]),
    **{
        f"{mode} without nodes": (policy(mode), [("/linux/memoryPolicy", "spec.requires")])
        for mode in ("MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY")
    },
    "nodes": (policy("MPOL_BIND", nodes="0-x"), [("/linux/memoryPolicy/nodes", "spec.value")]),
    "nodes too large": (policy("MPOL_BIND", nodes="0,1024"), [("/linux/memoryPolicy/nodes", "spec.range")]),
    "static and relative": (
        policy("MPOL_BIND", nodes="0", flags=["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
        [("/linux/memoryPolicy/flags", "spec.conflict")],
    ),
    "balancing": (
        policy("MPOL_INTERLEAVE", nodes="0", flags=["MPOL_F_NUMA_BALANCING"]),
        [("/linux/memoryPolicy/flags", "spec.conflict")],
    ),
    "preferred with flags": (
        policy("MPOL_PREFERRED", flags=["MPOL_F_STATIC_NODES"]),
        [("/linux/memoryPolicy/flags", "spec.requires")],
    ),
    "personality flag": (
        linux(personality={"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
        [("/linux/personality/flags", "spec.unsupported")],
    ),
    # config-linux.md#masked-paths, #readonly-paths
    "masked relative": (linux(maskedPaths=["/a", "proc/kcore"]), [("/linux/maskedPaths/1", "spec.path")]),
    "readonly relative": (linux(readonlyPaths=["proc/sys"]), [("/linux/readonlyPaths/0", "spec.path")]),
    "masked on the host": (
        with_value("/linux/maskedPaths", ["/a"], without_namespace("mount")),
        [("/linux/maskedPaths", "spec.requires")],
    ),
    # config-linux.md#seccomp
    "metadata alone": (seccomp(listenerMetadata="m"), [("/linux/seccomp/listenerMetadata", "spec.requires")]),
    "errno of allow": (seccomp(defaultErrnoRet=1), [("/linux/seccomp/defaultErrnoRet", "spec.conflict")]),
    "errno 0 of kill": (
        rule(action="SCMP_ACT_KILL", errnoRet=0),
        [("/linux/seccomp/syscalls/0/errnoRet", "spec.conflict")],
    ),
    "errno that would be cut to 0": (rule(errnoRet=65536), [("/linux/seccomp/syscalls/0/errnoRet", "spec.range")]),
    "errno above libseccomp's": (rule(errnoRet=4095), [("/linux/seccomp/syscalls/0/errnoRet", "spec.range")]),
    "trace number": (
        rule(action="SCMP_ACT_TRACE", errnoRet=65536),
        [("/linux/seccomp/syscalls/0/errnoRet", "spec.range")],
    ),
    "notify by default": (
        seccomp(defaultAction="SCMP_ACT_NOTIFY", listenerPath="/s"),
        [("/linux/seccomp/defaultAction", "spec.unsupported")],
    ),
    "notify of write": (
        rule(action="SCMP_ACT_NOTIFY", names=["a", "write"]),
        [("/linux/seccomp/syscalls/0/names", "spec.unsupported")],
    ),
    "notify without listener": (
        seccomp(syscalls=[{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]),
        [("/linux/seccomp/syscalls/0/action", "spec.requires")],
    ),
    "argument 6": (
        rule(args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]),
        [("/linux/seccomp/syscalls/0/args/0/index", "spec.range")],
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "small": small_config(),
    "no process": without("/process"),
    "no linux": without("/linux"),
    **{
        f"version {version}": with_value("/ociVersion", version)
        for version in ("0.2.0", "1.0.0-rc2-dev", "1.0.2-dev", "1.2.0+dev", "1.3.0", "1.99.0", "0.5.0-dev")
    },
    "root outside of the bundle": with_value("/root/path", "../rootfs"),
    "root absolute": with_value("/root/path", "/var/lib/r"),
    "empty environment value": process(env=["A=", "B==", "C=d=e"]),
    "console too large without a terminal": process(consoleSize={"height": 2**40, "width": 1}),
    "rlimits": process(
        rlimits=[
            {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
            {"type": "RLIMIT_NPROC", "soft": 0, "hard": 0},
        ]
    ),
    "affinity": process(execCPUAffinity={"initial": "0-3, 7", "final": ""}),
    "unknown capability": process(capabilities={"bounding": ["CAP_NEW", "CAP_KILL", "CAP_KILL"]}),
    "nice": scheduler(nice=-20, flags=["SCHED_FLAG_RESET_ON_FORK"]),
    "fifo": scheduler(policy="SCHED_FIFO", priority=99),
    "nice of fifo": scheduler(policy="SCHED_FIFO", priority=1, nice=5),
    "idle": scheduler(policy="SCHED_IDLE"),
    "deadline": scheduler(policy="SCHED_DEADLINE", runtime=1024, deadline=1024),
    "hostname of 64 bytes": with_value("/hostname", "é" * 32),
    "destination relative": mount(destination="proc"),
    "destination with dots": mount(destination="/a/..b/.../.c"),
    "bind without type": with_value("/mounts", [{"destination": "/a", "source": "a", "options": ["bind"]}]),
    "unknown mount option": mount(options=["size=1k", "x-anything"]),
    "mappings of a mount": mount(uidMappings=[MAPPING], gidMappings=[MAPPING], options=["idmap"]),
    "idmap in a user namespace": with_value(
        "/mounts", [{"destination": "/a", "source": "a", "options": ["bind", "idmap"]}], in_user_namespace()
    ),
    "idmap with its own mappings": mount(options=["idmap=uids=0-1000-10;gids=0-1000-10"]),
    "hooks": with_value(
        "/hooks", {name: [{"path": "/a", "timeout": 1, "env": ["any"]}] for name in ("prestart", "poststop")}
    ),
    "namespaces to join": with_value(
        "/linux/namespaces", [{"type": kind, "path": f"/ns/{kind}"} for kind in NAMESPACES]
    ),
    "user namespace": in_user_namespace(),
    "user namespace to join": with_namespace("user", "/ns/user"),
    "user namespace to join with its mappings": with_value("/linux/namespaces/6/path", "/ns/user", in_user_namespace()),
    "adjoining mappings": with_value(
        "/linux/uidMappings/-", {"containerID": 10, "hostID": 1010, "size": 2**31}, in_user_namespace()
    ),
    "all ids": with_value(
        "/linux/uidMappings", [{"containerID": 0, "hostID": 0, "size": 2**32 - 1}], in_user_namespace()
    ),
    "time offsets": with_value(
        "/linux/timeOffsets", {"monotonic": {"secs": -5}, "boottime": {"nanosecs": 1}}, with_namespace("time")
    ),
    "net devices": linux(netDevices={"eth0": {"name": "c%d"}, "eth1": {"name": "c%d"}, "e" * 15: {}}),
    "net device by path": with_value(
        "/linux/netDevices", {"eth0": {}}, with_value("/linux/namespaces/1/path", "/run/netns/a")
    ),
    "sysctls": linux(
        sysctl={
            "kernel.sem": "1 2 3 4",
            "kernel/shm_rmid_forced": "1",
            "fs.mqueue.msg_max": "5",
            "net.ipv4.conf.eno2/100.rp_filter": "1",
            "net/ipv4/conf/eno2.101/rp_filter": "1",
            "kernel.domainname": "d",
            "kernel.hostname": "h",
        }
    ),
    "sysctl of a user namespace": with_value("/linux/sysctl", {"user.max_mnt_namespaces": "1"}, in_user_namespace()),
    "FIFO without numbers": linux(devices=[{"path": "/p", "type": "p"}]),
    "device with the file's type in its mode": device(fileMode=0o20666, type="u"),
    "device 0:0": device(major=0, minor=0),
    "cgroupsPath of systemd": linux(cgroupsPath="system.slice:ocirt:1..2"),
    "cgroupsPath relative": linux(cgroupsPath="a/..b"),
    "device rules": linux(
        resources={
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": -1, "minor": 3, "access": "m"},
            ]
        }
    ),
    "resources that ask for nothing": linux(
        resources={
            "memory": {"disableOOMKiller": False},
            "cpu": {"cpus": ""},
            "pids": {},
            "blockIO": {"weightDevice": []},
            "network": {"priorities": []},
            "hugepageLimits": [],
            "rdma": {},
            "unified": {},
        }
    ),
    "intelRdt": linux(
        intelRdt={"closID": "/", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10", "schemata": ["MB:0=20"]}
    ),
    "l3CacheSchema of several lines": linux(intelRdt={"l3CacheSchema": "L3:0=f\nMB:0=10\n"}),
    "closID with dots": linux(intelRdt={"closID": "..a"}),
    "memory policy": policy("MPOL_BIND", nodes="0,2-3", flags=["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"]),
    "preferred": policy("MPOL_PREFERRED"),
    "default policy": policy("MPOL_DEFAULT", nodes=""),
    "personality": linux(personality={"domain": "LINUX32", "flags": []}),
    **{
        f"propagation {name}": linux(rootfsPropagation=name)
        for name in ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")
    },
    "masked path with dots": linux(maskedPaths=["/proc/../proc/kcore"]),
    "listener without notify": seccomp(listenerPath="/s", listenerMetadata="m"),
    "errno": rule(errnoRet=4094),
    "default errno": seccomp(defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=38),
    "trace": rule(action="SCMP_ACT_TRACE", errnoRet=65535),
    "notify": rule(action="SCMP_ACT_NOTIFY"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    config, expected = REFUSED[case]
    assert findings(config) == expected


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    assert [str(problem) for problem in problems(ACCEPTED[case])] == []


def test_messages_are_one_line() -> None:
    for config, _ in REFUSED.values():
        for problem in problems(config):
            assert "\n" not in str(problem)
            assert str(problem).startswith(f"{problem.pointer or '/'}: ".replace("\n", "\\n"))
            assert len(str(problem)) < 400


def test_every_check_refuses_something() -> None:
    """A check that nothing here triggers could be empty."""
    silent = set(CHECKS)
    for config, _ in REFUSED.values():
        try:
            spec = parse_config(config)
        except SpecError:
            continue
        silent -= {check for check in silent if list(check(spec))}
    assert silent == set()


def test_all_problems_are_listed_and_the_first_is_raised() -> None:
    config = process(cwd="a", args=[""])
    config["linux"]["maskedPaths"] = ["b"]
    spec = parse_config(config)
    pointers = [problem.pointer for problem in all_problems(spec)]
    assert pointers == ["/process/cwd", "/process/args/0", "/linux/maskedPaths/0"]
    with pytest.raises(SpecError, match=r"^/process/cwd: "):
        check_spec(spec)


def test_checks_of_parts_use_the_pointer_that_they_are_given() -> None:
    with pytest.raises(SpecError, match=r"^/cwd: "):
        check_process(parse_process({"args": ["a"], "cwd": "x"}), "")
    with pytest.raises(SpecError, match=r"^/linux/resources/cpu/idle: "):
        check_resources(parse_resources({"cpu": {"idle": 2}}), "/linux/resources")
    check_process(parse_process({"args": ["a"], "cwd": "/"}), "")
    check_resources(parse_resources({}), "")


def test_checks_do_not_change_the_spec() -> None:
    for config in ACCEPTED.values():
        spec = parse_config(config)
        before = copy.deepcopy(config), repr(spec)
        check_spec(spec)
        assert (config, repr(spec)) == before


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("kernel", "kernel"),
    ],
)
def test_sysctl_paths(key: str, path: str) -> None:
    assert sysctl_path(key) == path
