"""What this host cannot do of what a config.json asks: warnings of `validate`, since the bundle may be for another.

Guarantees: pure; the Host is what probe_host found.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ocirt.constants import CAPABILITY_BITS
from ocirt.idmap import host_id
from ocirt.notice import CAPABILITY, Notice
from ocirt.spec._generated import IDMapping, Spec
from ocirt.spec.checks.problems import linux_of, namespace_of
from ocirt.spec.notices import CAPABILITY_SETS, Notices

if TYPE_CHECKING:
    from ocirt.host import Host

HOST = "warning.host"
# The first kernel that has it, of what is younger than the oldest kernel that ocirt runs on.
MEMORY_POLICY_KERNELS = {"MPOL_PREFERRED_MANY": (5, 15), "MPOL_WEIGHTED_INTERLEAVE": (6, 9)}
SECCOMP_FLAG_KERNELS = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": (5, 19)}


def host_notices(spec: Spec, host: Host) -> Notices:
    yield from _missing_modules(spec, host)
    yield from _too_new(spec, host)
    yield from _ungranted_capabilities(spec, host)
    yield from _bound_devices(spec, host)
    if host.rootless and not namespace_of(spec, "user"):
        yield Notice("/linux/namespaces", "needs a user namespace for a user other than root", HOST)
    if host.cgroup is None and linux_of(spec).cgroups_path:
        yield Notice("/linux/cgroupsPath", "cgroup v2 is not mounted on this host", HOST)


def _missing_modules(spec: Spec, host: Host) -> Iterator[Notice]:
    if spec.process and spec.process.apparmor_profile and not host.apparmor:
        yield Notice("/process/apparmorProfile", "AppArmor is not enabled on this host", HOST)
    labels = {"/linux/mountLabel": linux_of(spec).mount_label}
    if spec.process:
        labels["/process/selinuxLabel"] = spec.process.selinux_label
    for pointer, label in labels.items():
        if label and not host.selinux:
            yield Notice(pointer, "SELinux is not enabled on this host", HOST)


def _too_new(spec: Spec, host: Host) -> Iterator[Notice]:
    """Values that the running kernel does not know yet."""
    linux = linux_of(spec)
    asked: list[tuple[str, str, tuple[int, int]]] = []
    if linux.memory_policy and linux.memory_policy.mode in MEMORY_POLICY_KERNELS:
        mode = linux.memory_policy.mode
        asked.append(("/linux/memoryPolicy/mode", mode, MEMORY_POLICY_KERNELS[mode]))
    for index, flag in enumerate(linux.seccomp.flags if linux.seccomp else ()):
        if flag in SECCOMP_FLAG_KERNELS:
            asked.append((f"/linux/seccomp/flags/{index}", flag, SECCOMP_FLAG_KERNELS[flag]))
    for pointer, name, kernel in asked:
        if host.kernel < kernel:
            yield Notice(pointer, f"{name} needs Linux {kernel[0]}.{kernel[1]}", HOST)


def _ungranted_capabilities(spec: Spec, host: Host) -> Iterator[Notice]:
    """Outside of the runtime's bounding set nothing can be granted, but in a new user namespace (capabilities(7))."""
    if not (spec.process and spec.process.capabilities) or namespace_of(spec, "user"):
        return
    for name in CAPABILITY_SETS:
        for index, capability in enumerate(getattr(spec.process.capabilities, name)):
            bit = CAPABILITY_BITS.get(capability, 0)
            if bit and not bit & host.bounding:
                pointer = f"/process/capabilities/{name}/{index}"
                yield Notice(pointer, f"{capability} cannot be granted on this host", CAPABILITY)


def _bound_devices(spec: Spec, host: Host) -> Iterator[Notice]:
    """Where mknod(2) is not permitted, the host's device is bound (compile/devices.py), with its own mode and owner.

    They are compared as the container will see them; what mappings a user namespace has that is joined isn't known.
    """
    linux, user = linux_of(spec), namespace_of(spec, "user")
    if user is None and not host.in_user_namespace and host.has("CAP_MKNOD"):
        return
    for index, device in enumerate(linux.devices):
        mode, uid, gid = host.device_access.get(device.path, (None, None, None))
        if mode is None or device.type == "p":
            continue
        compared: list[tuple[str, int | None, int | None]] = []
        if device.file_mode is not None:
            compared.append(("fileMode", stat.S_IMODE(device.file_mode), mode))
        if user is None:
            compared += [("uid", device.uid, uid), ("gid", device.gid, gid)]
        elif not user.path:
            compared.append(("uid", _on_host(device.uid, linux.uid_mappings), uid))
            compared.append(("gid", _on_host(device.gid, linux.gid_mappings), gid))
        for name, asked, found in compared:
            if asked is not None and asked != found:
                shown = oct(mode) if name == "fileMode" else f"the host's {name} {found}"
                message = f"is not applied: no device can be made here, and the host's {device.path} has {shown}"
                yield Notice(f"/linux/devices/{index}/{name}", message, HOST)


def _on_host(number: int | None, mappings: tuple[IDMapping, ...]) -> int | None:
    """The host's id for one of a user namespace; -1 where it has none, None for None."""
    if number is None:
        return None
    found = host_id(number, mappings)
    return -1 if found is None else found
