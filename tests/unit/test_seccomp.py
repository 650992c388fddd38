"""ocirt.seccomp: what the programs decide, against the profile read naively; and what is refused."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt import seccomp as s
from ocirt.errors import SpecError
from ocirt.spec import Seccomp, Syscall, SyscallArg, parse_config
from tests.unit.seccomp_model import ERRNO, X32_BIT, X86, X86_64, action, numbers, simulate, verdict
from tests.unit.spec_samples import with_value

NATIVE = "SCMP_ARCH_X86_64"
ENOSYS, EPERM = 38, 1
NAMES = (
    *("read", "write", "open", "mmap", "ptrace", "personality", "clone", "prctl", "openat2", "unshare", "mount"),
    *("kexec_load", "dup2", "close_range", "setns", "futex", "getpid", "getuid", "umask", "poll", "bpf", "uname"),
)
EDGES = (0, 1, 2, 5, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**33 - 1, 2**63, 2**64 - 1)


def deny(*syscalls: Syscall, **fields: Any) -> Seccomp:
    return Seccomp(default_action="SCMP_ACT_ERRNO", syscalls=syscalls, **fields)


def allow(*names: str, args: tuple[SyscallArg, ...] = (), what: str = "SCMP_ACT_ALLOW", **fields: Any) -> Syscall:
    return Syscall(names=names, action=what, args=args, **fields)


def arg(index: int, op: str, value: int, value_two: int = 0) -> SyscallArg:
    return SyscallArg(index=index, op=f"SCMP_CMP_{op}", value=value, value_two=value_two)


def decide(profile: Seccomp, name: str, *args: int, arch: str = NATIVE) -> int:
    audit = X86 if arch == "SCMP_ARCH_X86" else X86_64
    return simulate(s.compile_seccomp(profile).bpf, audit, numbers(arch)[name], (*args, *[0] * (6 - len(args))))


values = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)
plain_actions = st.sampled_from(["KILL_PROCESS", "KILL", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW"]).map(
    "SCMP_ACT_{}".format
)
conditions = st.builds(
    SyscallArg,
    index=st.integers(0, 5),
    value=values,
    value_two=values,
    op=st.sampled_from(s.OPERATORS),
)
rules = st.builds(
    Syscall,
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
    action=plain_actions,
    args=st.lists(conditions, max_size=3).map(tuple) | st.just(()),
)
profiles = st.builds(
    Seccomp,
    default_action=plain_actions,
    architectures=st.lists(st.sampled_from([NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"]), max_size=3).map(tuple),
    syscalls=st.lists(rules, max_size=6).map(tuple),
)


@st.composite
def calls(draw: st.DrawFn, profile: Seccomp) -> tuple[int, int, list[int]]:
    """A system call that the profile has to do with, its arguments around the values of the profile's conditions."""
    arch = draw(st.sampled_from([NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"]))
    table = numbers(arch)
    known = [table[name] for rule in profile.syscalls for name in rule.names if name in table]
    number = draw(st.sampled_from([*known, 0, 39, 500, 2**30 + 500]) | st.sampled_from(sorted(table.values())))
    limit = 2**32 if arch == "SCMP_ARCH_X86" else 2**64
    arguments = draw(st.lists(values, min_size=6, max_size=6))
    for condition in (one for rule in profile.syscalls for one in rule.args):
        if draw(st.booleans()):
            near = st.sampled_from([condition.value, condition.value + 1, condition.value - 1, condition.value_two])
            arguments[condition.index] = draw(near)
    return X86 if arch == "SCMP_ARCH_X86" else X86_64, number, [value % limit for value in arguments]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_program_says_what_the_profile_says(data: st.DataObject) -> None:
    profile = data.draw(profiles)
    program = s.compile_seccomp(profile).bpf
    for _ in range(8):
        arch, number, args = data.draw(calls(profile))
        assert simulate(program, arch, number, args) == verdict(profile, arch, number, args)


@pytest.mark.parametrize("name", sorted(set(s.ACTIONS) - {"SCMP_ACT_NOTIFY"}))
def test_every_action_as_default_and_as_a_rule(name: str) -> None:
    rule = "SCMP_ACT_LOG" if name == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    profile = Seccomp(default_action=name, syscalls=(allow("bpf", what=rule), allow("read", what=name)))
    assert decide(profile, "read") == action(name, None)
    assert decide(profile, "bpf") == action(rule, None)
    other = Seccomp(default_action=rule, syscalls=(allow("read", what=name),))
    assert decide(other, "read") == action(name, None)


def test_notify_is_an_action_with_a_listener() -> None:
    profile = deny(allow("mknod", what="SCMP_ACT_NOTIFY"), allow("write"), listener_path="/run/agent")
    compiled = s.compile_seccomp(profile)
    assert compiled.listener
    assert compiled.flags == s.NEW_LISTENER | s.SPEC_ALLOW
    assert decide(profile, "mknod") == 0x7FC00000


@pytest.mark.parametrize(("what", "data"), [("SCMP_ACT_ERRNO", 0), ("SCMP_ACT_ERRNO", 4094), ("SCMP_ACT_TRACE", 65535)])
def test_errno_ret_is_the_action_s_data(what: str, data: int) -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(allow("chmod", what=what, errno_ret=data),))
    assert decide(profile, "chmod") == action(what, data)
    default = Seccomp(default_action=what, default_errno_ret=data, syscalls=(allow("read", "write", "bpf"),))
    assert decide(default, "chmod") == action(what, data)


def test_a_rule_with_another_errno_than_the_default_counts() -> None:
    profile = deny(allow("clone3", what="SCMP_ACT_ERRNO", errno_ret=ENOSYS), allow("openat2"))
    assert decide(profile, "clone3") == ERRNO | ENOSYS


@pytest.mark.parametrize("operator", s.OPERATORS)
@pytest.mark.parametrize("index", [0, 5])
def test_every_comparison_around_every_edge(operator: str, index: int) -> None:
    number = numbers(NATIVE)["prctl"]
    for value in EDGES:
        condition = SyscallArg(index=index, op=operator, value=value, value_two=2**32 + 5)
        profile = deny(allow("prctl", args=(condition,)), allow("openat2"))
        program = s.compile_seccomp(profile).bpf
        for near in {(edge + step) % 2**64 for edge in (*EDGES, value) for step in (-1, 0, 1, 2**32)}:
            args = [77] * 6
            args[index] = near
            assert simulate(program, X86_64, number, args) == verdict(profile, X86_64, number, args), (value, near)


def test_masked_eq_compares_value_two_under_the_mask() -> None:
    namespaces = 0x7E020000
    profile = deny(allow("clone", args=(arg(0, "MASKED_EQ", namespaces, 0),)), allow("openat2"))
    assert decide(profile, "clone", 0x11) == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "clone", 0x11 | 0x10000000) == ERRNO | EPERM
    some = deny(allow("clone", args=(arg(0, "MASKED_EQ", 0xF0, 0x21),)), allow("openat2"))
    assert decide(some, "clone", 0x2F) == action("SCMP_ACT_ALLOW", None)


def test_conditions_on_different_arguments_must_all_hold_and_on_the_same_one_any() -> None:
    both = deny(allow("socket", args=(arg(0, "EQ", 16), arg(2, "EQ", 9))), allow("openat2"))
    assert decide(both, "socket", 16, 0, 9) == action("SCMP_ACT_ALLOW", None)
    assert decide(both, "socket", 16, 0, 8) == ERRNO | EPERM
    either = deny(allow("socket", args=(arg(0, "EQ", 1), arg(0, "EQ", 2), arg(2, "EQ", 9))), allow("openat2"))
    assert decide(either, "socket", 2) == action("SCMP_ACT_ALLOW", None)
    assert decide(either, "socket", 5, 0, 9) == action("SCMP_ACT_ALLOW", None)
    assert decide(either, "socket", 5) == ERRNO | EPERM


def test_more_conditions_than_arguments() -> None:
    profile = deny(
        allow("personality", args=tuple(arg(0, "EQ", value) for value in range(0, 200, 2))), allow("openat2")
    )
    program, number = s.compile_seccomp(profile).bpf, numbers(NATIVE)["personality"]
    for value in range(200):
        expected = ERRNO | EPERM if value % 2 else action("SCMP_ACT_ALLOW", None)
        assert simulate(program, X86_64, number, (value, 0, 0, 0, 0, 0)) == expected


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def expire(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def test_rules_that_libseccomp_never_finishes() -> None:
    profile = deny(
        allow("socket", args=(arg(1, "GE", 45), arg(0, "LT", 41))),
        allow("socket", args=(arg(0, "GE", 10), arg(1, "EQ", 20))),
        allow("socket", args=(arg(2, "LE", 14), arg(0, "LT", 41))),
        allow("openat2"),
    )
    with at_most(10):
        assert decide(profile, "socket", 40, 20, 15) == action("SCMP_ACT_ALLOW", None)
        assert decide(profile, "socket", 9, 20, 15) == ERRNO | EPERM


def test_rules_of_which_libseccomp_loses_one() -> None:
    profile = Seccomp(
        default_action="SCMP_ACT_LOG",
        syscalls=tuple(
            allow("openat2", args=(arg(0, op, value),), what="SCMP_ACT_KILL_PROCESS")
            for op, value in (("LT", 2**32), ("LE", 2**63))
        ),
    )
    assert decide(profile, "openat2", 2**33 - 1) == action("SCMP_ACT_KILL_PROCESS", None)


@pytest.mark.parametrize("multiplexer", [None, "SCMP_ACT_LOG"])
def test_32_bit_socket_calls_go_through_socketcall_too(multiplexer: str | None) -> None:
    rule = allow("socket", args=(arg(0, "NE", 40),))
    unconditional = (allow("socketcall", what=multiplexer),) if multiplexer else ()
    profile = deny(rule, allow("openat2"), *unconditional, architectures=("SCMP_ARCH_X86",))
    assert decide(profile, "socket", 1, arch="SCMP_ARCH_X86") == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "socket", 40, arch="SCMP_ARCH_X86") == ERRNO | EPERM
    through = [decide(profile, "socketcall", call, arch="SCMP_ARCH_X86") for call in (1, 2)]
    if multiplexer:
        assert through == [action(multiplexer, None)] * 2
    else:
        assert through == [action("SCMP_ACT_ALLOW", None), ERRNO | EPERM]


def test_an_unconditional_socket_rule_outweighs_both_ways_in() -> None:
    rules = (allow("socket", args=(arg(0, "EQ", 40),), what="SCMP_ACT_KILL"), allow("socket"), allow("openat2"))
    profile = deny(*rules, architectures=("SCMP_ARCH_X86",))
    assert decide(profile, "socket", 40, arch="SCMP_ARCH_X86") == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "socketcall", 1, arch="SCMP_ARCH_X86") == action("SCMP_ACT_ALLOW", None)


