"""linux.namespaces: new, shared and joined ones of every kind, and what is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support.bundle import Config, mount_entry, without_namespace
from tests.support.isolation import umount
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

# The names in config.json, and below /proc/PID/ns.
KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "time": "time"}
UNSHARE_FLAGS = {
    "pid": "--pid",
    "network": "--net",
    "ipc": "--ipc",
    "uts": "--uts",
    "cgroup": "--cgroup",
    "time": "--time",
}


def inode(pid: int | str, kind: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{KINDS[kind]}").st_ino


def set_namespace(config: Config, kind: str, path: str | Path | None = None) -> None:
    """Adds or replaces an entry of linux.namespaces."""
    without_namespace(config, kind)
    entry = {"type": kind} if path is None else {"type": kind, "path": str(path)}
    config["linux"]["namespaces"].append(entry)


@contextlib.contextmanager
def holder(kind: str) -> Iterator[Path]:
    """A process in a namespace of its own; the path of that namespace."""
    name = f"{KINDS[kind]}_for_children" if kind in ("pid", "time") else KINDS[kind]
    fork = ["--fork", "--kill-child"] if kind == "pid" else []
    command = ["unshare", UNSHARE_FLAGS[kind], *fork, "sh", "-c", "echo; exec sleep 1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield Path(f"/proc/{process.pid}/ns/{name}")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.common
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "time"])
def test_new_namespace(container: Container, kind: str) -> None:
    set_namespace(container.config, kind)
    assert container.facts()["namespaces"][KINDS[kind]] != inode("self", kind)


@pytest.mark.common
@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "cgroup"])
def test_namespace_that_is_not_named_is_shared(container: Container, kind: str) -> None:
    without_namespace(container.config, kind)
    if kind == "ipc":
        container.config["mounts"] = [entry for entry in container.mounts if entry["type"] != "mqueue"]
    if kind == "network":
        container.config["mounts"] = [entry for entry in container.mounts if entry["type"] != "sysfs"]
    assert container.facts()["namespaces"][KINDS[kind]] == inode("self", kind)


@pytest.mark.common
def test_shared_uts_namespace(container: Container) -> None:
    without_namespace(container.config, "uts")
    del container.config["hostname"]
    assert container.facts()["hostname"] == socket.gethostname()


@pytest.mark.common
@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_joined_namespace(container: Container, kind: str) -> None:
    with holder(kind) as path:
        set_namespace(container.config, kind, path)
        if kind == "uts":
            del container.config["hostname"]
        if kind == "cgroup":
            container.config["mounts"] = [entry for entry in container.mounts if entry["type"] != "cgroup"]
        assert container.facts()["namespaces"][KINDS[kind]] == path.stat().st_ino


@pytest.mark.common
def test_joined_pid_namespace(container: Container) -> None:
    with holder("pid") as path:
        set_namespace(container.config, "pid", path)
        facts = container.facts()
        assert facts["namespaces"]["pid"] == path.stat().st_ino
        assert facts["pid"] > 1


def test_joined_time_namespace(container: Container) -> None:
    with holder("time") as path:
        set_namespace(container.config, "time", path)
        assert container.facts()["namespaces"]["time"] == path.stat().st_ino


def test_joined_mount_namespace(container: Container) -> None:
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs marked /mnt; echo; exec sleep 1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        path = f"/proc/{process.pid}/ns/mnt"
        set_namespace(container.config, "mount", path)
        expected = os.stat(path).st_ino
        container.create()
        assert inode(container.pid, "mount") == expected
        container.delete("--force")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.common
def test_container_joins_anothers_namespaces(container: Container, new: NewContainer) -> None:
    """A pod: the second container shares the first's network, ipc, uts and pid."""
    container.hold()
    other = new()
    del other.config["hostname"]
    for kind in ("network", "ipc", "uts", "pid"):
        set_namespace(other.config, kind, f"/proc/{container.pid}/ns/{KINDS[kind]}")
    facts = other.facts()
    for kind in ("network", "ipc", "uts", "pid"):
        assert facts["namespaces"][KINDS[kind]] == inode(container.pid, kind)
    assert facts["hostname"] == "container"


