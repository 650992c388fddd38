"""LOAD_SECCOMP: filters in force, and listeners that reach the runtime whatever the filter says."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import RET_ERRNO, RET_NOTIFY, InitRunner, Outcome, failing, seccomp_filter, shell, status_field
from tests.c.supervisor import Supervisor

POINTER = "/linux/seccomp"
NO_NEW_PRIVILEGES = ops.SetNoNewPrivileges("")
FLAG_TSYNC, FLAG_LOG = 1, 2
FLAG_CONTINUE = 1  # linux/seccomp.h: SECCOMP_USER_NOTIF_FLAG_CONTINUE


class Agent(Supervisor):
    """Lets everything that it is notified of go on, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def answer(self, request: bytes) -> tuple[int, int]:
        _, _, _, call = struct.unpack_from("=QIIi", request)
        self.seen.append(call)
        return 0, FLAG_CONTINUE


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()


def load(flags: int = 0, *, listener: bool = False, **actions: int) -> ops.LoadSeccomp:
    return ops.LoadSeccomp(POINTER, seccomp_filter(**actions), flags, listener)


def supervised(init: InitRunner, agent: Agent, load_op: ops.LoadSeccomp, *ending: ops.Op) -> Outcome:
    return init.run(NO_NEW_PRIVILEGES, load_op, *ending, handlers={lib.SYNC_SECCOMP_FD: agent.take})


def number(name: str) -> int:
    result: int = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode())
    return result


def test_filter_is_in_force(init: InitRunner) -> None:
    outcome = init.run(NO_NEW_PRIVILEGES, failing(uname=errno.ENOSPC), *shell("uname 2>&1; cat /proc/self/status"))
    assert os.strerror(errno.ENOSPC) in outcome.text()
    assert status_field(outcome, "Seccomp") == "2"


@pytest.mark.root
def test_privileges_stand_in_for_no_new_privileges(init: InitRunner) -> None:
    outcome = init.run(load(uname=RET_ERRNO | errno.ENOSPC), *shell("cat /proc/self/status"))
    assert (status_field(outcome, "Seccomp"), status_field(outcome, "NoNewPrivs")) == ("2", "0")


def test_neither_privileges_nor_no_new_privileges(init: InitRunner) -> None:
    weak = ops.SetCapabilities("", 0, 0, 0, 0)
    outcome = init.run(weak, load(uname=RET_ERRNO))
    assert (outcome.error, outcome.detail) == (errno.EACCES, "seccomp SECCOMP_SET_MODE_FILTER")


@pytest.mark.parametrize("flags", [FLAG_TSYNC, FLAG_LOG, FLAG_TSYNC | FLAG_LOG])
def test_flags(init: InitRunner, flags: int) -> None:
    outcome = init.run(NO_NEW_PRIVILEGES, load(flags, uname=RET_ERRNO), *shell("cat /proc/self/status"))
    assert status_field(outcome, "Seccomp") == "2"


def test_unknown_flag(init: InitRunner) -> None:
    outcome = init.run(NO_NEW_PRIVILEGES, load(1 << 20))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "seccomp SECCOMP_SET_MODE_FILTER")


@pytest.mark.parametrize("program", [b"x" * 9, bytes(8 * 4097)])
def test_program_of_a_wrong_length(init: InitRunner, program: bytes) -> None:
    outcome = init.run(NO_NEW_PRIVILEGES, ops.LoadSeccomp(POINTER, program, 0, False))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "invalid plan: seccomp filter")


def test_no_program(init: InitRunner) -> None:
    outcome = init.run(NO_NEW_PRIVILEGES, ops.LoadSeccomp(POINTER, b"", 0, False))
    assert (outcome.error, outcome.detail) == (errno.EINVAL, "seccomp SECCOMP_SET_MODE_FILTER")


@pytest.mark.parametrize("flags", [0, FLAG_TSYNC])
def test_listener(init: InitRunner, agent: Agent, flags: int) -> None:
    outcome = supervised(init, agent, load(flags, listener=True, uname=RET_NOTIFY), *shell("uname -s"))
    assert outcome.text() == "Linux\n"
    assert outcome.syncs == [lib.SYNC_SECCOMP_FD]
    assert agent.seen == [number("uname")]


