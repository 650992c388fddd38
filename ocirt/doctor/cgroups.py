"""Checks of control groups and of systemd, which may keep them."""

from __future__ import annotations

from ocirt.cgroup.bus import SYSTEM_BUS, user_bus_address
from ocirt.doctor.finding import Finding, blocking, limited, missing, ok
from ocirt.doctor.kernel import reason
from ocirt.doctor.system import System
from ocirt.doctor.trials import CgroupTrial, Systemd, Trials

# What config.json has properties for.
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma")
_SYSTEMD = "/run/systemd/system"  # sd_booted(3)
_UNIFIED = "boot with systemd.unified_cgroup_hierarchy=1 (or cgroup_no_v1=all) on the kernel's command line"
_MEANS = "no container can run, but with --cgroup-manager disabled"
_SCOPE = "use --systemd-cgroup, or begin in a cgroup of this user's: systemd-run --user --scope -p Delegate=yes COMMAND"
_CHOWN = (
    "as root: make a cgroup, give its directory, cgroup.procs, cgroup.subtree_control and cgroup.threads to this user, "
    "and move the caller into it"
)
_DELEGATE = (
    "as root: mkdir -p /etc/systemd/system/user@.service.d; printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' "
    "> /etc/systemd/system/user@.service.d/delegate.conf; systemctl daemon-reload; log in anew"
)


def check_mount(system: System, trials: Trials) -> Finding:
    host = trials.cgroup_host()
    version_1 = _version_1_controllers(system)
    if host is None:
        hint = _UNIFIED if version_1 else "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        if not _is_needed(system):
            return missing("cgroup v2 is not mounted", "limits are refused, and nothing can be paused", hint)
        return blocking("cgroup v2 is not mounted", hint, means=_MEANS)
    if version_1:
        return limited(
            f"at {host.mount}, beside cgroup v1 with {', '.join(version_1)}",
            "limits of these controllers are refused",
            _UNIFIED,
        )
    return ok(f"at {host.mount}, and no cgroup v1")


def _is_needed(system: System) -> bool:
    """Whether a container must have a cgroup of its own, with a device filter in it."""
    return not system.rootless and system.cgroup_manager != "disabled"


def _leaves_it_to_systemd(system: System) -> bool:
    """Whether it doesn't matter what this user may make: the systemd that is asked has privileges, or other cgroups."""
    return system.rootless and system.cgroup_manager == "systemd"


def _version_1_controllers(system: System) -> list[str]:
    """Those in hierarchies of version 1 (cgroups(7), /proc/PID/cgroup), by their names in version 2.

    What has no limits in a config, or is no controller in version 2 (devices, freezer), isn't missed there.
    """
    hierarchies = [line.split(":")[1] for line in system.lines("/proc/self/cgroup") if line.count(":") >= 2]
    names = ["io" if name == "blkio" else name for hierarchy in hierarchies for name in hierarchy.split(",")]
    return [name for name in CONTROLLERS if name in names]


def check_make(system: System, trials: Trials) -> Finding | None:
    trial = trials.cgroup()
    if trial is None or _leaves_it_to_systemd(system):
        return None
    error = trial.errors.get("make") or trial.errors.get("enter") or trial.errors.get("remove")
    if error is None:
        return ok(f"cgroups can be made in {trial.where.rpartition('/')[0]}, and processes cloned into them")
    if _is_needed(system):
        return blocking(f"no cgroup can be made: {reason(error)}", means=_MEANS)
    return limited(
        f"no cgroup can be made: {reason(error)}",
        "containers run in the cgroup of their caller: limits are refused, and nothing can be paused",
        _SCOPE if system.exists(_SYSTEMD) else _CHOWN,
    )


def check_controllers(system: System, trials: Trials) -> Finding | None:
    if trials.cgroup_host() is None or _leaves_it_to_systemd(system):
        return None
    there = trials.controllers() if _entered(trials) else set()
    usable = [name for name in CONTROLLERS if name in there]
    delegates = _entered(trials) and system.rootless and system.exists(_SYSTEMD)
    return _judge_controllers(trials, usable, _DELEGATE if delegates else "")


