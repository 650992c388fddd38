"""The program of a container, as it sees itself."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformance.bed import Bed
from conformance.expect import case_of, equal, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config
from tests.support.facts import CAPABILITY_NAMES

Check = Callable[[Bed], None]
SETS = ("effective", "bounding", "inheritable", "permitted", "ambient")


def process(**properties: Any) -> Config:
    return {"process": properties}


# The program's directory, environment and arguments.


def cwd(bed: Bed) -> None:
    for folder in ("/", "/usr/bin", "/home/user"):
        equal("cwd", bed.observe(process(cwd=folder))["cwd"], folder)


def env(bed: Bed) -> None:
    for entries in (["PATH=/bin:/usr/bin", "A=1", "B=two words", "C=a=b", "D="], ["PATH=/"]):
        seen = bed.observe(process(env=entries))["env"]
        # The text does not say that there is nothing else: login(1)'s HOME is what runtimes add where it is missing.
        others = [entry for entry in seen if not entry.startswith("HOME=")]
        equal("the environment", sorted(others), sorted(entries))


def args(bed: Bed) -> None:
    seen = bed.observe(process(args=["/probe", "/a b", "", "/c"]))["argv"]
    equal("the arguments", seen, ["/probe", "/a b", "", "/c"])
    seen = bed.observe(process(args=["probe", "/x"], env=["PATH=/bin:/"]))["argv"]
    equal("the arguments of a program found along PATH", seen, ["probe", "/x"])


BASICS: dict[str, Check] = {
    "config.process.cwd-applied": cwd,
    "config.process.env-applied": env,
    "config.process.args-applied": args,
}


def test_basics(requirement: Requirement, bed: Bed) -> None:
    case_of(BASICS, requirement.id)(bed)


# Capabilities.


def available() -> set[str]:
    """The capabilities that the runtime's caller has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith("CapPrm"))
    return {f"CAP_{name}" for number, name in enumerate(CAPABILITY_NAMES) if bits >> number & 1}


FEW, MORE = ["CAP_KILL", "CAP_CHOWN"], ["CAP_KILL", "CAP_CHOWN", "CAP_SETGID", "CAP_NET_RAW"]
# What has to be within a set (capabilities(7)), and is as short as that one. For root, execve(2) makes all that is
# permitted effective, so that a shorter effective set does not outlive it.
WITHIN = {
    "effective": ("permitted", "ambient"),
    "permitted": ("effective", "ambient"),
    "inheritable": ("ambient",),
    "bounding": ("inheritable", "ambient"),
    "ambient": (),
}


def test_capabilities(requirement: Requirement, bed: Bed) -> None:
    name = requirement.pointer.rpartition("/")[2]
    shortened = (name, *WITHIN[name])
    for length, part in (("few", FEW), ("as many as the others", MORE), ("none", None)):
        lists = {kind: part if kind in shortened else MORE for kind in SETS}
        for uid in (0, 1000):
            user = {"uid": uid, "gid": uid}
            # With no_new_privs, execve(2) permits root nothing that was not permitted before.
            facts = bed.observe(process(user=user, capabilities=lists, noNewPrivileges=True))
            source = "ambient" if uid and name in ("effective", "permitted") else name
            if not uid and name in ("effective", "permitted"):
                source = "permitted"
            expected = sorted(lists[source] or [])
            equal(f"the {name} set of user {uid} with {length} listed", sorted(facts.capabilities(name)), expected)


