"""What a container's cgroup is to systemd: the name of a scope, its place in the tree of slices, and its properties.

Guarantees: pure. Whatever systemd has a property for becomes one, so that what systemd writes into the cgroup's files
(when the unit starts, at daemon-reload) is what ocirt writes there; the rest stands in the files alone, which systemd
leaves as they are. The properties of the devices are not set: with DevicePolicy=auto systemd attaches no program of its
own, and leaves ocirt's where it is, at daemon-reload and daemon-reexec too (systemd only ever detaches what it
attached); its rules could neither deny a device nor name one minor number of all major ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ocirt.cgroup.gvariant import NUMBERS, Variant, parse_variant
from ocirt.cgroup.paths import POINTER
from ocirt.cgroup.resources import DEFAULT_PERIOD_USEC
from ocirt.cgroup.settings import Setting
from ocirt.constants import parse_ranges, to_bitmask
from ocirt.errors import SpecError
from ocirt.spec.values import pointer_to

ANNOTATION_PREFIX = "org.systemd.property."

INFINITY = 2**64 - 1

# systemd.unit(5): what a unit's name may consist of, and its length with the suffix.
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+", re.ASCII)
_NAME_MAX_BYTES = 255

# The names of properties in annotations, and the values of the files that properties are made from.
_PROPERTY = re.compile(r"[A-Za-z]{3,}")
_IN_SECONDS = re.compile(r"[a-z]Sec$")
_CPU_MAX = re.compile(r"(max|[0-9]+)(?:\s+([0-9]+))?")
_BYTES = re.compile(r"([0-9]+)([KMGTPE]?)", re.IGNORECASE | re.ASCII)
_DEVICE = re.compile(r"[0-9]+:[0-9]+", re.ASCII)

# A cgroup of these names gets an underscore before it (cg_escape in systemd's cgroup-util.c).
_CONTROLLER_NAMES = frozenset(("cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids"))

# Which process is in the scope, and where that is, the manager itself must know.
_OWN_PROPERTIES = frozenset(("PIDs", "PIDFDs", "Slice", "Delegate", "DelegateSubgroup"))


@dataclass(frozen=True, slots=True)
class Unit:
    """`path`: of the cgroup, below that of the systemd which has the unit. `slice`: "-.slice" is the root."""

    name: str
    slice: str
    path: str


@dataclass(frozen=True, slots=True)
class UnitProperty:
    """`signature` and `value` as D-Bus has them. `origin`: a JSON pointer.

    `since`: the first systemd that has it; 0: all have it with which ocirt works (247).
    """

    name: str
    signature: str
    value: object
    origin: str = POINTER
    since: int = 0


def plan_unit(cgroups_path: str | None, container_id: str, *, user: bool) -> Unit:
    """The scope of a container; `user`: of a user's systemd.

    cgroupsPath is slice:prefix:name, as runc and crun understand it; absent: the same as ":ocirt:ID". Raises SpecError.
    """
    if not cgroups_path:
        slice_name, prefix, name = "", "ocirt", container_id.replace("+", "\\x2b")
    else:
        parts = cgroups_path.split(":")
        if len(parts) != 3:
            raise SpecError(
                POINTER,
                'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
                f'got "{cgroups_path}" instead',
            )
        slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if user else "system.slice")
    if slice_name == "-":
        slice_name = "-.slice"
    if name.endswith(".slice"):
        raise SpecError(POINTER, f'"{name}" is a slice, in which systemd has no processes: a container needs a scope')
    unit = f"{prefix}-{name}.scope"
    for each in (slice_name, unit):
        if not _NAME.fullmatch(each) or len(each) > _NAME_MAX_BYTES:
            raise SpecError(
                POINTER,
                f'"{each}" is no name of a unit (at most {_NAME_MAX_BYTES} ASCII letters, digits and : _ . \\ @ -)',
            )
    return Unit(unit, slice_name, "/".join((*expand_slice(slice_name), _cgroup_name(unit))))


def expand_slice(name: str) -> list[str]:
    """The cgroups down to a slice, beginning with "" for the root (systemd.slice(5)): a-b.slice is in a.slice.

    Raises SpecError.
    """
    if name == "-.slice":
        return [""]
    parts = name.removesuffix(".slice").split("-")
    if not name.endswith(".slice") or "" in parts:
        raise SpecError(POINTER, f'"{name}" is no name of a slice (such as a-b.slice)')
    return ["", *(_cgroup_name("-".join(parts[:count]) + ".slice") for count in range(1, len(parts) + 1))]


def _cgroup_name(unit: str) -> str:
    """systemd keeps clear of the names that the kernel may give to files."""
    if unit[0] in "_." or unit.startswith("cgroup.") or unit.rpartition(".")[0] in _CONTROLLER_NAMES:
        return f"_{unit}"
    return unit


def object_path(name: str) -> str:
    """Where on the bus a unit is; `name`: the unit's, or the id of its invocation in hexadecimal."""
    escaped = "".join(
        char if char.isascii() and (char.isalpha() or (char.isdigit() and index)) else f"_{ord(char):02x}"
        for index, char in enumerate(name)
    )
    return f"/org/freedesktop/systemd1/unit/{escaped}"


