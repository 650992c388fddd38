"""The only probing of the machine: what `compile` may know of it, as plain data.

Guarantees: a Host is complete before compile begins and never changes. `probe_host` reads what the config uses and no
more: the default bundle costs three small files of /proc and the search for cgroup v2.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ocirt import constants as k
from ocirt.cgroup.paths import CgroupHost, probe_cgroup_host
from ocirt.errors import HostError, OcirtError
from ocirt.idmap import maps_all
from ocirt.pseudofile import read_text
from ocirt.spec import Linux, Process, Spec

KERNEL_FLOOR = (5, 14)
_NS_GET_USERNS = 0xB701
_NAMESPACE_TYPES = frozenset(k.NAMESPACES)
_RELEASE = re.compile(r"([0-9]+)\.([0-9]+)")


class UnsupportedHostError(OcirtError):
    """This machine lacks what ocirt is built on."""

    code = "host.unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The defaults are those of root on a plain machine.

    `effective`, `bounding`: capability masks of this process. `owned`: the types of its namespaces that belong to its
    own user namespace. Of the namespaces that the config joins by path, `foreign` are those that don't belong to the
    container's user namespace, `shared` those that the runtime is in itself. `symlinks`: the sources of mounts with
    copy-symlink that are symbolic links. `rlimits`: soft and hard, of the types that the config sets. `devices`: what
    the paths of the config's devices are here, as (type, major, minor); of those that are devices. `device_access`:
    their permission bits, uid and gid.
    """

    kernel: tuple[int, int] = KERNEL_FLOOR
    euid: int = 0
    egid: int = 0
    effective: int = k.ALL_CAPABILITIES
    bounding: int = k.ALL_CAPABILITIES
    in_user_namespace: bool = False
    setgroups_denied: bool = False
    owned: frozenset[str] = _NAMESPACE_TYPES
    foreign: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    apparmor: bool = False
    selinux: bool = False
    cgroup: CgroupHost | None = None
    symlinks: frozenset[str] = frozenset()
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    devices: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    device_access: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    rootless_given: bool | None = None

    def has(self, capability: str) -> bool:
        """Whether this process has it, in its own user namespace."""
        return bool(self.effective & k.CAPABILITY_BITS[capability])

    @property
    def privileged(self) -> bool:
        """Whether the runtime may make and open mounts where it is."""
        return self.has("CAP_SYS_ADMIN") and "mount" in self.owned

    @property
    def rootless(self) -> bool:
        """Whether it runs without the machine's privileges: for a user, be it as root of that user's namespace, or for
        a root who was left none, as in a container.

        `rootless_given` is the caller's own word for it (--rootless).
        """
        if self.rootless_given is not None:
            return self.rootless_given
        return self.euid != 0 or self.in_user_namespace or not self.has("CAP_SYS_ADMIN")


def probe_host(
    spec: Spec | None = None, process: Process | None = None, bundle: str = "/", rootless: bool | None = None
) -> Host:
    """What `spec`, and for exec `process`, need to know. `bundle` is what relative sources are relative to.

    Raises UnsupportedHostError, HostError.
    """
    kernel = probe_kernel()
    effective, bounding = _probe_capabilities()
    in_user_namespace = not maps_all(_read("/proc/self/uid_map"))
    linux = (spec and spec.linux) or Linux()
    process = process or (spec.process if spec else None)
    devices = _probe_devices(linux)
    labels = linux.mount_label or (process and process.selinux_label)
    return Host(
        kernel=kernel,
        euid=os.geteuid(),
        egid=os.getegid(),
        effective=effective,
        bounding=bounding,
        in_user_namespace=in_user_namespace,
        setgroups_denied=in_user_namespace and _read("/proc/self/setgroups").strip() == "deny",
        owned=_probe_owned() if in_user_namespace else _NAMESPACE_TYPES,
        foreign=_probe_foreign(linux),
        shared=_probe_shared(linux),
        apparmor=bool(process and process.apparmor_profile) and _probe_apparmor(),
        selinux=bool(labels) and os.path.exists("/sys/fs/selinux/enforce"),
        cgroup=probe_cgroup_host(),
        symlinks=_probe_symlinks(spec, bundle) if spec else frozenset(),
        rlimits=_probe_rlimits(linux, process),
        devices={path: (kind, os.major(info.st_rdev), os.minor(info.st_rdev)) for path, kind, info in devices},
        device_access={path: (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) for path, _, info in devices},
        rootless_given=rootless,
    )


