"""Checks of what a user has been given: ids, directories, limits, capabilities."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from ocirt import constants as k
from ocirt.doctor.finding import Finding, blocking, limited, missing, ok
from ocirt.doctor.kernel import reason
from ocirt.doctor.system import System
from ocirt.doctor.trials import Trials
from ocirt.usermap import HELPER_PATH, UserMapping

# Most images have no higher ids, and nobody (65534) is one of them.
_ENOUGH_IDS = 65536
_ONE_ID = "a container has the user's own id and no other"
_MEMORY_FILE_SYSTEMS = frozenset(("tmpfs", "ramfs"))


@dataclass(frozen=True, slots=True)
class _Range:
    first: int
    count: int


def check_ids(system: System, trials: Trials) -> Finding:
    """More ids than one's own in a user namespace: subuid(5), newuidmap(1)."""
    if system.mask("CapEff") & k.CAPABILITY_BITS["CAP_SETUID"]:
        return ok("any ids can be mapped into a user namespace")
    uids, gids = (_ranges(system, path) for path in ("/etc/subuid", "/etc/subgid"))
    if finding := _without_ranges(system, uids, gids):
        return finding
    problem, hint = _helper_problem(system)
    if problem:
        return limited(problem, _ONE_ID, hint)
    mapping = UserMapping(_map(system.uid, uids), _map(system.gid, gids), helpers=True)
    if error := trials.map_ids(mapping):
        return limited(f"the ids cannot be mapped: {reason(error)}", _ONE_ID)
    count = min(sum(each.count for each in ranges) for ranges in (uids, gids))
    if count < _ENOUGH_IDS:
        return limited(
            f"{count} subordinate ids",
            "files and users of an image with higher ids cannot be",
            _usermod(system, "/etc/subuid"),
        )
    return ok(f"{count} subordinate ids, and newuidmap maps them")


def _without_ranges(system: System, uids: list[_Range], gids: list[_Range]) -> Finding | None:
    lacking = [path for path, ranges in (("/etc/subuid", uids), ("/etc/subgid", gids)) if not ranges]
    if not lacking:
        return None
    found = f"{system.user} has no range in {' and '.join(lacking)}"
    sources = next((line.split()[1:] for line in system.lines("/etc/nsswitch.conf") if line.startswith("subid:")), [])
    others = [source for source in sources if source != "files"]
    if others:
        return limited(f"{found}; {', '.join(others)} may have one, and was not asked", f"if not, {_ONE_ID}")
    return limited(found, _ONE_ID, _usermod(system, lacking[0]))


def _usermod(system: System, path: str) -> str:
    """usermod(8), with a range beyond everybody's."""
    ends = [each.first + each.count for name in ("/etc/subuid", "/etc/subgid") for each in _all_ranges(system, name)]
    first = max([100000, *ends])
    last = first + _ENOUGH_IDS - 1
    name = system.user.removeprefix("#")
    return f"as root: usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {name} (see {path})"


def _all_ranges(system: System, path: str, owners: tuple[str, ...] | None = None) -> list[_Range]:
    found = []
    for line in system.lines(path):
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if (owners is None or owner in owners) and first.isdecimal() and count.strip().isdecimal() and int(count) > 0:
            found.append(_Range(int(first), int(count)))
    return found


def _ranges(system: System, path: str) -> list[_Range]:
    """The user's, by name or by number. subgid(5) has the user's name too, not the group's."""
    return _all_ranges(system, path, (system.user, str(system.uid)))


def _map(own: int, ranges: list[_Range]) -> str:
    lines, inside = [f"0 {own} 1\n"], 1
    for each in ranges:
        lines.append(f"{inside} {each.first} {each.count}\n")
        inside += each.count
    return "".join(lines)


def _helper_problem(system: System) -> tuple[str, str]:
    """Why newuidmap and newgidmap cannot do their work, and what to do about it."""
    for name in ("newuidmap", "newgidmap"):
        places = [*system.environ.get("PATH", "").split(":"), *HELPER_PATH]
        paths = [system.path(f"{place}/{name}") for place in places if place.startswith("/")]
        path = next((path for path in paths if os.access(path, os.X_OK)), None)
        if path is None:
            return f"{name} is not installed", "install the package uidmap (Debian, Ubuntu) or shadow-utils (Fedora)"
        if not _gives_privileges(path):
            return (
                f"{path} is neither setuid root nor has file capabilities",
                f"as root: chmod u+s {path}, or install its package again",
            )
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            return f"{path} is on a mount with the option nosuid", "mount it without nosuid"
    if system.status("NoNewPrivs") == "1":
        return "no_new_privs is set, so that newuidmap gains no privileges", "run it outside of what has set that"
    return "", ""


