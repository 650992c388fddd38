"""The model and the parser of config.json. Made by generate.py from schema/config.json: do not edit.

Guarantees: a value of these classes has exactly the declared types and ranges, all the way down. The parse_* functions
raise SpecError at the first problem. The rules are in values.py.
"""

# fmt: off
# ruff: noqa: A002, E501, RUF023
from __future__ import annotations

from dataclasses import dataclass

from ocirt.spec import values as v
from ocirt.spec.record import Record

_set = object.__setattr__


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Root(Record):
    """The root filesystem (config.md#root)."""

    __slots__ = (
        "path",
        "readonly",
    )

    # Absolute, or relative to the bundle.
    path: str
    readonly: bool

    def __init__(
        self,
        *,
        path: str,
        readonly: bool = False,
    ) -> None:
        _set(self, "path", path)
        _set(self, "readonly", readonly)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class ConsoleSize(Record):
    """The terminal's size in characters; ignored without a terminal."""

    __slots__ = (
        "height",
        "width",
    )

    height: int
    width: int

    def __init__(
        self,
        *,
        height: int,
        width: int,
    ) -> None:
        _set(self, "height", height)
        _set(self, "width", width)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class User(Record):
    """Ids as seen in the container (config.md#posix-platform-user)."""

    __slots__ = (
        "uid",
        "gid",
        "umask",
        "additional_gids",
    )

    uid: int
    gid: int
    umask: int | None
    additional_gids: tuple[int, ...]

    def __init__(
        self,
        *,
        uid: int,
        gid: int,
        umask: int | None = None,
        additional_gids: tuple[int, ...] = (),
    ) -> None:
        _set(self, "uid", uid)
        _set(self, "gid", gid)
        _set(self, "umask", umask)
        _set(self, "additional_gids", additional_gids)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Capabilities(Record):
    """The five sets of names such as CAP_KILL (capabilities(7))."""

    __slots__ = (
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    )

    bounding: tuple[str, ...]
    effective: tuple[str, ...]
    inheritable: tuple[str, ...]
    permitted: tuple[str, ...]
    ambient: tuple[str, ...]

    def __init__(
        self,
        *,
        bounding: tuple[str, ...] = (),
        effective: tuple[str, ...] = (),
        inheritable: tuple[str, ...] = (),
        permitted: tuple[str, ...] = (),
        ambient: tuple[str, ...] = (),
    ) -> None:
        _set(self, "bounding", bounding)
        _set(self, "effective", effective)
        _set(self, "inheritable", inheritable)
        _set(self, "permitted", permitted)
        _set(self, "ambient", ambient)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Rlimit(Record):
    """A resource limit of the process (getrlimit(2))."""

    __slots__ = (
        "type",
        "soft",
        "hard",
    )

    type: str
    soft: int
    hard: int

    def __init__(
        self,
        *,
        type: str,
        soft: int,
        hard: int,
    ) -> None:
        _set(self, "type", type)
        _set(self, "soft", soft)
        _set(self, "hard", hard)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Scheduler(Record):
    """sched_setattr(2)."""

    __slots__ = (
        "policy",
        "nice",
        "priority",
        "flags",
        "runtime",
        "deadline",
        "period",
    )

    policy: str
    nice: int
    priority: int
    flags: tuple[str, ...]
    # Nanoseconds.
    runtime: int
    # Nanoseconds.
    deadline: int
    # Nanoseconds.
    period: int

    def __init__(
        self,
        *,
        policy: str,
        nice: int = 0,
        priority: int = 0,
        flags: tuple[str, ...] = (),
        runtime: int = 0,
        deadline: int = 0,
        period: int = 0,
    ) -> None:
        _set(self, "policy", policy)
        _set(self, "nice", nice)
        _set(self, "priority", priority)
        _set(self, "flags", flags)
        _set(self, "runtime", runtime)
        _set(self, "deadline", deadline)
        _set(self, "period", period)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class IOPriority(Record):
    """ioprio_set(2)."""

    __slots__ = (
        "class_",
        "priority",
    )

    class_: str
    # 0 is the highest.
    priority: int

    def __init__(
        self,
        *,
        class_: str,
        priority: int,
    ) -> None:
        _set(self, "class_", class_)
        _set(self, "priority", priority)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class CPUAffinity(Record):
    """CPUs of processes that exec starts; init's are left alone."""

    __slots__ = (
        "initial",
        "final",
    )

    initial: str | None
    final: str | None

    def __init__(
        self,
        *,
        initial: str | None = None,
        final: str | None = None,
    ) -> None:
        _set(self, "initial", initial)
        _set(self, "final", final)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Process(Record):
    """The container's process (config.md#process)."""

    __slots__ = (
        "terminal",
        "console_size",
        "user",
        "args",
        "env",
        "cwd",
        "capabilities",
        "rlimits",
        "no_new_privileges",
        "apparmor_profile",
        "selinux_label",
        "oom_score_adj",
        "scheduler",
        "io_priority",
        "exec_cpu_affinity",
    )

    terminal: bool
    console_size: ConsoleSize | None
    user: User
    # argv; the first is searched for in the container's PATH.
    args: tuple[str, ...]
    # NAME=value.
    env: tuple[str, ...]
    cwd: str
    capabilities: Capabilities | None
    rlimits: tuple[Rlimit, ...]
    no_new_privileges: bool
    apparmor_profile: str | None
    selinux_label: str | None
    # Absent: left as it is.
    oom_score_adj: int | None
    scheduler: Scheduler | None
    io_priority: IOPriority | None
    exec_cpu_affinity: CPUAffinity | None

    def __init__(
        self,
        *,
        terminal: bool = False,
        console_size: ConsoleSize | None = None,
        user: User | None = None,
        args: tuple[str, ...],
        env: tuple[str, ...] = (),
        cwd: str,
        capabilities: Capabilities | None = None,
        rlimits: tuple[Rlimit, ...] = (),
        no_new_privileges: bool = False,
        apparmor_profile: str | None = None,
        selinux_label: str | None = None,
        oom_score_adj: int | None = None,
        scheduler: Scheduler | None = None,
        io_priority: IOPriority | None = None,
        exec_cpu_affinity: CPUAffinity | None = None,
    ) -> None:
        _set(self, "terminal", terminal)
        _set(self, "console_size", console_size)
        _set(self, "user", user or User(uid=0, gid=0))
        _set(self, "args", args)
        _set(self, "env", env)
        _set(self, "cwd", cwd)
        _set(self, "capabilities", capabilities)
        _set(self, "rlimits", rlimits)
        _set(self, "no_new_privileges", no_new_privileges)
        _set(self, "apparmor_profile", apparmor_profile)
        _set(self, "selinux_label", selinux_label)
        _set(self, "oom_score_adj", oom_score_adj)
        _set(self, "scheduler", scheduler)
        _set(self, "io_priority", io_priority)
        _set(self, "exec_cpu_affinity", exec_cpu_affinity)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class IDMapping(Record):
    """A range of ids and what it is mapped to (config-linux.md#user-namespace-mappings)."""

    __slots__ = (
        "container_id",
        "host_id",
        "size",
    )

    container_id: int
    host_id: int
    # At least 1; the kernel refuses an empty range.
    size: int

    def __init__(
        self,
        *,
        container_id: int,
        host_id: int,
        size: int,
    ) -> None:
        _set(self, "container_id", container_id)
        _set(self, "host_id", host_id)
        _set(self, "size", size)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Mount(Record):
    """An entry of mounts (config.md#mounts)."""

    __slots__ = (
        "destination",
        "source",
        "type",
        "options",
        "uid_mappings",
        "gid_mappings",
    )

    # In the container; a relative one is relative to /.
    destination: str
    # For a bind mount: absolute, or relative to the bundle.
    source: str | None
    type: str | None
    options: tuple[str, ...]
    uid_mappings: tuple[IDMapping, ...]
    gid_mappings: tuple[IDMapping, ...]

    def __init__(
        self,
        *,
        destination: str,
        source: str | None = None,
        type: str | None = None,
        options: tuple[str, ...] = (),
        uid_mappings: tuple[IDMapping, ...] = (),
        gid_mappings: tuple[IDMapping, ...] = (),
    ) -> None:
        _set(self, "destination", destination)
        _set(self, "source", source)
        _set(self, "type", type)
        _set(self, "options", options)
        _set(self, "uid_mappings", uid_mappings)
        _set(self, "gid_mappings", gid_mappings)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Hook(Record):
    """A program of the lifecycle (config.md#posix-platform-hooks)."""

    __slots__ = (
        "path",
        "args",
        "env",
        "timeout",
    )

    path: str
    # argv, with argv[0].
    args: tuple[str, ...]
    env: tuple[str, ...]
    # Seconds.
    timeout: int | None

    def __init__(
        self,
        *,
        path: str,
        args: tuple[str, ...] = (),
        env: tuple[str, ...] = (),
        timeout: int | None = None,
    ) -> None:
        _set(self, "path", path)
        _set(self, "args", args)
        _set(self, "env", env)
        _set(self, "timeout", timeout)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Hooks(Record):
    """config.md#posix-platform-hooks."""

    __slots__ = (
        "prestart",
        "create_runtime",
        "create_container",
        "start_container",
        "poststart",
        "poststop",
    )

    prestart: tuple[Hook, ...]
    create_runtime: tuple[Hook, ...]
    create_container: tuple[Hook, ...]
    start_container: tuple[Hook, ...]
    poststart: tuple[Hook, ...]
    poststop: tuple[Hook, ...]

    def __init__(
        self,
        *,
        prestart: tuple[Hook, ...] = (),
        create_runtime: tuple[Hook, ...] = (),
        create_container: tuple[Hook, ...] = (),
        start_container: tuple[Hook, ...] = (),
        poststart: tuple[Hook, ...] = (),
        poststop: tuple[Hook, ...] = (),
    ) -> None:
        _set(self, "prestart", prestart)
        _set(self, "create_runtime", create_runtime)
        _set(self, "create_container", create_container)
        _set(self, "start_container", start_container)
        _set(self, "poststart", poststart)
        _set(self, "poststop", poststop)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Namespace(Record):
    """config-linux.md#namespaces."""

    __slots__ = (
        "type",
        "path",
    )

    type: str
    # The one to join; absent: a new one.
    path: str | None

    def __init__(
        self,
        *,
        type: str,
        path: str | None = None,
    ) -> None:
        _set(self, "type", type)
        _set(self, "path", path)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class TimeOffset(Record):
    """What a clock of the container is ahead by (time_namespaces(7))."""

    __slots__ = (
        "secs",
        "nanosecs",
    )

    secs: int
    nanosecs: int

    def __init__(
        self,
        *,
        secs: int = 0,
        nanosecs: int = 0,
    ) -> None:
        _set(self, "secs", secs)
        _set(self, "nanosecs", nanosecs)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Device(Record):
    """A device node (config-linux.md#devices)."""

    __slots__ = (
        "path",
        "type",
        "major",
        "minor",
        "file_mode",
        "uid",
        "gid",
    )

    path: str
    type: str
    major: int | None
    minor: int | None
    # May carry the file's type, which the device's type stands for.
    file_mode: int | None
    uid: int | None
    gid: int | None

    def __init__(
        self,
        *,
        path: str,
        type: str,
        major: int | None = None,
        minor: int | None = None,
        file_mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        _set(self, "path", path)
        _set(self, "type", type)
        _set(self, "major", major)
        _set(self, "minor", minor)
        _set(self, "file_mode", file_mode)
        _set(self, "uid", uid)
        _set(self, "gid", gid)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class NetDevice(Record):
    """A network device to move into the container."""

    __slots__ = (
        "name",
    )

    # In the container; absent: the host's.
    name: str | None

    def __init__(
        self,
        *,
        name: str | None = None,
    ) -> None:
        _set(self, "name", name)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class DeviceRule(Record):
    """A rule of the device filter; later ones win."""

    __slots__ = (
        "allow",
        "type",
        "major",
        "minor",
        "access",
    )

    allow: bool
    # Absent: all.
    type: str | None
    # Absent or -1: all.
    major: int | None
    # Absent or -1: all.
    minor: int | None
    # Of r, w and m.
    access: str | None

    def __init__(
        self,
        *,
        allow: bool,
        type: str | None = None,
        major: int | None = None,
        minor: int | None = None,
        access: str | None = None,
    ) -> None:
        _set(self, "allow", allow)
        _set(self, "type", type)
        _set(self, "major", major)
        _set(self, "minor", minor)
        _set(self, "access", access)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Memory(Record):
    """config-linux.md#memory."""

    __slots__ = (
        "limit",
        "reservation",
        "swap",
        "kernel",
        "kernel_tcp",
        "swappiness",
        "disable_oom_killer",
        "use_hierarchy",
        "check_before_update",
    )

    # Bytes; -1 is unlimited.
    limit: int | None
    # Bytes; -1 is unlimited.
    reservation: int | None
    # Bytes of memory and swap together; -1 is unlimited.
    swap: int | None
    # Not in cgroup v2.
    kernel: int | None
    # Not in cgroup v2.
    kernel_tcp: int | None
    # 0 to 100. Not in cgroup v2 as Linux has it.
    swappiness: int | None
    disable_oom_killer: bool
    # Always so in cgroup v2.
    use_hierarchy: bool
    check_before_update: bool

    def __init__(
        self,
        *,
        limit: int | None = None,
        reservation: int | None = None,
        swap: int | None = None,
        kernel: int | None = None,
        kernel_tcp: int | None = None,
        swappiness: int | None = None,
        disable_oom_killer: bool = False,
        use_hierarchy: bool = True,
        check_before_update: bool = False,
    ) -> None:
        _set(self, "limit", limit)
        _set(self, "reservation", reservation)
        _set(self, "swap", swap)
        _set(self, "kernel", kernel)
        _set(self, "kernel_tcp", kernel_tcp)
        _set(self, "swappiness", swappiness)
        _set(self, "disable_oom_killer", disable_oom_killer)
        _set(self, "use_hierarchy", use_hierarchy)
        _set(self, "check_before_update", check_before_update)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class CPU(Record):
    """config-linux.md#cpu."""

    __slots__ = (
        "shares",
        "quota",
        "burst",
        "period",
        "realtime_runtime",
        "realtime_period",
        "cpus",
        "mems",
        "idle",
    )

    shares: int | None
    # Microseconds a period.
    quota: int | None
    # Microseconds a period.
    burst: int | None
    # Microseconds.
    period: int | None
    # Microseconds.
    realtime_runtime: int | None
    # Microseconds.
    realtime_period: int | None
    cpus: str | None
    mems: str | None
    idle: int | None

    def __init__(
        self,
        *,
        shares: int | None = None,
        quota: int | None = None,
        burst: int | None = None,
        period: int | None = None,
        realtime_runtime: int | None = None,
        realtime_period: int | None = None,
        cpus: str | None = None,
        mems: str | None = None,
        idle: int | None = None,
    ) -> None:
        _set(self, "shares", shares)
        _set(self, "quota", quota)
        _set(self, "burst", burst)
        _set(self, "period", period)
        _set(self, "realtime_runtime", realtime_runtime)
        _set(self, "realtime_period", realtime_period)
        _set(self, "cpus", cpus)
        _set(self, "mems", mems)
        _set(self, "idle", idle)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Pids(Record):
    """config-linux.md#pids."""

    __slots__ = (
        "limit",
    )

    # -1 is unlimited.
    limit: int | None

    def __init__(
        self,
        *,
        limit: int | None = None,
    ) -> None:
        _set(self, "limit", limit)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class WeightDevice(Record):
    """A block device's weight."""

    __slots__ = (
        "major",
        "minor",
        "weight",
        "leaf_weight",
    )

    major: int
    minor: int
    weight: int | None
    leaf_weight: int | None

    def __init__(
        self,
        *,
        major: int,
        minor: int,
        weight: int | None = None,
        leaf_weight: int | None = None,
    ) -> None:
        _set(self, "major", major)
        _set(self, "minor", minor)
        _set(self, "weight", weight)
        _set(self, "leaf_weight", leaf_weight)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class ThrottleDevice(Record):
    """A block device's limit."""

    __slots__ = (
        "major",
        "minor",
        "rate",
    )

    major: int
    minor: int
    rate: int

    def __init__(
        self,
        *,
        major: int,
        minor: int,
        rate: int,
    ) -> None:
        _set(self, "major", major)
        _set(self, "minor", minor)
        _set(self, "rate", rate)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class BlockIO(Record):
    """config-linux.md#block-io."""

    __slots__ = (
        "weight",
        "leaf_weight",
        "weight_device",
        "throttle_read_bps_device",
        "throttle_write_bps_device",
        "throttle_read_iops_device",
        "throttle_write_iops_device",
    )

    weight: int | None
    leaf_weight: int | None
    weight_device: tuple[WeightDevice, ...]
    # Bytes a second.
    throttle_read_bps_device: tuple[ThrottleDevice, ...]
    # Bytes a second.
    throttle_write_bps_device: tuple[ThrottleDevice, ...]
    # Operations a second.
    throttle_read_iops_device: tuple[ThrottleDevice, ...]
    # Operations a second.
    throttle_write_iops_device: tuple[ThrottleDevice, ...]

    def __init__(
        self,
        *,
        weight: int | None = None,
        leaf_weight: int | None = None,
        weight_device: tuple[WeightDevice, ...] = (),
        throttle_read_bps_device: tuple[ThrottleDevice, ...] = (),
        throttle_write_bps_device: tuple[ThrottleDevice, ...] = (),
        throttle_read_iops_device: tuple[ThrottleDevice, ...] = (),
        throttle_write_iops_device: tuple[ThrottleDevice, ...] = (),
    ) -> None:
        _set(self, "weight", weight)
        _set(self, "leaf_weight", leaf_weight)
        _set(self, "weight_device", weight_device)
        _set(self, "throttle_read_bps_device", throttle_read_bps_device)
        _set(self, "throttle_write_bps_device", throttle_write_bps_device)
        _set(self, "throttle_read_iops_device", throttle_read_iops_device)
        _set(self, "throttle_write_iops_device", throttle_write_iops_device)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class HugepageLimit(Record):
    """config-linux.md#huge-page-limits."""

    __slots__ = (
        "page_size",
        "limit",
    )

    page_size: str
    # Bytes.
    limit: int

    def __init__(
        self,
        *,
        page_size: str,
        limit: int,
    ) -> None:
        _set(self, "page_size", page_size)
        _set(self, "limit", limit)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class InterfacePriority(Record):
    """The priority of traffic through an interface."""

    __slots__ = (
        "name",
        "priority",
    )

    name: str
    priority: int

    def __init__(
        self,
        *,
        name: str,
        priority: int,
    ) -> None:
        _set(self, "name", name)
        _set(self, "priority", priority)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Network(Record):
    """config-linux.md#network."""

    __slots__ = (
        "class_id",
        "priorities",
    )

    class_id: int | None
    priorities: tuple[InterfacePriority, ...]

    def __init__(
        self,
        *,
        class_id: int | None = None,
        priorities: tuple[InterfacePriority, ...] = (),
    ) -> None:
        _set(self, "class_id", class_id)
        _set(self, "priorities", priorities)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class RDMA(Record):
    """Limits of an RDMA device (config-linux.md#rdma)."""

    __slots__ = (
        "hca_handles",
        "hca_objects",
    )

    hca_handles: int | None
    hca_objects: int | None

    def __init__(
        self,
        *,
        hca_handles: int | None = None,
        hca_objects: int | None = None,
    ) -> None:
        _set(self, "hca_handles", hca_handles)
        _set(self, "hca_objects", hca_objects)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Resources(Record):
    """Limits of the container's cgroup (config-linux.md#control-groups)."""

    __slots__ = (
        "devices",
        "memory",
        "cpu",
        "pids",
        "block_io",
        "hugepage_limits",
        "network",
        "rdma",
        "unified",
    )

    devices: tuple[DeviceRule, ...]
    memory: Memory | None
    cpu: CPU | None
    pids: Pids | None
    block_io: BlockIO | None
    hugepage_limits: tuple[HugepageLimit, ...]
    network: Network | None
    rdma: dict[str, RDMA]
    # Files of the cgroup and what is written to them.
    unified: dict[str, str]

    def __init__(
        self,
        *,
        devices: tuple[DeviceRule, ...] = (),
        memory: Memory | None = None,
        cpu: CPU | None = None,
        pids: Pids | None = None,
        block_io: BlockIO | None = None,
        hugepage_limits: tuple[HugepageLimit, ...] = (),
        network: Network | None = None,
        rdma: dict[str, RDMA] | None = None,
        unified: dict[str, str] | None = None,
    ) -> None:
        _set(self, "devices", devices)
        _set(self, "memory", memory)
        _set(self, "cpu", cpu)
        _set(self, "pids", pids)
        _set(self, "block_io", block_io)
        _set(self, "hugepage_limits", hugepage_limits)
        _set(self, "network", network)
        _set(self, "rdma", rdma or {})
        _set(self, "unified", unified or {})


@dataclass(init=False, repr=False, eq=False, match_args=False)
class IntelRdt(Record):
    """config-linux.md#intelrdt."""

    __slots__ = (
        "clos_id",
        "schemata",
        "l3_cache_schema",
        "mem_bw_schema",
        "enable_monitoring",
    )

    clos_id: str | None
    schemata: tuple[str, ...]
    l3_cache_schema: str | None
    mem_bw_schema: str | None
    enable_monitoring: bool

    def __init__(
        self,
        *,
        clos_id: str | None = None,
        schemata: tuple[str, ...] = (),
        l3_cache_schema: str | None = None,
        mem_bw_schema: str | None = None,
        enable_monitoring: bool = False,
    ) -> None:
        _set(self, "clos_id", clos_id)
        _set(self, "schemata", schemata)
        _set(self, "l3_cache_schema", l3_cache_schema)
        _set(self, "mem_bw_schema", mem_bw_schema)
        _set(self, "enable_monitoring", enable_monitoring)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class MemoryPolicy(Record):
    """set_mempolicy(2)."""

    __slots__ = (
        "mode",
        "nodes",
        "flags",
    )

    mode: str
    nodes: str | None
    flags: tuple[str, ...]

    def __init__(
        self,
        *,
        mode: str,
        nodes: str | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        _set(self, "mode", mode)
        _set(self, "nodes", nodes)
        _set(self, "flags", flags)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class SyscallArg(Record):
    """A comparison with a system call's argument."""

    __slots__ = (
        "index",
        "value",
        "value_two",
        "op",
    )

    index: int
    value: int
    value_two: int
    op: str

    def __init__(
        self,
        *,
        index: int,
        value: int,
        value_two: int = 0,
        op: str,
    ) -> None:
        _set(self, "index", index)
        _set(self, "value", value)
        _set(self, "value_two", value_two)
        _set(self, "op", op)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Syscall(Record):
    """A rule: what happens at these system calls."""

    __slots__ = (
        "names",
        "action",
        "errno_ret",
        "args",
    )

    names: tuple[str, ...]
    action: str
    errno_ret: int | None
    args: tuple[SyscallArg, ...]

    def __init__(
        self,
        *,
        names: tuple[str, ...],
        action: str,
        errno_ret: int | None = None,
        args: tuple[SyscallArg, ...] = (),
    ) -> None:
        _set(self, "names", names)
        _set(self, "action", action)
        _set(self, "errno_ret", errno_ret)
        _set(self, "args", args)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Seccomp(Record):
    """The system call filter (config-linux.md#seccomp)."""

    __slots__ = (
        "default_action",
        "default_errno_ret",
        "architectures",
        "flags",
        "listener_path",
        "listener_metadata",
        "syscalls",
    )

    default_action: str
    default_errno_ret: int | None
    architectures: tuple[str, ...]
    # The default is what runc and crun set.
    flags: tuple[str, ...]
    listener_path: str | None
    listener_metadata: str | None
    syscalls: tuple[Syscall, ...]

    def __init__(
        self,
        *,
        default_action: str,
        default_errno_ret: int | None = None,
        architectures: tuple[str, ...] = (),
        flags: tuple[str, ...] = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",),
        listener_path: str | None = None,
        listener_metadata: str | None = None,
        syscalls: tuple[Syscall, ...] = (),
    ) -> None:
        _set(self, "default_action", default_action)
        _set(self, "default_errno_ret", default_errno_ret)
        _set(self, "architectures", architectures)
        _set(self, "flags", flags)
        _set(self, "listener_path", listener_path)
        _set(self, "listener_metadata", listener_metadata)
        _set(self, "syscalls", syscalls)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Personality(Record):
    """personality(2)."""

    __slots__ = (
        "domain",
        "flags",
    )

    domain: str
    # None is defined so far.
    flags: tuple[str, ...]

    def __init__(
        self,
        *,
        domain: str,
        flags: tuple[str, ...] = (),
    ) -> None:
        _set(self, "domain", domain)
        _set(self, "flags", flags)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Linux(Record):
    """The Linux part (config-linux.md)."""

    __slots__ = (
        "namespaces",
        "uid_mappings",
        "gid_mappings",
        "time_offsets",
        "devices",
        "net_devices",
        "cgroups_path",
        "resources",
        "intel_rdt",
        "memory_policy",
        "sysctl",
        "seccomp",
        "rootfs_propagation",
        "masked_paths",
        "readonly_paths",
        "mount_label",
        "personality",
    )

    namespaces: tuple[Namespace, ...]
    uid_mappings: tuple[IDMapping, ...]
    gid_mappings: tuple[IDMapping, ...]
    # By clock: monotonic, boottime.
    time_offsets: dict[str, TimeOffset]
    devices: tuple[Device, ...]
    # By name on the host.
    net_devices: dict[str, NetDevice]
    cgroups_path: str | None
    resources: Resources | None
    intel_rdt: IntelRdt | None
    memory_policy: MemoryPolicy | None
    sysctl: dict[str, str]
    seccomp: Seccomp | None
    rootfs_propagation: str | None
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    mount_label: str | None
    personality: Personality | None

    def __init__(
        self,
        *,
        namespaces: tuple[Namespace, ...] = (),
        uid_mappings: tuple[IDMapping, ...] = (),
        gid_mappings: tuple[IDMapping, ...] = (),
        time_offsets: dict[str, TimeOffset] | None = None,
        devices: tuple[Device, ...] = (),
        net_devices: dict[str, NetDevice] | None = None,
        cgroups_path: str | None = None,
        resources: Resources | None = None,
        intel_rdt: IntelRdt | None = None,
        memory_policy: MemoryPolicy | None = None,
        sysctl: dict[str, str] | None = None,
        seccomp: Seccomp | None = None,
        rootfs_propagation: str | None = None,
        masked_paths: tuple[str, ...] = (),
        readonly_paths: tuple[str, ...] = (),
        mount_label: str | None = None,
        personality: Personality | None = None,
    ) -> None:
        _set(self, "namespaces", namespaces)
        _set(self, "uid_mappings", uid_mappings)
        _set(self, "gid_mappings", gid_mappings)
        _set(self, "time_offsets", time_offsets or {})
        _set(self, "devices", devices)
        _set(self, "net_devices", net_devices or {})
        _set(self, "cgroups_path", cgroups_path)
        _set(self, "resources", resources)
        _set(self, "intel_rdt", intel_rdt)
        _set(self, "memory_policy", memory_policy)
        _set(self, "sysctl", sysctl or {})
        _set(self, "seccomp", seccomp)
        _set(self, "rootfs_propagation", rootfs_propagation)
        _set(self, "masked_paths", masked_paths)
        _set(self, "readonly_paths", readonly_paths)
        _set(self, "mount_label", mount_label)
        _set(self, "personality", personality)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Spec(Record):
    """config.json of the OCI runtime specification 1.3 for a Linux container."""

    __slots__ = (
        "oci_version",
        "root",
        "process",
        "hostname",
        "domainname",
        "mounts",
        "hooks",
        "annotations",
        "linux",
    )

    oci_version: str
    root: Root
    process: Process | None
    hostname: str | None
    domainname: str | None
    mounts: tuple[Mount, ...]
    hooks: Hooks | None
    annotations: dict[str, str]
    linux: Linux | None

    def __init__(
        self,
        *,
        oci_version: str,
        root: Root,
        process: Process | None = None,
        hostname: str | None = None,
        domainname: str | None = None,
        mounts: tuple[Mount, ...] = (),
        hooks: Hooks | None = None,
        annotations: dict[str, str] | None = None,
        linux: Linux | None = None,
    ) -> None:
        _set(self, "oci_version", oci_version)
        _set(self, "root", root)
        _set(self, "process", process)
        _set(self, "hostname", hostname)
        _set(self, "domainname", domainname)
        _set(self, "mounts", mounts)
        _set(self, "hooks", hooks)
        _set(self, "annotations", annotations or {})
        _set(self, "linux", linux)


_RLIMIT_TYPE = (
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
)

_SCHEDULER_POLICY = (
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
)

_SCHEDULER_FLAGS = (
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
)

_IO_PRIORITY_CLASS_ = (
    "IOPRIO_CLASS_RT",
    "IOPRIO_CLASS_BE",
    "IOPRIO_CLASS_IDLE",
)

_NAMESPACE_TYPE = (
    "pid",
    "network",
    "mount",
    "ipc",
    "uts",
    "user",
    "cgroup",
    "time",
)

_DEVICE_TYPE = (
    "c",
    "b",
    "u",
    "p",
)

_DEVICE_RULE_TYPE = (
    "a",
    "b",
    "c",
)

_MEMORY_POLICY_MODE = (
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)

_MEMORY_POLICY_FLAGS = (
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
)

_SECCOMP_DEFAULT_ACTION = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)

_SECCOMP_ARCHITECTURES = (
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
)

_SECCOMP_FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)

