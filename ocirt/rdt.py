"""Intel RDT through the resctrl file system (config-linux.md#configLinuxIntelRdt, Linux's resctrl.rst).

Guarantees: without intelRdt in the config nothing of resctrl is looked at. A directory is recorded before it is made,
and only directories that delete has to remove are: the one named after the container, where there was none before, and
its monitoring group. A group that the config names (closID) is never removed by delete. When joining fails, what was
made for it is removed at once. Other programs that keep to resctrl's locking see no half-made group.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ocirt.errors import HostError, SpecError
from ocirt.spec import IntelRdt

MOUNTINFO = "/proc/self/mountinfo"
# Directories at resctrl's top that are no groups.
RESERVED = frozenset({"info", "mon_groups", "mon_data"})
ROOT_CLOS = "/"
_MON_GROUPS = "mon_groups"
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Schema:
    """What one property asks to be written: one line of a `schemata` file, or several."""

    pointer: str
    text: str
    compared: bool  # with the group's, if there is one already


@dataclass(frozen=True, slots=True)
class Rdt:
    """A container's place in resctrl."""

    pointer: str
    group: str  # the directory's name; "" is resctrl's top
    explicit: bool  # by closID
    schemata: tuple[Schema, ...]  # in the order of writing
    monitoring_group: str  # its name; "": none


@dataclass(frozen=True, slots=True)
class Resctrl:
    """A mounted resctrl; with `in_mbps` memory bandwidth is in MB/s and not in percent (mount option mba_MBps)."""

    path: str
    in_mbps: bool = False


def compile_rdt(rdt: IntelRdt, container_id: str, pointer: str = "/linux/intelRdt") -> Rdt:
    """Raises SpecError."""
    explicit = rdt.clos_id is not None
    group = rdt.clos_id or container_id
    at = f"{pointer}/closID" if explicit else pointer
    if group == ROOT_CLOS:
        group = ""
    elif group in RESERVED or group in (".", "..") or "/" in group or "\n" in group:
        raise SpecError(at, f'"{group}" cannot be the name of a class of service')
    if rdt.mem_bw_schema is not None and not rdt.mem_bw_schema.startswith("MB:"):
        raise SpecError(f"{pointer}/memBwSchema", "must start with MB:")
    schemata = []
    # The order is the specification's: memBwSchema after l3CacheSchema, schemata last.
    if rdt.mem_bw_schema is not None:
        schemata.append(Schema(f"{pointer}/memBwSchema", rdt.mem_bw_schema, compared=True))
    schemata += [Schema(f"{pointer}/schemata/{i}", text, compared=False) for i, text in enumerate(rdt.schemata)]
    for schema in schemata:
        if "\n" in schema.text:
            raise SpecError(schema.pointer, "must not contain a newline")
    if rdt.l3_cache_schema is not None:
        # It may be several lines; the kernel refuses an empty one.
        lines = [line for line in rdt.l3_cache_schema.split("\n") if line.strip()]
        schemata.insert(0, Schema(f"{pointer}/l3CacheSchema", "\n".join(lines), compared=True))
    return Rdt(pointer, group, explicit, tuple(schemata), container_id if rdt.enable_monitoring else "")


def probe_resctrl(mountinfo: str = MOUNTINFO, pointer: str = "/linux/intelRdt") -> Resctrl:
    """The mount that is reachable by its path. Raises HostError where there is none."""
    with open(mountinfo, "rb") as file:
        for line in file:
            fields, _, rest = line.partition(b" - ")
            kind, _, options = rest.split()[:3]
            if kind != b"resctrl":
                continue
            _, _, device, root, path, *_ = fields.split(b" ")
            where = os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), path))
            if root == b"/" and _device(where) == device:
                return Resctrl(where, in_mbps=b"mba_MBps" in options.split(b","))
    raise HostError("find", "a mounted resctrl", errno.ENOENT, pointer=pointer)


