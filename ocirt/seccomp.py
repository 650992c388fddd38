"""Seccomp profiles (config-linux.md#seccomp): from the config to the BPF program that ocirt-init loads.

Guarantees: `compile_seccomp` is pure, but for the cache that it is given: the same profile gives the same program on
every kernel. libseccomp knows the architectures, and the names' numbers in each; seccomp_program.py makes the program.
Profiles mean what they mean under other runtimes:

- A rule whose action is the default one is no rule. Of two unconditional rules for a system call the first counts; an
  unconditional one outweighs those with conditions; of these the first that matches counts.
- Several conditions on one argument are alternatives (libseccomp takes one condition per argument, so runtimes have
  always made a rule of each); otherwise all of a rule's conditions must hold. SCMP_CMP_MASKED_EQ compares with valueTwo
  those bits of the argument that `value` has.
- Without `flags` SECCOMP_FILTER_FLAG_SPEC_ALLOW is set, as by runc and crun; an empty list sets none.
- The native architecture is always filtered. A system call of any architecture that isn't named kills the thread.
- A system call newer than anything that the profile names gets ENOSYS, unless the default action lets it pass.
- Where a system call has a second way in, through socketcall(2) or ipc(2), that takes a rule's place of argument 0.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ocirt.errors import SpecError
from ocirt.seccomp_program import Architecture, Rule, Verdict, build_program
from ocirt.spec import Seccomp, Syscall, SyscallArg
from ocirt.spec.checks.seccomp import MAX_ERRNO_RET

# SCMP_ACT_* of seccomp.h, which are the kernel's SECCOMP_RET_*; the low 16 bits of two of them are data.
KILL_PROCESS, KILL_THREAD, TRAP = 0x80000000, 0x00000000, 0x00030000
ERRNO, TRACE, LOG, ALLOW, NOTIFY = 0x00050000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000, 0x7FC00000

ACTIONS: Mapping[str, int] = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
_DATA_LIMITS = {ACTIONS[name]: limit for name, limit in MAX_ERRNO_RET.items()}

OPERATORS = tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))

# The specification's names; which of them the linked libseccomp knows, `supported_architectures` says.
ARCHITECTURES = tuple(
    f"SCMP_ARCH_{name}"
    for name in (
        *("X86", "X86_64", "X32", "ARM", "AARCH64", "LOONGARCH64", "M68K"),
        *("MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC", "PPC64", "PPC64LE", "S390", "S390X", "SH", "SHEB", "PARISC", "PARISC64", "RISCV64"),
    )
)

TSYNC, LOG_FLAG, SPEC_ALLOW, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV = (1 << bit for bit in range(6))
FLAGS: Mapping[str, int] = {
    "SECCOMP_FILTER_FLAG_TSYNC": TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": LOG_FLAG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": WAIT_KILLABLE_RECV,
}
ALL_FLAGS = TSYNC | LOG_FLAG | SPEC_ALLOW | NEW_LISTENER | TSYNC_ESRCH | WAIT_KILLABLE_RECV

# BPF_MAXINSNS, instructions of 8 bytes.
MAX_INSTRUCTIONS = 4096
MAX_ARGUMENT = 5
# What init needs between loading the filter and the moment when the agent holds the listener: it would wait for ever.
NOTIFY_REFUSED = frozenset({"write"})

# Of an architecture's token, as of audit.h.
_LITTLE_ENDIAN = 0x40000000
_COUNT = struct.Struct("=I")
_UNKNOWN = -1
# libseccomp's numbers of system calls that also go through a multiplexer, whose first argument is the difference.
_MULTIPLEXERS = {"socketcall": range(-120, -100), "ipc": range(-224, -200)}
# Goes up when the same profile is to give another program: cached ones are then not found.
_PROGRAM_FORMAT = 3


class ProgramCache(Protocol):
    """Where programs are kept. `get` returns what `put` has stored for exactly the same source."""

    def get(self, source: bytes) -> bytes | None: ...
    def put(self, source: bytes, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Filter:
    """A program for seccomp(2): `bpf` is an array of struct sock_filter in host byte order, `flags` are
    SECCOMP_FILTER_FLAG_* with NEW_LISTENER where `listener` is true. A warning starts with its JSON pointer."""

    bpf: bytes
    flags: int
    listener: bool
    warnings: tuple[str, ...] = ()


def compile_seccomp(
    seccomp: Seccomp,
    pointer: str = "/linux/seccomp",
    *,
    fail_unknown_syscall: bool = False,
    supported_flags: int = ALL_FLAGS,
    cache: ProgramCache | None = None,
) -> Filter:
    """A profile's program.

    Names that libseccomp doesn't know are skipped with a warning, or with `fail_unknown_syscall` (the annotation
    run.oci.seccomp_fail_unknown_syscall) an error. `supported_flags` is the kernel's set, of `probe_flags`. The
    profile of an engine takes some 4 ms, which `cache` saves. Raises SpecError.
    """
    default = _action(seccomp.default_action, seccomp.default_errno_ret, pointer, "defaultAction", "defaultErrnoRet")
    listener = _check_notify(seccomp, pointer)
    flags = _flags(seccomp, pointer, listener, supported_flags)
    tokens = _architectures(seccomp.architectures, f"{pointer}/architectures")
    actions = [_check_entry(entry, f"{pointer}/syscalls/{i}") for i, entry in enumerate(seccomp.syscalls)]

    source = _source(default, tokens, seccomp.syscalls, actions)
    cached = cache.get(source) if cache else None
    if cached is None:
        program, unknown = _Compiler(seccomp, pointer, default, tokens, actions).compile()
        if cache:
            cache.put(source, b"".join(_COUNT.pack(number) for number in (len(unknown), *unknown)) + program)
    else:
        (count,) = _COUNT.unpack_from(cached)
        start = _COUNT.size * (1 + count)
        program, unknown = cached[start:], [number for (number,) in _COUNT.iter_unpack(cached[_COUNT.size : start])]

    warnings = _unknown_names(seccomp, unknown, pointer) if unknown else []
    if warnings and fail_unknown_syscall:
        raise SpecError(*warnings[0])
    return Filter(program, flags, listener, tuple(f"{at}: {text}, skipped" for at, text in warnings))


def _unknown_names(seccomp: Seccomp, unknown: Iterable[int], pointer: str) -> list[tuple[str, str]]:
    """Pointers and texts for the names at these places of all names."""
    places = [(i, j) for i, entry in enumerate(seccomp.syscalls) for j in range(len(entry.names))]
    version = _version()
    result = []
    for i, j in (places[ordinal] for ordinal in unknown):
        text = f'system call "{seccomp.syscalls[i].names[j]}" is unknown to libseccomp {version}'
        result.append((f"{pointer}/syscalls/{i}/names/{j}", text))
    return result


def _action(name: str, data: int | None, at: str, key: str, data_key: str) -> int:
    action = ACTIONS.get(name)
    if action is None:
        raise SpecError(f"{at}/{key}", f'"{name}" is no seccomp action')
    limit = _DATA_LIMITS.get(action)
    if limit is None:
        if data is not None:
            raise SpecError(f"{at}/{data_key}", f"{name} takes no errno")
        return action
    if data is None:
        data = errno.EPERM
    if not 0 <= data <= limit:
        raise SpecError(f"{at}/{data_key}", f"{data} is out of range, {name} takes 0 to {limit}", "spec.range")
    return action | data


def _check_notify(seccomp: Seccomp, pointer: str) -> bool:
    """Whether there will be a listener; refuses what would leave init waiting for an agent that cannot answer."""
    if seccomp.listener_metadata is not None and seccomp.listener_path is None:
        raise SpecError(f"{pointer}/listenerMetadata", "listenerMetadata needs listenerPath")
    if seccomp.default_action == "SCMP_ACT_NOTIFY":
        raise SpecError(f"{pointer}/defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action")
    listener = False
    for i, entry in enumerate(seccomp.syscalls):
        if entry.action != "SCMP_ACT_NOTIFY":
            continue
        listener = True
        for j, name in enumerate(entry.names):
            if name in NOTIFY_REFUSED:
                at = f"{pointer}/syscalls/{i}/names/{j}"
                raise SpecError(at, f"SCMP_ACT_NOTIFY cannot be used for the {name} syscall")
    if listener and seccomp.listener_path is None:
        raise SpecError(f"{pointer}/listenerPath", "SCMP_ACT_NOTIFY needs listenerPath")
    return listener


def _flags(seccomp: Seccomp, pointer: str, listener: bool, supported: int) -> int:
    flags = NEW_LISTENER if listener else 0
    for i, name in enumerate(seccomp.flags):
        at = f"{pointer}/flags/{i}"
        flag = FLAGS.get(name)
        if flag is None:
            raise SpecError(at, f'"{name}" is no seccomp flag')
        if not flag & supported:
            raise SpecError(at, f"the kernel does not support {name}")
        if flag == WAIT_KILLABLE_RECV and not listener:
            raise SpecError(at, f"{name} needs a rule with SCMP_ACT_NOTIFY")
        flags |= flag
    if flags & TSYNC and listener:
        # both return something by the call's value, which is EINVAL without this (seccomp(2))
        flags |= TSYNC_ESRCH
    return flags


def _architectures(names: Sequence[str], pointer: str) -> list[int]:
    """Tokens without duplicates, the native one first: it always counts."""
    native = _token("")
    tokens = {native: None}
    for i, name in enumerate(names):
        if name not in ARCHITECTURES:
            raise SpecError(f"{pointer}/{i}", f'"{name}" is no seccomp architecture')
        token = _token(name)
        if not token:
            raise SpecError(f"{pointer}/{i}", f"{name} is unknown to libseccomp {_version()}")
        if (token ^ native) & _LITTLE_ENDIAN:
            raise SpecError(f"{pointer}/{i}", f"{name} cannot be filtered here: its byte order is not the native one")
        tokens[token] = None
    return list(tokens)


def _check_entry(entry: Syscall, at: str) -> int:
    """The entry's action, after a look at all of its values."""
    for i, arg in enumerate(entry.args):
        if arg.op not in OPERATORS:
            raise SpecError(f"{at}/args/{i}/op", f'"{arg.op}" is no seccomp operator')
        if arg.index > MAX_ARGUMENT:
            raise SpecError(f"{at}/args/{i}/index", f"must be 0 to {MAX_ARGUMENT}", "spec.range")
    # An engine's profile has some hundred names: no loop over those that are well.
    joined = "\0".join(entry.names)
    if joined.count("\0") != len(entry.names) - 1 or "\0\0" in f"\0{joined}\0":
        i = next(i for i, name in enumerate(entry.names) if not name or "\0" in name)
        raise SpecError(f"{at}/names/{i}", "is no name of a system call")
    return _action(entry.action, entry.errno_ret, at, "action", "errnoRet")