@pytest.mark.parametrize("action", [RET_NOTIFY, RET_ERRNO | errno.EIO])
def test_listener_arrives_although_sending_is_filtered(init: InitRunner, agent: Agent, action: int) -> None:
    """init's own sendmsg(2) would wait for the agent that is to get the listener, or fail."""
    names = ("sendmsg", "sendto", "getpid", "prctl", "clone3", "pipe2")
    profile = load(listener=True, **dict.fromkeys(names, action))
    outcome = supervised(init, agent, profile, *shell("echo done"))
    assert outcome.text() == "done\n"


def test_reading_closing_and_reaping_may_be_supervised(init: InitRunner, agent: Agent) -> None:
    """By then, the agent has its listener."""
    profile = load(listener=True, read=RET_NOTIFY, close=RET_NOTIFY, wait4=RET_NOTIFY)
    assert supervised(init, agent, profile, *shell("echo done")).text() == "done\n"
    assert {number("read"), number("close"), number("wait4")} <= set(agent.seen)


@pytest.mark.root
def test_nothing_is_left_of_the_helper(init: InitRunner, agent: Agent) -> None:
    ready = ops.Sync("", lib.SYNC_READY)
    with init.start(NO_NEW_PRIVILEGES, load(listener=True, uname=RET_NOTIFY), ready) as running:
        running.serve({lib.SYNC_SECCOMP_FD: agent.take}, until=lib.SYNC_READY)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
        names = [os.readlink(f"/proc/{running.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{running.pid}/fd")]
        running.socket.close()
        running.wait()
    assert children == ""
    assert not [name for name in names if "seccomp" in name]
    assert sum(name.startswith("pipe:") for name in names) == 2, "besides stdout and stderr"


def test_helper_that_cannot_be_reaped(init: InitRunner, agent: Agent) -> None:
    profile = load(listener=True, wait4=RET_ERRNO | errno.EPERM)
    ending = (ops.ResolveExecutable("", "cat", "/bin"), ops.Execute("", ("cat", "/dev/null"), ()))
    assert supervised(init, agent, profile, *ending).text() == ""


def test_second_listener_is_refused(init: InitRunner, agent: Agent) -> None:
    """A failure with a helper waiting: it ends, too."""
    twice = (load(listener=True, uname=RET_NOTIFY), load(listener=True, uname=RET_NOTIFY))
    outcome = supervised(init, agent, twice[0], twice[1])
    assert (outcome.error, outcome.detail) == (errno.EBUSY, "seccomp SECCOMP_SET_MODE_FILTER")


def test_runtime_that_is_gone(init: InitRunner) -> None:
    with init.start(NO_NEW_PRIVILEGES, load(listener=True, uname=RET_NOTIFY)) as running:
        running.serve(until=lib.SYNC_SECCOMP_FD)
        running.socket.close()
        assert running.wait() == 1


@pytest.mark.parametrize(("call", "detail"), [("pipe2", "pipe2"), ("clone3", "clone3 seccomp helper")])
def test_helper_that_cannot_be_made(init: InitRunner, call: str, detail: str) -> None:
    broken = failing(**{call: errno.EAGAIN})
    outcome = init.run(NO_NEW_PRIVILEGES, broken, load(listener=True, uname=RET_NOTIFY))
    assert (outcome.error, outcome.detail) == (errno.EAGAIN, detail)


def test_helper_that_fails(init: InitRunner) -> None:
    """It tells the runtime, and init does not wait for an answer."""
    with init.start(NO_NEW_PRIVILEGES, failing(prctl=errno.EIO), load(listener=True, uname=RET_NOTIFY)) as running:
        running.serve()
        assert running.wait() == 1
    assert running.failure is not None
    assert (running.failure.error, running.failure.detail) == (errno.EIO, "prctl PR_SET_PDEATHSIG")


def test_helper_that_cannot_even_say_so(init: InitRunner) -> None:
    with init.start(NO_NEW_PRIVILEGES, failing(sendmsg=errno.EIO), load(listener=True, uname=RET_NOTIFY)) as running:
        running.serve()
        assert running.wait() == 1
