"""What a container uses, as `events` tells it: the files of its cgroup under the names that runc gives to their values.

Guarantees: compile_stats is pure. A file that is missing (a controller that is not enabled, an older kernel) is no
error: what it would tell is zero, or left out where zero would say something. Bytes, and nanoseconds; the totals of PSI
are microseconds, as in the kernel's files. A limit of "max" is 2**64 - 1 but for pids, where it is 0, as with runc.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping

from ocirt.cgroup.directory import Cgroup, failure
from ocirt.constants import parse_ranges
from ocirt.errors import HostError

UNLIMITED = 2**64 - 1
_UNLIMITED_RDMA = 2**32 - 1

_FILES = (
    "cgroup.procs",
    "cpu.pressure",
    "cpu.stat",
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "io.pressure",
    "io.stat",
    "memory.current",
    "memory.events",
    "memory.max",
    "memory.peak",
    "memory.pressure",
    "memory.stat",
    "memory.swap.current",
    "memory.swap.events",
    "memory.swap.max",
    "pids.current",
    "pids.max",
    "rdma.current",
    "rdma.max",
)
_DEVICE = re.compile("[0-9]+:[0-9]+")
_HUGETLB = re.compile(r"hugetlb\.(?P<size>[^.]+)\.(?:rsvd\.)?(?:current|events)")

# io.stat: key -> (runc's table, operation), both as cgroup v1 had them.
_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "dbytes": ("ioServiceBytesRecursive", "Discard"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
    "dios": ("ioServicedRecursive", "Discard"),
}

# What runc prints of cgroup v1's cpuset for every container, and is always 0 with v2.
_CPUSET_V1 = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)

Object = dict[str, object]
Files = Mapping[str, str]


def probe_stats_files(cgroup: Cgroup) -> dict[str, str]:
    """The texts of those files that the cgroup has. Raises HostError: ENODEV for a cgroup that is gone."""
    try:
        hugetlb = sorted(name for name in os.listdir(cgroup.fd) if _HUGETLB.fullmatch(name))
    except OSError as error:
        raise failure(error, "read", cgroup.where) from None
    files = {}
    for name in (*_FILES, *hugetlb):
        try:
            files[name] = cgroup.read(name)
        except HostError as error:
            # EOPNOTSUPP: PSI that is switched off, and the processes of a threaded cgroup.
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
    return files


def compile_stats(files: Files, intel_rdt: Object | None = None) -> Object:
    """The `data` of a stats event. `network_interfaces` are libcontainer's own, which no config.json can ask for."""
    stats: Object = {
        "cpu": _cpu(files),
        "cpuset": _cpuset(files),
        "memory": _memory(files),
        "pids": _pids(files),
        "blkio": _block_io(files),
        "hugetlb": _hugetlb(files),
        "intel_rdt": intel_rdt or {},
        "network_interfaces": None,
    }
    if rdma := _rdma(files):
        stats["rdma"] = rdma
    return stats


def _cpu(files: Files) -> Object:
    stat = _table(files, "cpu.stat")

    def nsec(key: str) -> int:
        return stat.get(key, 0) * 1000

    usage = {"total": nsec("usage_usec"), "kernel": nsec("system_usec"), "user": nsec("user_usec")}
    throttling = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": nsec("throttled_usec"),
    }
    return {"usage": usage, "throttling": throttling, **_psi(files, "cpu.pressure")}


def _cpuset(files: Files) -> Object:
    lists: Object = {}
    for key, name in (("cpus", "cpuset.cpus.effective"), ("mems", "cpuset.mems.effective")):
        if numbers := sorted(parse_ranges(files.get(name, ""))):
            lists[key] = numbers
    return lists | dict.fromkeys(_CPUSET_V1, 0)


