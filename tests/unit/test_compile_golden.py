"""Plans in their printed form, as `ocirt plan` shows them: tests/golden holds what they are to be.

A change of a plan is a change of a golden file, to be read in the commit. `pytest --update-golden` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocirt import constants as k
from ocirt.commands.spec import default_config, rootless_config
from ocirt.compile import Compiled
from ocirt.compile.request import JoinedUser
from ocirt.seccomp import Filter
from ocirt.spec import IDMapping
from tests.unit.compile_samples import ROOT, ROOTLESS, Config, created, executed, use_user_namespace
from tests.unit.spec_samples import small_config, without

GOLDEN = Path(__file__).parents[1] / "golden"
SCREEN_LINES = 50
SCREEN_COLUMNS = 140
FILTER = Filter(b"\0" * 800, 2, False)
LISTENER = Filter(b"\0" * 80, 8, True)


def changed(config: Any, **parts: Any) -> Config:
    """A copy with members of its objects exchanged: linux__sysctl is /linux/sysctl."""
    result: Config = dict(config)
    for name, value in parts.items():
        group, _, member = name.partition("__")
        result[group] = {**result[group], member: value} if member else value
    return result


def bind(source: str, destination: str, *options: str) -> Config:
    return {"source": source, "destination": destination, "options": ["rbind", *options]}


def default() -> Compiled:
    return created(changed(default_config()), seccomp=FILTER)


def rootless() -> Compiled:
    return created(changed(rootless_config(1000, 1000)), ROOTLESS, cgroup=None)


def user_namespace() -> Compiled:
    config = changed(
        use_user_namespace(small_config()),
        mounts=[
            {"destination": "/proc", "type": "proc"},
            bind("data", "/data", "ro"),
            bind("/srv", "/srv", "idmap", "nosuid"),
        ],
        linux__devices=[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        process__rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
    )
    return created(config, replace(ROOT, rlimits={"RLIMIT_NOFILE": (1024, 2048)}))


def joined_namespaces() -> Compiled:
    kinds = ("user", "mount", "network", "pid", "ipc")
    config = changed(
        small_config(),
        linux__namespaces=[{"type": kind, "path": f"/run/ns/{kind}"} for kind in kinds] + [{"type": "time"}],
        linux__timeOffsets={"monotonic": {"secs": 10}},
        mounts=[{"destination": "/sys", "type": "sysfs", "options": ["ro"]}, bind("/data", "/data")],
    )
    ranges = (IDMapping(container_id=0, host_id=100000, size=65536),)
    joined = JoinedUser(uid_mappings=ranges, gid_mappings=ranges)
    return created(config, replace(ROOT, foreign=frozenset({"network"})), joined_user=joined)


def no_mount_namespace() -> Compiled:
    config = changed(
        small_config(), linux__namespaces=[{"type": "pid"}], mounts=[{"destination": "/proc", "type": "proc"}]
    )
    return created(config)


def no_process() -> Compiled:
    return created(without("/process"))


def process() -> Compiled:
    config = changed(
        small_config(),
        process={
            "terminal": True,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1000, "gid": 1000, "umask": 0o27, "additionalGids": [5, 10]},
            "args": ["/bin/server", "--port", "80"],
            "env": ["PATH=/bin", "HOME=/srv"],
            "cwd": "/srv",
            "capabilities": {
                name: ["CAP_NET_BIND_SERVICE"] for name in ("bounding", "permitted", "inheritable", "ambient")
            },
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}],
            "apparmorProfile": "server",
            "selinuxLabel": "system_u:system_r:server_t:s0",
            "oomScoreAdj": 200,
            "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        },
        linux__personality={"domain": "LINUX32"},
        linux__memoryPolicy={"mode": "MPOL_INTERLEAVE", "nodes": "0-1"},
        linux__sysctl={"net.ipv4.ip_forward": "1"},
        linux__mountLabel="system_u:object_r:server_t:s0",
        mounts=[{"destination": "/tmp", "type": "tmpfs", "options": ["size=1m"]}],
    )
    return created(config, replace(ROOT, apparmor=True, selinux=True), seccomp=LISTENER)


def mounts() -> Compiled:
    entries = [
        {"destination": "/run", "type": "tmpfs", "options": ["ro", "noatime", "tmpcopyup", "mode=755,size=1m"]},
        bind("/data", "/run/data", "rro", "rnosuid", "rprivate"),
        bind("link", "/link", "copy-symlink"),
        bind("/vol", "/vol", "rslave", "rshared", "src-nofollow", "dest-nofollow"),
        {
            "destination": "/disk",
            "type": "ext4",
            "source": "/dev/vda",
            "options": ["ro", "sync", "iversion", "data=journal"],
        },
        {"destination": "/run", "options": ["remount", "nosuid", "size=2m"], "type": "tmpfs"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nodev", "relatime"]},
    ]
    return created(changed(small_config(), mounts=entries), replace(ROOT, symlinks=frozenset({"/b/link"})))


def devices() -> Compiled:
    entries = [
        {"path": "/dev/fuse", "type": "u", "major": 10, "minor": 229, "fileMode": 0o660, "gid": 5},
        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
        {"path": "/run/pipe", "type": "p", "fileMode": 0o600},
    ]
    dev = {"destination": "/dev", "type": "tmpfs", "options": ["nosuid", "ro"]}
    return created(changed(small_config(), linux__devices=entries, mounts=[dev]))


def hooks() -> Compiled:
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    entries = {kind: [{"path": f"/hooks/{kind}", "timeout": 5}] for kind in kinds}
    return created(changed(small_config(), hooks=entries, linux__netDevices={"eth0": {}}))


def shared_propagation() -> Compiled:
    config = changed(small_config(), linux__rootfsPropagation="rshared", mounts=[bind("/vol", "/vol", "rshared")])
    return created(config, no_pivot=True, no_new_keyring=True)


def socket_activation() -> Compiled:
    return created(small_config(), listen_fds=2, preserve_fds=1, notify_directory="/run/ocirt/c1/notify")


def exec_plain() -> Compiled:
    return executed(
        changed(default_config()), namespaces=k.CLONE_NEWNS | k.CLONE_NEWPID | k.CLONE_NEWUTS, seccomp=FILTER
    )


def exec_user_namespace() -> Compiled:
    config = changed(
        use_user_namespace(small_config()),
        process__execCPUAffinity={"initial": "0-3", "final": "1"},
        process__oomScoreAdj=5,
    )
    ranges = (IDMapping(container_id=0, host_id=100000, size=65536),)
    user = JoinedUser(uid_mappings=ranges, gid_mappings=ranges)
    return executed(config, namespaces=k.CLONE_NEWNS | k.CLONE_NEWUSER, user=user)


def exec_chroot() -> Compiled:
    return executed(changed(small_config(), linux__namespaces=[{"type": "pid"}]), namespaces=k.CLONE_NEWPID)


PLANS: tuple[Callable[[], Compiled], ...] = (
    *(default, rootless, user_namespace, joined_namespaces, no_mount_namespace, no_process, process, mounts, devices),
    *(hooks, shared_propagation, socket_activation, exec_plain, exec_user_namespace, exec_chroot),
)


def printed(compiled: Compiled) -> str:
    """The plan, and what goes with it, where there is something."""
    parts = [compiled.plan.render()]
    parts += [f"needs {slot}: {need}\n" for slot, need in enumerate(compiled.needs)]
    parts += [f"mapping: {compiled.mapping}\n"] if compiled.mapping else []
    parts += [f"time offsets: {compiled.time_offsets!r}\n"] if compiled.time_offsets else []
    parts += [f"preserved descriptors: {compiled.plan.preserve_fds}\n"] if compiled.plan.preserve_fds else []
    parts += [f"warning: {warning}\n" for warning in compiled.warnings]
    return "".join(parts)


@pytest.mark.parametrize("make", PLANS, ids=lambda make: make.__name__)
def test_plan_is_as_before(make: Callable[[], Compiled], pytestconfig: pytest.Config) -> None:
    path, text = GOLDEN / f"{make.__name__}.txt", printed(make())
    if pytestconfig.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_file_has_a_plan() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {make.__name__ for make in PLANS}


@pytest.mark.parametrize("make", [default, exec_plain, rootless], ids=lambda make: make.__name__)
def test_the_plan_of_an_ordinary_bundle_is_a_screen(make: Callable[[], Compiled]) -> None:
    lines = make().plan.render().splitlines()
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_COLUMNS


def test_operations_of_different_origin_share_no_line() -> None:
    entry = {"path": "/dev/x", "type": "c", "major": 10, "minor": 1, "fileMode": 0o666}
    lines = created(changed(small_config(), linux__devices=[entry])).plan.render().splitlines()
    assert [line.split()[0] for line in lines if "/dev/x" in line] == ["/linux/devices/0"]
    assert not [line for line in lines if line.startswith("-")]
