"""User namespaces that are joined by path, together with other namespaces, whoever these belong to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import NewContainer
from tests.support.bundle import Config, bind_entry, use_user_namespace, without_namespace
from tests.support.held import FIRST_ID, Held, held, mounted
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

# What a pod's containers share.
SHARED = ("network", "ipc", "uts")


def join(config: Config, namespaces: Held, *kinds: str) -> None:
    """Joins namespaces; the mappings go with the user namespace, as engines have it."""
    for kind in kinds:
        without_namespace(config, kind)
        config["linux"]["namespaces"].append(namespaces.entry(kind))
    if "uts" in kinds:
        config.pop("hostname", None)


def own(container: Container) -> Container:
    """Gives the root filesystem's folders to the root of the user namespaces here."""
    for folder in ("", "proc", "dev", "sys", "etc", "tmp", "root", "run"):
        os.chown(container.rootfs / folder, FIRST_ID, FIRST_ID)
    return container


@pytest.fixture
def joiner(container: Container) -> Container:
    """A container to be, that will join a user namespace."""
    own(container)
    for kind in ("uidMappings", "gidMappings"):
        container.linux[kind] = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
    return container


@pytest.fixture
def namespaces() -> Iterator[Held]:
    """A user namespace, and the others of a pod that belong to it."""
    with held("user", *SHARED, "pid") as found:
        yield found


@pytest.fixture
def hosts() -> Iterator[Held]:
    """The namespaces of a pod, which belong to the machine's own user namespace."""
    with held(*SHARED, "pid") as found:
        yield found


@pytest.mark.common
def test_by_the_path_of_a_process(joiner: Container, namespaces: Held) -> None:
    join(joiner.config, namespaces, "user")
    facts = joiner.facts()
    assert facts["namespaces"]["user"] == namespaces.inode("user")
    assert facts["uids"] == [0, 0, 0]
    assert facts["uid_map"].split() == ["0", str(FIRST_ID), "65536"]


