"""update: change the resources of a container, all that is asked for or nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from ocirt.cgroup.apply import apply_settings
from ocirt.cgroup.bpf import apply_device_filter
from ocirt.cgroup.controllers import require_controllers
from ocirt.cgroup.devices import compile_device_filter
from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.settings import Setting, asked_controllers
from ocirt.cgroup.update import (
    CONSULTED_FILES,
    Update,
    check_usage,
    compile_order,
    compile_update,
    probe_values,
    restore,
)
from ocirt.cli import Args, Context
from ocirt.errors import HostError, OcirtError, StateError, UsageError
from ocirt.host import probe_host
from ocirt.log import Logger
from ocirt.membership import require_cgroup, update_manager
from ocirt.record import Status
from ocirt.spec import decode, parse_resources, read_file
from ocirt.spec.load import MAX_BYTES
from ocirt.state import CONFIG, Container

# All that the container has, once an update has changed it; before, it is what config.json says.
RESOURCES = "resources.json"

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
# docker/go-units: a power of 1024 with or without a B behind it.
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?(?:([kmgtp])i?)?b?", re.ASCII | re.IGNORECASE)


def run(args: Args, context: Context) -> int:
    wanted = wanted_resources(args, context)
    parse_resources(wanted)  # for its errors, with the pointers of the file
    schemas = args.text("l3-cache-schema") or None, args.text("mem-bw-schema") or None
    container = context.store.load(args.positional[0])
    with container.locked():
        status = container.status()
        if status not in (Status.CREATED, Status.RUNNING, Status.PAUSED):
            raise StateError(f"container not running: {container.id} is {status}", code="state.not-running")
        with contextlib.ExitStack() as stack, _Undo(context.log) as undo:
            settings: tuple[Setting, ...] = ()
            if any(wanted.values()):
                cgroup = stack.enter_context(require_cgroup(container))
                settings = _update_cgroup(container, cgroup, wanted, context, undo)
            if any(schemas):
                undo.add(_update_rdt(container, *schemas))
            update_manager(container, settings)
    return 0


class _Undo:
    """What takes the steps back that were done, the last one first, when one fails. Raises nothing of its own."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def __enter__(self) -> _Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for step in reversed(self._steps if error else ()):
            try:
                step()
            except (OcirtError, OSError) as second:
                self._log.warning(f"not as it was before the update: {second}")


# ---- what is wanted


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError("an integer is needed")
    return int(text)


def _size(text: str) -> int:
    """Bytes: 512m, 1.5GiB, -1."""
    if text == "-1":
        return -1
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("a size such as 512m is needed, or -1 for no limit")
    number, unit = match.groups()
    factor = 1 << (" kmgtp".index(unit.lower()) * 10 if unit else 0)
    return int(float(number) * factor) if "." in number else int(number) * factor


_FLAGS: Mapping[str, tuple[str, str, Callable[[str], Any]]] = {
    "cpu-period": ("cpu", "period", _integer),
    "cpu-quota": ("cpu", "quota", _integer),
    "cpu-burst": ("cpu", "burst", _integer),
    "cpu-share": ("cpu", "shares", _integer),
    "cpu-rt-period": ("cpu", "realtimePeriod", _integer),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", _integer),
    "cpu-idle": ("cpu", "idle", _integer),
    "cpuset-cpus": ("cpu", "cpus", str),
    "cpuset-mems": ("cpu", "mems", str),
    "memory": ("memory", "limit", _size),
    "memory-reservation": ("memory", "reservation", _size),
    "memory-swap": ("memory", "swap", _size),
}


