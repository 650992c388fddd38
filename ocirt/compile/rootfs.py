"""The root file system: attached, mounted below, pivoted into, made read-only and masked (config.md#root).

Guarantees: no mount event of the container reaches the host, unless rootfsPropagation asks for that; nothing of the
host can be reached after the pivot; read-only paths and masks come after everything that they may cover.
"""

from __future__ import annotations

from collections.abc import Iterator

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile.context import CreateContext
from ocirt.compile.devices import compile_devices
from ocirt.compile.mounts import MountPart, compile_mounts
from ocirt.errors import SpecError
from ocirt.ops import (
    AttachRoot,
    Attributes,
    MakeReadonly,
    MaskPath,
    Op,
    OpenRoot,
    OpenTree,
    Pivot,
    SetMountAttributes,
    SetPropagation,
)

_PROPAGATION = {name: flag for flag, name in k.PROPAGATION_NAMES.items()}
_POINTER = "/linux/rootfsPropagation"


def compile_root(ctx: CreateContext, idmapped: dict[int, int]) -> tuple[list[Op], MountPart]:
    """All that comes before the hooks: the root, the mounts, the devices. Raises SpecError."""
    if not ctx.has_mount_namespace:
        return _root_without_namespace(ctx)
    ops = [*_propagation(ctx), *_attach(ctx)]
    part = compile_mounts(ctx, idmapped)
    ops += part.ops
    if not part.binds_dev:
        ops += compile_devices(ctx)
    return ops, part


def compile_pivot(ctx: CreateContext) -> list[Op]:
    if not ctx.has_mount_namespace:
        return [Pivot("/root/path", lib.PIVOT_CHROOT)]
    ops: list[Op] = [Pivot("/root/path", lib.PIVOT_MOVE if ctx.request.no_pivot else lib.PIVOT_ROOT)]
    word = ctx.linux.rootfs_propagation
    if word and word.endswith(("shared", "unbindable")):
        # pivot_root(2) wants the root not to be shared, and what is unbindable could not have been bound.
        ops.append(SetPropagation(_POINTER, _flag(word), word.startswith("r")))
    return ops


def compile_readonly_root(ctx: CreateContext) -> Iterator[Op]:
    if ctx.spec.root.readonly:
        yield SetMountAttributes("/root/readonly", Attributes(set=k.MOUNT_ATTR_RDONLY))


def compile_restricted_paths(ctx: CreateContext) -> Iterator[Op]:
    """config-linux.md#readonly-paths and #masked-paths."""
    for index, path in enumerate(ctx.linux.readonly_paths):
        yield MakeReadonly(f"/linux/readonlyPaths/{index}", path)
    for index, path in enumerate(ctx.linux.masked_paths):
        yield MaskPath(f"/linux/maskedPaths/{index}", path)


def _flag(word: str) -> int:
    return _PROPAGATION.get(word) or _PROPAGATION[word.removeprefix("r")]


def _propagation(ctx: CreateContext) -> Iterator[Op]:
    """Before anything is mounted. Shared mounts stay so where that is asked for: a bind may then be in their group."""
    if ctx.shares_mounts:
        return
    word = ctx.linux.rootfs_propagation
    is_private = word is not None and _flag(word) in (k.MS_PRIVATE, k.MS_UNBINDABLE)
    if is_private and ctx.request.no_pivot:
        # The host's mounts stay in the namespace then, and would keep busy what the host unmounts.
        raise SpecError(_POINTER, f"{word} is not safe without pivot_root", "spec.conflict")
    yield SetPropagation(_POINTER if word else "", k.MS_PRIVATE if is_private else k.MS_SLAVE, True)


def _attach(ctx: CreateContext) -> Iterator[Op]:
    path = ctx.request.rootfs
    if ctx.opens_in_host_section or ctx.opens_at_entry:
        opened, slot = ctx.open_source("/root/path", path, recursive=True)
        yield from opened
        yield AttachRoot("/root/path", path, slot, lib.ROOT_STACK_ON_SLASH)
        return
    slot = ctx.slots.shared_scratch()
    yield OpenTree("/root/path", path, lib.TREE_RECURSIVE | (lib.TREE_SLAVE if ctx.shares_mounts else 0), slot)
    yield AttachRoot("/root/path", path, slot)


def _root_without_namespace(ctx: CreateContext) -> tuple[list[Op], MountPart]:
    """In the runtime's own mount namespace nothing is mounted, since nobody would ever unmount it."""
    for asked, pointer in (
        (ctx.spec.root.readonly, "/root/readonly"),
        (ctx.linux.rootfs_propagation, _POINTER),
        (ctx.linux.readonly_paths, "/linux/readonlyPaths"),
        (ctx.linux.masked_paths, "/linux/maskedPaths"),
    ):
        if asked:
            raise SpecError(pointer, "needs a mount namespace in /linux/namespaces", "spec.requires")
    for index, mount in enumerate(ctx.spec.mounts):
        message = f"{mount.destination} is not mounted: the container has no mount namespace of its own"
        ctx.warn(f"/mounts/{index}", message)
    ctx.host_ops.append(OpenRoot("/root/path", ctx.request.rootfs))
    devices = list(compile_devices(ctx)) if not ctx.has_user_namespace and not ctx.host.in_user_namespace else []
    return devices, MountPart((), (), binds_dev=False)
