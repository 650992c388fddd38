"""An ordinary user runs containers: with one id or with ranges, with and without a cgroup, and what he cannot do."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support import leaks
from tests.support.bundle import bind_entry, mount_entry, without_namespace
from tests.support.console import FdSocket
from tests.support.isolation import CGROUP, mount, umount
from tests.support.runtime import Container, Runtime, find_runtime, wait_for
from tests.support.unprivileged import (
    FIRST_SUBORDINATE,
    SUBORDINATES,
    UID,
    User,
    give_bundle,
    host_status,
    make_rootless,
    map_own_id,
    map_ranges,
    why_no_ranges,
    why_no_user_namespaces,
)

pytestmark = [pytest.mark.root]

NewUserContainer = Callable[[User], Container]
needs_ranges = pytest.mark.skipif(why_no_ranges() is not None, reason=str(why_no_ranges()))
OTHER_GROUP = 54399
_homes = itertools.count(1)


@pytest.fixture
def user(scratch: Path) -> Iterator[User]:
    user = User.make(scratch / f"home{next(_homes)}")
    if reason := why_no_user_namespaces(user):
        pytest.skip(reason)
    yield user
    subprocess.run(["rm", "-rf", str(user.home)], check=True)


@pytest.fixture
def plain_runtime(request: pytest.FixtureRequest, scratch: Path) -> Runtime:
    """The runtime as root would call it."""
    found = find_runtime(request.getfixturevalue("runtime_name"), scratch / "unused")
    if found is None:
        pytest.skip("not installed")
    return found


@pytest.fixture
def runtime_name(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["runtime"])


@pytest.fixture
def runtime(user: User, plain_runtime: Runtime) -> Runtime:
    """The runtime as the user calls it."""
    user, reached = user.reaching(plain_runtime)
    return user.runtime(reached)


@pytest.fixture
def as_user(new: NewContainer, plain_runtime: Runtime) -> NewUserContainer:
    """Makes rootless containers of a user: `as_user(user)`."""

    def make(user: User) -> Container:
        container = new()
        user, reached = user.reaching(plain_runtime)
        container.runtime = user.runtime(reached)
        give_bundle(container, user)
        make_rootless(container.config, user)
        return container

    return make


@pytest.fixture
def rootless(as_user: NewUserContainer, user: User) -> Container:
    """A container of the user with one id, as `spec --rootless` has it."""
    return as_user(user)


@pytest.fixture
def ranged(as_user: NewUserContainer, user: User) -> Container:
    """A container of the user with 65537 ids."""
    if reason := why_no_ranges():
        pytest.skip(reason)
    container = as_user(user.with_account())
    map_ranges(container.config, user)
    return container


def last_line(error: str) -> str:
    return error.strip().splitlines()[-1]


def cgroup_of(pid: int) -> str:
    """The cgroup v2 of a process, as this process sees it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


# ---- from spec to delete


@pytest.mark.common
def test_spec_rootless_runs(rootless: Container) -> None:
    rootless.runtime.run("spec", "--rootless", "--bundle", rootless.bundle)
    config = json.loads((rootless.bundle / "config.json").read_text())
    rootless.config = config
    rootless.process["terminal"] = False
    facts = rootless.facts("/sys/class/net/lo")
    assert facts["uids"] == [0, 0, 0]
    assert facts["uid_map"].split() == ["0", str(UID), "1"]
    assert facts["gid_map"].split() == ["0", str(UID), "1"]
    assert facts["setgroups"] == "deny\n"
    assert facts["namespaces"]["net"] == os.stat("/proc/self/ns/net").st_ino
    assert facts["namespaces"]["user"] != os.stat("/proc/self/ns/user").st_ino
    assert facts["no_new_privs"] == 1
    assert {"ro", "nosuid", "nodev", "noexec"} <= facts.mount("/sys").options
    assert "ro" in facts.mount("/").options


@pytest.mark.common
def test_spec_rootless_is_of_the_user(rootless: Container) -> None:
    rootless.runtime.run("spec", "--rootless", "--bundle", rootless.bundle)
    path = rootless.bundle / "config.json"
    assert path.stat().st_uid == UID
    linux = json.loads(path.read_text())["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": UID, "size": 1}]
    assert {entry["type"] for entry in linux["namespaces"]} == {"pid", "ipc", "uts", "mount", "cgroup", "user"}


@pytest.mark.common
def test_life_in_steps(rootless: Container) -> None:
    rootless.process["args"] = ["/probe", "hold"]
    rootless.create()
    assert rootless.status == "created"
    assert host_status(rootless.pid)["Uid"] == [str(UID)] * 4
    rootless.start()
    wait_for(lambda: rootless.output == "ready\n")
    assert rootless.status == "running"
    listed = json.loads(rootless.runtime.run("list", "--format", "json").out)
    assert [(entry["id"], entry["pid"], entry["status"]) for entry in listed] == [
        (rootless.id, rootless.pid, "running")
    ]
    assert rootless.exec("/bin/echo", "inside").out == "inside\n"
    rootless.kill("TERM")
    assert rootless.wait() == 42
    assert rootless.status == "stopped"
    rootless.delete()
    assert list(rootless.runtime.root.iterdir()) == []


