"""The device filter's program decides as the rules of config.json say, for any rules and any request."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroup.devices import DEFAULT_RULES, DeviceFilter, compile_device_filter
from ocirt.errors import SpecError
from ocirt.spec import DeviceRule

CONTEXT = -1
MKNOD, READ, WRITE = 1, 2, 4
BLOCK, CHAR = 1, 2
DENY_ALL = DeviceRule(allow=False, access="rwm")
ALLOW_ALL = DeviceRule(allow=True, access="rwm")

Request = tuple[int, int, int, int]  # type, major, minor, accesses


# What an instruction makes of a register, its immediate and its source register.
ALU: dict[int, Callable[[int, int, int], int]] = {
    0xB4: lambda _old, immediate, _source: immediate,
    0xBC: lambda _old, _immediate, source: source,
    0x54: lambda old, immediate, _source: old & immediate,
    0xA4: lambda old, immediate, _source: old ^ immediate,
    0x4C: lambda old, _immediate, source: old | source,
    0x74: lambda old, immediate, _source: old >> immediate,
    0x4F: lambda old, _immediate, source: old | source,
    0x67: lambda old, immediate, _source: old << immediate & 2**64 - 1,
}


def unsigned_needed() -> bool:
    raise AssertionError("an immediate of a 64-bit jump that its sign would extend")


# Whether a jump is taken, by its register and immediate.
JUMPS: dict[int, Callable[[int, int], bool]] = {
    0x05: lambda _register, _immediate: True,
    0x56: lambda register, immediate: register != immediate,
    0x55: lambda register, immediate: register != immediate if immediate < 2**31 else unsigned_needed(),
    0x46: lambda register, immediate: register & immediate != 0,
}
LOAD_WORD, EXIT = 0x61, 0x95


def run(program: bytes, request: Request) -> int:
    """What the kernel's interpreter would return for the program: only the instructions that a filter needs."""
    kind, major, minor, access = request
    context = struct.pack("=III", access << 16 | kind, major, minor)
    registers = [0xDEAD, CONTEXT, *[0xDEAD] * 8]
    at = 0
    for _ in range(len(program) // 8 + 1):
        code, regs, offset, immediate = struct.unpack_from("=BBhi", program, at * 8)
        destination, source = (regs >> 4, regs & 15) if sys.byteorder == "big" else (regs & 15, regs >> 4)
        immediate &= 0xFFFFFFFF
        at += 1
        if code == EXIT:
            assert registers[0] in (0, 1)
            return registers[0]
        if code == LOAD_WORD:
            assert registers[source] == CONTEXT
            registers[destination] = struct.unpack_from("=I", context, offset)[0]
        elif code in JUMPS:
            assert offset >= 0, "a jump backwards"
            at += offset if JUMPS[code](registers[destination], immediate) else 0
        else:
            registers[destination] = ALU[code](registers[destination], immediate, registers[source])
    raise AssertionError("the program does not end")


def allowed_by_list(rules: list[DeviceRule], request: Request) -> bool:
    """The rule in the module's head, said as simply as can be: for each access, the last rule that names it decides."""
    ordered = list(rules)
    blankets = [index for index, rule in enumerate(ordered) if rule.major in (None, -1) and rule.minor in (None, -1)]
    defaults = [
        DeviceRule(allow=True, type=kind, major=major, minor=minor, access=access)
        for kind, major, minor, access in [
            *(("c", -1, -1, "m"), ("b", -1, -1, "m"), ("c", 136, -1, "rwm"), ("c", 10, 200, "rwm")),
            *(("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
            *(("c", 5, minor, "rwm") for minor in (0, 2)),
        ]
    ]
    at = blankets[-1] + 1 if blankets else 0
    ordered[at:at] = defaults
    kind, major, minor, accesses = request
    for bit, letter in ((MKNOD, "m"), (READ, "r"), (WRITE, "w")):
        verdict = False
        for rule in ordered:
            names_device = (
                rule.type in (None, "a", {BLOCK: "b", CHAR: "c"}[kind])
                and rule.major in (None, -1, major)
                and rule.minor in (None, -1, minor)
            )
            if names_device and letter in (rule.access or ""):
                verdict = rule.allow
        if accesses & bit and not verdict:
            return False
    return True


# The kernel's device numbers have 12 and 20 bits; a rule may name others.
majors = st.sampled_from([0, 1, 3, 5, 10, 136, 200, 2047, 2048, 4095])
minors = st.sampled_from([0, 1, 3, 5, 10, 136, 200, 2**16, 2**20 - 1])
beyond = st.sampled_from([4096, 4097, 2**20, 2**20 + 3, 2**31, 2**32 - 1])
rules = st.builds(
    DeviceRule,
    allow=st.booleans(),
    type=st.sampled_from([None, "a", "b", "c"]),
    major=st.none() | st.just(-1) | majors | beyond,
    minor=st.none() | st.just(-1) | minors | beyond,
    access=st.lists(st.sampled_from("rwm"), min_size=1, max_size=4).map("".join),
)
requests = st.tuples(st.sampled_from([BLOCK, CHAR]), majors, minors, st.integers(1, 7))


@given(st.lists(rules, max_size=8), requests)
def test_the_program_decides_as_the_list_does(listed: list[DeviceRule], request: Request) -> None:
    assert bool(run(compile_device_filter(listed).program(), request)) is allowed_by_list(listed, request)


@given(st.lists(rules, max_size=6), requests)
def test_a_filter_that_allows_all_denies_nothing(listed: list[DeviceRule], request: Request) -> None:
    if compile_device_filter(listed).allows_all:
        assert allowed_by_list(listed, request)


def decide(listed: list[DeviceRule], kind: int, major: int, minor: int, access: int) -> bool:
    return bool(run(compile_device_filter(listed).program(), (kind, major, minor, access)))


@pytest.mark.parametrize("listed", [[], [DENY_ALL]], ids=["no rules", "deny all"])
def test_the_default_devices_are_those_of_runc(listed: list[DeviceRule]) -> None:
    opened = {
        (kind, major, minor)
        for kind, major, minor in product((BLOCK, CHAR), (*range(12), 135, 136, 137), range(260))
        if allowed_by_list(listed, (kind, major, minor, READ | WRITE | MKNOD))
    }
    expected = {(CHAR, 1, minor) for minor in (3, 5, 7, 8, 9)} | {(CHAR, 5, 0), (CHAR, 5, 2), (CHAR, 10, 200)}
    assert opened == expected | {(CHAR, 136, minor) for minor in range(260)}
    for kind, major, minor in ((CHAR, 1, 3), (CHAR, 5, 1), (CHAR, 1, 1), (BLOCK, 7, 0), (BLOCK, 1, 3), (CHAR, 10, 229)):
        assert decide(listed, kind, major, minor, READ) is ((kind, major, minor) in expected)
        assert decide(listed, kind, major, minor, MKNOD), "nodes may be made of any kind"


def test_allow_all_needs_no_program() -> None:
    assert compile_device_filter([DENY_ALL, ALLOW_ALL]).allows_all
    assert not compile_device_filter([]).allows_all
    assert not compile_device_filter([ALLOW_ALL, DENY_ALL]).allows_all
    assert not compile_device_filter([DeviceRule(allow=True, access="rw")]).allows_all
    assert not compile_device_filter(
        [ALLOW_ALL, DeviceRule(allow=False, type="c", major=1, minor=11, access="m")]
    ).allows_all


def test_denied_writing_denies_opening_for_reading_and_writing() -> None:
    """runc and crun let such an open through, since the rule does not cover all of the request."""
    listed = [ALLOW_ALL, DeviceRule(allow=False, type="c", major=10, minor=229, access="w")]
    assert decide(listed, CHAR, 10, 229, READ)
    assert not decide(listed, CHAR, 10, 229, WRITE)
    assert not decide(listed, CHAR, 10, 229, READ | WRITE)


def test_accesses_of_several_rules_add_up() -> None:
    listed = [
        DENY_ALL,
        DeviceRule(allow=True, type="c", major=10, access="r"),
        DeviceRule(allow=True, type="c", major=10, minor=229, access="w"),
    ]
    assert decide(listed, CHAR, 10, 229, READ | WRITE)
    assert not decide(listed, CHAR, 10, 230, READ | WRITE)


def test_a_rule_of_type_a_says_no_more_than_is_written() -> None:
    """runc takes such a rule for "everything"."""
    listed = [DENY_ALL, DeviceRule(allow=True, major=10, access="r")]
    assert decide(listed, CHAR, 10, 229, READ)
    assert decide(listed, BLOCK, 10, 229, READ)
    assert not decide(listed, CHAR, 10, 229, WRITE)
    assert not decide(listed, CHAR, 1, 1, READ)


def test_a_default_device_can_be_denied_by_number() -> None:
    """runc and crun append the default devices to the end, so that nobody can deny them."""
    tun = DeviceRule(allow=False, type="c", major=10, minor=200, access="rwm")
    assert not decide([DENY_ALL, tun], CHAR, 10, 200, READ)
    assert not decide([tun], CHAR, 10, 200, MKNOD)
    assert decide([tun, DENY_ALL], CHAR, 10, 200, READ), "the later rule is about all"
    assert decide([DENY_ALL, tun], CHAR, 1, 3, READ)


def test_numbers_from_two_to_the_thirty_one_on_match() -> None:
    listed = [DeviceRule(allow=True, type="c", major=2**31, minor=2**32 - 1, access="r")]
    assert decide(listed, CHAR, 2**31, 2**32 - 1, READ)
    assert not decide(listed, CHAR, 2**31, 2**31 - 1, READ)


def test_rules_before_one_about_everything_are_left_out() -> None:
    device_filter = compile_device_filter([ALLOW_ALL, DeviceRule(allow=True, type="c", major=1, access="r"), DENY_ALL])
    assert [rule.describe() for rule in device_filter.rules[:2]] == ["deny a *:* rwm", "allow c *:* m"]
    assert len(device_filter.rules) == 1 + len(DEFAULT_RULES)


def test_the_usual_filter_is_short() -> None:
    """The kernel verifies and translates it for every container: 118 instructions took it 144 us, and these 65."""
    assert len(compile_device_filter([DENY_ALL]).program()) // 8 <= 60


def test_asked_says_whether_the_config_has_rules() -> None:
    assert compile_device_filter([DENY_ALL]).asked
    assert not compile_device_filter([]).asked


def test_describe_is_as_in_devices_list() -> None:
    (rule,) = compile_device_filter([DeviceRule(allow=True, type="b", major=8, minor=-1, access="wr")]).rules[-1:]
    assert rule.describe() == "allow b 8:* rw"


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        (DeviceRule(allow=True, type="u", access="r"), "/linux/resources/devices/1/type"),
        (DeviceRule(allow=True, type="cb", access="r"), "/linux/resources/devices/1/type"),
        (DeviceRule(allow=False), "/linux/resources/devices/1/access"),
        (DeviceRule(allow=False, access=""), "/linux/resources/devices/1/access"),
        (DeviceRule(allow=False, access="rx"), "/linux/resources/devices/1/access"),
        (DeviceRule(allow=False, access="r w"), "/linux/resources/devices/1/access"),
        (DeviceRule(allow=False, access="R"), "/linux/resources/devices/1/access"),
        (DeviceRule(allow=False, major=-2, access="r"), "/linux/resources/devices/1/major"),
        (DeviceRule(allow=False, major=2**32, access="r"), "/linux/resources/devices/1/major"),
        (DeviceRule(allow=False, minor=-3, access="r"), "/linux/resources/devices/1/minor"),
    ],
)
def test_a_bad_rule_is_refused_with_its_pointer(rule: DeviceRule, pointer: str) -> None:
    with pytest.raises(SpecError) as refused:
        compile_device_filter([DENY_ALL, rule])
    assert refused.value.pointer == pointer


def test_the_program_is_made_of_whole_instructions() -> None:
    assert isinstance(compile_device_filter([]), DeviceFilter)
    assert len(compile_device_filter([]).program()) % 8 == 0
