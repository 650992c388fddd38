"""Faults: a runtime that is killed at any moment, a state directory that cannot be written. Nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support import leaks
from tests.support.isolation import mount, umount
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MOMENTS = 25


def kill_after(runtime: Runtime, delay_seconds: float, *words: str | Path) -> None:
    """Begins a command and kills it, if it still runs, after the delay."""
    process = subprocess.Popen(
        runtime.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(delay_seconds)
    process.kill()
    process.wait()


def seconds_of(runtime: Runtime, *words: str | Path) -> float:
    """How long a command takes."""
    begin = time.monotonic()
    runtime.run(*words)
    return time.monotonic() - begin


def assert_clean_after_delete(container: Container) -> None:
    """`list` and `state` answer, `delete --force` succeeds, and the state directory is as it was before."""
    runtime = container.runtime
    listed = runtime.run("list", "-q").out.split()
    assert set(listed) <= {container.id}
    assert runtime.run("state", container.id, check=False).rc in (0, 1)
    container.delete("--force")
    assert "container does not exist" in runtime.run("state", container.id, check=False).error
    left = [entry.name for entry in runtime.root.iterdir()] if runtime.root.exists() else []
    assert [name for name in left if container.id in name] == []


@pytest.fixture
def own_root(runtime: Runtime, scratch: Path) -> Runtime:
    """The runtime with a state directory that no other test uses."""
    return Runtime(runtime.name, runtime.command, scratch / "state-faults")


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_create_is_killed(container: Container, own_root: Runtime, moment: int) -> None:
    container.runtime = own_root
    container.write_config()
    words = ["create", "--bundle", container.bundle, container.id]
    duration = seconds_of(own_root, *map(str, words))
    container.delete("--force")
    kill_after(own_root, duration * (moment + 0.5) / MOMENTS, *map(str, words))
    assert_clean_after_delete(container)


@pytest.mark.parametrize("moment", range(MOMENTS // 2))
def test_start_is_killed(container: Container, own_root: Runtime, moment: int) -> None:
    container.runtime = own_root
    container.process["args"] = ["/bin/sleep", "1000"]
    container.create()
    kill_after(own_root, 0.2 * moment / MOMENTS, "start", container.id)
    assert_clean_after_delete(container)


@pytest.mark.parametrize("moment", range(MOMENTS // 2))
def test_delete_is_killed(container: Container, own_root: Runtime, moment: int) -> None:
    container.runtime = own_root
    container.process["args"] = ["/bin/sleep", "1000"]
    container.start_new()
    kill_after(own_root, 0.2 * moment / MOMENTS, "delete", "--force", container.id)
    assert_clean_after_delete(container)


@pytest.mark.parametrize("moment", range(MOMENTS // 2))
def test_run_is_killed(container: Container, own_root: Runtime, moment: int) -> None:
    container.runtime = own_root
    container.process["args"] = ["/bin/sleep", "1000"]
    container.write_config()
    kill_after(own_root, 0.4 * moment / MOMENTS, "run", "--bundle", container.bundle, container.id)
    assert_clean_after_delete(container)


@pytest.mark.parametrize("moment", range(MOMENTS // 2))
def test_exec_is_killed(container: Container, own_root: Runtime, moment: int) -> None:
    container.runtime = own_root
    container.hold()
    kill_after(own_root, 0.2 * moment / MOMENTS, "exec", container.id, "/bin/sleep", "1000")
    assert container.status == "running"
    assert container.exec("/bin/echo", "still well").out == "still well\n"
    container.kill("KILL")
    wait_for(lambda: reaped(container).status == "stopped")
    assert_clean_after_delete(container)


def reaped(container: Container) -> Container:
    """What the killed exec had started is an orphan, of this process, and init cannot end before it has been reaped."""
    leaks.reap_children()
    return container


@pytest.mark.common
def test_create_in_a_hook_is_killed(container: Container) -> None:
    """Killed while a hook runs: the half-made container can be deleted."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {container.bundle}/begun; exec sleep 3"]}
    container.config["hooks"] = {"createRuntime": [hook]}
    container.write_config()
    process = subprocess.Popen(
        container.runtime.argv("create", "--bundle", container.bundle, container.id),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (container.bundle / "begun").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    container.delete("--force")
    assert container.runtime.run("state", container.id, check=False).rc == 1


def test_parent_death_signal_of_the_caller(container: Container) -> None:
    """conmon and the shim set PDEATHSIG on the runtime: when they die during create, nothing goes on."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {container.bundle}/begun; exec sleep 3"]}
    container.config["hooks"] = {"createRuntime": [hook]}
    container.write_config()
    script = (
        "import ctypes, signal, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))\n"
    )
    argv = container.runtime.argv("create", "--bundle", container.bundle, container.id)
    process = subprocess.Popen(["/usr/bin/python3", "-c", script, *argv], stdin=subprocess.DEVNULL)
    while not (container.bundle / "begun").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    container.delete("--force")
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_create_ended_by_another_signal(container: Container, number: int) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {container.bundle}/begun; exec sleep 3"]}
    container.config["hooks"] = {"createRuntime": [hook]}
    container.write_config()
    argv = container.runtime.argv("create", "--bundle", container.bundle, container.id)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (container.bundle / "begun").exists():
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(10) != 0
    container.delete("--force")
    assert not (container.runtime.root / container.id).exists()


@pytest.fixture
def small_root(container: Container, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A state directory on a tmpfs mounted with the flags and options that the test names; the container's."""
    folder = container.bundle / "small-root"
    folder.mkdir()
    flags, options = request.param
    mount("tmpfs", str(folder), "tmpfs", flags, options)
    before = container.runtime
    container.runtime = Runtime(before.name, before.command, folder if flags else folder / "state")
    try:
        yield container.runtime.root
    finally:
        container.runtime = before
        umount(str(folder))


@pytest.mark.common
@pytest.mark.parametrize(
    "small_root",
    [(1, "mode=700"), (0, "nr_inodes=2"), (0, "nr_inodes=4"), (0, "nr_inodes=6"), (0, "size=4k")],
    indirect=True,
    ids=["read-only", "2 inodes", "4 inodes", "6 inodes", "one page"],
)
def test_state_directory_that_cannot_be_written(container: Container, small_root: Path) -> None:
    result = container.create(check=False)
    assert result.rc != 124
    assert "Traceback" not in result.err
    if result.rc == 0:
        container.delete("--force")
    else:
        assert not (small_root / container.id).exists()


@pytest.mark.common
def test_state_of_a_container_whose_init_was_killed(container: Container) -> None:
    container.create()
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    assert container.status == "stopped"
    container.delete()


def test_pid_that_was_given_to_another_process(container: Container, new: NewContainer) -> None:
    """The identity is the pid with its start time: a stranger with the pid is neither shown nor killed."""
    container.shell("true")
    container.start_new()
    container.wait()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        state = next((container.runtime.root / container.id).glob("state.json"))
        text = state.read_text()
        assert str(container.pid) in text
        state.write_text(text.replace(str(container.pid), str(stranger.pid)))
        assert container.status == "stopped"
        container.kill("KILL", check=False)
        container.delete("--force")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
