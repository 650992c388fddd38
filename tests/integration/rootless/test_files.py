"""What an ordinary user can mount, bind and set, and what he cannot."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.rootless.conftest import NewUserContainer
from tests.support.bundle import bind_entry, mount_entry, without_namespace
from tests.support.isolation import mount, umount
from tests.support.runtime import Container
from tests.support.unprivileged import (
    FIRST_SUBORDINATE,
    SUBORDINATES,
    UID,
    User,
    map_ranges,
    why_no_ranges,
)

pytestmark = [pytest.mark.root]

needs_ranges = pytest.mark.skipif(why_no_ranges() is not None, reason=str(why_no_ranges()))
OTHER_GROUP = 54399


# ---- the network, and the kernel's file systems


@pytest.mark.common
def test_own_network(rootless: Container) -> None:
    """In a network namespace of his own the user has all rights: sysfs can be mounted, and the loopback is up."""
    rootless.linux["namespaces"].append({"type": "network"})
    rootless.config["mounts"] = [entry for entry in rootless.mounts if entry["destination"] != "/sys"]
    rootless.mounts.append(mount_entry("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"))
    rootless.shell("ls /sys/class/net; cat /sys/class/net/lo/flags")
    assert rootless.run().out.split() == ["lo", "0x9"]


@pytest.mark.common
def test_sysfs_of_the_hosts_network(rootless: Container, runtime_name: str) -> None:
    """It cannot be mounted. ocirt binds the host's, read-only, and says so; runc refuses it."""
    rootless.config["mounts"] = [entry for entry in rootless.mounts if entry["destination"] != "/sys"]
    rootless.mounts.append(mount_entry("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev"))
    rootless.process["args"] = ["/probe"]
    if runtime_name != "ocirt":
        rootless.refused()
        return
    facts = rootless.facts()
    assert facts.mount("/sys").kind == "sysfs"
    below = [entry for entry in facts.mounts() if entry.point == "/sys" or entry.point.startswith("/sys/")]
    assert all("ro" in entry.options for entry in below)


@pytest.mark.cgroup
def test_cgroups_of_the_host_are_read_only(rootless: Container, user: User) -> None:
    """What the user may write to as himself, his container may not (CVE-2023-25809)."""
    without_namespace(rootless.config, "cgroup")
    rootless.mounts.append(mount_entry("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw"))
    assert "ro" in rootless.facts().mount("/sys/fs/cgroup").options


@pytest.mark.common
def test_mqueue(rootless: Container) -> None:
    assert rootless.facts().mount("/dev/mqueue").kind == "mqueue"


@pytest.mark.common
def test_terminals_with_a_group_that_is_not_mapped(rootless: Container, runtime_name: str) -> None:
    devpts = next(entry for entry in rootless.mounts if entry["destination"] == "/dev/pts")
    devpts["options"].append("gid=5")
    error = rootless.refused()
    if runtime_name == "ocirt":
        assert f"/mounts/{rootless.mounts.index(devpts)}/options/{len(devpts['options']) - 1}" in error
        assert "gid=5" in error


@pytest.mark.common
def test_namespaces_without_a_user_namespace(rootless: Container, runtime_name: str) -> None:
    without_namespace(rootless.config, "user")
    del rootless.linux["uidMappings"], rootless.linux["gidMappings"]
    error = rootless.refused()
    assert "rootless container requires" in error.lower() or runtime_name == "runc"


@pytest.mark.common
def test_netdevices_need_privileges_over_the_host(rootless: Container) -> None:
    rootless.linux["namespaces"].append({"type": "network"})
    rootless.linux["netDevices"] = {"lo": {"name": "moved"}}
    if rootless.runtime.name == "runc":
        pytest.skip("runc 1.1 does not know them")
    assert "/linux/netDevices" in rootless.refused()


# ---- files


@pytest.mark.common
def test_bind_mount_of_the_users_files(rootless: Container, user: User) -> None:
    folder = user.home / "data"
    folder.mkdir(mode=0o700)
    (folder / "file").write_text("text\n")
    user.own(folder, folder / "file")
    rootless.mounts.append(bind_entry(folder, "/mnt/data"))
    rootless.mounts.append(bind_entry(folder / "file", "/mnt/file", "ro"))
    rootless.shell(
        "cat /mnt/data/file /mnt/file; echo new > /mnt/data/new; stat -c %u /mnt/data/new; echo x > /mnt/file"
    )
    result = rootless.run(check=False)
    assert result.out == "text\ntext\n0\n"
    assert "Read-only file system" in result.err
    assert (folder / "new").stat().st_uid == UID


