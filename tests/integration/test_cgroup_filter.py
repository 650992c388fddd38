"""The device filter in the kernel: what a process in the cgroup can open, and what is attached."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup.bpf import apply_device_filter
from ocirt.cgroup.devices import DeviceFilter, compile_device_filter
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.manager import CgroupfsManager
from ocirt.cgroup.paths import probe_cgroup_host
from ocirt.errors import HostError
from ocirt.spec import DeviceRule
from tests.support.cgroups import call_in, remove_tree

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

DENY_ALL = DeviceRule(allow=False, access="rwm")
ALLOW_ALL = DeviceRule(allow=True, access="rwm")
# No driver has them (Documentation/admin-guide/devices.txt: 240-254 are for local use): an allowed open says ENXIO.
NUMBERS = ("c", 249, 4242)
MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}


@pytest.fixture
def cgroup(token: str, request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    host = probe_cgroup_host()
    assert host is not None
    manager = CgroupfsManager(host)
    path = f"/{token}-{os.environ.get('PYTEST_XDIST_WORKER', '')}-{abs(hash(request.node.nodeid))}"
    created = manager.create(manager.prepare(path, "c1"))
    assert created.cgroup is not None
    with created.cgroup as made:
        yield made
    manager.remove(created.record)
    remove_tree(Path(host.directory(path)))


@pytest.fixture
def nodes(scratch: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = scratch / f"nodes-{abs(hash(request.node.nodeid))}"
    folder.mkdir()
    yield folder
    for node in folder.iterdir():
        node.unlink()
    folder.rmdir()


def apply(cgroup: Cgroup, *rules: DeviceRule) -> None:
    assert apply_device_filter(cgroup.fd, compile_device_filter(rules)) is None


def denied(cgroup: Cgroup, nodes: Path, kind: str, major: int, minor: int) -> str:
    """Which of mknod and the ways to open the device end with EPERM for a process in the cgroup."""

    def attempt() -> list[str]:
        found = []
        node = nodes / f"{kind}{major}:{minor}"
        for name, flags in {"m": None, **MODES}.items():
            try:
                if flags is None:
                    os.mknod(node, {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[kind], os.makedev(major, minor))
                else:
                    os.close(os.open(node, flags | os.O_NONBLOCK | os.O_NOCTTY))
            except OSError as error:
                if error.errno == errno.EPERM:
                    found.append(name)
        node.unlink(missing_ok=True)
        return found

    return " ".join(call_in(Path(cgroup.where), attempt))


def test_without_rules_only_the_default_devices_open(cgroup: Cgroup, nodes: Path) -> None:
    apply(cgroup)
    for minor in (3, 5, 7, 8, 9):
        assert denied(cgroup, nodes, "c", 1, minor) == ""
    assert denied(cgroup, nodes, "c", 10, 200) == ""
    assert denied(cgroup, nodes, *NUMBERS) == "r w rw"
    assert denied(cgroup, nodes, "c", 1, 1) == "r w rw"
    assert denied(cgroup, nodes, "b", 7, 0) == "r w rw"


def test_without_a_filter_everything_opens(cgroup: Cgroup, nodes: Path) -> None:
    """Or the tests around this one would prove nothing."""
    assert denied(cgroup, nodes, *NUMBERS) == ""
    assert denied(cgroup, nodes, "b", 249, 1) == ""


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([DENY_ALL, DeviceRule(allow=True, type="c", major=249, access="r")], "w rw", id="read"),
        pytest.param([DENY_ALL, DeviceRule(allow=True, type="c", minor=4242, access="w")], "r rw", id="write"),
        pytest.param([DENY_ALL, DeviceRule(allow=True, type="b", major=249, access="rw")], "r w rw", id="other type"),
        pytest.param([ALLOW_ALL, DeviceRule(allow=False, type="c", major=249, access="w")], "w rw", id="not write"),
        pytest.param([ALLOW_ALL, DeviceRule(allow=False, major=249, access="rwm")], "m", id="nothing"),
        pytest.param([ALLOW_ALL, DENY_ALL], "r w rw", id="the later counts"),
        pytest.param([DENY_ALL, ALLOW_ALL], "", id="everything"),
    ],
)
def test_rules_in_the_listed_order(cgroup: Cgroup, nodes: Path, rules: list[DeviceRule], expected: str) -> None:
    apply(cgroup, *rules)
    assert denied(cgroup, nodes, *NUMBERS) == expected


def test_a_cgroup_below_has_it_too(cgroup: Cgroup, nodes: Path) -> None:
    apply(cgroup, DENY_ALL)
    inner = Path(cgroup.where) / "inner"
    inner.mkdir()
    assert denied(Cgroup(cgroup.fd, str(inner)), nodes, *NUMBERS) == "r w rw"


def attached(cgroup: Cgroup) -> int:
    from ocirt.cgroup.bpf import _attached

    return len(_attached(cgroup.fd))


def test_an_update_replaces_it(cgroup: Cgroup, nodes: Path) -> None:
    apply(cgroup, DENY_ALL)
    apply(cgroup, DENY_ALL, DeviceRule(allow=True, type="c", major=249, access="rw"))
    assert attached(cgroup) == 1
    assert denied(cgroup, nodes, *NUMBERS) == ""
    apply(cgroup, DENY_ALL)
    assert attached(cgroup) == 1
    assert denied(cgroup, nodes, *NUMBERS) == "r w rw"
    apply(cgroup, ALLOW_ALL)
    assert attached(cgroup) == 0
    assert denied(cgroup, nodes, *NUMBERS) == ""


def test_a_replaced_filter_is_never_absent(cgroup: Cgroup, nodes: Path) -> None:
    """A process that opens the device all the time never gets through while the filter is exchanged."""
    apply(cgroup, DENY_ALL)
    node = nodes / "node"
    os.mknod(node, stat.S_IFCHR, os.makedev(*NUMBERS[1:]))
    read_end, write_end = os.pipe()

    def attempt() -> int:
        opened = 0
        os.set_blocking(read_end, False)
        while True:
            try:
                os.close(os.open(node, os.O_RDONLY))
                opened += 1
            except OSError as error:
                opened += error.errno != errno.EPERM
            try:
                if os.read(read_end, 1) == b"":
                    return opened
            except BlockingIOError:
                pass

    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os._exit(min(call_in(Path(cgroup.where), attempt), 1))
    os.close(read_end)
    for minor in range(100):
        apply(cgroup, DENY_ALL, DeviceRule(allow=True, type="c", major=1, minor=minor, access="r"))
    os.close(write_end)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_filter_of_someone_else_stays(cgroup: Cgroup, nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocirt.cgroup.bpf.PROGRAM_NAME", "sd_devices")
    apply(cgroup, DENY_ALL)
    monkeypatch.undo()
    apply(cgroup, DENY_ALL, DeviceRule(allow=True, type="c", major=249, access="rw"))
    assert attached(cgroup) == 2
    assert denied(cgroup, nodes, *NUMBERS) == "r w rw"
    apply(cgroup, ALLOW_ALL)
    assert attached(cgroup) == 1


def test_the_verifier_takes_any_rules(cgroup: Cgroup) -> None:
    chance = random.Random(7)
    for count in (1, 10, 100, 2000):
        rules = [
            DeviceRule(
                allow=chance.random() < 0.5,
                type=chance.choice("abc"),
                major=chance.randrange(2**32),
                minor=chance.choice([None, chance.randrange(2**32)]),
                access=chance.choice(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
            )
            for _ in range(count)
        ]
        apply(cgroup, *rules)
        apply(cgroup, DENY_ALL, *rules)
    assert attached(cgroup) == 1


def test_a_failure_has_the_verifiers_words_and_the_pointer(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    # exit without a verdict
    monkeypatch.setattr(DeviceFilter, "program", lambda _: bytes([0x95, *[0] * 7]))
    with pytest.raises(HostError) as failed:
        apply(cgroup, DENY_ALL)
    assert str(failed.value).startswith("/linux/resources/devices: bpf BPF_PROG_LOAD: ")
    assert "R0 !read_ok" in str(failed.value)
    assert attached(cgroup) == 0


def unprivileged(cgroup: Cgroup, rules: list[DeviceRule], rootless: bool) -> str:
    """What comes of it for a user without privileges."""
    fd = cgroup.fd

    def attempt() -> str:
        os.setuid(65534)
        try:
            return str(apply_device_filter(fd, compile_device_filter(rules), rootless=rootless))
        except HostError as error:
            return f"failed: {error}"

    return str(call_in(Path(cgroup.where), attempt))


def test_without_privileges_it_is_an_error_unless_rootless(cgroup: Cgroup) -> None:
    message = unprivileged(cgroup, [DENY_ALL], rootless=False)
    assert message.startswith("failed: /linux/resources/devices: bpf BPF_PROG_")
    assert "operation not permitted (the device filter needs CAP_SYS_ADMIN" in message
    assert "/linux/resources/devices: not enforced" in unprivileged(cgroup, [DENY_ALL], rootless=True)
    assert unprivileged(cgroup, [], rootless=True) == "None", "nothing was asked for"
    assert unprivileged(cgroup, [ALLOW_ALL], rootless=False) == "None", "nothing is to be denied"
    assert attached(cgroup) == 0
