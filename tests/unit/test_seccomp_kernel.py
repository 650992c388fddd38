"""The programs in a real kernel: it takes them, with every flag, and decides as the simulator says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ocirt import seccomp as s
from ocirt.spec import Seccomp, Syscall, SyscallArg
from tests.unit.seccomp_model import X86_64, action, numbers, simulate, verdict

pytestmark = pytest.mark.skipif(not s.probe_flags(), reason="the kernel has no seccomp filters")

# Loads the filter and makes the system calls; None where it was killed.
CHILD = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
request = json.load(sys.stdin)
program = bytes.fromhex(request["bpf"])
class Fprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
fprog = Fprog(len(program) // 8, program)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
loaded = libc.syscall(317, 1, request["flags"], ctypes.byref(fprog))  # SECCOMP_SET_MODE_FILTER
results = []
for number, args in request["calls"]:
    ctypes.set_errno(0)
    value = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
    results.append([value, ctypes.get_errno()])
os.write(1, json.dumps({"loaded": loaded, "results": results}).encode())
os._exit(0)
"""


def run(compiled: s.Filter, *calls: tuple[int, list[int]]) -> dict[str, Any]:
    request = json.dumps({"bpf": compiled.bpf.hex(), "flags": compiled.flags, "calls": calls})
    done = subprocess.run(
        [sys.executable, "-I", "-c", CHILD], input=request, capture_output=True, text=True, timeout=30, check=False
    )
    return {"status": done.returncode, **(json.loads(done.stdout) if done.stdout else {}), "stderr": done.stderr}


def rule(name: str, what: str, *args: SyscallArg, **fields: Any) -> Syscall:
    return Syscall(names=(name,), action=what, args=args, **fields)


def test_the_kernel_decides_as_the_simulator() -> None:
    number = numbers("SCMP_ARCH_X86_64")["personality"]
    conditions = (
        *(SyscallArg(index=1, value=2**32 + 5, op=op) for op in s.OPERATORS[:-1]),
        SyscallArg(index=1, value=2**33 - 1, value_two=2**32 + 5, op="SCMP_CMP_MASKED_EQ"),
    )
    arguments = [0, 5, 2**32 + 4, 2**32 + 5, 2**32 + 6, 2**33 + 5, 2**33 + 2**32 + 5, 2**64 - 1]
    rules = [
        rule("personality", "SCMP_ACT_ERRNO", condition, SyscallArg(index=2, value=i, op="SCMP_CMP_EQ"), errno_ret=99)
        for i, condition in enumerate(conditions)
    ]
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=tuple(rules))
    compiled = s.compile_seccomp(profile)
    calls = [(number, [0xFFFFFFFF, value, i]) for i in range(len(conditions)) for value in arguments]
    outcome = run(compiled, *calls)
    assert outcome["loaded"] == 0, outcome
    expected = [simulate(compiled.bpf, X86_64, number, (*args, 0, 0, 0)) for _, args in calls]
    assert expected == [verdict(profile, X86_64, number, (*args, 0, 0, 0)) for _, args in calls]
    assert {*expected} == {action("SCMP_ACT_ALLOW", None), action("SCMP_ACT_ERRNO", 99)}
    assert [error for _, error in outcome["results"]] == [99 if value & 0xFFFF == 99 else 0 for value in expected]


def test_an_unknown_call_is_enosys_and_a_forbidden_one_eperm() -> None:
    needed = [name for name in numbers("SCMP_ARCH_X86_64") if name != "getppid"]
    compiled = s.compile_seccomp(
        Seccomp(default_action="SCMP_ACT_ERRNO", syscalls=(Syscall(names=tuple(needed), action="SCMP_ACT_ALLOW"),))
    )
    outcome = run(compiled, (numbers("SCMP_ARCH_X86_64")["getppid"], []), (900, []))
    assert outcome["results"] == [[-1, 1], [-1, 38]], outcome


def test_kill_kills() -> None:
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule("getppid", "SCMP_ACT_KILL_PROCESS"),))
    outcome = run(s.compile_seccomp(profile), (numbers("SCMP_ARCH_X86_64")["getppid"], []))
    assert outcome["status"] == -31  # SIGSYS


NOTIFY = rule("mknod", "SCMP_ACT_NOTIFY")
LISTENER_ONLY = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"


@pytest.mark.parametrize("listener", [False, True])
@pytest.mark.parametrize("names", [(), *((name,) for name in s.FLAGS), tuple(s.FLAGS)], ids="+".join)
def test_the_kernel_takes_every_flag(names: tuple[str, ...], listener: bool) -> None:
    if not listener:
        names = tuple(name for name in names if name != LISTENER_ONLY)
    profile = Seccomp(
        default_action="SCMP_ACT_ALLOW",
        flags=names,
        listener_path="/run/agent",
        syscalls=(NOTIFY,) if listener else (rule("mknod", "SCMP_ACT_ERRNO"),),
    )
    outcome = run(s.compile_seccomp(profile, supported_flags=s.probe_flags()))
    assert outcome["status"] == 0, outcome
    assert (outcome["loaded"] > 0) == listener, outcome
    assert outcome["loaded"] >= 0, outcome


def test_the_probe_leaves_no_filter_behind() -> None:
    def state() -> list[str]:
        with open("/proc/self/status") as status:
            return [line for line in status if line.startswith("Seccomp")]

    before = state()
    assert s.probe_flags() & (s.TSYNC | s.LOG_FLAG | s.SPEC_ALLOW | s.NEW_LISTENER | s.TSYNC_ESRCH) == 31
    assert state() == before
