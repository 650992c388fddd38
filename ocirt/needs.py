"""The descriptors that a plan needs, opened by the runtime in its own namespaces, in the order of the plan's slots."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ocirt import constants as k
from ocirt._native import lib
from ocirt.cgroup.directory import Cgroup
from ocirt.compile.request import (
    CgroupDirectory,
    ContainerPidfd,
    IdmappedTree,
    JoinedUser,
    NamespacePath,
    Need,
    ResultFifo,
    StartFifo,
)
from ocirt.driver import Session
from ocirt.errors import HostError, SpecError
from ocirt.idmap import read_map
from ocirt.ops import Sync
from ocirt.plan import Plan
from ocirt.pseudofile import read_text
from ocirt.spec import Linux
from ocirt.state import RESULT_FIFO, START_FIFO, Container
from ocirt.usermap import open_idmapped_tree, open_mapped_namespace

_NS_GET_NSTYPE = 0xB703  # ioctl_nsfs(2)


def open_needs(
    needs: Sequence[Need], container: Container, cgroup: Cgroup | None, stack: ExitStack, pidfd: int = -1
) -> list[int]:
    """Open them all; `stack` closes them. Raises SpecError, HostError with the pointer of what asked for each."""
    slots: list[int] = []
    for need in needs:
        slots.append(_open_need(need, container, cgroup, pidfd))
        stack.callback(os.close, slots[-1])
    return slots


def _open_need(need: Need, container: Container, cgroup: Cgroup | None, pidfd: int) -> int:
    match need:
        case NamespacePath():
            return open_namespace(need.pointer, need.type, need.path)
        case IdmappedTree():
            return _open_idmapped(need)
        case StartFifo():
            return container.open(START_FIFO, os.O_RDWR)
        case ResultFifo():
            return container.open(RESULT_FIFO, os.O_RDWR)
        case ContainerPidfd():
            return os.dup(pidfd)
        case CgroupDirectory():
            if cgroup is None:
                raise HostError("open", "cgroup", errno.ENOENT, pointer="/process/execCPUAffinity")
            return os.dup(cgroup.fd)


def open_namespace(pointer: str, kind: str, path: str) -> int:
    """The namespace at a path. Raises SpecError for a file that is not a namespace of that type."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise HostError("open", path, error.errno or 0, pointer=pointer) from None
    try:
        flag = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        flag = 0
    if flag != k.NAMESPACES[kind][0]:
        os.close(fd)
        found = next((name for name, (number, _) in k.NAMESPACES.items() if number == flag), None)
        what = f"a namespace of type {found}" if found else "not a namespace"
        raise SpecError(pointer, f"{path} is {what}, {kind} is asked for", "spec.namespace")
    return fd


def _open_idmapped(need: IdmappedTree) -> int:
    namespace: Callable[[], int]
    if need.user_namespace is not None:
        path = need.user_namespace

        def namespace() -> int:
            return open_namespace(need.pointer, "user", path)
    else:
        mapping = need.mapping
        assert mapping

        def namespace() -> int:
            return open_mapped_namespace(mapping)

    return open_idmapped_tree(need, namespace)


def probe_joined_user(linux: Linux) -> JoinedUser | None:
    """The mappings of a user namespace that the config joins by path, as a process in it has them; None without one."""
    found = next(((i, n.path) for i, n in enumerate(linux.namespaces) if n.type == "user" and n.path), None)
    if found is None:
        return None
    pointer = f"/linux/namespaces/{found[0]}/path"
    users: list[JoinedUser] = []

    def answer(session: Session, _fd: int) -> None:
        try:
            users.append(probe_user(session.pid))
        except OSError as error:
            raise HostError.of(error, "read", pointer=pointer) from None

    fd = open_namespace(pointer, "user", found[1])
    try:
        join = Plan(joins=((k.CLONE_NEWUSER, 0),), ops=(Sync(pointer, lib.SYNC_READY),), slot_count=1, filled_slots=1)
        with Session.start(join, [fd]) as session:
            session.serve({lib.SYNC_READY: answer})
            session.end()
    finally:
        os.close(fd)
    return users[0]


def probe_user(pid: int) -> JoinedUser:
    """The user namespace that a process is in. Raises OSError."""
    uid, gid = (read_map(f"/proc/{pid}/{name}_map") for name in ("uid", "gid"))
    denied = read_text(f"/proc/{pid}/setgroups").strip() == "deny"
    return JoinedUser(uid_mappings=uid, gid_mappings=gid, setgroups_denied=denied)
