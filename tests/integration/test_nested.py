"""ocirt where it is not the machine's root: as root of a user namespace, as Podman calls it, and in containers."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support.bundle import bind_entry, mount_entry, use_user_namespace, without_namespace
from tests.support.facts import CAPABILITY_NAMES
from tests.support.held import FIRST_ID, Held, held
from tests.support.runtime import Container, Runtime
from tests.support.unprivileged import (
    FIRST_SUBORDINATE,
    PROJECT,
    SUBORDINATES,
    UID,
    User,
    give_bundle,
    moved_command,
    prepared,
    reach,
)

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

INNER_PROJECT = "/opt/project"


def use_one_id(container: Container) -> None:
    """Takes out of the configuration what needs a second id."""
    for entry in container.mounts:
        entry["options"] = [word for word in entry["options"] if word != "gid=5"]


# ---- root of a user namespace


@pytest.mark.parametrize("mounts", [False, True], ids=["user", "user-mount"])
def test_unshare(container: Container, mounts: bool) -> None:
    """`unshare -Ur`: one id, and groups that cannot be changed; with a mount namespace it may also open mounts."""
    use_one_id(container)
    flags = ("--user", "--map-root-user", *(("--mount",) if mounts else ()))
    container.runtime = replace(container.runtime, command=("unshare", *flags, "--", *container.runtime.command))
    facts = container.facts("/dev/null", "/dev/tty")
    assert facts["uid_map"].split() == ["0", "0", "1"]
    assert facts["uids"] == [0, 0, 0]
    assert facts.path("/dev/null")["rdev"] == [1, 3]
    assert facts["hostname"] == "container"


@pytest.mark.common
def test_unshare_as_an_ordinary_user(container: Container, user: User) -> None:
    """Podman's way: he is root in a user namespace before the runtime is called, which then needs none."""
    use_one_id(container)
    give_bundle(container, user)
    user, reached = user.reaching(container.runtime)
    root = user.runtime(reached).root
    rootless = ("--rootless", "true") if reached.name == "runc" else ()
    command = user.argv("unshare", "--user", "--map-root-user", "--mount", "--", *reached.command, *rootless)
    container.runtime = Runtime(reached.name, command, root)
    facts = container.facts("/dev/null", "/tmp")
    assert facts["uid_map"].split() == ["0", str(UID), "1"]
    assert facts["setgroups"] == "deny\n"
    assert facts.path("/tmp")["uid"] == 0


@pytest.fixture
def reached(runtime: Runtime, scratch: Path) -> tuple[dict[str, Path], Runtime]:
    """The runtime as the root of that user namespace can call it."""
    return reach(runtime, FIRST_ID, scratch)


@pytest.fixture
def userns(reached: tuple[dict[str, Path], Runtime]) -> Iterator[Held]:
    """A user namespace of 65536 ids with mounts of its own."""
    with held("user", "mount", prefix=prepared(reached[0])) as namespaces:
        yield namespaces


@pytest.fixture
def given(container: Container) -> Container:
    """A container whose bundle and state belong to the root of that user namespace."""
    os.chown(container.bundle, FIRST_ID, FIRST_ID)
    for folder, _, _ in os.walk(container.rootfs):
        os.chown(folder, FIRST_ID, FIRST_ID)
    root = container.bundle / "state"
    root.mkdir(mode=0o700)
    os.chown(root, FIRST_ID, FIRST_ID)
    container.runtime = replace(container.runtime, root=root)
    return container


@pytest.fixture
def nested(given: Container, userns: Held, reached: tuple[dict[str, Path], Runtime]) -> Container:
    given.runtime = replace(given.runtime, command=userns.argv(*reached[1].command))
    return given


@pytest.mark.common
def test_without_a_user_namespace_of_its_own(nested: Container, userns: Held) -> None:
    facts = nested.facts("/dev/null", "/dev/pts")
    assert facts["namespaces"]["user"] == userns.inode("user")
    assert facts["uid_map"].split() == ["0", str(FIRST_ID), "65536"]
    assert facts.path("/dev/null")["rdev"] == [1, 3]


def test_life_in_a_user_namespace(nested: Container) -> None:
    nested.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    nested.hold()
    assert nested.status == "running"
    facts = nested.exec_facts("--user", "7:8")
    assert (facts["uids"], facts["gids"]) == ([7] * 3, [8] * 3)
    assert json.loads(nested.runtime.run("ps", "--format", "json", nested.id).out) == [nested.pid]
    nested.kill("KILL")
    assert nested.wait() == 137
    nested.delete()


def test_with_a_user_namespace_of_its_own(nested: Container, userns: Held) -> None:
    """Two deep: a part of the outer one's ids."""
    use_user_namespace(nested.config, host_id=1000, size=10000)
    for folder in ("", "proc", "dev", "sys", "etc", "tmp"):
        os.chown(nested.rootfs / folder, FIRST_ID + 1000, FIRST_ID + 1000)
    facts = nested.facts("/tmp", "/dev/null")
    assert facts["namespaces"]["user"] != userns.inode("user")
    assert facts["uid_map"].split() == ["0", "1000", "10000"]
    assert facts.path("/tmp")["uid"] == 0


def test_bind_source_below_a_closed_folder_two_deep(nested: Container, userns: Held) -> None:
    use_user_namespace(nested.config, host_id=1000, size=10000)
    for folder in ("", "proc", "dev", "sys", "etc", "tmp"):
        os.chown(nested.rootfs / folder, FIRST_ID + 1000, FIRST_ID + 1000)
    closed = nested.bundle / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner/file").write_text("text\n")
    os.chown(closed, FIRST_ID, FIRST_ID)
    closed.chmod(0o700)
    nested.mounts.append(bind_entry(closed / "inner", "/mnt"))
    nested.shell("cat /mnt/file")
    assert nested.run().out == "text\n"


def test_what_a_user_namespace_cannot_map(nested: Container) -> None:
    use_user_namespace(nested.config, host_id=70000)
    error = nested.refused()
    assert "/linux/uidMappings: " in error


def test_network_of_the_machine_in_a_user_namespace(nested: Container) -> None:
    """Its sysfs cannot be mounted there; the one that is there is bound, read-only."""
    without_namespace(nested.config, "network")
    facts = nested.facts()
    assert facts.mount("/sys").kind == "sysfs"
    assert "ro" in facts.mount("/sys").options


def test_devices_that_cannot_be_made(nested: Container) -> None:
    nested.linux["devices"] = [{"path": "/dev/none", "type": "c", "major": 1, "minor": 3}]
    assert "/linux/devices/0: " in nested.refused()


@pytest.mark.common
def test_the_way_of_podman(container: Container, user: User) -> None:
    """An ordinary user with ranges, in a user namespace that the engine made with newuidmap."""
    give_bundle(container, user)
    user, reached = user.reaching(container.runtime)
    root = user.runtime(reached).root
    ranges = f"0 {user.uid} 1\n1 {FIRST_SUBORDINATE} {SUBORDINATES}"
    with held("user", "mount", id_map=ranges, prefix=user.argv()) as namespaces:
        rootless = ("--rootless", "true") if reached.name == "runc" else ()
        command = user.argv(*namespaces.argv(*reached.command, *rootless))
        container.runtime = Runtime(reached.name, command, root)
        container.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
        container.hold()
        facts = container.exec_facts()
        assert (facts["uids"], facts["gids"]) == ([1000] * 3, [1000] * 3)
        assert 5 in facts["groups"]
        container.delete("--force")
        container.wait()


# ---- in a container


def hold_the_host(container: Container, *writable: Path) -> None:
    """Makes the container one that has the host's programs and this project in it, and nothing more to write to."""
    rootfs = container.bundle / "host"
    rootfs.mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        if (link := Path("/") / name).is_symlink():
            (rootfs / name).symlink_to(os.readlink(link))
        elif link.is_dir():
            container.mounts.append(bind_entry(link, f"/{name}", "ro"))
    for name in ("proc", "dev", "sys", "tmp", "run", "root", "mnt"):
        (rootfs / name).mkdir()
    container.config["root"] = {"path": str(rootfs), "readonly": False}
    for path in ("/usr", "/etc"):
        container.mounts.append(bind_entry(path, path, "ro"))
    container.mounts.append(bind_entry(PROJECT, INNER_PROJECT, "ro"))
    container.mounts.extend(bind_entry(path, str(path)) for path in writable)
    container.process["noNewPrivileges"] = False


def make_privileged(container: Container) -> None:
    """What engines call a privileged container."""
    sets = ("bounding", "effective", "permitted")
    container.process["capabilities"] = {kind: [f"CAP_{name}" for name in CAPABILITY_NAMES] for kind in sets}
    unmask(container)
    for entry in container.mounts:
        if entry["destination"] == "/sys":
            entry["options"].remove("ro")
    container.mounts.append(mount_entry("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev"))


def leave_little(container: Container) -> None:
    """Capabilities as engines leave them to a container; CAP_SETFCAP is what its root needs to map himself."""
    names = ["CAP_CHOWN", "CAP_FOWNER", "CAP_KILL", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID"]
    container.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)


def unmask(container: Container) -> None:
    """The kernel lets a user namespace mount a procfs only where nothing of the visible one is covered."""
    container.linux["maskedPaths"] = container.linux["readonlyPaths"] = []


@pytest.fixture
def outer(container: Container, new: NewContainer) -> Container:
    return container


@pytest.fixture
def inner(new: NewContainer, scratch: Path) -> Container:
    """A container to be created in another one."""
    inner = new()
    inner.process["args"] = ["/probe"]
    inner.config["hostname"] = "inner"
    return inner