def test_a_call_that_is_nowhere_but_behind_a_multiplexer() -> None:
    """Engines name send(2) and recv(2), which x86-64 and x32 have neither of their own nor through socketcall(2)."""
    rules = (allow("send", "recv", "semop"), allow("send", args=(arg(0, "EQ", 7),)), allow("openat2"))
    profile = deny(*rules, architectures=("SCMP_ARCH_X86", "SCMP_ARCH_X32"))
    assert decide(profile, "openat2") == action("SCMP_ACT_ALLOW", None)
    through = [decide(profile, "socketcall", call, arch="SCMP_ARCH_X86") for call in (9, 10, 11)]
    assert through == [action("SCMP_ACT_ALLOW", None)] * 2 + [ERRNO | EPERM]


def test_what_is_said_of_the_multiplexer_counts_before_what_goes_through_it() -> None:
    refused = allow("socketcall", args=(arg(0, "EQ", 1),), what="SCMP_ACT_ERRNO", errno_ret=99)
    profile = deny(allow("socket", "bind", "openat2"), refused, architectures=("SCMP_ARCH_X86",))
    through = [decide(profile, "socketcall", call, arch="SCMP_ARCH_X86") for call in (1, 2, 3)]
    assert through == [ERRNO | 99, action("SCMP_ACT_ALLOW", None), ERRNO | EPERM]


