"""What a mount of type cgroup or cgroup2 becomes.

Guarantees: a container sees its own cgroup and what is below it, and nothing of the host's hierarchy. With a cgroup
namespace of its own that is what a new cgroup2 mount shows. Without one a new mount would show, and with "rw" open, the
whole host, and set the options of the host's hierarchy anew (nsdelegate, memory_recursiveprot): there the container's
cgroup is bound instead. runc and crun make the new mount in both cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocirt.cgroup.paths import CgroupHost


@dataclass(frozen=True, slots=True)
class NewCgroupMount:
    """A cgroup2 file system, mounted after the cgroup namespace is entered."""


@dataclass(frozen=True, slots=True)
class BoundCgroup:
    """A bind mount, not recursive, of a directory of the host; `readonly` is added to what the mount's options say."""

    source: str
    readonly: bool


def compile_cgroup_mount(
    host: CgroupHost, path: str | None, *, cgroup_namespace: bool, rootless: bool
) -> NewCgroupMount | BoundCgroup:
    """Decide on a mount of type cgroup or cgroup2.

    `path`: the container's cgroup, None when it stays in the runtime's own. `cgroup_namespace`: the container gets or
    joins one. Read-only without a namespace if the runtime is rootless, whose user owns what is above (CVE-2023-25809),
    or if the cgroup is not the container's own.
    """
    if cgroup_namespace:
        return NewCgroupMount()
    return BoundCgroup(host.directory(path or host.own), readonly=rootless or path is None)
