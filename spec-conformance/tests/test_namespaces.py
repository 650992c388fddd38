"""linux.namespaces: new, inherited and joined ones of every kind, and what each keeps apart."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from conformance.bed import Bed
from conformance.expect import case_of, equal, merged, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config, use_user_namespace, without_namespace
from tests.support.facts import Facts
from tests.support.held import held

# config.json's names, and those below /proc/PID/ns.
KINDS = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}


# Of which all but the first are there where the kernel has the tunnel's module.
IN_EVERY_NAMESPACE = set("lo tunl0 sit0 ip6tnl0 gre0 gretap0 erspan0 ip_vti0 ip6_vti0 ip6gre0".split())


def inode(kind: str) -> int:
    return os.stat(f"/proc/self/ns/{KINDS[kind]}").st_ino


def kinds_here(bed: Bed) -> list[str]:
    """The kinds that this kernel has."""
    return [kind for kind, name in KINDS.items() if os.path.exists(f"/proc/self/ns/{name}")]


def with_kind(bed: Bed, kind: str, path: Path | str | None = None) -> Config:
    """The base configuration with a namespace of the kind, new or joined."""
    config = bed.config()
    if kind == "user" and path is None:
        use_user_namespace(config)
        return config
    without_namespace(config, kind)
    config["linux"]["namespaces"].append({"type": kind} if path is None else {"type": kind, "path": str(path)})
    return config


def without_kind(bed: Bed, kind: str) -> Config:
    """The base configuration without the kind, and without what needs it."""
    config = bed.config()
    without_namespace(config, kind)
    if kind == "uts":
        del config["hostname"]
    if kind == "ipc":
        config["mounts"] = [entry for entry in config["mounts"] if entry["type"] != "mqueue"]
    if kind == "network":
        config["mounts"] = [entry for entry in config["mounts"] if entry["type"] != "sysfs"]
    if kind == "mount":
        # A read-only root or masked paths would be the host's as well.
        del config["linux"]["maskedPaths"], config["linux"]["readonlyPaths"]
        config["mounts"] = [entry for entry in config["mounts"] if entry["destination"] == "/proc"]
    return config


def facts_of(bed: Bed, config: Config) -> Facts:
    return bed.attempt(config).facts()


def test_new(requirement: Requirement, bed: Bed) -> None:
    for kind in kinds_here(bed):
        attempt = bed.attempt(with_kind(bed, kind))
        that(attempt.taken, f"a new {kind} namespace", "taken", attempt.summary)
        seen = attempt.facts()["namespaces"].get(KINDS[kind])
        that(seen != inode(kind), f"the {kind} namespace", "a new one", "the caller's own")


def test_inherited(requirement: Requirement, bed: Bed) -> None:
    for kind in kinds_here(bed):
        container = bed.new()
        if kind not in ("user", "time"):
            container.config = without_kind(bed, kind)
        container.process["args"] = ["/probe", "hold"]
        created = container.create(check=False)
        that(created.rc == 0, f"a container without a {kind} namespace", "taken", created.error)
        # From outside: such a container may have no /proc to look at.
        seen = os.stat(f"/proc/{container.pid}/ns/{KINDS[kind]}").st_ino
        equal(f"the {kind} namespace that is not listed", seen, inode(kind))
        bed.clean()


def test_joined(requirement: Requirement, bed: Bed) -> None:
    for kind in kinds_here(bed):
        if kind in ("mount", "user"):
            continue
        with held(kind) as holder:
            attempt = bed.attempt(with_kind(bed, kind, holder.path(kind)))
            that(attempt.taken, f"joining a {kind} namespace", "taken", attempt.summary)
            seen = attempt.facts()["namespaces"][KINDS[kind]]
            equal(f"the {kind} namespace with a path", seen, holder.inode(kind))
    join_mount_namespace(bed)
    join_user_namespace(bed)


def join_mount_namespace(bed: Bed) -> None:
    with held("mount") as holder:
        config = without_kind(bed, "mount")
        config["linux"]["namespaces"].append(holder.entry("mount"))
        attempt = bed.attempt(config)
        that(attempt.taken, "joining a mount namespace", "taken", attempt.summary)
        equal("the mount namespace with a path", attempt.facts()["namespaces"]["mnt"], holder.inode("mount"))


def join_user_namespace(bed: Bed) -> None:
    with held("user") as holder:
        config = bed.config()
        config["linux"]["namespaces"].append(holder.entry("user"))
        attempt = bed.attempt(config)
        that(attempt.taken, "joining a user namespace", "taken", attempt.summary)
        equal("the user namespace with a path", attempt.facts()["namespaces"]["user"], holder.inode("user"))


def test_wrong_type(requirement: Requirement, bed: Bed) -> None:
    others = {"pid": "ipc", "network": "uts", "ipc": "network", "uts": "ipc", "cgroup": "uts"}
    for kind, other in others.items():
        with held(other) as holder, held(kind) as right:
            bed.refused(with_kind(bed, kind, holder.path(other)), with_kind(bed, kind, right.path(kind)))
    with held("network") as right:
        for path in ("/etc/passwd", "/proc/self/ns/no-such-thing", "/etc"):
            bed.refused(with_kind(bed, "network", path), with_kind(bed, "network", right.path("network")))


# What each keeps apart.


def pid(bed: Bed) -> None:
    facts = facts_of(bed, with_kind(bed, "pid"))
    equal("the program's number in its pid namespace", facts["pid"], 1)
    listing = bed.attempt(merged(bed.config(), {"process": {"args": ["/bin/ls", "/proc"]}})).output.split()
    equal("the processes in /proc", [name for name in listing if name.isdecimal()], ["1"])


def network(bed: Bed) -> None:
    output = bed.attempt(
        merged(bed.config(), {"process": {"args": ["/bin/cat", "/proc/net/dev", "/proc/net/route"]}})
    ).output
    names = [line.split(":")[0].strip() for line in output.splitlines() if ":" in line]
    that(set(names) <= IN_EVERY_NAMESPACE, "the interfaces", "what every new namespace has", names)
    # An abstract socket belongs to its network namespace.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{bed.token}")
        output = bed.attempt(merged(bed.config(), {"process": {"args": ["/bin/cat", "/proc/net/unix"]}})).output
    that(bed.token not in output, "the host's abstract socket", "unseen", "seen")


def mount(bed: Bed) -> None:
    before = bed.snapshot()
    container = bed.new({"mounts": [*bed.config()["mounts"], {"destination": "/mnt", "type": "tmpfs", "source": "x"}]})
    container.hold()
    equal("the host's mounts while it runs", bed.snapshot().mounts, before.mounts)
    inside = Path(f"/proc/{container.pid}/mountinfo").read_text()
    that(" /mnt " in inside, "the container's mounts", "with /mnt", inside)
    container.kill("KILL")
    container.wait()


def ipc(bed: Bed) -> None:
    made = subprocess.run(["ipcmk", "--queue"], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        not_testable("no System V queue can be made")
    number = made.stdout.split()[-1]
    try:
        config = merged(bed.config(), {"process": {"args": ["/bin/cat", "/proc/sysvipc/msg"]}})
        seen = bed.attempt(config).output.splitlines()[1:]
        equal("the queues in /proc/sysvipc", seen, [])
        shared = merged(without_kind(bed, "ipc"), {"process": {"args": ["/bin/cat", "/proc/sysvipc/msg"]}})
        output = bed.attempt(shared).output
        that(number in output.split(), "the queue, without an ipc namespace", "seen", output)
    finally:
        subprocess.run(["ipcrm", "--queue-id", number], check=True)


def uts(bed: Bed) -> None:
    before = os.uname()
    facts = facts_of(bed, merged(bed.config(), {"hostname": "another"}))
    equal("the host name", facts["hostname"], "another")
    equal("the host's names", os.uname(), before)


def user(bed: Bed) -> None:
    facts = facts_of(bed, with_kind(bed, "user"))
    equal("the user id inside", facts["uids"], [0, 0, 0])
    equal("the mapping", facts["uid_map"].split(), ["0", "100000", "65536"])
    container = bed.new()
    container.config = with_kind(bed, "user")
    container.hold()
    equal("the user id outside", os.stat(f"/proc/{container.pid}").st_uid, 100000)
    container.kill("KILL")
    container.wait()


def cgroup(bed: Bed) -> None:
    lines = facts_of(bed, with_kind(bed, "cgroup"))["cgroup"].splitlines()
    equal("the cgroup that is seen inside", [line for line in lines if line.startswith("0::")], ["0::/"])


def time_(bed: Bed) -> None:
    config = with_kind(bed, "time")
    config["linux"]["timeOffsets"] = {"boottime": {"secs": 100000}, "monotonic": {"secs": 50000}}
    facts = facts_of(bed, config)
    own = time.clock_gettime(time.CLOCK_BOOTTIME)
    that(abs(facts["boottime"] - own - 100000) < 30, "the boot clock inside", own + 100000, facts["boottime"])


ISOLATION = {
    "config-linux.namespaces.pid": pid,
    "config-linux.namespaces.network": network,
    "config-linux.namespaces.mount": mount,
    "config-linux.namespaces.ipc": ipc,
    "config-linux.namespaces.uts": uts,
    "config-linux.namespaces.user": user,
    "config-linux.namespaces.cgroup": cgroup,
    "config-linux.namespaces.time": time_,
}


def test_isolation(requirement: Requirement, bed: Bed) -> None:
    case_of(ISOLATION, requirement.id)(bed)


def test_time_offsets(requirement: Requirement, bed: Bed) -> None:
    clocks = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
    nanoseconds = requirement.id.endswith("nanosecs-applied")
    # /proc/self/timens_offsets tells them to the nanosecond.
    wanted = {"monotonic": {"secs": -1}, "boottime": {"secs": 86400}}
    if nanoseconds:
        wanted = {"monotonic": {"secs": 0, "nanosecs": 123456789}, "boottime": {"secs": 7, "nanosecs": 999999999}}
    config = with_kind(bed, "time")
    config["linux"]["timeOffsets"] = wanted
    config["process"]["args"] = ["/bin/cat", "/proc/self/timens_offsets"]
    attempt = bed.attempt(config)
    that(attempt.taken, "a container with time offsets", "taken", attempt.summary)
    seen = {line.split()[0]: tuple(map(int, line.split()[1:])) for line in attempt.output.splitlines()}
    for clock, offset in wanted.items():
        equal(f"the offset of {clock}", seen.get(clock), (offset["secs"], offset.get("nanosecs", 0)))
    config["process"]["args"] = ["/probe"]
    facts = facts_of(bed, config)
    for clock, number in clocks.items():
        expected = time.clock_gettime(number) + wanted[clock]["secs"]
        that(abs(facts[clock] - expected) < 30, f"the clock {clock}", expected, facts[clock])
