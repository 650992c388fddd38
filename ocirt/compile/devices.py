"""Device nodes, the links of /dev, and where they come from (config-linux.md#devices, runtime-linux.md).

Guarantees: the default devices are always there, unless the host's /dev is; what the config says of one of them counts.
In a user namespace, where none can be made, they are the host's own, bound.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator

from ocirt._native import lib
from ocirt.compile.context import CreateContext
from ocirt.compile.mounts import target_path
from ocirt.errors import SpecError
from ocirt.ops import Bind, MakeDevice, MakeSymlink, Op
from ocirt.spec import Device

DEFAULT_MODE = 0o666
# config-linux.md#default-devices
DEFAULT_DEVICES = (
    Device(path="/dev/null", type="c", major=1, minor=3),
    Device(path="/dev/zero", type="c", major=1, minor=5),
    Device(path="/dev/full", type="c", major=1, minor=7),
    Device(path="/dev/random", type="c", major=1, minor=8),
    Device(path="/dev/urandom", type="c", major=1, minor=9),
    Device(path="/dev/tty", type="c", major=5, minor=0),
)
# runtime-linux.md#dev-symbolic-links, and /dev/core as runc has it
LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_PTMX = "/dev/ptmx"
_LINKS = (
    MakeSymlink("", _PTMX, "pts/ptmx", lib.SYMLINK_REPLACE),
    *(MakeSymlink("", path, to, lib.SYMLINK_IF_TARGET, tolerated=(errno.EEXIST,)) for path, to in LINKS),
)


def compile_devices(ctx: CreateContext) -> Iterator[Op]:
    """For a /dev of the container's own; after the mounts."""
    configured = {target_path(device.path) for device in ctx.linux.devices}
    for device, node in _DEFAULTS:
        if node.path not in configured:
            yield from _device(ctx, device, node)
    for index, device in enumerate(ctx.linux.devices):
        node = _node(f"/linux/devices/{index}", device)
        # The container's own terminals come from its own devpts, whatever the config says of the host's.
        if node.path != _PTMX:
            yield from _device(ctx, device, node)
    yield from _LINKS


def _device(ctx: CreateContext, device: Device, node: MakeDevice) -> Iterator[Op]:
    """The node, or where none can be made, the host's."""
    if device.type == "p" or _may_make(ctx):
        yield node
        return
    _check_bound(ctx, node.origin, device)
    opened, slot = ctx.open_source(node.origin, node.path, recursive=False)
    yield from opened
    yield Bind(node.origin, node.path, slot, lib.MOUNT_CREATE_FILE | lib.MOUNT_TARGET_NOFOLLOW)


def _node(pointer: str, device: Device) -> MakeDevice:
    mode = DEFAULT_MODE if device.file_mode is None else stat.S_IMODE(device.file_mode)
    return MakeDevice(
        pointer,
        path=target_path(device.path),
        mode=_KINDS[device.type] | mode,
        major=device.major or 0 if device.type != "p" else 0,
        minor=device.minor or 0 if device.type != "p" else 0,
        uid=device.uid or 0,
        gid=device.gid or 0,
    )


_DEFAULTS = tuple((device, _node("", device)) for device in DEFAULT_DEVICES)


def _check_bound(ctx: CreateContext, pointer: str, device: Device) -> None:
    """What is bound must be what is asked for; that there is none, the operation says."""
    asked = "b" if device.type == "b" else "c", device.major or 0, device.minor or 0
    found = ctx.host.devices.get(device.path, asked)
    if found != asked:
        (kind, major, minor), wanted = found, f"{asked[0]} {asked[1]}:{asked[2]}"
        message = f"the host's {device.path} is {kind} {major}:{minor}, not {wanted}, and no device can be made here"
        raise SpecError(pointer, message, "spec.unsupported")


def _may_make(ctx: CreateContext) -> bool:
    """mknod(2) needs CAP_MKNOD in the initial user namespace."""
    return not ctx.has_user_namespace and not ctx.host.in_user_namespace and ctx.host.has("CAP_MKNOD")
