"""The operations of a plan: what ocirt-init can do, one class each.

A class `MaskPath` goes with `struct op_mask_path` in c_ext/plan.h, whose fields it has under the same names, and with
the C function op_mask_path(). `origin` is the JSON pointer of the property that asked for the operation ("" where the
specification itself does), `describe()` says in a few words what will be done; both stand in `ocirt plan` and in
errors.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

from ocirt import constants as k
from ocirt._native import lib

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _operation(cls: type[_Class]) -> type[_Class]:
    """A dataclass with slots, frozen for the type checker alone: a start makes a hundred of them, and to set the fields
    of one that is frozen at run time too takes ten times as long."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@_operation
class Op:
    """An operation. `tolerated` are the errnos (two at most) with which it counts as done."""

    origin: str
    tolerated: tuple[int, ...] = field(default=(), kw_only=True)

    def describe(self) -> str:
        raise NotImplementedError

    def phrase(self) -> tuple[str, str]:
        """What is done, and to what: operations in a row that do the same are printed together. "": never together."""
        return self.describe(), ""


@_operation
class Attributes:
    """Changes to a mount: MOUNT_ATTR_* to set and to clear, at its top and in its tree, and its MS_* propagation."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    recursive_propagation: int = 0

    def words(self) -> list[str]:
        """The option words of config.json that ask for this."""
        words = k.attribute_words(self.set, self.clear)
        words += ["r" + word for word in k.attribute_words(self.recursive_set, self.recursive_clear)]
        words += [k.PROPAGATION_NAMES[self.propagation]] if self.propagation else []
        words += ["r" + k.PROPAGATION_NAMES[self.recursive_propagation]] if self.recursive_propagation else []
        return words


NO_ATTRIBUTES = Attributes()


def _listed(words: list[str]) -> str:
    return f" ({','.join(words)})" if words else ""


# ---- files, mounts and devices


@_operation
class OpenProc(Op):
    def describe(self) -> str:
        return "open the runtime's /proc"


@_operation
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
        return "open", f"{self.path} as tree {self.slot}{_listed(words)}"


@_operation
class SetPropagation(Op):
    propagation: int
    recursive: bool

    def describe(self) -> str:
        return f"make / {'r' if self.recursive else ''}{k.PROPAGATION_NAMES[self.propagation]}"


@_operation
class AttachRoot(Op):
    path: str
    tree: int
    flags: int = 0

    def describe(self) -> str:
        return f"mount tree {self.tree} on {self.path} as the root"


@_operation
class OpenRoot(Op):
    path: str

    def describe(self) -> str:
        return f"open {self.path} as the root"


@_operation
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
        return f"mount {self.fstype} on {self.target}{_listed(words)}"


@_operation
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
        return "bind", f"tree {self.tree} on {self.target}{_listed(self.attributes.words())}"


@_operation
class CopySymlink(Op):
    source: str
    target: str

    def describe(self) -> str:
        return f"copy the symbolic link {self.source} to {self.target}"


@_operation
class Remount(Op):
    target: str
    options: tuple[str, ...] | None
    attributes: Attributes

    def describe(self) -> str:
        return f"remount {self.target}{_listed(self.attributes.words() + list(self.options or ()))}"


@_operation
class SetMountAttributes(Op):
    attributes: Attributes
    slot: int = lib.NO_SLOT

    def describe(self) -> str:
        where = "the root" if self.slot == lib.NO_SLOT else f"mount {self.slot}"
        return f"set {where} to {','.join(self.attributes.words())}"


@_operation
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


@_operation
class MakeSymlink(Op):
    path: str
    target: str
    flags: int = 0

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        return "link", f"{self.path} -> {self.target}"


@_operation
class Pivot(Op):
    kind: int

    def describe(self) -> str:
        return {
            lib.PIVOT_ROOT: "pivot into the root, detach the old one",
            lib.PIVOT_MOVE: "move the root over / and chroot",
            lib.PIVOT_CHROOT: "chroot into the root",
        }[self.kind]


@_operation
class MaskPath(Op):
    path: str

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        return "mask", self.path


@_operation
class MakeReadonly(Op):
    path: str

    def describe(self) -> str:
        return " ".join(self.phrase())

    def phrase(self) -> tuple[str, str]:
        return "make read-only", self.path


@_operation
class SetSysctl(Op):
    name: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.name} = {self.value}"


# ---- the process


@_operation
class SetHostname(Op):
    name: str

    def describe(self) -> str:
        return f"set hostname {self.name}"


@_operation
class SetDomainname(Op):
    name: str

    def describe(self) -> str:
        return f"set domainname {self.name}"


@_operation
class RaiseLoopback(Op):
    def describe(self) -> str:
        return "bring the loopback interface up"


@_operation
class SetOomScoreAdj(Op):
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj {self.value}"


@_operation
class JoinCgroup(Op):
    slot: int

    def describe(self) -> str:
        return f"join the cgroup in slot {self.slot}"


@_operation
class SetCpuAffinity(Op):
    mask: bytes

    def describe(self) -> str:
        return f"run on CPUs {k.bitmask_ranges(self.mask)}"


@_operation
class NewKeyring(Op):
    name: str
    label: str | None = None

    def describe(self) -> str:
        return f"join a new session keyring {self.name}"


@_operation
class SetRlimit(Op):
    resource: int
    soft: int
    hard: int

    def describe(self) -> str:
        soft, hard = ("unlimited" if v == k.RLIM_INFINITY else str(v) for v in (self.soft, self.hard))
        return f"set {k.RLIMIT_NAMES[self.resource]} {soft}:{hard}"


@_operation
class SetScheduler(Op):
    policy: int
    nice: int = 0
    priority: int = 0
    flags: int = 0
    runtime_nsec: int = 0
    deadline_nsec: int = 0
    period_nsec: int = 0

    def describe(self) -> str:
        name = next(name for name, value in k.SCHEDULER_POLICIES.items() if value == self.policy)
        return f"schedule as {name}, nice {self.nice}, priority {self.priority}"


@_operation
class SetIoPriority(Op):
    value: int

    def describe(self) -> str:
        return f"set I/O priority class {self.value >> 13}, level {self.value & 7}"


@_operation
class SetPersonality(Op):
    persona: int

    def describe(self) -> str:
        return f"set personality {self.persona:#x}"


@_operation
class SetMemoryPolicy(Op):
    mode: int
    nodes: bytes

    def describe(self) -> str:
        return f"set memory policy {self.mode:#x} on nodes {k.bitmask_ranges(self.nodes) or 'none'}"


@_operation
class SetUmask(Op):
    mask: int

    def describe(self) -> str:
        return f"set umask {self.mask:04o}"


@_operation
class SetApparmor(Op):
    profile: str

    def describe(self) -> str:
        return f"set AppArmor profile {self.profile}"


@_operation
class SetSelinux(Op):
    label: str

    def describe(self) -> str:
        return f"set SELinux label {self.label}"


@_operation
class SetNoNewPrivileges(Op):
    def describe(self) -> str:
        return "set no_new_privs"


@_operation
class LoadSeccomp(Op):
    filter: bytes
    flags: int
    listener: bool

    def describe(self) -> str:
        listener = ", send its listener" if self.listener else ""
        return f"load seccomp filter of {len(self.filter) // 8} instructions{listener}"


@_operation
class DropBounding(Op):
    keep: int

    def describe(self) -> str:
        return f"keep bounding capabilities {k.capability_words(self.keep)}"


@_operation
class SetUser(Op):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    flags: int = 0

    def describe(self) -> str:
        groups = "unchanged" if self.flags & lib.USER_KEEP_GROUPS else ",".join(map(str, self.groups)) or "none"
        return f"become user {self.uid}:{self.gid}, groups {groups}"


@_operation
class SetCapabilities(Op):
    effective: int
    permitted: int
    inheritable: int
    ambient: int

    def describe(self) -> str:
        by_value: dict[str, list[str]] = {}
        for name in ("effective", "permitted", "inheritable", "ambient"):
            by_value.setdefault(k.capability_words(getattr(self, name)), []).append(name)
        if len(by_value) == 1:
            return f"set capabilities: {next(iter(by_value))}"
        return "set capabilities: " + "; ".join(f"{' and '.join(names)} {words}" for words, names in by_value.items())


@_operation
class ChangeDirectory(Op):
    path: str
    flags: int

    def describe(self) -> str:
        made = ", made where it is missing" if self.flags & lib.CHDIR_CREATE else ""
        return f"enter directory {self.path}{' as the user' if self.flags & lib.CHDIR_AGAIN else made}"


@_operation
class FindHome(Op):
    uid: int

    def describe(self) -> str:
        return f"find HOME of uid {self.uid} in /etc/passwd"


@_operation
class OpenConsole(Op):
    rows: int
    columns: int
    flags: int
    uid: int

    def describe(self) -> str:
        size = f" of {self.columns}x{self.rows}" if self.rows or self.columns else ""
        return f"open a terminal{size}{' on /dev/console' if self.flags & lib.CONSOLE_BIND else ''}"


@_operation
class ChownStdio(Op):
    uid: int

    def describe(self) -> str:
        return f"give stdio to uid {self.uid}"


@_operation
class RunHook(Op):
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    state_head: str
    state_tail: str
    timeout_sec: int = 0

    def describe(self) -> str:
        return f"run hook {self.path}" + (f", at most {self.timeout_sec} s" if self.timeout_sec else "")


@_operation
class ResolveExecutable(Op):
    file: str
    search_path: str | None

    def describe(self) -> str:
        return f'exec: "{self.file}"'


@_operation
class CloseDescriptors(Op):
    start: int = lib.NO_SLOT
    result: int = lib.NO_SLOT

    def describe(self) -> str:
        return "close all other descriptors"


@_operation
class Sync(Op):
    kind: int

    def describe(self) -> str:
        return {
            lib.SYNC_NETDEVS: "have the network devices moved",
            lib.SYNC_RUNTIME_HOOKS: "have the prestart and createRuntime hooks run",
            lib.SYNC_READY: "ready: have the state saved",
        }[self.kind]


@_operation
class WaitStart(Op):
    start: int
    result: int

    def describe(self) -> str:
        return "wait for start"


@_operation
class Execute(Op):
    args: tuple[str, ...]
    env: tuple[str, ...]

    def describe(self) -> str:
        return f"execute {' '.join(self.args)}"