_SYSCALL_ARG_OP = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)

_LINUX_ROOTFS_PROPAGATION = (
    "private",
    "shared",
    "slave",
    "unbindable",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
)

_PERSONALITY_DOMAIN = (
    "LINUX",
    "LINUX32",
)


def _root(value: object, at: str) -> Root:
    o = v.json_object(value, at)
    return Root(
        path=v.string(o, "path", at),
        readonly=v.boolean(o, "readonly", at) if "readonly" in o else False,
    )


def _console_size(value: object, at: str) -> ConsoleSize:
    o = v.json_object(value, at)
    return ConsoleSize(
        height=v.integer(o, "height", at, 0, 18446744073709551615),
        width=v.integer(o, "width", at, 0, 18446744073709551615),
    )


def _user(value: object, at: str) -> User:
    o = v.json_object(value, at)
    return User(
        uid=v.integer(o, "uid", at, 0, 4294967294),
        gid=v.integer(o, "gid", at, 0, 4294967294),
        umask=v.integer(o, "umask", at, 0, 4294967295) if "umask" in o else None,
        additional_gids=v.integers(o, "additionalGids", at, 0, 4294967294, True) if "additionalGids" in o else (),
    )


def _capabilities(value: object, at: str) -> Capabilities:
    o = v.json_object(value, at)
    return Capabilities(
        bounding=v.strings(o, "bounding", at, False) if "bounding" in o else (),
        effective=v.strings(o, "effective", at, False) if "effective" in o else (),
        inheritable=v.strings(o, "inheritable", at, False) if "inheritable" in o else (),
        permitted=v.strings(o, "permitted", at, False) if "permitted" in o else (),
        ambient=v.strings(o, "ambient", at, False) if "ambient" in o else (),
    )