@pytest.mark.common
def test_by_a_bind_mounted_file(joiner: Container) -> None:
    """The namespace has no process when it is joined: its mappings are found all the same."""
    with held("user") as found, mounted(found.path("user"), joiner.bundle / "userns") as path:
        inode = found.inode("user")
        without_namespace(joiner.config, "user")
        joiner.linux["namespaces"].append({"type": "user", "path": str(path)})
        joiner.process["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}
        facts = joiner.facts()
    assert facts["namespaces"]["user"] == inode
    assert (facts["uids"], facts["gids"], facts["groups"]) == ([5] * 3, [6] * 3, [7])


def test_a_bind_mounted_file_without_processes(joiner: Container) -> None:
    """And without mappings in the config."""
    del joiner.linux["uidMappings"], joiner.linux["gidMappings"]
    target = joiner.bundle / "userns"
    with held("user") as found:
        context = mounted(found.path("user"), target)
        path = context.__enter__()
    try:
        joiner.linux["namespaces"].append({"type": "user", "path": str(path)})
        facts = joiner.facts()
        joiner.process["user"] = {"uid": 70000, "gid": 0}
        assert "/process/user/uid: 70000 is not mapped" in joiner.refused()
    finally:
        context.__exit__(None, None, None)
    assert facts["uid_map"].split() == ["0", str(FIRST_ID), "65536"]


@pytest.mark.common("crun")
def test_pod_of_the_user_namespace(joiner: Container, namespaces: Held) -> None:
    """All of it belongs to the user namespace: procfs, sysfs and mqueue can be mounted anew."""
    join(joiner.config, namespaces, "user", *SHARED, "pid")
    facts = joiner.facts()
    for kind, name in (("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")):
        assert facts["namespaces"][name] == namespaces.inode(kind)
    assert (facts.mount("/proc").kind, facts.mount("/sys").kind) == ("proc", "sysfs")
    assert facts.mount("/dev/mqueue").kind == "mqueue"
    assert facts["pid"] > 1


@pytest.mark.parametrize("order", [("user", *SHARED), (*SHARED, "user"), ("network", "user", "uts", "ipc")])
def test_order_of_the_entries(joiner: Container, namespaces: Held, order: tuple[str, ...]) -> None:
    join(joiner.config, namespaces, *order)
    facts = joiner.facts()
    assert facts["namespaces"]["net"] == namespaces.inode("network")


def test_rights_over_a_network_of_the_user_namespace(joiner: Container, namespaces: Held) -> None:
    join(joiner.config, namespaces, "user", *SHARED)
    sets = ("bounding", "effective", "permitted")
    joiner.process["capabilities"] = {kind: ["CAP_NET_ADMIN"] for kind in sets}
    joiner.shell("ip link set lo up && cat /sys/class/net/lo/flags")
    assert joiner.run().out == "0x9\n"


def test_network_of_the_machines_user_namespace(joiner: Container, namespaces: Held, hosts: Held) -> None:
    """It is joined, but the container has no rights over it: the host's sysfs stands for one of its own."""
    join(joiner.config, namespaces, "user")
    join(joiner.config, hosts, "network")
    sets = ("bounding", "effective", "permitted")
    joiner.process["capabilities"] = {kind: ["CAP_NET_ADMIN"] for kind in sets}
    facts = joiner.facts()
    assert facts["namespaces"]["net"] == hosts.inode("network")
    assert "ro" in facts.mount("/sys").options
    joiner.shell("ip link set lo up; echo $?")
    assert joiner.run().out.strip() not in ("", "0")


def test_new_user_namespace_and_a_network_of_the_machines(container: Container, hosts: Held) -> None:
    """As an engine does that makes networks itself (`ip netns add`)."""
    own(container)
    use_user_namespace(container.config)
    join(container.config, hosts, "network")
    facts = container.facts()
    assert facts["namespaces"]["net"] == hosts.inode("network")
    assert "ro" in facts.mount("/sys").options


def test_mqueue_of_a_foreign_ipc_namespace(joiner: Container, namespaces: Held, hosts: Held) -> None:
    join(joiner.config, namespaces, "user")
    join(joiner.config, hosts, "ipc")
    index = next(i for i, entry in enumerate(joiner.mounts) if entry["type"] == "mqueue")
    assert f"/mounts/{index}: mqueue cannot be mounted: the ipc namespace" in joiner.refused()
    del joiner.mounts[index]
    assert joiner.facts()["namespaces"]["ipc"] == hosts.inode("ipc")


def test_proc_of_a_foreign_pid_namespace(joiner: Container, namespaces: Held, hosts: Held) -> None:
    join(joiner.config, namespaces, "user")
    join(joiner.config, hosts, "pid")
    index = next(i for i, entry in enumerate(joiner.mounts) if entry["type"] == "proc")
    assert f"/mounts/{index}: proc cannot be mounted: the pid namespace" in joiner.refused()


def test_hostname_of_a_foreign_uts_namespace(joiner: Container, namespaces: Held, hosts: Held) -> None:
    """It is another's to name."""
    name = os.uname().nodename
    join(joiner.config, namespaces, "user")
    join(joiner.config, hosts, "uts")
    joiner.config["hostname"] = "other"
    error = joiner.refused()
    assert "/hostname: " in error
    assert "operation not permitted" in error
    assert os.uname().nodename == name


def test_second_container_of_a_pod(container: Container, new: NewContainer) -> None:
    """Its user namespace is the first one's, as are network, ipc, uts and pid; exec reaches both."""
    own(container)
    use_user_namespace(container.config)
    container.hold()
    first = Held(container.pid)
    other = own(new())
    use_user_namespace(other.config)
    for kind in ("user", *SHARED, "pid"):
        without_namespace(other.config, kind)
        name = first.path(kind).name.removesuffix("_for_children")
        other.linux["namespaces"].append({"type": kind, "path": f"/proc/{container.pid}/ns/{name}"})
    del other.config["hostname"]
    other.process["args"] = ["/probe", "hold"]
    other.create()
    other.start()
    facts = other.exec_facts("--user", "5:6", "--additional-gids", "7")
    assert (facts["uids"], facts["gids"], facts["groups"]) == ([5] * 3, [6] * 3, [7])
    for name in ("user", "net", "ipc", "uts", "pid"):
        assert facts["namespaces"][name] == os.stat(f"/proc/{container.pid}/ns/{name}").st_ino
    assert facts["namespaces"]["mnt"] != os.stat(f"/proc/{container.pid}/ns/mnt").st_ino


def test_user_namespace_where_groups_are_denied(joiner: Container) -> None:
    """What cannot be dropped stays, and none can be added."""
    del joiner.linux["uidMappings"], joiner.linux["gidMappings"]
    with held("user", deny_setgroups=True) as found:
        join(joiner.config, found, "user")
        joiner.process["user"]["additionalGids"] = [0]
        assert "/process/user/additionalGids" in joiner.refused()
        del joiner.process["user"]["additionalGids"]
        joiner.hold()
        assert joiner.exec_facts()["setgroups"] == "deny\n"


def test_bind_mounts_in_a_joined_user_namespace(joiner: Container, namespaces: Held) -> None:
    """The runtime opens them, whatever the container's root may reach."""
    closed = joiner.bundle / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner/file").write_text("text\n")
    closed.chmod(0o700)
    join(joiner.config, namespaces, "user")
    joiner.mounts.append(bind_entry(closed / "inner", "/mnt"))
    joiner.shell("cat /mnt/file")
    assert joiner.run().out == "text\n"


def test_idmap_takes_the_mappings_of_a_joined_namespace(joiner: Container, namespaces: Held) -> None:
    source = joiner.bundle / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 3, 4)
    join(joiner.config, namespaces, "user")
    joiner.mounts.append(bind_entry(source, "/mnt", "idmap"))
    facts = joiner.facts("/mnt", "/mnt/file")
    assert (facts.path("/mnt")["uid"], facts.path("/mnt/file")["uid"], facts.path("/mnt/file")["gid"]) == (0, 3, 4)