def _judge_controllers(trials: Trials, usable: list[str], delegation: str) -> Finding:
    """`delegation`: what to do where it is the cgroups above that do not have them."""
    reasons: dict[str, list[str]] = {}
    for name in CONTROLLERS:
        if name not in usable:
            reasons.setdefault(trials.why_no_controller(name), []).append(name)
    if not reasons:
        return ok(f"all can be used: {', '.join(usable)}")
    told = [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
    found = "; ".join([*([f"usable: {', '.join(usable)}"] if usable else ["none can be used"]), *told])
    hint = delegation if any("not delegated" in why for why in reasons) else ""
    means = "a limit that needs a missing one is refused"
    return limited(found, means, hint) if usable else missing(found, means, hint)


def check_freeze(_: System, trials: Trials) -> Finding | None:
    return _step(trials, "freeze", "processes can be paused", "pause and resume fail")


def check_kill(_: System, trials: Trials) -> Finding | None:
    return _step(trials, "kill", "a cgroup can be killed as a whole", "delete fails for containers with processes left")


def check_devices(system: System, trials: Trials) -> Finding | None:
    trial = _entered(trials)
    if trial and trial.device_warning:
        return limited(
            "device filters can be loaded only with privileges",
            "device rules are not enforced: a container has the access to devices that this user has",
        )
    if trial and _is_needed(system) and (error := trial.errors.get("devices")):
        return blocking(reason(error), means=_MEANS)
    return _step(trials, "devices", "device filters (BPF) can be loaded", "device rules cannot be enforced")


def _entered(trials: Trials) -> CgroupTrial | None:
    """The trial in which the steps within a cgroup have been done."""
    trial = trials.cgroup()
    return trial if trial and not {"make", "enter"} & trial.errors.keys() else None


def _step(trials: Trials, step: str, works: str, means: str) -> Finding | None:
    trial = _entered(trials)
    if trial is None:
        return None
    error = trial.errors.get(step)
    return ok(works) if error is None else missing(reason(error), means)


def check_systemd(system: System, trials: Trials) -> Finding:
    needed = system.cgroup_manager == "systemd"
    means = "the systemd cgroup manager (--systemd-cgroup) cannot be used; cgroupfs can"
    address = _bus_address(system)
    found = trials.systemd(address) if address else None
    if isinstance(found, Systemd):
        whose = "this user's systemd" if system.rootless else "systemd"
        return ok(f"{whose} {found.version} answers at {address}")
    if not system.exists(_SYSTEMD):
        return _no_systemd("systemd is not running here", means, "", needed)
    if found is None:
        hint = (
            "log in with a session of its own (ssh, machinectl shell; not su or sudo), with the package "
            f"dbus-user-session; then XDG_RUNTIME_DIR=/run/user/{system.uid} is set"
        )
        return _no_systemd("this user has no message bus", means, hint, needed)
    service = f"user@{system.uid}.service" if system.rootless else "dbus.socket"
    return _no_systemd(f"systemd does not answer: {reason(found)}", means, f"systemctl restart {service}", needed)


def check_systemd_controllers(system: System, trials: Trials) -> Finding | None:
    """What a user's systemd has been given, and can give to the scopes of containers."""
    address = _bus_address(system)
    found = trials.systemd(address) if system.rootless and address else None
    if not isinstance(found, Systemd):
        return None
    there = trials.controllers_of(found.cgroup)
    return _judge_controllers(trials, [name for name in CONTROLLERS if name in there], _DELEGATE)


def _bus_address(system: System) -> str | None:
    """The bus that the systemd manager asks first; None for a user who has none."""
    if system.rootless:
        return user_bus_address(system.environ, system.uid)
    return system.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS


def _no_systemd(found: str, means: str, hint: str, needed: bool) -> Finding:
    if needed:
        return blocking(found, hint, means="no container can run with the systemd cgroup manager")
    return missing(found, means, hint)


def check_linger(system: System, _: Trials) -> Finding | None:
    """loginctl(1), enable-linger."""
    if not system.rootless or system.uid == 0 or not system.exists(_SYSTEMD):
        return None
    if system.exists(f"/var/lib/systemd/linger/{system.user}"):
        return ok(f"the systemd of {system.user} runs on without a session")
    return limited(
        f"the systemd of {system.user} ends with the last session",
        "containers in its cgroups, and the state in XDG_RUNTIME_DIR, end with it",
        f"loginctl enable-linger {system.user}",
    )