def _rlimit(value: object, at: str) -> Rlimit:
    o = v.json_object(value, at)
    return Rlimit(
        type=v.choice(o, "type", at, _RLIMIT_TYPE),
        soft=v.integer(o, "soft", at, 0, 18446744073709551615),
        hard=v.integer(o, "hard", at, 0, 18446744073709551615),
    )


def _scheduler(value: object, at: str) -> Scheduler:
    o = v.json_object(value, at)
    return Scheduler(
        policy=v.choice(o, "policy", at, _SCHEDULER_POLICY),
        nice=v.integer(o, "nice", at, -2147483648, 2147483647) if "nice" in o else 0,
        priority=v.integer(o, "priority", at, -2147483648, 2147483647) if "priority" in o else 0,
        flags=v.choices_of(o, "flags", at, _SCHEDULER_FLAGS, True) if "flags" in o else (),
        runtime=v.integer(o, "runtime", at, 0, 18446744073709551615) if "runtime" in o else 0,
        deadline=v.integer(o, "deadline", at, 0, 18446744073709551615) if "deadline" in o else 0,
        period=v.integer(o, "period", at, 0, 18446744073709551615) if "period" in o else 0,
    )


def _io_priority(value: object, at: str) -> IOPriority:
    o = v.json_object(value, at)
    return IOPriority(
        class_=v.choice(o, "class", at, _IO_PRIORITY_CLASS_),
        priority=v.integer(o, "priority", at, 0, 7),
    )