@pytest.mark.common
def test_run_detached(rootless: Container) -> None:
    rootless.process["args"] = ["/probe", "hold"]
    rootless.write_config()
    output = rootless.bundle / "output"
    command = ("run", "--detach", "--bundle", rootless.bundle, "--pid-file", rootless.pid_file, rootless.id)
    rootless.runtime.run(*command, stdout=output)
    wait_for(lambda: output.read_text() == "ready\n")
    assert rootless.status == "running"
    rootless.kill("KILL")
    assert rootless.wait() == 137


@pytest.mark.common
def test_exit_code_of_run(rootless: Container) -> None:
    rootless.shell("exit 7")
    assert rootless.run(check=False).rc == 7


def test_ps_without_a_cgroup(rootless: Container) -> None:
    """Without a cgroup of its own, the container's init is all that is known of its processes."""
    rootless.hold()
    assert json.loads(rootless.runtime.run("ps", "--format", "json", rootless.id).out) == [rootless.pid]
    assert "/probe hold" in rootless.runtime.run("ps", rootless.id).out


def test_kill_all_and_delete_without_a_cgroup(rootless: Container) -> None:
    """The pid namespace ends with its init."""
    rootless.shell("trap '' TERM; sleep 1000 & echo ready; wait; wait")
    rootless.create()
    rootless.start()
    wait_for(lambda: rootless.output == "ready\n")
    rootless.delete("--force")
    assert list(rootless.runtime.root.iterdir()) == []


def test_root_does_not_act_on_it(rootless: Container, plain_runtime: Runtime) -> None:
    """What a user's state says is not to be done with root's privileges; looking is harmless."""
    rootless.hold()
    as_root = replace(plain_runtime, root=rootless.runtime.root)
    assert json.loads(as_root.run("state", rootless.id).out)["pid"] == rootless.pid
    for command in (("kill", rootless.id, "KILL"), ("delete", "--force", rootless.id), ("exec", rootless.id, "true")):
        result = as_root.run(*command, check=False)
        assert result.rc != 0
        assert f"belongs to user {UID}" in result.error
    assert rootless.status == "running"


def test_default_state_directory(rootless: Container, user: User, plain_runtime: Runtime) -> None:
    """$XDG_RUNTIME_DIR/ocirt, closed to others and with the sticky bit, so that it isn't cleaned up."""
    user, reached = user.reaching(plain_runtime)
    rootless.shell("true")
    rootless.write_config()
    result = user.run(*reached.command, "run", "--bundle", str(rootless.bundle), rootless.id)
    assert (result.returncode, result.stdout) == (0, "")
    folder = user.home / "runtime/ocirt"
    assert folder.stat().st_mode & 0o7777 == 0o1700
    assert folder.stat().st_uid == UID
    assert list(folder.iterdir()) == []


def test_no_runtime_directory(rootless: Container, user: User, plain_runtime: Runtime) -> None:
    user, reached = user.reaching(plain_runtime)
    env = {name: value for name, value in user.env.items() if name != "XDG_RUNTIME_DIR"}
    rootless.write_config()
    command = (*reached.command, "run", "--bundle", str(rootless.bundle), rootless.id)
    result = replace(user, env=env).run(*command)
    assert result.returncode == 1
    assert "permission denied (XDG_RUNTIME_DIR or --root can name another directory)" in last_line(result.stderr)


# ---- terminals


@pytest.mark.common
def test_terminal(rootless: Container, user: User) -> None:
    rootless.process["terminal"] = True
    rootless.process["consoleSize"] = {"height": 31, "width": 97}
    rootless.shell("tty; stty size; stat -c %u $(tty) /dev/console")
    with FdSocket(rootless.bundle / "console.sock") as listening:
        user.own(listening.path)
        rootless.create("--console-socket", listening.path)
        console = listening.receive_console()
        rootless.start()
        assert console.read_all().split() == ["/dev/pts/0", "31", "97", "0", "0"]


@pytest.mark.common
def test_terminal_of_exec(rootless: Container, user: User) -> None:
    rootless.hold()
    with FdSocket(rootless.bundle / "console.sock") as listening:
        user.own(listening.path)
        rootless.exec("--tty", "--detach", "--console-socket", listening.path, "/bin/sh", "-c", "tty; id -u")
        assert listening.receive_console().read_all().split() == ["/dev/pts/0", "0"]


