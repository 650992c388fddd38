"""Checks of the Linux part: devices, cgroup, RDT, memory policy, personality."""

from __future__ import annotations

from ocirt.cgroup import resources as cgroup_resources
from ocirt.constants import MAX_MAJOR, MAX_MINOR, parse_ranges
from ocirt.errors import SpecError
from ocirt.spec._generated import Device, IntelRdt, MemoryPolicy, Resources, Spec
from ocirt.spec.checks.problems import (
    CONFLICT,
    PATH,
    REQUIRES,
    UNSUPPORTED,
    Problems,
    absolute,
    has_dotdot,
    linux_of,
)
from ocirt.spec.values import RANGE, REQUIRED, VALUE

# MAX_NUMNODES with the largest CONFIG_NODES_SHIFT.
MAX_NODE = 1023
EMPTY_NODES_MODES = ("MPOL_DEFAULT", "MPOL_LOCAL")


def devices(spec: Spec) -> Problems:
    """config-linux.md#devices: major and minor are REQUIRED unless the type is p."""
    for index, device in enumerate(linux_of(spec).devices):
        at = f"/linux/devices/{index}"
        yield from absolute(device.path, f"{at}/path")
        if has_dotdot(device.path) or not device.path.strip("/"):
            yield SpecError(f"{at}/path", f'"{device.path:.80}" cannot be a device\'s path', PATH)
        if device.type != "p":
            yield from _device_number(device, at)


def _device_number(device: Device, at: str) -> Problems:
    for name, number, maximum in (("major", device.major, MAX_MAJOR), ("minor", device.minor, MAX_MINOR)):
        if number is None:
            yield SpecError(at, f'the property "{name}" is required with the type {device.type}', REQUIRED)
        elif not 0 <= number <= maximum:
            yield SpecError(f"{at}/{name}", f"must be from 0 to {maximum}", RANGE)


def cgroups_path(spec: Spec) -> Problems:
    """ ".." would leave the cgroup that an engine delegates."""
    path = linux_of(spec).cgroups_path
    if path and has_dotdot(path):
        yield SpecError("/linux/cgroupsPath", f'"{path:.80}" must not have ".."', PATH)


def device_rules(resources: Resources, at: str) -> Problems:
    """config-linux.md#allowed-device-list. An empty access would allow or deny nothing; runc refuses it too."""
    for index, rule in enumerate(resources.devices):
        pointer = f"{at}/devices/{index}"
        if not rule.access:
            yield SpecError(pointer, 'the property "access" is required', REQUIRED)
        elif set(rule.access) - set("rwm"):
            yield SpecError(f"{pointer}/access", f'"{rule.access:.20}" is not made of r, w and m', VALUE)
        for name, number in (("major", rule.major), ("minor", rule.minor)):
            if number is not None and not -1 <= number <= 2**32 - 1:
                yield SpecError(f"{pointer}/{name}", f"must be from -1 to {2**32 - 1}", RANGE)


def resources(asked: Resources, at: str) -> Problems:
    """What the files of a cgroup cannot say: one place decides on it."""
    yield from cgroup_resources.resource_problems(asked, at)


def intel_rdt(spec: Spec) -> Problems:
    """config-linux.md#intelrdt. closID is the name of one directory, a schema one line of a file (l3CacheSchema may be
    several: that it SHOULD NOT is a warning)."""
    rdt = linux_of(spec).intel_rdt
    if not rdt:
        return
    at = "/linux/intelRdt"
    clos_id = rdt.clos_id
    if clos_id and clos_id != "/" and (clos_id in (".", "..") or "/" in clos_id or "\n" in clos_id):
        yield SpecError(f"{at}/closID", f'"{clos_id:.40}" is neither / nor the name of a directory', PATH)
    if rdt.mem_bw_schema and not rdt.mem_bw_schema.startswith("MB:"):
        yield SpecError(f"{at}/memBwSchema", "must start with MB:", VALUE)
    yield from _single_lines(rdt, at)


def _single_lines(rdt: IntelRdt, at: str) -> Problems:
    lines = {f"{at}/memBwSchema": rdt.mem_bw_schema}
    lines |= {f"{at}/schemata/{index}": line for index, line in enumerate(rdt.schemata)}
    for pointer, line in lines.items():
        if line and "\n" in line:
            yield SpecError(pointer, "must not contain a newline", VALUE)


def memory_policy(spec: Spec) -> Problems:
    """What set_mempolicy(2) refuses."""
    policy = linux_of(spec).memory_policy
    if not policy:
        return
    at = "/linux/memoryPolicy"
    try:
        nodes = parse_ranges(policy.nodes or "")
    except ValueError as error:
        yield SpecError(f"{at}/nodes", str(error), VALUE)
        return
    if nodes and max(nodes) > MAX_NODE:
        yield SpecError(f"{at}/nodes", f"must be from 0 to {MAX_NODE}", RANGE)
    if nodes and policy.mode in EMPTY_NODES_MODES:
        yield SpecError(f"{at}/nodes", f"{policy.mode} takes no nodes", CONFLICT)
    if not nodes and policy.mode not in (*EMPTY_NODES_MODES, "MPOL_PREFERRED"):
        yield SpecError(at, f"{policy.mode} needs nodes", REQUIRES)
    yield from _memory_policy_flags(policy, bool(nodes), f"{at}/flags")


def _memory_policy_flags(policy: MemoryPolicy, has_nodes: bool, at: str) -> Problems:
    flags = set(policy.flags)
    placing = flags & {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"}
    if len(placing) == 2:
        yield SpecError(at, "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other", CONFLICT)
    if placing and (policy.mode == "MPOL_LOCAL" or (policy.mode == "MPOL_PREFERRED" and not has_nodes)):
        yield SpecError(at, f"{' and '.join(sorted(placing))} need nodes", REQUIRES)
    if "MPOL_F_NUMA_BALANCING" in flags and policy.mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        yield SpecError(
            at, f"MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY, not {policy.mode}", CONFLICT
        )


def personality(spec: Spec) -> Problems:
    """config-linux.md#personality: no flag is supported so far."""
    asked = linux_of(spec).personality
    if asked and asked.flags:
        yield SpecError("/linux/personality/flags", "no flag is supported", UNSUPPORTED)
