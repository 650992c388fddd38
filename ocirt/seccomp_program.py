"""From numbers of system calls and what is to happen to them to the seccomp program: classic BPF (bpf_common.h).

Guarantees: pure. A program looks at the architecture, finds the number by a binary search over spans of numbers that
get the same verdict, and compares arguments where a rule does. An engine's profile, some 350 calls for each of three
architectures, has some 370 instructions so; libseccomp's has 1,340, each of which the kernel checks and translates at
every start of a container, and tries again for every number.

Nor could comparisons of arguments be left to libseccomp: 2.5 and 2.6 merge the rules for one system call into a tree,
wrongly. Comparisons of order on one 64-bit argument lose matches, and some profiles of three rules never end.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocirt.spec import SyscallArg

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _IF_EQ, _IF_GT, _IF_GE = 0x05, 0x15, 0x25, 0x35
_MAX_SHORT_JUMP = 255
_INSTRUCTION = struct.Struct("=HBBI")
# struct seccomp_data
_NUMBER, _ARCH, _ARGS = 0, 4, 16
_KILL_THREAD, _RETURN_ENOSYS = 0, 0x00050000 | errno.ENOSYS

# audit.h; libseccomp's tokens are the same, but for x32, which the kernel calls x86_64 with a bit in the number
AUDIT_X86_64, TOKEN_X32, X32_BIT = 0xC000003E, 0x4000003E, 0x40000000
# What a tracer writes in the place of a number to have the system call left out (ptrace(2)).
_LEFT_OUT = 0xFFFFFFFF
# s390 and s390x enter a "large" number through system call 0, which stays 0 when the kernel doesn't know the number.
_LARGE_NUMBERS_THROUGH_0 = frozenset({0x00000016, 0x80000016})


@dataclass(frozen=True, slots=True)
class Rule:
    """The action where all conditions hold."""

    action: int
    conditions: tuple[SyscallArg, ...]


# An action, or rules of which the first that holds counts; where none does, the default action.
Verdict = int | tuple[Rule, ...]
Spans = Sequence[tuple[int, Verdict]]


@dataclass(frozen=True, slots=True)
class Architecture:
    """What gets another verdict than the default action, by number as in seccomp_data (x32's with its bit).

    `newest` is the highest number that isn't too new, or None: libc tries a new system call first and falls back when
    it gets ENOSYS. A profile older than the call would give its default action instead, often EPERM, which libc takes
    for the final answer.
    """

    verdicts: Mapping[int, Verdict]
    newest: int | None


def build_program(default: int, architectures: Mapping[int, Architecture]) -> bytes:
    """An array of struct sock_filter, for SCMP_ARCH_* tokens of the native byte order, x86_64's among them where x32's
    is. Other architectures' system calls kill the thread."""
    code = _Code(default)
    at = code.returns(_KILL_THREAD)
    audits = [token for token in architectures if token != TOKEN_X32]
    sections = [code.section(_audit_spans(audit, default, architectures)) for audit in audits]
    for audit, section in zip(reversed(audits), reversed(sections), strict=True):
        at = code.branch(_IF_EQ, audit, section, at)
    code.load(_ARCH, at)
    return code.assemble()


def _audit_spans(audit: int, default: int, architectures: Mapping[int, Architecture]) -> Spans:
    """All numbers of what the kernel calls one architecture."""
    spans = _spans(default, architectures[audit], 0, large_through_0=audit in _LARGE_NUMBERS_THROUGH_0)
    if audit != AUDIT_X86_64:
        return spans
    if TOKEN_X32 in architectures:
        return spans + _spans(default, architectures[TOKEN_X32], X32_BIT)
    return [*spans, (X32_BIT, _KILL_THREAD), (_LEFT_OUT, default)]


def _spans(
    default: int, architecture: Architecture, start: int, *, large_through_0: bool = False
) -> list[tuple[int, Verdict]]:
    """Verdicts from a number on, each up to where the next one begins."""
    found: dict[int, Verdict] = {start: default}
    for number, verdict in sorted(architecture.verdicts.items()):
        found[number], found[number + 1] = verdict, default
    if architecture.newest is not None:
        found[architecture.newest + 1] = _RETURN_ENOSYS
        if large_through_0:
            found = {0: _RETURN_ENOSYS, 1: found.get(1, default)} | {at: found[at] for at in found if at > 1}
    result: list[tuple[int, Verdict]] = []
    for number, verdict in found.items():
        if not result or verdict != result[-1][1]:
            result.append((number, verdict))
    return result


class _Code:
    """A program made from its end to its beginning, since BPF jumps forward only. A label is the number of instructions
    from there to the end."""

    def __init__(self, default: int) -> None:
        self._default = default
        self._reversed: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}

    def assemble(self) -> bytes:
        return b"".join(_INSTRUCTION.pack(*line) for line in reversed(self._reversed))

    def _add(self, code: int, value: int, if_true: int = 0, if_false: int = 0) -> int:
        self._reversed.append((code, if_true, if_false, value))
        return len(self._reversed)

    def _distance(self, label: int) -> int:
        return len(self._reversed) - label

    def _is_near(self, label: int) -> bool:
        """Also when one more instruction comes between."""
        return self._distance(label) < _MAX_SHORT_JUMP

    def returns(self, action: int) -> int:
        """One instruction for many places."""
        label = self._returns.get(action)
        if label is None or not self._is_near(label):
            label = self._returns[action] = self._add(_RETURN, action)
        return label

    def branch(self, code: int, value: int, if_true: int, if_false: int) -> int:
        if not self._is_near(if_true):
            if_true = self._add(_JUMP, self._distance(if_true))
        if not self._is_near(if_false):
            if_false = self._add(_JUMP, self._distance(if_false))
        return self._add(code, value, self._distance(if_true), self._distance(if_false))

    def load(self, offset: int, then: int) -> int:
        if self._distance(then):
            self._add(_JUMP, self._distance(then))
        return self._add(_LOAD, offset)

    def section(self, spans: Spans) -> int:
        return self.load(_NUMBER, self._search(spans))

    def _search(self, spans: Spans) -> int:
        """With the number loaded."""
        if len(spans) == 1:
            return self._verdict(spans[0][1])
        middle = len(spans) // 2
        above = self._search(spans[middle:])
        return self.branch(_IF_GE, spans[middle][0], above, self._search(spans[:middle]))

    def _verdict(self, verdict: Verdict) -> int:
        if isinstance(verdict, int):
            return self.returns(verdict)
        at = self.returns(self._default)
        for rule in reversed(verdict):
            holds = self.returns(rule.action)
            for condition in reversed(rule.conditions):
                holds = self._condition(condition, holds, at)
            at = holds
        return at

    def _condition(self, arg: SyscallArg, holds: int, fails: int) -> int:
        match arg.op:
            case "SCMP_CMP_EQ":
                return self._equal(arg, holds, fails)
            case "SCMP_CMP_NE":
                return self._equal(arg, fails, holds)
            case "SCMP_CMP_GT":
                return self._above(_IF_GT, arg, holds, fails)
            case "SCMP_CMP_GE":
                return self._above(_IF_GE, arg, holds, fails)
            case "SCMP_CMP_LT":
                return self._above(_IF_GE, arg, fails, holds)
            case "SCMP_CMP_LE":
                return self._above(_IF_GT, arg, fails, holds)
            case "SCMP_CMP_MASKED_EQ":
                return self._masked_equal(arg, holds, fails)
        raise ValueError(arg.op)

    def _equal(self, arg: SyscallArg, holds: int, fails: int) -> int:
        (high_at, high), (low_at, low) = _halves(arg.index, arg.value)
        lower = self.load(low_at, self.branch(_IF_EQ, low, holds, fails))
        return self.load(high_at, self.branch(_IF_EQ, high, lower, fails))

    def _above(self, comparison: int, arg: SyscallArg, holds: int, fails: int) -> int:
        """_IF_GT or _IF_GE, of 64 bits."""
        (high_at, high), (low_at, low) = _halves(arg.index, arg.value)
        lower = self.load(low_at, self.branch(comparison, low, holds, fails))
        not_above = self.branch(_IF_EQ, high, lower, fails)
        return self.load(high_at, self.branch(_IF_GT, high, holds, not_above))

    def _masked_equal(self, arg: SyscallArg, holds: int, fails: int) -> int:
        masks, values = _halves(arg.index, arg.value), _halves(arg.index, arg.value_two & arg.value)
        for (at, mask), (_, value) in zip(reversed(masks), reversed(values), strict=True):
            if mask:
                self.branch(_IF_EQ, value, holds, fails)
                holds = self.load(at, self._add(_AND, mask))
        return holds


def _halves(index: int, value: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where the high and the low half of an argument are, and those of a value for it."""
    first, second = _ARGS + 8 * index, _ARGS + 8 * index + 4
    high_at, low_at = (second, first) if sys.byteorder == "little" else (first, second)
    return (high_at, value >> 32), (low_at, value & 0xFFFFFFFF)