def _memory(files: Files) -> Object:
    raw = _table(files, "memory.stat")
    limit, usage = _number(files, "memory.max"), _number(files, "memory.current")
    swap_limit = _number(files, "memory.swap.max")
    memory: Object = {
        "cache": raw.get("file", 0),
        "usage": _entry(limit, usage, _table(files, "memory.events"), _number(files, "memory.peak")),
        # As in cgroup v1: memory and swap together.
        "swap": _entry(
            min(limit + swap_limit, UNLIMITED),
            usage + _number(files, "memory.swap.current"),
            _table(files, "memory.swap.events"),
        ),
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
    }
    if raw:
        memory["raw"] = raw
    return memory | _psi(files, "memory.pressure")


def _entry(limit: int, usage: int, events: Mapping[str, int], peak: int = 0) -> Object:
    """failcnt as cgroup v1 counted it: how often the limit was in the way."""
    entry: Object = {"limit": limit, "usage": usage, "failcnt": events.get("max", 0)}
    return entry | {"max": peak} if peak else entry


def _pids(files: Files) -> Object:
    """Without the controller the processes are counted, as runc does."""
    current = _number(files, "pids.current") if "pids.current" in files else len(files.get("cgroup.procs", "").split())
    limit = _number(files, "pids.max")
    return {"current": current, "limit": 0 if limit == UNLIMITED else limit}


def _block_io(files: Files) -> Object:
    tables: dict[str, list[Object]] = {}
    for line in files.get("io.stat", "").splitlines():
        major = minor = ""
        for word in line.split():
            key, _, value = word.partition("=")
            # A device without numbers may stand on the next one's line.
            if _DEVICE.fullmatch(word):
                major, _, minor = word.partition(":")
            elif major and key in _IO and value.isdecimal():
                table, operation = _IO[key]
                entry = {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}
                tables.setdefault(table, []).append(entry)
    return {**tables, **_psi(files, "io.pressure")}


def _hugetlb(files: Files) -> Object:
    """By page size. Reservations where the kernel counts them (Linux 5.7), since they are what is limited first."""
    sizes = sorted({match["size"] for match in map(_HUGETLB.fullmatch, files) if match})
    stats: Object = {}
    for size in sizes:
        reserved = f"hugetlb.{size}.rsvd.current"
        usage = _number(files, reserved if reserved in files else f"hugetlb.{size}.current")
        stats[size] = {"usage": usage, "failcnt": _table(files, f"hugetlb.{size}.events").get("max", 0)}
    return stats


def _rdma(files: Files) -> Object:
    """Not among runc's events; the names are those of its library."""
    found: Object = {}
    for key, name in (("rdma_limit", "rdma.max"), ("rdma_current", "rdma.current")):
        entries = []
        for line in files.get(name, "").splitlines():
            device, *pairs = line.split()
            values = dict(pair.partition("=")[::2] for pair in pairs)
            handles, objects = (_value(values.get(key, ""), _UNLIMITED_RDMA) for key in ("hca_handle", "hca_object"))
            entries.append({"device": device, "hca_handles": handles, "hca_objects": objects})
        if entries:
            found[key] = entries
    return found


def _psi(files: Files, name: str) -> Object:
    """Pressure stall information (psi.rst): the key `psi`, or nothing where the kernel tells none."""
    stall: Object = {}
    for line in files.get(name, "").splitlines():
        kind, *pairs = line.split()
        values = dict(pair.partition("=")[::2] for pair in pairs)
        averages = {key: float(values.get(key, 0)) for key in ("avg10", "avg60", "avg300")}
        stall[kind] = {**averages, "total": int(values.get("total", 0))}
    return {"psi": stall} if stall else {}


def _value(text: str, unlimited: int = UNLIMITED) -> int:
    return unlimited if text == "max" else int(text) if text.isdecimal() else 0


def _number(files: Files, name: str) -> int:
    return _value(files.get(name, "").strip())


def _table(files: Files, name: str) -> dict[str, int]:
    """A flat keyed file (cgroup-v2.rst, "Format")."""
    pairs = (line.partition(" ") for line in files.get(name, "").splitlines())
    return {key: _value(value) for key, _, value in pairs}