def wanted_resources(args: Args, context: Context) -> dict[str, Any]:
    """The resources that the command line asks for, as JSON has them, but for their types."""
    if source := args.text("resources"):
        raw = _read_stdin() if source == "-" else read_file(source)
        value = decode(raw, "the standard input" if source == "-" else source)
        parse_resources(value)
        assert isinstance(value, dict)
        return value
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if args.text(name):
            context.log.warning(f"--{name} is ignored: cgroup v2 counts the kernel's memory in --memory")
    wanted: dict[str, dict[str, Any]] = {}
    for flag, (group, name, parse) in _FLAGS.items():
        if text := args.text(flag):
            try:
                wanted.setdefault(group, {})[name] = parse(text)
            except ValueError as error:
                raise UsageError(f'invalid value "{text}" for flag --{flag}: {error}') from None
    if (limit := args.number("pids-limit")) is not None:
        wanted["pids"] = {"limit": limit}
    if weight := args.number("blkio-weight"):
        wanted["blockIO"] = {"weight": weight}
    return wanted


def _read_stdin() -> bytes:
    chunks = []
    left = MAX_BYTES + 1
    while left and (chunk := os.read(0, min(left, 1 << 16))):
        chunks.append(chunk)
        left -= len(chunk)
    if not left:
        raise HostError("read", "/dev/stdin", errno.EFBIG, hint=f"the limit is {MAX_BYTES} bytes")
    return b"".join(chunks)


# ---- what is done


def _update_cgroup(
    container: Container, cgroup: Cgroup, wanted: Mapping[str, Any], context: Context, undo: _Undo
) -> tuple[Setting, ...]:
    """Each step leaves behind what takes it back. Returns what was written."""
    saved = _saved_resources(container)
    has = _resources_of_config(container) if saved is None else saved
    update = compile_update(has, wanted)
    for notice in update.notices:
        context.log.debug(str(notice))
    before = probe_values(cgroup, (*update.files, *CONSULTED_FILES))
    check_usage(update, before)
    require_controllers(cgroup, asked_controllers(update.settings))
    settings = compile_order(update.settings, before)
    if len(settings) < len(update.settings):
        context.log.warning("/cpu/shares: recorded for when the cgroup is no longer idle, and has a weight again")
    undo.add(lambda: restore(cgroup, settings, before, context.log.warning))
    apply_settings(cgroup, settings)
    if update.devices:
        _update_devices(cgroup, update, has, context, undo)
    _save(container, update.resources)
    undo.add(lambda: _save(container, saved))
    return settings


def _saved_resources(container: Container) -> dict[str, Any] | None:
    try:
        saved = decode(container.read(RESOURCES), container.path(RESOURCES))
    except HostError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
    assert isinstance(saved, dict)
    return saved


def _resources_of_config(container: Container) -> Mapping[str, Any]:
    config = decode(container.read(CONFIG), container.path(CONFIG))
    resources = (config.get("linux") or {}).get("resources") or {}
    assert isinstance(resources, dict)
    return resources


def _save(container: Container, resources: Mapping[str, Any] | None) -> None:
    if resources is None:
        os.unlink(RESOURCES, dir_fd=container.dir_fd)
    else:
        container.write(RESOURCES, json.dumps(resources).encode())


def _update_devices(cgroup: Cgroup, update: Update, has: Mapping[str, Any], context: Context, undo: _Undo) -> None:
    rootless = probe_host(rootless=context.rootless).rootless
    old, new = (compile_device_filter(each.devices, "/devices") for each in (parse_resources(has), update.model))
    if warning := apply_device_filter(cgroup.fd, new, rootless=rootless):
        context.log.warning(warning)
    undo.add(lambda: apply_device_filter(cgroup.fd, old, rootless=rootless))


def _update_rdt(container: Container, l3_cache_schema: str | None, mem_bw_schema: str | None) -> Callable[[], None]:
    from ocirt.rdt import update_schemata
    from ocirt.savedspec import saved_spec

    linux = saved_spec(container).linux
    if linux is None or linux.intel_rdt is None:
        raise StateError("/linux/intelRdt: updating a non-existent Intel RDT configuration is not supported")
    return update_schemata(linux.intel_rdt, container.id, l3_cache_schema, mem_bw_schema)
