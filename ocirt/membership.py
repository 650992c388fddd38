"""A container's cgroup as its state records it: opened, asked, or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirt.cgroup.paths import REMOVED, probe_cgroup_host
from ocirt.errors import HostError, StateError, UsageError
from ocirt.pseudofile import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.cgroup.directory import Cgroup
    from ocirt.cgroup.manager import CgroupManager, CgroupRecord
    from ocirt.cgroup.settings import Setting
    from ocirt.state import Container


def open_cgroup(container: Container) -> Cgroup | None:
    """The container's cgroup, to be closed; None when it has none of its own, or no longer."""
    record = container.record.cgroup_record()
    return _manager(record).open(record) if record else None


def require_cgroup(container: Container) -> Cgroup:
    """The same for what cannot be done without one. Raises StateError."""
    cgroup = open_cgroup(container)
    if cgroup is None:
        raise StateError(f"container {container.id} has no cgroup of its own", code="cgroup.none")
    return cgroup


def is_frozen(path: str) -> bool:
    """Whether the processes in a container's cgroup are frozen, by whomever. Raises HostError.

    The path as it is recorded is enough: every status of a container asks this, and imports no manager for it.
    """
    host = probe_cgroup_host()
    if host is None:
        return False
    try:
        return "frozen 1" in read_text(f"{host.directory(path)}/cgroup.events").splitlines()
    except OSError as error:
        if error.errno in REMOVED:
            return False
        raise HostError.of(error, "read") from None


def open_cgroup_for_exec(container: Container, below: str | None) -> Cgroup | None:
    """The cgroup for another process: the one that init really is in, or the one at a path below the container's.

    Raises UsageError for a path that leads out of it, HostError where it cannot be opened.
    """
    record = container.record.cgroup_record()
    manager = _manager(record) if record else None
    if below is None:
        return manager.open_for_exec(record, container.record.pid) if manager and record else None
    cgroup = manager.open(record) if manager and record else None
    if cgroup is None:
        raise UsageError("--cgroup: the container has no cgroup of its own")
    parts = [part for part in below.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError(f'--cgroup: "{below}" must not contain ".."')
    return cgroup.open_below("/".join(parts))


def update_manager(container: Container, settings: Sequence[Setting]) -> None:
    """Tell the cgroup's manager what was written into its files. Raises HostError, StateError."""
    record = container.record.cgroup_record()
    if record and settings:
        _manager(record).update(record, settings)


def remove_cgroup(container: Container) -> None:
    """Kill the processes in the container's cgroup, wait for their end, remove what create made. Errors: HostError."""
    record = container.record.cgroup_record()
    if record:
        _manager(record).remove(record)


def processes(container: Container) -> list[int]:
    """The pids in the container's cgroup and those below it; without a cgroup of its own, its init's."""
    if container.record.cgroup is None:
        return [container.record.pid] if container.process() else []
    cgroup = open_cgroup(container)
    if cgroup is None:
        return []
    with cgroup:
        return cgroup.processes()


def _manager(record: CgroupRecord) -> CgroupManager:
    from ocirt.cgroup.manager import cgroup_manager

    return cgroup_manager(record.manager, probe_cgroup_host())
