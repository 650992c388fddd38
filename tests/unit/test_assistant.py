"""ocirt.assistant: when it makes a network namespace, what it spawns, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt import assistant as module
from ocirt import ops
from ocirt._native import lib
from ocirt.assistant import Assistant
from ocirt.driver import Session
from ocirt.errors import HostError, SpecError
from ocirt.plan import Plan

NETWORK = {"type": "network"}
WAITS = Plan(ops=(ops.Sync("", lib.SYNC_READY),))
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


def count(kind: str) -> int:
    return len(os.listdir(f"/proc/self/{kind}"))


def children() -> set[str]:
    """The pids of all threads' children, those that nobody has waited for included."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def status_of(thread: str) -> dict[str, str]:
    lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No descriptor and no thread, which may be on its way out."""
    before = [count("fd"), count("task")]
    yield
    patience = time.monotonic() + 5
    while [count("fd"), count("task")] != before and time.monotonic() < patience:
        time.sleep(0.001)
    assert [count("fd"), count("task")] == before


@pytest.mark.root
def test_what_it_spawns_is_born_in_the_new_namespace_with_lo_up_and_the_caller_stays_in_its_own() -> None:
    own = os.readlink("/proc/self/ns/net")
    with contextlib.closing(Assistant()) as assistant:
        assistant.begin(config({"type": "mount"}, NETWORK))
        assert assistant.has_network()
        with Session.start(WAITS, assistant=assistant) as session:
            assert os.readlink(f"/proc/{session.pid}/ns/net") not in (own, "")
            with open(f"/proc/{session.pid}/net/if_inet6") as addresses:  # those of interfaces that are up
                assert addresses.read().split()[-1] == "lo"
            session.end()
        assert os.readlink("/proc/self/ns/net") == os.readlink("/proc/thread-self/ns/net") == own


@pytest.mark.root
@pytest.mark.parametrize("begun", [False, True])
def test_without_a_new_namespace_it_spawns_in_the_callers(begun: bool) -> None:
    with contextlib.closing(Assistant()) as assistant:
        if begun:
            assistant.begin(config({"type": "mount"}))
        assert not assistant.has_network()
        with Session.start(WAITS, assistant=assistant) as session:
            assert os.readlink(f"/proc/{session.pid}/ns/net") == os.readlink("/proc/self/ns/net")
            session.end()


@pytest.mark.root
def test_what_others_spawn_meanwhile_is_born_in_the_callers() -> None:
    """systemd's placeholder, or the holder of a user namespace."""
    with contextlib.closing(Assistant()) as assistant:
        assistant.begin(config(NETWORK))
        with Session.start(WAITS) as other, Session.start(WAITS, assistant=assistant) as session:
            assert os.readlink(f"/proc/{other.pid}/ns/net") == os.readlink("/proc/self/ns/net")
            assert os.readlink(f"/proc/{session.pid}/ns/net") != os.readlink("/proc/self/ns/net")
            other.end()
            session.end()


@pytest.mark.root
@pytest.mark.parametrize("begun", [False, True])
def test_a_spawn_after_another(begun: bool) -> None:
    with contextlib.closing(Assistant()) as assistant:
        if begun:
            assistant.begin()
        for _ in range(3):
            with Session.start(WAITS, assistant=assistant) as session:
                session.end()


@pytest.mark.root
def test_closed_while_it_is_under_way_it_leaves_nothing() -> None:
    for _ in range(20):
        assistant = Assistant()
        assistant.begin(config(NETWORK))
        assistant.close()


@pytest.mark.root
@pytest.mark.parametrize("begun", [False, True])
def test_a_plan_that_cannot_be_encoded_leaves_no_process(begun: bool) -> None:
    """It is encoded while init is being spawned."""
    before = children()
    with contextlib.closing(Assistant()) as assistant:
        if begun:
            assistant.begin()
        with pytest.raises(SpecError, match="/hostname: a string holds a NUL"):
            Session.start(Plan(ops=(ops.SetHostname("/hostname", "a\0b"),)), assistant=assistant)
    assert children() == before


@pytest.mark.parametrize("begun", [False, True])
def test_what_cannot_be_spawned_is_an_error(begun: bool) -> None:
    with contextlib.closing(Assistant()) as assistant:
        if begun:
            assistant.begin()
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            with pytest.raises(HostError) as caught:
                Session.start(WAITS, cgroup_fd=null, assistant=assistant)
        finally:
            os.close(null)
    assert caught.value.errno == errno.EBADF


def test_without_a_thread_all_is_done_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        ocirt_assistant_begin = staticmethod(lambda _network: -errno.EAGAIN)

        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

    monkeypatch.setattr(module, "lib", Refusing())
    with contextlib.closing(Assistant()) as assistant:
        assistant.begin(config(NETWORK))
        assert not assistant.has_network()
        with Session.start(WAITS, assistant=assistant) as session:
            session.end()


def test_signals_are_the_callers() -> None:
    """The thread blocks all of them."""
    with contextlib.closing(Assistant()) as assistant:
        before = set(os.listdir("/proc/self/task"))
        assistant.begin()
        (thread,) = set(os.listdir("/proc/self/task")) - before
        blocked = int(status_of(thread)["SigBlk"], 16)
        assert all(blocked >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD))


def test_what_it_spawns_may_run_on_all_processors_of_the_caller() -> None:
    """The thread itself begins on another one than the caller's."""
    with contextlib.closing(Assistant()) as assistant:
        before = set(os.listdir("/proc/self/task"))
        assistant.begin()
        (thread,) = set(os.listdir("/proc/self/task")) - before
        assistant.has_network()
        assert status_of(thread)["Cpus_allowed"] == status_of(str(os.getpid()))["Cpus_allowed"]


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
def test_no_namespace_is_made(namespaces: tuple[object, ...]) -> None:
    with contextlib.closing(Assistant()) as assistant:
        assistant.begin(config(*namespaces))
        assert not assistant.has_network()


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_a_config_may_be_anything(value: object) -> None:
    assert module._asks_for_network(value) in (False, True)
