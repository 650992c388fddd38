"""The mounts of the config, in their order: new file systems, binds, remounts (config.md#mounts).

Guarantees: every mount gets its flags before anything can be seen through it; procfs and sysfs go on a real directory
alone (CVE-2019-19921); nothing is mounted inside of /proc but the files that lxcfs has. Sources are paths of the
runtime's mount namespace, opened before the pivot.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile.context import CreateContext
from ocirt.compile.mount_options import MountOptions
from ocirt.compile.namespaces import mapped
from ocirt.errors import SpecError
from ocirt.ops import Attributes, Bind, CopySymlink, MountFs, Op, Remount, SetMountAttributes
from ocirt.spec import Mount

# What lxcfs puts over files of procfs; anything else there would hide from the container what it is confined by.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"),
        *("sys/crypto/fips_enabled", "sys/kernel/ns_last_pid"),
    )
)
# Views of the kernel, and memory: their superblock is shared, or must be written to before the mount is read-only. A
# mount of them is read-only by its attribute; that of a device or an overlay is by its superblock, too.
_KERNEL_FILESYSTEMS = frozenset(
    (
        *(
            "binfmt_misc",
            "bpf",
            "cgroup",
            "cgroup2",
            "configfs",
            "debugfs",
            "devpts",
            "devtmpfs",
            "efivarfs",
            "fusectl",
        ),
        *("hugetlbfs", "mqueue", "proc", "pstore", "ramfs", "resctrl", "securityfs", "selinuxfs", "sysfs", "tmpfs"),
        "tracefs",
    )
)
# File systems that show one namespace, whose owner alone may mount them, and where the runtime has them.
_OF_NAMESPACE = {"proc": ("pid", "/proc"), "sysfs": ("network", "/sys"), "mqueue": ("ipc", "/dev/mqueue")}
# Mount points and devices are made in them, which read-only they would not let happen.
_FILLED_FILESYSTEMS = frozenset(("ramfs", "tmpfs"))
_UNLABELLED = frozenset(("cgroup", "cgroup2", "mqueue", "proc", "sysfs"))
NOTIFY_TARGET = "/run/notify"


@dataclass(frozen=True, slots=True)
class MountPart:
    """`later`: what makes mounts read-only that have to be written to before, for after the console."""

    ops: tuple[Op, ...]
    later: tuple[Op, ...]
    binds_dev: bool


def compile_mounts(ctx: CreateContext, idmapped: dict[int, int]) -> MountPart:
    """One to three operations an entry. Raises SpecError."""
    ops: list[Op] = []
    later: list[Op] = []
    targets = [target_path(mount.destination) for mount in ctx.spec.mounts]
    written = [*targets, *(target_path(device.path) for device in ctx.linux.devices)]
    for index, mount in enumerate(ctx.spec.mounts):
        pointer = f"/mounts/{index}"
        options = ctx.mount_options[index]
        target = _checked_target(targets[index], pointer)
        if options.bind and not options.remount:
            ops += _bind(ctx, pointer, mount, options, target, idmapped.get(index))
            continue
        _check_options(ctx, pointer, mount, options)
        if options.remount:
            ops.append(_remount(pointer, mount, options, target))
            continue
        made = _filesystem(ctx, pointer, mount, options, target)
        first = made[0]
        if options.read_only and isinstance(first, MountFs):
            is_filled = any(path.startswith(f"{target}/") for path in written[index + 1 :])
            if target == "/dev" or (is_filled and first.fstype in _FILLED_FILESYSTEMS):
                made[0], after = _defer_read_only(ctx, first)
                later.append(after)
        ops += made
    ops += _notify(ctx)
    pairs = zip(targets, ctx.mount_options, strict=True)
    return MountPart(tuple(ops), tuple(later), any(target == "/dev" and options.bind for target, options in pairs))


def target_path(destination: str) -> str:
    """The path in the container; a relative one is relative to / (config.md#mounts)."""
    return "/" + posixpath.normpath("/" + destination).lstrip("/")


def _checked_target(target: str, pointer: str) -> str:
    if target == "/":
        raise SpecError(f"{pointer}/destination", "the root cannot be mounted over", "spec.path")
    if target.startswith("/proc/") and target not in _PROC_FILES:
        message = f'"{target}" cannot be mounted because it is inside /proc'
        raise SpecError(f"{pointer}/destination", message, "spec.path")
    return target


def _check_options(ctx: CreateContext, pointer: str, mount: Mount, options: MountOptions) -> None:
    if options.copy_up and mount.type != "tmpfs":
        raise SpecError(f"{pointer}/options", f"tmpcopyup is for tmpfs, not {mount.type}", "spec.conflict")
    known = ctx.user_mappings() if options.data else None
    for index, word in options.data:
        name, _, value = word.partition("=")
        if not known or name not in ("uid", "gid") or not (value.isascii() and value.isdecimal()):
            continue
        if not mapped(int(value), known[name == "gid"]):
            message = f"{word}: the container's user namespace has no such id (/linux/{name}Mappings)"
            raise SpecError(f"{pointer}/options/{index}", message)


# ---- new file systems


def _filesystem(ctx: CreateContext, pointer: str, mount: Mount, options: MountOptions, target: str) -> list[Op]:
    fstype = mount.type or ""
    if fstype in ("cgroup", "cgroup2"):
        return _cgroup(ctx, pointer, mount, options, target)
    if fstype in _OF_NAMESPACE and not _may_mount(ctx, _OF_NAMESPACE[fstype][0]):
        return _bind_view(ctx, pointer, fstype, options, target)
    flags = 0
    if fstype in ("proc", "sysfs"):
        flags |= lib.MOUNT_REAL_DIRECTORY
    if fstype == "tmpfs":
        flags |= lib.MOUNT_TAKE_OVER
    return _new_filesystem(ctx, pointer, mount, options, target, fstype, flags)


def _new_filesystem(
    ctx: CreateContext, pointer: str, mount: Mount, options: MountOptions, target: str, fstype: str, flags: int
) -> list[Op]:
    flags |= (options.copy_up and lib.MOUNT_COPY_UP) | (options.target_nofollow and lib.MOUNT_TARGET_NOFOLLOW)
    words = _filesystem_words(options, fstype, changing=False)
    if ctx.linux.mount_label and ctx.host.selinux and fstype not in _UNLABELLED:
        words.append(f"context={ctx.linux.mount_label}")
    made = MountFs(
        pointer,
        fstype=fstype,
        source=mount.source or fstype,
        target=target,
        options=tuple(words),
        flags=flags,
        attributes=options.attributes(),
    )
    return _with_later_propagation(ctx, made, options)


def _filesystem_words(options: MountOptions, fstype: str | None, *, changing: bool) -> list[str]:
    """What goes to the superblock: what is common to all file systems, and then the file system's own."""
    words = options.superblock_words(fstype, changing=changing)
    if fstype not in _KERNEL_FILESYSTEMS:
        if options.read_only:
            words.insert(0, "ro")
        elif changing and options.top.clear & k.MOUNT_ATTR_RDONLY:
            words.insert(0, "rw")
    return words + [word for _, word in options.data]


def _may_mount(ctx: CreateContext, kind: str) -> bool:
    """Whether the container's init has CAP_SYS_ADMIN over its namespace of that type."""
    if ctx.is_new(kind):
        return True
    if ctx.has_user_namespace:
        return ctx.is_joined(kind) and kind not in ctx.host.foreign
    return ctx.is_joined(kind) or kind in ctx.host.owned


def _bind_view(ctx: CreateContext, pointer: str, fstype: str, options: MountOptions, target: str) -> list[Op]:
    """The runtime's own view of the same namespace, where a new one must not be made. sysfs has the host's cgroups in
    it, and is therefore read-only all the way (CVE-2023-25809)."""
    kind, path = _OF_NAMESPACE[fstype]
    if ctx.is_joined(kind):
        message = f"{fstype} cannot be mounted: the {kind} namespace is not one of the container's user namespace"
        if fstype != "sysfs":
            raise SpecError(pointer, message, "spec.unsupported")
    ctx.warn(pointer, f"the runtime's own {path} is bound, as the container's user namespace may not mount {fstype}")
    attributes = options.attributes()
    if fstype == "sysfs":
        attributes = replace(attributes, recursive_set=attributes.recursive_set | k.MOUNT_ATTR_RDONLY)
        attributes = replace(attributes, clear=attributes.clear & ~k.MOUNT_ATTR_RDONLY)
    opened, slot = ctx.open_source(pointer, path, recursive=True)
    return [*opened, Bind(pointer, target, slot, flags=lib.MOUNT_REAL_DIRECTORY, attributes=attributes)]


def _cgroup(ctx: CreateContext, pointer: str, mount: Mount, options: MountOptions, target: str) -> list[Op]:
    """A cgroup namespace's own view; without one the host's, as with runc and crun. They mount that anew, and
    thereby change the options of the host's hierarchy (nsdelegate, memory_recursiveprot): here it is bound. Of a
    rootless container it is read-only, as the user may own a part of it (CVE-2023-25809)."""
    if "cgroup" in ctx.namespaces:
        return _new_filesystem(ctx, pointer, mount, options, target, "cgroup2", 0)
    if ctx.host.cgroup is None:
        raise SpecError(pointer, "cgroup v2 is not mounted on this host", "host.unsupported")
    attributes = options.attributes()
    if ctx.host.rootless:
        attributes = replace(
            attributes, set=attributes.set | k.MOUNT_ATTR_RDONLY, clear=attributes.clear & ~k.MOUNT_ATTR_RDONLY
        )
    opened, slot = ctx.open_source(pointer, ctx.host.cgroup.mount, recursive=False)
    return [*opened, Bind(pointer, target, slot, attributes=attributes)]


def _defer_read_only(ctx: CreateContext, made: MountFs) -> tuple[Op, Op]:
    """The mount as it is first, and what makes it read-only."""
    attributes = made.attributes
    slot = made.slot if made.slot != lib.NO_SLOT else ctx.slots.new(made.origin)
    bits = k.MOUNT_ATTR_RDONLY
    first = replace(attributes, set=attributes.set & ~bits, recursive_set=attributes.recursive_set & ~bits)
    return replace(made, attributes=first, slot=slot), SetMountAttributes(made.origin, Attributes(set=bits), slot)


def _with_later_propagation(ctx: CreateContext, made: MountFs | Bind, options: MountOptions) -> list[Op]:
    steps = options.later_propagation() if options.propagation else []
    if not steps:
        return [made]
    slot = ctx.slots.new(made.origin)
    return [replace(made, slot=slot), *(SetMountAttributes(made.origin, step, slot) for step in steps)]


# ---- binds


def _bind(
    ctx: CreateContext, pointer: str, mount: Mount, options: MountOptions, target: str, idmapped: int | None
) -> list[Op]:
    source = posixpath.join(ctx.request.bundle, mount.source or "")
    if options.copy_symlink and (options.source_nofollow or options.target_nofollow):
        message = "copy-symlink excludes src-nofollow and dest-nofollow"
        raise SpecError(f"{pointer}/options", message, "spec.conflict")
    if options.data:
        # Nothing can do what they ask for. runc refuses them, crun does this; the official validation suite has them.
        words = ", ".join(word for _, word in options.data)
        ctx.warn(f"{pointer}/options", f"{words}: a bind mount has no options of a file system, ignored")
    if options.copy_symlink and source in ctx.host.symlinks:
        return [CopySymlink(pointer, source, target)]
    flags = options.target_nofollow and lib.MOUNT_TARGET_NOFOLLOW
    attributes = options.attributes()
    if idmapped is None:
        opened, slot = ctx.open_source(
            pointer, source, recursive=options.recursive_bind, nofollow=options.source_nofollow
        )
        bind = Bind(pointer, target, slot, int(flags), attributes=attributes)
        return [*opened, *_with_later_propagation(ctx, bind, options)]
    if not options.propagation and not ctx.shares_mounts:
        # The runtime made the copy in its own mount namespace, so it is of the host's peer groups.
        attributes = replace(attributes, recursive_propagation=k.MS_SLAVE)
    return _with_later_propagation(ctx, Bind(pointer, target, idmapped, int(flags), attributes=attributes), options)


def _notify(ctx: CreateContext) -> Iterator[Op]:
    """The directory with the socket that stands for the caller's NOTIFY_SOCKET."""
    directory = ctx.request.notify_directory
    if not directory:
        return
    opened, slot = ctx.open_source("", directory, recursive=False)
    bits = k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC
    yield from opened
    yield Bind("", NOTIFY_TARGET, slot, attributes=Attributes(set=bits))


def _remount(pointer: str, mount: Mount, options: MountOptions, target: str) -> Op:
    """With "bind" the mount's own flags alone, as mount(8) has it."""
    words = [] if options.bind else _filesystem_words(options, mount.type, changing=True)
    return Remount(pointer, target, tuple(words) or None, options.attributes())
