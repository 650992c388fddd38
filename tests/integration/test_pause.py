"""pause and resume: nothing of the container runs in between, and what the other commands make of it."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.integration.conftest import NewContainer
from tests.support.cgroups import cgroup_of
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


class Counter:
    """A container whose program counts as long as it runs."""

    def __init__(self, container: Container) -> None:
        self.path = container.rootfs / "count"
        container.shell("while :; do i=$((i + 1)); echo $i > /count.new; mv /count.new /count; usleep 2000; done")

    @property
    def value(self) -> int:
        return int(self.path.read_text() or 0) if self.path.exists() else 0

    def goes_on(self) -> None:
        before = self.value
        wait_for(lambda: self.value > before)

    def stands_still(self) -> None:
        before = self.value
        time.sleep(0.1)  # fifty times what it takes to count
        assert self.value == before


@pytest.mark.common
def test_nothing_runs_while_it_is_paused(container: Container) -> None:
    counter = Counter(container)
    container.start_new()
    counter.goes_on()
    container.runtime.run("pause", container.id)
    assert container.status == "paused"
    counter.stands_still()
    container.runtime.run("resume", container.id)
    assert container.status == "running"
    counter.goes_on()


@pytest.mark.common
def test_state_and_list_and_ps_of_a_paused_container(container: Container, runtime: Runtime) -> None:
    container.hold()
    runtime.run("pause", container.id)
    assert container.state()["pid"] == container.pid
    listed = json.loads(runtime.run("list", "--format", "json").out)
    assert [entry["status"] for entry in listed if entry["id"] == container.id] == ["paused"]
    assert json.loads(runtime.run("ps", "--format", "json", container.id).out) == [container.pid]


@pytest.mark.common
def test_ps_with_options(container: Container, runtime: Runtime) -> None:
    container.shell("sleep 100 & sleep 200")
    container.start_new()
    wait_for(lambda: runtime.run("ps", container.id).out.count("sleep ") >= 2)
    title, *lines = runtime.run("ps", container.id, "-e", "-o", "pid,args").out.splitlines()
    assert title.split() == ["PID", "COMMAND"]
    assert sorted(line.split(None, 1)[1] for line in lines if "sh -c" not in line) == ["sleep 100", "sleep 200"]
    pids = sorted(int(line.split()[0]) for line in lines)
    assert sorted(json.loads(runtime.run("ps", "-f", "json", container.id).out)) == pids
    assert container.pid in pids


@pytest.mark.common
def test_kill_kills_a_paused_container(container: Container) -> None:
    container.hold()
    container.runtime.run("pause", container.id)
    container.kill("KILL")
    assert container.wait() == 128 + 9
    assert container.status == "stopped"
    container.delete()


@pytest.mark.common
def test_other_signals_arrive_when_it_runs_again(container: Container) -> None:
    container.hold()
    container.runtime.run("pause", container.id)
    container.kill("TERM")
    time.sleep(0.1)
    assert container.status == "paused"
    container.runtime.run("resume", container.id)
    assert container.wait() == 42


def test_kill_kills_a_paused_container_that_shares_its_pid_namespace(container: Container) -> None:
    container.linux["namespaces"] = [entry for entry in container.linux["namespaces"] if entry["type"] != "pid"]
    container.shell("sleep 1000 & exec sleep 1000")
    container.start_new()
    cgroup = cgroup_of(container)
    wait_for(lambda: len((cgroup / "cgroup.procs").read_text().split()) == 2)
    container.runtime.run("pause", container.id)
    container.kill("KILL")
    assert container.wait() == 128 + 9
    wait_for(lambda: "populated 0" in (cgroup / "cgroup.events").read_text())


@pytest.mark.common
def test_delete_of_a_paused_container(container: Container, runtime: Runtime) -> None:
    container.hold()
    cgroup = cgroup_of(container)
    runtime.run("pause", container.id)
    refused = container.delete(check=False)
    assert refused.rc != 0
    assert f"cannot delete container {container.id} that is not stopped: paused" in refused.err
    process = subprocess.Popen(runtime.argv("delete", "--force", container.id))
    assert container.wait() == 128 + 9
    assert process.wait(20) == 0
    assert runtime.run("state", container.id, check=False).rc != 0
    assert not cgroup.exists()


@pytest.mark.common
def test_exec_into_a_paused_container(container: Container) -> None:
    container.hold()
    container.runtime.run("pause", container.id)
    result = container.exec("/bin/true", check=False)
    assert result.rc == 255
    assert "cannot exec in a paused container" in result.error


def test_exec_that_ignores_the_pause_waits_for_its_end(container: Container, runtime: Runtime) -> None:
    container.hold()
    runtime.run("pause", container.id)
    argv = runtime.argv("exec", "--ignore-paused", container.id, "/bin/sh", "-c", "exit 7")
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    runtime.run("resume", container.id)
    assert process.wait(10) == 7


@pytest.mark.common
def test_pause_of_a_created_container(container: Container, runtime: Runtime) -> None:
    container.shell("echo ran")
    container.create()
    runtime.run("pause", container.id)
    assert container.status == "paused"
    assert container.start(check=False).rc != 0
    runtime.run("resume", container.id)
    container.start()
    assert container.wait() == 0
    assert container.output == "ran\n"


def test_start_of_a_paused_container_says_so(container: Container, runtime: Runtime) -> None:
    container.create()
    runtime.run("pause", container.id)
    assert "cannot start a container in the paused state" in container.start(check=False).error
    runtime.run("resume", container.id)
    assert container.status == "created"


@pytest.mark.common
def test_pause_of_what_does_not_run(container: Container, runtime: Runtime) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    result = runtime.run("pause", container.id, check=False)
    assert result.rc != 0
    assert "container not running" in result.error


@pytest.mark.common
def test_pause_of_a_paused_container(container: Container, runtime: Runtime) -> None:
    container.hold()
    runtime.run("pause", container.id)
    result = runtime.run("pause", container.id, check=False)
    assert result.rc != 0
    assert "container not running" in result.error
    assert container.status == "paused"


@pytest.mark.common
def test_resume_of_what_is_not_paused(container: Container, runtime: Runtime) -> None:
    container.hold()
    result = runtime.run("resume", container.id, check=False)
    assert result.rc != 0
    assert "container not paused" in result.error


def test_cgroups_that_the_container_made_are_frozen_too(container: Container) -> None:
    container.mounts.append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]})
    counter = Counter(container)
    script = container.process["args"][2]
    container.shell(f"mkdir /sys/fs/cgroup/own; echo 0 > /sys/fs/cgroup/own/cgroup.procs; {script}")
    container.start_new()
    counter.goes_on()
    container.runtime.run("pause", container.id)
    assert container.status == "paused"
    counter.stands_still()
    container.kill("KILL")
    container.wait()


def test_pause_that_was_killed_can_be_undone(container: Container, runtime: Runtime) -> None:
    """What it leaves behind: a cgroup that is to freeze."""
    container.hold()
    (cgroup_of(container) / "cgroup.freeze").write_text("1")
    runtime.run("resume", container.id)
    assert container.status == "running"


def test_container_whose_parent_is_frozen(container: Container, runtime: Runtime, token: str) -> None:
    parent = CGROUP / f"{token}-{container.id}-parent"
    container.linux["cgroupsPath"] = f"/{parent.name}/{container.id}"
    container.hold()
    (parent / "cgroup.freeze").write_text("1")
    wait_for(lambda: container.status == "paused")
    result = runtime.run("resume", container.id, check=False)
    assert result.rc == 1
    assert f"a cgroup above {parent}/{container.id} is frozen" in result.error
    (parent / "cgroup.freeze").write_text("0")
    wait_for(lambda: container.status == "running")


def test_without_a_cgroup_of_its_own(container: Container, runtime: Runtime, new: NewContainer) -> None:
    container.process["args"] = ["/probe", "hold"]
    container.write_config()
    argv = ("--cgroup-manager", "disabled", "create", "--bundle", container.bundle, "--pid-file", container.pid_file)
    runtime.run(*argv, container.id, stdout=container.bundle / "output")
    result = runtime.run("pause", container.id, check=False)
    assert result.rc == 1
    assert f"container {container.id} has no cgroup of its own" in result.error
    assert "container not paused" in runtime.run("resume", container.id, check=False).error
    assert container.status == "created"
