"""RUN_HOOK: what a hook gets, and what it may do without harm."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ocirt import constants as k
from ocirt import ops
from ocirt._native import lib
from tests.c.init_runner import InitRunner, Outcome, failing, shell

POINTER = "/hooks/createContainer/0"
HEAD, TAIL = '{"id": "c", "pid": ', ', "status": "creating"}'


def hook(
    script: str, *arguments: str, env: Sequence[str] = (), timeout_sec: int = 0, head: str = HEAD, tail: str = TAIL
) -> ops.RunHook:
    return ops.RunHook(POINTER, "/bin/sh", ("sh", "-c", script, *arguments), tuple(env), head, tail, timeout_sec)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def dies(pid: int) -> bool:
    """Whether the process ends soon: a signal takes its time."""
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


def read_pid(path: Path) -> int:
    return int(path.read_text())


def failed(outcome: Outcome) -> str:
    """The whole story of a hook's failure, which needs no errno."""
    assert outcome.error == 0
    return outcome.detail


def test_state_on_stdin(init: InitRunner, tmp_path: Path) -> None:
    with init.start(hook(f"cat > {tmp_path}/state"), ops.Sync("", lib.SYNC_READY)) as running:
        running.serve(until=lib.SYNC_READY)
        state = json.loads((tmp_path / "state").read_text())
        assert state == {"id": "c", "pid": running.pid, "status": "creating"}


def test_pid_is_of_the_containers_namespace(init: InitRunner, tmp_path: Path) -> None:
    outcome = init.run(hook(f"cat > {tmp_path}/state"), clone_flags=k.CLONE_NEWUSER | k.CLONE_NEWPID)
    assert outcome.failure is None
    assert json.loads((tmp_path / "state").read_text())["pid"] == 1


def test_state_that_is_larger_than_a_pipe(init: InitRunner, tmp_path: Path) -> None:
    tail = ', "annotations": "' + "x" * 300_000 + '"}'
    outcome = init.run(hook(f"sleep 0.1; cat > {tmp_path}/state", tail=tail))
    assert outcome.failure is None
    assert len(json.loads((tmp_path / "state").read_text())["annotations"]) == 300_000


@pytest.mark.parametrize("script", ["true", "exec <&-; sleep 0.1", "head -c 10 > /dev/null; exec <&-; sleep 0.1"])
def test_state_that_is_not_read(init: InitRunner, script: str) -> None:
    """Neither does it block init, nor does its writing become a SIGPIPE."""
    assert init.run(hook(script, tail="x" * 300_000)).failure is None


def test_arguments(init: InitRunner, tmp_path: Path) -> None:
    assert init.run(hook(f'printf "%s|" "$0" "$@" > {tmp_path}/args', "zero", "one", "", "t w o")).failure is None
    assert (tmp_path / "args").read_text() == "zero|one||t w o|"


def test_without_arguments_it_gets_its_path(init: InitRunner, tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\necho $0 $# > {tmp_path}/args\n")
    script.chmod(0o755)
    assert init.run(ops.RunHook(POINTER, str(script), (), (), HEAD, TAIL)).failure is None
    assert (tmp_path / "args").read_text() == f"{script} 0\n"


def test_environment_is_its_own(init: InitRunner, tmp_path: Path) -> None:
    exact = ops.RunHook(
        POINTER, "/bin/cp", ("cp", "/proc/self/environ", str(tmp_path / "raw")), ("A=1", "A=2"), HEAD, TAIL
    )
    assert init.run(exact).failure is None
    assert (tmp_path / "raw").read_bytes() == b"A=1\0A=2\0"


def test_umask_is_the_programs(init: InitRunner, tmp_path: Path) -> None:
    assert init.run(ops.SetUmask("", 0o037), hook(f"umask > {tmp_path}/umask")).failure is None
    assert (tmp_path / "umask").read_text() == "0037\n"


def test_it_leads_a_session_of_its_own(init: InitRunner, tmp_path: Path) -> None:
    assert (
        init.run(hook(f"cut -d ' ' -f 5,6 /proc/$$/stat > {tmp_path}/ids; echo $$ >> {tmp_path}/ids")).failure is None
    )
    group, session, pid = (tmp_path / "ids").read_text().split()
    assert group == session == pid


def test_it_gets_no_other_descriptors(init: InitRunner, tmp_path: Path) -> None:
    """Neither init's, nor those that --preserve-fds is for."""
    preserved = os.open("/dev/zero", os.O_RDONLY)
    # ls itself has a descriptor, of the directory that it lists
    listing = ops.RunHook(POINTER, "/bin/sh", ("sh", "-c", f"ls /proc/self/fd > {tmp_path}/fds"), (), HEAD, TAIL)
    try:
        outcome = init.run(ops.OpenProc(""), listing, inherited=[preserved], slots=[preserved], preserve_fds=190)
    finally:
        os.close(preserved)
    assert outcome.failure is None
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="fails a system call by its name on x86-64")
def test_preserved_descriptors_without_close_range(init: InitRunner, tmp_path: Path) -> None:
    preserved = os.open("/dev/zero", os.O_RDONLY)
    listing = ops.RunHook(POINTER, "/bin/sh", ("sh", "-c", f"ls /proc/self/fd > {tmp_path}/fds"), (), HEAD, TAIL)
    plan = (ops.SetNoNewPrivileges(""), failing(close_range=errno.EPERM), listing)
    try:
        outcome = init.run(*plan, inherited=[preserved], preserve_fds=190)
    finally:
        os.close(preserved)
    assert outcome.failure is None
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]


