"""The device rules of linux.resources.devices as an eBPF program for the container's cgroup.

Guarantees: a request (open for reading, writing or both; mknod) is allowed exactly when, for each access that it asks
for, the last rule that names the device and this access allows it (config-linux.md#allowed-device-list: applied in the
listed order). An access that no rule names is denied, so that a container without any rules gets the default devices
alone, as with runc. A rule says what is written in it: type "a" means both types and no more, where runc ignores the
rest of such a rule and lets `{"allow": true, "access": "r"}` open everything; and denying writes denies opening for
reading and writing too, where runc and crun match a rule only against all that a request asks for.

The default devices are allowed right after the last rule that is about all numbers ("deny everything" means everything
but these), so that a rule which denies one of them by number counts; runc and crun append them to the end.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirt.errors import SpecError

if TYPE_CHECKING:
    from ocirt.spec import DeviceRule

POINTER = "/linux/resources/devices"

# include/uapi/linux/bpf.h
_TYPES = {"b": 1, "c": 2}
_ACCESSES = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESSES = 7

_MAX_NUMBER = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule: `type` is a, b or c, a number of None is any, `access` is a mask of BPF_DEVCG_ACC_*."""

    allow: bool
    type: str
    major: int | None
    minor: int | None
    access: int

    def is_about_all_numbers(self) -> bool:
        return self.major is None and self.minor is None

    def is_about_everything(self) -> bool:
        return self.is_about_all_numbers() and self.type == "a" and self.access == _ALL_ACCESSES

    def describe(self) -> str:
        """As in cgroup v1's devices.list: "allow c 1:3 rwm"."""
        numbers = ":".join("*" if number is None else str(number) for number in (self.major, self.minor))
        access = "".join(letter for letter in "rwm" if self.access & _ACCESSES[letter])
        return f"{'allow' if self.allow else 'deny'} {self.type} {numbers} {access}"


def _default(kind: str, major: int | None, minor: int | None, access: int = _ALL_ACCESSES) -> Rule:
    return Rule(True, kind, major, minor, access)


# runc's list: config.md#default-devices but for the console, which is a pts; nodes may be made of any kind, since a
# node alone opens nothing; /dev/net/tun since images came to rely on it (Docker allowed it from the beginning).
DEFAULT_RULES = (
    _default("c", None, None, _ACCESSES["m"]),
    _default("b", None, None, _ACCESSES["m"]),
    _default("c", 1, 3),  # null
    _default("c", 1, 5),  # zero
    _default("c", 1, 7),  # full
    _default("c", 1, 8),  # random
    _default("c", 1, 9),  # urandom
    _default("c", 5, 0),  # tty
    _default("c", 5, 2),  # ptmx
    _default("c", 136, None),  # pts/*
    _default("c", 10, 200),  # net/tun
)


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """The rules in the order in which they apply, the default ones among them; those without any effect are left out.

    `asked`: the config has device rules of its own.
    """

    rules: tuple[Rule, ...]
    asked: bool

    @property
    def allows_all(self) -> bool:
        """Whether no request is denied: then no program is needed."""
        return bool(self.rules) and self.rules[0].is_about_everything() and all(rule.allow for rule in self.rules)

    def program(self) -> bytes:
        """The instructions (struct bpf_insn) of a BPF_PROG_TYPE_CGROUP_DEVICE program that returns 1 to allow."""
        return b"".join(_assemble(self.rules))


def compile_device_filter(rules: Sequence[DeviceRule], pointer: str = POINTER) -> DeviceFilter:
    """Check and order the rules of linux.resources.devices. Raises SpecError with the pointer of what is wrong."""
    checked = [_check(rule, f"{pointer}/{index}") for index, rule in enumerate(rules)]
    blankets = [index for index, rule in enumerate(checked) if rule.is_about_all_numbers()]
    at = blankets[-1] + 1 if blankets else 0
    first = max((index for index in blankets if checked[index].is_about_everything()), default=0)
    return DeviceFilter((*checked[first:at], *DEFAULT_RULES, *checked[at:]), asked=bool(rules))