def _device(path: str) -> bytes:
    """As in mountinfo; it differs from the mount's where another one covers it."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return b""
    return f"{os.major(device)}:{os.minor(device)}".encode()


def apply_rdt(
    rdt: IntelRdt,
    container_id: str,
    pid: int,
    *,
    record: Callable[[Sequence[str]], None],
    resctrl: Resctrl | None = None,
) -> tuple[str, ...]:
    """Put a process, which has no children yet, into its groups.

    `record` gets the directories that delete has to remove, the deepest last, before one of them is made. Returns a
    directory that was made besides: only a create that fails later removes it. Raises SpecError and HostError; then
    nothing that was made is left.
    """
    plan = compile_rdt(rdt, container_id)
    resctrl = resctrl or probe_resctrl(pointer=plan.pointer)
    group = os.path.join(resctrl.path, plan.group).rstrip("/")
    monitoring = os.path.join(group, _MON_GROUPS, plan.monitoring_group) if plan.monitoring_group else ""
    with _locked(plan, resctrl):
        makes_group = not _check_group(plan, group, resctrl)
        if monitoring and os.path.isdir(monitoring):
            pointer = f"{plan.pointer}/enableMonitoring"
            raise HostError("mkdir", monitoring, errno.EEXIST, pointer=pointer)
        own = [group] if makes_group and not plan.explicit else []
        record([*own, monitoring] if monitoring else own)
        _enter(plan, resctrl, group if makes_group else "", group, monitoring, pid)
    return (group,) if makes_group and plan.explicit else ()


def _enter(plan: Rdt, resctrl: Resctrl, new_group: str, group: str, monitoring: str, pid: int) -> None:
    """Make what is to be made, and write; all or nothing."""
    made: list[str] = []
    try:
        if new_group:
            _make(resctrl, new_group, plan.pointer)
            made.append(new_group)
        for schema in plan.schemata:
            _write(resctrl, f"{group}/schemata", f"{schema.text}\n", schema.pointer)
        if monitoring:
            _make(resctrl, monitoring, f"{plan.pointer}/enableMonitoring")
            made.append(monitoring)
        # A process enters a monitoring group only from the group that this is in.
        for directory in (group, monitoring):
            if directory:
                _write(resctrl, f"{directory}/tasks", str(pid), plan.pointer)
    except BaseException:
        with contextlib.suppress(HostError):
            remove_rdt(made)
        raise


@contextlib.contextmanager
def _locked(plan: Rdt, resctrl: Resctrl) -> Iterator[None]:
    """resctrl.rst, "Locking": who changes groups has a lock on the top directory."""
    with _failure("flock", plan.pointer, path=resctrl.path):
        fd = os.open(resctrl.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _failure("flock", plan.pointer, path=resctrl.path):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def update_schemata(
    rdt: IntelRdt, container_id: str, l3_cache_schema: str | None, mem_bw_schema: str | None
) -> Callable[[], None]:
    """Give the container's group other schemata, by one write, which is all or nothing. Returns what undoes it.

    `rdt`: what the config says, which tells the group. Raises SpecError and HostError.
    """
    wanted = IntelRdt(clos_id=rdt.clos_id, l3_cache_schema=l3_cache_schema, mem_bw_schema=mem_bw_schema)
    plan = compile_rdt(wanted, container_id)
    resctrl = probe_resctrl(pointer=plan.pointer)
    path = os.path.join(resctrl.path, plan.group, "schemata")
    with _locked(plan, resctrl):
        before = _read(path, plan.pointer)
        _write(resctrl, path, "".join(f"{schema.text}\n" for schema in plan.schemata), plan.pointer)

    def undo() -> None:
        with _locked(plan, resctrl):
            _write(resctrl, path, before, plan.pointer)

    return undo


def remove_rdt(directories: Sequence[str]) -> None:
    """Remove groups, the last one first; one that isn't there is no error. Raises HostError."""
    for directory in reversed(directories):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError.of(error, "rmdir") from None


