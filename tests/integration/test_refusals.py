"""What is refused: config.json of every bad kind, ids, and command lines. One line, no traceback, nothing left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import bind_entry
from tests.support.isolation import CGROUP
from tests.support.runtime import Container, Result, Runtime

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


def create_with(container: Container, data: bytes) -> Result:
    """Creates it from these bytes in the place of config.json."""
    (container.bundle / "config.json").write_bytes(data)
    return container.runtime.run("create", "--bundle", container.bundle, container.id, check=False)


def assert_refused(container: Container, result: Result) -> None:
    assert result.rc not in (0, 124)
    assert "Traceback" not in result.err
    assert result.error
    assert not (container.runtime.root / container.id).exists()


NOT_JSON = {
    "empty": b"",
    "truncated": b'{"ociVersion": "1.0.2", "root": {',
    "garbage": b"\xff\xfe\x00",
    "trailing": b"{} {}",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "utf-16": '{"ociVersion": "1.0.2"}'.encode("utf-16"),
    "nan": b'{"ociVersion": NaN}',
    "deep": b'{"a":' * 100000,
    "deep list": b"[" * 100000,
}


@pytest.mark.common
@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_config_that_is_no_json_object(container: Container, data: bytes) -> None:
    assert_refused(container, create_with(container, data))


def test_config_of_ten_megabytes(container: Container) -> None:
    container.config["annotations"] = {f"key{number}": "x" * 1000 for number in range(10000)}
    assert "config.json" in container.refused()


@pytest.mark.common
def test_missing_config(container: Container) -> None:
    result = container.runtime.run("create", "--bundle", container.bundle, container.id, check=False)
    assert_refused(container, result)
    assert "config.json" in result.error


@pytest.mark.common
def test_config_that_is_a_folder(container: Container) -> None:
    (container.bundle / "config.json").mkdir()
    result = container.runtime.run("create", "--bundle", container.bundle, container.id, check=False)
    assert_refused(container, result)
    (container.bundle / "config.json").rmdir()


@pytest.mark.common
def test_missing_bundle(container: Container) -> None:
    result = container.runtime.run("create", "--bundle", "/no/such/bundle", container.id, check=False)
    assert_refused(container, result)
    assert "no such file or directory" in result.error


@pytest.mark.common
@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a b", "a;b", "a\nb", "ü", "$(x)", "a\\b", "-x", "--", "é" * 10],
)
def test_id(container: Container, runtime: Runtime, name: str) -> None:
    container.write_config()
    before = sorted(runtime.root.iterdir()) if runtime.root.exists() else []
    result = runtime.run("create", "--bundle", container.bundle, name, check=False)
    assert result.rc not in (0, 124)
    assert (sorted(runtime.root.iterdir()) if runtime.root.exists() else []) == before


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb", "x" * 1025])
def test_id_in_runcs_words(container: Container, runtime: Runtime, name: str) -> None:
    container.write_config()
    error = runtime.run("create", "--bundle", container.bundle, name, check=False).error
    assert "invalid container ID format" in error or "container id cannot be empty" in error


def set_at(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one property of config.json."""

    def change(config: dict[str, Any]) -> None:
        place: Any = config
        for key in path[:-1]:
            place = place[key] if not isinstance(place, dict) else place.setdefault(key, {})
        place[path[-1]] = value

    return change


