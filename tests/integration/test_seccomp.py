"""linux.seccomp: actions, arguments, unknown names, the order with capabilities, and the notify listener."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.console import FdSocket, Received
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

EPERM, ENOSYS = 1, 38


def set_profile(container: Container, *rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **extra: Any) -> None:
    container.linux["seccomp"] = {"defaultAction": default, "syscalls": list(rules), **extra}


def rule(name: str, action: str, **extra: Any) -> dict[str, Any]:
    return {"names": [name], "action": action, **extra}


def call(container: Container, name: str, *arguments: int) -> dict[str, int]:
    """Runs the container with the probe that makes one system call."""
    container.process["args"] = ["/probe", "call", name, *map(str, arguments)]
    answer: dict[str, int] = json.loads(container.run().out)
    return answer


@pytest.mark.common
def test_errno(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO", errnoRet=99))
    assert call(container, "getpgid", 0)["errno"] == 99


@pytest.mark.common
def test_errno_is_eperm_by_default(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO"))
    assert call(container, "getpgid", 0)["errno"] == EPERM


@pytest.mark.common
def test_other_calls_are_not_touched(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO"))
    assert call(container, "getppid")["errno"] == 0


@pytest.mark.common
@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"])
def test_kill(container: Container, action: str) -> None:
    set_profile(container, rule("getpgid", action))
    container.process["args"] = ["/probe", "call", "getpgid", "0"]
    container.create()
    container.start()
    assert container.wait() == 128 + 31


@pytest.mark.common
def test_trap(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_TRAP"))
    container.process["args"] = ["/probe", "call", "getpgid", "0"]
    container.create()
    container.start()
    assert container.wait() == 128 + 31


@pytest.mark.common
def test_trace_without_a_tracer(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_TRACE"))
    assert call(container, "getpgid", 0)["errno"] == ENOSYS


@pytest.mark.common
def test_log_lets_it_pass(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_LOG"))
    assert call(container, "getpgid", 0)["errno"] == 0


ARGUMENTS = [
    ({"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}, [7], [8]),
    ({"index": 0, "value": 7, "op": "SCMP_CMP_NE"}, [8], [7]),
    ({"index": 0, "value": 7, "op": "SCMP_CMP_LT"}, [6], [7]),
    ({"index": 0, "value": 7, "op": "SCMP_CMP_LE"}, [7], [8]),
    ({"index": 0, "value": 7, "op": "SCMP_CMP_GE"}, [7], [6]),
    ({"index": 0, "value": 7, "op": "SCMP_CMP_GT"}, [8], [7]),
    ({"index": 0, "value": 0xF0, "valueTwo": 0x20, "op": "SCMP_CMP_MASKED_EQ"}, [0x25], [0x35]),
    ({"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}, [0, 7], [7, 0]),
]


@pytest.mark.common
@pytest.mark.parametrize(
    ("argument", "hit", "miss"), ARGUMENTS, ids=[f"{str(a['op'])[9:]}{a['index']}" for a, _, _ in ARGUMENTS]
)
def test_arguments(container: Container, argument: dict[str, Any], hit: list[int], miss: list[int]) -> None:
    # getpriority(2) takes two numbers, and fails with another errno for those here.
    set_profile(container, rule("getpriority", "SCMP_ACT_ERRNO", errnoRet=99, args=[argument]))
    assert call(container, "getpriority", *hit)["errno"] == 99
    assert call(container, "getpriority", *miss)["errno"] != 99


@pytest.mark.common
def test_all_arguments_must_match(container: Container) -> None:
    arguments = [{"index": index, "value": 50 + index, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    set_profile(container, rule("getpriority", "SCMP_ACT_ERRNO", errnoRet=99, args=arguments))
    assert call(container, "getpriority", 50, 51)["errno"] == 99
    assert call(container, "getpriority", 50, 50)["errno"] != 99


@pytest.mark.common
def test_unknown_names_are_passed_over(container: Container) -> None:
    set_profile(container, {"names": ["no_such_call", "getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99})
    assert call(container, "getpgid", 0)["errno"] == 99


ALLOWED = """
access arch_prctl brk capget capset chdir clone clone3 close close_range dup dup2 dup3 execve execveat exit exit_group
faccessat faccessat2 fchdir fchown fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getpid getppid
getrandom getuid ioctl lseek madvise mmap mprotect mremap munmap nanosleep newfstatat open openat pipe2 poll prctl
pread64 prlimit64 read readlink readlinkat rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_yield seccomp
set_robust_list set_tid_address setgid setgroups setresgid setresuid setuid sigaltstack stat statfs statx tgkill uname
umask wait4 write writev sched_getaffinity epoll_create1 epoll_ctl epoll_pwait eventfd2 gettid getpgrp
"""


@pytest.mark.common
def test_call_newer_than_the_profile_gets_enosys(container: Container) -> None:
    """So that a C library falls back: the default errno would tell it that the call is there and forbidden."""
    names = {"names": ALLOWED.split(), "action": "SCMP_ACT_ALLOW"}
    extra = {"defaultErrnoRet": EPERM, "architectures": ["SCMP_ARCH_X86_64"]}
    set_profile(container, names, default="SCMP_ACT_ERRNO", **extra)
    assert call(container, "newer")["errno"] == ENOSYS
    assert call(container, "sync")["errno"] == EPERM


@pytest.mark.common
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_profile_that_denies_what_the_runtime_needs(container: Container, no_new_privileges: bool) -> None:
    """With no new privileges the filter comes last, so that it may forbid nearly all; else it comes before setuid."""
    container.process["noNewPrivileges"] = no_new_privileges
    container.process["user"] = {"uid": 1000, "gid": 1000}
    set_profile(container, rule("mount", "SCMP_ACT_ERRNO", errnoRet=98), rule("unshare", "SCMP_ACT_ERRNO", errnoRet=99))
    assert call(container, "unshare", 0)["errno"] == 99


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_profile_that_denies_everything(container: Container, no_new_privileges: bool) -> None:
    """Not even an exit is left, and yet nobody waits for ever."""
    container.process["noNewPrivileges"] = no_new_privileges
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO"), default="SCMP_ACT_ERRNO")
    assert "ocirt-init ended before the container was ready" in container.refused()


def test_profile_that_denies_getcwd(container: Container) -> None:
    set_profile(container, rule("getcwd", "SCMP_ACT_ERRNO"))
    assert call(container, "getppid")["errno"] == 0


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 takes no flags")
@pytest.mark.parametrize("flag", ["LOG", "SPEC_ALLOW", "TSYNC"])
def test_flags(container: Container, flag: str) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO", errnoRet=99), flags=[f"SECCOMP_FILTER_FLAG_{flag}"])
    assert call(container, "getpgid", 0)["errno"] == 99


@pytest.mark.common
def test_several_architectures(container: Container) -> None:
    names = ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO", errnoRet=99), architectures=names)
    assert call(container, "getpgid", 0)["errno"] == 99


@pytest.mark.common
def test_status_says_filtered(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_ERRNO"))
    assert container.facts().status("Seccomp") == "2"


@pytest.mark.common
@pytest.mark.parametrize(
    "seccomp",
    [
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_MAYBE"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONSENSE"]},
    ],
)
def test_unknown_words(container: Container, seccomp: dict[str, Any]) -> None:
    container.linux["seccomp"] = seccomp
    container.refused()


@pytest.mark.parametrize(
    ("seccomp", "pointer"),
    [
        ({"defaultAction": "SCMP_ACT_NONSENSE"}, "/linux/seccomp/defaultAction"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "/linux/seccomp/defaultErrnoRet"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("read", "SCMP_ACT_KILL", errnoRet=1)]},
            "/linux/seccomp/syscalls/0/errnoRet",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}, "/linux/seccomp/listenerMetadata"),
        ([], "/linux/seccomp"),
    ],
)
def test_refusals_name_their_pointer(container: Container, seccomp: Any, pointer: str) -> None:
    container.linux["seccomp"] = seccomp
    assert pointer in container.refused()


# ---- the listener


@pytest.fixture
def agent(container: Container) -> Iterator[FdSocket]:
    """The seccomp agent's socket, and a profile that sends getpgid(2) to it."""
    with FdSocket(container.bundle / "agent.sock") as listening:
        set_profile(
            container,
            rule("getpgid", "SCMP_ACT_NOTIFY"),
            listenerPath=str(listening.path),
            listenerMetadata="the agent's own",
        )
        container.process["args"] = ["/probe", "call", "getpgid", "0"]
        yield listening