def _cpu_affinity(value: object, at: str) -> CPUAffinity:
    o = v.json_object(value, at)
    return CPUAffinity(
        initial=v.string(o, "initial", at) or None if "initial" in o else None,
        final=v.string(o, "final", at) or None if "final" in o else None,
    )


def _process(value: object, at: str) -> Process:
    o = v.json_object(value, at)
    return Process(
        terminal=v.boolean(o, "terminal", at) if "terminal" in o else False,
        console_size=v.nullable_object(o, "consoleSize", at, _console_size) if "consoleSize" in o else None,
        user=v.required_object(o, "user", at, _user) if "user" in o else None,
        args=v.some_strings(o, "args", at),
        env=v.strings(o, "env", at, True) if "env" in o else (),
        cwd=v.string(o, "cwd", at),
        capabilities=v.required_object(o, "capabilities", at, _capabilities) if "capabilities" in o else None,
        rlimits=v.objects(o, "rlimits", at, _rlimit, False) if "rlimits" in o else (),
        no_new_privileges=v.boolean(o, "noNewPrivileges", at) if "noNewPrivileges" in o else False,
        apparmor_profile=v.string(o, "apparmorProfile", at) or None if "apparmorProfile" in o else None,
        selinux_label=v.string(o, "selinuxLabel", at) or None if "selinuxLabel" in o else None,
        oom_score_adj=v.integer(o, "oomScoreAdj", at, -1000, 1000) if "oomScoreAdj" in o else None,
        scheduler=v.nullable_object(o, "scheduler", at, _scheduler) if "scheduler" in o else None,
        io_priority=v.nullable_object(o, "ioPriority", at, _io_priority) if "ioPriority" in o else None,
        exec_cpu_affinity=v.nullable_object(o, "execCPUAffinity", at, _cpu_affinity) if "execCPUAffinity" in o else None,
    )


