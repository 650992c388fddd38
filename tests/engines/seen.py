"""What a container saw, in a form in which two runtimes' containers can be compared."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.facts import Facts, MountInfo

_NUMBERED = re.compile(r"^(pipe|socket|anon_inode):\[?.*")
_ID = re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b|(?<=/buildah)\d+|\b[0-9a-z]{25}\b")
STATUS_LINES = (
    "NoNewPrivs Seccomp Seccomp_filters Cpus_allowed Mems_allowed THP_enabled SigIgn SigBlk SigCgt NSpid"
    " Speculation_Store_Bypass"
).split()
# Two signals are glibc's own. Its posix_spawn(3) has them ignored, in make(1) for one; runc's containers inherit that.
GLIBC_SIGNALS = 0b11 << 31
# Times, and what the lines of `status` and `mounts` say more clearly.
NOT_COMPARED = ("monotonic", "boottime", "status", "mountinfo", "namespaces", "fds", "keyring")


def comparable(text: str) -> dict[str, Any]:
    """The probe's output, without what differs from one container to the next of the same runtime."""
    facts = Facts.parse(text)
    known: dict[str, Any] = {key: value for key, value in facts.items() if key not in NOT_COMPARED}
    known["status"] = {line: facts.status(line) for line in STATUS_LINES if f"{line}:" in facts["status"]}
    ignored = int(facts.status("SigIgn"), 16) & ~GLIBC_SIGNALS
    known["status"]["SigIgn"] = f"{ignored:016x}"
    # Podman's order of these is another one each time, and where it matters mounts have the same point.
    known["env"] = sorted(entry for entry in facts["env"] if not entry.startswith("container_uuid="))
    known["mounts"] = {}
    for entry in facts.mounts():
        known["mounts"].setdefault(entry.point, []).append(_mount(entry))
    known["fds"] = {fd: _NUMBERED.sub(r"\1", target) for fd, target in facts["fds"].items()}
    known["namespaces"] = {
        kind: "host" if number == os.stat(f"/proc/self/ns/{kind}").st_ino else "own"
        for kind, number in facts["namespaces"].items()
    }
    # In the host's pid namespace.
    known["ppid"] = "some" if facts["ppid"] > 1 else facts["ppid"]
    # "keyring;UID;GID;PERMISSIONS;NAME": runc lets others search it in a user namespace, for exec to find it by name.
    known["keyring"] = facts["keyring"].split(";")[:3]
    masked = {point for point, entries in known["mounts"].items() if "mask" in entries[-1]}
    known["paths"] = {path: _path(entry) for path, entry in facts["paths"].items() if path not in masked}
    if known["namespaces"]["cgroup"] == "host":
        # ocirt binds the host's mount, and runc makes one of its own.
        for entry in known["mounts"].get("/sys/fs/cgroup", []):
            del entry["source"]
    if facts["pid"] != 1:
        # runc's own threads have taken some pids before.
        known |= {key: "not 1" if known[key] == facts["pid"] else known[key] for key in ("pid", "pgid", "sid")}
        del known["status"]["NSpid"]
    cleaned: dict[str, Any] = _without_ids(known)
    return cleaned


def _mount(entry: MountInfo) -> dict[str, Any]:
    """A mount, but for what ocirt does otherwise than runc: docs/engines.md has the reasons."""
    if mask := _mask(entry):
        return {"mask": mask}
    # A snapshot's or a layer's folder is another one for each container.
    root = entry.root if entry.point != "/" else ""
    return {
        "root": root,
        "options": sorted(entry.options),
        "propagation": sorted(entry.propagation),
        "kind": entry.kind,
        "source": entry.source,
        # A read-only mount is one of the mount alone, not of the file system's instance. The mode may have been changed
        # later: what `paths` says of it counts.
        "super": sorted(option for option in entry.super_options - {"ro", "rw"} if not option.startswith("mode=")),
    }


def _mask(entry: MountInfo) -> str:
    """What covers a masked path (`file` or `directory`), or nothing for another mount: masks have stricter options."""
    inside = entry.point.startswith(("/proc/", "/sys/"))
    if inside and entry.root == "/null":
        return "file"
    if inside and entry.kind == "tmpfs" and entry.root == "/" and "ro" in entry.options:
        return "directory"
    return ""


def _path(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("inode", "size")}


def _without_ids(value: Any) -> Any:
    """Replaces the containers' ids that engines make up."""
    if isinstance(value, str):
        return _ID.sub("ID", value)
    if isinstance(value, list):
        return [_without_ids(item) for item in value]
    if isinstance(value, dict):
        return {_without_ids(key): _without_ids(item) for key, item in value.items()}
    return value


class Comparison:
    """Values of the same test, with one runtime and with the other: the second has to equal the first."""

    def __init__(self, test: str, known: dict[tuple[str, str], Any]) -> None:
        self._test = test
        self._known = known

    def same(self, name: str, value: Any) -> None:
        """Asserts that the other runtime's value of that name, once both are there, is the same."""
        first = self._known.setdefault((self._test, name), value)
        assert value == first, f"{name} differs between the runtimes:\n" + "\n".join(differences(first, value))

    def same_facts(self, name: str, output: str) -> dict[str, Any]:
        """`same` for the probe's output, whose facts it returns as they are."""
        self.same(name, comparable(output))
        return Facts.parse(output)


def assert_explained(message: str, pointer: str, call: str, errno: str, hint: str) -> None:
    """Asserts that an engine's own output has all that ocirt says of a start that failed, the pointer first."""
    at = -1
    for part in (f" {pointer}", f"{call}: {errno}", f"({hint}"):
        at = message.find(part, at + 1)
        assert at >= 0, f"{part!r} is missing, or in another place, in: {message}"


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """The places in which two values differ, a line each."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            yield from differences(first.get(key), second.get(key), f"{where}/{key}")
    elif isinstance(first, list) and isinstance(second, list):
        for index, pair in enumerate(itertools.zip_longest(first, second)):
            yield from differences(*pair, f"{where}/{index}")
    elif first != second:
        yield f"{where}: {first!r}, then {second!r}"


def mounts_below(folder: Path) -> list[str]:
    """The mount points below a folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(line.split()[4] for line in lines if line.split()[4].startswith(f"{folder}/"))
