"""ocirt.netdev in real network namespaces, seen through iproute2."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ocirt import netdev
from ocirt.errors import HostError, SpecError
from ocirt.netdev import move_netdevs, restore_netdevs
from ocirt.rtnetlink import open_route_socket
from ocirt.spec import NetDevice

pytestmark = [pytest.mark.root, pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2")]

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def open_netns() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(fd: int) -> None:
    assert _libc.setns(fd, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def ip(*words: str) -> Any:
    """iproute2 in the thread's namespace."""
    done = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else []


@dataclass
class Networks:
    """The test's thread is in a namespace that stands for the host's; the container's is beside it."""

    host_fd: int
    container_fd: int
    socket: socket.socket

    def in_container(self, *words: str) -> Any:
        enter(self.container_fd)
        try:
            return ip(*words)
        finally:
            enter(self.host_fd)

    def move(self, **devices: str | None) -> tuple[netdev.MovedDevice, ...]:
        netdevs = {name: NetDevice(name=new_name) for name, new_name in devices.items()}
        return move_netdevs(netdevs, self.socket, self.container_fd)


@pytest.fixture
def networks() -> Iterator[Networks]:
    original = open_netns()
    assert _libc.unshare(CLONE_NEWNET) == 0
    host = open_netns()
    assert _libc.unshare(CLONE_NEWNET) == 0
    container = open_netns()
    route = open_route_socket()
    enter(host)
    yield Networks(host, container, route)
    enter(original)
    route.close()
    for fd in (original, host, container):
        os.close(fd)


def veth(name: str, *, up: bool = True) -> None:
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}peer")
    if up:
        ip("link", "set", name, "up")
        ip("link", "set", f"{name}peer", "up")


def without(item: dict[str, Any], *keys: str) -> dict[str, Any]:
    # whether duplicate address detection has ended is a matter of time
    return {key: value for key, value in item.items() if key not in (*keys, "tentative")}


def addresses(shown: list[dict[str, Any]], *, scope: str = "") -> list[dict[str, Any]]:
    found = [without(one) for one in shown[0]["addr_info"] if scope in ("", one["scope"])]
    return sorted(found, key=lambda one: (one["family"], one["local"]))


def host_state(name: str) -> set[str]:
    """All that a user sees of a device, but for what the kernel makes of IPv6 by itself, and later."""
    link = ip("link", "show", name)[0]
    state = {f"{key}: {value}" for key, value in without(link, "operstate", "flags").items()}
    state.add(f"up: {'UP' in link['flags']}")
    state |= {f"address {one}" for one in addresses(ip("addr", "show", name), scope="global")}
    state |= {f"route {without(one, 'flags')}" for one in ip("route", "show", "dev", name)}
    ipv6 = ip("-6", "route", "show", "dev", name)
    return state | {f"route {without(one, 'flags')}" for one in ipv6 if one.get("protocol") != "kernel"}


def furnish(name: str) -> None:
    for words in (
        ("10.1.0.1/24", "brd", "10.1.0.255", "label", f"{name}:web"),
        ("10.1.0.2/24",),
        ("10.2.0.1", "peer", "10.2.0.2/30"),
        ("10.3.0.1/16", "noprefixroute", "metric", "77"),
        ("2001:db8:1::1/64", "nodad"),
        ("2001:db8:2::1", "peer", "2001:db8:2::2/64", "nodad", "noprefixroute"),
        ("2001:db8:3::1/64", "nodad", "preferred_lft", "0"),
    ):
        ip("addr", "add", *words, "dev", name)


def test_a_device_keeps_its_addresses_and_attributes(networks: Networks) -> None:
    veth("v0")
    furnish("v0")
    ip("link", "set", "v0", "mtu", "1400", "txqueuelen", "77", "address", "02:00:00:00:00:01", "alias", "my device")
    ip("link", "property", "add", "dev", "v0", "altname", "another")
    before, before_link = ip("addr", "show", "v0"), ip("link", "show", "v0")[0]

    (moved,) = networks.move(v0=None)
    assert moved.container_name == "v0"
    after, link = networks.in_container("addr", "show", "v0"), networks.in_container("link", "show", "v0")[0]
    assert addresses(after, scope="global") == addresses(before, scope="global")
    assert len(addresses(after, scope="global")) == 7
    for key in ("mtu", "txqlen", "address", "ifalias", "altnames"):
        assert link[key] == before_link[key], key
    assert "UP" in link["flags"]
    assert [one["ifname"] for one in ip("link")] == ["lo", "v0peer"]


