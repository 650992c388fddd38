"""What the probe says, with names in the place of numbers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

CAPABILITY_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A line of proc_pid_mountinfo(5)."""

    point: str
    root: str
    options: frozenset[str]
    propagation: frozenset[str]
    kind: str
    source: str
    super_options: frozenset[str]

    @classmethod
    def parse(cls, line: str) -> MountInfo:
        first, _, last = line.partition(" - ")
        _, _, _, root, point, options, *propagation = first.split(" ")
        kind, source, super_options = last.split(" ")
        return cls(
            _unescape(point),
            _unescape(root),
            frozenset(options.split(",")),
            frozenset(word.partition(":")[0] for word in propagation if word),
            kind,
            _unescape(source),
            frozenset(super_options.split(",")),
        )


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


class Facts(dict[str, Any]):
    """The probe's JSON object; its keys are those of tests/probe/probe.c."""

    @classmethod
    def parse(cls, text: str) -> Facts:
        """From the probe's output. Raises ValueError with the output where that is no JSON."""
        try:
            return cls(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"not the probe's output: {text[:500]!r}") from error

    def capabilities(self, kind: str) -> set[str]:
        """The names in one of the five sets."""
        bits = self["capabilities"][kind]
        return {f"CAP_{name}" for number, name in enumerate(CAPABILITY_NAMES) if bits >> number & 1}

    def status(self, key: str) -> str:
        """A line of /proc/self/status."""
        lines: list[str] = self["status"].splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{key}:"))

    def mounts(self) -> list[MountInfo]:
        return [MountInfo.parse(line) for line in self["mountinfo"].splitlines()]

    def mount(self, point: str) -> MountInfo:
        """The topmost mount there. Raises KeyError where there is none."""
        found = [mount for mount in self.mounts() if mount.point == point]
        if not found:
            raise KeyError(f"{point} is no mount point; there are {[mount.point for mount in self.mounts()]}")
        return found[-1]

    def path(self, path: str) -> dict[str, Any]:
        """The facts of one of the paths that the probe was given."""
        facts: dict[str, Any] = self["paths"][path]
        return facts

    def env(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self["env"])