# ---- one id


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 wants root to be mapped")
def test_one_id_that_is_not_root(rootless: Container) -> None:
    """As engines do with keep-id: whatever the id is inside, it rules the namespace."""
    map_own_id(rootless.config, User(rootless.bundle), inside=1000)
    rootless.process["user"] = {"uid": 1000, "gid": 1000}
    facts = rootless.facts("/tmp")
    assert facts["uids"] == [1000] * 3
    assert facts.path("/tmp")["uid"] == 1000
    assert facts.env()["HOME"] == "/home/user"


def test_additional_groups_cannot_be_set(rootless: Container) -> None:
    rootless.process["user"]["additionalGids"] = [0]
    error = rootless.refused()
    assert "/process/user/additionalGids: cannot set any additional groups in a rootless container" in error


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 finds it out in its init alone, with another message")
def test_ids_that_are_not_mapped(rootless: Container) -> None:
    rootless.process["user"] = {"uid": 1, "gid": 0}
    assert "/process/user/uid: 1 is not mapped" in rootless.refused()


@pytest.mark.common
def test_foreign_id_cannot_be_mapped(rootless: Container) -> None:
    """One id, but root's: neither the kernel nor newuidmap has it."""
    rootless.linux["uidMappings"][0]["hostID"] = 0
    rootless.refused()


def test_message_for_a_foreign_id(rootless: Container, user: User, as_user: NewUserContainer) -> None:
    container = as_user(user.with_account())
    container.linux["uidMappings"][0]["hostID"] = 0
    error = container.refused()
    assert "/linux/uidMappings: newuidmap: " in error
    assert "/etc/subuid" in error


@pytest.mark.common
def test_groups_of_the_user_stay_while_they_cannot_be_dropped(user: User, as_user: NewUserContainer) -> None:
    """setgroups(2) is denied; dropping a group could be a way to what its members may not have (CVE-2014-8989)."""
    container = as_user(replace(user, groups=(OTHER_GROUP,)))
    container.hold()
    assert host_status(container.pid)["Groups"] == [str(OTHER_GROUP)]
    assert container.exec_facts()["groups"] == [65534]


# ---- ranges


@pytest.mark.common
def test_ranges(ranged: Container) -> None:
    facts = ranged.facts("/tmp")
    assert [line.split() for line in facts["uid_map"].splitlines()] == [
        ["0", str(UID), "1"],
        ["1", str(FIRST_SUBORDINATE), str(SUBORDINATES)],
    ]
    assert facts["setgroups"] == "allow\n"
    assert facts["uids"] == [0, 0, 0]
    assert facts.path("/tmp")["uid"] == 0


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets no groups for a user")
def test_another_user_in_ranges(ranged: Container) -> None:
    ranged.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 1002]}
    ranged.hold()
    status = host_status(ranged.pid)
    assert status["Uid"] == [str(FIRST_SUBORDINATE + 999)] * 4
    assert status["Gid"] == [str(FIRST_SUBORDINATE + 1000)] * 4
    assert set(status["Groups"]) == {str(FIRST_SUBORDINATE + 4), str(FIRST_SUBORDINATE + 1001)}


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets no groups for a user")
def test_groups_of_the_user_are_dropped_in_ranges(user: User, as_user: NewUserContainer) -> None:
    if reason := why_no_ranges():
        pytest.skip(reason)
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    assert container.facts()["groups"] in ([], [0])


@pytest.mark.common
def test_files_of_a_range(ranged: Container) -> None:
    """The container's users make files; on the host they belong to the range."""
    (ranged.rootfs / "tmp").chmod(0o1777)
    ranged.process["user"] = {"uid": 1000, "gid": 1000}
    ranged.shell("echo text > /tmp/file; stat -c %u:%g /tmp/file")
    assert ranged.run().out == "1000:1000\n"
    assert (ranged.rootfs / "tmp/file").stat().st_uid == FIRST_SUBORDINATE + 999


@needs_ranges
@pytest.mark.common
@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_newuidmap_is_missing(user: User, as_user: NewUserContainer, kind: str, runtime_name: str) -> None:
    container = as_user(user.with_account().without_program(f"/usr/bin/new{kind}map"))
    map_ranges(container.config, user)
    error = container.refused()
    if runtime_name == "ocirt":
        assert f"/linux/{kind}Mappings: new{kind}map is not installed" in error
        assert "package uidmap" in error


@needs_ranges
@pytest.mark.common
def test_ranges_are_missing(user: User, as_user: NewUserContainer, runtime_name: str) -> None:
    container = as_user(user.with_account(ranges=False))
    map_ranges(container.config, user)
    error = container.refused()
    if runtime_name == "ocirt":
        assert "/linux/uidMappings: newuidmap: uid range [1-65537)" in error
        assert "/etc/subuid" in error