def _id_mapping(value: object, at: str) -> IDMapping:
    o = v.json_object(value, at)
    return IDMapping(
        container_id=v.integer(o, "containerID", at, 0, 4294967294),
        host_id=v.integer(o, "hostID", at, 0, 4294967294),
        size=v.integer(o, "size", at, 1, 4294967295),
    )


def _mount(value: object, at: str) -> Mount:
    o = v.json_object(value, at)
    return Mount(
        destination=v.string(o, "destination", at),
        source=v.string(o, "source", at) or None if "source" in o else None,
        type=v.string(o, "type", at) or None if "type" in o else None,
        options=v.strings(o, "options", at, True) if "options" in o else (),
        uid_mappings=v.objects(o, "uidMappings", at, _id_mapping, False) if "uidMappings" in o else (),
        gid_mappings=v.objects(o, "gidMappings", at, _id_mapping, False) if "gidMappings" in o else (),
    )


def _hook(value: object, at: str) -> Hook:
    o = v.json_object(value, at)
    return Hook(
        path=v.string(o, "path", at),
        args=v.strings(o, "args", at, True) if "args" in o else (),
        env=v.strings(o, "env", at, True) if "env" in o else (),
        timeout=v.integer(o, "timeout", at, 1, 2147483647) if "timeout" in o else None,
    )