def _check(rule: DeviceRule, pointer: str) -> Rule:
    kind = rule.type or "a"
    if kind not in ("a", "b", "c"):
        raise SpecError(f"{pointer}/type", f'"{kind}" is no type of a device rule (a, b or c)')
    # The specification gives an absent access no meaning; to guess one would open or close what nobody named.
    if not rule.access:
        raise SpecError(f"{pointer}/access", "a device rule needs an access: a composition of r, w and m")
    access = 0
    for letter in rule.access:
        if letter not in _ACCESSES:
            raise SpecError(f"{pointer}/access", f'"{rule.access}" is no composition of r, w and m')
        access |= _ACCESSES[letter]
    return Rule(
        rule.allow, kind, _number(rule.major, f"{pointer}/major"), _number(rule.minor, f"{pointer}/minor"), access
    )


def _number(number: int | None, pointer: str) -> int | None:
    if number is None or number == -1:
        return None
    if not 0 <= number <= _MAX_NUMBER:
        raise SpecError(pointer, f"{number} is no device number (0 to {_MAX_NUMBER}, or -1 for all)", "spec.range")
    return number


# The instruction set: Documentation/bpf/standardization/instruction-set.rst. 32-bit jumps need Linux 5.1.
_LOAD_WORD, _MOVE, _MOVE_REGISTER = 0x61, 0xB4, 0xBC
_AND, _XOR, _OR_REGISTER, _SHIFT_RIGHT = 0x54, 0xA4, 0x4C, 0x74
_OR_REGISTER_64, _SHIFT_LEFT_64, _JUMP_IF_NOT_EQUAL_64 = 0x4F, 0x67, 0x55
_JUMP, _JUMP_IF_NOT_EQUAL, _JUMP_IF_BITS, _EXIT = 0x05, 0x56, 0x46, 0x95
_VERDICT, _CONTEXT, _TYPE, _UNDECIDED, _MAJOR, _MINOR, _BLOCK, _CHARACTER = range(8)
_INSTRUCTION_BYTES = 8
# Free once the request is read, and until the verdict.
_DIFFERENCE, _SCRATCH = _CONTEXT, _VERDICT


def _instruction(code: int, register: int = 0, immediate: int = 0, *, offset: int = 0, source: int = 0) -> bytes:
    registers = register << 4 | source if sys.byteorder == "big" else source << 4 | register
    signed = immediate - 2**32 if immediate >= 2**31 else immediate
    return struct.pack("=BBhi", code, registers, offset, signed)


# Read the request: struct bpf_cgroup_dev_ctx has the words access << 16 | type, major, minor. The register _UNDECIDED
# begins with all accesses asked for, and loses those that a rule has allowed.
_READ_REQUEST = b"".join(
    (
        _instruction(_LOAD_WORD, _TYPE, source=_CONTEXT, offset=0),
        _instruction(_MOVE_REGISTER, _UNDECIDED, source=_TYPE),
        _instruction(_AND, _TYPE, 0xFFFF),
        _instruction(_SHIFT_RIGHT, _UNDECIDED, 16),
        _instruction(_LOAD_WORD, _MAJOR, source=_CONTEXT, offset=4),
        _instruction(_LOAD_WORD, _MINOR, source=_CONTEXT, offset=8),
    )
)
# The kernel's device numbers (include/linux/kdev_t.h): 12 bits of major and 20 of minor.
_MINOR_BITS, _NUMBER_BITS = 20, 32
_NUMBERS = {"b": _BLOCK, "c": _CHARACTER}
# For rules about one device: a register for each type, with the device's numbers, and more where it is not of the type.
_READ_NUMBER = {
    kind: b"".join(
        (
            _instruction(_MOVE_REGISTER, register, source=_TYPE),
            _instruction(_XOR, register, _TYPES[kind]),
            _instruction(_SHIFT_LEFT_64, register, _NUMBER_BITS - _MINOR_BITS),
            _instruction(_OR_REGISTER_64, register, source=_MAJOR),
            _instruction(_SHIFT_LEFT_64, register, _MINOR_BITS),
            _instruction(_OR_REGISTER_64, register, source=_MINOR),
        )
    )
    for kind, register in _NUMBERS.items()
}
_VERDICTS = {allow: _instruction(_MOVE, _VERDICT, int(allow)) + _instruction(_EXIT) for allow in (False, True)}


