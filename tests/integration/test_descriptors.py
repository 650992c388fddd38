"""Descriptors: those that are passed on, those that must not be, and the sockets that receive pidfds and readiness."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.console import FdSocket
from tests.support.facts import Facts
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


def fds_of(out: str) -> dict[str, str]:
    fds: dict[str, str] = Facts.parse(out)["fds"]
    return fds


@pytest.mark.common
def test_only_stdio(container: Container) -> None:
    assert set(container.facts()["fds"]) == {"0", "1", "2"}


@pytest.mark.common
def test_inherited_descriptors_are_closed(container: Container) -> None:
    """CVE-2024-21626: also those that the runtime got without close-on-exec, folders of the host among them."""
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    high = os.dup2(folder, 200)
    try:
        assert set(fds_of(container.run(pass_fds=[folder, high]).out)) == {"0", "1", "2"}
    finally:
        os.close(folder)
        os.close(high)


@pytest.mark.common
def test_created_init_holds_no_folder_of_the_host(container: Container) -> None:
    container.create()
    targets = [os.readlink(entry) for entry in Path(f"/proc/{container.pid}/fd").iterdir()]
    for target in targets:
        assert not (target.startswith("/") and os.path.isdir(target)), targets


def run_with_descriptors(container: Container, script: str, *command: str) -> Facts:
    """Runs a command of the runtime behind a shell script, which opens descriptors and ends with `exec "$@"`."""
    container.write_config()
    argv = ["sh", "-c", script, "sh", *container.runtime.argv(*command)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    return Facts.parse(done.stdout.decode())


@pytest.mark.common
def test_preserve_fds(container: Container) -> None:
    """--preserve-fds N passes 3 to N+2 on, and no others."""
    command = ["run", "--bundle", str(container.bundle), "--preserve-fds", "2", container.id]
    script = 'exec 3</dev/zero 4</dev/null 5</dev/full; exec "$@"'
    fds = run_with_descriptors(container, script, *command)["fds"]
    assert set(fds) == {"0", "1", "2", "3", "4"}
    assert (fds["3"], fds["4"]) == ("/dev/zero", "/dev/null")


@pytest.mark.common
def test_preserve_fds_with_a_hole(container: Container) -> None:
    result = container.run("--preserve-fds", "200", check=False)
    assert result.rc != 0


@pytest.mark.common
def test_exec_preserve_fds(container: Container) -> None:
    container.hold()
    command = ["exec", "--preserve-fds", "1", container.id, "/probe"]
    facts = run_with_descriptors(container, 'exec 3</dev/zero; exec "$@"', *command)
    assert set(facts["fds"]) == {"0", "1", "2", "3"}


@pytest.mark.common
def test_listen_fds(container: Container) -> None:
    """sd_listen_fds(3): the descriptors are passed on, and the pid is the container's own."""
    command = ["run", "--bundle", str(container.bundle), container.id]
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3</dev/zero'
    facts = run_with_descriptors(container, script, *command)
    assert set(facts["fds"]) == {"0", "1", "2", "3"}
    assert (facts.env()["LISTEN_FDS"], facts.env()["LISTEN_PID"]) == ("1", "1")


@pytest.mark.common
def test_no_listen_fds_without_any(container: Container) -> None:
    assert not {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"} & set(container.facts().env())


@pytest.mark.common
def test_notify_socket(container: Container) -> None:
    """sd_notify(3) of the container reaches the host's socket."""
    path = container.bundle / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(10)
        container.process["args"] = ["/probe", "notify", "READY=1"]
        process = container.run_in_background(env={**os.environ, "NOTIFY_SOCKET": str(path)})
        try:
            assert server.recv(1000).startswith(b"READY=1")
        finally:
            container.delete("--force", check=False)
            process.wait(10)


def test_pidfd_socket(container: Container) -> None:
    with FdSocket(container.bundle / "pidfd.sock") as listening:
        container.create("--pidfd-socket", listening.path)
        received = listening.receive()
        info = Path(f"/proc/self/fdinfo/{received.fds[0]}").read_text()
    assert f"Pid:\t{container.pid}\n" in info


def test_exec_pidfd_socket(container: Container) -> None:
    container.hold()
    with FdSocket(container.bundle / "pidfd.sock") as listening:
        pid_file = container.bundle / "exec.pid"
        flags = ["--detach", "--pid-file", pid_file, "--pidfd-socket", listening.path]
        container.exec(*map(str, flags), "/bin/sleep", "1000")
        info = Path(f"/proc/self/fdinfo/{listening.receive().fds[0]}").read_text()
    assert f"Pid:\t{pid_file.read_text()}\n" in info


@pytest.mark.common
def test_commands_leave_the_output_to_the_container_alone(container: Container) -> None:
    """containerd reads a command's output to its end: whatever outlives it must not hold it open."""
    container.process["args"] = ["/bin/sleep", "1000"]
    container.create()
    for command in (["start", container.id], ["kill", container.id, "KILL"], ["delete", "--force", container.id]):
        argv = container.runtime.argv(*command)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=True)
        assert done.stdout == b""


@pytest.mark.common
def test_closed_stdio(container: Container) -> None:
    """A caller without descriptors 0 to 2: what the runtime opens must not become the container's stdio."""
    container.shell("for fd in 0 1 2; do readlink /proc/self/fd/$fd; done > /seen")
    container.write_config()
    argv = container.runtime.argv("run", "--bundle", container.bundle, container.id)
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *argv], check=False, timeout=20)
    container.delete("--force")
    seen = (container.rootfs / "seen").read_text().split() if (container.rootfs / "seen").exists() else []
    assert all(target.startswith(("/dev/null", "/seen", "pipe:")) for target in seen), seen


@pytest.mark.common
def test_state_folder_is_closed_to_others(container: Container) -> None:
    container.create()
    folder = container.runtime.root / container.id
    assert folder.stat().st_mode & 0o777 in (0o700, 0o711)
    assert container.runtime.root.stat().st_mode & 0o077 in (0, 0o011)


def test_state_files_are_closed_to_others(container: Container) -> None:
    container.create()
    for path in (container.runtime.root / container.id).rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.common
def test_log_in_json(container: Container) -> None:
    log = container.bundle / "log.json"
    container.config["process"]["args"] = ["/no/such/program"]
    container.write_config()
    flags = ["--log", log, "--log-format", "json", "create", "--bundle", container.bundle, container.id]
    result = container.runtime.run(*map(str, flags), check=False)
    assert result.rc == 1
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries[-1]["level"] == "error"
    assert "no such file or directory" in entries[-1]["msg"]
    assert entries[-1]["time"]
    assert "no such file or directory" in result.err


def test_log_is_one_line_for_one_error(container: Container) -> None:
    """Podman parses the whole file as one JSON value."""
    log = container.bundle / "log.json"
    container.config["process"]["args"] = ["/no/such/program"]
    container.write_config()
    flags = ["--log", log, "--log-format", "json", "create", "--bundle", container.bundle, container.id]
    container.runtime.run(*map(str, flags), check=False)
    assert json.loads(log.read_text())["code"]
    assert log.stat().st_mode & 0o777 == 0o644


def test_log_is_no_symlink(container: Container) -> None:
    target = container.bundle / "target"
    target.write_text("kept")
    (container.bundle / "log").symlink_to(target)
    result = container.runtime.run("--log", container.bundle / "log", "state", "nobody", check=False)
    assert result.rc == 1
    assert target.read_text() == "kept"