@pytest.mark.parametrize("joined", [False, True])
def test_time_namespace(container: Container, joined: bool, namespaces: Held) -> None:
    """New clocks belong to the container's user namespace, new or joined."""
    own(container)
    if joined:
        join(container.config, namespaces, "user")
    else:
        use_user_namespace(container.config)
    container.linux["namespaces"].append({"type": "time"})
    container.linux["timeOffsets"] = {"boottime": {"secs": 500000}, "monotonic": {"secs": 7, "nanosecs": 5}}
    container.process["args"] = ["/probe", "hold"]
    container.hold()
    facts = container.exec_facts()
    assert abs(facts["boottime"] - 500000 - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert facts["namespaces"]["time"] == os.stat(f"/proc/{container.pid}/ns/time").st_ino


def test_mount_namespace_of_the_user_namespace(joiner: Container) -> None:
    """A mount namespace that belongs to the joined user namespace, with the root filesystem from outside of it."""
    with held("user", "mount") as found:
        join(joiner.config, found, "user", "mount")
        inode = found.inode("mount")
        joiner.create()
        assert os.stat(f"/proc/{joiner.pid}/ns/mnt").st_ino == inode
        joiner.start()
        joiner.wait()
    assert '"uids":[0,0,0]' in joiner.output


def test_path_that_is_no_user_namespace(joiner: Container, namespaces: Held) -> None:
    joiner.linux["namespaces"].append({"type": "user", "path": str(namespaces.path("network"))})
    error = joiner.refused()
    assert f"/linux/namespaces/{len(joiner.linux['namespaces']) - 1}/path" in error
    assert "a namespace of type network" in error