def _assemble(rules: Sequence[Rule]) -> Iterator[bytes]:
    """Read the request, try the rules from the last to the first, and deny what is undecided in the end."""
    yield _READ_REQUEST
    for kind in sorted({rule.type for rule in rules if _is_about_one_device(rule)}):
        yield _READ_NUMBER[kind]
    for rule in reversed(rules):
        yield _DEFAULT_CODE.get(rule) or _assemble_rule(rule)
    # Nothing may stand behind the verdict of a rule about everything: the verifier refuses what cannot be reached.
    if not rules[0].is_about_everything():
        yield _VERDICTS[False]


def _is_about_one_device(rule: Rule) -> bool:
    """With all accesses; and its numbers together are a positive immediate, since that is extended by its sign."""
    if rule.type == "a" or rule.access != _ALL_ACCESSES or rule.major is None or rule.minor is None:
        return False
    return rule.major < 1 << (_NUMBER_BITS - _MINOR_BITS - 1) and rule.minor < 1 << _MINOR_BITS


def _assemble_rule(rule: Rule) -> bytes:
    decision = _decide(rule)
    count = len(decision) // _INSTRUCTION_BYTES
    if _is_about_one_device(rule):
        number = (rule.major or 0) << _MINOR_BITS | (rule.minor or 0)
        return _instruction(_JUMP_IF_NOT_EQUAL_64, _NUMBERS[rule.type], number, offset=count) + decision
    return b"".join((*_skip_unless_named(rule, count), decision))


def _skip_unless_named(rule: Rule, count: int) -> Iterator[bytes]:
    """Skip the next instructions if the rule is about other devices.

    One jump on the sum of all differences: after a jump on a number the verifier would know the number on one of the
    two ways, follow each apart, and run into its limit with some hundred rules; so it takes some thousand. Where one of
    the ways ends in a verdict, as with a rule about one device, that does not matter.
    """
    wanted = ((_TYPE, _TYPES.get(rule.type)), (_MAJOR, rule.major), (_MINOR, rule.minor))
    compared = [(register, value) for register, value in wanted if value is not None]
    for index, (register, value) in enumerate(compared):
        target = _SCRATCH if index else _DIFFERENCE
        yield _instruction(_MOVE_REGISTER, target, source=register)
        yield _instruction(_XOR, target, value)
        if index:
            yield _instruction(_OR_REGISTER, _DIFFERENCE, source=_SCRATCH)
    if compared:
        yield _instruction(_JUMP_IF_NOT_EQUAL, _DIFFERENCE, 0, offset=count)


def _decide(rule: Rule) -> bytes:
    """Allow, when nothing is left undecided after this rule; deny, when it is about something yet undecided."""
    verdict = _VERDICTS[rule.allow]
    if rule.access == _ALL_ACCESSES:
        return verdict
    over_verdict = len(verdict) // _INSTRUCTION_BYTES
    if rule.allow:
        allowed = _instruction(_AND, _UNDECIDED, ~rule.access)
        return allowed + _instruction(_JUMP_IF_NOT_EQUAL, _UNDECIDED, 0, offset=over_verdict) + verdict
    denied = _instruction(_JUMP_IF_BITS, _UNDECIDED, rule.access, offset=1)
    return denied + _instruction(_JUMP, offset=over_verdict) + verdict


# Every filter has them.
_DEFAULT_CODE = {rule: _assemble_rule(rule) for rule in DEFAULT_RULES}
