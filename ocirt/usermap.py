"""User namespaces from outside: writing a new one's mappings, and making the throw-away ones of idmapped mounts.

user_namespaces(7): without CAP_SETUID and CAP_SETGID in the parent namespace, a process may map its own ids alone, with
setgroups(2) denied first (CVE-2014-8989); more takes newuidmap(1) and newgidmap(1), which check /etc/subuid.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirt import constants as k
from ocirt._native import lib
from ocirt.driver import Session
from ocirt.errors import HostError, OcirtError
from ocirt.plan import Plan

if TYPE_CHECKING:
    from ocirt.compile.request import IdmappedTree

_AT_FDCWD = -100
HELPER_PATH = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")
OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100


@dataclass(frozen=True, slots=True)
class UserMapping:
    """Lines "container host size" for uid_map and gid_map. `helpers`: newuidmap and newgidmap must write them."""

    uid_map: str
    gid_map: str
    deny_setgroups: bool = False
    helpers: bool = False


def _write(path: str, text: str, pointer: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        # user_namespaces(7); CAP_SETFCAP since Linux 5.12
        hint = "the ids must be mapped in the runtime's own user namespace, and to map 0 of it takes CAP_SETFCAP"
        hint = hint if error.errno == errno.EPERM else ""
        raise HostError(f"write {text.strip()!r} to", path, error.errno or 0, pointer=pointer, hint=hint) from error


def _run_helper(name: str, pid: int, text: str, pointer: str) -> None:
    """newuidmap PID CONTAINER HOST SIZE ... ; engines call us without a PATH, so the usual places are searched."""
    places = [*os.environ.get("PATH", "").split(":"), *HELPER_PATH]
    program = next((p for place in places if place and os.access(p := f"{place}/{name}", os.X_OK)), None)
    if program is None:
        raise OcirtError(
            f"{pointer}: {name} is not installed; mapping more than one's own id needs it (package uidmap)"
        )
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write_fd, 2)]
        child = os.posix_spawn(program, [name, str(pid), *text.split()], {}, file_actions=actions)
        os.close(write_fd)
        write_fd = -1
        words = os.read(read_fd, 4096).decode("utf-8", "replace").strip().removeprefix(f"{name}: ")
        if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise OcirtError(f"{pointer}: {name}: {words or f'exit status {status}'} (are the ranges in /etc/subuid?)")
    finally:
        for fd in (read_fd, write_fd):
            if fd >= 0:
                os.close(fd)


def apply_mapping(pid: int, mapping: UserMapping) -> None:
    """Write the mappings of the process's new user namespace. Raises HostError, OcirtError."""
    if mapping.deny_setgroups:
        _write(f"/proc/{pid}/setgroups", "deny", "/linux/gidMappings")
    for name, helper, text in (
        ("uid", "newuidmap", mapping.uid_map),
        ("gid", "newgidmap", mapping.gid_map),
    ):
        pointer = f"/linux/{name}Mappings"
        if mapping.helpers:
            _run_helper(helper, pid, text, pointer)
        else:
            _write(f"/proc/{pid}/{name}_map", text, pointer)


def open_mapped_namespace(mapping: UserMapping) -> int:
    """A descriptor of a user namespace that has nothing in it but these mappings, for MOUNT_ATTR_IDMAP."""
    found: list[int] = []

    def answer(session: Session, _fd: int) -> None:
        apply_mapping(session.pid, mapping)
        found.append(os.open(f"/proc/{session.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))

    with Session.start(Plan(clone_flags=k.CLONE_NEWUSER, flags=lib.PLAN_MAPS)) as session:
        session.serve({lib.SYNC_MAPS: answer})
    return found[0]


def open_idmapped_tree(need: IdmappedTree, open_namespace: Callable[[], int]) -> int:
    """A detached copy of the mounts at a path with ids mapped (mount_setattr(2), Linux 5.12). Raises HostError."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if need.recursive else 0)
    flags |= AT_SYMLINK_NOFOLLOW if need.nofollow else 0
    tree_fd: int = lib.ocirt_open_tree(_AT_FDCWD, os.fsencode(need.path), flags)
    if tree_fd < 0:
        raise HostError("open_tree", need.path, -tree_fd, pointer=need.pointer)
    try:
        namespace_fd = open_namespace()
        try:
            error = lib.ocirt_mount_setattr_idmap(tree_fd, namespace_fd, need.map_recursive)
        finally:
            os.close(namespace_fd)
        if error < 0:
            hint = "the file system does not support id-mapped mounts, or is mounted in another user namespace"
            raise HostError("mount_setattr MOUNT_ATTR_IDMAP", need.path, -error, pointer=need.pointer, hint=hint)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd
