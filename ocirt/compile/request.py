"""What goes into the compiler beside the config and the host, and what comes out beside the plan.

A request is plain data from the command line and the state. A result's `needs` are the descriptors that the driver has
to open, in the order of the plan's first slots: the compiler says which, and opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ocirt.plan import Plan
from ocirt.seccomp import Filter
from ocirt.spec import IDMapping
from ocirt.usermap import UserMapping

UserMappings: TypeAlias = tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]
"""Of a user namespace: those of uids and of gids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedUser:
    """A user namespace that is joined: its mappings, as the runtime sees them, and its setgroups file."""

    uid_mappings: tuple[IDMapping, ...]
    gid_mappings: tuple[IDMapping, ...]
    setgroups_denied: bool = False

    @property
    def mappings(self) -> UserMappings:
        return self.uid_mappings, self.gid_mappings


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """For create and run. `bundle` and `rootfs` are absolute paths of the host.

    `state`: what hooks get on stdin (runtime.md#state), without status and pid. `listen_fds`: the caller's LISTEN_FDS,
    which come before those of --preserve-fds. `notify_directory`: of the host, bound on /run/notify. `cgroup`: the
    container's, as a path below the cgroup2 mount; None where it stays in the runtime's. `joined_user`: of the user
    namespace that the config joins; without it, the config's own mappings stand for that.
    """

    container_id: str
    bundle: str
    rootfs: str
    state: Mapping[str, object] = field(default_factory=dict)
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0
    listen_fds: int = 0
    notify_directory: str | None = None
    cgroup: str | None = None
    seccomp: Filter | None = None
    joined_user: JoinedUser | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """For exec. `rootfs` as in create. `namespaces`: CLONE_NEW* of those in which the container's init differs from us.

    `user`: the container's user namespace; None where it is the runtime's own.
    `pointer`: where the process stands, "" for a file of its own.
    """

    container_id: str
    rootfs: str
    namespaces: int
    no_new_keyring: bool = False
    preserve_fds: int = 0
    seccomp: Filter | None = None
    user: JoinedUser | None = None
    pointer: str = "/process"


@dataclass(frozen=True, slots=True)
class NamespacePath:
    """The namespace at a path, to be joined: to be checked for being of that type (NS_GET_NSTYPE)."""

    pointer: str
    type: str
    path: str


@dataclass(frozen=True, slots=True)
class IdmappedTree:
    """A detached copy of the mounts at a path, with ids mapped. `recursive`: with the mounts below; `map_recursive`:
    these are mapped too. The ids are those of `mapping`, or else of the user namespace at `user_namespace`."""

    pointer: str
    path: str
    recursive: bool
    map_recursive: bool
    nofollow: bool
    mapping: UserMapping | None
    user_namespace: str | None = None


@dataclass(frozen=True, slots=True)
class StartFifo:
    """The FIFO that `start` writes to, open for reading and writing, so that reading waits."""


@dataclass(frozen=True, slots=True)
class ResultFifo:
    """The FIFO that `start` reads from, open for reading and writing."""


@dataclass(frozen=True, slots=True)
class ContainerPidfd:
    """A pidfd of the container's init."""


@dataclass(frozen=True, slots=True)
class CgroupDirectory:
    """The directory of the cgroup to enter. Where it is needed, init must not be spawned into that cgroup."""


Need: TypeAlias = NamespacePath | IdmappedTree | StartFifo | ResultFifo | ContainerPidfd | CgroupDirectory


@dataclass(frozen=True, slots=True)
class Compiled:
    """`mapping` answers SYNC_MAPS, `time_offsets` is the text for timens_offsets at SYNC_TIMENS.

    A warning is a line that starts with its JSON pointer.
    """

    plan: Plan
    needs: tuple[Need, ...] = ()
    mapping: UserMapping | None = None
    time_offsets: str | None = None
    warnings: tuple[str, ...] = ()
