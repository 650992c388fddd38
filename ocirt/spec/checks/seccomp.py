"""Checks of the seccomp profile (config-linux.md#seccomp)."""

from __future__ import annotations

from ocirt.errors import SpecError
from ocirt.spec._generated import Spec
from ocirt.spec.checks.problems import CONFLICT, REQUIRES, UNSUPPORTED, Problems, linux_of
from ocirt.spec.values import RANGE

# What an action's number may be: libseccomp takes errnos below MAX_ERRNO (4095) of the kernel, and SECCOMP_RET_DATA has
# 16 bits. A larger one would be cut, 65536 to 0: a call that is refused would look like one that succeeded.
MAX_ERRNO_RET = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 65535}
NOTIFY = "SCMP_ACT_NOTIFY"


def seccomp(spec: Spec) -> Problems:
    profile = linux_of(spec).seccomp
    if not profile:
        return
    at = "/linux/seccomp"
    if profile.listener_metadata and not profile.listener_path:
        yield SpecError(f"{at}/listenerMetadata", "needs listenerPath", REQUIRES)
    yield from _errno_ret(profile.default_action, profile.default_errno_ret, f"{at}/defaultErrnoRet")
    if profile.default_action == NOTIFY:
        yield SpecError(f"{at}/defaultAction", f"{NOTIFY} cannot be the default action", UNSUPPORTED)
    for index, rule in enumerate(profile.syscalls):
        yield from _errno_ret(rule.action, rule.errno_ret, f"{at}/syscalls/{index}/errnoRet")
        if rule.action != NOTIFY:
            continue
        if not profile.listener_path:
            yield SpecError(f"{at}/syscalls/{index}/action", f"{NOTIFY} needs {at}/listenerPath", REQUIRES)
        if "write" in rule.names:
            # Init reports with write once the filter is loaded, and nobody would answer the notification yet.
            yield SpecError(f"{at}/syscalls/{index}/names", f"{NOTIFY} cannot be used for write", UNSUPPORTED)


def _errno_ret(action: str, errno_ret: int | None, pointer: str) -> Problems:
    """With an action that takes no errno, the runtime MUST fail (config-linux.md#seccomp)."""
    if errno_ret is None:
        return
    if action not in MAX_ERRNO_RET:
        yield SpecError(pointer, f"{action} takes no errno", CONFLICT)
    elif errno_ret > MAX_ERRNO_RET[action]:
        yield SpecError(pointer, f"must be from 0 to {MAX_ERRNO_RET[action]} with {action}", RANGE)
