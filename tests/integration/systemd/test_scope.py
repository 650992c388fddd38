"""A container's scope: its place and properties, what daemon-reload leaves of it, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt._native import lib
from ocirt.cgroup import bpf
from ocirt.cgroup.directory import Cgroup
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, wait_for
from tests.support.systemd import Systemd

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

SLICE = "ocirt-test.slice"


def unit_of(container: Container) -> str:
    return f"ocirt-{container.id}.scope"


def cgroup_of(systemd: Systemd, container: Container) -> Path:
    return CGROUP / systemd.show(unit_of(container))["ControlGroup"].strip("/")


def files(directory: Path, *names: str) -> dict[str, str]:
    return {name: (directory / name).read_text().strip() for name in names}


class TestPlace:
    def test_the_default(self, container: Container, systemd: Systemd) -> None:
        container.hold()
        shown = systemd.show(unit_of(container))
        assert shown["ActiveState"] == "active"
        assert shown["Description"] == f"ocirt container {container.id}"
        assert shown["Slice"] == ("system.slice" if "--rootless" not in systemd.flags else "user.slice")
        assert shown["Delegate"] == "yes"
        assert shown["CollectMode"] == "inactive-or-failed"
        assert shown["CPUAccounting"] == shown["MemoryAccounting"] == "yes"
        # The placeholder is gone, and the container's init is in.
        assert files(cgroup_of(systemd, container), "cgroup.procs") == {"cgroup.procs": str(container.pid)}

    def test_slice_prefix_and_name(self, container: Container, systemd: Systemd) -> None:
        container.linux["cgroupsPath"] = f"{SLICE}:test:{container.id}"
        container.hold()
        shown = systemd.show(f"test-{container.id}.scope")
        assert shown["Slice"] == SLICE
        assert shown["ControlGroup"].endswith(f"/ocirt.slice/{SLICE}/test-{container.id}.scope")
        state = json.loads((container.runtime.root / container.id / "state.json").read_text())
        assert state["cgroup"]["path"] == shown["ControlGroup"]

    def test_exec_is_in_it_too(self, container: Container, systemd: Systemd) -> None:
        container.linux["namespaces"] = [each for each in container.linux["namespaces"] if each["type"] != "cgroup"]
        container.hold()
        result = container.exec("/bin/cat", "/proc/self/cgroup")
        assert f"0::{systemd.show(unit_of(container))['ControlGroup']}" in result.out.splitlines()

    def test_the_container_mounts_its_own_cgroup(self, container: Container, systemd: Systemd) -> None:
        container.mounts.append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []})
        container.hold()
        assert container.exec("/bin/cat", "/sys/fs/cgroup/cgroup.procs").out.split()[0] == "1"


class TestAnnotations:
    def test_they_are_properties(self, container: Container, systemd: Systemd) -> None:
        container.config["annotations"] = {
            "org.systemd.property.TimeoutStopSec": "uint64 12",
            "org.systemd.property.Documentation": "['man:one(1)', 'man:two(2)']",
            "org.systemd.property.Description": "'mine'",
            "other": "x",
        }
        container.hold()
        shown = systemd.show(unit_of(container))
        assert shown["TimeoutStopUSec"] == "12s"
        assert "man:two(2)" in shown["Documentation"]
        assert shown["Description"] == "mine"

    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            ("Foo", "1", "Cannot set property Foo"),
            ("TasksMax", "'x'", "systemd refuses"),
            ("Slice", "'a.slice'", "for the runtime alone"),
            ("Foo", "bar", "no GVariant text"),
        ],
    )
    def test_a_wrong_one_is_named(
        self, container: Container, systemd: Systemd, name: str, text: str, said: str
    ) -> None:
        container.config["annotations"] = {f"org.systemd.property.{name}": text}
        error = container.refused()
        assert f"/annotations/org.systemd.property.{name}: " in error
        assert said in error
        assert not systemd.exists(unit_of(container))


class TestReload:
    def test_the_device_rules_stay(self, container: Container, systemd: Systemd) -> None:
        container.linux["devices"] = [
            {"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
            for path, minor in (("/dev/allowed", 11), ("/dev/denied", 12))
        ]
        container.linux["resources"] = {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                # A rule that systemd has no words for.
                {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "r"},
            ]
        }
        container.hold()

        def check() -> None:
            cgroup = Cgroup.open(str(cgroup_of(systemd, container)))
            assert cgroup is not None
            with cgroup:
                programs = [lib.ocirt_bpf_open(number) for number in bpf._attached(cgroup.fd)]
                try:
                    assert [bpf._name(fd) for fd in programs] == [bpf.PROGRAM_NAME]
                finally:
                    for fd in programs:
                        os.close(fd)
            assert container.exec("/bin/sh", "-c", ": </dev/null").rc == 0
            for path in ("/dev/denied", "/dev/zero"):
                refused = container.exec("/bin/sh", "-c", f": <{path}", check=False)
                assert "Operation not permitted" in refused.err

        check()
        systemd.reload()
        check()
        systemd.ctl("set-property", "--runtime", unit_of(container), "TimeoutStopSec=7", check=False)
        systemd.ctl("daemon-reexec")
        wait_for(systemd.is_up)
        check()

    @pytest.mark.controllers("cpu", "cpuset", "memory", "pids")
    def test_the_limits_stay(self, container: Container, systemd: Systemd) -> None:
        container.linux["resources"] = {
            "memory": {"limit": 200 << 20, "reservation": 100 << 20, "swap": 300 << 20},
            "cpu": {"shares": 512, "quota": 12345, "period": 100000, "burst": 5000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 50},
            "unified": {"memory.high": "190000000", "memory.min": "4096"},
        }
        container.hold()
        names = "memory.max memory.low memory.high memory.min memory.swap.max".split()
        names += "cpu.weight cpu.max cpu.max.burst cpuset.cpus cpuset.mems pids.max".split()
        directory = cgroup_of(systemd, container)
        before = files(directory, *names)
        assert before == {
            "memory.max": str(200 << 20),
            "memory.low": str(100 << 20),
            "memory.high": str(190000000 // 4096 * 4096),
            "memory.min": "4096",
            "memory.swap.max": str(100 << 20),
            "cpu.weight": before["cpu.weight"],
            # systemd counts in whole percents.
            "cpu.max": "13000 100000",
            "cpu.max.burst": "5000",
            "cpuset.cpus": "0",
            "cpuset.mems": "0",
            "pids.max": "50",
        }
        shown = systemd.show(unit_of(container))
        assert shown["MemoryMax"] == str(200 << 20)
        assert shown["MemorySwapMax"] == str(100 << 20)
        assert shown["CPUWeight"] == before["cpu.weight"] != "100"
        assert shown["CPUQuotaPerSecUSec"] == "130ms"
        assert shown["AllowedCPUs"] == shown["AllowedMemoryNodes"] == "0"
        assert shown["TasksMax"] == "50"
        systemd.reload()
        assert files(directory, *names) == before
        assert systemd.show(unit_of(container))["CPUQuotaPerSecUSec"] == "130ms"

    @pytest.mark.controllers("cpu", "memory", "pids")
    def test_updated_limits_stay(self, container: Container, systemd: Systemd) -> None:
        container.linux["resources"] = {"memory": {"limit": 200 << 20}, "pids": {"limit": 50}}
        container.hold()
        container.runtime.run("update", "--memory", "100m", "--cpu-share", "2048", "--pids-limit", "60", container.id)
        directory = cgroup_of(systemd, container)
        before = files(directory, "memory.max", "cpu.weight", "pids.max")
        assert (before["memory.max"], before["pids.max"]) == (str(100 << 20), "60")
        shown = systemd.show(unit_of(container))
        assert (shown["MemoryMax"], shown["TasksMax"]) == (str(100 << 20), "60")
        assert shown["CPUWeight"] == before["cpu.weight"] != "100"
        systemd.reload()
        assert files(directory, "memory.max", "cpu.weight", "pids.max") == before

    @pytest.mark.controllers("memory", "pids")
    def test_an_update_that_systemd_does_not_take_changes_nothing(self, container: Container, systemd: Systemd) -> None:
        container.linux["resources"] = {"memory": {"limit": 200 << 20}, "pids": {"limit": 50}}
        container.hold()
        directory = cgroup_of(systemd, container)
        before = files(directory, "memory.max", "pids.max", "cpu.weight")
        state_path = container.runtime.root / container.id / "state.json"
        whole = state_path.read_text()
        state = json.loads(whole)
        state["cgroup"]["bus"] = "unix:path=/nonexistent/bus"
        state_path.write_text(json.dumps(state))
        refused = container.runtime.run(
            "update", "--memory", "100m", "--pids-limit", "60", "--cpu-share", "2048", container.id, check=False
        )
        state_path.write_text(whole)
        assert refused.rc == 1
        assert "/nonexistent/bus" in refused.err
        assert files(directory, "memory.max", "pids.max", "cpu.weight") == before
        shown = systemd.show(unit_of(container))
        assert (shown["MemoryMax"], shown["TasksMax"]) == (str(200 << 20), "50")
        assert not (state_path.parent / "resources.json").exists()

    @pytest.mark.controllers("io")
    def test_limits_of_devices_stay(self, container: Container, systemd: Systemd) -> None:
        numbers = sorted(path.read_text().strip() for path in Path("/sys/block").glob("*/dev"))
        if not numbers:
            pytest.skip("needs a block device")
        major, minor = map(int, numbers[0].split(":"))
        device = {"major": major, "minor": minor}
        container.linux["resources"] = {
            "blockIO": {
                "throttleReadBpsDevice": [{**device, "rate": 1 << 20}],
                "throttleWriteIOPSDevice": [{**device, "rate": 100}],
            }
        }
        container.hold()
        directory = cgroup_of(systemd, container)
        expected = f"{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100"
        assert files(directory, "io.max") == {"io.max": expected}
        shown = systemd.show(unit_of(container))
        assert shown["IOReadBandwidthMax"] == f"/dev/block/{major}:{minor} 1048576"
        systemd.reload()
        assert files(directory, "io.max") == {"io.max": expected}

    @pytest.mark.controllers("pids")
    @pytest.mark.parametrize("limit", [0, 1, 2, 100])
    def test_a_limit_of_few_processes(self, container: Container, systemd: Systemd, limit: int) -> None:
        container.linux["resources"] = {"pids": {"limit": limit}}
        container.hold()
        wait_for(lambda: systemd.show(unit_of(container))["TasksMax"] == str(max(limit, 1)))
        assert (cgroup_of(systemd, container) / "pids.max").read_text().strip() in {str(limit), str(max(limit, 1))}
        systemd.reload()
        assert (cgroup_of(systemd, container) / "pids.max").read_text().strip() == str(max(limit, 1))


class TestEnd:
    @pytest.mark.parametrize("state", ["created", "running", "stopped"])
    def test_the_unit_is_gone_after_delete(self, container: Container, systemd: Systemd, state: str) -> None:
        if state == "created":
            container.create()
        else:
            container.hold()
        directory = cgroup_of(systemd, container)
        if state == "stopped":
            container.kill("KILL")
            assert container.wait() == 128 + signal.SIGKILL
        container.delete(*(("--force",) if state != "stopped" else ()))
        assert not systemd.exists(unit_of(container))
        assert not directory.exists()

    def test_it_is_gone_with_the_last_process(self, container: Container, systemd: Systemd) -> None:
        container.hold()
        container.kill("KILL")
        container.wait()
        wait_for(lambda: not systemd.exists(unit_of(container)))
        assert container.status == "stopped"
        container.delete()

    def test_a_cgroup_of_the_containers_own_goes_too(self, container: Container, systemd: Systemd) -> None:
        container.hold()
        directory = cgroup_of(systemd, container)
        (directory / "inner/most").mkdir(parents=True)
        container.delete("--force")
        assert not directory.exists()
        assert not systemd.exists(unit_of(container))

    def test_a_later_unit_of_the_name_is_anothers(self, container: Container, systemd: Systemd) -> None:
        container.hold()
        container.kill("KILL")
        container.wait()
        wait_for(lambda: not systemd.exists(unit_of(container)))
        other = systemd.scope(unit_of(container), "Slice=" + systemd.show("user.slice")["Id"])
        try:
            container.delete()
            assert systemd.show(unit_of(container))["ActiveState"] == "active"
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()
            wait_for(lambda: not systemd.exists(unit_of(container)))

    def test_a_create_that_dies_leaves_nothing(self, container: Container, systemd: Systemd) -> None:
        unit = unit_of(container)
        script = f"""
