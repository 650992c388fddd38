"""Checks of seccomp, of the security modules, and of Intel RDT."""

from __future__ import annotations

from ocirt.doctor.finding import Finding, limited, missing, ok
from ocirt.doctor.kernel import is_filtered, reason
from ocirt.doctor.system import System
from ocirt.doctor.trials import Trials

# The names in /proc/sys/kernel/seccomp/actions_avail of those that a config can name.
_ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": "kill_process",
    "SCMP_ACT_KILL_THREAD": "kill_thread",
    "SCMP_ACT_TRAP": "trap",
    "SCMP_ACT_ERRNO": "errno",
    "SCMP_ACT_TRACE": "trace",
    "SCMP_ACT_ALLOW": "allow",
    "SCMP_ACT_LOG": "log",
    "SCMP_ACT_NOTIFY": "user_notif",
}


def check_filter(system: System, trials: Trials) -> Finding:
    error = trials.seccomp_filter()
    if error:
        found = f"no filter can be loaded: {reason(error)}"
        built = system.status("Seccomp") != ""
        hint = "" if built else "this kernel was built without it (CONFIG_SECCOMP_FILTER)"
        return missing(found, "a config with linux.seccomp is refused", hint)
    around = ", below the filter that is around this process" if is_filtered(system) else ""
    return ok(f"filters can be loaded{around}; libseccomp {trials.seccomp_version()}")


def check_actions(system: System, trials: Trials) -> Finding:
    from ocirt.seccomp import FLAGS

    there = (system.read("/proc/sys/kernel/seccomp/actions_avail") or "").split()
    lacking = [name for name, action in _ACTIONS.items() if action not in there]
    flags = trials.seccomp_flags()
    lacking += [name for name, flag in FLAGS.items() if not flag & flags]
    if lacking:
        return limited(f"this kernel lacks {', '.join(lacking)}", "a profile with one of them is refused")
    return ok("the kernel has every action and every flag of a profile")


def check_listener(_: System, trials: Trials) -> Finding:
    error = trials.seccomp_filter(listener=True)
    if error is None:
        return ok("a filter can notify an agent (listenerPath)")
    return missing(f"no listener can be had: {reason(error)}", "a profile with SCMP_ACT_NOTIFY is refused")


def check_apparmor(system: System, _: Trials) -> Finding:
    if system.read("/sys/module/apparmor/parameters/enabled") == "Y\n":
        return ok("enabled")
    return missing("not enabled", "process.apparmorProfile is not applied, with a warning")


def check_selinux(system: System, _: Trials) -> Finding:
    enforce = system.word("/sys/fs/selinux/enforce")
    if enforce:
        return ok("enabled, enforcing" if enforce == "1" else "enabled, permissive")
    return missing("not enabled", "a config with process.selinuxLabel is refused")


def check_resctrl(system: System, _: Trials) -> Finding:
    if any(" - resctrl " in line for line in system.lines("/proc/self/mountinfo")):
        return ok("resctrl is mounted")
    is_known = any(line.split()[-1:] == ["resctrl"] for line in system.lines("/proc/filesystems"))
    found = "resctrl is not mounted" if is_known else "this CPU or this kernel does not have it (no resctrl)"
    hint = "as root: mount -t resctrl resctrl /sys/fs/resctrl" if is_known else ""
    return missing(found, "a config with linux.intelRdt is refused", hint)