def _hooks(value: object, at: str) -> Hooks:
    o = v.json_object(value, at)
    return Hooks(
        prestart=v.objects(o, "prestart", at, _hook, True) if "prestart" in o else (),
        create_runtime=v.objects(o, "createRuntime", at, _hook, True) if "createRuntime" in o else (),
        create_container=v.objects(o, "createContainer", at, _hook, True) if "createContainer" in o else (),
        start_container=v.objects(o, "startContainer", at, _hook, True) if "startContainer" in o else (),
        poststart=v.objects(o, "poststart", at, _hook, True) if "poststart" in o else (),
        poststop=v.objects(o, "poststop", at, _hook, True) if "poststop" in o else (),
    )


def _namespace(value: object, at: str) -> Namespace:
    o = v.json_object(value, at)
    return Namespace(
        type=v.choice(o, "type", at, _NAMESPACE_TYPE),
        path=v.string(o, "path", at) or None if "path" in o else None,
    )


def _time_offset(value: object, at: str) -> TimeOffset:
    o = v.json_object(value, at)
    return TimeOffset(
        secs=v.integer(o, "secs", at, -9223372036854775808, 9223372036854775807) if "secs" in o else 0,
        nanosecs=v.integer(o, "nanosecs", at, 0, 999999999) if "nanosecs" in o else 0,
    )


def _device(value: object, at: str) -> Device:
    o = v.json_object(value, at)
    return Device(
        path=v.string(o, "path", at),
        type=v.choice(o, "type", at, _DEVICE_TYPE),
        major=v.integer(o, "major", at, -9223372036854775808, 9223372036854775807) if "major" in o else None,
        minor=v.integer(o, "minor", at, -9223372036854775808, 9223372036854775807) if "minor" in o else None,
        file_mode=v.integer(o, "fileMode", at, 0, 4294967295) if "fileMode" in o else None,
        uid=v.integer(o, "uid", at, 0, 4294967294) if "uid" in o else None,
        gid=v.integer(o, "gid", at, 0, 4294967294) if "gid" in o else None,
    )


def _net_device(value: object, at: str) -> NetDevice:
    o = v.json_object(value, at)
    return NetDevice(
        name=v.string(o, "name", at) or None if "name" in o else None,
    )