def answer(listener: Received, errno: int) -> None:
    """Receives one notification and answers with an errno: SECCOMP_IOCTL_NOTIF_RECV and _SEND."""
    notification = bytearray(80)
    fcntl.ioctl(listener.fds[0], 0xC0502100, notification)
    (identity,) = struct.unpack_from("Q", notification)
    fcntl.ioctl(listener.fds[0], 0xC0182101, bytearray(struct.pack("QqiI", identity, 0, -errno, 0)))


@pytest.mark.common
def test_listener_gets_state_and_descriptor(container: Container, agent: FdSocket) -> None:
    container.create()
    received = agent.receive()
    state = json.loads(received.data)
    assert state["ociVersion"]
    assert state["fds"] == ["seccompFd"]
    assert state["metadata"] == "the agent's own"
    assert state["pid"] == container.pid
    assert state["state"]["id"] == container.id
    assert state["state"]["status"] == "creating"
    assert state["state"]["bundle"] == str(container.bundle)
    assert len(received.fds) == 1
    assert "seccomp notify" in os.readlink(f"/proc/self/fd/{received.fds[0]}")


@pytest.mark.common
def test_listener_answers(container: Container, agent: FdSocket) -> None:
    container.create()
    received = agent.receive()
    container.start()
    answer(received, 77)
    container.wait()
    assert json.loads(container.output)["errno"] == 77


@pytest.mark.common
def test_listener_for_exec(container: Container, agent: FdSocket) -> None:
    container.hold()
    agent.receive()
    flags = ["--detach", "--pid-file", container.bundle / "exec.pid"]
    container.exec(*map(str, flags), "/probe", "call", "getpgid", "0")
    received = agent.receive()
    assert json.loads(received.data)["pid"] == int((container.bundle / "exec.pid").read_text())
    answer(received, 77)
    os.waitpid(int((container.bundle / "exec.pid").read_text()), 0)


@pytest.mark.common
def test_listener_that_is_not_there(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_NOTIFY"), listenerPath="/nowhere/agent.sock")
    container.refused()


@pytest.mark.common
def test_notify_without_a_listener_path(container: Container) -> None:
    set_profile(container, rule("getpgid", "SCMP_ACT_NOTIFY"))
    container.refused()


@pytest.mark.common
def test_notify_for_write_is_refused(container: Container, agent: FdSocket) -> None:
    """The runtime itself writes after loading the filter, and would wait for an agent that waits for it."""
    set_profile(container, rule("write", "SCMP_ACT_NOTIFY"), listenerPath=str(agent.path))
    container.refused()


def test_wait_killable(container: Container, agent: FdSocket) -> None:
    container.linux["seccomp"]["flags"] = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    container.create()
    received = agent.receive()
    container.start()
    answer(received, 77)
    container.wait()
    assert json.loads(container.output)["errno"] == 77
