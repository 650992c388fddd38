"""Files, mounts and devices (c_ext/mount.c, root.c, device.c)."""

from __future__ import annotations

import stat

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops.base import NO_ATTRIBUTES, Attributes, Op, listed, operation


@operation
class OpenProc(Op):
    def describe(self) -> str:
        return "open the runtime's /proc"


@operation
class OpenTree(Op):
    path: str
    flags: int
    slot: int

    def describe(self) -> str:
        return " ".join(self._parts())

    def phrase(self) -> tuple[str, str]:
        return (self.describe(), "") if self.origin else self._parts()

    def _parts(self) -> tuple[str, str]:
        words = [
            w for bit, w in ((lib.TREE_RECURSIVE, "recursive"), (lib.TREE_NOFOLLOW, "nofollow")) if self.flags & bit
        ]
        return "open", f"{self.path} as tree {self.slot}{listed(words)}"


@operation
class SetPropagation(Op):
    propagation: int
    recursive: bool

    def describe(self) -> str:
        return f"make / {'r' if self.recursive else ''}{k.PROPAGATION_NAMES[self.propagation]}"


@operation
class AttachRoot(Op):
    path: str
    tree: int
    flags: int = 0

    def describe(self) -> str:
        return f"mount tree {self.tree} on {self.path} as the root"


@operation
class OpenRoot(Op):
    path: str

    def describe(self) -> str:
        return f"open {self.path} as the root"


@operation
class MountFs(Op):
    fstype: str
    source: str
    target: str
    options: tuple[str, ...] = ()
    flags: int = 0
    slot: int = lib.NO_SLOT
    attributes: Attributes = NO_ATTRIBUTES

    def describe(self) -> str:
        # A superblock may be read-only as its mount is.
        words = list(dict.fromkeys((*self.attributes.words(), *self.options)))
        words += ["tmpcopyup"] if self.flags & lib.MOUNT_COPY_UP else []
        return f"mount {self.fstype} on {self.target}{listed(words)}"


@operation
class Bind(Op):
    target: str
    tree: int
    flags: int = 0
    slot: int = lib.NO_SLOT
    attributes: Attributes = NO_ATTRIBUTES

    def describe(self) -> str:
        return " ".join(self._parts())

    def phrase(self) -> tuple[str, str]:
        return (self.describe(), "") if self.origin else self._parts()

    def _parts(self) -> tuple[str, str]:
        return "bind", f"tree {self.tree} on {self.target}{listed(self.attributes.words())}"


@operation
class CopySymlink(Op):
    source: str
    target: str

    def describe(self) -> str:
        return f"copy the symbolic link {self.source} to {self.target}"


@operation
class Remount(Op):
    target: str
    options: tuple[str, ...] | None
    attributes: Attributes

    def describe(self) -> str:
        return f"remount {self.target}{listed(self.attributes.words() + list(self.options or ()))}"


@operation
class SetMountAttributes(Op):
    attributes: Attributes
    slot: int = lib.NO_SLOT

    def describe(self) -> str:
        where = "the root" if self.slot == lib.NO_SLOT else f"mount {self.slot}"
        return f"set {where} to {','.join(self.attributes.words())}"


@operation
class MakeDevice(Op):
    path: str
    mode: int
    major: int
    minor: int
    uid: int
    gid: int

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        owner = f", owner {self.uid}:{self.gid}" if self.uid or self.gid else ""
        kind = {stat.S_IFCHR: "char", stat.S_IFBLK: "block"}.get(stat.S_IFMT(self.mode))
        verb = f"make {kind} device" if kind else "make FIFO"
        numbers = f" {self.major}:{self.minor}" if kind else ""
        return f"{verb}, mode {stat.S_IMODE(self.mode):04o}{owner}:", self.path + numbers


@operation
class MakeSymlink(Op):
    path: str
    target: str
    flags: int = 0

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        return "link", f"{self.path} -> {self.target}"


@operation
class Pivot(Op):
    kind: int

    def describe(self) -> str:
        return {
            lib.PIVOT_ROOT: "pivot into the root, detach the old one",
            lib.PIVOT_MOVE: "move the root over / and chroot",
            lib.PIVOT_CHROOT: "chroot into the root",
        }[self.kind]


@operation
class MaskPath(Op):
    path: str

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        return "mask", self.path


@operation
class MakeReadonly(Op):
    path: str

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        return "make read-only", self.path


@operation
class SetSysctl(Op):
    name: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.name} = {self.value}"