# Of these, some are refused by ocirt alone: runc 1.1 takes them.
WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no version": (lambda config: config.pop("ociVersion"), "ociVersion"),
    "version": (set_at("ociVersion", value="invalid"), "/ociVersion"),
    "root": (lambda config: config.pop("root"), "root"),
    "root.path empty": (set_at("root", "path", value=""), "/root/path"),
    "root.path NUL": (set_at("root", "path", value="a\0b"), "/root/path"),
    "readonly text": (set_at("root", "readonly", value="true"), "/root/readonly"),
    "args": (set_at("process", "args", value=[]), "/process/args"),
    "args NUL": (set_at("process", "args", value=["a\0b"]), "/process/args/0"),
    "env": (set_at("process", "env", value=["NOEQUALS"]), "/process/env/0"),
    "env NUL": (set_at("process", "env", value=["A=\0"]), "/process/env/0"),
    "cwd": (set_at("process", "cwd", value="relative"), "/process/cwd"),
    "cwd empty": (set_at("process", "cwd", value=""), "/process/cwd"),
    "uid negative": (set_at("process", "user", "uid", value=-1), "/process/user/uid"),
    "uid text": (set_at("process", "user", "uid", value="0"), "/process/user/uid"),
    "uid true": (set_at("process", "user", "uid", value=True), "/process/user/uid"),
    "uid huge": (set_at("process", "user", "uid", value=2**32), "/process/user/uid"),
    "uid fraction": (set_at("process", "user", "uid", value=0.5), "/process/user/uid"),
    "user null": (set_at("process", "user", value=None), "/process/user"),
    "nnp text": (set_at("process", "noNewPrivileges", value="true"), "/process/noNewPrivileges"),
    "nnp number": (set_at("process", "noNewPrivileges", value=1), "/process/noNewPrivileges"),
    "oom": (set_at("process", "oomScoreAdj", value=1001), "/process/oomScoreAdj"),
    "rlimit": (
        set_at("process", "rlimits", value=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
        "/process/rlimits/0/type",
    ),
    "rlimit soft": (
        set_at("process", "rlimits", value=[{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
        "/process/rlimits/0",
    ),
    "rlimit twice": (
        set_at("process", "rlimits", value=[{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2),
        "/process/rlimits/1",
    ),
    "capabilities list": (set_at("process", "capabilities", value=["CAP_KILL"]), "/process/capabilities"),
    "hostname": (set_at("hostname", value="x" * 65), "/hostname"),
    "hostname number": (set_at("hostname", value=5), "/hostname"),
    "mounts object": (set_at("mounts", value={}), "/mounts"),
    "destination": (lambda config: config["mounts"].append({"type": "tmpfs"}), "/mounts/6"),
    "destination NUL": (lambda config: config["mounts"].append({"destination": "/a\0", "type": "tmpfs"}), "/mounts/6"),
    "options": (lambda config: config["mounts"].append({"destination": "/a", "options": "ro"}), "/mounts/6/options"),
    "namespaces": (set_at("linux", "namespaces", value=[{"type": "x"}]), "/linux/namespaces/0/type"),
    "masked text": (set_at("linux", "maskedPaths", value="/proc"), "/linux/maskedPaths"),
    "readonly paths": (set_at("linux", "readonlyPaths", value="/proc"), "/linux/readonlyPaths"),
    "seccomp list": (set_at("linux", "seccomp", value=[]), "/linux/seccomp"),
    "cgroupsPath": (set_at("linux", "cgroupsPath", value="/../../up"), "/linux/cgroupsPath"),
    "cgroupsPath NUL": (set_at("linux", "cgroupsPath", value="/a\0"), "/linux/cgroupsPath"),
    "sysctl": (set_at("linux", "sysctl", value={"net/../kernel/panic": "1"}), "/linux/sysctl"),
    "sysctl dots": (set_at("linux", "sysctl", value={"net....kernel.panic": "1"}), "/linux/sysctl"),
    "sysctl value": (set_at("linux", "sysctl", value={"net.ipv4.ip_forward": 1}), "/linux/sysctl"),
    "device": (set_at("linux", "devices", value=[{"type": "x", "path": "/dev/x"}]), "/linux/devices/0"),
    "device up": (
        set_at("linux", "devices", value=[{"type": "c", "path": "/dev/../../x", "major": 1, "minor": 3}]),
        "/linux/devices/0",
    ),
    "propagation": (set_at("linux", "rootfsPropagation", value="sideways"), "/linux/rootfsPropagation"),
    "hook path": (set_at("hooks", "createRuntime", value=[{"path": "x"}]), "/hooks/createRuntime/0/path"),
    "hook timeout": (
        set_at("hooks", "createRuntime", value=[{"path": "/bin/true", "timeout": 0}]),
        "/hooks/createRuntime/0/timeout",
    ),
    "annotation": (set_at("annotations", value={"a": 1}), "/annotations"),
    "terminal": (set_at("process", "terminal", value="yes"), "/process/terminal"),
    "personality": (set_at("linux", "personality", value={"domain": "VMS"}), "/linux/personality"),
    "io priority": (set_at("process", "ioPriority", value={"class": "FAST"}), "/process/ioPriority"),
    "scheduler": (set_at("process", "scheduler", value={"policy": "SCHED_LUCKY"}), "/process/scheduler"),
}


@pytest.mark.parametrize(("change", "pointer"), WRONG.values(), ids=WRONG.keys())
def test_wrong_property_is_named(container: Container, change: Callable[[dict[str, Any]], None], pointer: str) -> None:
    change(container.config)
    assert pointer in container.refused()


@pytest.mark.common
def test_unknown_properties_are_ignored(container: Container) -> None:
    container.config["unknown"] = {"deep": [1]}
    container.process["unknown"] = None
    container.linux["unknown"] = "x"
    container.config["annotations"] = {"org.example.unknown": ""}
    container.shell("echo fine")
    assert container.run().out == "fine\n"


def test_start_without_process(container: Container) -> None:
    """runtime.md#start: an error at start, not at create."""
    del container.config["process"]
    container.create()
    result = container.start(check=False)
    assert result.rc == 1
    assert "/process" in result.error or "process" in result.error


@pytest.mark.common
def test_failed_create_leaves_no_mount_point_behind_on_the_host(container: Container, scratch: Path) -> None:
    container.mounts.append(bind_entry("/nowhere", "/mnt"))
    before = Path("/proc/self/mountinfo").read_text()
    container.refused()
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.common
def test_failed_create_leaves_no_pid_file(container: Container) -> None:
    container.process["args"] = ["/no/such/program"]
    container.refused()
    assert not container.pid_file.exists()


@pytest.mark.common
@pytest.mark.parametrize(
    "words", [["no-such-command"], ["create", "--no-such-flag", "x"], ["state"], ["state", "a", "b"]]
)
def test_bad_command_line(runtime: Runtime, words: list[str]) -> None:
    result = runtime.run(*words, check=False)
    assert result.rc not in (0, 124)
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "command", ["create", "run", "exec", "kill", "delete", "list", "ps", "spec", "features", "state"]
)
def test_help(runtime: Runtime, command: str) -> None:
    result = runtime.run(command, "--help")
    assert command in result.out
    assert result.err == ""


def test_root_of_the_host_as_state_directory(container: Container) -> None:
    container.write_config()
    command = Runtime("ocirt", container.runtime.command, Path("/"))
    assert command.run("list", check=False).rc == 1


def test_a_controller_that_is_not_there_is_refused(container: Container) -> None:
    """config-linux.md#unified: never silently, whatever controllers a host has."""
    container.linux["resources"] = {"unified": {"nonsense.max": "1"}}
    assert "/linux/resources/unified" in container.refused()


def test_a_cgroup_whose_controllers_are_below_it(container: Container) -> None:
    """The kernel lets no process into it (cgroup-v2.rst, "No Internal Process Constraint")."""
    cgroup = CGROUP / container.id
    cgroup.mkdir()
    try:
        (controller, *_) = (cgroup / "cgroup.controllers").read_text().split() or [""]
        if not controller:
            pytest.skip("needs a controller in cgroup v2")
        (cgroup / "cgroup.subtree_control").write_text(f"+{controller}")
        container.linux["cgroupsPath"] = f"/{container.id}"
        assert container.refused().endswith(
            f"/linux/cgroupsPath: clone3 into cgroup {cgroup}: device or resource busy"
            " (controllers are enabled below this cgroup, which may thus have no processes of its own)"
        )
    finally:
        with contextlib.suppress(FileNotFoundError):
            cgroup.rmdir()
