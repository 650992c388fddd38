"""Who owns a container's cgroup (config-linux.md#cgroup-ownership).

Guarantees: the owner changes only for a new cgroup namespace and a writable mount of it, and then only that of the
directory and of the files which the kernel names for delegation, so that no limit becomes the container's own to raise.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocirt.errors import HostError
from ocirt.idmap import host_id
from ocirt.pseudofile import read_text

if TYPE_CHECKING:
    from ocirt.spec import IDMapping, Spec

POINTER = "/process/user/uid"

_DELEGATE = "/sys/kernel/cgroup/delegate"
# What the specification names for kernels without that file.
_DELEGATED_FILES = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def compile_cgroup_owner(spec: Spec, uid_mappings: Sequence[IDMapping] | None) -> int | None:
    """The host uid that is to own the cgroup, or None to leave it alone.

    `uid_mappings`: those of the container's user namespace, new or joined; None without one. A uid without a mapping is
    left alone here: that it can't run is said elsewhere.
    """
    linux = spec.linux
    if linux is None or spec.process is None:
        return None
    if not any(namespace.type == "cgroup" and namespace.path is None for namespace in linux.namespaces):
        return None
    writable = any(
        mount.source == "cgroup"
        and posixpath.normpath(posixpath.join("/", mount.destination)) == "/sys/fs/cgroup"
        and "ro" not in mount.options
        for mount in spec.mounts
    )
    if not writable:
        return None
    uid = spec.process.user.uid
    return uid if uid_mappings is None else host_id(uid, uid_mappings)


def apply_cgroup_owner(cgroup_fd: int, where: str, uid: int) -> None:
    """Give the cgroup's directory and its delegated files to a uid of the host. Raises HostError."""
    if os.fstat(cgroup_fd).st_uid == uid:
        return
    try:
        os.fchown(cgroup_fd, uid, -1)
    except OSError as error:
        raise HostError("fchown", where, error.errno or 0, pointer=POINTER) from None
    for name in probe_delegated_files():
        try:
            os.chown(name, uid, -1, dir_fd=cgroup_fd, follow_symlinks=False)
        except OSError as error:
            # Not every cgroup has every file (memory.oom.group without the controller).
            if error.errno != errno.ENOENT:
                raise HostError("fchownat", f"{where}/{name}", error.errno or 0, pointer=POINTER) from None


def probe_delegated_files(path: str = _DELEGATE) -> tuple[str, ...]:
    """The names of the files that go with a delegated cgroup."""
    try:
        return tuple(read_text(path).split())
    except FileNotFoundError:
        return _DELEGATED_FILES
