"""What linux.resources asks of a cgroup."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirt.spec import Linux, Resources

# Everything but the devices, whose filter needs no controller.
_PROPERTIES = {
    "memory": "memory",
    "cpu": "cpu",
    "pids": "pids",
    "block_io": "blockIO",
    "hugepage_limits": "hugepageLimits",
    "network": "network",
    "rdma": "rdma",
    "unified": "unified",
}


def asked_resources(resources: Resources | None) -> tuple[str, ...]:
    """The JSON pointers of the limits that a config asks for; an empty object asks for nothing."""
    if resources is None:
        return ()
    return tuple(
        f"/linux/resources/{name}"
        for attribute, name in _PROPERTIES.items()
        if _says_something(getattr(resources, attribute))
    )


def _says_something(value: object) -> bool:
    if dataclasses.is_dataclass(value):
        return any(_says_something(getattr(value, field.name)) for field in dataclasses.fields(value))
    return value is not None and value is not False and value != () and value != {}


def may_do_without_cgroup(linux: Linux | None, *, rootless: bool) -> bool:
    """Whether a container that may not make its cgroup can stay in the runtime's own: as with runc, a rootless one
    whose config names neither a cgroup nor a limit."""
    if not rootless:
        return False
    return linux is None or not (linux.cgroups_path or asked_resources(linux.resources))
