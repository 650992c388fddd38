"""Checks of a process, be it the container's or a file's of exec. `at` is the pointer of the process."""

from __future__ import annotations

from ocirt.constants import parse_ranges
from ocirt.errors import SpecError
from ocirt.spec._generated import Process, Scheduler
from ocirt.spec.checks.problems import CONFLICT, PATH, UNSUPPORTED, Problems, absolute, duplicates
from ocirt.spec.values import RANGE, VALUE

# DL_SCALE of the kernel: the deadline scheduler counts in units of 1024 ns.
MIN_DEADLINE_RUNTIME_NSEC = 1024


def command(process: Process, at: str) -> Problems:
    """cwd MUST be absolute, args MUST have an entry, with execvp's meaning (config.md#process)."""
    yield from absolute(process.cwd, f"{at}/cwd")
    if not process.args[0]:
        yield SpecError(f"{at}/args/0", "must not be empty", PATH)


def environment(process: Process, at: str) -> Problems:
    """environ(7); runc refuses the same."""
    for index, entry in enumerate(process.env):
        name, equals, _ = entry.partition("=")
        if not (name and equals):
            yield SpecError(f"{at}/env/{index}", f'"{entry:.40}" is not NAME=value', VALUE)


def console_size(process: Process, at: str) -> Problems:
    """struct winsize has 16 bits; without a terminal the size is ignored (config.md#process)."""
    if process.terminal and process.console_size:
        for name, value in (("height", process.console_size.height), ("width", process.console_size.width)):
            if value > 0xFFFF:
                yield SpecError(f"{at}/consoleSize/{name}", "must be from 0 to 65535", RANGE)


def rlimits(process: Process, at: str) -> Problems:
    """A duplicate MUST be an error (config.md#posix-process); setrlimit(2) refuses a soft limit above the hard one."""
    yield from duplicates((rlimit.type for rlimit in process.rlimits), f"{at}/rlimits", "/type")
    for index, rlimit in enumerate(process.rlimits):
        if rlimit.soft > rlimit.hard:
            yield SpecError(
                f"{at}/rlimits/{index}/soft", f"{rlimit.soft} is above the hard limit {rlimit.hard}", CONFLICT
            )


def scheduler(process: Process, at: str) -> Problems:
    """What sched_setattr(2) refuses, and what it would ignore although it was asked for."""
    attributes, at = process.scheduler, f"{at}/scheduler"
    if not attributes:
        return
    policy = attributes.policy
    if policy == "SCHED_ISO":
        yield SpecError(f"{at}/policy", "SCHED_ISO is not implemented by Linux", UNSUPPORTED)
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= attributes.nice <= 19:
        yield SpecError(f"{at}/nice", "must be from -20 to 19", RANGE)
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= attributes.priority <= 99:
            yield SpecError(f"{at}/priority", f"must be from 1 to 99 with {policy}", RANGE)
    elif attributes.priority:
        yield SpecError(f"{at}/priority", f"is for SCHED_FIFO and SCHED_RR, not {policy}", CONFLICT)
    if policy == "SCHED_DEADLINE":
        yield from _deadline(attributes, at)
        return
    for name in ("runtime", "deadline", "period"):
        if getattr(attributes, name):
            yield SpecError(f"{at}/{name}", f"is for SCHED_DEADLINE, not {policy}", CONFLICT)


def _deadline(attributes: Scheduler, at: str) -> Problems:
    """runtime <= deadline <= period, all below 2^63 ns; a period of 0 is the deadline (sched(7))."""
    period = attributes.period or attributes.deadline
    for name in ("runtime", "deadline", "period"):
        if getattr(attributes, name) >= 2**63:
            yield SpecError(f"{at}/{name}", f"must be from 0 to {2**63 - 1}", RANGE)
    if attributes.runtime < MIN_DEADLINE_RUNTIME_NSEC:
        yield SpecError(f"{at}/runtime", f"must be at least {MIN_DEADLINE_RUNTIME_NSEC} with SCHED_DEADLINE", RANGE)
    if attributes.runtime > attributes.deadline:
        yield SpecError(f"{at}/runtime", "is above the deadline", CONFLICT)
    if attributes.deadline > period:
        yield SpecError(f"{at}/deadline", "is above the period", CONFLICT)


def cpu_affinity(process: Process, at: str) -> Problems:
    if not process.exec_cpu_affinity:
        return
    affinity = process.exec_cpu_affinity
    for name, value in (("initial", affinity.initial), ("final", affinity.final)):
        if value is None:
            continue
        try:
            if not parse_ranges(value):
                yield SpecError(f"{at}/execCPUAffinity/{name}", "names no CPU", VALUE)
        except ValueError as error:
            yield SpecError(f"{at}/execCPUAffinity/{name}", str(error), VALUE)
