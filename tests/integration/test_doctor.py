"""doctor on this machine: what it says is what happens, it sees what is really broken, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocirt.seccomp import compile_seccomp
from ocirt.spec import Seccomp, Syscall
from tests.integration.conftest import NewContainer
from tests.support import leaks
from tests.support.isolation import CGROUP
from tests.support.runtime import Runtime
from tests.support.unprivileged import User, delegated_cgroup, give_bundle, make_rootless, why_no_ranges

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

Finding = dict[str, Any]
Prefix = tuple[str, ...]


class Doctor:
    """One run of it."""

    def __init__(self, argv: Sequence[str]) -> None:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = process.communicate(timeout=60)
        assert err == ""
        self.pid, self.code = process.pid, process.returncode
        value = json.loads(out)
        self.can_run: bool = value["canRun"]
        self.user: str = value["user"]["name"]
        self.checks: dict[str, Finding] = {check["name"]: check for check in value["checks"]}
        assert self.code == (0 if self.can_run else 1)

    def __getitem__(self, name: str) -> Finding:
        return self.checks[name]

    def bad(self) -> set[str]:
        return {name for name, check in self.checks.items() if check["verdict"] != "ok"}

    def blocking(self) -> set[str]:
        return {name for name, check in self.checks.items() if check["blocking"]}


Ask = Callable[..., Doctor]


@pytest.fixture
def ask(runtime: Runtime) -> Ask:
    """Asks as root, behind the words of another program: `ask("unshare", "--pid")`."""
    return lambda *prefix: Doctor((*prefix, *runtime.argv("doctor", "--json")))


@pytest.fixture
def ask_as(runtime: Runtime) -> Callable[[User], Doctor]:
    """Asks as a user."""

    def ask(user: User) -> Doctor:
        user, reached = user.reaching(runtime)
        return Doctor(user.runtime(reached).argv("doctor", "--json"))

    return ask


def shell(script: str) -> Prefix:
    """Words that run a script, and then what follows them."""
    return ("sh", "-ec", f'{script}\nexec "$@"', "sh")


def private(script: str) -> Prefix:
    """The same in a mount namespace of its own."""
    return ("unshare", "--mount", "--propagation", "private", *shell(script))


# ---- as root


def test_as_root(ask: Ask) -> None:
    doctor = ask()
    assert doctor.user == "root"
    assert doctor.can_run
    assert doctor.blocking() == set()
    for name in ("kernel.init", "namespace.mount", "cgroup.make", "cgroup.kill", "seccomp.listener", "container"):
        assert doctor[name]["verdict"] == "ok", doctor[name]


def test_nothing_is_changed_and_nothing_is_left(ask: Ask, runtime: Runtime) -> None:
    def state() -> list[object]:
        return [
            Path("/proc/self/mountinfo").read_text(),
            (CGROUP / "cgroup.subtree_control").read_text(),
            runtime.root.exists(),
        ]

    before = state()
    doctor = ask()
    assert state() == before
    # Others may ask at the same time: what is this one's has its pid in the name.
    assert list(leaks.cgroups(f"ocirt-doctor-{doctor.pid}-")) == []
    for folder in ("/run", "/tmp", "/dev/shm"):
        assert [name for name in os.listdir(folder) if name.startswith("ocirt-doctor")] == []


def test_memfd_that_may_not_be_executed(ask: Ask) -> None:
    """The sysctl belongs to the pid namespace (Linux 6.3)."""
    if not os.path.exists("/proc/sys/vm/memfd_noexec"):
        pytest.skip("needs the sysctl vm.memfd_noexec")
    doctor = ask("unshare", "--pid", "--fork", "--mount-proc", *shell("echo 2 > /proc/sys/vm/memfd_noexec"))
    assert doctor.blocking() == {"kernel.init"}
    assert doctor["kernel.init"]["hint"].endswith("sysctl -w vm.memfd_noexec=1")


def test_no_cgroup_v2(ask: Ask) -> None:
    doctor = ask(*private(f"umount -l {CGROUP}; mount -t tmpfs none {CGROUP}"))
    assert doctor.blocking() == {"cgroup.mount"}
    assert "cgroup.make" not in doctor.checks


def test_read_only_cgroups(ask: Ask) -> None:
    doctor = ask(*private(f"mount -o remount,bind,ro {CGROUP}"))
    assert doctor.blocking() == {"cgroup.make"}
    assert "read-only file system" in doctor["cgroup.make"]["found"]
    assert doctor["cgroup.controllers"]["found"].startswith("none can be used")


def test_read_only_state_directory(ask: Ask, runtime: Runtime) -> None:
    runtime.root.mkdir(exist_ok=True)
    doctor = ask(*private(f"mount -t tmpfs -o ro none {runtime.root}"))
    assert doctor.blocking() == {"user.state"}


def test_state_directory_in_memory(ask: Ask, runtime: Runtime) -> None:
    runtime.root.mkdir(exist_ok=True)
    assert ask(*private(f"mount -t tmpfs none {runtime.root}"))["user.state"]["verdict"] == "ok"


@pytest.mark.parametrize("lacking", ["mknod", "sys_ptrace"])
def test_capability_that_is_missing(ask: Ask, lacking: str) -> None:
    doctor = ask("setpriv", f"--bounding-set=-{lacking}")
    assert f"CAP_{lacking.upper()}" in doctor["user.capabilities"]["found"]
    assert doctor["user.capabilities"]["verdict"] == "limited"


def test_root_without_privileges(ask: Ask) -> None:
    """As in a container of Docker's: a user namespace makes up for it."""
    doctor = ask("setpriv", "--bounding-set=-sys_admin")
    assert doctor.can_run
    assert doctor["namespace.mount"]["found"].endswith("within a user namespace")
    assert "--rootless" in doctor["container"]["found"]


