"""Checks of the namespaces, and of what needs one of them: mappings, time offsets, sysctls, network devices."""

from __future__ import annotations

from ocirt.errors import SpecError
from ocirt.spec._generated import Spec
from ocirt.spec.checks.problems import (
    CONFLICT,
    DUPLICATE,
    PATH,
    REQUIRES,
    UNSUPPORTED,
    Problems,
    absolute,
    duplicates,
    linux_of,
    mappings,
    namespace_of,
)
from ocirt.spec.values import RANGE, VALUE, pointer_to

CLOCKS = ("monotonic", "boottime")
# IFNAMSIZ of the kernel, without the NUL.
MAX_INTERFACE_BYTES = 15
IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
UTS_SYSCTLS = {"kernel.hostname": "hostname", "kernel.domainname": "domainname"}


def namespaces(spec: Spec) -> Problems:
    """A duplicate MUST be an error, a path MUST be absolute (config-linux.md#namespaces)."""
    entries = linux_of(spec).namespaces
    yield from duplicates((namespace.type for namespace in entries), "/linux/namespaces", "/type")
    for index, namespace in enumerate(entries):
        if namespace.path:
            yield from absolute(namespace.path, f"/linux/namespaces/{index}/path")


def user_namespace(spec: Spec) -> Problems:
    """Mappings belong to a new user namespace. Together with a path, engines give those of that namespace."""
    linux = linux_of(spec)
    user = namespace_of(spec, "user")
    for name, ranges in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        yield from mappings(ranges, f"/linux/{name}")
        if ranges and not user:
            yield SpecError(f"/linux/{name}", "needs a user namespace in /linux/namespaces", REQUIRES)
        if not ranges and user and not user.path:
            yield SpecError("/linux/namespaces", f"a new user namespace needs /linux/{name}", REQUIRES)


def time_offsets(spec: Spec) -> Problems:
    """time_namespaces(7): only a new namespace's clocks can be set, and only these two."""
    offsets = linux_of(spec).time_offsets
    time = namespace_of(spec, "time")
    if offsets and not time:
        yield SpecError("/linux/timeOffsets", "needs a time namespace in /linux/namespaces", REQUIRES)
    if offsets and time and time.path:
        yield SpecError("/linux/timeOffsets", "a time namespace that is joined has its offsets already", CONFLICT)
    for clock in offsets:
        if clock not in CLOCKS:
            message = f"is not one of the clocks {', '.join(CLOCKS)}"
            yield SpecError(pointer_to("/linux/timeOffsets", clock), message, VALUE)


def net_devices(spec: Spec) -> Problems:
    """config-linux.md#network-devices, with the kernel's rules for names (dev_valid_name, dev_alloc_name)."""
    devices = linux_of(spec).net_devices
    if devices and not namespace_of(spec, "network"):
        yield SpecError("/linux/netDevices", "needs a network namespace in /linux/namespaces", REQUIRES)
    names: set[str] = set()
    for host_name, device in devices.items():
        at = pointer_to("/linux/netDevices", host_name)
        yield from _interface_name(host_name, at)
        if device.name:
            at = f"{at}/name"
            yield from _interface_name(device.name, at)
            template = device.name.replace("%d", "", 1)
            if "%" in template:
                yield SpecError(at, f'"{device.name}" has a % other than one %d', VALUE)
        name = device.name or host_name
        if name in names and "%d" not in name:
            yield SpecError(at, f"two devices are to become {name}", DUPLICATE)
        names.add(name)


def _interface_name(name: str, pointer: str) -> Problems:
    if len(name.encode()) > MAX_INTERFACE_BYTES:
        yield SpecError(pointer, f"an interface's name has at most {MAX_INTERFACE_BYTES} bytes", RANGE)
    if name in (".", "..") or any(c in "/:" or c.isspace() for c in name):
        yield SpecError(pointer, f'"{name:.40}" cannot be an interface\'s name', VALUE)


def sysctl_path(key: str) -> str:
    """The path below /proc/sys. The first separator is the key's: net/ipv4/conf/eno2.100/x is
    net.ipv4.conf.eno2/100.x (sysctl.d(5)).
    """
    first = next((character for character in key if character in "./"), "/")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))


def sysctls(spec: Spec) -> Problems:
    """Only what belongs to a namespace of the container's own: anything else would change the host."""
    seen: set[str] = set()
    for key in linux_of(spec).sysctl:
        pointer = pointer_to("/linux/sysctl", key)
        path = sysctl_path(key)
        if any(component in ("", ".", "..") for component in path.split("/")):
            yield SpecError(pointer, f'"{key:.80}" is not the name of a sysctl', PATH)
            continue
        if path in seen:
            yield SpecError(pointer, f"{path} stands twice", DUPLICATE)
        seen.add(path)
        yield from _namespaced(spec, path.translate(str.maketrans("./", "/.")), pointer)


def _namespaced(spec: Spec, name: str, pointer: str) -> Problems:
    """`name` has dots between its parts. A network namespace to join may be the host's: only the host can tell."""
    if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        needed = "ipc"
    elif name.startswith("net."):
        needed = "network"
    elif name.startswith("user."):
        needed = "user"
    elif name in UTS_SYSCTLS:
        needed = "uts"
        if getattr(spec, UTS_SYSCTLS[name]):
            yield SpecError(pointer, f"/{UTS_SYSCTLS[name]} says the same", CONFLICT)
    else:
        yield SpecError(pointer, f"{name} is not of a namespace: it would be set on the host", UNSUPPORTED)
        return
    if not namespace_of(spec, needed):
        yield SpecError(pointer, f"needs a {needed} namespace in /linux/namespaces", REQUIRES)
