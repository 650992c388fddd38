"""Loads the device filter and attaches it to a cgroup, through bpf(2).

Guarantees: the container's filter is never absent while it is replaced (BPF_F_REPLACE, Linux 5.6); filters that
someone else attached to the cgroup stay, since every one can only deny more; ours is known by its name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ocirt._native import ffi, lib
from ocirt.cgroup.devices import POINTER, DeviceFilter
from ocirt.errors import HostError

PROGRAM_NAME = "ocirt_devices"
_LOG_BYTES = 65536
# The verifier's log is written at an error alone: its pages are not even touched otherwise.
_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
_NEEDS = "the device filter needs CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN, in the initial user namespace"


def apply_device_filter(cgroup_fd: int, device_filter: DeviceFilter, *, rootless: bool = False) -> str | None:
    """LoadedFilter and its attach in one."""
    with closing(LoadedFilter(device_filter)) as loaded:
        return loaded.attach(cgroup_fd, rootless=rootless)


class LoadedFilter:
    """A filter that the kernel has checked and translated, which takes longer than to attach it. To be closed.

    Raises HostError with what the verifier said.
    """

    def __init__(self, device_filter: DeviceFilter) -> None:
        self._filter = device_filter
        self._fd = -1
        self._denied: HostError | None = None
        try:
            if not device_filter.allows_all:
                self._fd = _load(device_filter.program())
        except HostError as error:
            if error.errno != errno.EPERM:
                raise
            self._denied = error

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def attach(self, cgroup_fd: int, *, rootless: bool = False) -> str | None:
        """Attach it to the cgroup, in the place of the one that ocirt attached before, if any.

        Returns None, or a warning: without privileges the kernel lets nobody load a filter (kernel/bpf/syscall.c), nor
        make device nodes; there a rootless container has the user's own access to devices and its rules stay without
        effect. Raises HostError.
        """
        try:
            if self._denied:
                raise self._denied
            with _own_filters(cgroup_fd) as old:
                superfluous = old.copy()
                if not self._filter.allows_all:
                    replaced = superfluous.pop(0) if superfluous else -1
                    _check(lib.ocirt_bpf_attach_device_filter(cgroup_fd, self._fd, replaced), "BPF_PROG_ATTACH")
                for program_fd in superfluous:
                    _check(lib.ocirt_bpf_detach_device_filter(cgroup_fd, program_fd), "BPF_PROG_DETACH")
        except HostError as error:
            if error.errno != errno.EPERM:
                raise
            if self._filter.allows_all:
                return None
            if not rootless:
                raise HostError(error.syscall, error.path, error.errno, pointer=POINTER, hint=_NEEDS) from None
            return f"{POINTER}: not enforced: {_NEEDS}" if self._filter.asked else None
        return None


def _load(program: bytes) -> int:
    log = _new_uncleared("char[]", _LOG_BYTES)
    instructions = ffi.from_buffer(program)
    fd: int = lib.ocirt_bpf_load_device_filter(instructions, len(program) // 8, PROGRAM_NAME.encode(), log, _LOG_BYTES)
    if fd < 0:
        said = ffi.string(log).decode(errors="replace").strip()
        raise HostError("bpf", "BPF_PROG_LOAD", -fd, pointer=POINTER, hint=said[-400:])
    return fd


@contextmanager
def _own_filters(cgroup_fd: int) -> Iterator[list[int]]:
    """Descriptors of the device programs that ocirt attached to the cgroup itself."""
    own: list[int] = []
    try:
        for identifier in _attached(cgroup_fd):
            program_fd = lib.ocirt_bpf_open(identifier)
            # Detached meanwhile, or another's that a security module keeps from us.
            if program_fd in (-errno.ENOENT, -errno.EACCES, -errno.EPERM):
                continue
            own.append(_check(program_fd, "BPF_PROG_GET_FD_BY_ID"))
            if _name(program_fd) != PROGRAM_NAME:
                os.close(own.pop())
        yield own
    finally:
        for program_fd in own:
            os.close(program_fd)


def _attached(cgroup_fd: int) -> list[int]:
    # At most 64 programs can be attached (BPF_CGROUP_MAX_PROGS).
    ids = ffi.new("uint32_t[]", 64)
    count = _check(lib.ocirt_bpf_query_device_filters(cgroup_fd, ids, 64), "BPF_PROG_QUERY")
    return [ids[index] for index in range(min(count, 64))]


def _name(program_fd: int) -> str:
    name = ffi.new("char[]", 16)
    _check(lib.ocirt_bpf_name(program_fd, name), "BPF_OBJ_GET_INFO_BY_FD")
    text: bytes = ffi.string(name)
    return text.decode()


def _check(result: int, command: str) -> int:
    if result < 0:
        raise HostError("bpf", command, -result, pointer=POINTER)
    return result