def test_no_new_privileges(ask: Ask) -> None:
    assert ask("setpriv", "--no-new-privs")["user.no-new-privs"]["verdict"] == "limited"
    assert ask()["user.no-new-privs"]["verdict"] == "ok"


def test_a_limit_that_is_reached(ask: Ask) -> None:
    """In a user namespace root has limits of its own."""
    doctor = ask("unshare", "--user", "--map-root-user", *shell("echo 0 > /proc/sys/user/max_time_namespaces"))
    assert doctor["namespace.time"]["verdict"] == "missing"
    assert "user.max_time_namespaces is 0" in doctor["namespace.time"]["hint"]
    assert doctor.can_run


def test_chroot(ask: Ask, scratch: Path) -> None:
    """A process in a chroot can make no user namespace; root's containers don't need one."""
    folder = scratch / "chroot"
    folder.mkdir(exist_ok=True)
    doctor = ask(*private(f"mount --rbind / {folder}"), "chroot", str(folder))
    folder.rmdir()
    assert doctor.can_run
    assert doctor["namespace.user"]["verdict"] == "missing"
    assert "chroot" in doctor["namespace.user"]["hint"]


# Loads a filter (the first argument, in hexadecimal) and executes the others.
_FILTERED = """
import ctypes, os, sys
program = ctypes.create_string_buffer(bytes.fromhex(sys.argv[1]))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
wanted = Filter((len(program) - 1) // 8, ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(wanted)):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def filtered(*names: str, action: str = "SCMP_ACT_ERRNO") -> Prefix:
    """Words that keep system calls away from what follows them."""
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(Syscall(names=names, action=action),))
    return (sys.executable, "-c", _FILTERED, compile_seccomp(profile).bpf.hex())


@pytest.mark.parametrize("name", ["openat2", "mount_setattr", "close_range"])
def test_calls_that_a_filter_denies(ask: Ask, name: str) -> None:
    doctor = ask(*filtered(name))
    assert "kernel.calls" in doctor.blocking()
    assert doctor["kernel.calls"]["found"] == f"not there: {name}"
    assert "seccomp filter around this process" in doctor["kernel.calls"]["hint"]


def test_filters_that_a_filter_denies(ask: Ask) -> None:
    doctor = ask(*filtered("seccomp"))
    assert {"seccomp.filter", "seccomp.listener", "seccomp.actions"} <= doctor.bad()
    assert doctor.can_run


def test_device_filters_that_a_filter_denies(ask: Ask) -> None:
    """root's containers have device rules, and would not start without them."""
    doctor = ask(*filtered("bpf"))
    assert doctor.blocking() == {"cgroup.devices"}
    assert doctor["cgroup.freeze"]["verdict"] == "ok"


# ---- as an ordinary user


def test_as_a_user(ask_as: Callable[[User], Doctor], user: User) -> None:
    doctor = ask_as(user)
    assert doctor.can_run
    assert doctor["user.ids"]["verdict"] == "limited"
    assert doctor["kernel.idmap"]["verdict"] == "missing"
    assert doctor["cgroup.make"]["verdict"] == "limited"
    assert "permission denied" in doctor["cgroup.make"]["found"]
    assert doctor["user.runtime-dir"]["found"] == user.env["XDG_RUNTIME_DIR"]


@pytest.fixture
def ranged(user: User) -> User:
    if reason := why_no_ranges():
        pytest.skip(reason)
    return user.with_account()


def test_user_with_ranges(ask_as: Callable[[User], Doctor], ranged: User) -> None:
    doctor = ask_as(ranged)
    assert doctor.user == "ocirttest"
    assert doctor["user.ids"]["found"] == "65536 subordinate ids, and newuidmap maps them"


@pytest.mark.parametrize("name", ["newuidmap", "newgidmap"])
def test_helper_that_is_missing(ask_as: Callable[[User], Doctor], ranged: User, name: str) -> None:
    finding = ask_as(ranged.without_program(f"/usr/bin/{name}"))["user.ids"]
    assert finding["found"] == f"{name} is not installed"
    assert "uidmap" in finding["hint"]