def test_a_device_that_was_down_is_up_in_the_container(networks: Networks) -> None:
    veth("v0", up=False)
    networks.move(v0=None)
    assert "UP" in networks.in_container("link", "show", "v0")[0]["flags"]


def test_a_new_name_and_the_labels_that_follow_it(networks: Networks) -> None:
    veth("v0")
    furnish("v0")
    networks.move(v0="net0")
    assert [one["ifname"] for one in networks.in_container("link")] == ["lo", "net0"]
    labels = [
        one["label"] for one in addresses(networks.in_container("addr", "show", "net0")) if one["family"] == "inet"
    ]
    assert labels == ["net0:web", "net0", "net0", "net0"]


def test_only_permanent_global_addresses_travel(networks: Networks) -> None:
    veth("v0")
    ip("addr", "add", "10.0.0.1/24", "dev", "v0", "valid_lft", "1000", "preferred_lft", "1000")
    ip("addr", "add", "10.7.0.2/24", "dev", "v0", "scope", "link")
    ip("addr", "add", "10.8.0.3/24", "dev", "v0")
    ip("addr", "add", "fe80::7/64", "dev", "v0", "nodad")
    ip("addr", "add", "2001:db8::1/64", "dev", "v0", "nodad", "valid_lft", "1000", "preferred_lft", "1000")
    networks.move(v0=None)
    found = [one["local"] for one in addresses(networks.in_container("addr", "show", "v0"))]
    assert [one for one in found if one.startswith("10.")] == ["10.8.0.3"]
    assert "fe80::7" not in found
    assert "2001:db8::1" not in found


def test_templates_are_filled_in_by_the_kernel(networks: Networks) -> None:
    networks.in_container("link", "add", "net0", "type", "veth", "peer", "name", "net1")
    veth("v0")
    veth("v1")
    moved = networks.move(v0="net%d", v1="net%d")
    assert [one.container_name for one in moved] == ["net2", "net3"]
    assert {one["ifname"] for one in networks.in_container("link")} == {"lo", "net0", "net1", "net2", "net3"}


def test_a_template_helps_where_the_hosts_name_is_taken(networks: Networks) -> None:
    networks.in_container("link", "add", "v0", "type", "veth", "peer", "name", "other")
    veth("v0")
    (moved,) = networks.move(v0="v%d")
    assert moved.container_name not in ("v0", "other")


def test_a_new_name_where_the_hosts_name_is_taken(networks: Networks) -> None:
    networks.in_container("link", "add", "v0", "type", "veth", "peer", "name", "other")
    veth("v0")
    ip("addr", "add", "10.0.0.3/24", "dev", "v0")
    networks.move(v0="net0")
    assert addresses(networks.in_container("addr", "show", "net0"), scope="global")[0]["local"] == "10.0.0.3"


def test_two_devices_exchange_their_names(networks: Networks) -> None:
    veth("v0")
    veth("v1")
    ip("addr", "add", "10.0.0.3/24", "dev", "v0")
    networks.move(v0="v1", v1="v0")
    assert addresses(networks.in_container("addr", "show", "v1"), scope="global")[0]["local"] == "10.0.0.3"


def test_an_index_that_is_taken_in_the_container(networks: Networks) -> None:
    ip("link", "add", "v0", "index", "50", "type", "veth", "peer", "name", "v1")
    networks.in_container("link", "add", "name", "c0", "index", "50", "type", "veth", "peer", "name", "c1")
    ip("addr", "add", "10.0.0.3/24", "dev", "v0")
    (moved,) = networks.move(v0=None)
    assert moved.container_index != 50
    assert addresses(networks.in_container("addr", "show", "v0"), scope="global")[0]["local"] == "10.0.0.3"


