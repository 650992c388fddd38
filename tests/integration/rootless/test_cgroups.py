"""An ordinary user's containers with and without a cgroup of their own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.rootless.conftest import NewUserContainer
from tests.support import leaks
from tests.support.bundle import bind_entry, mount_entry, without_namespace
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, wait_for
from tests.support.unprivileged import (
    UID,
    User,
    cgroup_of,
    delegated_cgroup,
)

pytestmark = [pytest.mark.root]


@pytest.mark.cgroup
@pytest.mark.common
def test_without_a_cgroup(rootless: Container) -> None:
    """The container stays in the cgroup of the runtime, since this user may make none."""
    rootless.hold()
    assert cgroup_of(rootless.pid) == cgroup_of(os.getpid())


@pytest.mark.cgroup
def test_warning_without_a_cgroup(rootless: Container) -> None:
    rootless.shell("true")
    lines = rootless.run().err.splitlines()
    assert lines == ["ocirt: warning: the container gets no cgroup of its own: this user may make none"]


@pytest.mark.cgroup
@pytest.mark.common
def test_cgroup_that_cannot_be_made(rootless: Container, token: str, runtime_name: str) -> None:
    rootless.linux["cgroupsPath"] = f"/{token}-not-allowed"
    error = rootless.refused()
    if runtime_name == "ocirt":
        assert f"/linux/cgroupsPath: mkdir {CGROUP}/{token}-not-allowed: permission denied" in error


@pytest.mark.cgroup
@pytest.mark.common
def test_limit_without_a_cgroup(rootless: Container) -> None:
    rootless.linux["resources"] = {"pids": {"limit": 10}}
    assert "pids" in rootless.refused() or rootless.runtime.name == "runc"


@pytest.fixture
def delegated(user: User, token: str) -> Iterator[User]:
    """The user in a cgroup that root has given to him."""
    with delegated_cgroup(user, f"{token}{os.environ.get('PYTEST_XDIST_WORKER', '')}-user") as delegated:
        yield delegated


@pytest.mark.cgroup
def test_delegated_cgroup(delegated: User, as_user: NewUserContainer) -> None:
    """A container gets its own below what was delegated; it is removed with the container."""
    container = as_user(delegated)
    assert delegated.cgroup
    container.hold()
    own = delegated.cgroup.parent / container.id
    assert cgroup_of(container.pid) == str(own).removeprefix(str(CGROUP))
    assert own.stat().st_uid == UID
    container.exec("--detach", "--pid-file", container.bundle / "exec.pid", "/bin/sleep", "1000")
    pids = json.loads(container.runtime.run("ps", "--format", "json", container.id).out)
    executed = int((container.bundle / "exec.pid").read_text())
    assert sorted(pids) == sorted([container.pid, executed])
    os.kill(executed, signal.SIGKILL)
    os.waitpid(executed, 0)
    container.delete("--force")
    assert not own.exists()


@pytest.mark.cgroup
@pytest.mark.common
def test_delegated_cgroup_by_path(delegated: User, as_user: NewUserContainer) -> None:
    container = as_user(delegated)
    assert delegated.cgroup
    path = delegated.cgroup.parent / "named/deep"
    container.linux["cgroupsPath"] = str(path).removeprefix(str(CGROUP))
    container.hold()
    assert cgroup_of(container.pid) == container.linux["cgroupsPath"]
    container.delete("--force")
    assert not path.exists()


@pytest.mark.cgroup
def test_no_warning_in_a_delegated_cgroup(delegated: User, as_user: NewUserContainer) -> None:
    container = as_user(delegated)
    container.shell("grep ^0: /proc/self/cgroup")
    result = container.run()
    assert (result.out, result.err) == ("0::/\n", "")


@pytest.mark.cgroup
def test_cgroup_mount_in_a_delegated_cgroup(delegated: User, as_user: NewUserContainer) -> None:
    """The container's root may make cgroups in its own, and sees nothing above."""
    container = as_user(delegated)
    container.mounts.append(mount_entry("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev"))
    container.shell("mkdir /sys/fs/cgroup/below && cat /sys/fs/cgroup/cgroup.procs && rmdir /sys/fs/cgroup/below")
    assert container.run().out.split()[0] == "1"


@pytest.mark.cgroup
def test_kill_all_in_a_delegated_cgroup(delegated: User, as_user: NewUserContainer) -> None:
    """Without a pid namespace of its own, the cgroup is what holds the container's processes together."""
    container = as_user(delegated)
    without_namespace(container.config, "pid")
    container.config["mounts"] = [entry for entry in container.mounts if entry["destination"] != "/proc"]
    container.mounts.insert(0, bind_entry("/proc", "/proc"))
    container.linux["maskedPaths"] = container.linux["readonlyPaths"] = []
    container.shell("setsid sleep 1000 & setsid sleep 1000 & echo ready; wait")
    container.create()
    container.start()
    wait_for(lambda: container.output == "ready\n")
    pids = json.loads(container.runtime.run("ps", "--format", "json", container.id).out)
    assert len(pids) == 3
    container.runtime.run("kill", "--all", container.id, "KILL")
    container.wait()
    leaks.reap_children()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