# ---- annotations


def compile_annotations(annotations: Mapping[str, str]) -> tuple[UnitProperty, ...]:
    """The properties in annotations org.systemd.property.NAME. Raises SpecError with the annotation's pointer."""
    return tuple(
        _annotated(key.removeprefix(ANNOTATION_PREFIX), text)
        for key, text in annotations.items()
        if key.startswith(ANNOTATION_PREFIX)
    )


def _annotated(name: str, text: str) -> UnitProperty:
    pointer = pointer_to("/annotations", f"{ANNOTATION_PREFIX}{name}")
    if not _PROPERTY.fullmatch(name):
        raise SpecError(pointer, "a property's name is three or more letters")
    if name in _OWN_PROPERTIES:
        raise SpecError(pointer, f"{name} is for the runtime alone to set")
    try:
        variant = parse_variant(text)
        if _IN_SECONDS.search(name):
            # systemd's documentation has these in seconds, its bus in microseconds.
            name, variant = name.removesuffix("Sec") + "USec", _to_usec(variant)
    except ValueError as error:
        raise SpecError(pointer, f"{text!r} is no GVariant text that is understood: {error}") from None
    return UnitProperty(name, variant.signature, variant.value, pointer)


def _to_usec(variant: Variant) -> Variant:
    if variant.signature not in NUMBERS or not isinstance(variant.value, (int, float)):
        raise ValueError("a number of seconds is needed")
    if not 0 <= variant.value <= INFINITY // 1_000_000:
        raise ValueError("the number of seconds is out of range")
    return Variant("t", int(variant.value * 1_000_000))


# ---- resources


