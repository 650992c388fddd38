"""Controllers are enabled from the top down, in one write where the kernel agrees, and only where they are not.

The hierarchy is a folder whose files the test looks at; what the kernel would do with them is the VM's to show.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup import controllers
from ocirt.cgroup.controllers import (
    enable_controllers,
    obtainable_controllers,
    require_controllers,
    why_unavailable,
)
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.paths import CgroupHost
from ocirt.errors import HostError, StateError

ALL = "cpu io memory pids"


class FakeKernel:
    """Takes what is written into cgroup.subtree_control as the kernel does, and keeps it in `writes`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writes: list[tuple[str, str]] = []
        self.refusals: dict[tuple[str, str], int] = {}

    def make(self, path: str, available: str, enabled: str = "", processes: str = "") -> None:
        directory = self.root / path.strip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.controllers").write_text(available + "\n")
        (directory / "cgroup.subtree_control").write_text(enabled + "\n")
        (directory / "cgroup.procs").write_text(processes)
        if path != "/":
            (directory / "cgroup.type").write_text("domain\n")

    def write(self, cgroup: Cgroup, name: str, text: str) -> None:
        assert name == "cgroup.subtree_control"
        path = cgroup.where.removeprefix(str(self.root)) or "/"
        self.writes.append((path, text))
        for word in text.split():
            if number := self.refusals.get((path, word[1:])):
                raise HostError("write", f"{cgroup.where}/{name}", number, pointer="/other")
        directory = Path(cgroup.where)
        enabled = {*(directory / name).read_text().split(), *(word[1:] for word in text.split())}
        (directory / name).write_text(" ".join(sorted(enabled)))
        for child in directory.iterdir():
            if child.is_dir():
                (child / "cgroup.controllers").write_text(" ".join(sorted(enabled)))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel(tmp_path)

    def write(cgroup: Cgroup, name: str, text: str) -> None:
        fake.write(cgroup, name, text)

    monkeypatch.setattr(Cgroup, "write", write)
    monkeypatch.setattr(controllers, "why_unavailable", lambda name: "because of the test")
    return fake


@pytest.fixture
def host(tmp_path: Path) -> CgroupHost:
    return CgroupHost(str(tmp_path), "/", "/", "/")


def leaf(host: CgroupHost, path: str) -> Iterator[Cgroup]:
    cgroup = Cgroup.open(host.directory(path))
    assert cgroup
    with cgroup:
        yield cgroup


def enable(host: CgroupHost, path: str, **needed: str) -> None:
    for cgroup in leaf(host, path):
        enable_controllers(host, path, cgroup, needed)


def test_all_are_enabled_on_the_way_down(kernel: FakeKernel, host: CgroupHost) -> None:
    kernel.make("/", ALL)
    kernel.make("/a", "")
    kernel.make("/a/b", "")
    enable(host, "/a/b", memory="/m")
    assert kernel.writes == [("/", "+cpu +io +memory +pids"), ("/a", "+cpu +io +memory +pids")]


def test_nothing_is_written_where_they_are_enabled(kernel: FakeKernel, host: CgroupHost) -> None:
    kernel.make("/", ALL, ALL)
    kernel.make("/a", ALL, ALL)
    kernel.make("/a/b", ALL)
    enable(host, "/a/b", memory="/m")
    assert kernel.writes == []


def test_only_what_is_missing_is_written(kernel: FakeKernel, host: CgroupHost) -> None:
    kernel.make("/", ALL, "cpu io memory")
    kernel.make("/a", "cpu io memory", "cpu")
    kernel.make("/a/b", "cpu")
    enable(host, "/a/b")
    assert kernel.writes == [("/", "+pids"), ("/a", "+io +memory +pids")]


def test_it_begins_at_the_top_of_what_is_delegated(kernel: FakeKernel, tmp_path: Path) -> None:
    kernel.make("/", ALL, "")
    kernel.make("/user", "memory pids")
    kernel.make("/user/c", "")
    enable(CgroupHost(str(tmp_path), "/", "/user/own", "/user"), "/user/c")
    assert kernel.writes == [("/user", "+memory +pids")]


