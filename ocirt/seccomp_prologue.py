"""The part of a seccomp program that stands before libseccomp's: system calls too new, and rules with conditions.

ENOSYS for a system call newer than anything that the profile names: libc tries a new call first and falls back when it
gets ENOSYS. A profile that was written before the call existed would give its default action instead, often EPERM,
which libc takes for the final answer.

Rules that compare arguments are compiled here, because libseccomp 2.5 and 2.6 merge several of them for one system call
into a tree, wrongly: comparisons of order on one 64-bit argument lose matches, and some profiles of three rules never
end. Here the first rule that matches counts. What matches none goes on to libseccomp's program.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ocirt.spec import SyscallArg

# classic BPF: bpf_common.h
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _IF_EQ, _IF_GT, _IF_GE, _IF_SET = 0x05, 0x15, 0x25, 0x35, 0x45
_MAX_SHORT_JUMP = 255
# struct seccomp_data
_NUMBER, _ARCH, _ARGS = 0, 4, 16
_RETURN_ENOSYS = 0x00050000 | errno.ENOSYS

# audit.h; libseccomp's tokens are the same, but for x32, which the kernel calls x86_64 with a bit in the number
AUDIT_X86_64, TOKEN_X32, X32_BIT = 0xC000003E, 0x4000003E, 0x40000000
# s390 and s390x enter a "large" number through system call 0, which stays 0 when the kernel doesn't know the number
_LARGE_NUMBERS_THROUGH_0 = frozenset({0x00000016, 0x80000016})

# (code, distance if true, distance if false, value); distances count the instructions between
Instruction = tuple[int, int, int, int]
Code = list[Instruction]
# A jump behind the whole prologue, whose distance is known in the end.
_TO_FILTER: Instruction = (_JUMP, 0, 0, -1)


@dataclass(frozen=True, slots=True)
class Rule:
    """At the system call `number` (as in seccomp_data, x32's with its bit), where all conditions hold."""

    number: int
    action: int
    conditions: tuple[SyscallArg, ...]


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the prologue does for a SCMP_ARCH_* token; `newest` is the highest number that isn't too new, or None."""

    newest: int | None
    rules: tuple[Rule, ...]


def prologue(architectures: Mapping[int, Architecture]) -> bytes:
    """The program, as an array of struct sock_filter; whatever it doesn't decide goes on behind it.

    Empty when there is nothing to decide. Other architectures are the filter's business.
    """
    by_audit: dict[int, dict[int, Architecture]] = {}
    for token, architecture in architectures.items():
        if architecture.newest is not None or architecture.rules:
            by_audit.setdefault(AUDIT_X86_64 if token == TOKEN_X32 else token, {})[token] = architecture
    if not by_audit:
        return b""
    code: Code = [(_LOAD, 0, 0, _ARCH)]
    for audit, members in by_audit.items():
        code += _if_equal(audit, _section(audit, members))
    code.append(_TO_FILTER)
    return _assemble(code)


def _section(audit: int, members: Mapping[int, Architecture]) -> Code:
    code: Code = [(_LOAD, 0, 0, _NUMBER)]
    x86_64, x32 = members.get(AUDIT_X86_64), members.get(TOKEN_X32)
    if x86_64 and x86_64.newest is not None:
        code += [(_IF_SET, 2, 0, X32_BIT), *_enosys_above(x86_64.newest)]
    if x32 and x32.newest is not None:
        code += _enosys_above(x32.newest)  # no number of x86_64 has the bit, all are below
    if audit in members and audit != AUDIT_X86_64 and (newest := members[audit].newest) is not None:
        if audit in _LARGE_NUMBERS_THROUGH_0:
            code += [(_IF_EQ, 0, 1, 0), (_RETURN, 0, 0, _RETURN_ENOSYS)]
        code += _enosys_above(newest)

    rules: dict[int, list[Rule]] = {}
    for architecture in members.values():
        for rule in architecture.rules:
            rules.setdefault(rule.number, []).append(rule)
    for number, same in rules.items():
        code += _if_equal(number, [*(line for rule in same for line in _rule(rule)), _TO_FILTER])
    return [*code, _TO_FILTER]


def _enosys_above(number: int) -> Code:
    return [(_IF_GT, 0, 1, number), (_RETURN, 0, 0, _RETURN_ENOSYS)]


def _if_equal(value: int, body: Code) -> Code:
    """The body ends in a jump or return, so that what follows finds the accumulator as it was."""
    if len(body) <= _MAX_SHORT_JUMP:
        return [(_IF_EQ, 0, len(body), value), *body]
    return [(_IF_EQ, 1, 0, value), (_JUMP, 0, 0, len(body)), *body]


def _rule(rule: Rule) -> Code:
    """Return the action, or fall through. At most 6 conditions of 6 instructions: all jumps are short."""
    code: Code = [(_RETURN, 0, 0, rule.action)]
    for condition in reversed(rule.conditions):
        code = [*_condition(condition, len(code)), *code]
    return code


def _condition(arg: SyscallArg, rest: int) -> Code:
    """Fall through if the 64-bit comparison holds, else jump over the `rest` instructions behind it."""
    high, low = arg.value >> 32, arg.value & 0xFFFFFFFF
    load_high, load_low = _load_halves(arg.index)
    match arg.op:
        case "SCMP_CMP_EQ":
            return [load_high, (_IF_EQ, 0, rest + 2, high), load_low, (_IF_EQ, 0, rest, low)]
        case "SCMP_CMP_NE":
            return [load_high, (_IF_EQ, 0, 2, high), load_low, (_IF_EQ, rest, 0, low)]
        case "SCMP_CMP_GT" | "SCMP_CMP_GE":
            last = _IF_GT if arg.op == "SCMP_CMP_GT" else _IF_GE
            return [load_high, (_IF_GT, 3, 0, high), (_IF_EQ, 0, rest + 2, high), load_low, (last, 0, rest, low)]
        case "SCMP_CMP_LT" | "SCMP_CMP_LE":
            last = _IF_GE if arg.op == "SCMP_CMP_LT" else _IF_GT
            return [load_high, (_IF_GT, rest + 3, 0, high), (_IF_EQ, 0, 2, high), load_low, (last, rest, 0, low)]
        case "SCMP_CMP_MASKED_EQ":
            wanted = arg.value_two & arg.value
            high_test = [load_high, (_AND, 0, 0, high), (_IF_EQ, 0, rest + 3, wanted >> 32)]
            return [*high_test, load_low, (_AND, 0, 0, low), (_IF_EQ, 0, rest, wanted & 0xFFFFFFFF)]
    raise ValueError(arg.op)


def _load_halves(index: int) -> tuple[Instruction, Instruction]:
    """The instructions that load an argument's high and low half."""
    halves: Sequence[Instruction] = [(_LOAD, 0, 0, _ARGS + 8 * index + offset) for offset in (0, 4)]
    low, high = halves if sys.byteorder == "little" else halves[::-1]
    return high, low


def _assemble(code: Iterable[Instruction]) -> bytes:
    lines = list(code)
    return b"".join(
        struct.pack("=HBBI", *line[:3], len(lines) - place - 1 if line is _TO_FILTER else line[3])
        for place, line in enumerate(lines)
    )