def fit_settings(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    """The settings as systemd can keep them: a CPU quota is a whole percentage of a CPU, and rounded up to it.

    systemd writes the property into the unit's file in percents, which daemon-reload then reads; so does runc.
    """
    return tuple(
        replace(setting, value=_fit_quota(setting.value)) if setting.file == "cpu.max" else setting
        for setting in settings
    )


_PERCENT_USEC = 10_000


def _fit_quota(value: str) -> str:
    parsed = _quota(value)
    if parsed is None or parsed[0] == INFINITY:
        return value
    per_second, period = parsed
    return " ".join([str(per_second * period // 1_000_000), *value.split()[1:]])


def _quota(value: str) -> tuple[int, int] | None:
    """cpu.max as (microseconds of a CPU in a second, rounded up to whole percents, or INFINITY; period)."""
    match = _CPU_MAX.fullmatch(value.strip())
    if not match:
        return None
    period = int(match[2] or DEFAULT_PERIOD_USEC)
    if period == 0 or match[1] == "0":
        return None
    if match[1] == "max":
        return INFINITY, period
    per_second = int(match[1]) * 1_000_000 // period
    return -(-per_second // _PERCENT_USEC) * _PERCENT_USEC or _PERCENT_USEC, period


# File -> property, and the first systemd that has it; a size in bytes, or "max".
_SIZES = {
    "memory.min": ("MemoryMin", 0),
    "memory.low": ("MemoryLow", 0),
    "memory.high": ("MemoryHigh", 0),
    "memory.max": ("MemoryMax", 0),
    "memory.swap.max": ("MemorySwapMax", 0),
    "memory.zswap.max": ("MemoryZSwapMax", 253),
}
# These systemd refuses to be 0. One byte is less than a page, and the page counter rounds it down.
_AT_LEAST_ONE = ("MemoryHigh", "MemoryMax")
_CPUSETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_RATES = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}


def compile_properties(settings: Sequence[Setting]) -> tuple[UnitProperty, ...]:
    """The properties for what stands in the files of the cgroup; what systemd has none for is left to the file.

    Of two settings for the same property the last holds, as in the file, except that CPUWeight is cpu.idle where that
    is 1. A setting's `otherwise` is not looked at: which of the two it is, only the cgroup tells.
    """
    found: dict[str, UnitProperty] = {}
    for setting in settings:
        for each in _properties(setting):
            before = found.get(each.name)
            if before is not None and isinstance(before.value, list) and isinstance(each.value, list):
                if each.signature == "a(st)":
                    each = replace(each, value=[*before.value, *each.value])
            elif before is not None and each.name == "CPUWeight" and before.value == 0:
                continue
            found[each.name] = each
    return tuple(found.values())


def _properties(setting: Setting) -> list[UnitProperty]:
    file, value, origin = setting.file, setting.value.strip(), setting.origin
    if file in _SIZES:
        name, since = _SIZES[file]
        size = _size(value)
        if size is None:
            return []
        return [UnitProperty(name, "t", max(size, 1) if name in _AT_LEAST_ONE else size, origin, since)]
    if file in _CPUSETS:
        mask = _cpuset_mask(value)
        return [] if mask is None else [UnitProperty(_CPUSETS[file], "ay", mask, origin)]
    if file.startswith("io."):
        return _io_properties(setting)
    if file == "cpu.max" and (quota := _quota(value)):
        return [
            UnitProperty("CPUQuotaPerSecUSec", "t", quota[0], origin),
            UnitProperty("CPUQuotaPeriodUSec", "t", quota[1], origin),
        ]
    if file == "pids.max" and (limit := _count(value)) is not None:
        # systemd refuses 0, for which 1 does the same as long as there is a process that could fork.
        return [UnitProperty("TasksMax", "t", max(limit, 1), origin)]
    if file == "cpu.weight" and value.isdecimal():
        return [UnitProperty("CPUWeight", "t", int(value), origin)]
    if file == "cpu.idle" and value == "1":
        return [UnitProperty("CPUWeight", "t", 0, origin, 252)]
    if file == "memory.oom.group" and value in ("0", "1"):
        return [UnitProperty("OOMPolicy", "s", "kill" if value == "1" else "continue", origin, 253)]
    if file == "memory.zswap.writeback" and value in ("0", "1"):
        return [UnitProperty("MemoryZSwapWriteback", "b", value == "1", origin, 256)]
    return []


def _count(value: str) -> int | None:
    if value == "max":
        return INFINITY
    return int(value) if value.isdecimal() and value.isascii() else None


def _size(value: str) -> int | None:
    """What the kernel's memparse() reads; None for what it would refuse."""
    if value == "max":
        return INFINITY
    match = _BYTES.fullmatch(value)
    if not match:
        return None
    shift = 10 * ("KMGTPE".index(match[2].upper()) + 1) if match[2] else 0
    return min(int(match[1]) << shift, INFINITY)


def _cpuset_mask(value: str) -> list[int] | None:
    """The bytes of a mask, the least numbers first, of a list such as "0-3,8" (cpuset(7)); None for another form."""
    try:
        return list(to_bitmask(parse_ranges(value)).rstrip(b"\0"))
    except ValueError:
        return None


# ---- io


def _io_properties(setting: Setting) -> list[UnitProperty]:
    """io.weight, io.bfq.weight, io.max and io.latency, which are by device as "MAJOR:MINOR ..."."""
    words = setting.value.split()
    device = None
    if words and _DEVICE.fullmatch(words[0]):
        # systemd takes the numbers from the path; there needs to be no such file.
        device = f"/dev/block/{words[0]}"
        words = words[1:]
    if setting.file in ("io.weight", "io.bfq.weight"):
        if words[:1] == ["default"]:
            words = words[1:]
        if len(words) != 1 or not words[0].isdecimal():
            return []
        weight = int(words[0]) if setting.file == "io.weight" else _from_bfq(int(words[0]))
        if device is None:
            return [UnitProperty("IOWeight", "t", weight, setting.origin)]
        return [UnitProperty("IODeviceWeight", "a(st)", [(device, weight)], setting.origin)]
    if device is None:
        return []
    pairs = [word.partition("=") for word in words]
    if setting.file == "io.max":
        return [
            UnitProperty(_RATES[key], "a(st)", [(device, rate)], setting.origin)
            for key, _, text in pairs
            if key in _RATES and (rate := _count(text)) is not None
        ]
    if setting.file == "io.latency":
        return [
            UnitProperty("IODeviceLatencyTargetUSec", "a(st)", [(device, target)], setting.origin)
            for key, _, text in pairs
            if key == "target" and (target := _count(text)) is not None
        ]
    return []


def _from_bfq(weight: int) -> int:
    """The IOWeight for which systemd writes this into io.bfq.weight: 1 to 100 as it is, 100 to 1000 from 100 to 10000
    (BFQ_WEIGHT in systemd's cgroup-util.h)."""
    return weight if weight <= 100 else 100 + (weight - 100) * 11