def test_capabilities_not_grantable(requirement: Requirement, bed: Bed) -> None:
    missing = sorted({f"CAP_{name}" for name in CAPABILITY_NAMES} - available())
    cases = {"one that does not exist": "CAP_NO_SUCH_THING"}
    if missing:
        cases["one that the caller lacks"] = missing[0]
    for what, name in cases.items():
        lists = {kind: ["CAP_KILL", name] for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")}
        attempt = bed.attempt(bed.config(process(capabilities=lists)))
        that(attempt.taken, f"a capability that cannot be granted, {what} ({name})", "a warning, and the program runs",
             attempt.summary)  # fmt: skip
        equal("the capabilities", sorted(attempt.facts().capabilities("effective")), ["CAP_KILL"])


# Names, limits, ids.


def test_names(requirement: Requirement, bed: Bed) -> None:
    name = requirement.pointer.strip("/")
    before = (socket.gethostname(), os.uname(), Path("/proc/sys/kernel/domainname").read_text())
    equal(name, bed.observe({name: "some-name.test"})[name], "some-name.test")
    after = (socket.gethostname(), os.uname(), Path("/proc/sys/kernel/domainname").read_text())
    equal("the host's names", after, before)


def oom_score_adj() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


def oom_score_adj_set(bed: Bed) -> None:
    own = oom_score_adj()
    # Lower than what the runtime has needs CAP_SYS_RESOURCE.
    for value in {own, 1000, (own + 1000) // 2}:
        equal("oom_score_adj", int(bed.observe(process(oomScoreAdj=value))["oom_score_adj"]), value)


def oom_score_adj_left_alone(bed: Bed) -> None:
    path = Path("/proc/self/oom_score_adj")
    before = path.read_text()
    try:
        for value in (int(before), 321):
            path.write_text(str(value))
            seen = bed.launch(bed.new()).facts()["oom_score_adj"]
            equal("oom_score_adj, as the runtime had it", int(seen), value)
    finally:
        # Back to what it was needs no privilege as long as that was no less than the least ever set.
        path.write_text(before)


OOM_SCORE: dict[str, Check] = {
    "config.process.oom-score-adj-set": oom_score_adj_set,
    "config.process.oom-score-adj-left-alone": oom_score_adj_left_alone,
}


def test_oom_score_adj(requirement: Requirement, bed: Bed) -> None:
    case_of(OOM_SCORE, requirement.id)(bed)


def test_personality(requirement: Requirement, bed: Bed) -> None:
    facts = bed.observe({"linux": {"personality": {"domain": "LINUX32"}}})
    equal("the execution domain", facts["personality"] & 0xFF, 8)
    that(facts["machine"] in ("i686", "armv8l", "armv7l"), "the machine's name", "one of 32 bits", facts["machine"])
    equal("the execution domain LINUX", bed.observe({"linux": {"personality": {"domain": "LINUX"}}})["personality"], 0)


def test_rlimits(requirement: Requirement, bed: Bed) -> None:
    wanted = {"NOFILE": (100, 200), "CORE": (0, 0), "STACK": (1 << 20, 1 << 23), "FSIZE": (1 << 30, (1 << 62) - 1)}
    entries = [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, (soft, hard) in wanted.items()]
    entries.append({"type": "RLIMIT_CPU", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1})
    seen = bed.observe(process(rlimits=entries))["rlimits"]
    for name, (soft, hard) in {**wanted, "CPU": (-1, -1)}.items():
        if requirement.id.endswith("soft-matches"):
            equal(f"the soft limit {name}", seen[name][0], soft)
        elif requirement.id.endswith("hard-matches"):
            equal(f"the hard limit {name}", seen[name][1], hard)
        else:
            that(name in seen, f"getrlimit of {name}", "it succeeds", seen)


# What protects.


def no_new_privileges(bed: Bed) -> None:
    equal("no_new_privs with true", bed.observe(process(noNewPrivileges=True))["no_new_privs"], 1)
    equal("no_new_privs with false", bed.observe(process(noNewPrivileges=False))["no_new_privs"], 0)
    equal("no_new_privs without it", bed.observe(process(noNewPrivileges=None))["no_new_privs"], 0)


@contextmanager
def profile(name: str) -> Iterator[None]:
    """An AppArmor profile that allows everything."""
    rules = "capability, network, mount, remount, umount, pivot_root, ptrace, signal, dbus, unix, file, change_profile,"
    text = f"profile {name} flags=(attach_disconnected) {{ {rules} }}"
    command = ["apparmor_parser", "--skip-cache"]
    try:
        subprocess.run([*command, "--add"], input=text, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        not_testable(f"no profile can be loaded: {error}")
    try:
        yield
    finally:
        subprocess.run([*command, "--remove"], input=text, capture_output=True, text=True, check=False)


def apparmor(bed: Bed) -> None:
    with profile(f"{bed.token}-profile"):
        facts = bed.observe(process(apparmorProfile=f"{bed.token}-profile"))
    equal("the profile", facts["attr"].strip("\0\n"), f"{bed.token}-profile (enforce)")


def selinux(bed: Bed) -> None:
    label = "system_u:system_r:container_t:s0:c1,c2"
    equal("the label", bed.observe(process(selinuxLabel=label))["attr"].strip("\0\n"), label)


SECURITY: dict[str, Check] = {
    "config.process.no-new-privileges-applied": no_new_privileges,
    "config.process.apparmor-profile-applied": apparmor,
    "config.process.selinux-label-applied": selinux,
}


def test_security(requirement: Requirement, bed: Bed) -> None:
    case_of(SECURITY, requirement.id)(bed)


def test_sysctl(requirement: Requirement, bed: Bed) -> None:
    wanted = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4567", "kernel.shm_rmid_forced": "1"}
    files = ["/proc/sys/" + name.replace(".", "/") for name in wanted]
    host = [Path(file).read_text() for file in files]
    config = bed.config({"linux": {"sysctl": wanted}, "process": {"args": ["/bin/cat", *files]}})
    attempt = bed.attempt(config)
    that(attempt.taken, "the configuration", "taken", attempt.summary)
    equal("the parameters", attempt.output.split(), list(wanted.values()))
    equal("the host's parameters", [Path(file).read_text() for file in files], host)


# The user.


def uid(bed: Bed) -> None:
    for number in (0, 1000, 2147483646):
        facts = bed.observe(process(user={"uid": number, "gid": 0}))
        equal("the real, effective and saved user ids", facts["uids"], [number] * 3)
        equal("all four, in /proc", facts.status("Uid").split(), [str(number)] * 4)


def gid(bed: Bed) -> None:
    for number in (0, 1000, 2147483646):
        facts = bed.observe(process(user={"uid": 0, "gid": number}))
        equal("the real, effective and saved group ids", facts["gids"], [number] * 3)
        equal("all four, in /proc", facts.status("Gid").split(), [str(number)] * 4)


def umask(bed: Bed) -> None:
    for number in (0, 0o22, 0o77, 0o777):
        equal("the umask", oct(bed.observe(process(user={"umask": number}))["umask"]), oct(number))


def umask_default(bed: Bed) -> None:
    for number in (0o22, 0o37):
        before = os.umask(number)
        try:
            container = bed.new()
            seen = bed.launch(container).facts()["umask"]
        finally:
            os.umask(before)
        equal("the umask, as the runtime had it", oct(seen), oct(number))


def additional_gids(bed: Bed) -> None:
    before = os.getgroups()
    os.setgroups([0, 7777])
    try:
        for gids in ([], [5], [10, 20, 30]):
            seen = bed.launch(bed.new(process(user={"additionalGids": gids}))).facts()["groups"]
            equal("the supplementary groups", sorted(set(seen) - {0}), gids)
        without = bed.launch(bed.new()).facts()["groups"]
        equal("the supplementary groups without a list", sorted(set(without) - {0}), [])
    finally:
        os.setgroups(before)


USER: dict[str, Check] = {
    "config.user.uid-applied": uid,
    "config.user.gid-applied": gid,
    "config.user.umask-applied": umask,
    "config.user.umask-default": umask_default,
    "config.user.additional-gids-applied": additional_gids,
}


def test_user(requirement: Requirement, bed: Bed) -> None:
    case_of(USER, requirement.id)(bed)