def test_what_one_refuses_does_not_keep_the_others_away(kernel: FakeKernel, host: CgroupHost) -> None:
    kernel.make("/", ALL)
    kernel.make("/c", "")
    kernel.refusals["/", "cpu"] = errno.EINVAL
    enable(host, "/c", memory="/m")
    assert kernel.writes == [
        ("/", "+cpu +io +memory +pids"),
        ("/", "+cpu"),
        ("/", "+io"),
        ("/", "+memory"),
        ("/", "+pids"),
    ]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EBUSY, "no internal processes"),
        (errno.EOPNOTSUPP, "this cgroup is threaded"),
        (errno.EACCES, "not delegated to this user"),
    ],
)
def test_a_refusal_is_an_error_for_who_needs_the_controller(
    kernel: FakeKernel, host: CgroupHost, number: int, reason: str
) -> None:
    kernel.make("/", ALL, ALL)
    kernel.make("/a", ALL)
    kernel.make("/a/c", "")
    kernel.refusals["/a", "memory"] = number
    enable(host, "/a/c", pids="/p")
    with pytest.raises(HostError) as refused:
        enable(host, "/a/c", pids="/p", memory="/linux/resources/memory/limit")
    assert refused.value.errno == number
    assert refused.value.pointer == "/linux/resources/memory/limit"
    assert str(refused.value).startswith(
        f"/linux/resources/memory/limit: write {host.mount}/a/cgroup.subtree_control: "
    )
    assert reason in str(refused.value)


def test_a_cgroup_with_processes_is_not_made_threaded(kernel: FakeKernel, host: CgroupHost) -> None:
    """Which the kernel does when it is asked for nothing but cpu and pids."""
    kernel.make("/", "cpu pids", "", processes="1\n")
    kernel.make("/a", "", processes="2\n")
    kernel.make("/a/c", "")
    enable(host, "/a/c")
    assert kernel.writes == [("/", "+cpu +pids")]
    with pytest.raises(HostError, match="no internal processes"):
        enable(host, "/a/c", pids="/p")


def test_a_controller_that_is_nowhere_is_an_error_that_says_why(kernel: FakeKernel, host: CgroupHost) -> None:
    kernel.make("/", "cpu", "cpu")
    kernel.make("/c", "cpu")
    with pytest.raises(StateError) as refused:
        enable(host, "/c", cpu="/c", misc="/linux/resources/unified/misc.max")
    assert refused.value.code == "cgroup.controller"
    assert str(refused.value) == (
        '/linux/resources/unified/misc.max: the requested cgroup controller "misc" is not available: '
        "because of the test"
    )
    for cgroup in leaf(host, "/c"):
        require_controllers(cgroup, {"cpu": "/c"})
        with pytest.raises(StateError):
            require_controllers(cgroup, {"io": "/i"})


def test_a_controller_that_no_kernel_has() -> None:
    assert why_unavailable("no-such-controller") == "this kernel has no such controller"


# ---- what could be enabled


def test_obtainable_is_what_would_be_enabled(kernel: FakeKernel, host: CgroupHost) -> None:
    """Nothing is written to find out; enabling then gives just that."""
    kernel.make("/", ALL, "pids")
    kernel.make("/a", "pids")
    kernel.make("/a/b", "")
    found = obtainable_controllers(host, "/a/b")
    assert kernel.writes == []
    cgroup = Cgroup.open(host.directory("/a/b"))
    assert cgroup
    with cgroup:
        enable_controllers(host, "/a/b", cgroup, {})
        assert found == set(cgroup.read("cgroup.controllers").split()) == set(ALL.split())


def test_obtainable_below_a_cgroup_with_processes(kernel: FakeKernel, host: CgroupHost) -> None:
    """It gives what it does already, and no more."""
    kernel.make("/", ALL, ALL)
    kernel.make("/busy", ALL, "memory", processes="1\n")
    assert obtainable_controllers(host, "/busy/new") == {"memory"}
    assert obtainable_controllers(host, "/new") == set(ALL.split())


def test_obtainable_where_nothing_is_made_yet(kernel: FakeKernel, host: CgroupHost) -> None:
    kernel.make("/", "pids", "")
    assert obtainable_controllers(host, "/a/b/c") == {"pids"}
