"""Where cgroup v2 is on this host, and where a container's cgroup is to be.

Guarantees: a cgroup's path, here and in the state, is absolute and normal, has no "..", is never the root, and is
relative to the mount point of the v2 hierarchy (config-linux.md#cgroups-path). The same cgroupsPath gives the same
place whatever cgroup its caller is in.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from dataclasses import dataclass

from ocirt.errors import SpecError
from ocirt.pseudofile import read_text

POINTER = "/linux/cgroupsPath"

# What the path of a cgroup says that was removed meanwhile, and what a descriptor of it says.
REMOVED = (errno.ENOENT, errno.ENODEV)

# Pure v2, and the hybrid layout of systemd.
_USUAL_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class CgroupHost:
    """The v2 hierarchy as this process sees it.

    `mount`: its mount point. `root`: what of the hierarchy is mounted there, in the terms of /proc/PID/cgroup; mostly
    "/". `own`: the cgroup of this process. `delegated`: the topmost cgroup on the way to `own` in which this process
    may make cgroups and move processes: "/" with privileges, None when there is none. Both are paths below `mount`.
    """

    mount: str
    root: str
    own: str
    delegated: str | None

    def directory(self, path: str) -> str:
        """The directory of a cgroup."""
        return self.mount + (path if path != "/" else "")


def plan_cgroup(cgroups_path: str | None, container_id: str, host: CgroupHost) -> str:
    """The path of the container's cgroup with the cgroupfs manager.

    Absolute: below the mount point. Relative: below the topmost cgroup that this user may use, which is the mount point
    for root (as with crun; runc's place depends on the cgroup of the caller, which the specification forbids). Absent:
    beside the runtime's own cgroup, as with runc, so that what limits the runtime's parent limits the container too;
    inside of it where the user may use no more. Raises SpecError.
    """
    if not cgroups_path:
        parent = posixpath.dirname(host.own)
        if host.delegated is not None and not is_within(parent, host.delegated):
            parent = host.delegated
        return posixpath.join(parent, container_id)
    if not cgroups_path.startswith("/") and cgroups_path.count(":") == 2 and "/" not in cgroups_path:
        raise SpecError(
            POINTER,
            f'"{cgroups_path}" has the form slice:prefix:name of the systemd cgroup manager; cgroupfs needs a path',
        )
    if "\n" in cgroups_path:
        raise SpecError(POINTER, "must not contain a newline (the kernel refuses it in a cgroup's name)")
    components = [component for component in cgroups_path.split("/") if component not in ("", ".")]
    if ".." in components:
        raise SpecError(POINTER, f'"{cgroups_path}" must not contain ".."')
    if not components:
        raise SpecError(POINTER, f'"{cgroups_path}" is the root cgroup, which cannot be a container\'s own')
    base = "/" if cgroups_path.startswith("/") else host.delegated or "/"
    return posixpath.join(base, *components)


def is_within(path: str, ancestor: str) -> bool:
    """Whether a cgroup is the ancestor or below it."""
    return path == ancestor or path.startswith(ancestor.rstrip("/") + "/")


def parent_paths(path: str) -> list[str]:
    """The cgroups above a path, from the outermost on, without the root."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts))]


def parse_cgroup(text: str) -> str | None:
    """The v2 cgroup in a /proc/PID/cgroup: the line "0::PATH" (cgroups(7)). None without v2."""
    for line in text.splitlines():
        if line.startswith("0::/"):
            return line[3:]
    return None


def parse_mounts(mountinfo: str) -> list[tuple[str, str]]:
    """The cgroup2 mounts in a /proc/PID/mountinfo (proc(5)) as (mount point, root), the whole hierarchy's first.

    Of several mounts at one point the last covers the others.
    """
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        mount = _unescape(fields[4])
        found.pop(mount, None)
        if fields[fields.index("-") + 1] == "cgroup2":
            found[mount] = _unescape(fields[3])
    return sorted(found.items(), key=lambda item: len(item[1]))


def _unescape(field: str) -> str:
    """mountinfo has space, tab, newline and backslash as three octal digits."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def path_below(cgroup: str, root: str) -> str | None:
    """A cgroup in the terms of /proc/PID/cgroup as a path below a mount whose root is `root`; None if it is outside."""
    if cgroup == root:
        return "/"
    return cgroup[len(root.rstrip("/")) :] if is_within(cgroup, root) else None


def probe_cgroup_host() -> CgroupHost | None:
    """Find the v2 hierarchy; None where there is none. Reads mountinfo, which may be long, only in unusual places."""
    cgroup = parse_cgroup(read_text("/proc/self/cgroup"))
    if cgroup is None:
        return None
    for mount, root in _probe_mounts(cgroup):
        own = path_below(cgroup, root)
        if own is None or not os.path.isdir(mount + own):
            # Above the root of the cgroup namespace ("/../x"), removed ("x (deleted)"), or not visible in this mount.
            own = "/"
        return CgroupHost(mount, root, own, _probe_delegated(mount, own))
    return None


def _probe_mounts(cgroup: str) -> list[tuple[str, str]]:
    for mount in _USUAL_MOUNTS:
        if _is_cgroup2(mount) and os.path.isdir(mount + cgroup):
            return [(mount, "/")]
    return [(mount, root) for mount, root in parse_mounts(read_text("/proc/self/mountinfo")) if _is_cgroup2(mount)]


def _is_cgroup2(path: str) -> bool:
    from ocirt._native import lib

    return bool(lib.ocirt_is_cgroup2(os.fsencode(path)) == 1)


def _probe_delegated(mount: str, own: str) -> str | None:
    for path in ("/", *parent_paths(own), own):
        directory = mount + path
        # The kernel asks for both to move a process between two cgroups below (cgroups(7), delegation containment).
        if all(os.access(name, os.W_OK) for name in (directory, f"{directory}/cgroup.procs")):
            return path
    return None


def probe_process_cgroup(host: CgroupHost, pid: int) -> str | None:
    """The cgroup of a process as a path below the mount; None if it is not visible there. Raises OSError: gone."""
    cgroup = parse_cgroup(read_text(f"/proc/{pid}/cgroup"))
    return None if cgroup is None else path_below(cgroup, host.root)