@needs_ranges
def test_message_where_the_user_has_no_account(user: User, as_user: NewUserContainer) -> None:
    """The helper's own words are in the error."""
    container = as_user(user)
    map_ranges(container.config, user)
    error = container.refused()
    assert "/linux/uidMappings: newuidmap: " in error
    assert "user name" in error


@needs_ranges
@pytest.mark.common
def test_range_beyond_ones_own(ranged: Container) -> None:
    ranged.linux["uidMappings"][1]["size"] += 1
    ranged.refused()


@needs_ranges
@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 wants to give its FIFO to the container's root")
def test_user_who_is_not_mapped_himself(user: User, as_user: NewUserContainer) -> None:
    """Only the subordinate ids: the root filesystem then has to be readable for them."""
    container = as_user(user.with_account())
    for kind in ("uidMappings", "gidMappings"):
        container.linux[kind] = [{"containerID": 0, "hostID": FIRST_SUBORDINATE, "size": SUBORDINATES}]
    for folder in ("", "proc", "dev", "sys", "etc", "tmp", "root"):
        os.chown(container.rootfs / folder, FIRST_SUBORDINATE, FIRST_SUBORDINATE)
    container.hold()
    assert host_status(container.pid)["Uid"] == [str(FIRST_SUBORDINATE)] * 4
    assert container.exec_facts("--user", "7")["uids"] == [7, 7, 7]


# ---- keeping groups


@pytest.mark.common("crun")
def test_groups_are_kept_where_an_annotation_says_so(user: User, as_user: NewUserContainer) -> None:
    if reason := why_no_ranges():
        pytest.skip(reason)
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    container.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    container.hold()
    assert host_status(container.pid)["Groups"] == [str(OTHER_GROUP)]


@needs_ranges
def test_groups_are_kept_in_exec(user: User, as_user: NewUserContainer) -> None:
    container = as_user(replace(user.with_account(), groups=(OTHER_GROUP,)))
    map_ranges(container.config, user)
    container.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    container.hold()
    container.exec("--detach", "--pid-file", container.bundle / "exec.pid", "/bin/sleep", "1000")
    assert host_status(int((container.bundle / "exec.pid").read_text()))["Groups"] == [str(OTHER_GROUP)]


# ---- cgroups


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
    cgroup = CGROUP / f"{token}{os.environ.get('PYTEST_XDIST_WORKER', '')}-user"
    cgroup.mkdir()
    user.own(cgroup, *(cgroup / name for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")))
    (cgroup / "session").mkdir()
    user.own(cgroup / "session", cgroup / "session/cgroup.procs")
    yield replace(user, cgroup=cgroup / "session")
    for folder in (cgroup / "session", cgroup):
        leaks.remove_cgroup(str(folder))


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


# ---- what else needs privileges


@pytest.mark.common
def test_limits_within_the_users_own(rootless: Container) -> None:
    rootless.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    assert rootless.facts()["rlimits"]["NOFILE"] == [100, 200]


@pytest.mark.common
def test_oom_score_can_be_raised(rootless: Container) -> None:
    rootless.process["oomScoreAdj"] = 500
    assert rootless.facts()["oom_score_adj"] == "500\n"


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


# ---- exec


@pytest.mark.common
def test_exec_with_one_id(rootless: Container) -> None:
    rootless.process["env"].append("FROM=container")
    rootless.hold()
    facts = rootless.exec_facts("--cwd", "/tmp", "--env", "ONE=1")
    assert facts["uids"] == [0, 0, 0]
    assert facts["cwd"] == "/tmp"
    assert facts.env()["HOME"] == "/root"
    for kind in ("pid", "ipc", "uts", "mnt", "cgroup", "user"):
        assert facts["namespaces"][kind] == os.stat(f"/proc/{rootless.pid}/ns/{kind}").st_ino
    assert facts["namespaces"]["net"] == os.stat("/proc/self/ns/net").st_ino


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets no groups for a user")
def test_exec_with_ranges(ranged: Container) -> None:
    ranged.hold()
    facts = ranged.exec_facts("--user", "1000:5", "--additional-gids", "7")
    assert (facts["uids"], facts["gids"]) == ([1000] * 3, [5] * 3)
    assert 7 in facts["groups"]
    assert facts.env()["HOME"] == "/home/user"


def test_exec_cannot_set_groups(rootless: Container) -> None:
    rootless.hold()
    result = rootless.exec("--additional-gids", "0", "/probe", check=False)
    assert result.rc == 255
    assert "cannot set any additional groups in a rootless container" in result.error


def test_exec_of_a_user_who_is_not_mapped(rootless: Container) -> None:
    rootless.hold()
    result = rootless.exec("--user", "5", "/probe", check=False)
    assert result.rc != 0
    assert "user/uid" in result.error
    assert "5 is not mapped" in result.error
