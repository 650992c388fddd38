"""spec: a config.json to begin with, the one that runc's users know, for cgroup v2."""

from __future__ import annotations

import json
import os

from ocirt import SPEC_VERSION
from ocirt.cli import Args, Context
from ocirt.errors import HostError, StateError

CONFIG = "config.json"

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_MOUNTS = (
    ("/proc", "proc", "proc"),
    ("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
)
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")


def run(args: Args, context: Context) -> int:  # noqa: ARG001
    config = rootless_config(os.geteuid(), os.getegid()) if args.switch("rootless") else default_config()
    path = os.path.join(args.text("bundle"), CONFIG)
    data = json.dumps(config, indent="\t", ensure_ascii=False) + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(data)
    except FileExistsError:
        raise StateError(f"File {path} exists. Remove it first", code="state.exists") from None
    except OSError as error:
        raise HostError("write", path, error.errno or 0) from None
    return 0


def default_config() -> dict[str, object]:
    """A read-only root and a shell on a terminal, with few capabilities and every namespace but user and time."""
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "ocirt",
        "mounts": [_mount(*mount) for mount in _MOUNTS],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READONLY),
        },
    }


def rootless_config(uid: int, gid: int) -> dict[str, object]:
    """The default for a user who isn't root: he is root in a user namespace, and keeps the host's network.

    sysfs belongs to the network namespace, so it can't be mounted and is bound. Ids in mount options (devpts' gid=5)
    have no mapping, and resources need a cgroup that was delegated to him.
    """
    mounts = []
    for destination, kind, source, *options in _MOUNTS:
        if destination == "/sys":
            kind, source, options = "none", "/sys", ["rbind", *options]
        mounts.append(_mount(destination, kind, source, *(o for o in options if not o.startswith(("uid=", "gid=")))))
    linux = {
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
        "namespaces": [{"type": kind} for kind in (*_NAMESPACES, "user") if kind != "network"],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READONLY),
    }
    return default_config() | {"mounts": mounts, "linux": linux}


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, object]:
    mount: dict[str, object] = {"destination": destination, "type": kind, "source": source}
    return mount | {"options": list(options)} if options else mount
