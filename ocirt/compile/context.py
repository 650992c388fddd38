"""What the compile functions share: the three inputs, what follows from them, and the numbering of slots.

Slots: first the descriptors that the driver opens (`needs`), then those that operations fill. A source that is opened
right before its bind uses the one scratch slot again and again; one that is opened in the host section, or a mount that
is held for later, has a slot of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ocirt import constants as k
from ocirt._native import lib
from ocirt.compile.mount_options import parse_options
from ocirt.compile.request import CreateRequest, ExecRequest, Need, UserMappings
from ocirt.errors import SpecError
from ocirt.host import Host
from ocirt.ops import Op, OpenTree
from ocirt.spec import Linux, Namespace, Spec

_NO_LINUX = Linux()


@dataclass(slots=True)
class Slots:
    """Numbers descriptors. The first ones are the needs'."""

    needs: list[Need] = field(default_factory=list)
    count: int = 0
    scratch: int = -1

    def need(self, need: Need) -> int:
        """The slot of a descriptor that the driver opens. All of them come before any other slot."""
        if self.count != len(self.needs):
            raise ValueError(f"{need} comes after operations have got slots")
        self.needs.append(need)
        return self.new(getattr(need, "pointer", ""))

    def new(self, pointer: str) -> int:
        if self.count == lib.PLAN_MAX_SLOTS:
            raise SpecError(pointer, f"needs more than the {lib.PLAN_MAX_SLOTS} descriptors that a plan may hold")
        self.count += 1
        return self.count - 1

    def shared_scratch(self) -> int:
        if self.scratch < 0:
            self.scratch = self.new("")
        return self.scratch


class Context:
    """`host_ops` and `entry_ops` are the host and the entry section, which any part of the compiler may add to."""

    def __init__(self, spec: Spec, host: Host, slots: Slots) -> None:
        self.spec = spec
        self.linux = spec.linux or _NO_LINUX
        self.host = host
        self.slots = slots
        self.host_ops: list[Op] = []
        self.entry_ops: list[Op] = []
        self.warnings: list[str] = []
        self.namespaces: dict[str, Namespace] = {entry.type: entry for entry in self.linux.namespaces}

    def warn(self, pointer: str, message: str) -> None:
        self.warnings.append(f"{pointer or '/'}: {message}")

    def is_new(self, kind: str) -> bool:
        """Whether the container gets a new namespace of the type."""
        return kind in self.namespaces and not self.namespaces[kind].path

    def is_joined(self, kind: str) -> bool:
        return kind in self.namespaces and bool(self.namespaces[kind].path)

    @property
    def has_user_namespace(self) -> bool:
        """Whether the container is in another user namespace than the runtime."""
        return "user" in self.namespaces

    @property
    def has_mount_namespace(self) -> bool:
        return "mount" in self.namespaces

    @property
    def shares_mounts(self) -> bool:
        """Whether mount events are to reach the host (config-linux.md#rootfs-mount-propagation)."""
        return self.linux.rootfs_propagation in ("shared", "rshared")

    @property
    def opens_in_host_section(self) -> bool:
        """Whether sources are opened before the namespaces are entered.

        The root of a user namespace may not reach them, and they may not be there in a mount namespace that is joined.
        """
        return self.host.privileged and (self.has_user_namespace or self.is_joined("mount"))

    @property
    def opens_at_entry(self) -> bool:
        """Whether sources are opened inside, by an unprivileged runtime, while it still is who it is outside.

        The container's root may be another of the user's ids, and its groups others than his.
        """
        return self.has_user_namespace and not self.host.privileged

    def open_source(self, pointer: str, path: str, *, recursive: bool, nofollow: bool = False) -> tuple[list[Op], int]:
        """Operations of the container section that open a path of the host, and the slot where it then is."""
        flags = (recursive and lib.TREE_RECURSIVE) | (nofollow and lib.TREE_NOFOLLOW)
        if self.opens_in_host_section or self.opens_at_entry:
            # A copy of a shared mount is of the same peer group: what the container mounts there would be the host's.
            slot = self.slots.new(pointer)
            section = self.host_ops if self.opens_in_host_section else self.entry_ops
            section.append(OpenTree(pointer, path, flags | lib.TREE_SLAVE, slot))
            return [], slot
        slot = self.slots.shared_scratch()
        return [OpenTree(pointer, path, flags, slot)], slot


class CreateContext(Context):
    """`mount_options`: those of each of the config's mounts, understood."""

    def __init__(self, spec: Spec, host: Host, request: CreateRequest) -> None:
        super().__init__(spec, host, Slots())
        self.request = request
        self.mount_options = [parse_options(mount.options) for mount in spec.mounts]

    def user_mappings(self) -> UserMappings | None:
        """The uid and gid mappings of the container's user namespace; None without one, or where they aren't known."""
        if not self.has_user_namespace:
            return None
        if self.is_joined("user") and self.request.joined_user:
            return self.request.joined_user.mappings
        if self.linux.uid_mappings and self.linux.gid_mappings:
            return self.linux.uid_mappings, self.linux.gid_mappings
        return None


class ExecContext(Context):
    def __init__(self, spec: Spec, host: Host, request: ExecRequest) -> None:
        super().__init__(spec, host, Slots())
        self.request = request

    @property
    def has_user_namespace(self) -> bool:
        return bool(self.request.namespaces & k.CLONE_NEWUSER)