def _device_rule(value: object, at: str) -> DeviceRule:
    o = v.json_object(value, at)
    return DeviceRule(
        allow=v.boolean(o, "allow", at),
        type=v.choice(o, "type", at, _DEVICE_RULE_TYPE) if "type" in o else None,
        major=v.integer(o, "major", at, -9223372036854775808, 9223372036854775807) if "major" in o else None,
        minor=v.integer(o, "minor", at, -9223372036854775808, 9223372036854775807) if "minor" in o else None,
        access=v.string(o, "access", at) or None if "access" in o else None,
    )


def _memory(value: object, at: str) -> Memory:
    o = v.json_object(value, at)
    return Memory(
        limit=v.integer(o, "limit", at, -9223372036854775808, 9223372036854775807) if "limit" in o else None,
        reservation=v.integer(o, "reservation", at, -9223372036854775808, 9223372036854775807) if "reservation" in o else None,
        swap=v.integer(o, "swap", at, -9223372036854775808, 9223372036854775807) if "swap" in o else None,
        kernel=v.integer(o, "kernel", at, -9223372036854775808, 9223372036854775807) if "kernel" in o else None,
        kernel_tcp=v.integer(o, "kernelTCP", at, -9223372036854775808, 9223372036854775807) if "kernelTCP" in o else None,
        swappiness=v.integer(o, "swappiness", at, 0, 18446744073709551615) if "swappiness" in o else None,
        disable_oom_killer=v.boolean(o, "disableOOMKiller", at) if "disableOOMKiller" in o else False,
        use_hierarchy=v.boolean(o, "useHierarchy", at) if "useHierarchy" in o else True,
        check_before_update=v.boolean(o, "checkBeforeUpdate", at) if "checkBeforeUpdate" in o else False,
    )


def _cpu(value: object, at: str) -> CPU:
    o = v.json_object(value, at)
    return CPU(
        shares=v.integer(o, "shares", at, 0, 18446744073709551615) if "shares" in o else None,
        quota=v.integer(o, "quota", at, -9223372036854775808, 9223372036854775807) if "quota" in o else None,
        burst=v.integer(o, "burst", at, 0, 18446744073709551615) if "burst" in o else None,
        period=v.integer(o, "period", at, 0, 18446744073709551615) if "period" in o else None,
        realtime_runtime=v.integer(o, "realtimeRuntime", at, -9223372036854775808, 9223372036854775807) if "realtimeRuntime" in o else None,
        realtime_period=v.integer(o, "realtimePeriod", at, 0, 18446744073709551615) if "realtimePeriod" in o else None,
        cpus=v.string(o, "cpus", at) or None if "cpus" in o else None,
        mems=v.string(o, "mems", at) or None if "mems" in o else None,
        idle=v.integer(o, "idle", at, -9223372036854775808, 9223372036854775807) if "idle" in o else None,
    )


def _pids(value: object, at: str) -> Pids:
    o = v.json_object(value, at)
    return Pids(
        limit=v.integer(o, "limit", at, -9223372036854775808, 9223372036854775807) if "limit" in o else None,
    )


def _weight_device(value: object, at: str) -> WeightDevice:
    o = v.json_object(value, at)
    return WeightDevice(
        major=v.integer(o, "major", at, -9223372036854775808, 9223372036854775807),
        minor=v.integer(o, "minor", at, -9223372036854775808, 9223372036854775807),
        weight=v.integer(o, "weight", at, 0, 65535) if "weight" in o else None,
        leaf_weight=v.integer(o, "leafWeight", at, 0, 65535) if "leafWeight" in o else None,
    )


def _throttle_device(value: object, at: str) -> ThrottleDevice:
    o = v.json_object(value, at)
    return ThrottleDevice(
        major=v.integer(o, "major", at, -9223372036854775808, 9223372036854775807),
        minor=v.integer(o, "minor", at, -9223372036854775808, 9223372036854775807),
        rate=v.integer(o, "rate", at, 0, 18446744073709551615),
    )


def _block_io(value: object, at: str) -> BlockIO:
    o = v.json_object(value, at)
    return BlockIO(
        weight=v.integer(o, "weight", at, 0, 65535) if "weight" in o else None,
        leaf_weight=v.integer(o, "leafWeight", at, 0, 65535) if "leafWeight" in o else None,
        weight_device=v.objects(o, "weightDevice", at, _weight_device, False) if "weightDevice" in o else (),
        throttle_read_bps_device=v.objects(o, "throttleReadBpsDevice", at, _throttle_device, False) if "throttleReadBpsDevice" in o else (),
        throttle_write_bps_device=v.objects(o, "throttleWriteBpsDevice", at, _throttle_device, False) if "throttleWriteBpsDevice" in o else (),
        throttle_read_iops_device=v.objects(o, "throttleReadIOPSDevice", at, _throttle_device, False) if "throttleReadIOPSDevice" in o else (),
        throttle_write_iops_device=v.objects(o, "throttleWriteIOPSDevice", at, _throttle_device, False) if "throttleWriteIOPSDevice" in o else (),
    )


def _hugepage_limit(value: object, at: str) -> HugepageLimit:
    o = v.json_object(value, at)
    return HugepageLimit(
        page_size=v.matching(o, "pageSize", at, "[1-9][0-9]*[KMG]B"),
        limit=v.integer(o, "limit", at, 0, 18446744073709551615),
    )


def _interface_priority(value: object, at: str) -> InterfacePriority:
    o = v.json_object(value, at)
    return InterfacePriority(
        name=v.string(o, "name", at),
        priority=v.integer(o, "priority", at, 0, 4294967295),
    )


def _network(value: object, at: str) -> Network:
    o = v.json_object(value, at)
    return Network(
        class_id=v.integer(o, "classID", at, 0, 4294967295) if "classID" in o else None,
        priorities=v.objects(o, "priorities", at, _interface_priority, False) if "priorities" in o else (),
    )


def _rdma(value: object, at: str) -> RDMA:
    o = v.json_object(value, at)
    return RDMA(
        hca_handles=v.integer(o, "hcaHandles", at, 0, 4294967295) if "hcaHandles" in o else None,
        hca_objects=v.integer(o, "hcaObjects", at, 0, 4294967295) if "hcaObjects" in o else None,
    )


def _resources(value: object, at: str) -> Resources:
    o = v.json_object(value, at)
    return Resources(
        devices=v.objects(o, "devices", at, _device_rule, False) if "devices" in o else (),
        memory=v.required_object(o, "memory", at, _memory) if "memory" in o else None,
        cpu=v.required_object(o, "cpu", at, _cpu) if "cpu" in o else None,
        pids=v.required_object(o, "pids", at, _pids) if "pids" in o else None,
        block_io=v.required_object(o, "blockIO", at, _block_io) if "blockIO" in o else None,
        hugepage_limits=v.objects(o, "hugepageLimits", at, _hugepage_limit, False) if "hugepageLimits" in o else (),
        network=v.required_object(o, "network", at, _network) if "network" in o else None,
        rdma=v.object_map(o, "rdma", at, _rdma, False) if "rdma" in o else None,
        unified=v.string_map(o, "unified", at, False) if "unified" in o else None,
    )