@pytest.mark.common
def test_bind_mounted_namespace(container: Container) -> None:
    """As `ip netns add` makes them: the namespace has no process."""
    target = container.bundle / "netns"
    target.touch()
    subprocess.run(["unshare", f"--net={target}", "true"], check=True, stdin=subprocess.DEVNULL)
    try:
        set_namespace(container.config, "network", target)
        assert container.facts()["namespaces"]["net"] == target.stat().st_ino
    finally:
        umount(str(target))


@pytest.mark.common
def test_loopback_is_up_in_a_new_network_namespace(container: Container) -> None:
    container.shell("cat /sys/class/net/lo/flags")
    assert int(container.run().out, 16) & 1


@pytest.mark.common
@pytest.mark.parametrize(("kind", "other"), [("network", "ipc"), ("ipc", "uts"), ("uts", "network"), ("cgroup", "ipc")])
def test_path_of_another_kind(container: Container, kind: str, other: str) -> None:
    set_namespace(container.config, kind, f"/proc/self/ns/{KINDS[other]}")
    container.config.pop("hostname", None)
    container.refused()


@pytest.mark.common
@pytest.mark.parametrize("path", ["/nowhere/ns", "/etc/passwd", "/", "relative/ns"])
def test_path_that_is_no_namespace(container: Container, path: str) -> None:
    set_namespace(container.config, "network", path)
    container.refused()


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "pid", "mount"])
def test_wrong_path_names_its_pointer(container: Container, kind: str) -> None:
    set_namespace(container.config, kind, "/nowhere/ns")
    container.config.pop("hostname", None)
    error = container.refused()
    assert f"/linux/namespaces/{len(container.linux['namespaces']) - 1}" in error
    assert "no such file or directory" in error


@pytest.mark.common
def test_duplicate_namespace(container: Container) -> None:
    container.linux["namespaces"].append({"type": "pid"})
    container.refused()


@pytest.mark.common
def test_unknown_namespace(container: Container) -> None:
    container.linux["namespaces"].append({"type": "planet"})
    container.refused()


@pytest.mark.common
def test_hostname_needs_a_uts_namespace(container: Container) -> None:
    without_namespace(container.config, "uts")
    name = socket.gethostname()
    container.config["hostname"] = "other"
    container.refused()
    assert socket.gethostname() == name


def test_domainname_needs_a_uts_namespace(container: Container) -> None:
    without_namespace(container.config, "uts")
    del container.config["hostname"]
    container.config["domainname"] = "other"
    assert "/domainname" in container.refused()


def test_time_offsets(container: Container) -> None:
    set_namespace(container.config, "time")
    container.linux["timeOffsets"] = {"monotonic": {"secs": 100000, "nanosecs": 0}, "boottime": {"secs": 500000}}
    facts = container.facts()
    assert facts["namespaces"]["time"] != inode("self", "time")
    assert abs(facts["monotonic"] - 100000 - time.clock_gettime(time.CLOCK_MONOTONIC)) < 5
    assert abs(facts["boottime"] - 500000 - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


def test_time_offsets_reach_exec(container: Container) -> None:
    set_namespace(container.config, "time")
    container.linux["timeOffsets"] = {"boottime": {"secs": 500000}}
    container.hold()
    assert container.exec_facts()["boottime"] > 500000


def test_time_offset_that_the_kernel_refuses_names_its_pointer(container: Container) -> None:
    set_namespace(container.config, "time")
    container.linux["timeOffsets"] = {"monotonic": {"secs": -(10**9)}}
    assert "/linux/timeOffsets" in container.refused()


def test_time_offsets_need_a_time_namespace(container: Container) -> None:
    container.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    assert "/linux/timeOffsets" in container.refused()


@pytest.mark.common
def test_cgroup_namespace_hides_the_hosts_path(container: Container) -> None:
    container.mounts.append(mount_entry("/sys/fs/cgroup", "cgroup", None, "ro", "nosuid", "noexec", "nodev"))
    facts = container.facts()
    assert "0::/" in facts["cgroup"].splitlines()
    assert facts.mount("/sys/fs/cgroup").kind == "cgroup2"
    assert facts.mount("/sys/fs/cgroup").root == "/"


@pytest.mark.common
def test_init_is_in_a_cgroup_of_its_own(container: Container) -> None:
    container.create()
    entry = next(
        line for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines() if line.startswith("0::")
    )
    assert container.id in entry
    folder = Path("/sys/fs/cgroup") / entry.removeprefix("0::/")
    assert folder.is_dir()
    container.delete("--force")
    container.wait()
    assert not folder.exists()
