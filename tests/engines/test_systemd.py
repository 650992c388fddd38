"""systemd as the engines' cgroup manager: a container is a scope in a slice, and its limits are the scope's."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.cli import Cli
from tests.engines.containerd import Containerd, ContainerdServer
from tests.engines.cri import RUNNING, CriClient, cri_config
from tests.engines.docker import DockerServer
from tests.engines.engine import Engine, OciRuntime, log_checked, why_missing
from tests.engines.image import Image
from tests.engines.podman import Podman, PodmanStore
from tests.engines.seen import Comparison
from tests.support.runtime import wait_for
from tests.support.systemd import Systemd
from tests.support.unprivileged import (
    FIRST_SUBORDINATE,
    NAME,
    SUBORDINATES,
    UID,
    User,
    cgroup_of,
    delegated_cgroup,
    why_no_ranges,
)

pytestmark = [pytest.mark.systemd, pytest.mark.controllers("cpu", "memory", "pids")]

SYSTEMD = Systemd()
LIMITS = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")


def scope_of(cgroup: str, parent: str) -> str:
    """The scope whose cgroup this is, which has to be in that of the slice."""
    slice_, _, scope = cgroup.rpartition("/")
    assert slice_ == parent
    return scope


def is_frozen(cgroup: str) -> bool:
    return "frozen 1" in Path(f"/sys/fs/cgroup{cgroup}/cgroup.events").read_text()


def shown(unit: str, *names: str) -> dict[str, str]:
    """Some of a unit's properties."""
    known = SYSTEMD.show(unit)
    return {name: known[name] for name in names}


class LingeringUser(User):
    """A user whose commands see the machine's mounts: one of these, which came later than the tests' own mount
    namespace, is the runtime directory."""

    def argv(self, *command: str) -> tuple[str, ...]:
        return ("nsenter", "--mount=/proc/1/ns/mnt", *User.argv(self, *command))


@pytest.fixture(scope="module")
def rootless_store(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[PodmanStore]:
    """Podman's for an ordinary user who has a systemd of his own: an account that is made on the machine."""
    if "OCIRT_VM" not in os.environ:
        pytest.skip("makes an account: only in the virtual machine")
    if reason := why_missing("podman", "conmon") or why_no_ranges():
        pytest.skip(reason)
    user = LingeringUser.make(scratch / "lingering")
    manager = f"user.slice/user-{user.uid}.slice/user@{user.uid}.service"
    subprocess.run(["useradd", "--uid", str(user.uid), "--home-dir", str(user.home), NAME], check=True)
    for path in ("/etc/subuid", "/etc/subgid"):
        Path(path).write_text(f"{NAME}:{FIRST_SUBORDINATE}:{SUBORDINATES}\n")
    subprocess.run(["loginctl", "enable-linger", NAME], check=True)
    runtime_directory = f"/run/user/{user.uid}"
    wait_for(Path(f"/proc/1/root{runtime_directory}/bus").exists, 60)
    env = {"XDG_RUNTIME_DIR": runtime_directory, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime_directory}/bus"}
    with delegated_cgroup(replace(user, env=env), f"{manager}/{token}session") as session:
        engine = Engine(user.home, f"{token}sysless", systemd=True)
        with PodmanStore(engine, runtimes.values(), session).used() as store:
            store.load(image)
            yield store
    subprocess.run(["loginctl", "disable-linger", NAME], check=True)


@pytest.fixture(scope="module")
def containerd_server(
    scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]
) -> Iterator[ContainerdServer]:
    """One for ctr and for the CRI plugin."""
    if reason := why_missing("containerd", "ctr", "containerd-shim-runc-v2"):
        pytest.skip(reason)
    engine = Engine(scratch / "systemd-containerd", f"{token}sysctrd", systemd=True)
    with ContainerdServer(engine, cri_config(engine, runtimes.values())).running() as server:
        server.load(image)
        server.load(image, "k8s.io")
        yield server