def test_a_way_in_is_not_too_new() -> None:
    """Though the profile names nothing newer: socket has 359, socketcall 102."""
    profile = deny(allow("read", "socket"), architectures=("SCMP_ARCH_X86",))
    assert decide(profile, "socket", arch="SCMP_ARCH_X86") == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "socketcall", 1, arch="SCMP_ARCH_X86") == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "socketcall", 2, arch="SCMP_ARCH_X86") == ERRNO | EPERM
    assert decide(profile, "bind", arch="SCMP_ARCH_X86") == ERRNO | ENOSYS


# ENOSYS for what is newer than the profile


def test_newer_than_anything_in_the_profile_is_enosys() -> None:
    profile = deny(allow("read", "openat2"), allow("bpf", what="SCMP_ACT_ERRNO", errno_ret=13), default_errno_ret=13)
    program = s.compile_seccomp(profile).bpf
    newest = numbers(NATIVE)["openat2"]
    assert simulate(program, X86_64, newest) == action("SCMP_ACT_ALLOW", None)
    assert simulate(program, X86_64, newest + 1) == ERRNO | ENOSYS
    assert simulate(program, X86_64, numbers(NATIVE)["bpf"]) == ERRNO | 13
    assert simulate(program, X86_64, newest - 1) == ERRNO | 13


