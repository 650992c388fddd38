"""linux.resources as what is written into the files of a cgroup (config-linux.md#control-groups), devices apart.

Guarantees: pure. Every property becomes settings, or a notice that says why it needs none, or a SpecError: nothing is
dropped without a word. What only version 1 of cgroups has is converted where that keeps its meaning, else refused. A
value that no kernel takes is refused here; what depends on the host's devices, CPUs and kernel is the kernel's to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ocirt.cgroup.blockio import compile_block_io
from ocirt.cgroup.cpulist import cpu_list_problem
from ocirt.cgroup.settings import CompiledResources, Setting
from ocirt.cgroup.verdicts import (
    Verdicts,
    bad_value,
    conflict,
    ignored,
    lossy,
    missing,
    not_set,
    out_of_range,
    unsupported,
)
from ocirt.errors import SpecError
from ocirt.notice import Notice
from ocirt.spec.values import pointer_to

if TYPE_CHECKING:
    from ocirt.spec import CPU, RDMA, HugepageLimit, Linux, Memory, Network, Pids, Resources

POINTER = "/linux/resources"

# Of cpu.max (kernel/sched/core.c: min_cfs_quota_period, max_cfs_quota_period, MAX_BW), in microseconds.
MIN_QUOTA_USEC, MAX_PERIOD_USEC, MAX_QUOTA_USEC = 1000, 1_000_000, 2**44 - 1
DEFAULT_PERIOD_USEC = 100_000
# Of cpu.shares in version 1, which cpu.weight's 1 to 10000 stand for.
MIN_SHARES, MAX_SHARES = 2, 262_144
# PID_MAX_LIMIT of 64-bit machines; the kernel takes no larger limit.
MAX_PIDS = 4 << 20
# The rdma controller's "max" (S32_MAX).
MAX_RDMA = 2**31 - 1

# Files of every cgroup that act instead of limiting, and what to do instead. init would never start in a frozen cgroup,
# and cannot be put into one that is threaded, or gives controllers to cgroups below it.
_NOT_RESOURCES = {
    "cgroup.procs": "it moves processes of the host",
    "cgroup.threads": "it moves threads of the host",
    "cgroup.kill": "it kills processes: `kill` does that",
    "cgroup.freeze": "a frozen container would never start: `pause` freezes it",
    "cgroup.type": "a threaded cgroup takes no container",
    "cgroup.subtree_control": "a cgroup with processes in it gives no controllers to others",
}


def compile_resources(resources: Resources | None, pointer: str = POINTER) -> CompiledResources:
    """Raises the SpecError of the first property that cgroup v2 cannot do, or that makes no sense."""
    settings: list[Setting] = []
    notices = []
    for verdict in _verdicts(resources, pointer):
        if isinstance(verdict, Setting):
            settings.append(verdict)
        elif isinstance(verdict, SpecError):
            raise verdict
        else:
            notices.append(verdict)
    return CompiledResources(tuple(settings), tuple(notices))


def resource_problems(resources: Resources | None, pointer: str = POINTER) -> Iterator[SpecError]:
    """All that compile_resources has against them."""
    return (verdict for verdict in _verdicts(resources, pointer) if isinstance(verdict, SpecError))


def resource_notices(resources: Resources | None, pointer: str = POINTER) -> Iterator[Notice]:
    """Those of compile_resources, also where it would raise an error."""
    return (verdict for verdict in _verdicts(resources, pointer) if isinstance(verdict, Notice))


def may_do_without_cgroup(linux: Linux | None, settings: Sequence[Setting], *, rootless: bool) -> bool:
    """Whether a container that may not make its cgroup can stay in the runtime's own: as with runc, a rootless one
    whose config names neither a cgroup nor a limit. `settings`: those of its resources."""
    if not rootless:
        return False
    return (linux is None or not linux.cgroups_path) and all(setting.optional for setting in settings)


def convert_shares(shares: int) -> int:
    """cpu.shares as cpu.weight: the curve through (2, 1), (1024, 100), (262144, 10000), as runc 1.3.2 and crun 1.23.

    A straight line from end to end, which those had before, makes 39 of the 1024 that is the default: a container with
    the default shares got less time than processes without a container.
    """
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _verdicts(resources: Resources | None, at: str) -> Verdicts:
    if resources is None:
        return
    if resources.memory:
        yield from _memory(resources.memory, f"{at}/memory")
    if resources.cpu:
        yield from _cpu(resources.cpu, f"{at}/cpu")
    if resources.pids:
        yield from _pids(resources.pids, f"{at}/pids")
    if resources.block_io:
        yield from compile_block_io(resources.block_io, f"{at}/blockIO")
    for index, huge in enumerate(resources.hugepage_limits):
        yield from _hugepages(huge, f"{at}/hugepageLimits/{index}")
    if resources.network:
        yield from _network(resources.network, f"{at}/network")
    for device, limits in resources.rdma.items():
        yield from _rdma(device, limits, pointer_to(f"{at}/rdma", device))
    # Last: who names a file means it.
    for file, value in resources.unified.items():
        yield from _unified(file, value, pointer_to(f"{at}/unified", file))


# ---- memory (config-linux.md#memory)


def _memory(memory: Memory, at: str) -> Verdicts:
    """The notes of runc's users count: 0 is "not set", as Docker writes it, and -1 is "max"."""
    yield from _swap(memory, at)
    yield from _bytes(memory.limit, "memory.max", f"{at}/limit", unlimited_is_default=True)
    yield from _bytes(memory.reservation, "memory.low", f"{at}/reservation", unlimited_is_default=False)
    for name, kernel_bytes in (("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)):
        if kernel_bytes == 0:
            yield not_set(f"{at}/{name}")
        elif kernel_bytes is not None and kernel_bytes != -1:
            yield unsupported(f"{at}/{name}", "cgroup v2 counts the kernel's memory in memory.limit, and not apart")
    if memory.swappiness is not None:
        yield from _swappiness(memory.swappiness, f"{at}/swappiness")
    if memory.disable_oom_killer:
        yield unsupported(f"{at}/disableOOMKiller", "cgroup v2 cannot do without the OOM killer")
    if not memory.use_hierarchy:
        yield unsupported(f"{at}/useHierarchy", "cgroup v2 is always hierarchical")


def _bytes(value: int | None, file: str, pointer: str, *, unlimited_is_default: bool) -> Verdicts:
    if value == 0:
        yield not_set(pointer)
    elif value == -1:
        yield Setting(pointer, file, "max", optional=unlimited_is_default)
    elif value is not None and value < 0:
        yield out_of_range(pointer, "must be bytes, or -1 for unlimited, or 0 for not set")
    elif value is not None:
        yield Setting(pointer, file, str(value))


def _swap(memory: Memory, at: str) -> Verdicts:
    """The config has memory and swap together, memory.swap.max swap alone. runc's rules for what is missing."""
    swap, limit, pointer = memory.swap, memory.limit, f"{at}/swap"
    if swap == 0:
        yield not_set(pointer)
    if not swap:
        if limit == -1:
            yield Setting(f"{at}/limit", "memory.swap.max", "max", optional=True)
    elif swap == -1:
        yield Setting(pointer, "memory.swap.max", "max", optional=True)
    elif swap < 0:
        yield out_of_range(pointer, "must be bytes of memory and swap together, or -1 for unlimited, or 0 for not set")
    elif limit == -1:
        yield lossy(pointer, "without a limit of the memory it is taken as that of the swap alone")
        yield Setting(pointer, "memory.swap.max", str(swap))
    elif not limit or limit < 0:
        yield missing(pointer, "needs the limit of the memory, which it includes")
    elif swap < limit:
        yield conflict(pointer, "must not be less than the limit of the memory, which it includes")
    else:
        # A kernel without the file has no swap to use.
        yield Setting(pointer, "memory.swap.max", str(swap - limit), optional=swap == limit)


def _swappiness(swappiness: int, pointer: str) -> Verdicts:
    if swappiness > 100:
        yield out_of_range(pointer, "must be from 0 to 100")
    else:
        yield Setting(pointer, "memory.swappiness", str(swappiness))


# ---- cpu and cpuset (config-linux.md#cpu)


def _cpu(cpu: CPU, at: str) -> Verdicts:
    """cpu.idle has to be 0 for cpu.weight to be written, and cpu.max.burst is checked against the quota."""
    idle = None if cpu.idle is None else Setting(f"{at}/idle", "cpu.idle", str(cpu.idle), optional=cpu.idle == 0)
    if cpu.idle not in (None, 0, 1):
        yield out_of_range(f"{at}/idle", "must be 0 or 1")
    if idle and not cpu.idle:
        yield idle
    yield from _shares(cpu.shares, f"{at}/shares")
    yield from _quota(cpu, at)
    yield from _burst(cpu, f"{at}/burst")
    if idle and cpu.idle:
        yield idle
    for name, value in (("realtimeRuntime", cpu.realtime_runtime), ("realtimePeriod", cpu.realtime_period)):
        if value:
            yield unsupported(f"{at}/{name}", "cgroup v2 does not divide the time of real-time processes")
        elif value == 0:
            yield not_set(f"{at}/{name}")
    for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if text is not None and (problem := cpu_list_problem(text)):
            yield bad_value(f"{at}/{name}", problem)
        elif text is not None:
            yield Setting(f"{at}/{name}", f"cpuset.{name}", text.strip())


def _shares(shares: int | None, pointer: str) -> Verdicts:
    if shares == 0:
        yield not_set(pointer)
    elif shares is not None:
        if not MIN_SHARES <= shares <= MAX_SHARES:
            nearest = MIN_SHARES if shares < MIN_SHARES else MAX_SHARES
            yield lossy(pointer, f"is taken as {nearest}: cpu.weight goes no further")
        yield Setting(pointer, "cpu.weight", str(convert_shares(shares)))


def _quota(cpu: CPU, at: str) -> Verdicts:
    quota, period = cpu.quota or 0, cpu.period or DEFAULT_PERIOD_USEC
    for name, value in (("quota", cpu.quota), ("period", cpu.period)):
        if value == 0:
            yield not_set(f"{at}/{name}")
    if quota > 0 and not MIN_QUOTA_USEC <= quota <= MAX_QUOTA_USEC:
        yield out_of_range(f"{at}/quota", f"must be negative, or {MIN_QUOTA_USEC} to {MAX_QUOTA_USEC} microseconds")
    if not MIN_QUOTA_USEC <= period <= MAX_PERIOD_USEC:
        yield out_of_range(f"{at}/period", f"must be {MIN_QUOTA_USEC} to {MAX_PERIOD_USEC} microseconds")
    if cpu.quota or cpu.period:
        text = f"{quota if quota > 0 else 'max'} {period}"
        yield Setting(f"{at}/quota" if cpu.quota else f"{at}/period", "cpu.max", text, optional=quota <= 0)


def _burst(cpu: CPU, pointer: str) -> Verdicts:
    burst, quota = cpu.burst, cpu.quota or 0
    if burst is None:
        return
    if 0 < quota < burst:
        yield conflict(pointer, "must not be larger than the quota")
    elif burst + max(quota, 0) > MAX_QUOTA_USEC:
        yield out_of_range(pointer, f"must not be more than {MAX_QUOTA_USEC} microseconds with the quota")
    else:
        yield Setting(pointer, "cpu.max.burst", str(burst), optional=burst == 0)


# ---- the others


def _pids(pids: Pids, at: str) -> Verdicts:
    """config-linux.md#pids: 0 is a limit. runc takes every negative number for -1.

    Podman before 5 writes 0 where it means no limit. That it then gets one can't be helped, but it need not fail where
    the controller is missing.
    """
    limit, pointer = pids.limit, f"{at}/limit"
    if limit == 0:
        yield lossy(pointer, "lets no process fork (-1 is no limit), and is left out where v2 has no pids controller")
    if limit is not None and limit > MAX_PIDS:
        yield lossy(pointer, f"is taken as unlimited: Linux never has more than {MAX_PIDS} processes")
    if limit is not None and not 0 <= limit <= MAX_PIDS:
        yield Setting(pointer, "pids.max", "max", optional=True)
    elif limit is not None:
        yield Setting(pointer, "pids.max", str(limit), optional=limit == 0)


def _hugepages(huge: HugepageLimit, at: str) -> Verdicts:
    """config-linux.md#huge-page-limits: reservations where the kernel counts them (Linux 5.7), and usage."""
    for kind, optional in (("rsvd.max", True), ("max", False)):
        yield Setting(f"{at}/limit", f"hugetlb.{huge.page_size}.{kind}", str(huge.limit), optional=optional)


def _network(network: Network, at: str) -> Verdicts:
    if network.class_id:
        yield unsupported(f"{at}/classID", "cgroup v2 has no net_cls: a filter can match on the cgroup's path instead")
    elif network.class_id is not None:
        yield not_set(f"{at}/classID")
    if network.priorities:
        yield unsupported(f"{at}/priorities", "cgroup v2 has no net_prio: a filter can set the priority instead")


def _rdma(device: str, limits: RDMA, at: str) -> Verdicts:
    """config-linux.md#rdma: an entry MUST have one of the two."""
    if device.split() != [device]:
        yield bad_value(at, "the name of a device has no white space")
        return
    words = [device]
    for name, key, limit in (
        ("hcaHandles", "hca_handle", limits.hca_handles),
        ("hcaObjects", "hca_object", limits.hca_objects),
    ):
        if limit is not None and limit > MAX_RDMA:
            yield lossy(f"{at}/{name}", f"is taken as unlimited: the kernel has no limits above {MAX_RDMA}")
        if limit is not None:
            words.append(f"{key}={limit if limit < MAX_RDMA else 'max'}")
    if len(words) == 1:
        yield missing(at, "needs hcaHandles or hcaObjects")
    else:
        yield Setting(at, "rdma.max", " ".join(words))


def _unified(file: str, value: str, at: str) -> Verdicts:
    """config-linux.md#unified: files that are unknown here MUST be written too."""
    controller, _, parameter = file.partition(".")
    if not (controller and parameter) or "/" in file or ".." in file:
        yield bad_value(at, "the name of a file of a cgroup has the form CONTROLLER.PARAMETER")
    elif file in _NOT_RESOURCES:
        yield unsupported(at, f"is not a resource: {_NOT_RESOURCES[file]}")
    else:
        lines = [line for line in value.split("\n") if line.strip()]
        if not lines:
            yield ignored(at, "is empty, and nothing is written")
        for line in lines:
            yield Setting(at, file, line)
