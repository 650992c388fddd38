"""create, start, state, kill, delete, run, list and ps: what they do, and in which order they may come."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import NewContainer
from tests.support.bundle import without_namespace
from tests.support.runtime import Container, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.mark.common
def test_created_container_does_not_run_its_program(container: Container) -> None:
    container.shell("echo ran")
    container.create()
    assert container.status == "created"
    assert container.output == ""
    container.start()
    assert container.wait() == 0
    assert container.output == "ran\n"
    assert container.status == "stopped"


@pytest.mark.common
@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_run_gives_the_exit_code(container: Container, code: int) -> None:
    container.shell(f"exit {code}")
    assert container.run(check=False).rc == code


@pytest.mark.common
def test_run_gives_128_and_the_signal(container: Container) -> None:
    container.process["args"] = ["/probe", "hold"]
    process = container.run_in_background()
    wait_for(lambda: container.output == "ready\n")
    container.kill("KILL")
    assert process.wait(10) == 128 + signal.SIGKILL


@pytest.mark.common
def test_run_leaves_nothing(container: Container, runtime: Runtime) -> None:
    container.shell("true")
    container.run()
    assert runtime.run("state", container.id, check=False).rc != 0
    assert not (runtime.root / container.id).exists()


@pytest.mark.common
def test_run_passes_streams_through(container: Container) -> None:
    container.shell("read line; echo out $line; echo err >&2")
    result = container.run(stdin="hello\n")
    assert (result.out, result.err) == ("out hello\n", "err\n")


@pytest.mark.common
def test_run_detached_returns_at_once(container: Container) -> None:
    container.process["args"] = ["/probe", "hold"]
    container.run("--detach", "--pid-file", container.pid_file)
    assert container.status == "running"
    container.kill("TERM")
    assert container.wait() == 42


def test_run_keep_leaves_a_stopped_container(container: Container) -> None:
    container.shell("exit 3")
    assert container.run("--keep", check=False).rc == 3
    assert container.status == "stopped"
    container.delete()


@pytest.mark.common
def test_run_forwards_signals(container: Container) -> None:
    container.process["args"] = ["/probe", "hold"]
    process = container.run_in_background()
    wait_for(lambda: container.output == "ready\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 42


@pytest.mark.common
def test_pid_file_is_digits_alone(container: Container) -> None:
    container.shell("true")
    container.create()
    text = container.pid_file.read_text()
    assert re.fullmatch(r"[1-9][0-9]*", text)
    assert container.state()["pid"] == int(text)


@pytest.mark.common
def test_relative_pid_file_is_relative_to_the_caller(container: Container, scratch: Path) -> None:
    container.shell("true")
    container.write_config()
    folder = container.bundle / "elsewhere"
    folder.mkdir()
    container.runtime.run("run", "--bundle", container.bundle, "--pid-file", "my.pid", container.id, cwd=folder)
    assert (folder / "my.pid").read_text().isdecimal()


@pytest.mark.common
def test_bundle_is_the_working_directory_by_default(container: Container) -> None:
    container.shell("echo here")
    container.write_config()
    assert container.runtime.run("run", container.id, cwd=container.bundle).out == "here\n"


@pytest.mark.common
def test_state_of_created(container: Container) -> None:
    container.config["annotations"] = {"org.example.key": "value"}
    container.create()
    state = container.state()
    assert state["id"] == container.id
    assert state["status"] == "created"
    assert state["bundle"] == str(container.bundle)
    assert state["annotations"] == {"org.example.key": "value"}
    assert state["pid"] == container.pid
    assert state["rootfs"] == str(container.rootfs)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", state["created"])
    assert "ociVersion" in state
    # runc fills it in `list` alone.
    assert state["owner"] in ("", "root")


@pytest.mark.common
def test_state_of_stopped_has_no_pid(container: Container) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    state = container.state()
    assert (state["status"], state["pid"]) == ("stopped", 0)


@pytest.mark.common
def test_state_is_indented_json(container: Container, runtime: Runtime) -> None:
    container.create()
    out = runtime.run("state", container.id).out
    assert out.rstrip("\n") == json.dumps(json.loads(out), indent=2)


@pytest.mark.common
def test_config_edited_after_create_has_no_effect(container: Container) -> None:
    container.shell("hostname")
    container.create()
    container.config["hostname"] = "changed"
    container.shell("echo changed")
    container.write_config()
    container.start()
    assert container.wait() == 0
    assert container.output == "container\n"


def test_bundle_removed_after_create_has_no_effect(container: Container) -> None:
    container.process["args"] = ["/probe", "hold"]
    container.create()
    (container.bundle / "config.json").unlink()
    container.start()
    assert container.status == "running"
    container.delete("--force")


@pytest.mark.common
def test_id_must_be_new(container: Container, new: NewContainer) -> None:
    container.create()
    other = new()
    own, other.id = other.id, container.id
    result = other.create(check=False)
    other.id = own
    assert result.rc == 1
    assert "container with given ID already exists" in result.error
    assert container.status == "created"


@pytest.mark.common
def test_start_twice(container: Container) -> None:
    container.hold()
    result = container.start(check=False)
    assert result.rc == 1
    assert "cannot start an already running container" in result.error
    assert container.status == "running"


@pytest.mark.common
def test_start_stopped(container: Container) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    result = container.start(check=False)
    assert result.rc == 1
    assert "cannot start a container that has stopped" in result.error


@pytest.mark.common
@pytest.mark.parametrize("command", ["start", "state", "kill", "delete", "ps"])
def test_missing_container(runtime: Runtime, token: str, command: str) -> None:
    result = runtime.run(command, f"{token}-nobody", check=False)
    assert result.rc == 1
    assert "container does not exist" in result.error


@pytest.mark.common
def test_delete_force_of_missing_container(runtime: Runtime, token: str) -> None:
    assert runtime.run("delete", "--force", f"{token}-nobody").rc == 0


@pytest.mark.common
def test_delete_running_is_refused(container: Container) -> None:
    container.hold()
    result = container.delete(check=False)
    assert result.rc == 1
    assert f"cannot delete container {container.id} that is not stopped: running" in result.error
    assert container.status == "running"


@pytest.mark.common
def test_delete_force_of_running(container: Container, runtime: Runtime) -> None:
    container.hold()
    container.delete("--force")
    assert container.wait() == 128 + signal.SIGKILL
    assert not (runtime.root / container.id).exists()


@pytest.mark.common
def test_delete_created(container: Container, runtime: Runtime) -> None:
    """Not the specification's, but runc's: engines clean up so after a create whose start they give up."""
    container.create()
    container.delete()
    assert container.wait() == 128 + signal.SIGKILL
    assert runtime.run("state", container.id, check=False).rc == 1


@pytest.mark.common
def test_delete_stopped(container: Container, runtime: Runtime) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    container.delete()
    assert not (runtime.root / container.id).exists()
    assert "container does not exist" in container.delete(check=False).error


@pytest.mark.common
def test_id_is_free_after_delete(container: Container) -> None:
    container.shell("true")
    for _ in range(2):
        container.start_new()
        container.wait()
        container.delete()


@pytest.mark.common
@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "sigterm", "15", "term"])
def test_kill_names(container: Container, name: str) -> None:
    container.hold()
    container.kill(name)
    assert container.wait() == 42


@pytest.mark.common
def test_kill_is_term_by_default(container: Container) -> None:
    container.hold()
    container.kill()
    assert container.wait() == 42


def test_kill_real_time_signal(container: Container) -> None:
    container.shell("trap 'exit 9' RTMIN+3 2>/dev/null || trap 'exit 9' 37; echo ready; while :; do sleep 0.05; done")
    container.start_new()
    wait_for(lambda: container.output == "ready\n")
    container.kill("RTMIN+3")
    assert container.wait() == 9


@pytest.mark.common
@pytest.mark.parametrize("name", ["NOSUCH", "65", "-1", "SIG", "RTMIN+99", "1.5"])
def test_kill_unknown_signal(container: Container, name: str) -> None:
    container.hold()
    assert container.kill(name, check=False).rc == 1
    assert container.status == "running"


@pytest.mark.common
def test_kill_created(container: Container) -> None:
    container.create()
    container.kill("KILL")
    assert container.wait() == 128 + signal.SIGKILL
    assert container.status == "stopped"


@pytest.mark.common
def test_kill_stopped(container: Container) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    result = container.kill("TERM", check=False)
    assert result.rc == 1
    assert "container not running" in result.error


@pytest.mark.common
@pytest.mark.parametrize("flag", ["--all", "-a"])
def test_kill_all(container: Container, runtime: Runtime, flag: str) -> None:
    container.hold()
    runtime.run("kill", flag, container.id, "KILL")
    assert container.wait() == 128 + signal.SIGKILL
    runtime.run("kill", flag, container.id, "KILL")


def test_kill_with_shared_pid_namespace_ends_all(container: Container) -> None:
    without_namespace(container.config, "pid")
    container.shell("sleep 1000 & echo $!; exec sleep 1000")
    container.start_new()
    wait_for(lambda: container.output.endswith("\n"))
    child = int(container.output)
    container.kill("KILL")
    assert container.wait() == 128 + signal.SIGKILL
    wait_for(lambda: not _lives(child))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.common
def test_list_json_and_quiet(container: Container, new: NewContainer, runtime: Runtime) -> None:
    other = new()
    container.create()
    other.hold()
    listed = {entry["id"]: entry["status"] for entry in json.loads(runtime.run("list", "--format", "json").out)}
    assert listed == {container.id: "created", other.id: "running"}
    assert sorted(runtime.run("list", "-q").out.split()) == sorted([container.id, other.id])


@pytest.mark.common
def test_list_table(container: Container, runtime: Runtime) -> None:
    container.hold()
    header, line = runtime.run("list").out.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    cells = line.split()
    assert cells[:4] == [container.id, str(container.pid), "running", str(container.bundle)]


@pytest.mark.common
def test_list_of_nothing(runtime: Runtime, scratch: Path) -> None:
    root = scratch / f"empty-root-{runtime.name}"
    root.mkdir()
    empty = Runtime(runtime.name, runtime.command, root)
    assert empty.run("list", "-q").out == ""
    assert json.loads(empty.run("list", "-f", "json").out) in (None, [])
    assert not list(root.iterdir())


def test_list_passes_over_foreign_entries(container: Container, runtime: Runtime) -> None:
    container.create()
    odd = runtime.root / "half-made"
    odd.mkdir()
    (runtime.root / "a-file").write_text("")
    try:
        assert container.id in runtime.run("list", "-q").out.split()
    finally:
        odd.rmdir()
        (runtime.root / "a-file").unlink()


@pytest.mark.common
def test_ps_json(container: Container, runtime: Runtime) -> None:
    container.shell("sleep 1000 & echo ready; exec sleep 1000")
    container.start_new()
    wait_for(lambda: container.output == "ready\n")
    pids = json.loads(runtime.run("ps", "--format", "json", container.id).out)
    assert container.pid in pids
    assert len(pids) == 2


@pytest.mark.common
def test_ps_table(container: Container, runtime: Runtime) -> None:
    container.hold()
    header, *lines = runtime.run("ps", container.id).out.splitlines()
    assert header.split()[:2] == ["UID", "PID"]
    assert [line.split()[1] for line in lines] == [str(container.pid)]
    header, *lines = runtime.run("ps", container.id, "-o", "pid,comm").out.splitlines()
    assert [line.split() for line in lines] == [[str(container.pid), "probe"]]


@pytest.mark.common
def test_init_is_pid_1_of_its_own_session(container: Container) -> None:
    facts = container.facts()
    assert (facts["pid"], facts["ppid"], facts["sid"]) == (1, 0, 1)


def test_created_init_is_small(container: Container) -> None:
    """The container holds no interpreter while it waits: its memory is the static init's alone."""
    container.create()
    status = Path(f"/proc/{container.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # type: ignore[index]
    assert resident < 1024


@pytest.mark.common
def test_orphans_go_to_the_callers_reaper(container: Container) -> None:
    """conmon and containerd's shim are subreapers, and wait for the init themselves."""
    container.shell("exit 5")
    container.start_new()
    assert container.wait() == 5
