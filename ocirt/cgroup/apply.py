"""Writes settings into the files of a cgroup.

Guarantees: settings are written in their order, each by one write(2), on the descriptor of the cgroup; whatever goes
wrong is a HostError with the property that asked, the file, the value, and the reason where one is known.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence

from ocirt.cgroup.controllers import why_unavailable
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.settings import Setting
from ocirt.errors import HostError

_NOT_YOURS = "this file is not this user's to write"
_NO_WEIGHTS = "weights of devices need the BFQ scheduler or the io.cost model, enabled for that device"

# By errno and file ("" for any): why the kernel refuses what compile_resources lets pass.
_REFUSALS = {
    (errno.EACCES, ""): _NOT_YOURS,
    (errno.EPERM, ""): _NOT_YOURS,
    (errno.ENODEV, "io.max"): "no such block device; a partition has no limits of its own",
    (errno.ENODEV, "io.bfq.weight"): "no such block device; a partition has no weight of its own",
    (errno.ENODEV, "io.weight"): "no such block device; a partition has no weight of its own",
    (errno.EOPNOTSUPP, "io.bfq.weight"): _NO_WEIGHTS,
    (errno.EOPNOTSUPP, "io.weight"): _NO_WEIGHTS,
    (errno.ENODEV, "rdma.max"): "no such RDMA device",
    (errno.EINVAL, "cpuset.cpus"): "not all of these are CPUs of this host",
    (errno.ERANGE, "cpuset.cpus"): "not all of these are CPUs of this host",
    (errno.EINVAL, "cpuset.mems"): "not all of these are memory nodes of this host",
    (errno.ERANGE, "cpuset.mems"): "not all of these are memory nodes of this host",
    (errno.EINVAL, "cpu.weight"): "a cgroup with cpu.idle has no weight",
}
_MISSING = {
    "memory.swappiness": "Linux has no swappiness of a cgroup in cgroup v2",
    "memory.swap.max": "this kernel does not count swap: CONFIG_SWAP, swapaccount=1",
    "io.weight": "this kernel has neither the BFQ scheduler nor the io.cost model (CONFIG_BLK_CGROUP_IOCOST)",
    "cpu.max": "this kernel has no CONFIG_CFS_BANDWIDTH",
    "cpu.max.burst": "this kernel has no CONFIG_CFS_BANDWIDTH",
    "cpu.idle": "cpu.idle needs Linux 5.15",
}
_HUGE = re.compile(r"hugetlb\.([0-9]+[KMG]B)\.max")


def apply_settings(cgroup: Cgroup, settings: Sequence[Setting]) -> None:
    """Raises HostError at the first setting that cannot be written; those before it are."""
    for setting in settings:
        _apply(cgroup, setting)


def _apply(cgroup: Cgroup, setting: Setting) -> None:
    error, was_there = cgroup.try_write(setting.file, setting.value)
    if not error:
        return
    if not was_there and error == errno.ENOENT:
        if setting.otherwise:
            _apply(cgroup, setting.otherwise)
            return
        if setting.optional:
            return
        reason = _why_missing(cgroup, setting)
    else:
        reason = _REFUSALS.get((error, setting.file)) or _REFUSALS.get((error, ""), "")
    hint = f'the value was "{setting.value}"' + (f"; {reason}" if reason else "")
    raise HostError("write", f"{cgroup.where}/{setting.file}", error, pointer=setting.origin, hint=hint)


def _why_missing(cgroup: Cgroup, setting: Setting) -> str:
    controller = setting.controller
    if controller and controller not in cgroup.read("cgroup.controllers").split():
        return f"the cgroup has no {controller} controller: {why_unavailable(controller)}"
    if controller == "hugetlb":
        sizes = sorted(match[1] for name in os.listdir(cgroup.fd) if (match := _HUGE.fullmatch(name)))
        return f"the sizes of huge pages on this host are {', '.join(sizes)}"
    return _MISSING.get(setting.file, "this kernel has no such file")
