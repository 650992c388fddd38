"""The controllers of a container's cgroup: enabled from the top of what is delegated down to its parent.

Guarantees: all that are there are enabled, so that what a container uses can be counted (as runc and crun do), and
nothing is written where they are enabled already. A controller that cannot be had is an error only for a container
which needs it; the error names the property that does, and why. What was enabled stays: others may need it by now.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.paths import CgroupHost, is_within, parent_paths
from ocirt.errors import HostError, StateError
from ocirt.pseudofile import read_text

_REFUSALS = {
    errno.EBUSY: "this cgroup has processes of its own, and so gives no controllers to those below it: cgroups(7), "
    "no internal processes",
    errno.EOPNOTSUPP: "this cgroup is threaded, and gives only threaded controllers to those below it",
    errno.EACCES: "this cgroup is not delegated to this user",
    errno.EPERM: "this cgroup is not delegated to this user",
}
_NO_REFUSALS: Mapping[str, HostError] = MappingProxyType({})
# What version 1 calls it, where that has another name.
_V1_NAMES = {"io": "blkio"}


def enable_controllers(host: CgroupHost, path: str, cgroup: Cgroup, needed: Mapping[str, str]) -> None:
    """Enable for the cgroup at `path` whatever there is. `needed`: as settings.asked_controllers gives it.

    Raises HostError for a needed controller that a cgroup above refuses to give, StateError for one that is not there.
    """
    refusals: dict[str, HostError] = {}
    above = [host.directory(ancestor) for ancestor in _ancestors(host, path)]
    if not _controllers_of(above[0]) <= _names(cgroup.read("cgroup.controllers")):
        for directory in above:
            refusals |= _enable_all(directory)
    require_controllers(cgroup, needed, refusals)


def obtainable_controllers(host: CgroupHost, path: str) -> set[str]:
    """What enable_controllers could give to a cgroup at `path`. Only reads. Raises HostError."""
    above = [host.directory(ancestor) for ancestor in _ancestors(host, path)]
    found = _controllers_of(above[0])
    for directory in above:
        cgroup = Cgroup.open(directory)
        if cgroup is None:  # yet to be made
            break
        with cgroup:
            if _is_busy(cgroup) or not os.access(f"{directory}/cgroup.subtree_control", os.W_OK):
                found &= _names(cgroup.read("cgroup.subtree_control"))
    return found


def require_controllers(
    cgroup: Cgroup, needed: Mapping[str, str], refusals: Mapping[str, HostError] = _NO_REFUSALS
) -> None:
    """Raises the error for the first controller that the cgroup has not got."""
    if not needed:
        return
    there = _names(cgroup.read("cgroup.controllers"))
    for name, pointer in needed.items():
        if name in there:
            continue
        if name in refusals:
            refusal = refusals[name]
            hint = _REFUSALS.get(refusal.errno, "")
            raise HostError(refusal.syscall, refusal.path, refusal.errno, pointer=pointer, hint=hint)
        raise StateError(
            f'{pointer}: the requested cgroup controller "{name}" is not available: {why_unavailable(name)}',
            code="cgroup.controller",
        )


def why_unavailable(name: str) -> str:
    """Why no cgroup that this process may use has a controller."""
    version_1 = {name for line in read_text("/proc/self/cgroup").splitlines() for name in line.split(":")[1].split(",")}
    if _V1_NAMES.get(name, name) in version_1:
        return "on this host it is in cgroup v1"
    known = {words[0]: words[-1] for line in read_text("/proc/cgroups").splitlines() if (words := line.split())}
    match known.get(_V1_NAMES.get(name, name)):
        case None:
            return "this kernel has no such controller"
        case "0":
            return "it is disabled on the kernel's command line"
    return "the cgroups above do not have it: it is not delegated to this user or container"


def _ancestors(host: CgroupHost, path: str) -> list[str]:
    """Those above a cgroup, from the topmost one on that this process may write to."""
    above = ["/", *parent_paths(path)]
    top = host.delegated
    return [each for each in above if is_within(each, top)] if top and is_within(path, top) and path != top else above


def _names(text: str) -> set[str]:
    return set(text.split())


def _controllers_of(directory: str) -> set[str]:
    cgroup = Cgroup.open(directory)
    if cgroup is None:
        return set()
    with cgroup:
        return _names(cgroup.read("cgroup.controllers"))


def _enable_all(directory: str) -> dict[str, HostError]:
    """Give all that a cgroup has to those below it; what it refuses, by controller."""
    cgroup = Cgroup.open(directory)
    if cgroup is None:
        return {}
    with cgroup:
        missing = sorted(_names(cgroup.read("cgroup.controllers")) - _names(cgroup.read("cgroup.subtree_control")))
        if not missing:
            return {}
        if _is_busy(cgroup):
            refusal = HostError("write", f"{directory}/cgroup.subtree_control", errno.EBUSY)
            return dict.fromkeys(missing, refusal)
        try:
            cgroup.write("cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
        except HostError:
            # All or none: one by one, what can be had is.
            return _enable_each(cgroup, missing)
        return {}


def _is_busy(cgroup: Cgroup) -> bool:
    """Whether it has processes of its own. It would give threaded controllers nevertheless, and become threaded itself,
    so that no container could enter a cgroup below it."""
    try:
        return cgroup.read("cgroup.type") == "domain\n" and cgroup.read("cgroup.procs") != ""
    except HostError:
        # The root, which may have processes, has no type.
        return False


def _enable_each(cgroup: Cgroup, names: list[str]) -> dict[str, HostError]:
    refusals = {}
    for name in names:
        try:
            cgroup.write("cgroup.subtree_control", f"+{name}")
        except HostError as error:
            refusals[name] = error
    return refusals