@pytest.fixture(scope="module")
def docker_server(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[DockerServer]:
    if reason := why_missing("dockerd", "docker", "containerd", "containerd-shim-runc-v2"):
        pytest.skip(reason)
    engine = Engine(scratch / "systemd-docker", f"{token}sysdock", systemd=True)
    with DockerServer(engine, runtimes.get("ocirt")).running() as server:
        server.load(image)
        yield server


@pytest.fixture(scope="module")
def podman_store(scratch: Path, token: str, image: Image, runtimes: dict[str, OciRuntime]) -> Iterator[PodmanStore]:
    if reason := why_missing("podman", "conmon"):
        pytest.skip(reason)
    engine = Engine(scratch / "systemd-podman", f"{token}syspodm", systemd=True)
    with PodmanStore(engine, runtimes.values()).used() as store:
        store.load(image)
        yield store


@pytest.mark.feature("docker, podman", "systemd makes the cgroups: limits, update, pause")
def test_a_container_is_a_scope(cli: Cli, seen: Comparison) -> None:
    cli.hold("one", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "30")
    cgroup = cgroup_of(cli.pid("one"))
    scope = scope_of(cgroup, f"/{cli.engine.cgroup_parent}")
    assert re.fullmatch(r"(docker|libpod)-[0-9a-f]{64}\.scope", scope)
    limits = shown(scope, *LIMITS)
    seen.same("limits", limits)
    assert limits == {"MemoryMax": "67108864", "TasksMax": "30", "CPUQuotaPerSecUSec": "500ms"}
    cli("update", "--cpus", "0.25", "--memory", "128m", "--memory-swap", "256m", "one")
    # What systemd writes anew is what it knows.
    SYSTEMD.reload()
    assert shown(scope, *LIMITS) == {"MemoryMax": "134217728", "TasksMax": "30", "CPUQuotaPerSecUSec": "250ms"}
    assert Path(f"/sys/fs/cgroup{cgroup}/memory.max").read_text() == "134217728\n"
    cli("pause", "one")
    assert is_frozen(cgroup)
    cli("unpause", "one")
    assert not is_frozen(cgroup)
    cli("rm", "--force", "one")
    wait_for(lambda: not SYSTEMD.exists(scope))


@pytest.mark.feature("podman rootless", "systemd makes the cgroups: limits, update, pause")
def test_a_user_s_container_is_a_scope_of_the_user_s_systemd(rootless: Podman) -> None:
    rootless.hold("one", "--memory", "64m", "--pids-limit", "30")
    cgroup = cgroup_of(rootless.pid("one"))
    scope = scope_of(cgroup, f"/user.slice/user-{UID}.slice/user@{UID}.service/user.slice")
    assert re.fullmatch(r"libpod-[0-9a-f]{64}\.scope", scope)

    def limits() -> dict[str, str]:
        return {name: Path(f"/sys/fs/cgroup{cgroup}/{name}").read_text() for name in ("memory.max", "pids.max")}

    assert limits() == {"memory.max": "67108864\n", "pids.max": "30\n"}
    rootless("update", "--memory", "128m", "--memory-swap", "256m", "one")
    assert limits() == {"memory.max": "134217728\n", "pids.max": "30\n"}
    rootless("pause", "one")
    assert is_frozen(cgroup)
    rootless("unpause", "one")
    rootless("rm", "--force", "one")
    wait_for(lambda: not Path(f"/sys/fs/cgroup{cgroup}").exists())


@pytest.mark.feature("containerd", "systemd makes the cgroups: limits, update, pause")
def test_ctr_has_the_runtime_use_systemd(containerd: Containerd) -> None:
    parent = containerd.server.engine.cgroup_parent
    place = ("--runc-systemd-cgroup", "--cgroup", f"{parent}:ctr:one")
    containerd.hold("one", *place, "--memory-limit", "67108864")
    assert scope_of(cgroup_of(containerd.pid("one")), f"/{parent}") == "ctr-one.scope"
    assert shown("ctr-one.scope", "MemoryMax") == {"MemoryMax": "67108864"}
    containerd.ctr("task", "pause", "one")
    assert containerd.status("one") == "PAUSED"
    containerd.ctr("task", "resume", "one")
    containerd.ctr("task", "kill", "--signal", "TERM", "one")
    wait_for(lambda: containerd.status("one") == "STOPPED")
    assert "exit code 42" in containerd.ctr("task", "delete", "one").err
    assert not SYSTEMD.exists("ctr-one.scope")


@pytest.mark.feature("containerd", "CRI: SystemdCgroup = true")
def test_a_pod_s_containers_are_scopes(
    containerd_server: ContainerdServer, runtime: OciRuntime, runc_complaints: dict[str, set[str]]
) -> None:
    pytest.importorskip("grpc", reason="needs grpcio (pip install 'ocirt[engines]')")
    engine = containerd_server.engine
    with contextlib.ExitStack() as stack:
        stack.enter_context(log_checked(engine, runtime, runc_complaints))
        cri = stack.enter_context(CriClient(containerd_server.socket, runtime.name, engine.cgroup_parent))
        pod = cri.run_pod("pod")
        container = cri.create(pod, "pod", "one", "/probe", "hold", linux={1: {4: 64 << 20}})
        cri.start(container)
        scope = f"cri-containerd-{container}.scope"
        assert shown(scope, "MemoryMax", "Slice") == {"MemoryMax": str(64 << 20), "Slice": engine.cgroup_parent}
        cri.update_memory(container, 128 << 20)
        assert shown(scope, "MemoryMax") == {"MemoryMax": str(128 << 20)}
        assert cri.status(container) == (RUNNING, 0)
        cri.stop(container, 10)
        cri.remove(container)
        assert not SYSTEMD.exists(scope)
