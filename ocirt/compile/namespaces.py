"""The namespaces: which to create and to join, what a user namespace maps, who init becomes in it, and the clocks.

Guarantees: without privileges nothing is mapped but what the kernel, or newuidmap(1) and newgidmap(1), let this user
map; setgroups(2) is denied where a group could be dropped that denies access (CVE-2014-8989).
"""

from __future__ import annotations

from dataclasses import dataclass

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile.context import Context, CreateContext, ExecContext
from ocirt.compile.request import ContainerPidfd, NamespacePath, UserMappings
from ocirt.errors import SpecError
from ocirt.host import Host
from ocirt.idmap import host_id
from ocirt.ops import Op, RaiseLoopback, Sync
from ocirt.spec import IDMapping, TimeOffset
from ocirt.usermap import UserMapping

KEEP_GROUPS_ANNOTATION = "run.oci.keep_original_groups"


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The part of a plan's header that is about namespaces, and what answers its syncs."""

    clone_flags: int = 0
    joins: tuple[tuple[int, int], ...] = ()
    pidfd_flags: int = 0
    pidfd_slot: int = lib.NO_SLOT
    flags: int = 0
    user_root: tuple[int, int] = (0, 0)
    mapping: UserMapping | None = None
    time_offsets: str | None = None
    keep_groups: bool = False


def compile_namespaces(ctx: CreateContext) -> Namespaces:
    """config-linux.md#namespaces, for create. Raises SpecError."""
    if ctx.namespaces and not ctx.host.has("CAP_SYS_ADMIN") and not ctx.has_user_namespace:
        raise SpecError("/linux/namespaces", "a rootless container requires a user namespace", "spec.requires")
    clone_flags, joins = 0, []
    for index, entry in enumerate(ctx.linux.namespaces):
        flag = k.NAMESPACES[entry.type][0]
        if entry.path:
            need = NamespacePath(f"/linux/namespaces/{index}/path", entry.type, entry.path)
            joins.append((flag, ctx.slots.need(need)))
        else:
            clone_flags |= flag
    mapping = _new_mapping(ctx)
    time_offsets = compile_time_offsets(ctx.linux.time_offsets) if ctx.is_new("time") else None
    keep_groups = _keeps_groups(ctx, mapping)
    flags = lib.PLAN_MAPS if mapping else 0
    if ctx.has_user_namespace:
        flags |= lib.PLAN_SET_IDS | (keep_groups and lib.PLAN_KEEP_GROUPS)
    if time_offsets:
        flags |= lib.PLAN_TIME_OFFSETS
    return Namespaces(
        clone_flags=clone_flags,
        joins=tuple(joins),
        flags=flags,
        user_root=_user_root(ctx.user_mappings()),
        mapping=mapping,
        time_offsets=time_offsets,
        keep_groups=keep_groups,
    )


def compile_exec_namespaces(ctx: ExecContext) -> Namespaces:
    """All at once, through the pidfd of the container's init."""
    request = ctx.request
    if not request.namespaces:
        return Namespaces(keep_groups=ctx.host.setgroups_denied)
    user = request.user
    denied = ctx.host.setgroups_denied or bool(user and user.setgroups_denied)
    keep_groups = denied or keeps_groups_by_annotation(ctx)
    flags = 0
    if user:
        flags = lib.PLAN_SET_IDS | (keep_groups and lib.PLAN_KEEP_GROUPS)
    return Namespaces(
        pidfd_flags=request.namespaces,
        pidfd_slot=ctx.slots.need(ContainerPidfd()),
        flags=flags,
        user_root=_user_root(user.mappings if user else None),
        keep_groups=keep_groups,
    )


def compile_network(ctx: CreateContext) -> list[Op]:
    """A new network namespace has a loopback interface that is down; devices are the runtime's to move."""
    ops: list[Op] = [RaiseLoopback("/linux/namespaces")] if ctx.is_new("network") else []
    if ctx.linux.net_devices:
        if not ctx.host.has("CAP_NET_ADMIN") or "network" not in ctx.host.owned:
            message = "moving a device needs CAP_NET_ADMIN over the network namespace that it is in"
            raise SpecError("/linux/netDevices", message, "spec.unsupported")
        ops.append(Sync("/linux/netDevices", lib.SYNC_NETDEVS))
    return ops


def compile_mapping(
    uid_mappings: tuple[IDMapping, ...], gid_mappings: tuple[IDMapping, ...], host: Host
) -> UserMapping:
    """What to write, and how, for a new user namespace (user_namespaces(7))."""
    privileged = host.has("CAP_SETUID") and host.has("CAP_SETGID")
    own_ids_alone = _maps_only(uid_mappings, host.euid) and _maps_only(gid_mappings, host.egid)
    return UserMapping(
        uid_map=mapping_text(uid_mappings),
        gid_map=mapping_text(gid_mappings),
        deny_setgroups=not privileged and own_ids_alone,
        helpers=not privileged and not own_ids_alone,
    )


def mapping_text(mappings: tuple[IDMapping, ...]) -> str:
    return "".join(f"{entry.container_id} {entry.host_id} {entry.size}\n" for entry in mappings)


def mapped(container_id: int, mappings: tuple[IDMapping, ...]) -> bool:
    """Whether the id exists in the user namespace."""
    return host_id(container_id, mappings) is not None


def compile_time_offsets(offsets: dict[str, TimeOffset]) -> str | None:
    """The text for timens_offsets (time_namespaces(7)); None where there is nothing to write."""
    lines = [f"{clock} {offset.secs} {offset.nanosecs}\n" for clock, offset in offsets.items()]
    return "".join(lines) or None


def _new_mapping(ctx: CreateContext) -> UserMapping | None:
    if not ctx.is_new("user"):
        return None
    return compile_mapping(ctx.linux.uid_mappings, ctx.linux.gid_mappings, ctx.host)


def _maps_only(mappings: tuple[IDMapping, ...], own_id: int) -> bool:
    return len(mappings) == 1 and mappings[0].size == 1 and mappings[0].host_id == own_id


def keeps_groups_by_annotation(ctx: Context) -> bool:
    return ctx.spec.annotations.get(KEEP_GROUPS_ANNOTATION, "0") != "0"


def _keeps_groups(ctx: CreateContext, mapping: UserMapping | None) -> bool:
    """Whether setgroups(2) cannot, or is not to be called."""
    if keeps_groups_by_annotation(ctx) or ctx.host.setgroups_denied:
        return True
    if mapping:
        # newgidmap denies setgroups unless one of the ranges is from /etc/subgid, which only it can tell.
        return mapping.deny_setgroups or (mapping.helpers and _maps_only(ctx.linux.gid_mappings, ctx.host.egid))
    if ctx.is_joined("user"):
        joined = ctx.request.joined_user
        return joined.setgroups_denied if joined else not ctx.host.has("CAP_SETGID")
    return not ctx.host.has("CAP_SETGID")


def _user_root(known: UserMappings | None) -> tuple[int, int]:
    """The ids that init works with in the user namespace: 0, or else the first that is mapped."""
    if not known:
        return 0, 0
    uid, gid = (0 if mapped(0, mappings) else mappings[0].container_id for mappings in known)
    return uid, gid
