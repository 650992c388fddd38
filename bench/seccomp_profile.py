"""A seccomp profile of the size and shape of the one that Docker gives every container without a word.

All is refused with EPERM but what syscalls.txt names: the calls of x86-64 and 32-bit x86 that libseccomp knows, without
those in DENIED. As there, clone and personality depend on their arguments, clone3 "does not exist" (so that the C
library takes clone), and the filter holds for the processor's other instruction sets too.

`python -m bench.seccomp_profile` prints syscalls.txt anew, as the libseccomp at hand knows the calls.
"""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import Any

NAMES = Path(__file__).parent / "syscalls.txt"
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"

# What reaches past a container: the machine's state, other processes' memory, new namespaces and mounts; calls that no
# kernel has any more; and those that a rule of their own allows in part.
DENIED = frozenset(
    """
    acct add_key adjtimex afs_syscall bdflush bpf break chroot clock_adjtime clock_adjtime64 clock_settime
    clock_settime64 clone clone3 create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
    ftime get_kernel_syms get_mempolicy getpmsg gtty idle init_module io_uring_enter io_uring_register io_uring_setup
    ioperm iopl kcmp kexec_file_load kexec_load keyctl lock lookup_dcookie mbind migrate_pages mount mount_setattr
    move_mount move_pages mpx nfsservctl oldfstat oldlstat oldolduname oldstat olduname open_by_handle_at open_tree
    perf_event_open personality pidfd_getfd pivot_root prof profil ptrace putpmsg query_module quotactl quotactl_fd
    reboot request_key security set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday
    sgetmask ssetmask stime stty swapoff swapon sysfs syslog tuxcall ulimit umount umount2 unshare uselib userfaultfd
    ustat vhangup vm86 vm86old vserver _sysctl
    """.split()
)
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* flags of clone(2)
ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
_LIBSECCOMP_X86 = (0xC000003E, 0x40000003)


def syscall_names() -> list[str]:
    """The calls that the profile allows whatever their arguments."""
    return NAMES.read_text().split()


def make_profile(machine: str, variant: int = 0) -> dict[str, Any]:
    """`linux.seccomp` for a processor, as uname(2) names it. Each variant is another profile of the same size."""
    personalities = [*PERSONALITIES, 0x10000000 + variant]
    return {
        "defaultAction": ERRNO,
        "defaultErrnoRet": errno.EPERM,
        "architectures": ARCHITECTURES.get(machine, []),
        "syscalls": [
            {"names": syscall_names(), "action": ALLOW},
            *(_allow_argument("personality", value) for value in personalities),
            {
                "names": ["clone"],
                "action": ALLOW,
                "args": [{"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            {"names": ["clone3"], "action": ERRNO, "errnoRet": errno.ENOSYS},
        ],
    }


def _allow_argument(name: str, value: int) -> dict[str, Any]:
    return {"names": [name], "action": ALLOW, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}


def known_to_libseccomp() -> set[str]:
    """The calls of x86-64 and 32-bit x86. Raises OSError where libseccomp's shared library is not installed."""
    libseccomp = ctypes.CDLL("libseccomp.so.2")
    libseccomp.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    numbers = [(arch, number) for arch in _LIBSECCOMP_X86 for number in range(1000)]
    found = (libseccomp.seccomp_syscall_resolve_num_arch(arch, number) for arch, number in numbers)
    return {name.decode() for name in found if name}


def main() -> None:
    print("\n".join(sorted(known_to_libseccomp() - DENIED)))


if __name__ == "__main__":
    main()
