"""doctor's judgement, on a machine of files: all is well there, then one thing after another is broken and found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocirt import constants as k
from ocirt.commands import doctor
from ocirt.doctor import cgroups, users
from ocirt.doctor.finding import Finding, Report, Verdict, blocking, limited, missing, ok
from ocirt.doctor.system import System
from ocirt.doctor.table import CHECKS, examine
from ocirt.errors import HostError, OcirtError
from ocirt.seccomp import WAIT_KILLABLE_RECV
from tests.support.machines import Machine

IS_ROOT = os.geteuid() == 0
UID = 1000 if IS_ROOT else os.geteuid()


@pytest.fixture
def root(tmp_path: Path) -> Machine:
    return Machine.make(tmp_path, 0)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """An ordinary user. That the helpers have privileges is taken for granted: only root could give them any. A bus of
    this machine's own is not looked for."""
    monkeypatch.setattr(cgroups, "user_bus_address", lambda environ, _uid: environ.get("DBUS_SESSION_BUS_ADDRESS"))
    monkeypatch.setattr(users, "_gives_privileges", lambda path: os.stat(path).st_mode & 0o4000 != 0)
    return Machine.make(tmp_path, UID)


def look(machine: Machine) -> dict[str, Finding]:
    return dict(examine(machine.system, machine.trials).findings)


def not_ok(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict is not Verdict.OK}


def test_all_is_well_for_root(root: Machine) -> None:
    found = look(root)
    assert not_ok(found) == set()
    assert set(CHECKS) - set(found) == {"user.runtime-dir", "systemd.linger", "systemd.controllers"}, (
        "which are about ordinary users"
    )


def test_all_is_well_for_a_user(user: Machine) -> None:
    found = look(user)
    assert not_ok(found) == {"kernel.idmap"}, "which takes root"
    assert set(found) == set(CHECKS)
    assert [mapping.uid_map for mapping in user.trials.mapped] == [f"0 {UID} 1\n1 100000 65536\n"]
    assert all(mapping.helpers for mapping in user.trials.mapped)


# ---- one thing at a time

Break = Callable[[Machine], object]
LIMITED, MISSING, BLOCKING = Verdict.LIMITED, Verdict.MISSING, "blocking"


def writes(path: str, text: str) -> Break:
    return lambda machine: machine.write(path, text)


def removes(path: str) -> Break:
    return lambda machine: machine.remove(path)


def fails(*names: str) -> Break:
    return lambda machine: machine.trials.fail(*names)


def both(*breaks: Break) -> Break:
    return lambda machine: [each(machine) for each in breaks]


def says(name: str, value: str) -> Break:
    return lambda machine: machine.status(name, value)


def has(attribute: str, value: object) -> Break:
    return lambda machine: setattr(machine.trials, attribute, value)


def lives_with(**environ: str) -> Break:
    return lambda machine: machine.environ.update(environ)


FILTERED = says("Seccomp", "2")
NO_SYSTEMD = both(removes("/run/systemd/system"), fails("systemd"))
ALL_BUT_MKNOD = f"{k.ALL_CAPABILITIES & ~k.CAPABILITY_BITS['CAP_MKNOD']:016x}"


def systemd_is_wanted(machine: Machine) -> None:
    NO_SYSTEMD(machine)
    machine.cgroup_manager = "systemd"


