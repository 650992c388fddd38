"""Hooks of the runtime: what they get, how long they may take, and what becomes of their failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirt.errors import HostError, OcirtError
from ocirt.hooks import HookError, run_hooks
from ocirt.spec import Hook
from tests.support.child import in_child


@pytest.fixture
def state(tmp_path: Path) -> dict[str, object]:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    return {"ociVersion": "1.3.0", "id": "c1", "status": "creating", "pid": 7, "bundle": str(bundle)}


def shell(script: str, *, timeout: int | None = None, env: tuple[str, ...] = ()) -> Hook:
    return Hook(path="/bin/sh", args=("sh", "-c", script), env=env, timeout=timeout)


def wait_gone(pid: int, seconds: float = 5) -> bool:
    """Whether the process ends: its parent, which is killed, can't wait for it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)


def test_state_is_on_stdin(state: dict[str, object], tmp_path: Path) -> None:
    run_hooks("createRuntime", [shell(f"cat > {tmp_path}/1"), shell(f"cat > {tmp_path}/2")], state)
    for name in ("1", "2"):
        assert json.loads((tmp_path / name).read_text()) == state


def test_large_state_that_nobody_reads(state: dict[str, object]) -> None:
    run_hooks("createRuntime", [shell("exit 0")], state | {"annotations": {"a": "x" * 2**20}})


def test_environment_is_its_own(state: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    hook = Hook(path="/usr/bin/env", env=("A=1", "B=x y"))
    out = {"annotations": {"run.oci.hooks.stdout": str(tmp_path / "out")}}
    run_hooks("createRuntime", [hook, Hook(path="/usr/bin/env")], state | out)
    assert (tmp_path / "out").read_text() == "A=1\nB=x y\n"


def test_arguments(state: dict[str, object], tmp_path: Path) -> None:
    out = {"annotations": {"run.oci.hooks.stdout": str(tmp_path / "out")}}
    hooks = [
        Hook(path="/bin/sh", args=("any name", "-c", 'echo "$0|$1|$2"', "x", "", "a b")),
        Hook(path="/bin/echo"),
        Hook(path="/bin/echo", args=()),
    ]
    run_hooks("createRuntime", hooks, state | out)
    assert (tmp_path / "out").read_text() == "x||a b\n\n\n"


def test_directory_is_the_bundle(state: dict[str, object], tmp_path: Path) -> None:
    run_hooks("createRuntime", [shell("pwd > where")], state)
    assert (tmp_path / "bundle" / "where").read_text() == f"{tmp_path}/bundle\n"


def test_bundle_that_has_gone(state: dict[str, object]) -> None:
    run_hooks("poststop", [shell("exit 0")], state | {"bundle": "/no/such/bundle"})


def test_no_descriptors_and_no_signals_of_the_runtime(state: dict[str, object], tmp_path: Path) -> None:
    out = {"annotations": {"run.oci.hooks.stdout": str(tmp_path / "out")}}
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        grep = Hook(path="/bin/grep", args=("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"))
        run_hooks("createRuntime", [shell("ls /proc/$$/fd"), grep], state | out)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGUSR2, ignored)
        os.close(leak)
    descriptors = {line for line in (tmp_path / "out").read_text().splitlines() if line.isdigit()}
    assert descriptors <= {"0", "1", "2", "10"}, "10 is the shell's own"
    zeros = "0" * 16
    assert f"SigBlk:\t{zeros}\nSigIgn:\t{zeros}\n" in (tmp_path / "out").read_text()


def test_order_and_the_first_failure(state: dict[str, object], tmp_path: Path) -> None:
    hooks = [shell("echo 1 >> log"), shell("echo 2 >> log; echo wrong; echo more >&2; exit 3"), shell("echo 3 >> log")]
    with pytest.raises(HookError) as caught:
        run_hooks("prestart", hooks, state)
    assert str(caught.value) == (
        "/hooks/prestart/1: error running prestart hook #1: /bin/sh: exit status 3, output: wrong\\nmore"
    )
    assert (tmp_path / "bundle" / "log").read_text() == "1\n2\n"


def test_all_are_run_where_a_failure_is_a_warning(state: dict[str, object], tmp_path: Path) -> None:
    hooks = [shell("exit 1"), Hook(path="/no/such/hook"), shell("echo 3 >> log"), shell("kill -9 $$")]
    told: list[OcirtError] = []
    run_hooks("poststop", hooks, state, told.append)
    assert [str(error) for error in told] == [
        "/hooks/poststop/0: error running poststop hook #0: /bin/sh: exit status 1",
        "/hooks/poststop/1: execve /no/such/hook: no such file or directory",
        "/hooks/poststop/3: error running poststop hook #3: /bin/sh: killed by signal 9",
    ]
    assert (tmp_path / "bundle" / "log").read_text() == "3\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or directory"),
        (lambda path: path.write_text("#!/bin/sh\n"), "permission denied"),
        (lambda path: (path.write_text("garbage"), path.chmod(0o755)), "exec format error"),
        (lambda path: path.mkdir(), "permission denied"),
    ],
)
def test_hook_that_cannot_be_executed(
    make: Callable[[Path], object], message: str, state: dict[str, object], tmp_path: Path
) -> None:
    make(tmp_path / "hook")
    with pytest.raises(HostError, match=f"/hooks/prestart/0: execve {tmp_path}/hook: {message}"):
        run_hooks("prestart", [Hook(path=str(tmp_path / "hook"))], state)


