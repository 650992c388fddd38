"""The systemd manager against a bus that refuses, fails and falls silent; what works is tested with a real systemd."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup.bus import Bus, BusError, user_bus_address
from ocirt.cgroup.manager import CgroupRecord, ScopeRequest, cgroup_manager
from ocirt.cgroup.paths import CgroupHost
from ocirt.cgroup.settings import Setting
from ocirt.cgroup.systemd import Placeholder, SystemdManager
from ocirt.errors import HostError, SpecError, StateError
from tests.support.fake_systemd import FakeSystemd, be_silent, refuse

NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
READ_ONLY = "org.freedesktop.DBus.Error.PropertyReadOnly"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystemd]:
    server = FakeSystemd(tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", server.address)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    yield server
    server.close()


@pytest.fixture
def host(tmp_path: Path) -> CgroupHost:
    """A hierarchy without any cgroup in it."""
    (tmp_path / "mount").mkdir()
    return CgroupHost(str(tmp_path / "mount"), "/", "/", "/")


def manager(host: CgroupHost, *settings: Setting, timeout_seconds: float = 10.0, **annotations: str) -> SystemdManager:
    named = {f"org.systemd.property.{name}": text for name, text in annotations.items()}
    return SystemdManager(host, ScopeRequest(settings, named), timeout_seconds=timeout_seconds)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever fails, the placeholder ends and is reaped, and no descriptor stays."""
    before = belongings()
    try:
        yield
    finally:
        # The fake's end of a connection, in its thread, is closed a little later than ours.
        deadline = time.monotonic() + 5
        while (left := belongings() - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not left


def belongings() -> set[str]:
    """The open descriptors and the children of this process."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended
            found |= {f"child {pid}" for pid in path.read_text().split()}
    for fd in os.listdir("/proc/self/fd"):
        # That of the listing is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return found


class TestBus:
    def test_a_call_and_an_error(self, systemd: FakeSystemd) -> None:
        systemd.answers["Foo"] = refuse("a.b.C", "no\nfoo")
        with Bus(systemd.address, 10) as bus:
            assert systemd.asked() == ["Hello"]
            with pytest.raises(BusError, match=r"no\\nfoo \(a\.b\.C\)"):
                bus.call("x.y", "/x", "x.y", "Foo", "s", ("bar",))
        assert systemd.calls[-1] == ("Foo", ("bar",))

    def test_no_bus_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(HostError, match=f"/linux/cgroupsPath: D-Bus unix:path={tmp_path}/none connect: no such"):
            Bus(f"unix:path={tmp_path}/none", 10)

    def test_the_second_address_is_tried(self, systemd: FakeSystemd, tmp_path: Path) -> None:
        Bus(f"unix:path={tmp_path}/none;{systemd.address}", 10).close()

    @pytest.mark.parametrize("address", ["tcp:host=localhost,port=1", "unix", "unix:path"])
    def test_an_address_of_another_kind_is_an_error(self, address: str) -> None:
        with pytest.raises(HostError, match="only addresses unix:path"):
            Bus(address, 10)

    def test_rejected(self, systemd: FakeSystemd) -> None:
        systemd.greeting = [b"REJECTED EXTERNAL\r\n"]
        with pytest.raises(HostError, match="authenticate: permission denied"):
            Bus(systemd.address, 10)

    @pytest.mark.parametrize("greeting", [[], [b"DATA\r\n"], [b"OK"]])
    def test_silence_at_the_beginning(self, systemd: FakeSystemd, greeting: list[bytes]) -> None:
        systemd.greeting = greeting
        with pytest.raises(HostError, match=r"authenticate: connection timed out \(no answer within 0\.2 s\)"):
            Bus(systemd.address, 0.2)

    def test_the_other_side_ends(self, systemd: FakeSystemd) -> None:
        bus = Bus(systemd.address, 10)
        systemd.answers["Foo"] = be_silent
        with bus:
            systemd.close()
            with pytest.raises(HostError, match=r"Foo: (connection reset by peer|broken pipe)"):
                bus.call("x.y", "/x", "x.y", "Foo")

    def test_the_address_of_a_users_bus(self, tmp_path: Path) -> None:
        assert user_bus_address({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}, 4242) == "unix:path=/x"
        assert user_bus_address({"XDG_RUNTIME_DIR": str(tmp_path)}, 4242) is None
        directory = tmp_path / "a,b"
        directory.mkdir()
        (directory / "bus").touch()
        assert user_bus_address({"XDG_RUNTIME_DIR": str(directory)}, 4242) == f"unix:path={tmp_path}/a%2cb/bus"
        assert user_bus_address({}, 4242) is None


class TestPrepare:
    def test_the_place_is_below_systemds_own(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        record = manager(host).prepare("a-b.slice:p:n", "c1")
        assert record.path == "/top/a.slice/a-b.slice/p-n.scope"
        assert (record.unit, record.slice, record.bus) == ("p-n.scope", "a-b.slice", systemd.address)
        assert (record.inode, record.invocation) == (None, "")
        assert systemd.asked() == ["Hello", "Get"]

    @pytest.mark.parametrize("root", ["", "/"])
    def test_the_first_process_is_at_the_root(self, systemd: FakeSystemd, host: CgroupHost, root: str) -> None:
        systemd.properties["ControlGroup"] = ("s", root)
        assert manager(host).prepare(None, "c1").path == "/system.slice/ocirt-c1.scope"

    def test_a_hierarchy_that_does_not_show_it(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        with pytest.raises(StateError, match="are not below"):
            SystemdManager(CgroupHost(host.mount, "/docker/x", "/", "/")).prepare(None, "c1")

    def test_what_is_wrong_in_the_config_is_said_before_systemd_is_asked(
        self, systemd: FakeSystemd, host: CgroupHost
    ) -> None:
        with pytest.raises(SpecError, match=r"/annotations/org.systemd.property.Foo: 'x y' is no GVariant"):
            manager(host, Foo="x y").prepare(None, "c1")
        with pytest.raises(SpecError, match="slice:prefix:name"):
            manager(host).prepare("/a/b", "c1")
        assert systemd.calls == []

    def test_a_rootless_one_asks_the_users(
        self, systemd: FakeSystemd, host: CgroupHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", systemd.address)
        record = SystemdManager(host, ScopeRequest(rootless=True)).prepare(None, "c1")
        assert (record.slice, record.bus) == ("user.slice", systemd.address)
        with pytest.raises(HostError, match="/nonexistent"):
            manager(host).prepare(None, "c1")

    def test_by_name(self, host: CgroupHost) -> None:
        assert isinstance(cgroup_manager("systemd", host), SystemdManager)
        with pytest.raises(StateError, match="cgroup v2 is not mounted"):
            cgroup_manager("systemd", None)


class TestCreate:
    def create(self, made: SystemdManager) -> None:
        record = made.prepare(None, "c1")
        with nothing_left():
            made.create(record)

    def test_what_systemd_is_asked_for(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["StartTransientUnit"] = refuse("x.Y", "no")
        limit = Setting("/linux/resources/memory/limit", "memory.max", "4096")
        late = Setting("/linux/resources/pids/limit", "pids.max", "1")
        weight = Setting("/w", "io.bfq.weight", "10", otherwise=Setting("/w", "io.weight", "1"))
        with pytest.raises(StateError):
            self.create(manager(host, limit, late, weight, Description="'mine'", CPUWeight="uint64 7"))
        unit, mode, properties, others = systemd.calls[-1][1]
        assert (unit, mode, others) == ("ocirt-c1.scope", "fail", [])
        asked = dict(properties)
        assert len(asked) == len(properties)
        assert asked.pop("PIDs")[0] == "au"
        assert asked == {
            "Slice": ("s", "system.slice"),
            "Delegate": ("b", True),
            "DefaultDependencies": ("b", False),
            "CollectMode": ("s", "inactive-or-failed"),
            "CPUAccounting": ("b", True),
            "MemoryAccounting": ("b", True),
            "IOAccounting": ("b", True),
            "TasksAccounting": ("b", True),
            "Description": ("s", "mine"),
            "CPUWeight": ("t", 7),
            "MemoryMax": ("t", 4096),
        }

    def test_what_this_systemd_has_not_is_left_out(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["StartTransientUnit"] = refuse("x.Y", "no")
        zswap = Setting("/linux/resources/unified/memory.zswap.max", "memory.zswap.max", "0")
        for version, known in (("252.1", False), ("v253-rc1", True), ("odd", False)):
            systemd.properties["Version"] = ("s", version)
            with pytest.raises(StateError):
                self.create(manager(host, zswap))
            assert ("MemoryZSwapMax" in dict(systemd.calls[-1][1][2])) is known

    @pytest.mark.parametrize(
        ("text", "pointer"),
        [
            ("MemoryMax= value is out of range.", "/linux/resources/memory/limit"),
            ("Cannot set property Foo, or unknown property.", "/annotations/org.systemd.property.Foo"),
            ("something else", "/linux/cgroupsPath"),
        ],
    )
    def test_a_refusal_names_what_asked(self, systemd: FakeSystemd, host: CgroupHost, text: str, pointer: str) -> None:
        systemd.answers["StartTransientUnit"] = refuse(READ_ONLY, text)
        limit = Setting("/linux/resources/memory/limit", "memory.max", "4096")
        with pytest.raises(StateError) as caught:
            self.create(manager(host, limit, Foo="1"))
        assert str(caught.value) == f"{pointer}: systemd refuses to start ocirt-c1.scope: {text} ({READ_ONLY})"

    def test_a_value_of_another_type(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["StartTransientUnit"] = refuse("System.Error.ENXIO", "Unexpected message contents")
        with pytest.raises(StateError, match=r"^/annotations/org\.systemd\.property\.Foo: "):
            self.create(manager(host, Foo="1"))
        with pytest.raises(StateError, match=r"among /annotations/.*Foo, /annotations/.*Bar"):
            self.create(manager(host, Foo="1", Bar="2"))

    def test_a_name_in_use(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["StartTransientUnit"] = refuse(UNIT_EXISTS, "Unit ocirt-c1.scope was already loaded.")
        with pytest.raises(StateError, match=r"^/linux/cgroupsPath: .*another unit, or a container") as caught:
            self.create(manager(host))
        assert caught.value.code == "cgroup.taken"
        assert systemd.asked().count("StartTransientUnit") == 1
        assert "ResetFailedUnit" not in systemd.asked()

    def test_a_name_that_a_failed_unit_has(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["StartTransientUnit"] = refuse(UNIT_EXISTS, "Unit ocirt-c1.scope was already loaded.")
        systemd.properties["ActiveState"] = ("s", "failed")
        with pytest.raises(StateError):
            self.create(manager(host))
        assert systemd.asked()[-3:] == ["Get", "ResetFailedUnit", "StartTransientUnit"]

    def test_the_job_fails(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.job_result = "failed"
        with pytest.raises(StateError, match=r'^/linux/cgroupsPath: .* the result is "failed"'):
            self.create(manager(host))

    @pytest.mark.parametrize("method", ["AddMatch", "StartTransientUnit"])
    def test_silence(self, systemd: FakeSystemd, host: CgroupHost, method: str) -> None:
        systemd.answers[method] = be_silent
        begun = time.monotonic()
        with pytest.raises(HostError, match=rf"{method}: connection timed out \(no answer within 0\.3 s"):
            self.create(manager(host, timeout_seconds=0.3))
        assert time.monotonic() - begun < 5

    def test_a_job_that_never_ends(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.job_result = None
        with pytest.raises(HostError, match="JobRemoved: connection timed out"):
            self.create(manager(host, timeout_seconds=0.3))

    def test_a_scope_elsewhere(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        with pytest.raises(StateError, match=r"systemd has put ocirt-c1\.scope into .*, and not into /top/system"):
            self.create(manager(host))
        # It is not left behind, and stopped by the id of its invocation.
        assert systemd.asked()[-2:] == ["Stop", "ResetFailed"]


class TestRuntimeOutsideOfWhatItMayUse:
    """A user's login session is beside the cgroups that the user's systemd has."""

    def test_it_asks_for_a_scope_of_its_own(
        self, systemd: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = CgroupHost(str(tmp_path), "/", "/session.scope", None)
        monkeypatch.setattr("ocirt.cgroup.systemd.probe_cgroup_host", lambda: host)
        made = manager(host)
        record = made.prepare(None, "c1")
        with nothing_left(), pytest.raises(StateError, match="the runtime is in the cgroup"):
            made.create(record)
        unit, mode, properties, _ = systemd.calls[-1][1]
        assert (unit, mode) == (f"ocirt-runtime-{os.getpid()}.scope", "fail")
        assert dict(properties)["PIDs"] == ("au", [os.getpid()])
        assert dict(properties)["Slice"] == ("s", "system.slice")

    def test_exec_too(self, systemd: FakeSystemd, tmp_path: Path) -> None:
        host = CgroupHost(str(tmp_path), "/", "/session.scope", None)
        record = manager(host).prepare(None, "c1")
        systemd.answers["StartTransientUnit"] = refuse("x.Y", "no")
        with nothing_left(), pytest.raises(StateError, match=r"refuses to start ocirt-runtime-[0-9]+\.scope: no"):
            manager(host).open_for_exec(record, 1)

    def test_otherwise_it_stays_where_it_is(self, systemd: FakeSystemd, tmp_path: Path) -> None:
        host = CgroupHost(str(tmp_path), "/", "/top/a", "/top")
        record = manager(host).prepare(None, "c1")
        assert manager(host).open_for_exec(record, 1) is None
        assert systemd.asked() == ["Hello", "Get"]


class TestRemove:
    def record(self, systemd: FakeSystemd, invocation: str = "00" * 16) -> CgroupRecord:
        return CgroupRecord(
            "systemd",
            "/top/x.scope",
            "c1 0",
            ("/top/x.scope",),
            None,
            "x.scope",
            "a.slice",
            systemd.address,
            invocation,
        )

    def test_a_unit_is_stopped_and_forgotten(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        manager(host).remove(self.record(systemd))
        assert systemd.asked() == ["Hello", "AddMatch", "Stop", "ResetFailed"]

    @pytest.mark.parametrize("name", [NO_SUCH_UNIT, "org.freedesktop.DBus.Error.UnknownObject"])
    @pytest.mark.parametrize("method", ["Stop", "ResetFailed"])
    def test_one_that_is_gone_is_no_error(self, systemd: FakeSystemd, host: CgroupHost, name: str, method: str) -> None:
        systemd.answers[method] = refuse(name, "gone")
        manager(host).remove(self.record(systemd))

    def test_another_refusal_is(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["Stop"] = refuse("org.freedesktop.DBus.Error.AccessDenied", "no")
        with pytest.raises(StateError, match=r"systemd refuses to stop x\.scope: no"):
            manager(host).remove(self.record(systemd))

    def test_a_unit_that_was_never_started_is_not_asked_for(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        manager(host).remove(self.record(systemd, invocation=""))
        assert systemd.calls == []

    def test_without_a_systemd_there_is_no_unit(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        record = self.record(systemd)
        os.unlink(systemd.address.removeprefix("unix:path="))
        manager(host).remove(record)

    def test_silence(self, systemd: FakeSystemd, host: CgroupHost) -> None:
        systemd.answers["Stop"] = be_silent
        with pytest.raises(HostError, match="Stop: connection timed out"):
            manager(host, timeout_seconds=0.3).remove(self.record(systemd))


def test_a_placeholder_lives_until_it_is_ended() -> None:
    with nothing_left():
        placeholder = Placeholder()
        try:
            assert Path(f"/proc/{placeholder.pid}/status").exists()
        finally:
            placeholder.end()
        assert not Path(f"/proc/{placeholder.pid}/status").exists()
        placeholder.end()
