"""ocirt.newnetwork: when a network namespace is begun, what comes of it, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.newnetwork import NewNetwork

NETWORK = {"type": "network"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["network", "user", "linux", "namespaces", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["linux", "namespaces", "type", "path"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def config(*namespaces: object) -> dict[str, Any]:
    return {"linux": {"namespaces": list(namespaces)}}


def inode(path: str | int) -> int:
    return os.stat(path).st_ino


@pytest.mark.root
def test_it_is_a_new_one_and_the_caller_stays_in_its_own() -> None:
    own, before = inode("/proc/self/ns/net"), [len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task")]
    with contextlib.closing(NewNetwork()) as network:
        network.begin(config({"type": "mount"}, NETWORK))
        fd = network.fd()
        assert os.readlink(f"/proc/self/fd/{fd}").startswith("net:[")
        assert inode(fd) != own
        assert network.fd() == fd
        assert inode("/proc/self/ns/net") == inode("/proc/thread-self/ns/net") == own
    assert [len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task")] == before


@pytest.mark.root
def test_closed_while_it_is_under_way_it_leaves_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        network = NewNetwork()
        network.begin(config(NETWORK))
        network.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "namespaces",
    [
        (),
        ({"type": "pid"},),
        ({"type": "network", "path": "/proc/1/ns/net"},),
        (NETWORK, {"type": "user"}),
        ({"type": "user", "path": "/n"}, NETWORK),
    ],
)
def test_not_begun(namespaces: tuple[object, ...]) -> None:
    network = NewNetwork()
    network.begin(config(*namespaces))
    assert network.fd() == -1


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_a_config_may_be_anything(value: object) -> None:
    with contextlib.closing(NewNetwork()) as network:
        network.begin(value)
