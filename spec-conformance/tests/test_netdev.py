"""Network devices that are moved into a container."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conformance.bed import Bed
from conformance.expect import Mismatch, equal, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config, without_namespace
from tests.support.held import held
from tests.support.runtime import Container


def ip(*arguments: str, pid: int | None = None) -> list[dict[str, Any]]:
    """What `ip -json` says, in the network namespace of a process. Raises CalledProcessError."""
    enter = [] if pid is None else ["nsenter", f"--target={pid}", "--net"]
    command = [*enter, "ip", "-json", "-details", *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(result.stdout or "[]")
    return [entry for entry in found if entry]


def names(pid: int | None = None) -> set[str]:
    return {entry["ifname"] for entry in ip("link", "show", pid=pid)}


@contextmanager
def device(bed: Bed, *, up: bool = True) -> Iterator[str]:
    """The name of a virtual Ethernet device of the host; removed afterwards, wherever it is by then."""
    name = f"c{bed.token[-6:]}{'u' if up else 'd'}"
    peer = f"{name}p"
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    try:
        ip("link", "set", name, "mtu", "1400", "address", "02:00:00:00:00:07")
        ip("addr", "add", "192.0.2.7/24", "dev", name)
        ip("addr", "add", "2001:db8::7/64", "dev", name)
        for one in (name, peer):
            ip("link", "set", one, "up" if up else "down")
        if up:
            ip("addr", "replace", "2001:db8::7/64", "dev", name, "nodad")
        yield name
    finally:
        # With its peer, the device goes too.
        subprocess.run(["ip", "link", "del", peer], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def running(bed: Bed, devices: Config) -> Container:
    container = bed.new({"linux": {"netDevices": devices}})
    container.process["args"] = ["/probe", "hold"]
    created = container.create(check=False)
    that(created.rc == 0, f"a container with the network devices {json.dumps(devices)}", "taken", created.error)
    container.start()
    return container


def addresses(entry: dict[str, Any]) -> set[tuple[str, int]]:
    return {(a["local"], a["prefixlen"]) for a in entry["addr_info"] if a["scope"] == "global"}


def test_moved(requirement: Requirement, bed: Bed) -> None:
    for up, new in itertools.product((True, False), (None, "eth7")):
        with device(bed, up=up) as name:
            container = running(bed, {name: {} if new is None else {"name": new}})
            inside = {entry["ifname"]: entry for entry in ip("addr", "show", pid=container.pid)}
            that((new or name) in inside, "the device in the container", new or name, sorted(inside))
            that(name not in names(), "the host's devices", f"without {name}", sorted(names()))
            if requirement.id.endswith("up"):
                that("UP" in inside[new or name]["flags"], "the device's flags", "UP", inside[new or name]["flags"])
            container.kill("KILL")
            container.wait()
            container.delete()


def test_attributes_kept(requirement: Requirement, bed: Bed) -> None:
    with device(bed) as name:
        (before,) = ip("addr", "show", "dev", name)
        container = running(bed, {name: {"name": "eth7"}})
        found = [entry for entry in ip("addr", "show", pid=container.pid) if entry["ifname"] == "eth7"]
        that(found, "the device in the container", "eth7", names(container.pid))
        equal("the MTU", found[0]["mtu"], before["mtu"])
        equal("the hardware address", found[0]["address"], before["address"])
        equal("the addresses", addresses(found[0]), addresses(before))


def test_impossible(requirement: Requirement, bed: Bed) -> None:
    control(bed)
    cases: dict[str, Config] = {
        "a device that is not there": bed.config({"linux": {"netDevices": {"nosuchdev": {}}}}),
        "a device that cannot leave": bed.config({"linux": {"netDevices": {"lo": {}}}}),
    }
    with device(bed) as name:
        config = bed.config({"linux": {"netDevices": {name: {}}}})
        without_namespace(config, "network")
        config["mounts"] = [entry for entry in config["mounts"] if entry["type"] != "sysfs"]
        cases["no network namespace of the container's own"] = config
        for what, bad in cases.items():
            seen = bed.attempt(bad)
            that(seen.failed == "create", f"create with {what}", "an error", seen.summary)
            that(not seen.left, f"after create with {what}", "nothing changed", "; ".join(seen.left))
        that(name in names(), "the host's device", "where it was", sorted(names()))


def control(bed: Bed) -> None:
    """That the runtime moves devices at all. Else there is nothing that it could refuse."""
    with device(bed) as name:
        container = bed.new({"linux": {"netDevices": {name: {}}}})
        container.process["args"] = ["/probe", "hold"]
        if container.create(check=False).rc != 0 or name in names():
            not_testable(f"{bed.runtime.name} moves no network devices")
        bed.clean()


def test_name_taken(requirement: Requirement, bed: Bed) -> None:
    control(bed)
    with device(bed) as name, bed.unchanged():
        seen = bed.attempt(bed.config({"linux": {"netDevices": {name: {"name": "lo"}}}}))
        that(seen.failed == "create", "create with a name that is taken in the container", "an error", seen.summary)


def test_name_template(requirement: Requirement, bed: Bed) -> None:
    with held("network") as holder:
        ip("link", "add", "net0", "type", "veth", "peer", "name", "net0p", pid=holder.pid)
        with device(bed) as name:
            container = bed.new({"linux": {"netDevices": {name: {"name": "net%d"}}}})
            without_namespace(container.config, "network")
            container.linux["namespaces"].append(holder.entry("network"))
            container.process["args"] = ["/probe", "hold"]
            created = container.create(check=False)
            that(created.rc == 0, "a name that ends in %d", "taken", created.error)
            that("net1" in names(holder.pid), "the devices in the container", "net1", sorted(names(holder.pid)))


def test_left_alone(requirement: Requirement, bed: Bed) -> None:
    control(bed)
    with device(bed) as name:
        container = running(bed, {name: {"name": "eth7"}})
        ip("link", "set", "eth7", "down", pid=container.pid)
        ip("link", "set", "eth7", "mtu", "1300", pid=container.pid)
        ip("link", "set", "eth7", "name", "other", pid=container.pid)
        container.state()
        container.exec("/bin/true", check=False)
        container.kill("CONT", check=False)
        found = [entry for entry in ip("link", "show", pid=container.pid) if entry["ifname"] == "other"]
        that(found, "the device that the container renamed", "still of that name", names(container.pid))
        equal("the MTU that the container set", found[0]["mtu"], 1300)
        that("UP" not in found[0]["flags"], "the device that the container put down", "down", found[0]["flags"])


def test_not_moved_back(requirement: Requirement, bed: Bed) -> None:
    control(bed)
    with held("network") as holder, device(bed) as name:
        container = bed.new({"linux": {"netDevices": {name: {"name": "eth7"}}}})
        without_namespace(container.config, "network")
        container.linux["namespaces"].append(holder.entry("network"))
        container.hold()
        container.kill("KILL")
        container.wait()
        container.delete()
        if "eth7" not in names(holder.pid):
            raise Mismatch("the devices of the namespace after delete", "with eth7", sorted(names(holder.pid)))