def _check_group(plan: Rdt, group: str, resctrl: Resctrl) -> bool:
    """Whether the group exists; an existing one that the config names has to be what the config says."""
    exists = os.path.isdir(group)
    if not plan.explicit:
        return exists
    if not exists:
        if not plan.schemata:
            hint = "a class of service without schemata must be there already"
            raise HostError("open", group, errno.ENOENT, pointer=f"{plan.pointer}/closID", hint=hint)
        return False
    compared = [schema for schema in plan.schemata if schema.compared]
    if compared:
        current = _parse(_read(f"{group}/schemata", plan.pointer))
        granularity = 0 if resctrl.in_mbps else _granularity(resctrl)
        for schema in compared:
            if not _matches(_parse(schema.text), current, granularity):
                raise SpecError(schema.pointer, f"the class of service {plan.group or ROOT_CLOS} has other schemata")
    return True


Domains = dict[str, str]


def _parse(text: str) -> dict[str, Domains]:
    """Per resource its domains and values, as in a `schemata` file: "L3:0=ff;1=f" gives {"L3": {"0": "ff", "1": "f"}}.

    The kernel pads names and values with blanks. Of two values for one domain the later counts, as in writing.
    """
    result: dict[str, Domains] = {}
    for line in text.splitlines():
        name, _, values = line.partition(":")
        domains = result.setdefault(name.strip(), {})
        for item in filter(None, (part.strip() for part in values.split(";"))):
            domain, _, value = item.partition("=")
            domains[domain.strip()] = value.strip()
    return result


def _matches(wanted: dict[str, Domains], current: dict[str, Domains], granularity: int) -> bool:
    """Whether writing `wanted` would change nothing."""
    for name, domains in wanted.items():
        for domain, value in domains.items():
            found = current.get(name, {}).get(domain)
            if found is None or not _same_value(name, value, found, granularity):
                return False
    return True


def _same_value(name: str, wanted: str, found: str, granularity: int) -> bool:
    """Bandwidths are decimal, and rounded up by the kernel to a multiple of the granularity; all others are masks."""
    try:
        if name not in ("MB", "SMBA"):
            return int(wanted, 16) == int(found, 16)
        asked, had = int(wanted), int(found)
    except ValueError:
        return wanted == found
    return asked == had or (granularity > 0 and -(-asked // granularity) * granularity == had)


def _granularity(resctrl: Resctrl) -> int:
    """Of memory bandwidth in percent; 0 where there is no such control."""
    try:
        return int(_read(f"{resctrl.path}/info/MB/bandwidth_gran", ""))
    except (HostError, ValueError):
        return 0


def _read(path: str, pointer: str) -> str:
    with _failure("read", pointer):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, encoding="utf-8", errors="replace") as file:
            return file.read()


def _make(resctrl: Resctrl, directory: str, pointer: str) -> None:
    with _failure("mkdir", pointer, resctrl):
        os.mkdir(directory, 0o755)


def _write(resctrl: Resctrl, path: str, text: str, pointer: str) -> None:
    """One write, which is what the kernel takes as one request."""
    with _failure("write", pointer, resctrl, path):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(fd, text.encode(errors="replace"))
        finally:
            os.close(fd)


@contextlib.contextmanager
def _failure(syscall: str, pointer: str, resctrl: Resctrl | None = None, path: str = "") -> Iterator[None]:
    """An OSError as a HostError with the pointer, and with the kernel's explanation where it has one."""
    try:
        yield
    except OSError as error:
        hint = ""
        if resctrl:
            with contextlib.suppress(OSError), open(f"{resctrl.path}/info/last_cmd_status") as status:
                hint = status.readline().strip()
        path = path or str(error.filename or "")
        raise HostError(syscall, path, error.errno or 0, pointer=pointer, hint="" if hint == "ok" else hint) from None