def test_seccomp_profile_that_is_older_than_some_calls(init: InitRunner, tmp_path: Path) -> None:
    """startContainer hooks run below the container's filter, which may know nothing of what is new."""
    old = dict.fromkeys(("clone3", "pidfd_open", "close_range", "memfd_create", "waitid", "openat2"), errno.ENOSYS)
    assert init.run(ops.SetNoNewPrivileges(""), failing(**old), hook(f"cat > {tmp_path}/state")).failure is None
    assert (tmp_path / "state").read_text().endswith(TAIL)


def test_it_runs_below_the_filter(init: InitRunner) -> None:
    outcome = init.run(ops.SetNoNewPrivileges(""), failing(uname=errno.EIO), hook("uname || exit 7"))
    assert failed(outcome).startswith("exit status 7")


def test_exit_status_and_output(init: InitRunner) -> None:
    script = "printf 'first \\033[1m line\\n\\n'; echo 'second\tline' >&2; exit 3"
    assert failed(init.run(hook(script))) == "exit status 3: first [1m line second line"


def test_exit_status_without_output(init: InitRunner) -> None:
    outcome = init.run(hook("exit 1"))
    assert failed(outcome) == "exit status 1"
    assert outcome.message == "/hooks/createContainer/0: run hook /bin/sh: exit status 1"


def test_signal(init: InitRunner) -> None:
    assert failed(init.run(hook("kill -SEGV $$"))).startswith("killed by signal 11")


def test_much_output_is_cut(init: InitRunner) -> None:
    """And read to its end: the hook does not wait for anybody."""
    outcome = init.run(hook("head -c 3000000 /dev/zero | tr '\\0' x; exit 1"))
    text = failed(outcome)
    assert text.startswith("exit status 1: xxxx")
    assert 200 < len(text) < lib.MESSAGE_DETAIL_BYTES


def test_hook_that_is_missing(init: InitRunner) -> None:
    outcome = init.run(ops.RunHook(POINTER, "/nowhere/hook", ("hook",), (), HEAD, TAIL))
    assert (outcome.error, outcome.detail) == (errno.ENOENT, "execve /nowhere/hook")


def test_hook_that_is_not_executable(init: InitRunner, tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    outcome = init.run(ops.RunHook(POINTER, str(tmp_path / "hook"), (), (), HEAD, TAIL))
    assert (outcome.error, outcome.detail) == (errno.EACCES, f"execve {tmp_path}/hook")


def test_too_many_arguments(init: InitRunner) -> None:
    outcome = init.run(ops.RunHook(POINTER, "/bin/true", ("x" * 200_000,), (), HEAD, TAIL))
    assert (outcome.error, outcome.detail) == (errno.E2BIG, "execve /bin/true")


def test_timeout_is_exact(init: InitRunner) -> None:
    begin = time.monotonic()
    assert failed(init.run(hook("sleep 30", timeout_sec=1))) == "timed out after 1 s"
    assert 1 <= time.monotonic() - begin < 1.6


def test_timeout_kills_the_whole_group(init: InitRunner, tmp_path: Path) -> None:
    """Also where a grandchild holds the pipes: runc waits for that, crun leaves it."""
    script = f"(trap '' TERM; sleep 30) & echo $! > {tmp_path}/pid; exec sleep 30"
    begin = time.monotonic()
    assert failed(init.run(hook(script, timeout_sec=1))) == "timed out after 1 s"
    assert time.monotonic() - begin < 1.6
    assert dies(read_pid(tmp_path / "pid"))


def test_in_time(init: InitRunner) -> None:
    assert init.run(hook("sleep 0.2", timeout_sec=2)).failure is None


def test_grandchild_with_the_pipes_is_not_waited_for(init: InitRunner, tmp_path: Path) -> None:
    """A hook may leave a process behind."""
    begin = time.monotonic()
    assert init.run(hook(f"sleep 20 & echo $! > {tmp_path}/pid", timeout_sec=10)).failure is None
    assert time.monotonic() - begin < 2
    pid = read_pid(tmp_path / "pid")
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_grandchild_that_goes_on_printing(init: InitRunner, tmp_path: Path) -> None:
    outcome = init.run(hook(f"yes & echo $! > {tmp_path}/pid; exit 4"))
    assert failed(outcome).startswith("exit status 4")


def test_runtime_that_is_gone_takes_the_hook_along(init: InitRunner, tmp_path: Path) -> None:
    """Else a hook without a timeout would keep a half-made container, that nobody waits for, for ever."""
    script = f"sleep 30 & echo $! > {tmp_path}/pid; wait"
    with init.start(ops.Sync("", lib.SYNC_RUNTIME_HOOKS), hook(script)) as running:
        running.serve(until=lib.SYNC_RUNTIME_HOOKS)
        running.go()
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        running.socket.close()
        assert running.wait() == 1
        assert dies(read_pid(tmp_path / "pid"))


def test_hook_dies_with_init(init: InitRunner, tmp_path: Path) -> None:
    with init.start(hook(f"echo $$ > {tmp_path}/pid; exec sleep 30")) as running:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        hook_pid = read_pid(tmp_path / "pid")
        os.kill(int(Path(f"/proc/{hook_pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
        running.serve()
        assert dies(hook_pid)


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        ("pipe2", "pipe2"),
        ("clone", "clone"),
        ("ppoll", "ppoll /bin/sh"),
        ("setsid", "setsid /bin/sh"),
        ("wait4", "wait4"),
    ],
)
def test_system_calls_that_fail(init: InitRunner, call: str, detail: str) -> None:
    outcome = init.run(ops.SetNoNewPrivileges(""), failing(**{call: errno.EIO}), hook("sleep 1"))
    assert (outcome.error, outcome.detail) == (errno.EIO, detail)


def test_program_is_executed_after_hooks(init: InitRunner) -> None:
    assert init.run(hook("true"), hook("true"), *shell("echo done")).text() == "done\n"