def _source(default: int, tokens: Sequence[int], entries: Sequence[Syscall], actions: Sequence[int]) -> bytes:
    """All that the program depends on: other values give other bytes, as NUL is in no name, and escaped by repr."""
    parts = [repr((_PROGRAM_FORMAT, _version(), default, tokens))]
    for entry, action in zip(entries, actions, strict=True):
        args = [(arg.index, arg.value, arg.value_two, arg.op) for arg in entry.args]
        parts += ["", repr((action, args)), *entry.names]
    return "\0".join(parts).encode(errors="surrogatepass")


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of all names in an architecture, by place; `direct` where a multiplexer is another way (-1: none)."""

    numbers: Sequence[int]
    direct: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Compiler:
    seccomp: Seccomp
    pointer: str
    default: int
    tokens: Sequence[int]
    actions: Sequence[int]  # per entry of syscalls

    def compile(self) -> tuple[bytes, list[int]]:
        """The program, and the places of the unknown names among all names."""
        names = [name for entry in self.seccomp.syscalls for name in entry.names]
        blob = "".join(f"{name}\0" for name in names).encode(errors="replace")
        found = {token: _resolve(token, blob, len(names)) for token in self.tokens}
        program = build_program(
            self.default, {token: self._architecture(token, numbers) for token, numbers in found.items()}
        )
        if len(program) > MAX_INSTRUCTIONS * 8:
            text = f"the filter has {len(program) // 8} instructions, the kernel takes {MAX_INSTRUCTIONS}"
            raise SpecError(self.pointer, text)
        native = found[self.tokens[0]].numbers
        return program, [place for place, number in enumerate(native) if number == _UNKNOWN]

    def _architecture(self, token: int, found: _Numbers) -> Architecture:
        actions: dict[int, int] = {}
        rules: dict[int, list[Rule]] = {}
        through_multiplexer: list[tuple[int, Rule]] = []
        entries = list(self._effective(found))
        # By libseccomp's number, so that a call with two ways in is one call.
        unconditional = {number for entry, _, own in entries if not entry.args for number, _ in own}
        for entry, action, own in entries:
            for number, direct in own:
                for way, extra in _ways(token, number, direct):
                    if entry.args and number not in unconditional:
                        alternatives = _alternatives(entry.args)
                        rules.setdefault(way, []).extend(Rule(action, _with(one, extra)) for one in alternatives)
                    elif extra is None and not entry.args:
                        actions.setdefault(way, action)
                    elif extra is not None and not entry.args:
                        through_multiplexer.append((way, Rule(action, (extra,))))
        for way, rule in through_multiplexer:  # behind what is said of the multiplexer itself
            rules.setdefault(way, []).append(rule)
        verdicts: dict[int, Verdict] = {way: tuple(same) for way, same in rules.items()} | actions
        newest = max((*found.numbers, *found.direct, *verdicts), default=0)
        return Architecture(verdicts, newest if self._needs_enosys() and newest > 0 else None)

    def _needs_enosys(self) -> bool:
        """Whether the default action would hide from libc that a system call is too new. A tracer sees and answers by
        itself, and a default of ENOSYS says it already."""
        return self.default not in (ALLOW, LOG, ERRNO | errno.ENOSYS) and self.default & ~0xFFFF != TRACE

    def _effective(self, found: _Numbers) -> Iterator[tuple[Syscall, int, list[tuple[int, int]]]]:
        """The entries that differ from the default action, with their names' numbers and direct numbers."""
        place = 0
        for entry, action in zip(self.seccomp.syscalls, self.actions, strict=True):
            own = slice(place, place + len(entry.names))
            if action != self.default:
                yield entry, action, list(zip(found.numbers[own], found.direct[own], strict=True))
            place = own.stop


