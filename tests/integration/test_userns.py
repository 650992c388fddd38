"""User namespaces: new ones with mappings, joined ones, and what a container in one can and cannot do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support.bundle import bind_entry, use_user_namespace
from tests.support.facts import Facts
from tests.support.isolation import mount, umount
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def user_container(container: Container) -> Container:
    """In a user namespace, whose root owns its root filesystem's folders as an engine would see to."""
    use_user_namespace(container.config)
    for folder in ("", "proc", "dev", "sys", "etc", "tmp", "root", "home", "home/user", "run"):
        os.chown(container.rootfs / folder, 100000, 100000)
    return container


@pytest.mark.common
def test_mapping(user_container: Container) -> None:
    facts = user_container.facts("/tmp")
    assert facts["uid_map"].split() == ["0", "100000", "65536"]
    assert facts["gid_map"].split() == ["0", "100000", "65536"]
    assert facts["uids"] == [0, 0, 0]
    assert facts["namespaces"]["user"] != os.stat("/proc/self/ns/user").st_ino
    assert facts.path("/tmp")["uid"] == 0


@pytest.mark.common
def test_several_ranges(user_container: Container) -> None:
    for kind in ("uidMappings", "gidMappings"):
        user_container.linux[kind] = [
            {"containerID": 0, "hostID": 100000, "size": 1000},
            {"containerID": 1000, "hostID": 1000, "size": 1},
            {"containerID": 1001, "hostID": 201001, "size": 2000},
        ]
    lines = [line.split() for line in user_container.facts()["uid_map"].splitlines()]
    assert lines == [["0", "100000", "1000"], ["1000", "1000", "1"], ["1001", "201001", "2000"]]


