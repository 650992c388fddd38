"""SET_APPARMOR, SET_SELINUX and the label of NEW_KEYRING, on kernels with and without a security module.

A test cannot load a policy, so for the success it takes the kernel's place where the label is written: seccomp notifies
it of the write(2), it looks at what is written and to which file, and says that it is done.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import RET_ALLOW, RET_NOTIFY, InitRunner, failing, syscall_number
from tests.c.supervisor import Supervisor

LABEL = "system_u:system_r:container_t:s0:c1,c2"
PROFILE = "a-profile//of-containers"
APPARMOR = ops.SetApparmor("/process/apparmorProfile", PROFILE)
SELINUX = ops.SetSelinux("/process/selinuxLabel", LABEL)
APPARMOR_FILE = "apparmor/exec" if Path("/proc/self/attr/apparmor/exec").exists() else "exec"
# of struct seccomp_notif: id, pid; nr, arch, instruction pointer; the first 3 arguments
NOTIFICATION = struct.Struct("=QI4xiI8x3Q")


def notify_of_writes(*lengths: int) -> bytes:
    """A filter that notifies of the write(2)s of these lengths; init has other ones to make, too."""
    program = [(0x20, 0, 0, 0), (0x15, 0, 2 * len(lengths) + 1, syscall_number("write"))]  # BPF_LD nr, BPF_JEQ
    program += [(0x20, 0, 0, 32)]  # the lower half of the third argument
    for length in lengths:
        program += [(0x15, 0, 1, length), (0x06, 0, 0, RET_NOTIFY)]
    return b"".join(struct.pack("=HBBI", *one) for one in [*program, (0x06, 0, 0, RET_ALLOW)])


class SecurityModule(Supervisor):
    """Takes what is written, and keeps it with the name of the file below /proc/PID/attr."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, bytes]] = []

    def answer(self, request: bytes) -> tuple[int, int]:
        _, pid, _, _, fd, address, length = NOTIFICATION.unpack_from(request)
        folder = f"/proc/{pid}/task/{pid}/attr/"
        path = os.readlink(f"/proc/{pid}/fd/{fd}")
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(address)
            data = memory.read(length)
        self.written.append((path.removeprefix(folder) if path.startswith(folder) else path, data))
        return length, 0


@pytest.fixture
def module() -> Iterator[SecurityModule]:
    module = SecurityModule()
    yield module
    module.close()


def run_with(init: InitRunner, module: SecurityModule, op: ops.Op, *lengths: int) -> list[tuple[str, bytes]]:
    """What an operation that succeeds has written."""
    load = ops.LoadSeccomp("/linux/seccomp", notify_of_writes(*lengths), 0, True)
    outcome = init.run(ops.OpenProc(""), load, op, handlers={lib.SYNC_SECCOMP_FD: module.take})
    assert outcome.failure is None, outcome.message
    assert outcome.status == 0
    return module.written


@pytest.mark.root
def test_apparmor_profile(init: InitRunner, module: SecurityModule) -> None:
    written = f"exec {PROFILE}".encode()
    assert run_with(init, module, APPARMOR, len(written)) == [(APPARMOR_FILE, written)]


@pytest.mark.root
def test_selinux_label(init: InitRunner, module: SecurityModule) -> None:
    assert run_with(init, module, SELINUX, len(LABEL)) == [("exec", LABEL.encode())]


@pytest.mark.root
def test_keyring_label(init: InitRunner, module: SecurityModule, token: str) -> None:
    """It is for this one keyring: later ones get what is their default."""
    keyring = ops.NewKeyring("", f"_ses.{token}.label", LABEL)
    written = [("keycreate", LABEL.encode()), ("keycreate", b"")]
    assert run_with(init, module, keyring, len(LABEL), 0) == written


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (APPARMOR, f"/process/apparmorProfile: set AppArmor profile {PROFILE}: write /proc/thread-self/attr/"),
        (SELINUX, f"/process/selinuxLabel: set SELinux label {LABEL}: write /proc/thread-self/attr/"),
    ],
)
def test_label_that_is_refused(init: InitRunner, op: ops.Op, expected: str) -> None:
    file = APPARMOR_FILE if op is APPARMOR else "exec"
    refusing = failing(write=errno.EACCES)
    outcome = init.run(ops.OpenProc(""), ops.SetNoNewPrivileges(""), refusing, op)
    assert (outcome.error, outcome.detail) == (errno.EACCES, f"write /proc/thread-self/attr/{file}")
    assert outcome.message == f"{expected}{file}: permission denied"
