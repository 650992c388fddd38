"""Namespaces: the plan's header, the mappings, and who init becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile import ContainerPidfd, NamespacePath, ResultFifo, StartFifo
from ocirt.compile.request import JoinedUser
from ocirt.errors import SpecError
from ocirt.host import Host
from ocirt.ops import OpenRoot, Pivot, RaiseLoopback, SetUser, Sync
from ocirt.spec import IDMapping
from ocirt.usermap import UserMapping
from tests.unit.compile_samples import ROOT, ROOTLESS, created, executed, only, ops_of, use_user_namespace
from tests.unit.spec_samples import small_config, with_value


def one(host_id: int) -> list[dict[str, int]]:
    return [{"containerID": 0, "hostID": host_id, "size": 1}]


def user_config(uids: Any, gids: Any) -> dict[str, Any]:
    config = use_user_namespace(small_config())
    return with_value("/linux/gidMappings", gids, with_value("/linux/uidMappings", uids, config))


@pytest.mark.parametrize("kind", sorted(k.NAMESPACES))
def test_new_and_joined_namespaces(kind: str) -> None:
    flag = k.NAMESPACES[kind][0]
    config = user_config(one(0), one(0)) if kind == "user" else small_config()
    config = with_value("/linux/namespaces", [{"type": "mount"}] if kind != "mount" else [], config)
    new = created(with_value("/linux/namespaces/-", {"type": kind}, config)).plan
    assert (new.clone_flags & flag, new.joins) == (flag, ())
    joined = created(with_value("/linux/namespaces/-", {"type": kind, "path": "/n"}, config))
    index = 0 if kind == "mount" else 1
    assert joined.needs == (StartFifo(), ResultFifo(), NamespacePath(f"/linux/namespaces/{index}/path", kind, "/n"))
    assert joined.plan.joins == ((flag, 2),)
    assert not joined.plan.clone_flags & flag


def test_header_without_a_user_namespace() -> None:
    compiled = created(small_config())
    assert compiled.plan.flags == 0
    assert compiled.mapping is None
    assert compiled.plan.filled_slots == 2


def test_mapping_by_root() -> None:
    compiled = created(use_user_namespace(small_config()))
    assert compiled.plan.flags == lib.PLAN_MAPS | lib.PLAN_SET_IDS
    assert compiled.mapping == UserMapping("0 100000 65536\n", "0 100000 65536\n")
    assert (compiled.plan.user_root_uid, compiled.plan.user_root_gid) == (0, 0)


@pytest.mark.parametrize(
    ("uids", "gids", "deny", "helpers", "keep"),
    [
        (one(1000), one(1000), True, False, True),
        (one(1000), one(1001), False, True, False),
        (one(1000), [*one(1000), {"containerID": 1, "hostID": 100000, "size": 10}], False, True, False),
        ([*one(1000), {"containerID": 1, "hostID": 100000, "size": 10}], one(1000), False, True, True),
    ],
)
def test_mapping_without_privileges(uids: Any, gids: Any, deny: bool, helpers: bool, keep: bool) -> None:
    compiled = created(user_config(uids, gids), ROOTLESS)
    assert compiled.mapping
    assert (compiled.mapping.deny_setgroups, compiled.mapping.helpers) == (deny, helpers)
    assert bool(compiled.plan.flags & lib.PLAN_KEEP_GROUPS) == keep
    assert bool(only(compiled, SetUser).flags & lib.USER_KEEP_GROUPS) == keep


def test_groups_that_cannot_be_set() -> None:
    config = with_value("/process/user/additionalGids", [0], user_config(one(1000), one(1000)))
    with pytest.raises(SpecError, match="cannot set any additional groups in a rootless container") as caught:
        created(config, ROOTLESS)
    assert caught.value.pointer == "/process/user/additionalGids"
    with pytest.raises(SpecError):
        created(with_value("/process/user/additionalGids", [0]), replace(ROOT, setgroups_denied=True))


@pytest.mark.parametrize(("value", "keep"), [("1", True), ("", True), ("0", False)])
def test_groups_are_kept_by_annotation(value: str, keep: bool) -> None:
    config = with_value("/annotations", {"run.oci.keep_original_groups": value})
    user = only(created(with_value("/process/user/additionalGids", [7], config)), SetUser)
    assert bool(user.flags & lib.USER_KEEP_GROUPS) == keep
    assert user.groups == (() if keep else (7,))


def test_init_takes_the_first_id_where_there_is_no_root() -> None:
    ranges = [{"containerID": 30, "hostID": 100, "size": 5}, {"containerID": 10, "hostID": 200, "size": 5}]
    config = with_value("/process/user", {"uid": 30, "gid": 10}, user_config(ranges, ranges))
    plan = created(config).plan
    assert (plan.user_root_uid, plan.user_root_gid) == (30, 30)


@pytest.mark.parametrize(("name", "pointer"), [("uid", "/process/user/uid"), ("gid", "/process/user/gid")])
def test_the_users_ids_must_be_mapped(name: str, pointer: str) -> None:
    config = with_value(f"/process/user/{name}", 65536, use_user_namespace(small_config()))
    with pytest.raises(SpecError, match="is not mapped") as caught:
        created(config)
    assert caught.value.pointer == pointer
    with pytest.raises(SpecError) as caught:
        created(with_value("/process/user/additionalGids", [1, 65536], use_user_namespace(small_config())))
    assert caught.value.pointer == "/process/user/additionalGids/1"


def test_joined_user_namespace() -> None:
    config = with_value("/linux/namespaces/-", {"type": "user", "path": "/proc/9/ns/user"})
    ranges = (IDMapping(container_id=5, host_id=100, size=5),)
    joined = JoinedUser(uid_mappings=ranges, gid_mappings=ranges, setgroups_denied=True)
    compiled = created(with_value("/process/user", {"uid": 5, "gid": 6}, config), joined_user=joined)
    assert compiled.plan.flags == lib.PLAN_SET_IDS | lib.PLAN_KEEP_GROUPS
    assert compiled.plan.user_root_uid == 5
    assert compiled.mapping is None
    with pytest.raises(SpecError, match="not mapped"):
        created(config, joined_user=joined)
    assert not created(config).plan.flags & lib.PLAN_KEEP_GROUPS
    assert (
        created(config, replace(ROOT, effective=k.CAPABILITY_BITS["CAP_SYS_ADMIN"])).plan.flags & lib.PLAN_KEEP_GROUPS
    )


def test_rootless_needs_a_user_namespace() -> None:
    with pytest.raises(SpecError, match="rootless container requires a user namespace") as caught:
        created(small_config(), ROOTLESS)
    assert caught.value.pointer == "/linux/namespaces"


def test_time_offsets() -> None:
    config = with_value("/linux/namespaces/-", {"type": "time"})
    assert not created(config).plan.flags & lib.PLAN_TIME_OFFSETS
    offsets = {"boottime": {"secs": -3}, "monotonic": {"secs": 1, "nanosecs": 2}}
    compiled = created(with_value("/linux/timeOffsets", offsets, config))
    assert compiled.plan.flags & lib.PLAN_TIME_OFFSETS
    assert compiled.time_offsets == "boottime -3 0\nmonotonic 1 2\n"


def test_loopback_belongs_to_new_network_namespaces() -> None:
    assert only(created(small_config()), RaiseLoopback).origin == "/linux/namespaces"
    joined = with_value("/linux/namespaces/1", {"type": "network", "path": "/n"})
    assert not ops_of(created(joined), RaiseLoopback)


def test_network_devices() -> None:
    config = with_value("/linux/netDevices", {"eth0": {}})
    kinds = [op.kind for op in ops_of(created(config), Sync)]
    assert kinds == [lib.SYNC_NETDEVS, lib.SYNC_DEVICES, lib.SYNC_READY]
    for host in (
        replace(ROOT, effective=ROOT.effective & ~k.CAPABILITY_BITS["CAP_NET_ADMIN"]),
        replace(ROOT, owned=ROOT.owned - {"network"}),
    ):
        with pytest.raises(SpecError, match="CAP_NET_ADMIN") as caught:
            created(config, host)
        assert caught.value.pointer == "/linux/netDevices"


# ---- exec


def test_exec_joins_through_the_pidfd() -> None:
    flags = k.CLONE_NEWNS | k.CLONE_NEWPID | k.CLONE_NEWUSER
    ranges = (IDMapping(container_id=0, host_id=100, size=5),)
    user = JoinedUser(uid_mappings=ranges, gid_mappings=ranges)
    compiled = executed(use_user_namespace(small_config()), namespaces=flags, user=user)
    assert compiled.needs == (ContainerPidfd(),)
    assert (compiled.plan.pidfd_flags, compiled.plan.pidfd_slot, compiled.plan.clone_flags) == (flags, 0, 0)
    assert compiled.plan.flags == lib.PLAN_SET_IDS
    denied = executed(use_user_namespace(small_config()), namespaces=flags, user=replace(user, setgroups_denied=True))
    assert denied.plan.flags == lib.PLAN_SET_IDS | lib.PLAN_KEEP_GROUPS


def test_exec_without_a_difference_joins_nothing() -> None:
    compiled = executed(small_config(), namespaces=0)
    assert compiled.needs == ()
    assert compiled.plan.pidfd_flags == 0
    assert compiled.plan.pidfd_slot == lib.NO_SLOT


def test_exec_enters_the_root_of_a_container_without_a_mount_namespace() -> None:
    config = with_value("/linux/namespaces", [{"type": "pid"}])
    compiled = executed(config, namespaces=k.CLONE_NEWPID)
    assert only(compiled, OpenRoot).path == "/b/rootfs"
    assert only(compiled, Pivot).kind == lib.PIVOT_CHROOT
    assert not ops_of(executed(small_config()), Pivot)


@pytest.mark.parametrize(
    ("host", "privileged", "rootless"),
    [
        (ROOT, True, False),
        (ROOTLESS, False, True),
        (replace(ROOT, in_user_namespace=True), True, True),
        (replace(ROOT, in_user_namespace=True, owned=frozenset({"user"})), False, True),
        (replace(ROOT, effective=0), False, True),
        (replace(ROOT, rootless_given=True), True, True),
    ],
)
def test_what_a_host_is(host: Host, privileged: bool, rootless: bool) -> None:
    assert (host.privileged, host.rootless) == (privileged, rootless)