@pytest.mark.common
def test_init_on_the_host(user_container: Container) -> None:
    user_container.process["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}
    user_container.hold()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{user_container.pid}/status").read_text().splitlines())
    assert status["Uid"].split() == ["100005"] * 4
    assert status["Gid"].split() == ["100006"] * 4
    assert "100007" in status["Groups"].split()


@pytest.mark.common
def test_created_init_belongs_to_the_mapped_root(user_container: Container) -> None:
    user_container.create()
    status = Path(f"/proc/{user_container.pid}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1]
    assert uid == "100000"


@pytest.mark.common
def test_full_capabilities_are_of_the_namespace_alone(user_container: Container) -> None:
    names = ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_MKNOD"]
    user_container.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    facts = user_container.facts()
    assert facts.capabilities("effective") == set(names)


@pytest.mark.common
def test_default_devices(user_container: Container) -> None:
    """They cannot be made in a user namespace, and are the host's."""
    facts = user_container.facts("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
    numbers = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
    for name, minor in numbers.items():
        assert facts.path(f"/dev/{name}")["rdev"] == [1, minor]
        assert facts.path(f"/dev/{name}")["read_errno"] == 0
    assert facts.path("/dev/tty")["rdev"] == [5, 0]


@pytest.mark.common
def test_mounts_and_masks(user_container: Container) -> None:
    facts = user_container.facts("/proc/keys")
    assert facts.mount("/proc").kind == "proc"
    assert "ro" in facts.mount("/proc/sys").options
    assert facts.path("/proc/keys")["rdev"] == [1, 3]


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 clears the flags and is refused")
def test_bind_mount_keeps_locked_flags(user_container: Container) -> None:
    """A user namespace may not clear nosuid, nodev or noexec of a mount of the host's: the bind mount keeps them."""
    source = user_container.bundle / "source"
    source.mkdir()
    mount("tmpfs", str(source), "tmpfs", 0x2 | 0x4 | 0x8, "mode=755")  # nosuid, nodev, noexec
    try:
        (source / "file").write_text("x")
        user_container.mounts.append(bind_entry(source, "/mnt/source", "ro"))
        (user_container.rootfs / "mnt/source").mkdir(parents=True)
        options = user_container.facts().mount("/mnt/source").options
    finally:
        umount(str(source))
    assert {"ro", "nosuid", "nodev", "noexec"} <= options


@pytest.mark.common
def test_bind_source_below_a_closed_folder(user_container: Container) -> None:
    """The runtime may enter a folder that the container's root may not."""
    source = user_container.bundle / "closed/inner"
    source.mkdir(parents=True)
    (source / "file").write_text("x\n")
    (user_container.bundle / "closed").chmod(0o700)
    (user_container.rootfs / "mnt").mkdir(exist_ok=True)
    os.chown(user_container.rootfs / "mnt", 100000, 100000)
    user_container.mounts.append(bind_entry(source, "/mnt/inner"))
    user_container.shell("cat /mnt/inner/file")
    assert user_container.run().out == "x\n"


@pytest.mark.common
def test_host_files_are_out_of_reach(user_container: Container) -> None:
    secret = user_container.rootfs / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert user_container.facts("/secret").path("/secret")["read_errno"] == 13


@pytest.mark.common
def test_setgroups_is_allowed_for_root(user_container: Container) -> None:
    user_container.process["user"]["additionalGids"] = [10]
    facts = user_container.facts()
    assert facts["setgroups"] == "allow\n"
    assert 10 in facts["groups"]


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 wants mappings for a joined namespace too")
def test_joined_user_namespace(user_container: Container, new: NewContainer) -> None:
    user_container.hold()
    other = new()
    os.chown(other.rootfs, 100000, 100000)
    namespace = f"/proc/{user_container.pid}/ns/user"
    other.linux["namespaces"].append({"type": "user", "path": namespace})
    facts = other.facts()
    assert facts["namespaces"]["user"] == os.stat(namespace).st_ino
    assert facts["uids"] == [0, 0, 0]


@pytest.mark.common
def test_exec_enters_the_user_namespace(user_container: Container) -> None:
    user_container.hold()
    facts = user_container.exec_facts("--user", "5:6")
    assert facts["uids"] == [5, 5, 5]
    assert facts["uid_map"].split() == ["0", "100000", "65536"]


@pytest.mark.common
def test_network_namespace_belongs_to_the_user_namespace(user_container: Container) -> None:
    """CAP_NET_ADMIN of the container is good for its own network."""
    sets = ("bounding", "effective", "permitted")
    user_container.process["capabilities"] = {kind: ["CAP_NET_ADMIN"] for kind in sets}
    user_container.shell("ifconfig lo 127.9.9.9 && ifconfig lo")
    assert "127.9.9.9" in user_container.run().out


@pytest.mark.common
def test_terminal_in_a_user_namespace(user_container: Container) -> None:
    facts = user_container.facts("/dev/pts", "/dev/ptmx")
    assert facts.mount("/dev/pts").kind == "devpts"


@pytest.mark.common
def test_user_that_is_not_mapped(user_container: Container) -> None:
    user_container.process["user"] = {"uid": 70000, "gid": 0}
    user_container.refused()


def test_user_that_is_not_mapped_names_its_pointer(user_container: Container) -> None:
    user_container.process["user"] = {"uid": 70000, "gid": 0}
    assert "/process/user/uid" in user_container.refused()


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 ignores them")
def test_mappings_need_a_user_namespace(container: Container) -> None:
    container.linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    container.refused()


@pytest.mark.common
def test_a_new_user_namespace_needs_mappings(container: Container) -> None:
    container.linux["namespaces"].append({"type": "user"})
    container.refused()


def test_overlapping_mappings_name_their_pointer(container: Container) -> None:
    use_user_namespace(container.config)
    container.linux["uidMappings"].append({"containerID": 10, "hostID": 300000, "size": 10})
    assert "/linux/uidMappings" in container.refused()


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1's init opens its root filesystem as the container's root")
def test_bundle_below_a_closed_folder(user_container: Container) -> None:
    """The runtime's root may enter where the container's root may not: an engine's own folders are 0700."""
    closed = user_container.bundle / "closed"
    closed.mkdir(mode=0o700)
    (user_container.bundle / "rootfs").rename(closed / "rootfs")
    (closed / "data").mkdir()
    (closed / "data/file").write_text("text\n")
    user_container.config["root"]["path"] = "closed/rootfs"
    user_container.mounts.append(bind_entry("closed/data/file", "/mnt/file", "ro"))
    user_container.shell("cat /mnt/file; pwd; touch /tmp/made; stat -c %u /tmp/made")
    (closed / "rootfs/mnt").mkdir(exist_ok=True)
    os.chown(closed / "rootfs/mnt", 100000, 100000)
    assert user_container.run().out == "text\n/\n0\n"
    assert (closed / "rootfs/tmp/made").stat().st_uid == 100000


def test_life_below_a_closed_folder(user_container: Container) -> None:
    user_container.bundle.chmod(0o700)
    user_container.hold()
    facts = user_container.exec_facts("--user", "1000:1000", "--cwd", "/tmp")
    assert (facts["uids"], facts["cwd"], facts.env()["HOME"]) == ([1000] * 3, "/tmp", "/home/user")
    user_container.kill("TERM")
    assert user_container.wait() == 42


# ---- mounts with ids of their own


def idmapped(container: Container, own: int, *options: str) -> Path:
    """Adds a mount of a folder whose files belong to root and to 7:8, mapped to begin at an id of the host's."""
    source = container.bundle / "source"
    source.mkdir(mode=0o777)
    source.chmod(0o777)
    for name, ids in (("root", (0, 0)), ("other", (7, 8)), ("outside", (70000, 70000))):
        (source / name).touch()
        os.chown(source / name, *ids)
    mapping = [{"containerID": 0, "hostID": own, "size": 65536}]
    container.mounts.append(bind_entry(source, "/mnt", *options) | {"uidMappings": mapping, "gidMappings": mapping})
    return source


def owners(facts: Facts, *names: str) -> list[tuple[int, int]]:
    return [(facts.path(f"/mnt/{name}")["uid"], facts.path(f"/mnt/{name}")["gid"]) for name in names]


def test_idmapped_mount_with_the_mappings_of_the_container(user_container: Container) -> None:
    """On disk the files belong to ids from 0 on, in the container too, and on the way to the host's ids."""
    idmapped(user_container, 100000)
    facts = user_container.facts("/mnt/root", "/mnt/other", "/mnt/outside")
    assert owners(facts, "root", "other", "outside") == [(0, 0), (7, 8), (65534, 65534)]


def test_idmapped_mount_with_other_mappings(user_container: Container) -> None:
    idmapped(user_container, 100100)
    facts = user_container.facts("/mnt/root", "/mnt/other")
    assert owners(facts, "root", "other") == [(100, 100), (107, 108)]


def test_what_is_made_in_an_idmapped_mount(user_container: Container) -> None:
    """A file of the container's user 7 is one of the user 7 on disk."""
    source = idmapped(user_container, 100000)
    user_container.process["user"] = {"uid": 7, "gid": 8}
    user_container.shell("touch /mnt/made && stat -c %u:%g /mnt/made")
    assert user_container.run().out == "7:8\n"
    assert ((source / "made").stat().st_uid, (source / "made").stat().st_gid) == (7, 8)


@pytest.mark.parametrize(("option", "below"), [("idmap", 65534), ("ridmap", 3)])
def test_idmap_options_with_a_mount_below(user_container: Container, option: str, below: int) -> None:
    """ridmap maps what is mounted below, too; without it, that is as on the host."""
    source = user_container.bundle / "source"
    (source / "below").mkdir(parents=True)
    mount("tmpfs", str(source / "below"), "tmpfs", 0, "mode=755")
    try:
        for path in (source / "file", source / "below/file"):
            path.touch()
            os.chown(path, 3, 3)
        user_container.mounts.append(bind_entry(source, "/mnt", option))
        facts = user_container.facts("/mnt/file", "/mnt/below/file")
    finally:
        umount(str(source / "below"))
    assert owners(facts, "file", "below/file") == [(3, 3), (below, below)]


def test_mount_mapped_by_ranges(user_container: Container) -> None:
    """crun's option, with an id of the container's user namespace ("@")."""
    source = user_container.bundle / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 3, 3)
    user_container.mounts.append(bind_entry(source, "/mnt", "idmap=uids=3-100050-1;gids=@3-60-1"))
    assert owners(user_container.facts("/mnt/file"), "file") == [(50, 60)]


def test_idmapped_mount_below_a_closed_folder(user_container: Container) -> None:
    source = idmapped(user_container, 100000)
    (source / "root").write_text("text\n")
    user_container.bundle.chmod(0o700)
    user_container.shell("cat /mnt/root")
    assert user_container.run().out == "text\n"


# ---- devices


@pytest.mark.common
def test_device_of_the_config_is_bound(user_container: Container) -> None:
    user_container.linux["devices"] = [{"path": "/dev/tty0", "type": "c", "major": 4, "minor": 0}]
    if not Path("/dev/tty0").exists():
        pytest.skip("no /dev/tty0")
    assert user_container.facts("/dev/tty0").path("/dev/tty0")["rdev"] == [4, 0]


def test_device_with_other_numbers_on_the_host(user_container: Container) -> None:
    user_container.linux["devices"] = [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 3}]
    assert "/linux/devices/0: the host's /dev/zero is c 1:5, not c 1:3" in user_container.refused()


def test_device_that_the_host_lacks(user_container: Container) -> None:
    user_container.linux["devices"] = [{"path": "/dev/none", "type": "c", "major": 1, "minor": 3}]
    error = user_container.refused()
    assert "/linux/devices/0: " in error
    assert "/dev/none: no such file or directory" in error


def test_fifo_of_the_config_is_made(user_container: Container) -> None:
    """The one kind of device file that a user namespace can make."""
    user_container.linux["devices"] = [{"path": "/dev/fifo", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6}]
    facts = user_container.facts("/dev/fifo").path("/dev/fifo")
    assert (facts["type"], facts["mode"], facts["uid"], facts["gid"]) == ("p", 0o640, 5, 6)