@pytest.mark.common
def test_bind_mount_that_the_user_may_not_reach(rootless: Container, scratch: Path, runtime_name: str) -> None:
    closed = rootless.bundle / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    os.chown(closed, 0, 0)
    rootless.mounts.append(bind_entry(closed / "inner", "/mnt/inner"))
    error = rootless.refused()
    if runtime_name == "ocirt":
        assert f"/mounts/{len(rootless.mounts) - 1}: " in error
        assert "permission denied" in error


@pytest.mark.common
def test_bundle_in_the_users_closed_home(rootless: Container, user: User) -> None:
    """Closed to everybody else, root of the container included only as far as he is the user."""
    user.home.chmod(0o700)
    bundle = user.home / "bundle"
    rootless.bundle.rename(bundle)
    rootless.bundle = bundle
    assert rootless.facts()["uids"] == [0, 0, 0]


@needs_ranges
@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1's init opens its root filesystem as the container's root")
def test_closed_home_and_root_who_is_not_the_user(user: User, as_user: NewUserContainer) -> None:
    """The container's root is of the subordinate ids, and may not enter the user's home; as for a bind mount."""
    container = as_user(user.with_account())
    for kind in ("uidMappings", "gidMappings"):
        container.linux[kind] = [{"containerID": 0, "hostID": FIRST_SUBORDINATE, "size": SUBORDINATES}]
    bundle = user.home / "bundle"
    container.bundle.rename(bundle)
    container.bundle = bundle
    os.chown(container.rootfs, FIRST_SUBORDINATE, FIRST_SUBORDINATE)
    for folder in ("proc", "dev", "sys"):
        os.chown(container.rootfs / folder, FIRST_SUBORDINATE, FIRST_SUBORDINATE)
    bundle.chmod(0o700)
    assert container.facts()["uids"] == [0, 0, 0]


@pytest.mark.common
@pytest.mark.parametrize("read_only", [False, True])
def test_root_filesystem_on_a_restricted_mount(rootless: Container, read_only: bool) -> None:
    """nosuid and nodev, as /run/user/UID is: the user namespace may not clear them, and nobody asks for that."""
    place = rootless.bundle / "mounted"
    place.mkdir()
    mount("tmpfs", str(place), "tmpfs", 0x2 | 0x4, "mode=755")
    try:
        subprocess.run(["cp", "-a", f"{rootless.rootfs}/.", str(place)], check=True)
        os.chown(place, UID, UID)
        rootless.config["root"] = {"path": str(place), "readonly": read_only}
        options = rootless.facts().mount("/").options
    finally:
        umount(str(place))
    assert {"nosuid", "nodev", "ro" if read_only else "rw"} <= options


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 clears the flags and is refused")
def test_bind_mount_keeps_locked_flags(rootless: Container) -> None:
    place = rootless.bundle / "mounted"
    place.mkdir()
    mount("tmpfs", str(place), "tmpfs", 0x2 | 0x4 | 0x8, "mode=755")  # nosuid, nodev, noexec
    try:
        rootless.mounts.append(bind_entry(place, "/mnt/place", "ro"))
        options = rootless.facts().mount("/mnt/place").options
    finally:
        umount(str(place))
    assert {"ro", "nosuid", "nodev", "noexec"} <= options


@pytest.mark.common
def test_devices_are_the_hosts(rootless: Container) -> None:
    rootless.linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse")
    facts = rootless.facts("/dev/null", "/dev/zero", "/dev/tty", "/dev/fuse", "/dev/ptmx", "/dev/fd")
    assert facts.path("/dev/null")["rdev"] == [1, 3]
    assert facts.path("/dev/zero")["read_errno"] == 0
    assert facts.path("/dev/tty")["rdev"] == [5, 0]
    assert facts.path("/dev/fuse")["rdev"] == [10, 229]
    assert facts.path("/dev/ptmx")["target"] == "pts/ptmx"
    assert facts.path("/dev/fd")["target"] == "/proc/self/fd"


@pytest.mark.common
def test_device_that_the_host_lacks(rootless: Container, runtime_name: str) -> None:
    rootless.linux["devices"] = [{"path": "/dev/no-such-device", "type": "c", "major": 10, "minor": 250}]
    error = rootless.refused()
    assert runtime_name != "ocirt" or "/linux/devices/0: " in error


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 binds whatever is at that path")
def test_device_that_is_another_on_the_host(rootless: Container) -> None:
    """The config's numbers count: what is bound must be what was asked for."""
    rootless.linux["devices"] = [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 3}]
    rootless.refused()


