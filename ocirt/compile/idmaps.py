"""Mounts with mapped ids: what the runtime has to prepare for them (config.md#posix-platform-mounts).

A user namespace may not map the ids of a mount (MOUNT_ATTR_IDMAP is EPERM there), so the runtime makes the copy of the
tree and has init bind it.
"""

from __future__ import annotations

import posixpath

from ocirt.compile.context import CreateContext
from ocirt.compile.mount_options import MountOptions
from ocirt.compile.namespaces import compile_mapping, mapping_text
from ocirt.compile.request import IdmappedTree
from ocirt.errors import SpecError
from ocirt.spec import IDMapping, Mount
from ocirt.usermap import UserMapping


def compile_idmapped_trees(ctx: CreateContext) -> dict[int, int]:
    """The slots of the trees that have to be mapped by the runtime, by the index of their mount. Raises SpecError."""
    slots: dict[int, int] = {}
    if not ctx.has_mount_namespace:
        return slots
    for index, mount in enumerate(ctx.spec.mounts):
        options = ctx.mount_options[index]
        if options.idmap is None and not (mount.uid_mappings or mount.gid_mappings):
            continue
        pointer = f"/mounts/{index}"
        if not options.bind:
            raise SpecError(pointer, "only a bind mount can map ids", "spec.conflict")
        if not ctx.host.has("CAP_SYS_ADMIN"):
            raise SpecError(pointer, "mapping ids is not supported for rootless containers", "spec.unsupported")
        need = _idmapped_tree(ctx, pointer, mount, options)
        slots[index] = ctx.slots.need(need)
    return slots


def _idmapped_tree(ctx: CreateContext, pointer: str, mount: Mount, options: MountOptions) -> IdmappedTree:
    at = pointer if options.idmap is None else f"{pointer}/options/{options.idmap}"
    user_namespace = None
    mapping: UserMapping | None
    if mount.uid_mappings or mount.gid_mappings:
        mapping = compile_mapping(mount.uid_mappings, mount.gid_mappings, ctx.host)
    elif options.idmap_ranges:
        mapping = _parse_ranges(ctx, options.idmap_ranges, at)
    elif ctx.is_joined("user"):
        mapping, user_namespace = None, ctx.namespaces["user"].path
    elif known := ctx.user_mappings():
        mapping = compile_mapping(*known, ctx.host)
    else:
        raise SpecError(at, "needs mappings or a user namespace", "spec.requires")
    return IdmappedTree(
        pointer=pointer,
        path=posixpath.join(ctx.request.bundle, mount.source or ""),
        recursive=options.recursive_bind,
        map_recursive=options.idmap_recursive,
        nofollow=options.source_nofollow,
        mapping=mapping,
        user_namespace=user_namespace,
    )


def _parse_ranges(ctx: CreateContext, text: str, pointer: str) -> UserMapping:
    """crun's "uids=0-1-10#10-11-10;gids=0-100-10": id in the file system, id on the host, count. With "@" before a
    range, the second is an id of the container's user namespace."""
    ranges: dict[str, tuple[IDMapping, ...]] = {}
    known = ctx.user_mappings()
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name not in ("uids", "gids") or name in ranges:
            raise SpecError(pointer, f'"{part:.60}" is not uids=... or gids=...')
        outer = known[name == "gids"] if known else ()
        ranges[name] = tuple(_parse_range(item, outer, pointer) for item in value.split("#"))
    if len(ranges) != 2:
        raise SpecError(pointer, "needs both uids= and gids=")
    return UserMapping(mapping_text(ranges["uids"]), mapping_text(ranges["gids"]))


def _parse_range(text: str, outer: tuple[IDMapping, ...], pointer: str) -> IDMapping:
    numbers = text.removeprefix("@").split("-")
    if len(numbers) != 3 or not all(n.isascii() and n.isdecimal() and len(n) <= 10 for n in numbers):
        raise SpecError(pointer, f'"{text:.60}" is not a range such as 0-100000-65536')
    first, host_id, size = map(int, numbers)
    if text.startswith("@"):
        entry = next((e for e in outer if e.container_id <= host_id < e.container_id + e.size), None)
        if entry is None:
            raise SpecError(pointer, f"{text}: {host_id} is not mapped in the container's user namespace")
        host_id += entry.host_id - entry.container_id
    if not size or max(first, host_id) + size > 2**32 - 1:
        raise SpecError(pointer, f"{text}: the range is empty, or ends beyond 2^32-2", "spec.range")
    return IDMapping(container_id=first, host_id=host_id, size=size)
