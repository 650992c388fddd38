"""RAISE_LOOPBACK, and SYNC with SYNC_NETDEVS: the only things that init has to do with the network."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, failing

OWN = k.CLONE_NEWUSER | k.CLONE_NEWNET
POINTER = "/linux/namespaces"
RAISE = ops.RaiseLoopback(POINTER)
NETDEVS = ops.Sync("/linux/netDevices", lib.SYNC_NETDEVS)
SIOCGIFFLAGS, IFF_UP = 0x8913, 1  # netdevice(7)


def is_loopback_up(init: InitRunner, *plan: ops.Op) -> bool:
    """Asked through the socket that the runtime gets, which belongs to the container's network namespace."""
    seen: list[int] = []

    def look(fd: int) -> None:
        with socket.socket(fileno=fd) as netlink:
            assert (netlink.family, netlink.proto) == (socket.AF_NETLINK, socket.NETLINK_ROUTE)
            answer = fcntl.ioctl(netlink, SIOCGIFFLAGS, struct.pack("=16sH22x", b"lo", 0))
            seen.append(struct.unpack_from("=H", answer, 16)[0])

    outcome = init.run(*plan, NETDEVS, clone_flags=OWN, handlers={lib.SYNC_NETDEVS: look})
    assert outcome.failure is None, outcome.message
    return bool(seen[0] & IFF_UP)


def test_loopback_is_up(init: InitRunner) -> None:
    assert not is_loopback_up(init)
    assert is_loopback_up(init, RAISE)


def test_loopback_that_cannot_be_raised(init: InitRunner) -> None:
    outcome = init.run(failing(ioctl=errno.EPERM), RAISE, clone_flags=OWN)
    assert (outcome.error, outcome.detail) == (errno.EPERM, "ioctl SIOCSIFFLAGS lo")
    expected = "/linux/namespaces: bring the loopback interface up: ioctl SIOCSIFFLAGS lo: operation not permitted"
    assert outcome.message == expected


def test_loopback_that_is_up_asks_for_no_privilege(init: InitRunner) -> None:
    """As the runtime leaves it where it has made the namespace: here the machine's, of another user namespace."""
    assert init.run(RAISE, clone_flags=k.CLONE_NEWUSER).failure is None


@pytest.mark.parametrize(("op", "family"), [(RAISE, "AF_UNIX"), (NETDEVS, "AF_NETLINK")])
def test_socket_that_cannot_be_made(init: InitRunner, op: ops.Op, family: str) -> None:
    outcome = init.run(failing(socket=errno.EMFILE), op, clone_flags=OWN)
    assert (outcome.error, outcome.detail) == (errno.EMFILE, f"socket {family}")
    assert outcome.syncs == [lib.SYNC_MAPS]
