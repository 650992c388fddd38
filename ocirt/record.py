"""What state.json holds of a container, what an id may be, and what /proc tells of a process."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ocirt.errors import HostError, StateError

if TYPE_CHECKING:
    from ocirt.cgroup.manager import CgroupRecord

VERSION = 1
NEW_SUFFIX = ":new"

_ID = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*", re.ASCII)
_ID_MAX_BYTES = 255 - len(NEW_SUFFIX)


class Status(Enum):
    """runtime.md#state, and what runc's users know beside it: paused."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Record:
    """One container. `created` is RFC 3339 with nanoseconds, `start_time` in clock ticks since boot (proc(5)).

    `status` is "creating" until create has committed itself, and "created" from then on: what has become of the process
    since then is asked of the kernel. `cgroup` has the properties of a cgroup.manager.CgroupRecord, and is None for a
    container without a cgroup of its own. `rdt_made`: the directories of resctrl that create made, the deepest last,
    recorded before they are made. `hooks` names the kinds of hooks that later commands have to run, so that the others
    needn't read config.json.
    """

    id: str
    oci_version: str
    bundle: str
    rootfs: str
    version: int = VERSION
    created: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    status: str = Status.CREATING.value
    pid: int = 0
    start_time: int = 0
    private_pid: bool = True
    has_process: bool = True
    cgroup: dict[str, object] | None = None
    rdt_made: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()

    def oci_state(self, status: Status, pid: int) -> dict[str, object]:
        """The state of runtime.md#state, as hooks and the seccomp agent get it. No pid: 0."""
        value: dict[str, object] = {"ociVersion": self.oci_version, "id": self.id, "status": status.value}
        if pid:
            value["pid"] = pid
        value["bundle"] = self.bundle
        if self.annotations:
            value["annotations"] = self.annotations
        return value

    @property
    def cgroup_path(self) -> str | None:
        """Where the container's cgroup is below the mount of the hierarchy; None for one without."""
        path = self.cgroup.get("path") if self.cgroup else None
        return path if isinstance(path, str) else None

    def cgroup_record(self) -> CgroupRecord | None:
        """The container's cgroup, as its cgroup manager wants it. Raises StateError for one that isn't understood."""
        from ocirt.cgroup.manager import CgroupRecord

        if self.cgroup is None:
            return None
        try:
            lists = {name: tuple(item) for name, item in self.cgroup.items() if isinstance(item, list)}
            return CgroupRecord(**(self.cgroup | lists))  # type: ignore[arg-type]
        except TypeError as error:
            raise StateError(
                f"state of container {self.id} is unreadable: cgroup: {error}", code="state.unreadable"
            ) from None

    def changed(self, **changes: Any) -> Record:
        """This record with some properties changed."""
        return Record(**(self._properties() | changes))

    def encode(self) -> bytes:
        """For state.json."""
        return json.dumps(self._properties()).encode()

    def _properties(self) -> dict[str, Any]:
        return dict(zip(_NAMES, _values(self), strict=True))

    @classmethod
    def decode(cls, text: bytes) -> Record:
        """Raises ValueError, whose text says what is wrong. Properties that a later version may add are passed over."""
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        if not isinstance(value.get("version"), int) or value["version"] > VERSION:
            raise ValueError(f"its version is {value.get('version')}, this ocirt reads up to {VERSION}")
        known: dict[str, Any] = {}
        for name, kind, has_type in _MEMBERS:
            if name in value:
                item = value[name]
                if type(item) is list:
                    item = tuple(item)
                if not has_type(item):
                    raise ValueError(f"{name} is not a {kind}")
                known[name] = item
        if missing := {"id", "oci_version", "bundle", "rootfs"} - known.keys():
            raise ValueError(f"{min(missing)} is missing")
        return cls(**known)


def cgroup_properties(cgroup: CgroupRecord) -> dict[str, object] | None:
    """What a cgroup manager's prepare() or create() returned, for Record.cgroup."""
    if cgroup.path is None:
        return None
    return {name: getattr(cgroup, name) for name in cgroup.__slots__}


# By the annotation of a Record's member: whether an item read from JSON is such a thing.
_TYPES: dict[str, Callable[[Any], bool]] = {
    "str": lambda item: type(item) is str,
    "bool": lambda item: type(item) is bool,
    "int": lambda item: type(item) is int and item >= 0,
    "tuple[str, ...]": lambda item: type(item) is tuple and all(type(part) is str for part in item),
    "dict[str, str]": lambda item: type(item) is dict and all(type(part) is str for part in item.values()),
    "dict[str, object] | None": lambda item: item is None or type(item) is dict,
}
_MEMBERS = tuple((member.name, str(member.type), _TYPES[str(member.type)]) for member in fields(Record))
_NAMES = tuple(name for name, _, _ in _MEMBERS)
_values = attrgetter(*_NAMES)


def created_now() -> str:
    """The present time for Record.created."""
    return timestamp(time.time_ns())


def timestamp(time_nsec: int) -> str:
    """A time since the epoch as in RFC 3339, in UTC. libc's gmtime(3) would read /etc/localtime first.

    Days are counted from March 1 of year 0, so that a leap day is the last of its year, and of 400 years.
    """
    seconds, nsec = divmod(time_nsec, 10**9)
    days, second = divmod(seconds, 86400)
    cycle, day = divmod(days + 719468, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    month += 3 if month < 10 else -9
    year += 400 * cycle + (month <= 2)
    hour, minute = divmod(second // 60, 60)
    return f"{year:04d}-{month:02d}-{day + 1:02d}T{hour:02d}:{minute:02d}:{second % 60:02d}.{nsec:09d}Z"


def is_id(text: str) -> bool:
    """Whether it is a container id: one harmless file name, with room for the suffix of one in the making."""
    return bool(_ID.fullmatch(text)) and text not in (".", "..") and len(text) <= _ID_MAX_BYTES


def check_id(container_id: str) -> None:
    """Raises StateError, in runc's words, for what is no id."""
    if not container_id:
        raise StateError("container id cannot be empty", code="state.id")
    if not is_id(container_id):
        shown = container_id if len(container_id) <= 40 else container_id[:40] + "..."
        raise StateError(
            f'invalid container ID format: "{shown}" (at most {_ID_MAX_BYTES} ASCII letters, digits and _ + - . '
            "with no - at the beginning)",
            code="state.id",
        )


@dataclass(frozen=True, slots=True)
class Process:
    """What one read of /proc/PID/stat tells. `state` is its letter (R, S, Z ...), `start_time` in clock ticks."""

    comm: bytes
    state: str
    start_time: int


def probe_process(pid: int) -> Process | None:
    """The process, or None when there is none with this pid."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise HostError.of(error, "open") from None
    try:
        text = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    return parse_stat(text)


def parse_stat(text: bytes) -> Process:
    """A /proc/PID/stat. comm may have spaces and parentheses of its own, so the last parenthesis ends it (proc(5))."""
    head, _, rest = text.rpartition(b")")
    after = rest.split()  # from field 3 on; the start time is field 22
    return Process(head.partition(b"(")[2], after[0].decode(), int(after[19]))
