"""The process (c_ext/cred.c, process.c, tty.c), hooks, syncs and the execution."""

from __future__ import annotations

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops.base import Op, operation


@operation
class SetHostname(Op):
    name: str

    def describe(self) -> str:
        return f"set hostname {self.name}"


@operation
class SetDomainname(Op):
    name: str

    def describe(self) -> str:
        return f"set domainname {self.name}"


@operation
class RaiseLoopback(Op):
    def describe(self) -> str:
        return "bring the loopback interface up"


@operation
class SetOomScoreAdj(Op):
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj {self.value}"


@operation
class JoinCgroup(Op):
    slot: int

    def describe(self) -> str:
        return f"join the cgroup in slot {self.slot}"


@operation
class SetCpuAffinity(Op):
    mask: bytes

    def describe(self) -> str:
        return f"run on CPUs {k.bitmask_ranges(self.mask)}"


@operation
class NewKeyring(Op):
    name: str
    label: str | None = None

    def describe(self) -> str:
        return f"join a new session keyring {self.name}"


@operation
class SetRlimit(Op):
    resource: int
    soft: int
    hard: int

    def describe(self) -> str:
        soft, hard = ("unlimited" if v == k.RLIM_INFINITY else str(v) for v in (self.soft, self.hard))
        return f"set {k.RLIMIT_NAMES[self.resource]} {soft}:{hard}"


@operation
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


@operation
class SetIoPriority(Op):
    value: int

    def describe(self) -> str:
        return f"set I/O priority class {self.value >> 13}, level {self.value & 7}"


@operation
class SetPersonality(Op):
    persona: int

    def describe(self) -> str:
        return f"set personality {self.persona:#x}"


@operation
class SetMemoryPolicy(Op):
    mode: int
    nodes: bytes

    def describe(self) -> str:
        return f"set memory policy {self.mode:#x} on nodes {k.bitmask_ranges(self.nodes) or 'none'}"


@operation
class SetUmask(Op):
    mask: int

    def describe(self) -> str:
        return f"set umask {self.mask:04o}"


@operation
class SetApparmor(Op):
    profile: str

    def describe(self) -> str:
        return f"set AppArmor profile {self.profile}"


@operation
class SetSelinux(Op):
    label: str

    def describe(self) -> str:
        return f"set SELinux label {self.label}"


@operation
class SetNoNewPrivileges(Op):
    def describe(self) -> str:
        return "set no_new_privs"


@operation
class LoadSeccomp(Op):
    filter: bytes
    flags: int
    listener: bool

    def describe(self) -> str:
        listener = ", send its listener" if self.listener else ""
        return f"load seccomp filter of {len(self.filter) // 8} instructions{listener}"


@operation
class DropBounding(Op):
    keep: int

    def describe(self) -> str:
        return f"keep bounding capabilities {k.capability_words(self.keep)}"


@operation
class SetUser(Op):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    flags: int = 0

    def describe(self) -> str:
        groups = "unchanged" if self.flags & lib.USER_KEEP_GROUPS else ",".join(map(str, self.groups)) or "none"
        return f"become user {self.uid}:{self.gid}, groups {groups}"


@operation
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


@operation
class ChangeDirectory(Op):
    path: str
    flags: int

    def describe(self) -> str:
        made = ", made where it is missing" if self.flags & lib.CHDIR_CREATE else ""
        return f"enter directory {self.path}{' as the user' if self.flags & lib.CHDIR_AGAIN else made}"


@operation
class FindHome(Op):
    uid: int

    def describe(self) -> str:
        return f"find HOME of uid {self.uid} in /etc/passwd"


@operation
class OpenConsole(Op):
    rows: int
    columns: int
    flags: int
    uid: int

    def describe(self) -> str:
        size = f" of {self.columns}x{self.rows}" if self.rows or self.columns else ""
        return f"open a terminal{size}{' on /dev/console' if self.flags & lib.CONSOLE_BIND else ''}"


@operation
class ChownStdio(Op):
    uid: int

    def describe(self) -> str:
        return f"give stdio to uid {self.uid}"


@operation
class RunHook(Op):
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    state_head: str
    state_tail: str
    timeout_sec: int = 0

    def describe(self) -> str:
        return f"run hook {self.path}" + (f", at most {self.timeout_sec} s" if self.timeout_sec else "")


@operation
class ResolveExecutable(Op):
    file: str
    search_path: str | None

    def describe(self) -> str:
        return f'exec: "{self.file}"'


@operation
class CloseDescriptors(Op):
    start: int = lib.NO_SLOT
    result: int = lib.NO_SLOT

    def describe(self) -> str:
        return "close all other descriptors"


@operation
class Sync(Op):
    kind: int

    def describe(self) -> str:
        return {
            lib.SYNC_NETDEVS: "have the network devices moved",
            lib.SYNC_RUNTIME_HOOKS: "have the prestart and createRuntime hooks run",
            lib.SYNC_DEVICES: "go on while the device filter is attached",
            lib.SYNC_READY: "ready: have the state saved",
        }[self.kind]


@operation
class WaitStart(Op):
    start: int
    result: int

    def describe(self) -> str:
        return "wait for start"


@operation
class Execute(Op):
    args: tuple[str, ...]
    env: tuple[str, ...]

    def describe(self) -> str:
        return f"execute {' '.join(self.args)}"