def test_more_addresses_than_one_answer_holds(networks: Networks) -> None:
    veth("v0")
    wanted = [f"10.{i >> 8}.{i & 255}.1/32" for i in range(600)] + [f"2001:db8::{i:x}/128" for i in range(1, 600)]
    batch = "".join(f"addr add {one} dev v0\n" for one in wanted)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
    networks.move(v0=None)
    shown = networks.in_container("addr", "show", "v0")[0]["addr_info"]
    assert sorted(f"{one['local']}/{one['prefixlen']}" for one in shown if one["scope"] == "global") == sorted(wanted)


# refusals, before which and after which the host is the same


def refused(networks: Networks, expected: str, *unchanged: str, **devices: str | None) -> None:
    before = [host_state(name) for name in unchanged]
    with pytest.raises((HostError, SpecError), match=expected):
        networks.move(**devices)
    for name, state in zip(unchanged, before, strict=True):
        assert host_state(name) ^ state == set()
    assert not {one["ifname"] for one in networks.in_container("link")} & {*unchanged}


def test_a_missing_device(networks: Networks) -> None:
    veth("v0")
    furnish("v0")
    refused(networks, r"^/linux/netDevices/v9: RTM_GETLINK v9: no such device", "v0", v0=None, v9=None)


def test_a_name_that_is_taken(networks: Networks) -> None:
    networks.in_container("link", "add", "net0", "type", "veth", "peer", "name", "net1")
    veth("v0")
    furnish("v0")
    expected = (
        r"^/linux/netDevices/v0: RTM_NEWLINK net0: file exists \(the container's network namespace has a device of"
    )
    refused(networks, expected, "v0", v0="net0")
    refused(networks, r"^/linux/netDevices/v0: RTM_NEWLINK lo: file exists", "v0", v0="lo")


def test_a_name_that_is_an_alternative_one_in_the_container(networks: Networks) -> None:
    networks.in_container("link", "property", "add", "dev", "lo", "altname", "net0")
    veth("v0")
    refused(networks, r"^/linux/netDevices/v0: RTM_NEWLINK net0: file exists", "v0", v0="net0")


def test_an_alternative_name_of_the_host(networks: Networks) -> None:
    veth("v0")
    ip("link", "property", "add", "dev", "v0", "altname", "another")
    refused(networks, r"no such device \(it is an alternative name of v0\)", "v0", another=None)


def test_a_device_that_cannot_move_stays_up(networks: Networks) -> None:
    ip("link", "set", "lo", "up")
    refused(networks, r"^/linux/netDevices/lo: RTM_NEWLINK lo: invalid argument \(.*immutable.*\)", lo="lo0")
    assert "UP" in ip("link", "show", "lo")[0]["flags"]


def test_the_hosts_own_namespace_is_no_place_to_move_to(networks: Networks) -> None:
    veth("v0")
    with (
        open_route_socket() as own,
        pytest.raises(SpecError, match=r"^/linux/netDevices: the container has no network"),
    ):
        move_netdevs({"v0": NetDevice(name="net0")}, own, networks.host_fd)
    assert ip("link", "show", "v0")


def test_moved_devices_come_back_when_a_later_one_fails(networks: Networks) -> None:
    ip("link", "add", "v0", "index", "77", "type", "veth", "peer", "name", "v0peer")
    ip("link", "set", "v0", "up")
    ip("link", "set", "v0peer", "up")
    furnish("v0")
    ip("route", "add", "10.9.0.1", "dev", "v0")
    ip("route", "add", "default", "via", "10.9.0.1", "dev", "v0", "metric", "5")
    ip("route", "add", "10.10.0.0/16", "via", "10.1.0.9", "src", "10.1.0.2", "mtu", "1300", "table", "7")
    ip("-6", "route", "add", "2001:db8:9::/48", "via", "2001:db8:1::9", "dev", "v0")
    veth("v1", up=False)
    ip("addr", "add", "10.8.0.1/24", "dev", "v1")
    ip("link", "add", "b0", "type", "bridge")
    table = ip("route", "show", "table", "7")
    refused(
        networks, r"^/linux/netDevices/b0: RTM_NEWLINK b0: invalid argument", "v0", "v1", "b0", v0="x", v1=None, b0=None
    )
    assert ip("route", "show", "table", "7") == table
    assert ip("link", "show", "v0")[0]["ifindex"] == 77