def _gives_privileges(path: str) -> bool:
    info = os.stat(path)
    if info.st_mode & stat.S_ISUID and info.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def check_runtime_directory(system: System, _: Trials) -> Finding | None:
    """What the XDG Base Directory Specification asks for. Nothing is executed from there: noexec does no harm."""
    if system.uid == 0 and not system.in_user_namespace:
        return None
    name = system.environ.get("XDG_RUNTIME_DIR", "")
    usual = f"/run/user/{system.uid}"
    if not name:
        return missing(
            "XDG_RUNTIME_DIR is not set",
            f"containers' state is kept in {system.state_root}",
            f"log in with a session of its own, or set it to a directory of this user's, such as {usual}",
        )
    if not name.startswith("/"):
        return missing(f"XDG_RUNTIME_DIR is {name}, which is not absolute", "it is not used", f"set it to {usual}")
    try:
        info = os.stat(system.path(name))
    except OSError as error:
        return missing(
            f"XDG_RUNTIME_DIR is {name}: {os.strerror(error.errno or 0)}",
            "containers' state has no place without --root",
            f"make it, as root: install -d -m 700 -o {system.uid} {name}",
        )
    if not stat.S_ISDIR(info.st_mode):
        return missing(f"XDG_RUNTIME_DIR is {name}, which is no directory", "it cannot be used", f"set it to {usual}")
    if info.st_uid != system.uid:
        hint = f"set it to {usual}; su and sudo may have kept another user's"
        return limited(f"XDG_RUNTIME_DIR is {name}, which belongs to user {info.st_uid}", "it may not be used", hint)
    if stat.S_IMODE(info.st_mode) & 0o022:
        return limited(f"others may write to {name}", "they can delete containers' state", f"chmod 700 {name}")
    return ok(name)


def check_state(system: System, trials: Trials) -> Finding:
    root = system.state_root
    directory = root
    while directory != "/" and not system.exists(directory):
        directory = os.path.dirname(directory)
    if error := trials.writable(system.path(directory)):
        hint = ("set XDG_RUNTIME_DIR, or " if system.rootless else "") + "name another directory with --root"
        return blocking(f"{root} cannot be written: {reason(error)}", hint)
    kind = _file_system_of(system, directory)
    if kind and kind not in _MEMORY_FILE_SYSTEMS:
        return limited(
            f"{root} is on {kind}, which outlives a reboot",
            "containers of before a reboot are listed as stopped until they are deleted",
            "mount a tmpfs there, or have --root name a directory on one",
        )
    return ok(f"{root} can be written")


def _file_system_of(system: System, directory: str) -> str:
    """The type of the file system that a directory is on, "" where it cannot be told."""
    try:
        device = os.stat(system.path(directory)).st_dev
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in system.lines("/proc/self/mountinfo"):
        fields = line.split(" ")
        if len(fields) > 6 and fields[2] == number and "-" in fields:
            return fields[fields.index("-") + 1]
    return ""


def check_limits(system: System, trials: Trials) -> Finding:
    error = trials.raised_limit()
    if error is None:
        return ok("a container's hard limits may be above those of its caller")
    limits = {line[:25].strip(): line[25:].split() for line in system.lines("/proc/self/limits")}
    told = [f"{name} {limits[title][1]}" for name, title in _SHOWN_LIMITS.items() if len(limits.get(title, ())) > 1]
    hint = "raise the caller's own (LimitNOFILE= of its service, limits.conf(5)), or ask for less"
    return limited(
        f"hard limits cannot be raised (CAP_SYS_RESOURCE): {', '.join(told)}",
        "a config that asks for more in process.rlimits is refused, as is a lower process.oomScoreAdj",
        hint,
    )


_SHOWN_LIMITS = {"RLIMIT_NOFILE": "Max open files", "RLIMIT_NPROC": "Max processes"}


def check_capabilities(system: System, trials: Trials) -> Finding:
    if not system.is_admin:
        if error := trials.namespace("user"):
            return missing("none, and no user namespace to have them in", f"see namespace.user: {reason(error)}")
        return ok("all, within a container's user namespace")
    last = system.word("/proc/sys/kernel/cap_last_cap")
    known = [name for name in k.CAPABILITIES if not last.isdecimal() or k.CAPABILITY_BITS[name] <= 1 << int(last)]
    lacking = [name for name in known if not system.mask("CapBnd") & k.CAPABILITY_BITS[name]]
    if lacking:
        return limited(
            f"not in the bounding set: {', '.join(lacking)}",
            "containers are not given them, with a warning",
            "start what calls ocirt with them (CapabilityBoundingSet= of its service)",
        )
    return ok(f"all {len(known)} can be given to containers")


def check_no_new_privileges(system: System, _: Trials) -> Finding:
    if system.status("NoNewPrivs") != "1":
        return ok("no_new_privs is not set")
    return limited(
        "no_new_privs is set on this process",
        "programs in containers gain nothing by setuid or file capabilities",
        "call ocirt from outside of what has set it (NoNewPrivileges= of a service)",
    )