def test_helper_without_privileges(ask_as: Callable[[User], Doctor], ranged: User) -> None:
    plain = ranged.home / "newuidmap"
    plain.write_bytes(Path("/usr/bin/newuidmap").read_bytes())
    plain.chmod(0o755)
    finding = ask_as(replace(ranged, overlays={**ranged.overlays, "/usr/bin/newuidmap": plain}))["user.ids"]
    assert "neither setuid root nor" in finding["found"]
    assert "chmod u+s /usr/bin/newuidmap" in finding["hint"]


def test_ranges_that_the_helper_refuses(ask_as: Callable[[User], Doctor], ranged: User) -> None:
    """Only the attempt tells: ids that overlap with the user's own cannot be mapped twice."""
    (ranged.home / "subuid").write_text(f"ocirttest:{ranged.uid}:65536\n")
    finding = ask_as(ranged)["user.ids"]
    assert finding["found"].startswith("the ids cannot be mapped: newuidmap: ")


def test_directory_of_another_user(ask_as: Callable[[User], Doctor], user: User) -> None:
    (user.home / "runtime").chmod(0o777)
    assert "others may write" in ask_as(user)["user.runtime-dir"]["found"]
    os.chown(user.home / "runtime", 5, 5)
    assert "belongs to user 5" in ask_as(user)["user.runtime-dir"]["found"]


@pytest.fixture
def delegated(user: User, token: str) -> Iterator[User]:
    """The user in a cgroup below one that root has given to him."""
    with delegated_cgroup(user, f"{token}{os.environ.get('PYTEST_XDIST_WORKER', '')}-doctor") as delegated:
        yield delegated


def test_delegated_cgroup(ask_as: Callable[[User], Doctor], delegated: User) -> None:
    doctor = ask_as(delegated)
    assert delegated.cgroup
    above = delegated.cgroup.parent
    assert f"in {above}, " in doctor["cgroup.make"]["found"]
    for name in ("cgroup.make", "cgroup.freeze", "cgroup.kill"):
        assert doctor[name]["verdict"] == "ok"
    assert doctor["cgroup.devices"]["verdict"] == "limited"
    assert [path.name for path in above.iterdir() if path.is_dir()] == ["session"]
    there = (above / "cgroup.controllers").read_text().split()
    for name in ("cpu", "io", "memory", "pids", "hugetlb"):
        usable = doctor["cgroup.controllers"]["found"].partition("; ")[0]
        assert (name in usable.replace(",", "").split()) == (name in there)


# ---- the verdict on the whole


SETTINGS: dict[str, Prefix] = {
    "as it is": (),
    "something covers a part of /proc": private("mount -t tmpfs none /proc/irq"),
    "something covers an empty part of /sys": private("mount -t tmpfs none /sys/kernel"),
    "clone3 is denied": filtered("clone3"),
    "mount_setattr is denied": filtered("mount_setattr"),
    "fsopen is denied": filtered("fsopen"),
    "pivot_root is denied": filtered("pivot_root"),
    "keyctl is denied": filtered("keyctl"),
    "bpf is denied": filtered("bpf"),
    "seccomp is denied": filtered("seccomp"),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("who", ["root", "user"])
def test_verdict_is_what_happens(
    who: str, setting: str, runtime: Runtime, new: NewContainer, request: pytest.FixtureRequest
) -> None:
    """It says that containers can run exactly where one does."""
    container = new()
    prefix = SETTINGS[setting]
    if who == "user":
        user: User = request.getfixturevalue("user")
        make_rootless(container.config, user)
        give_bundle(container, user)
        user, reached = user.reaching(runtime)
        runtime = user.runtime(reached)
    container.shell("true")
    container.config["process"].pop("rlimits", None)
    container.write_config()
    runtime = replace(runtime, command=(*prefix, *runtime.command))
    container.runtime = runtime
    doctor = Doctor(runtime.argv("doctor", "--json"))
    result = runtime.run("run", "--bundle", container.bundle, container.id, check=False)
    assert (result.rc == 0) == doctor.can_run, (result.error, doctor.blocking())


# ---- the text


def test_text_says_the_same(ask: Ask, runtime: Runtime) -> None:
    checks = ask().checks
    lines = runtime.run("doctor").out.splitlines()
    told = {words[1]: words[0] for words in (line.split() for line in lines) if words and words[0] in VERDICTS}
    assert told == {name: check["verdict"] for name, check in checks.items()}
    assert sum(line.lstrip().startswith("-> ") for line in lines) == sum(
        check["hint"] != "" for check in checks.values()
    )
    assert lines[-1].startswith("Containers can run as root (")


VERDICTS = ("ok", "limited", "missing")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_on_a_terminal(runtime: Runtime, no_color: str, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": no_color}
    process = subprocess.Popen(runtime.argv("doctor"), stdin=subprocess.DEVNULL, stdout=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], 30)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
    finally:
        process.wait(30)
        os.close(ours)
    assert b"container" in shown
    assert (b"\033[" in shown) == coloured
    assert "\033[" not in runtime.run("doctor").out
