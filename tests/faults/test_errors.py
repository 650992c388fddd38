"""Every system call failing once, with ENOMEM, EIO, EPERM, ENOSPC and EINTR: in the runtime, and in ocirt-init.

The command fails in one line of error, without hanging, and has undone what it did, or it succeeds, where it can do
without what failed. In ocirt-init that is allowed to named calls alone: nothing that confines a container may fail
unnoticed. A call that waits is tried again after EINTR.
"""

from __future__ import annotations

import errno

import pytest

from tests.faults.conftest import NewSubject
from tests.faults.injection import CANNOT_FAIL, ERRORS, Call, Done, Server, is_complete, sample, seed
from tests.faults.scenarios import COMMANDS
from tests.faults.sweep import Sweep
from tests.faults.test_death import points_of

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

# How many points (a call and an error) of each are tried where not all are: some 40 ms each. Of the plain container
# that is every call but those of `run`, which are those of create and start.
RUNTIME_POINTS = {"create": 60, "start": 30, "run": 40, "exec": 50, "delete": 25, "delete --force": 25}
ALL_RUNTIME_POINTS = {"create": 250, "start": 100, "run": 40, "exec": 250, "delete": 100, "delete --force": 150}
INIT_POINTS = {"create": 100, "start": 25, "exec": 40}
ALL_INIT_POINTS = {"create": 500, "start": 25, "exec": 150}

# Calls that wait, at which a signal may come: those of both, and open(2), which in the runtime may be of anything.
WAITING = frozenset("read write recvmsg sendmsg sendto poll ppoll select pselect6 waitid wait4 flock".split())
RUNTIME_WAITING = WAITING | {"open", "openat"}
# Those of ocirt-init that may fail, and with what. None: with anything.
INIT_CAN_DO_WITHOUT: dict[str, frozenset[int] | None] = {
    # The descriptor is closed all the same.
    "close": None,
    # musl sets once more what open(2) has set.
    "fcntl": None,
    # Already the leader of a session.
    "setsid": frozenset({errno.EPERM}),
    # Not known to an old seccomp profile, which says EPERM: it is done in another way.
    "close_range": frozenset({errno.EPERM}),
    "faccessat2": frozenset({errno.EPERM}),
    # stdio that cannot be given to the user stays as it is.
    "fchownat": frozenset({errno.EPERM}),
    # The CPU affinity stays as it was inherited, as with runc.
    "sched_setaffinity": None,
    # What cannot be told to be a mount's root is not taken for one, and covered once more.
    "statx": None,
    # So does the kernel answer who lacks CAP_SETPCAP and drops a capability that it does not know; that of one which it
    # knows is an error (tests/c).
    "prctl": frozenset({errno.EPERM}),
}
# Without it HOME is "/", as for a user that is not in /etc/passwd. Nothing else is opened to be read.
HOME_CALLS = ("openat2", "fstat", "read")
# It is raised then, whatever it was. To raise it in vain is an error.
ASKS_LOOPBACK = ("ioctl", "lo")


@pytest.mark.parametrize(
    ("kind", "name", "count"),
    [
        *points_of("plain", counts=ALL_RUNTIME_POINTS),
        *points_of("plain", counts={"pause": 60, "resume": 40, "update": 120}),
        *points_of("hooked", "isolated", counts=RUNTIME_POINTS),
        *points_of("networked", counts={"create": 60}),
        *points_of("brief", counts={"run in the foreground": 60}),
    ],
)
def test_call_of_the_runtime_fails(new_subject: NewSubject, kind: str, name: str, count: int) -> None:
    sweep = Sweep(COMMANDS[name], new_subject(kind))
    check(sweep, sample(faults_of(sweep.calls(of_runtime=True)), count))


@pytest.mark.parametrize(
    ("kind", "name", "count"),
    [
        *points_of("plain", counts=ALL_INIT_POINTS),
        *points_of("hooked", "isolated", counts=INIT_POINTS),
        *points_of("networked", counts={"create": 30}),
    ],
)
def test_call_of_init_fails(new_subject: NewSubject, kind: str, name: str, count: int) -> None:
    sweep = Sweep(COMMANDS[name], new_subject(kind))
    check(sweep, sample(faults_of(sweep.calls(of_runtime=False)), count))


def faults_of(calls: list[Call]) -> list[tuple[Call, int]]:
    """Each call with each error; where not all are wanted, with one, which is another one at the next call."""
    if is_complete():
        return [(call, error) for call in calls for error in ERRORS]
    return [(call, ERRORS[(i + seed()) % len(ERRORS)]) for i, call in enumerate(calls)]


def check(sweep: Sweep, faults: list[tuple[Call, int]]) -> None:
    """Goes through the faults, and asserts what this module says."""
    errors = iter(faults)

    def fail(server: Server, call: Call, argv: tuple[str, ...], other: int) -> Done:
        return server.fail_at(call, next(errors)[1], *argv, other=other)

    wrong = []
    for (call, error), (_, done) in zip(faults, sweep.disturb([call for call, _ in faults], fail), strict=True):
        if done.fired == "rt_sigreturn":  # a signal came where another call was: this one has no error to give
            sweep.subject.clear()
            continue
        what = sweep.wrong_after_failure(done)
        if done.rc == 0 and done.fired not in ("", *CANNOT_FAIL):  # a call earlier or later than at the first time
            what += wrong_success(sweep, call, error, done)
        elif done.rc and error == errno.EINTR and done.fired in (RUNTIME_WAITING if call.of_runtime else WAITING):
            what.append(f"interrupted: {done.err!r}")
        what += [each for each in sweep.aftermath() if not is_tolerable(each, error, done)]
        if what:
            wrong.append(f"{errno.errorcode[error]} {call} {done.fired} {done.text!r}: {'; '.join(what)}")
            sweep.subject.clear()
    assert not wrong, "\n".join(wrong)


def wrong_success(sweep: Sweep, call: Call, error: int, done: Done) -> list[str]:
    """What is wrong with a command that succeeded although a call failed."""
    status = sweep.subject.status()
    is_init_waiting = not call.of_runtime and sweep.command.name == "create" and status == "stopped"
    if status not in sweep.command.success and not is_init_waiting:
        return [f"success, but the status is {status!r}"]
    if call.of_runtime or is_init_waiting or (error == errno.EINTR and done.fired in WAITING):
        return []
    if done.fired in HOME_CALLS or (done.fired, done.text) == ASKS_LOOPBACK:
        return []
    tolerated = INIT_CAN_DO_WITHOUT.get(done.fired, frozenset())
    return [] if tolerated is None or error in tolerated else [f"{done.fired} failed unnoticed"]


def is_tolerable(wrong: str, error: int, done: Done) -> bool:
    """A cgroup that a container's parent may not be removed from: EPERM says that it is not ours to remove."""
    return wrong.startswith("cgroup ") and done.fired == "rmdir" and error == errno.EPERM