def test_a_name_in_a_rule_of_the_default_action_is_known_too() -> None:
    profile = deny(allow("read"), allow("openat2", what="SCMP_ACT_ERRNO"))
    assert decide(profile, "openat2") == ERRNO | EPERM


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_no_enosys_where_the_default_lets_pass(default: str) -> None:
    profile = Seccomp(default_action=default, syscalls=(allow("read", what="SCMP_ACT_KILL"),))
    assert decide(profile, "openat2") == action(default, None)


@pytest.mark.parametrize("default", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_enosys_stands_before_deadly_defaults(default: str) -> None:
    profile = Seccomp(default_action=default, syscalls=(allow("read", "write"),))
    assert decide(profile, "openat2") == ERRNO | ENOSYS


def test_a_profile_without_system_calls_denies_all() -> None:
    assert decide(deny(), "openat2") == ERRNO | EPERM
    assert decide(Seccomp(default_action="SCMP_ACT_KILL"), "read") == 0


def test_each_architecture_has_its_own_newest() -> None:
    names = ("read", "process_vm_readv")  # x32 has the second one at 539, with its own table from 512 on
    profile = deny(allow(*names), architectures=(NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"))
    program = s.compile_seccomp(profile).bpf
    for arch, audit in ((NATIVE, X86_64), ("SCMP_ARCH_X86", X86), ("SCMP_ARCH_X32", X86_64)):
        newest = numbers(arch)["process_vm_readv"]
        assert simulate(program, audit, newest) == action("SCMP_ACT_ALLOW", None), arch
        assert simulate(program, audit, newest + 1) == ERRNO | ENOSYS, arch


def test_x32_is_refused_unless_named() -> None:
    profile = deny(allow("read", "openat2"))
    program = s.compile_seccomp(profile).bpf
    assert simulate(program, X86_64, X32_BIT | 0) == 0
    assert simulate(program, X86_64, X32_BIT | 500) == 0
    assert simulate(program, X86_64, X32_BIT - 1) == ERRNO | ENOSYS
    assert simulate(program, X86_64, 2**32 - 2) == 0
    assert simulate(program, X86, 3) == 0


@pytest.mark.parametrize("architectures", [(), ("SCMP_ARCH_X32",)])
def test_what_a_tracer_has_left_out_is_not_killed(architectures: tuple[str, ...]) -> None:
    """It makes the number -1."""
    program = s.compile_seccomp(deny(allow("read", "openat2"), architectures=architectures)).bpf
    assert simulate(program, X86_64, 2**32 - 1) & ~0xFFFF == ERRNO


# architectures

LITTLE_ENDIAN = {
    f"SCMP_ARCH_{name}"
    for name in (
        *("X86", "X86_64", "X32", "ARM", "AARCH64", "LOONGARCH64", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC64LE", "RISCV64", "SH"),
    )
}


def test_the_native_architecture_is_always_in() -> None:
    profile = deny(allow("read"), architectures=("SCMP_ARCH_X86",))
    assert decide(profile, "read") == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "read", arch="SCMP_ARCH_X86") == action("SCMP_ACT_ALLOW", None)


def test_every_architecture_of_the_specification_compiles_or_is_an_error_with_its_pointer() -> None:
    supported = s.supported_architectures()
    assert {NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"} <= set(supported)
    for name in s.ARCHITECTURES:
        profile = deny(allow("read"), architectures=(NATIVE, name))
        if name in LITTLE_ENDIAN and name in supported:
            assert s.compile_seccomp(profile).bpf
            continue
        with pytest.raises(SpecError) as caught:
            s.compile_seccomp(profile)
        assert caught.value.pointer == "/linux/seccomp/architectures/1"
        assert ("byte order" if name in supported else "is unknown to libseccomp 2.") in caught.value.message


def test_all_architectures_of_one_byte_order_at_once() -> None:
    profile = deny(
        allow("read", "openat2"),
        allow("socket", args=(arg(0, "LE", 2),)),
        architectures=tuple(name for name in s.supported_architectures() if name in LITTLE_ENDIAN),
    )
    program = s.compile_seccomp(profile).bpf
    aarch64, openat2 = 0xC00000B7, 437
    assert simulate(program, aarch64, 63) == action("SCMP_ACT_ALLOW", None)
    assert simulate(program, aarch64, openat2) == action("SCMP_ACT_ALLOW", None)
    assert simulate(program, aarch64, openat2 + 1) == ERRNO | ENOSYS
    assert simulate(program, aarch64, 198, (2, 0, 0, 0, 0, 0)) == action("SCMP_ACT_ALLOW", None)
    assert simulate(program, aarch64, 198, (3, 0, 0, 0, 0, 0)) == ERRNO | EPERM


# flags


@pytest.mark.parametrize(("given", "flags"), [({}, s.SPEC_ALLOW), ({"flags": []}, 0)])
def test_flags_that_are_absent_are_not_flags_that_are_empty(given: dict[str, Any], flags: int) -> None:
    config = with_value("/linux/seccomp", {"defaultAction": "SCMP_ACT_ERRNO", **given})
    linux = parse_config(config).linux
    assert linux
    assert linux.seccomp
    assert s.compile_seccomp(linux.seccomp).flags == flags


def test_flags() -> None:
    base = deny(allow("read"), flags=("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"))
    assert s.compile_seccomp(base).flags == 2 | 4
    assert s.compile_seccomp(deny(allow("read"), flags=("SECCOMP_FILTER_FLAG_TSYNC",))).flags == 1
    notify = deny(
        allow("mknod", what="SCMP_ACT_NOTIFY"),
        listener_path="/run/agent",
        flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"),
    )
    assert s.compile_seccomp(notify).flags == 1 | 8 | 16 | 32


# warnings and refusals


def test_unknown_names_are_skipped_with_a_warning() -> None:
    profile = deny(allow("read", "no_such_call"), allow("openat2", "another"))
    compiled = s.compile_seccomp(profile)
    assert [text.split(": ")[0] for text in compiled.warnings] == [
        "/linux/seccomp/syscalls/0/names/1",
        "/linux/seccomp/syscalls/1/names/1",
    ]
    assert '"no_such_call" is unknown to libseccomp 2.' in compiled.warnings[0]
    assert compiled.bpf == s.compile_seccomp(deny(allow("read"), allow("openat2"))).bpf


def test_unknown_names_are_an_error_on_demand() -> None:
    with pytest.raises(SpecError, match=r"^/x/syscalls/1/names/0: system call \"nope\" is unknown"):
        s.compile_seccomp(deny(allow("read"), allow("nope")), "/x", fail_unknown_syscall=True)


ALLOW = allow("read")
REFUSED: list[tuple[Seccomp, str, str]] = [
    (Seccomp(default_action="SCMP_ACT_NO"), "/defaultAction", '"SCMP_ACT_NO" is no seccomp action'),
    (
        Seccomp(default_action="SCMP_ACT_ALLOW", default_errno_ret=1),
        "/defaultErrnoRet",
        "SCMP_ACT_ALLOW takes no errno",
    ),
    (
        Seccomp(default_action="SCMP_ACT_KILL", default_errno_ret=1),
        "/defaultErrnoRet",
        "SCMP_ACT_KILL takes no errno",
    ),
    (deny(default_errno_ret=4095), "/defaultErrnoRet", "4095 is out of range, SCMP_ACT_ERRNO takes 0 to 4094"),
    (deny(ALLOW, allow("bpf", errno_ret=1)), "/syscalls/1/errnoRet", "SCMP_ACT_ALLOW takes no errno"),
    (deny(allow("bpf", what="SCMP_ACT_TRAP", errno_ret=0)), "/syscalls/0/errnoRet", "SCMP_ACT_TRAP takes no errno"),
    (deny(allow("bpf", what="SCMP_ACT_TRACE", errno_ret=65536)), "/syscalls/0/errnoRet", "takes 0 to 65535"),
    (deny(allow("bpf", what="ALLOW")), "/syscalls/0/action", '"ALLOW" is no seccomp action'),
    (deny(allow("bpf", args=(arg(6, "EQ", 0),))), "/syscalls/0/args/0/index", "must be 0 to 5"),
    (deny(allow("bpf", args=(arg(0, "EQ", 0), arg(0, "IN", 0)))), "/syscalls/0/args/1/op", '"SCMP_CMP_IN" is no'),
    (deny(allow("read", "")), "/syscalls/0/names/1", "is no name of a system call"),
    (deny(architectures=(NATIVE, "x86_64")), "/architectures/1", '"x86_64" is no seccomp architecture'),
    (deny(flags=("SECCOMP_FILTER_FLAG_NEW_LISTENER",)), "/flags/0", "is no seccomp flag"),
    (deny(flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",)), "/flags/0", "needs a rule with SCMP_ACT_NOTIFY"),
    (deny(listener_metadata="x"), "/listenerMetadata", "listenerMetadata needs listenerPath"),
    (
        Seccomp(default_action="SCMP_ACT_NOTIFY", listener_path="/a"),
        "/defaultAction",
        "SCMP_ACT_NOTIFY cannot be used as default action",
    ),
    (
        deny(allow("read", "write", what="SCMP_ACT_NOTIFY"), listener_path="/a"),
        "/syscalls/0/names/1",
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    ),
    (deny(allow("mknod", what="SCMP_ACT_NOTIFY")), "/listenerPath", "SCMP_ACT_NOTIFY needs listenerPath"),
]


@pytest.mark.parametrize(("profile", "pointer", "text"), REFUSED, ids=[pointer for _, pointer, _ in REFUSED])
def test_refused(profile: Seccomp, pointer: str, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        s.compile_seccomp(profile)
    assert caught.value.pointer == f"/linux/seccomp{pointer}"
    assert text in caught.value.message


def test_a_flag_that_the_kernel_lacks_is_an_error() -> None:
    profile = deny(ALLOW, flags=("SECCOMP_FILTER_FLAG_LOG",))
    with pytest.raises(
        SpecError, match=r"^/linux/seccomp/flags/0: the kernel does not support SECCOMP_FILTER_FLAG_LOG"
    ):
        s.compile_seccomp(profile, supported_flags=s.ALL_FLAGS & ~s.LOG_FLAG)


def test_a_filter_too_large_for_the_kernel_is_an_error() -> None:
    args = tuple(arg(0, "EQ", value) for value in range(1100))
    with pytest.raises(SpecError, match=r"^/linux/seccomp: the filter has \d+ instructions, the kernel takes 4096"):
        s.compile_seccomp(deny(allow("bpf", args=args)))


def test_a_large_but_fitting_block_of_rules_is_jumped_over() -> None:
    args = tuple(arg(0, "EQ", value) for value in range(0, 1400, 2))
    profile = deny(allow("ptrace", args=args), allow("bpf", args=(arg(0, "EQ", 7),)), allow("openat2"))
    assert decide(profile, "ptrace", 1398) == action("SCMP_ACT_ALLOW", None)
    assert decide(profile, "ptrace", 7) == ERRNO | EPERM
    assert decide(profile, "bpf", 7) == action("SCMP_ACT_ALLOW", None)


# the cache


class Memory:
    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.hits = 0

    def get(self, source: bytes) -> bytes | None:
        self.hits += source in self.kept
        return self.kept.get(source)

    def put(self, source: bytes, value: bytes) -> None:
        self.kept[source] = value


def test_a_cached_program_is_the_same() -> None:
    memory = Memory()
    profile = deny(allow("read", "nope", "openat2"), architectures=("SCMP_ARCH_X86",))
    fresh = s.compile_seccomp(profile)
    assert s.compile_seccomp(profile, cache=memory) == fresh
    assert memory.hits == 0
    assert s.compile_seccomp(profile, cache=memory) == fresh
    assert memory.hits == 1


def test_profiles_that_differ_share_no_program() -> None:
    memory = Memory()
    condition = arg(0, "EQ", 1)
    different = [
        deny(allow("read")),
        deny(allow("write")),
        deny(allow("read"), allow("write")),
        deny(allow("read", "write")),
        deny(allow("read"), default_errno_ret=2),
        Seccomp(default_action="SCMP_ACT_KILL", syscalls=(allow("read"),)),
        deny(allow("read", args=(condition,))),
        deny(allow("read"), architectures=("SCMP_ARCH_X86",)),
    ]
    for profile in different:
        assert s.compile_seccomp(profile, cache=memory).bpf == s.compile_seccomp(profile).bpf
    assert memory.hits == 0
    assert len(memory.kept) == len(different)


_NAMES = st.lists(st.sampled_from(["read", "0", "(0, [])", "\ud800", "\ud801", "?"]), max_size=3)
_ENTRIES = st.lists(st.tuples(_NAMES.map(tuple), st.sampled_from([0, 1]), st.booleans()), max_size=3)


@given(_ENTRIES, _ENTRIES)
def test_only_the_same_profile_has_the_same_source(one: Any, other: Any) -> None:
    def source(entries: Any) -> bytes:
        rules = [allow(*names, args=(arg(0, "EQ", 1),) if condition else ()) for names, _, condition in entries]
        return s._source(0, [1], rules, [action for _, action, _ in entries])

    assert (source(one) == source(other)) is (one == other)


def test_the_program_is_whole_instructions_and_ends_in_a_return() -> None:
    program = s.compile_seccomp(deny(ALLOW)).bpf
    assert len(program) % 8 == 0
    assert struct.unpack("=HBBI", program[-8:])[0] == 0x06