def _intel_rdt(value: object, at: str) -> IntelRdt:
    o = v.json_object(value, at)
    return IntelRdt(
        clos_id=v.string(o, "closID", at) or None if "closID" in o else None,
        schemata=v.strings(o, "schemata", at, True) if "schemata" in o else (),
        l3_cache_schema=v.string(o, "l3CacheSchema", at) or None if "l3CacheSchema" in o else None,
        mem_bw_schema=v.string(o, "memBwSchema", at) or None if "memBwSchema" in o else None,
        enable_monitoring=v.boolean(o, "enableMonitoring", at) if "enableMonitoring" in o else False,
    )


def _memory_policy(value: object, at: str) -> MemoryPolicy:
    o = v.json_object(value, at)
    return MemoryPolicy(
        mode=v.choice(o, "mode", at, _MEMORY_POLICY_MODE),
        nodes=v.string(o, "nodes", at) or None if "nodes" in o else None,
        flags=v.choices_of(o, "flags", at, _MEMORY_POLICY_FLAGS, True) if "flags" in o else (),
    )


def _syscall_arg(value: object, at: str) -> SyscallArg:
    o = v.json_object(value, at)
    return SyscallArg(
        index=v.integer(o, "index", at, 0, 5),
        value=v.integer(o, "value", at, 0, 18446744073709551615),
        value_two=v.integer(o, "valueTwo", at, 0, 18446744073709551615) if "valueTwo" in o else 0,
        op=v.choice(o, "op", at, _SYSCALL_ARG_OP),
    )


def _syscall(value: object, at: str) -> Syscall:
    o = v.json_object(value, at)
    return Syscall(
        names=v.some_strings(o, "names", at),
        action=v.choice(o, "action", at, _SECCOMP_DEFAULT_ACTION),
        errno_ret=v.integer(o, "errnoRet", at, 0, 4294967295) if "errnoRet" in o else None,
        args=v.objects(o, "args", at, _syscall_arg, False) if "args" in o else (),
    )


def _seccomp(value: object, at: str) -> Seccomp:
    o = v.json_object(value, at)
    return Seccomp(
        default_action=v.choice(o, "defaultAction", at, _SECCOMP_DEFAULT_ACTION),
        default_errno_ret=v.integer(o, "defaultErrnoRet", at, 0, 4294967295) if "defaultErrnoRet" in o else None,
        architectures=v.choices_of(o, "architectures", at, _SECCOMP_ARCHITECTURES, False) if "architectures" in o else (),
        flags=v.choices_of(o, "flags", at, _SECCOMP_FLAGS, False) if "flags" in o else ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",),
        listener_path=v.string(o, "listenerPath", at) or None if "listenerPath" in o else None,
        listener_metadata=v.string(o, "listenerMetadata", at) or None if "listenerMetadata" in o else None,
        syscalls=v.objects(o, "syscalls", at, _syscall, False) if "syscalls" in o else (),
    )


def _personality(value: object, at: str) -> Personality:
    o = v.json_object(value, at)
    return Personality(
        domain=v.choice(o, "domain", at, _PERSONALITY_DOMAIN),
        flags=v.strings(o, "flags", at, True) if "flags" in o else (),
    )


def _linux(value: object, at: str) -> Linux:
    o = v.json_object(value, at)
    return Linux(
        namespaces=v.objects(o, "namespaces", at, _namespace, False) if "namespaces" in o else (),
        uid_mappings=v.objects(o, "uidMappings", at, _id_mapping, False) if "uidMappings" in o else (),
        gid_mappings=v.objects(o, "gidMappings", at, _id_mapping, False) if "gidMappings" in o else (),
        time_offsets=v.object_map(o, "timeOffsets", at, _time_offset, True) if "timeOffsets" in o else None,
        devices=v.objects(o, "devices", at, _device, True) if "devices" in o else (),
        net_devices=v.object_map(o, "netDevices", at, _net_device, True) if "netDevices" in o else None,
        cgroups_path=v.string(o, "cgroupsPath", at) or None if "cgroupsPath" in o else None,
        resources=v.required_object(o, "resources", at, _resources) if "resources" in o else None,
        intel_rdt=v.nullable_object(o, "intelRdt", at, _intel_rdt) if "intelRdt" in o else None,
        memory_policy=v.nullable_object(o, "memoryPolicy", at, _memory_policy) if "memoryPolicy" in o else None,
        sysctl=v.string_map(o, "sysctl", at, True) if "sysctl" in o else None,
        seccomp=v.required_object(o, "seccomp", at, _seccomp) if "seccomp" in o else None,
        rootfs_propagation=v.choice(o, "rootfsPropagation", at, _LINUX_ROOTFS_PROPAGATION) if "rootfsPropagation" in o else None,
        masked_paths=v.strings(o, "maskedPaths", at, False) if "maskedPaths" in o else (),
        readonly_paths=v.strings(o, "readonlyPaths", at, False) if "readonlyPaths" in o else (),
        mount_label=v.string(o, "mountLabel", at) or None if "mountLabel" in o else None,
        personality=v.nullable_object(o, "personality", at, _personality) if "personality" in o else None,
    )


def _spec(value: object, at: str) -> Spec:
    o = v.json_object(value, at)
    return Spec(
        oci_version=v.string(o, "ociVersion", at),
        root=v.required_object(o, "root", at, _root),
        process=v.required_object(o, "process", at, _process) if "process" in o else None,
        hostname=v.string(o, "hostname", at) or None if "hostname" in o else None,
        domainname=v.string(o, "domainname", at) or None if "domainname" in o else None,
        mounts=v.objects(o, "mounts", at, _mount, True) if "mounts" in o else (),
        hooks=v.nullable_object(o, "hooks", at, _hooks) if "hooks" in o else None,
        annotations=v.string_map(o, "annotations", at, True) if "annotations" in o else None,
        linux=v.required_object(o, "linux", at, _linux) if "linux" in o else None,
    )


def parse_config(value: object) -> Spec:
    return _spec(value, "")


def parse_process(value: object) -> Process:
    return _process(value, "")


def parse_resources(value: object) -> Resources:
    return _resources(value, "")