def _resolve(token: int, names: bytes, count: int) -> _Numbers:
    ffi, lib = _native()
    numbers, direct = ffi.new("int32_t[]", count), ffi.new("int32_t[]", count)
    lib.ocirt_seccomp_numbers(token, names, count, numbers, direct)
    return _Numbers(ffi.unpack(numbers, count), ffi.unpack(direct, count))


def _alternatives(args: tuple[SyscallArg, ...]) -> Iterable[tuple[SyscallArg, ...]]:
    if len({arg.index for arg in args}) < len(args):
        return [(arg,) for arg in args]
    return [args]


def _with(conditions: tuple[SyscallArg, ...], extra: SyscallArg | None) -> tuple[SyscallArg, ...]:
    """The multiplexer's first argument takes the place of the system call's own."""
    if extra is None:
        return conditions
    return (extra, *(condition for condition in conditions if condition.index != extra.index))


def _ways(token: int, number: int, direct: int) -> Iterator[tuple[int, SyscallArg | None]]:
    """The numbers by which a system call is entered, each with the condition that comes with it."""
    if number >= 0:
        yield number, None
        return
    for multiplexer, numbers in _MULTIPLEXERS.items():
        if number in numbers:
            own = int(_native()[1].ocirt_seccomp_number(token, multiplexer.encode()))
            if own >= 0:  # x86-64 has neither recv(2) nor a multiplexer
                yield own, SyscallArg(index=0, value=numbers.stop - number, op="SCMP_CMP_EQ")
            if direct >= 0:
                yield direct, None


def _native() -> tuple[Any, Any]:
    from ocirt._native import ffi, lib

    return ffi, lib


def _token(name: str) -> int:
    _, lib = _native()
    return int(lib.ocirt_seccomp_arch(name.removeprefix("SCMP_ARCH_").lower().encode()))


def _version() -> str:
    _, lib = _native()
    version = lib.ocirt_seccomp_version()
    return f"{version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}"


def supported_architectures() -> tuple[str, ...]:
    """Those of the specification that the linked libseccomp knows, for `features`."""
    return tuple(name for name in ARCHITECTURES if _token(name))


def probe_flags() -> int:
    """The SECCOMP_FILTER_FLAG_* that the running kernel takes; 0 without seccomp filters."""
    _, lib = _native()
    return int(lib.ocirt_seccomp_flags())
