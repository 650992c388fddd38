"""Every check by its name, in the order of the report. Names are stable: programs read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from ocirt.doctor import cgroups, kernel, security, users
from ocirt.doctor.finding import Finding, Report, missing
from ocirt.doctor.system import System
from ocirt.doctor.trials import Trials
from ocirt.errors import HostError, OcirtError

Check = Callable[[System, Trials], Finding | None]
"""Finds something, or nothing where the check is not about this user or this machine."""

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "kernel.version": kernel.check_version,
        "kernel.calls": kernel.check_calls,
        "kernel.init": kernel.check_init,
        "kernel.idmap": kernel.check_idmap,
        **{
            f"namespace.{kind}": partial(kernel.check_namespace, kind)
            for kind in ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")
        },
        "user.ids": users.check_ids,
        "user.capabilities": users.check_capabilities,
        "user.limits": users.check_limits,
        "user.no-new-privs": users.check_no_new_privileges,
        "user.runtime-dir": users.check_runtime_directory,
        "user.state": users.check_state,
        "cgroup.mount": cgroups.check_mount,
        "cgroup.make": cgroups.check_make,
        "cgroup.controllers": cgroups.check_controllers,
        "cgroup.freeze": cgroups.check_freeze,
        "cgroup.kill": cgroups.check_kill,
        "cgroup.devices": cgroups.check_devices,
        "systemd.bus": cgroups.check_systemd,
        "systemd.controllers": cgroups.check_systemd_controllers,
        "systemd.linger": cgroups.check_linger,
        "seccomp.filter": security.check_filter,
        "seccomp.actions": security.check_actions,
        "seccomp.listener": security.check_listener,
        "lsm.apparmor": security.check_apparmor,
        "lsm.selinux": security.check_selinux,
        "rdt.resctrl": security.check_resctrl,
        "container": kernel.check_container,
    }
)

# What is found out by having ocirt-init do it. Where that cannot run, nothing can be said of them.
_BY_INIT = frozenset(
    (
        *("kernel.idmap", "user.ids", "user.capabilities", "user.limits", "container"),
        *(name for name in CHECKS if name.startswith("namespace.")),
        *("cgroup.make", "cgroup.controllers", "cgroup.freeze", "cgroup.kill", "cgroup.devices"),
        *("seccomp.filter", "seccomp.listener"),
    )
)


def examine(system: System, trials: Trials) -> Report:
    """All checks, one after another. One that fails in a way of its own is a finding, and keeps no other away."""
    left_out = _BY_INIT if trials.init() else frozenset()
    findings = [(name, _examine(check, system, trials)) for name, check in CHECKS.items() if name not in left_out]
    return Report(system.user, system.uid, [(name, finding) for name, finding in findings if finding])


def _examine(check: Check, system: System, trials: Trials) -> Finding | None:
    try:
        return check(system, trials)
    except OcirtError as error:
        return missing(f"cannot be told: {error}", "")
    except OSError as error:
        return missing(f"cannot be told: {HostError.of(error, 'a system call')}", "")
