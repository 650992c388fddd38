"""seccomp: which calls meet which action."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from conformance.bed import Attempt, Bed
from conformance.calls import all_calls
from conformance.expect import case_of, equal, not_testable, that
from requirements import Requirement

from tests.support.bundle import Config, bind_entry

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def profile(default: str, *rules: Config, **properties: Any) -> Config:
    return {"linux": {"seccomp": {"defaultAction": default, "syscalls": list(rules), **properties}}}


def rule(names: Sequence[str], action: str, *args: Config, **properties: Any) -> Config:
    return {"names": list(names), "action": action} | ({"args": list(args)} if args else {}) | properties


def launch(bed: Bed, patch: Config, name: str, *arguments: int) -> Attempt:
    config = bed.config(patch)
    config["process"]["args"] = ["/probe", "call", name, *map(str, arguments)]
    return bed.attempt(config)


def call(bed: Bed, patch: Config, name: str, *arguments: int) -> int:
    """The errno of a call under the profile, 0 where it succeeds."""
    attempt = launch(bed, patch, name, *arguments)
    that(attempt.taken and attempt.exit_code == 0, "the profile", "taken, and the program runs", attempt.summary)
    return int(json.loads(attempt.output)["errno"])


def default_action(bed: Bed) -> None:
    equal("the errno of a call under ALLOW", call(bed, profile(ALLOW), "getppid"), 0)
    denied = profile(ERRNO, rule(all_calls(but=["getppid"]), ALLOW))
    equal("the errno of a call that no rule matches, under ERRNO", call(bed, denied, "getppid"), errno.EPERM)
    equal("the errno of a call that a rule allows", call(bed, denied, "getpgid"), 0)


def default_errno(bed: Bed) -> None:
    for number in (errno.ENOSYS, errno.EBUSY):
        denied = profile(ERRNO, rule(all_calls(but=["getppid"]), ALLOW), defaultErrnoRet=number)
        equal("the errno of a call that no rule matches", call(bed, denied, "getppid"), number)


def errno_default(bed: Bed) -> None:
    equal("the errno of a rule", call(bed, profile(ALLOW, rule(["getppid"], ERRNO)), "getppid"), errno.EPERM)


def errno_given(bed: Bed) -> None:
    for number in (errno.ENOSYS, errno.EBUSY, 1):
        denied = profile(ALLOW, rule(["getppid"], ERRNO, errnoRet=number))
        equal("the errno of a rule", call(bed, denied, "getppid"), number)


def names(bed: Bed) -> None:
    denied = profile(ALLOW, rule(["getppid", "getpgid", "no_such_call"], ERRNO))
    equal("the errno of the first", call(bed, denied, "getppid"), errno.EPERM)
    equal("the errno of the second", call(bed, denied, "getpgid"), errno.EPERM)
    equal("the errno of one that is not named", call(bed, denied, "sync"), 0)


def actions(bed: Bed) -> None:
    def end_of(action: str) -> Attempt:
        return launch(bed, profile(ALLOW, rule(["getppid"], action)), "getppid")

    for action in (ALLOW, "SCMP_ACT_LOG"):
        equal(f"the errno under {action}", json.loads(end_of(action).output or "{}").get("errno"), 0)
    equal("the errno under ERRNO", json.loads(end_of(ERRNO).output)["errno"], errno.EPERM)
    # Without a tracer, TRACE is ENOSYS.
    equal("the errno under TRACE", json.loads(end_of("SCMP_ACT_TRACE").output or "{}").get("errno"), errno.ENOSYS)
    for action in ("SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"):
        equal(f"the exit code under {action}", end_of(action).exit_code, 128 + signal.SIGSYS)


def arguments(bed: Bed) -> None:
    denied = profile(ALLOW, rule(["getpgid"], ERRNO, {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}))
    equal("the errno where the argument fits", call(bed, denied, "getpgid", 1), errno.EPERM)
    equal("the errno where it does not", call(bed, denied, "getpgid", 0), 0)


def flags(bed: Bed) -> None:
    for flag in ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"):
        patch = profile(ALLOW, rule(["getppid"], ERRNO), flags=[flag])
        equal(f"the errno with {flag}", call(bed, patch, "getppid"), errno.EPERM)
    if "force mitigated" not in store_bypass(bed, profile(ALLOW, rule(["getppid"], ERRNO))):
        not_testable("the flags are taken, and leave no trace: this kernel does not end speculation under a profile")
    line = store_bypass(bed, profile(ALLOW, rule(["getppid"], ERRNO), flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))
    that("force mitigated" not in line, "Speculation_Store_Bypass with SPEC_ALLOW", "not forced", line)


def store_bypass(bed: Bed, patch: Config) -> str:
    status = bed.observe(patch)["status"]
    return next((line for line in status.splitlines() if line.startswith("Speculation_Store_Bypass")), "")


# A program without a C library, whose one call is the 32-bit getppid(2). It exits with the errno.
CALL_32 = """
void _start(void) {
    long result, all = 231; /* exit_group */
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(64) : "memory");
    __asm__ volatile("syscall" : : "a"(all), "D"(result < 0 ? -result : 0) : "rcx", "r11", "memory");
}
"""


def architectures(bed: Bed) -> None:
    """Calls of an architecture that is listed meet the rules; libseccomp's filter kills for the others'."""
    if os.uname().machine != "x86_64":
        not_testable("needs a machine that runs programs of a second architecture")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        command = ["gcc", "-static", "-nostdlib", "-x", "c", "-", "-o", f"{folder}/call"]
        subprocess.run(command, input=CALL_32, text=True, check=True)
        if subprocess.run([f"{folder}/call"], check=False).returncode != 0:
            not_testable("this kernel takes no 32-bit calls")
        exits = {}
        for listed in (("SCMP_ARCH_X86_64",), ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")):
            patch = profile(ALLOW, rule(["getppid"], ERRNO), architectures=list(listed))
            config = bed.config(patch | {"process": {"args": ["/mnt/call"]}})
            config["mounts"] = [*config["mounts"], bind_entry(folder, "/mnt")]
            exits[listed[-1]] = bed.attempt(config).exit_code
    equal("the exit code of a 32-bit call that a rule denies", exits["SCMP_ARCH_X86"], errno.EPERM)
    equal("the exit code where its architecture is not listed", exits["SCMP_ARCH_X86_64"], 128 + signal.SIGSYS)


PROFILE: dict[str, Callable[[Bed], None]] = {
    "config-linux.seccomp.default-errno-default": default_action,
    "config-linux.seccomp.errno-default": errno_default,
    "config-linux.seccomp.default-action-applied": default_action,
    "config-linux.seccomp.default-errno-ret-applied": default_errno,
    "config-linux.seccomp.architectures-applied": architectures,
    "config-linux.seccomp.flags-applied": flags,
    "config-linux.seccomp.syscalls-applied": errno_default,
    "config-linux.seccomp.syscalls.names-applied": names,
    "config-linux.seccomp.syscalls.action-applied": actions,
    "config-linux.seccomp.syscalls.errno-ret-applied": errno_given,
    "config-linux.seccomp.syscalls.args-applied": arguments,
}


def test_profile(requirement: Requirement, bed: Bed) -> None:
    case_of(PROFILE, requirement.id)(bed)


# Operator: the rule's value, and valueTwo, then arguments that fit and that do not.
OPERATORS: dict[str, tuple[int, int, list[int], list[int]]] = {
    "SCMP_CMP_EQ": (5, 0, [5], [4, 6]),
    "SCMP_CMP_NE": (5, 0, [4, 6], [5]),
    "SCMP_CMP_LT": (5, 0, [0, 4], [5, 6]),
    "SCMP_CMP_LE": (5, 0, [4, 5], [6]),
    "SCMP_CMP_GE": (5, 0, [5, 6], [4]),
    "SCMP_CMP_GT": (5, 0, [6], [4, 5]),
    "SCMP_CMP_MASKED_EQ": (0xF0, 0x50, [0x50, 0x5F, 0x150], [0x60, 5]),
}
# More than 32 bits.
WIDE = 1 << 40


def operators(bed: Bed, *chosen: str) -> None:
    for name in chosen or OPERATORS:
        value, second, fitting, others = OPERATORS[name]
        # The third argument of personality(2) is nobody's.
        compared = {"index": 2, "value": value, "valueTwo": second, "op": name}
        patch = profile(ALLOW, rule(["personality"], ERRNO, compared))
        for number in fitting:
            equal(
                f"the errno of {name} {value} with {number}", call(bed, patch, "personality", 0, 0, number), errno.EPERM
            )
        for number in others:
            equal(f"the errno of {name} {value} with {number}", call(bed, patch, "personality", 0, 0, number), 0)


def index(bed: Bed) -> None:
    for place in range(6):
        compared = {"index": place, "value": 7, "op": "SCMP_CMP_EQ"}
        patch = profile(ALLOW, rule(["getppid"], ERRNO, compared))
        fitting = [7 if place == number else 0 for number in range(6)]
        equal(f"the errno where argument {place} fits", call(bed, patch, "getppid", *fitting), errno.EPERM)
        others = [0 if place == number else 7 for number in range(6)]
        equal(f"the errno where all but {place} fit", call(bed, patch, "getppid", *others), 0)


def value(bed: Bed) -> None:
    for number in (0, 7, WIDE, WIDE + 7):
        patch = profile(ALLOW, rule(["getppid"], ERRNO, {"index": 0, "value": number, "op": "SCMP_CMP_EQ"}))
        equal(f"the errno with {number}", call(bed, patch, "getppid", number), errno.EPERM)
        equal("the errno with one more", call(bed, patch, "getppid", number + 1), 0)
        equal("the errno with others of the upper 32 bits", call(bed, patch, "getppid", number ^ (WIDE << 1)), 0)


ARGUMENTS: dict[str, Callable[[Bed], None]] = {
    "config-linux.seccomp.args.index-applied": index,
    "config-linux.seccomp.args.value-applied": value,
    "config-linux.seccomp.args.value-two-applied": lambda bed: operators(bed, "SCMP_CMP_MASKED_EQ"),
    "config-linux.seccomp.args.op-applied": operators,
}


def test_arguments(requirement: Requirement, bed: Bed) -> None:
    case_of(ARGUMENTS, requirement.id)(bed)


def test_errno_unsupported(requirement: Requirement, bed: Bed) -> None:
    if requirement.id == "config-linux.seccomp.default-errno-unsupported":
        for action in (ALLOW, "SCMP_ACT_LOG"):
            bed.refused(bed.config(profile(action, defaultErrnoRet=1)), bed.config(profile(action)))
        return
    for action in (ALLOW, "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"):
        default = "SCMP_ACT_LOG" if action == ALLOW else ALLOW
        bad, good = rule(["getppid"], action, errnoRet=1), rule(["getppid"], action)
        bed.refused(bed.config(profile(default, bad)), bed.config(profile(default, good)))


def test_metadata_without_listener(requirement: Requirement, bed: Bed) -> None:
    good = profile(ALLOW, rule(["getppid"], ERRNO))
    bad = profile(ALLOW, rule(["getppid"], ERRNO), listenerMetadata="text")
    bed.refused(bed.config(bad), bed.config(good))
