"""Checks of the kernel, of its namespaces, and of a container as a whole."""

from __future__ import annotations

import re

from ocirt import constants as k
from ocirt.doctor.finding import Finding, blocking, limited, missing, ok
from ocirt.doctor.system import System
from ocirt.doctor.trials import Trials, trial_config
from ocirt.errors import OcirtError
from ocirt.host import KERNEL_FLOOR

_USERNS_CLONE = "kernel.unprivileged_userns_clone"
_APPARMOR_RESTRICTION = "kernel.apparmor_restrict_unprivileged_userns"
_MEMFD_NOEXEC = "vm.memfd_noexec"
# The kernel's own words below /proc/sys/user, and its options.
_LIMITS = {"mount": "mnt", "network": "net"}
_OPTIONS = {"mount": "", "network": "CONFIG_NET_NS", "cgroup": "CONFIG_CGROUPS"}
_PROC_HIDDEN = (
    "a container in which this runs must leave its /proc unmasked (Docker: --security-opt systempaths=unconfined)"
)


def sysctl(system: System, name: str) -> str:
    """A sysctl's value, "" where the kernel doesn't have it."""
    return system.word("/proc/sys/" + name.replace(".", "/"))


def reason(error: OcirtError) -> str:
    """An error's message without the pointer into a config that nobody wrote."""
    return re.sub(r"^/\S*: ", "", str(error))


def is_filtered(system: System) -> bool:
    """Whether a seccomp filter is around this process (proc(5), Seccomp)."""
    return system.status("Seccomp") == "2"


def check_version(system: System, _: Trials) -> Finding:
    release = system.word("/proc/sys/kernel/osrelease")
    match = re.match(r"([0-9]+)\.([0-9]+)", release)
    floor = ".".join(map(str, KERNEL_FLOOR))
    if not match or (int(match[1]), int(match[2])) < KERNEL_FLOOR:
        return blocking(f"Linux {release or 'of unknown version'}", f"boot Linux {floor} or newer")
    return ok(f"Linux {release} ({floor} is needed)")


def check_calls(system: System, trials: Trials) -> Finding:
    calls = trials.missing_calls()
    if not calls:
        return ok("all system calls that ocirt needs are there")
    hint = "the kernel is too old, or is not Linux"
    if is_filtered(system):
        hint = "a seccomp filter around this process denies them: allow them in the profile of what it runs in"
    return blocking(f"not there: {', '.join(calls)}", hint)


def check_init(system: System, trials: Trials) -> Finding:
    error = trials.init()
    if error is None:
        return ok("ocirt-init runs, from a file in memory")
    hint = ""
    if sysctl(system, _MEMFD_NOEXEC) == "2":
        hint = f"{_MEMFD_NOEXEC} is 2, which forbids it: sysctl -w {_MEMFD_NOEXEC}=1"
    elif is_filtered(system):
        hint = "a seccomp filter around this process may deny it (memfd_create, execveat, clone3)"
    return blocking(f"ocirt-init cannot be executed from a file in memory: {reason(error)}", hint)


def check_namespace(kind: str, system: System, trials: Trials) -> Finding:
    needed = [namespace["type"] for namespace in trial_config(system)["linux"]["namespaces"]]
    error = trials.namespace(kind)
    if error is None:
        within = "" if system.is_admin or kind == "user" else ", within a user namespace"
        return ok(f"can be made{within}")
    found = f"cannot be made: {reason(error)}"
    if kind != "user" and not system.is_admin and trials.namespace("user"):
        found = "cannot be made without a user namespace (see namespace.user)"
        return blocking(found) if kind in needed else missing(found, "")
    hint = _user_hint(system) if kind == "user" else _namespace_hint(kind, system)
    if kind in needed:
        return blocking(found, hint)
    return missing(found, f"a config with a {kind} namespace is refused", hint)


def _namespace_hint(kind: str, system: System) -> str:
    limit = f"user.max_{_LIMITS.get(kind, kind)}_namespaces"
    value = sysctl(system, limit)
    if not system.exists(f"/proc/self/ns/{k.NAMESPACES[kind][1]}"):
        option = _OPTIONS.get(kind, f"CONFIG_{kind.upper()}_NS")
        return f"this kernel was built without it ({option})"
    if value == "0":
        return f"{limit} is 0: sysctl -w {limit}=10000"
    if is_filtered(system):
        return "a seccomp filter around this process may deny it"
    return ""


def _user_hint(system: System) -> str:
    """What keeps user namespaces away, as far as the kernel lets it be seen."""
    if not system.is_admin and sysctl(system, _USERNS_CLONE) == "0":
        return f"{_USERNS_CLONE} is 0: sysctl -w {_USERNS_CLONE}=1"
    if hint := _namespace_hint("user", system):
        return hint
    if not system.is_admin and sysctl(system, _APPARMOR_RESTRICTION) == "1":
        return (
            f"AppArmor restricts them: a profile for ocirt with the rule userns, or sysctl -w {_APPARMOR_RESTRICTION}=0"
        )
    return "a process in a chroot can make none; nor can one that a security module restricts"


def check_idmap(system: System, trials: Trials) -> Finding:
    if not system.is_admin or system.in_user_namespace:
        return missing(
            "id-mapped mounts need CAP_SYS_ADMIN outside of any user namespace",
            "a mount with the option idmap, or with mappings of its own, is refused",
        )
    if error := trials.namespace("user"):
        return missing(
            f"id-mapped mounts need a user namespace: {reason(error)}", "a mount with the option idmap is refused"
        )
    kind = _file_system(system, "/")
    error = trials.idmapped_mount("/")
    if error is None:
        return ok(f"the file system of / ({kind}) can be mounted with other ids")
    return limited(
        f"the file system of / ({kind}) cannot be mounted with other ids: {reason(error)}",
        "a mount with the option idmap needs a source on another file system",
        "ext4, xfs, btrfs, and with newer kernels tmpfs and overlay can do it",
    )


def _file_system(system: System, point: str) -> str:
    """The type of what is mounted at a mount point; of several the last one counts (proc(5), mountinfo)."""
    kind = "unknown"
    for line in system.lines("/proc/self/mountinfo"):
        fields = line.split(" ")
        if len(fields) > 6 and fields[4] == point and "-" in fields:
            kind = fields[fields.index("-") + 1]
    return kind


def check_container(system: System, trials: Trials) -> Finding:
    command = "ocirt spec --rootless" if system.needs_user_namespace else "ocirt spec"
    error = trials.container()
    if error is None:
        return ok(f'the container of "{command}" can be made')
    hint = ""
    if "too revealing" in str(error):
        hint = _PROC_HIDDEN
    elif "pivot_root" in str(error):
        hint = "the root is a ramdisk: run containers with --no-pivot"
    elif not system.is_admin and sysctl(system, _APPARMOR_RESTRICTION) == "1":
        hint = _user_hint(system)
    return blocking(f'the container of "{command}" cannot be made: {error}', hint)