@needs_ranges
@pytest.mark.common
def test_bind_source_that_a_group_of_the_user_opens(user: User, as_user: NewUserContainer, runtime_name: str) -> None:
    """The groups are dropped in the container; what is bound was opened with them."""
    shared = user.home / "shared"
    (shared / "inner").mkdir(parents=True)
    (shared / "inner/file").write_text("text\n")
    os.chown(shared, 0, OTHER_GROUP)
    shared.chmod(0o750)
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    container.mounts.append(bind_entry(shared / "inner", "/mnt"))
    container.shell("cat /mnt/file; id -G")
    assert container.run().out == "text\n0\n" or runtime_name == "runc"


@pytest.mark.common
def test_shared_pid_namespace(rootless: Container, runtime_name: str) -> None:
    """A procfs of the host's processes cannot be mounted. ocirt binds the host's; runc refuses it."""
    without_namespace(rootless.config, "pid")
    if runtime_name != "ocirt":
        rootless.refused()
        return
    facts = rootless.facts()
    assert facts["namespaces"]["pid"] == os.stat("/proc/self/ns/pid").st_ino
    assert facts.mount("/proc").kind == "proc"
    assert "ro" in facts.mount("/proc/sys").options


@pytest.mark.common
def test_shared_ipc_namespace(rootless: Container, runtime_name: str) -> None:
    without_namespace(rootless.config, "ipc")
    if runtime_name != "ocirt":
        rootless.refused()
        return
    if os.path.ismount("/dev/mqueue"):
        assert rootless.facts().mount("/dev/mqueue").kind == "mqueue"
    else:
        index = next(i for i, entry in enumerate(rootless.mounts) if entry["type"] == "mqueue")
        assert f"/mounts/{index}: " in rootless.refused()


# ---- what else needs privileges


@pytest.mark.common
def test_limits_within_the_users_own(rootless: Container) -> None:
    rootless.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    assert rootless.facts()["rlimits"]["NOFILE"] == [100, 200]


@pytest.mark.common
def test_oom_score_can_be_raised(rootless: Container) -> None:
    rootless.process["oomScoreAdj"] = 500
    assert rootless.facts()["oom_score_adj"] == "500\n"


def test_oom_score_cannot_be_lowered(rootless: Container) -> None:
    rootless.process["oomScoreAdj"] = -500
    error = rootless.refused()
    assert "/process/oomScoreAdj: " in error
    assert "permission denied (lowering the score needs CAP_SYS_RESOURCE, which this runtime lacks)" in error


def test_clocks(rootless: Container) -> None:
    rootless.linux["namespaces"].append({"type": "time"})
    rootless.linux["timeOffsets"] = {"boottime": {"secs": 500000}}
    rootless.hold()
    assert rootless.exec_facts()["boottime"] > 500000


@pytest.mark.common
def test_capabilities_are_of_the_namespace(rootless: Container) -> None:
    sets = ("bounding", "effective", "permitted")
    rootless.process["capabilities"] = {kind: ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"] for kind in sets}
    facts = rootless.facts()
    assert facts.capabilities("effective") == {"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}


@pytest.mark.common
def test_hooks_run_as_the_user(rootless: Container, user: User) -> None:
    seen = user.home / "seen"
    rootless.config["hooks"] = {
        "createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", f"id -u > {seen}; cat /proc/self/uid_map >> {seen}"]}
        ],
    }
    rootless.shell("true")
    rootless.run()
    assert seen.read_text().split() == [str(UID), "0", "0", "4294967295"]


@pytest.mark.common
def test_seccomp(rootless: Container) -> None:
    rootless.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    for no_new_privileges in (True, False):
        rootless.process["noNewPrivileges"] = no_new_privileges
        rootless.process["args"] = ["/probe", "call", "getpriority"]
        assert json.loads(rootless.run().out)["errno"] == 95


def test_idmapped_mount_is_refused(rootless: Container, user: User) -> None:
    mapping = [{"containerID": 0, "hostID": UID, "size": 1}]
    rootless.mounts.append(bind_entry(user.home, "/mnt") | {"uidMappings": mapping, "gidMappings": mapping})
    error = rootless.refused()
    assert f"/mounts/{len(rootless.mounts) - 1}: " in error
    assert "rootless" in error


def test_plan_and_validate(rootless: Container) -> None:
    """They need no privileges, and `plan` shows what a user's `create` does: the sources are opened from inside."""
    rootless.write_config()
    plan = rootless.runtime.run("plan", rootless.bundle).out
    lines = plan.splitlines()
    entered = next(index for index, line in enumerate(lines) if "map the user namespace's ids" in line)
    assert f"open {rootless.rootfs} as tree" in lines[entered + 1]
    assert rootless.runtime.run("validate", rootless.bundle).rc == 0