def probe_kernel() -> tuple[int, int]:
    """The kernel's version. Raises UnsupportedHostError below 5.14, which has mount_setattr(2) as it is used here."""
    release = os.uname().release
    match = _RELEASE.match(release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < KERNEL_FLOOR:
        floor = ".".join(map(str, KERNEL_FLOOR))
        raise UnsupportedHostError(f"ocirt needs Linux {floor} or newer, this is {release}")
    return version


def _read(path: str) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise HostError.of(error, "read") from None


def _probe_capabilities() -> tuple[int, int]:
    """The effective and the bounding set (proc(5), status)."""
    status = _read("/proc/self/status")
    effective, bounding = (status.partition(f"\n{name}:")[2].partition("\n")[0] for name in ("CapEff", "CapBnd"))
    return int(effective, 16), int(bounding, 16)


def _owner(namespace_fd: int) -> tuple[int, int] | None:
    """Device and inode of the user namespace that owns a namespace; None for one that is above ours (ioctl_nsfs(2))."""
    try:
        owner_fd = fcntl.ioctl(namespace_fd, _NS_GET_USERNS)
    except OSError as error:
        if error.errno == errno.EPERM:
            return None
        raise
    try:
        info = os.fstat(owner_fd)
        return info.st_dev, info.st_ino
    finally:
        os.close(owner_fd)


def _open(path: str, pointer: str = "") -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise HostError.of(error, "open", pointer=pointer) from None


def _probe_owned() -> frozenset[str]:
    owned = set()
    for kind, (_, name) in k.NAMESPACES.items():
        fd = _open(f"/proc/self/ns/{name}")
        try:
            if kind == "user" or _owner(fd) is not None:
                owned.add(kind)
        finally:
            os.close(fd)
    return frozenset(owned)


def _joined(linux: Linux) -> Iterator[tuple[str, str, str]]:
    """(type, path, pointer) of the namespaces to join that a fresh file system or a sysctl could belong to."""
    for index, namespace in enumerate(linux.namespaces):
        if namespace.path and namespace.type in ("network", "ipc", "pid"):
            yield namespace.type, namespace.path, f"/linux/namespaces/{index}/path"


def _probe_foreign(linux: Linux) -> frozenset[str]:
    user = next((namespace for namespace in linux.namespaces if namespace.type == "user"), None)
    if not user:
        return frozenset()
    own = None
    if user.path:
        info = os.stat(user.path) if os.path.exists(user.path) else None
        own = info and (info.st_dev, info.st_ino)
    foreign = set()
    for kind, path, pointer in _joined(linux):
        fd = _open(path, pointer)
        try:
            if own is None or _owner(fd) != own:
                foreign.add(kind)
        except OSError as error:
            raise HostError.of(error, f"ioctl NS_GET_USERNS {path}", pointer=pointer) from None
        finally:
            os.close(fd)
    return frozenset(foreign)


def _probe_shared(linux: Linux) -> frozenset[str]:
    shared = set()
    for kind, path, pointer in _joined(linux) if linux.sysctl else ():
        try:
            if os.path.samestat(os.stat(path), os.stat(f"/proc/self/ns/{k.NAMESPACES[kind][1]}")):
                shared.add(kind)
        except OSError as error:
            raise HostError.of(error, "stat", pointer=pointer) from None
    return frozenset(shared)


def _probe_apparmor() -> bool:
    try:
        return read_text("/sys/module/apparmor/parameters/enabled").startswith("Y")
    except OSError:
        return False


def _probe_symlinks(spec: Spec, bundle: str) -> frozenset[str]:
    sources = (mount.source for mount in spec.mounts if mount.source and "copy-symlink" in mount.options)
    return frozenset(path for source in sources if os.path.islink(path := os.path.join(bundle, source)))


def _probe_devices(linux: Linux) -> list[tuple[str, str, os.stat_result]]:
    """Path, type and status."""
    found = []
    for device in linux.devices:
        with contextlib.suppress(OSError):
            info = os.stat(device.path)
            kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(info.st_mode))
            if kind:
                found.append((device.path, kind, info))
    return found


def _probe_rlimits(linux: Linux, process: Process | None) -> dict[str, tuple[int, int]]:
    """Only a user namespace changes what may be raised: in it, no hard limit may be."""
    if not process or not any(namespace.type == "user" for namespace in linux.namespaces):
        return {}
    found = {}
    for limit in process.rlimits:
        soft, hard = resource.getrlimit(k.RLIMITS[limit.type])
        found[limit.type] = (soft % 2**64, hard % 2**64)
    return found
