"""Bundles for the tests: a busybox root filesystem, the probe, and a configuration to change.

A bundle's root filesystem is a tree of hard links to the session's own: cheap to make, free to add to and remove from.
A test that changes the content or the owner of a file that is in it copies that file first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tools.mkrootfs import make_rootfs

PROBE_SOURCE = Path(__file__).parent.parent / "probe" / "probe.c"
BUILD = Path(__file__).parent.parent.parent / "build"

Config = dict[str, Any]

MASKED_PATHS = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def mount_entry(destination: str, kind: str, source: str | None = None, *options: str) -> Config:
    """An element of `mounts`."""
    return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}


def bind_entry(source: Path | str, destination: str, *options: str) -> Config:
    """A bind mount, recursive unless an option says otherwise."""
    kind = [] if {"bind", "rbind"} & set(options) else ["rbind"]
    return mount_entry(destination, "bind", str(source), *kind, *options)


def default_config() -> Config:
    """What an engine would ask for, without resources. The probe is the program."""
    return {
        "ociVersion": "1.0.2",
        "hostname": "container",
        "root": {"path": "rootfs", "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "mounts": [
            mount_entry("/proc", "proc"),
            mount_entry("/dev", "tmpfs", None, "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount_entry(
                "/dev/pts", "devpts", None, "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
            ),
            mount_entry("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            mount_entry("/dev/mqueue", "mqueue", None, "nosuid", "noexec", "nodev"),
            mount_entry("/sys", "sysfs", None, "nosuid", "noexec", "nodev", "ro"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def use_user_namespace(config: Config, host_id: int = 100000, size: int = 65536) -> None:
    """Gives the container a user namespace of its own, whose ids begin at `host_id` on the host."""
    config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        config["linux"][kind] = [{"containerID": 0, "hostID": host_id, "size": size}]


def without_namespace(config: Config, kind: str) -> None:
    """Takes a namespace out of the configuration: the container then shares the runtime's."""
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != kind]


def build_probe() -> Path:
    """The compiled probe, made once for each version of its source."""
    target = BUILD / f"probe-{hashlib.sha256(PROBE_SOURCE.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        command = ["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(unfinished), str(PROBE_SOURCE)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        unfinished.rename(target)
    return target


def make_template(target: Path) -> Path:
    """The root filesystem that all bundles of a session link to."""
    make_rootfs(target)
    shutil.copy(build_probe(), target / "probe")
    return target


def link_tree(template: Path, target: Path) -> None:
    """Copies a tree with hard links in the place of its files."""
    subprocess.run(["cp", "-al", str(template), str(target)], check=True, stdin=subprocess.DEVNULL)