import os
from ocirt.cgroup.manager import ScopeRequest
from ocirt.cgroup.paths import probe_cgroup_host
from ocirt.cgroup.systemd import SystemdManager
manager = SystemdManager(probe_cgroup_host(), ScopeRequest(rootless={"--rootless" in systemd.flags}))
made = manager.create(manager.prepare(None, {container.id!r}))
print(made.cgroup.where, flush=True)
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
        died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert died.returncode == -signal.SIGKILL
        assert died.stdout.strip().endswith(unit)
        wait_for(lambda: not systemd.exists(unit))
        assert not Path(died.stdout.strip()).exists()

    def test_a_failed_create_leaves_nothing(self, container: Container, systemd: Systemd) -> None:
        container.process["args"] = ["/nonexistent"]
        container.refused()
        assert not systemd.exists(unit_of(container))


class TestNameInUse:
    def test_by_another_unit(self, container: Container, systemd: Systemd) -> None:
        other = systemd.scope(unit_of(container), f"Slice={SLICE}")
        try:
            error = container.refused()
            assert error.count("/linux/cgroupsPath: ") == 1
            assert "UnitExists" in error
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()
            wait_for(lambda: not systemd.exists(unit_of(container)))

    def test_by_another_container(self, new: object, container: Container, systemd: Systemd) -> None:
        assert callable(new)
        second = new()
        for each in (container, second):
            each.linux["cgroupsPath"] = f"{SLICE}:test:{container.id}"
        container.hold()
        assert "container's cgroup is not empty" in second.refused()
        assert container.status == "running"
        container.delete("--force")

    def test_by_a_unit_that_has_failed(self, container: Container, systemd: Systemd) -> None:
        other = systemd.scope(unit_of(container), "RuntimeMaxSec=1", f"Slice={SLICE}")
        other.wait(20)
        wait_for(lambda: systemd.show(unit_of(container))["ActiveState"] == "failed")
        container.hold()
        assert systemd.show(unit_of(container))["ActiveState"] == "active"
