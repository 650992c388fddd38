"""What a seccomp program says (a simulator of classic BPF), and what it should say (the profile, read naively).

The numbers of system calls come from the kernel's headers, not from libseccomp.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ocirt.spec import Seccomp, Syscall, SyscallArg

X86_64, X86 = 0xC000003E, 0x40000003
X32_BIT = 0x40000000
ERRNO, TRACE, KILL_THREAD = 0x00050000, 0x7FF00000, 0
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}


def simulate(program: bytes, arch: int, number: int, args: Sequence[int] = (0,) * 6) -> int:
    """The action that the program returns for a struct seccomp_data."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *args)
    instructions = list(struct.iter_unpack("=HBBI", program))
    place, accumulator = 0, 0
    for _ in instructions:
        code, if_true, if_false, value = instructions[place]
        place += 1
        if code == 0x20:  # ld [value]
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:  # and
            accumulator &= value
        elif code == 0x05:  # ja
            place += value
        elif code == 0x06:  # ret
            return int(value)
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: accumulator & value != 0,
            }[code]
            place += if_true if holds else if_false
    raise AssertionError("the program does not end")


@cache
def numbers(token: str) -> Mapping[str, int]:
    """Name to number, of the kernel's headers; x32's with its bit, as in a seccomp_data."""
    header = {"SCMP_ARCH_X86_64": "64", "SCMP_ARCH_X86": "32", "SCMP_ARCH_X32": "x32"}[token]
    text = Path(f"/usr/include/x86_64-linux-gnu/asm/unistd_{header}.h").read_text()
    pattern = r"^#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)\)?$"
    bit = X32_BIT if header == "x32" else 0
    return {name: int(number) + bit for name, number in re.findall(pattern, text, re.MULTILINE)}


def action(name: str, data: int | None) -> int:
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        base = ERRNO if name == "SCMP_ACT_ERRNO" else TRACE
        return base | (errno.EPERM if data is None else data)
    return ACTIONS[name]


def holds(arg: SyscallArg, args: Sequence[int]) -> bool:
    value, wanted = args[arg.index], arg.value
    return {
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_MASKED_EQ": value & wanted == arg.value_two & wanted,
    }[arg.op]


def matches(rule: Syscall, args: Sequence[int]) -> bool:
    several = len({arg.index for arg in rule.args}) < len(rule.args)
    return (any if several else all)(holds(arg, args) for arg in rule.args)


def verdict(profile: Seccomp, arch: int, number: int, args: Sequence[int] = (0,) * 6) -> int:
    """The action for a system call, by the specification, runc's rule of ENOSYS, and libseccomp's of precedence."""
    token = "SCMP_ARCH_X86" if arch == X86 else "SCMP_ARCH_X32" if number & X32_BIT else "SCMP_ARCH_X86_64"
    if arch not in (X86, X86_64) or token not in {*profile.architectures, "SCMP_ARCH_X86_64"}:
        return KILL_THREAD
    table = numbers(token)
    default = action(profile.default_action, profile.default_errno_ret)
    newest = max((table.get(name, -1) for rule in profile.syscalls for name in rule.names), default=-1)
    silent = profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
    if not silent and newest > 0 and number > newest:
        return ERRNO | errno.ENOSYS
    rules = [rule for rule in profile.syscalls if any(table.get(name) == number for name in rule.names)]
    for rule in rules:
        if not rule.args and action(rule.action, rule.errno_ret) != default:
            return action(rule.action, rule.errno_ret)
    for rule in rules:
        if rule.args and matches(rule, args) and action(rule.action, rule.errno_ret) != default:
            return action(rule.action, rule.errno_ret)
    return default
