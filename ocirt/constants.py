"""Numbers of the kernel's interface, with the names that config.json has for them: one table each, for both ways."""

from __future__ import annotations

# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWTIME = 0x00000080
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# By type (config-linux.md#namespaces): the flag, and the name below /proc/PID/ns.
NAMESPACES = {
    "user": (CLONE_NEWUSER, "user"),
    "mount": (CLONE_NEWNS, "mnt"),
    "pid": (CLONE_NEWPID, "pid"),
    "network": (CLONE_NEWNET, "net"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
}

# Of a device's number: 12 and 20 bits (include/linux/kdev_t.h, MINORBITS).
MAX_MAJOR, MAX_MINOR = 0xFFF, 0xFFFFF

# include/uapi/linux/mount.h
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
PROPAGATION_NAMES = {MS_SHARED: "shared", MS_SLAVE: "slave", MS_PRIVATE: "private", MS_UNBINDABLE: "unbindable"}

MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR__ATIME = 0x00000070
MOUNT_ATTR_RELATIME = 0x00000000
MOUNT_ATTR_NOATIME = 0x00000010
MOUNT_ATTR_STRICTATIME = 0x00000020
MOUNT_ATTR_NODIRATIME = 0x00000080
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# attribute -> (word that sets it, word that clears it)
_ATTRIBUTE_WORDS = {
    MOUNT_ATTR_RDONLY: ("ro", "rw"),
    MOUNT_ATTR_NOSUID: ("nosuid", "suid"),
    MOUNT_ATTR_NODEV: ("nodev", "dev"),
    MOUNT_ATTR_NOEXEC: ("noexec", "exec"),
    MOUNT_ATTR_NODIRATIME: ("nodiratime", "diratime"),
    MOUNT_ATTR_NOSYMFOLLOW: ("nosymfollow", "symfollow"),
}
_ATIME_WORDS = {MOUNT_ATTR_RELATIME: "relatime", MOUNT_ATTR_NOATIME: "noatime", MOUNT_ATTR_STRICTATIME: "strictatime"}


def attribute_words(attr_set: int, attr_clear: int) -> list[str]:
    """The mount option words for a pair of MOUNT_ATTR_* masks; clearing all of __ATIME announces another mode of it."""
    words = [on for bit, (on, _) in _ATTRIBUTE_WORDS.items() if attr_set & bit]
    words += [off for bit, (_, off) in _ATTRIBUTE_WORDS.items() if attr_clear & bit and not attr_set & bit]
    if attr_clear & MOUNT_ATTR__ATIME or attr_set & MOUNT_ATTR__ATIME:
        words.append(_ATIME_WORDS.get(attr_set & MOUNT_ATTR__ATIME, "atime"))
    return words


# include/uapi/asm-generic/resource.h; config.md#posix-process
RLIM_INFINITY = 2**64 - 1
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
RLIMIT_NAMES = {number: name for name, number in RLIMITS.items()}

# Scheduling policies of include/uapi/linux/sched.h (config.md#linux-process); no kernel implements SCHED_ISO.
SCHEDULER_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

# include/uapi/linux/ioprio.h
IO_PRIORITY_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IOPRIO_CLASS_SHIFT = 13

# include/uapi/linux/mempolicy.h; config-linux.md#configLinuxMemoryPolicy
MEMORY_POLICY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_POLICY_FLAGS = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}

# include/uapi/linux/personality.h
PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}

# include/uapi/linux/capability.h, in the order of their numbers
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
CAPABILITY_BITS = {name: 1 << number for number, name in enumerate(CAPABILITIES)}
ALL_CAPABILITIES = (1 << len(CAPABILITIES)) - 1


def capability_words(bits: int) -> str:
    """ "none", "all" or the names without CAP_, lower case."""
    if not bits:
        return "none"
    if bits & ALL_CAPABILITIES == ALL_CAPABILITIES:
        return "all"
    return ",".join(name[4:].lower() for name, bit in CAPABILITY_BITS.items() if bits & bit)


def parse_ranges(text: str) -> set[int]:
    """The numbers of a list such as "0-3,7" (cpuset(7), "List format"); empty parts are ignored. Raises ValueError."""
    numbers: set[int] = set()
    for part in text.split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
            raise ValueError(f"not a list of numbers and ranges: {text!r}")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high > 0xFFFF:
            raise ValueError(f"not a range: {part!r}")
        numbers.update(range(low, high + 1))
    return numbers


def to_bitmask(numbers: set[int]) -> bytes:
    """The kernel's layout of a bit mask: little-endian, whole 64-bit words."""
    if not numbers:
        return b""
    words = max(numbers) // 64 + 1
    return sum(1 << number for number in numbers).to_bytes(words * 8, "little")


def bitmask_ranges(mask: bytes) -> str:
    """ "0-3,7" for a mask."""
    bits = int.from_bytes(mask, "little")
    numbers = [n for n in range(len(mask) * 8) if bits >> n & 1]
    parts: list[str] = []
    for number in numbers:
        if number - 1 not in numbers:
            parts.append(str(number))
        elif parts[-1].split("-")[-1] == str(number - 1):
            parts[-1] = f"{parts[-1].split('-')[0]}-{number}"
    return ",".join(parts)