# The check, what is broken, the verdict, and words of what is said of it.
FOR_BOTH: list[tuple[str, Break, Verdict | str, str]] = [
    ("kernel.version", writes("/proc/sys/kernel/osrelease", "5.13.19\n"), BLOCKING, "Linux 5.13.19.*5.14 or newer"),
    ("kernel.version", removes("/proc/sys/kernel/osrelease"), BLOCKING, "unknown version"),
    ("kernel.calls", has("calls", ["openat2"]), BLOCKING, "openat2.*too old"),
    ("kernel.calls", both(has("calls", ["openat2"]), FILTERED), BLOCKING, "a seccomp filter around"),
    ("kernel.init", fails("init"), BLOCKING, "cannot be executed from a file in memory"),
    (
        "kernel.init",
        both(fails("init"), writes("/proc/sys/vm/memfd_noexec", "2\n")),
        BLOCKING,
        "sysctl -w vm.memfd_noexec=1",
    ),
    ("kernel.init", both(fails("init"), FILTERED), BLOCKING, "seccomp filter.*memfd_create"),
    ("namespace.mount", fails("namespace mount"), BLOCKING, "cannot be made: namespace mount: operation not"),
    ("namespace.pid", fails("namespace pid"), BLOCKING, "cannot be made"),
    (
        "namespace.pid",
        both(fails("namespace pid"), writes("/proc/sys/user/max_pid_namespaces", "0\n")),
        BLOCKING,
        "user.max_pid_namespaces is 0",
    ),
    ("namespace.pid", both(fails("namespace pid"), removes("/proc/self/ns/pid")), BLOCKING, "CONFIG_PID_NS"),
    ("namespace.ipc", fails("namespace ipc"), BLOCKING, "cannot be made"),
    ("namespace.uts", both(fails("namespace uts"), FILTERED), BLOCKING, "seccomp filter"),
    ("namespace.cgroup", fails("namespace cgroup"), BLOCKING, "cannot be made"),
    ("namespace.time", fails("namespace time"), MISSING, "a config with a time namespace is refused"),
    ("user.limits", fails("raised_limit"), LIMITED, "RLIMIT_NOFILE 4096, RLIMIT_NPROC 200.*LimitNOFILE="),
    ("user.no-new-privs", says("NoNewPrivs", "1"), LIMITED, "setuid.*NoNewPrivileges="),
    ("user.state", fails("writable"), BLOCKING, "/run/.*ocirt cannot be written.*--root"),
    ("user.state", lambda machine: machine.mount("ext4"), LIMITED, "on ext4, which outlives a reboot.*tmpfs"),
    (
        "cgroup.mount",
        writes("/proc/self/cgroup", "2:blkio:/\n1:name=systemd,freezer:/\n0::/\n"),
        LIMITED,
        "beside cgroup v1 with io; .*unified_cgroup_hierarchy=1",
    ),
    (
        "cgroup.controllers",
        has("controller_names", {"pids", "memory"}),
        LIMITED,
        "usable: memory, pids; cpu, cpuset, io",
    ),
    ("cgroup.controllers", has("controller_names", set()), MISSING, "none can be used"),
    ("cgroup.freeze", fails("cgroup freeze"), MISSING, "pause and resume fail"),
    ("cgroup.kill", fails("cgroup kill"), MISSING, "delete fails"),
    ("cgroup.devices", has("device_warning", "not enforced"), LIMITED, "the access to devices that this user has"),
    ("systemd.bus", NO_SYSTEMD, MISSING, "not running here;.*cgroupfs can"),
    ("systemd.bus", fails("systemd"), MISSING, "does not answer: systemd: operation.*systemctl"),
    ("seccomp.filter", fails("filter"), MISSING, "linux.seccomp is refused"),
    ("seccomp.listener", fails("listener"), MISSING, "SCMP_ACT_NOTIFY is refused"),
    (
        "seccomp.actions",
        writes("/proc/sys/kernel/seccomp/actions_avail", "kill_process kill_thread trap errno trace log allow\n"),
        LIMITED,
        "lacks SCMP_ACT_NOTIFY;",
    ),
    ("seccomp.actions", has("flags", ~WAIT_KILLABLE_RECV), LIMITED, "lacks SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;"),
    ("lsm.apparmor", removes("/sys/module/apparmor/parameters/enabled"), MISSING, "apparmorProfile is not applied"),
    ("lsm.apparmor", writes("/sys/module/apparmor/parameters/enabled", "N\n"), MISSING, "not enabled"),
    ("lsm.selinux", removes("/sys/fs/selinux/enforce"), MISSING, "selinuxLabel is refused"),
    ("rdt.resctrl", writes("/proc/self/mountinfo", ""), MISSING, "not mounted;.*mount -t resctrl"),
    (
        "rdt.resctrl",
        both(writes("/proc/self/mountinfo", ""), writes("/proc/filesystems", "\text4\n")),
        MISSING,
        "does not have it",
    ),
    ("container", fails("container"), BLOCKING, "cannot be made: container: operation not permitted"),
]
FOR_ROOT: list[tuple[str, Break, Verdict | str, str]] = [
    ("kernel.idmap", fails("idmapped_mount"), LIMITED, r"/ \(ext4\) cannot be mounted with other ids"),
    ("namespace.user", fails("namespace user"), MISSING, "a config with a user namespace is refused.*chroot"),
    ("namespace.network", fails("namespace network"), BLOCKING, "cannot be made"),
    ("user.capabilities", says("CapBnd", ALL_BUT_MKNOD), LIMITED, "bounding set: CAP_MKNOD; "),
    ("cgroup.mount", has("host", None), BLOCKING, "--cgroup-manager disabled.*mount -t cgroup2"),
    ("cgroup.make", fails("cgroup make"), BLOCKING, "no cgroup can be made: cgroup make: operation"),
    ("cgroup.make", fails("cgroup enter"), BLOCKING, "no cgroup can be made"),
    ("cgroup.devices", fails("cgroup devices"), BLOCKING, "cgroup devices: operation.*--cgroup-manager disabled"),
    (
        "systemd.bus",
        systemd_is_wanted,
        BLOCKING,
        "systemd cgroup manager",
    ),
]
CLONE = "/proc/sys/kernel/unprivileged_userns_clone"
RESTRICTED = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
FOR_USERS: list[tuple[str, Break, Verdict | str, str]] = [
    ("namespace.user", fails("namespace user"), BLOCKING, "cannot be made"),
    ("namespace.user", both(fails("namespace user"), writes(CLONE, "0\n")), BLOCKING, "unprivileged_userns_clone=1"),
    (
        "namespace.user",
        both(fails("namespace user"), writes("/proc/sys/user/max_user_namespaces", "0\n")),
        BLOCKING,
        "sysctl -w user.max_user_namespaces=",
    ),
    (
        "namespace.user",
        both(fails("namespace user"), writes(RESTRICTED, "1\n")),
        BLOCKING,
        "rule userns, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("namespace.network", fails("namespace network"), MISSING, "a config with a network namespace is refused"),
    ("container", both(fails("container"), writes(RESTRICTED, "1\n")), BLOCKING, "AppArmor restricts"),
    ("user.capabilities", fails("namespace user"), MISSING, "no user namespace to have them in"),
    (
        "user.ids",
        writes("/etc/subuid", "bob:100000:65536\n"),
        LIMITED,
        "alice has no range in /etc/subuid; a container",
    ),
    ("user.ids", writes("/etc/subuid", "bob:100000:65536\n"), LIMITED, "--add-subuids 165536-231071.*alice"),
    ("user.ids", writes("/etc/subgid", "alice:100000:0\n"), LIMITED, "no range in /etc/subgid"),
    ("user.ids", removes("/etc/subuid"), LIMITED, "no range in /etc/subuid;"),
    (
        "user.ids",
        both(removes("/etc/subuid"), writes("/etc/nsswitch.conf", "subid: sss\n")),
        LIMITED,
        "sss may have one, and was not asked",
    ),
    ("user.ids", writes("/etc/subuid", "alice:100000:1000\n"), LIMITED, "1000 subordinate ids; "),
    ("user.ids", fails("map_ids"), LIMITED, "cannot be mapped: map_ids: operation"),
    ("user.ids", says("NoNewPrivs", "1"), LIMITED, "newuidmap gains no privileges"),
    ("user.ids", lambda m: m.path("/usr/bin/newgidmap").chmod(0o755), LIMITED, "newgidmap is neither.*chmod u.s"),
    ("user.runtime-dir", lambda m: m.environ.pop("XDG_RUNTIME_DIR"), MISSING, f"is not set; .*/run/user/{UID}"),
    ("user.runtime-dir", lives_with(XDG_RUNTIME_DIR="run"), MISSING, "run, which is not absolute"),
    ("user.runtime-dir", lives_with(XDG_RUNTIME_DIR="/run/nosuch"), MISSING, "No such file.*install -d -m 700"),
    ("user.runtime-dir", lives_with(XDG_RUNTIME_DIR="/etc/passwd"), MISSING, "no directory"),
    ("user.runtime-dir", lambda m: m.path(f"/run/user/{UID}").chmod(0o777), LIMITED, "others may write.*chmod 700"),
    ("cgroup.mount", has("host", None), MISSING, "cgroup v2 is not mounted; limits are refused"),
    ("cgroup.make", fails("cgroup make"), LIMITED, "nothing can be paused.*systemd-run --user"),
    ("cgroup.make", both(fails("cgroup make"), NO_SYSTEMD), LIMITED, "give its directory, cgroup.procs"),
    ("cgroup.devices", fails("cgroup devices"), MISSING, "cannot be enforced"),
    ("cgroup.controllers", has("controller_names", {"pids"}), LIMITED, r"user@.service.d.*Delegate=cpu"),
    ("systemd.bus", lambda m: m.environ.clear(), MISSING, "no message bus;.*dbus-user-session"),
    (
        "systemd.controllers",
        has("delegated_names", {"memory", "pids"}),
        LIMITED,
        "usable: memory, pids; cpu.*Delegate=",
    ),
    ("systemd.controllers", has("delegated_names", set()), MISSING, "none can be used.*user@.service.d"),
    ("systemd.linger", removes("/var/lib/systemd/linger/alice"), LIMITED, "loginctl enable-linger alice"),
]


def check_case(machine: Machine, name: str, breaks: Break, verdict: Verdict | str, words: str) -> None:
    before = look(machine)[name]
    assert before.verdict is Verdict.OK
    breaks(machine)
    report = examine(machine.system, machine.trials)
    finding = dict(report.findings)[name]
    assert finding.verdict is (Verdict.MISSING if verdict == BLOCKING else verdict)
    assert finding.blocking == (verdict == BLOCKING)
    assert (name in report.blocked_by) == (verdict == BLOCKING)
    said = f"{finding.found}; {finding.means} {finding.hint}"
    assert re.search(words, said), said


@pytest.mark.parametrize(("name", "breaks", "verdict", "words"), FOR_BOTH + FOR_ROOT)
def test_broken_for_root(root: Machine, name: str, breaks: Break, verdict: Verdict | str, words: str) -> None:
    check_case(root, name, breaks, verdict, words)


@pytest.mark.parametrize(("name", "breaks", "verdict", "words"), FOR_BOTH + FOR_USERS)
def test_broken_for_a_user(user: Machine, name: str, breaks: Break, verdict: Verdict | str, words: str) -> None:
    check_case(user, name, breaks, verdict, words)


def test_every_check_has_been_broken() -> None:
    assert {case[0] for case in FOR_BOTH + FOR_ROOT + FOR_USERS} == set(CHECKS)


@pytest.mark.parametrize(
    ("breaks", "others"),
    [
        (fails("namespace time"), set()),
        (fails("namespace user"), {"kernel.idmap"}),
        (writes("/etc/subuid", ""), set()),
        (fails("cgroup make"), {"cgroup.controllers"}),
    ],
)
def test_nothing_else_is_said_to_be_broken(root: Machine, breaks: Break, others: set[str]) -> None:
    breaks(root)
    found = look(root)
    bad = not_ok(found)
    assert len(bad - others) <= 1
    assert others <= bad


def test_what_a_user_may_make_is_no_matter_with_systemd(user: Machine) -> None:
    user.trials.fail("cgroup make")
    user.cgroup_manager = "systemd"
    found = look(user)
    assert not_ok(found) == {"kernel.idmap"}
    assert not [name for name in found if name.startswith("cgroup.") and name != "cgroup.mount"]
    user.trials.fail("systemd")
    found = look(user)
    assert found["systemd.bus"].blocking
    assert "systemd.controllers" not in found


def test_without_init_nothing_is_said_of_what_it_would_try(root: Machine) -> None:
    root.trials.fail("init")
    found = look(root)
    assert not_ok(found) == {"kernel.init"}
    assert not [name for name in found if name.startswith("namespace.") or name == "container"]


@pytest.mark.parametrize("error", [HostError("read", "/x", 5), PermissionError(13, "no", "/x")])
def test_a_check_that_fails_keeps_no_other_away(root: Machine, error: Exception) -> None:
    def raises() -> OcirtError | None:
        raise error

    root.trials.container = raises  # type: ignore[method-assign]
    root.trials.fail("listener")
    found = look(root)
    assert not_ok(found) == {"container", "seccomp.listener"}
    assert found["container"].found.startswith("cannot be told: ")


@pytest.mark.parametrize("breaks", [has("host", None), fails("cgroup make"), fails("cgroup devices")])
def test_cgroups_are_no_condition_where_they_are_disabled(root: Machine, breaks: Break) -> None:
    breaks(root)
    assert len(examine(root.system, root.trials).blocked_by) == 1
    root.cgroup_manager = "disabled"
    assert examine(root.system, root.trials).blocked_by == []


@pytest.mark.root
def test_runtime_directory_of_another_user(user: Machine) -> None:
    os.chown(user.path(f"/run/user/{UID}"), UID + 1, -1)
    finding = look(user)["user.runtime-dir"]
    assert (finding.verdict, f"belongs to user {UID + 1}" in finding.found) == (Verdict.LIMITED, True)


@pytest.mark.root
def test_privileges_of_a_helper(tmp_path: Path) -> None:
    """setuid root, or file capabilities; setuid to somebody else gives nothing."""
    program = tmp_path / "program"
    program.touch(mode=0o755)
    assert not users._gives_privileges(str(program))
    program.chmod(0o4755)
    assert users._gives_privileges(str(program))
    os.chown(program, 5, 5)
    program.chmod(0o4755)
    assert not users._gives_privileges(str(program))
    capability = bytes.fromhex("0100000280000000000000000000000000000000")  # VFS_CAP_REVISION_2, CAP_SETUID
    os.setxattr(program, "security.capability", capability)
    assert users._gives_privileges(str(program))


def test_root_of_a_user_namespace_needs_another_one(root: Machine) -> None:
    """Most ids of the default config are not mapped there."""
    root.write("/proc/self/uid_map", "0 1000 1\n")
    assert root.system.rootless
    assert root.system.needs_user_namespace
    root.trials.fail("namespace user")
    assert look(root)["namespace.user"].blocking


# ---- the report

REPORT = Report(
    "alice",
    1000,
    [("a.first", ok("fine")), ("b.second-one", limited("half", "so", "do this")), ("c", missing("no\nne", "then"))],
)


def test_text() -> None:
    assert REPORT.as_text().splitlines() == [
        "ok       a.first       fine",
        "limited  b.second-one  half; so",
        "                       -> do this",
        "missing  c             no\\nne; then",
        "",
        "Containers can run as alice (1 ok, 1 limited, 1 missing).",
    ]


def test_text_of_a_host_that_cannot() -> None:
    report = Report("#7", 7, [("x", blocking("gone", "mend it"))])
    assert (
        report.as_text().splitlines()[-1] == "Containers cannot run as #7, for want of x (0 ok, 0 limited, 1 missing)."
    )


def test_colours_change_nothing_but_colours() -> None:
    coloured = REPORT.as_text(colours=True)
    assert coloured.startswith("\033[32mok     \033[0m  a.first")
    assert re.sub(r"\033\[[0-9]+m", "", coloured) == REPORT.as_text()
    assert "\033[31m" not in coloured
    assert "\033[31m" in Report("x", 1, [("x", blocking("gone"))]).as_text(colours=True)


def test_json() -> None:
    value = json.loads(json.dumps(REPORT.as_json()))
    assert value["canRun"] is True
    assert value["user"] == {"uid": 1000, "name": "alice"}
    expected = {"name": "b.second-one", "verdict": "limited", "found": "half", "means": "so", "hint": "do this"}
    assert value["checks"][1] == expected | {"blocking": False}
    assert Report("x", 1, [("x", blocking("gone"))]).as_json()["canRun"] is False


@pytest.mark.parametrize(
    ("environ", "is_terminal", "wanted"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
    ],
)
def test_colours_are_for_terminals(
    environ: dict[str, str], is_terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = SimpleNamespace(environ=environ, isatty=lambda _fd: is_terminal)
    monkeypatch.setattr(doctor, "os", fake)
    assert doctor._wants_colours() is wanted


def test_user_without_a_name(tmp_path: Path) -> None:
    assert System(uid=77, gid=77, files=str(tmp_path)).user == "#77"


def test_documented() -> None:
    """docs/doctor.md has a row for every check, in their order."""
    text = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    assert re.findall(r"^\| `([a-z.-]+)` \|", text, re.MULTILINE) == list(CHECKS)