def test_a_device_whose_renaming_fails_comes_back(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    # The name is taken by somebody else between the look and the move: the kernel moves first and renames then.
    monkeypatch.setattr(netdev, "_check_free", lambda *_: None)
    networks.in_container("link", "add", "net0", "type", "veth", "peer", "name", "net1")
    veth("v0")
    furnish("v0")
    refused(networks, r"^/linux/netDevices/v0: RTM_NEWLINK v0: file exists", "v0", v0="net0")


def test_a_device_whose_addresses_are_refused_comes_back(networks: Networks) -> None:
    enter(networks.container_fd)
    with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w") as setting:
        setting.write("1")
    enter(networks.host_fd)
    veth("v0")
    furnish("v0")
    refused(networks, r"^/linux/netDevices/v0: RTM_NEWADDR v0: permission denied", "v0", v0="net0")


def test_devices_are_restored_after_a_later_failure(networks: Networks) -> None:
    veth("v0")
    veth("v1", up=False)
    furnish("v0")
    before = host_state("v0"), host_state("v1")
    moved = networks.move(v0="net%d", v1=None)
    assert restore_netdevs(moved, networks.socket) == ()
    assert host_state("v0") ^ before[0] == set()
    assert host_state("v1") ^ before[1] == set()
    assert [one["ifname"] for one in networks.in_container("link")] == ["lo"]


def test_what_cannot_be_restored_is_told(networks: Networks) -> None:
    veth("v0")
    moved = networks.move(v0=None)
    networks.in_container("link", "del", "v0")
    (problem,) = restore_netdevs(moved, networks.socket)
    assert problem.startswith("v0 cannot be restored: ")


def test_nothing_to_move_needs_no_socket() -> None:
    with socket.socket(socket.AF_UNIX) as unsuitable:
        assert move_netdevs({}, unsuitable, -1) == ()
        assert restore_netdevs((), unsuitable) == ()


def test_no_descriptor_is_left_open(networks: Networks) -> None:
    veth("v0")
    before = len(os.listdir("/proc/self/fd"))
    moved = networks.move(v0=None)
    restore_netdevs(moved, networks.socket)
    with pytest.raises(HostError):
        networks.move(v0=None, v9=None)
    assert len(os.listdir("/proc/self/fd")) == before


# In a user namespace of its own, as ocirt-init: opens the socket, sends it with its network namespace, and waits.
OPENER = """
import os, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
netns = os.open("/proc/self/ns/net", os.O_RDONLY)
socket.send_fds(sock, [b"x"], [route.fileno(), netns])
sock.recv(1)
"""


def test_a_socket_from_a_user_namespace(networks: Networks) -> None:
    veth("v0")
    furnish("v0")
    before = addresses(ip("addr", "show", "v0"), scope="global")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        opener = [sys.executable, "-I", "-c", OPENER, str(theirs.fileno())]
        with subprocess.Popen(["unshare", "-U", "-r", "-n", *opener], pass_fds=[theirs.fileno()]) as child:
            theirs.close()
            _, (route_fd, netns_fd), _, _ = socket.recv_fds(ours, 1, 2)
            with socket.socket(fileno=route_fd) as route:
                move_netdevs({"v0": NetDevice(name="net0")}, route, netns_fd)
            enter(netns_fd)
            shown = ip("addr", "show", "net0")
            enter(networks.host_fd)
            os.close(netns_fd)
            ours.close()
            assert child.wait(10) == 0
    relabelled = [{**one, "label": one["label"].replace("v0", "net0")} if "label" in one else one for one in before]
    assert addresses(shown, scope="global") == relabelled