def script_of(inner: Container, *commands: str) -> str:
    """A script for the outer container; @ stands for the runtime's command line."""
    state = inner.bundle / "state"
    words = shlex.join(moved_command(inner.runtime.command, Path(INNER_PROJECT)))
    runtime = f"{words} --root {state}"
    return "set -e; " + "; ".join(commands).replace("@", runtime)


@pytest.fixture
def run_in(outer: Container, inner: Container) -> Callable[..., str]:
    """Runs a script in the outer container; its output."""

    def run(*commands: str) -> str:
        inner.write_config()
        outer.process["args"] = ["/bin/sh", "-c", script_of(inner, *commands)]
        result = outer.run(check=False)
        assert result.rc == 0, result.err
        return result.out

    return run


RunIn = Callable[..., str]


def test_in_a_privileged_container(outer: Container, inner: Container, run_in: RunIn) -> None:
    hold_the_host(outer, inner.bundle)
    make_privileged(outer)
    out = run_in(f"@ run -b {inner.bundle} inner")
    facts = json.loads(out)
    assert facts["hostname"] == "inner"
    assert facts["pid"] == 1
    assert "0::/" in facts["cgroup"].splitlines()


def test_life_in_a_privileged_container(outer: Container, inner: Container, run_in: RunIn) -> None:
    hold_the_host(outer, inner.bundle)
    make_privileged(outer)
    inner.process["args"] = ["/probe", "hold"]
    out = run_in(
        f"@ create -b {inner.bundle} inner",
        "@ start inner",
        "@ exec inner /bin/hostname",
        "test -d /sys/fs/cgroup/inner",
        "@ kill inner KILL",
        "while @ state inner | grep -q running; do :; done",
        "@ delete inner",
        "test ! -d /sys/fs/cgroup/inner",
        "@ list -q",
    )
    assert out.split() == ["ready", "inner"]


@pytest.mark.parametrize("number", [0, 1], ids=["root", "user"])
def test_user_namespace_in_an_unprivileged_container(
    outer: Container, inner: Container, run_in: RunIn, number: int
) -> None:
    """What engines leave to it is no power over mounts: the inner runtime works as for any ordinary user."""
    hold_the_host(outer, inner.bundle)
    unmask(outer)
    leave_little(outer)
    outer.process["user"] = {"uid": number, "gid": number}
    for folder, _, _ in os.walk(inner.bundle):
        os.chown(folder, number, number)
    use_one_id(inner)
    use_user_namespace(inner.config, host_id=number, size=1)
    unmask(inner)
    facts = json.loads(run_in(f"@ run -b {inner.bundle} inner"))
    assert facts["hostname"] == "inner"
    assert facts["uid_map"].split() == ["0", str(number), "1"]


def test_in_a_container_with_a_user_namespace(outer: Container, inner: Container, run_in: RunIn) -> None:
    """The outer container's root has all rights over its own namespaces, and none over the host's."""
    hold_the_host(outer, inner.bundle)
    make_privileged(outer)
    use_user_namespace(outer.config)
    for folder, _, _ in os.walk(inner.bundle):
        os.chown(folder, FIRST_ID, FIRST_ID)
    for folder, _, _ in os.walk(outer.bundle / "host"):
        os.chown(folder, FIRST_ID, FIRST_ID)
    facts = json.loads(run_in(f"@ run -b {inner.bundle} inner"))
    assert facts["hostname"] == "inner"
    assert facts["uid_map"].split() == ["0", str(FIRST_ID), "65536"]
    assert "0::/" in facts["cgroup"].splitlines()


def test_covered_procfs(outer: Container, inner: Container) -> None:
    """Where the outer container's procfs is masked the kernel lets nobody mount a new one, and the error says why."""
    hold_the_host(outer, inner.bundle)
    leave_little(outer)
    use_one_id(inner)
    use_user_namespace(inner.config, host_id=0, size=1)
    inner.write_config()
    outer.process["args"] = ["/bin/sh", "-c", script_of(inner, f"@ run -b {inner.bundle} inner")]
    result = outer.run(check=False)
    assert result.rc == 1
    assert "/mounts/0: mount proc on /proc" in result.error
    assert "operation not permitted" in result.error
    assert "covered" in result.error


def test_root_without_any_capability(outer: Container, inner: Container) -> None:
    hold_the_host(outer, inner.bundle)
    outer.process["capabilities"] = {}
    use_one_id(inner)
    use_user_namespace(inner.config, host_id=0, size=1)
    inner.write_config()
    outer.process["args"] = ["/bin/sh", "-c", script_of(inner, f"@ run -b {inner.bundle} inner")]
    result = outer.run(check=False)
    assert result.rc == 1
    assert "/linux/uidMappings: write '0 0 1' to " in result.error
    assert "CAP_SETFCAP" in result.error
