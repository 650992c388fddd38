"""What init reports, in words: the wording that engines match on, the pointer, the errno, a hint where one helps."""

from __future__ import annotations

import errno

from ocirt import constants as k
from ocirt import ops
from ocirt.errors import OcirtError, PlanError, errno_text
from ocirt.plan import Plan
from ocirt.protocol import Message
from ocirt.pseudofile import read_text

# (operation, errno) -> what a person may try; None stands for any operation
_HINTS: dict[tuple[type[ops.Op] | None, int], str] = {
    (ops.SetRlimit, errno.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE, which this runtime lacks",
    (ops.SetOomScoreAdj, errno.EACCES): "lowering the score needs CAP_SYS_RESOURCE, which this runtime lacks",
    (ops.SetOomScoreAdj, errno.EPERM): "lowering the score needs CAP_SYS_RESOURCE, which this runtime lacks",
    (
        ops.MountFs,
        errno.ENODEV,
    ): "the kernel does not know this file system; /proc/filesystems lists those that it does",
    (ops.MountFs, errno.EPERM): "a user namespace may mount only what its own namespaces provide",
    # openat2(2) with RESOLVE_NO_XDEV
    (ops.SetSysctl, errno.EXDEV): "something is mounted over it in the runtime's own /proc/sys, as in most containers",
    (ops.Execute, errno.ENOEXEC): "neither a binary for this machine nor a script with a #! line",
    (ops.OpenConsole, errno.ENOENT): "a terminal needs a devpts mounted on /dev/pts",
}


def plan_error(plan: Plan, message: Message) -> OcirtError:
    """The error for a FAILED message of init."""
    op = plan.at(message.op)
    if op is None:
        text = f"{message.detail}: {errno_text(message.error)}" if message.error else message.detail
        hint = ""
        made = message.detail.startswith(("clone3", "unshare"))
        if message.error == errno.EPERM and made:
            hint = " (creating these namespaces needs CAP_SYS_ADMIN or a new user namespace)"
        elif message.error == errno.ENOSPC and made:
            hint = " (a limit below /proc/sys/user is reached)"
        return OcirtError(f"/linux/namespaces: {text}{hint}")
    return op_error(op, message)


def op_error(op: ops.Op, message: Message) -> PlanError:
    """The error for an operation that failed as the message says."""
    hint = _HINTS.get((type(op), message.error)) or _HINTS.get((None, message.error), "")
    if isinstance(op, ops.SetRlimit) and op.resource == k.RLIMITS["RLIMIT_NOFILE"] and message.error == errno.EPERM:
        # Here the kernel says the same with and without the capability.
        most = int(read_text("/proc/sys/fs/nr_open"))
        if op.hard > most:
            hint = f"no hard limit of files may be above the sysctl fs.nr_open, {most} here"
    if "too revealing" in message.detail:
        # mount_too_revealing() of the kernel's fs/namespace.c
        hint = "in the runtime's own /proc or /sys something is covered, and would not be in a new one"
    return PlanError(op, message.error, message.detail, wording=_wording(op, message), hint=hint)


def _wording(op: ops.Op, message: Message) -> str:
    """The whole line where engines expect one of their own (INTERFACE: Docker and Podman tell 126 from 127 by it)."""
    if isinstance(op, (ops.ResolveExecutable, ops.Execute)):
        name = op.file if isinstance(op, ops.ResolveExecutable) else op.args[0]
        if message.error == errno.ENOENT and "/" not in name:
            return f'{op.origin}: exec: "{name}": executable file not found in $PATH'
        return f'{op.origin}: exec: "{name}": {message.detail}: {errno_text(message.error)}'
    if not message.error:
        return f"{op.origin or '/'}: {op.describe()}: {message.detail}"
    return ""