def test_no_end_of_output_is_waited_for(state: dict[str, object], tmp_path: Path) -> None:
    """A daemon that a hook leaves behind keeps its stdout: runc waits for it."""
    before = time.monotonic()
    run_hooks("createRuntime", [shell("sleep 60 & echo $! > daemon")], state)
    assert time.monotonic() - before < 5
    daemon = int((tmp_path / "bundle" / "daemon").read_text())
    os.kill(daemon, 0)
    os.kill(daemon, signal.SIGKILL)
    assert wait_gone(daemon)


@pytest.mark.parametrize(
    "script", ["sleep 60", "sleep 60 & echo $! > below; wait", "trap '' TERM; sleep 60 & echo $! > below; wait"]
)
def test_timeout_is_exact_and_ends_the_whole_group(script: str, state: dict[str, object], tmp_path: Path) -> None:
    before = time.monotonic()
    with pytest.raises(HookError, match="/bin/sh: ran past its timeout of 1 s"):
        run_hooks("prestart", [shell(f"echo $$ > leader; {script}", timeout=1)], state)
    assert 1 <= time.monotonic() - before < 3
    for name in ("leader", "below"):
        file = tmp_path / "bundle" / name
        assert not file.exists() or wait_gone(int(file.read_text()))


def test_a_hook_ends_with_the_container(state: dict[str, object], tmp_path: Path) -> None:
    init = subprocess.Popen(["sleep", "60"])
    pidfd = os.pidfd_open(init.pid)
    try:
        run_hooks("prestart", [shell("exit 0")], state, init_pidfd=pidfd)
        init.kill()
        with pytest.raises(HookError, match=r"^/hooks/prestart/0: .*: the container was killed meanwhile$"):
            run_hooks("prestart", [shell("echo $$ > leader; sleep 60")], state, init_pidfd=pidfd)
    finally:
        os.close(pidfd)
        init.kill()
        init.wait()
    leader = tmp_path / "bundle" / "leader"
    assert not leader.exists() or wait_gone(int(leader.read_text()))


def test_time_enough(state: dict[str, object]) -> None:
    run_hooks("prestart", [shell("exit 0", timeout=60)], state)


def test_endless_output_is_neither_kept_nor_waited_for(state: dict[str, object]) -> None:
    with pytest.raises(HookError) as caught:
        run_hooks("prestart", [shell("yes", timeout=1)], state)
    assert 500 < len(str(caught.value)) < 4000


def test_output_of_a_hook_stays_one_line(state: dict[str, object]) -> None:
    with pytest.raises(HookError) as caught:
        run_hooks("prestart", [shell("printf 'a\\nb\\033[31m\\377'; exit 1")], state)
    assert str(caught.value).isprintable()


def test_output_to_files(state: dict[str, object], tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    annotations = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    hooks = [shell("echo o1; echo e1 >&2"), shell("echo o2; echo e2 >&2")]
    run_hooks("prestart", hooks, state | {"annotations": annotations})
    assert (out.read_text(), err.read_text()) == ("o1\no2\n", "e1\ne2\n")


def test_output_file_is_no_symlink_and_absolute(state: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    with pytest.raises(HostError, match=r"/annotations/run\.oci\.hooks\.stdout: open .*too many levels"):
        run_hooks(
            "prestart", [shell("exit 0")], state | {"annotations": {"run.oci.hooks.stdout": str(tmp_path / "out")}}
        )
    with pytest.raises(HookError, match="not an absolute path"):
        run_hooks("prestart", [shell("exit 0")], state | {"annotations": {"run.oci.hooks.stderr": "out"}})


def test_hook_dies_with_the_runtime(state: dict[str, object], tmp_path: Path) -> None:
    started = tmp_path / "bundle" / "pid"
    os.mkfifo(started)
    pid = in_child(lambda: run_hooks("prestart", [shell("echo $$ > pid; exec sleep 60")], state))
    hook = int(started.read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert wait_gone(hook)


def test_interrupt_ends_the_hook(state: dict[str, object], tmp_path: Path) -> None:
    """^C in a foreground run: the hook, in a session of its own, doesn't get it from the terminal."""
    started = tmp_path / "bundle" / "pid"
    os.mkfifo(started)

    def runtime() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_hooks("prestart", [shell("echo $$ > pid; exec sleep 60")], state)

    pid = in_child(runtime)
    hook = int(started.read_text())
    os.kill(pid, signal.SIGINT)
    assert os.waitpid(pid, 0)[1] == 0
    assert wait_gone(hook)


def test_no_descriptor_is_left(state: dict[str, object]) -> None:
    before = os.listdir("/proc/self/fd")
    run_hooks("prestart", [shell("exit 0")], state)
    with pytest.raises(HostError):
        run_hooks("prestart", [Hook(path="/no/such")], state)
    with pytest.raises(HookError):
        run_hooks("prestart", [shell("sleep 9", timeout=1)], state)
    assert os.listdir("/proc/self/fd") == before
