"""state, list, ps, kill and delete of containers whose init is any process, without a cgroup: no root is needed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocirt.errors import StateError
from ocirt.record import Record, created_now, probe_process
from ocirt.state import Container
from ocirt.store import Store
from tests.support.child import in_child, rename_process
from tests.unit.conftest import Run


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Make a container of an id, whose init is a new process."""
    store = Store(str(tmp_path / "root"))
    pids = []

    def make(container_id: str, *, waiting: bool = False, dead: bool = False, **changes: object) -> Container:
        read_fd, write_fd = os.pipe()

        def init() -> None:
            rename_process(b"ocirt-init" if waiting else b"program")
            os.write(write_fd, b".")
            signal.pause()

        pid = in_child(init)
        pids.append(pid)
        os.read(read_fd, 1)
        os.close(read_fd)
        os.close(write_fd)
        process = probe_process(pid)
        assert process is not None
        if dead:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        record = Record(container_id, "1.3.0", "/b", "/b/rootfs", created=created_now())
        container = store.create(container_id, record)
        container.write("config.json", b"{}")
        container.update(status="created", pid=pid, start_time=process.start_time, **changes)
        container.unlock()
        return container

    yield make
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    store.close()


def ended(container: Container) -> int:
    """The signal that the init process dies of; it stays a zombie."""
    info = os.waitid(os.P_PID, container.record.pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    return info.si_status


def test_state(make: Callable[..., Container], run: Run) -> None:
    container = make("c1", annotations={"a": "ü"})
    code, out, err = run("state", "c1")
    assert (code, err) == (0, "")
    value = json.loads(out)
    assert list(value) == "ociVersion id pid status bundle rootfs created annotations owner".split()
    assert value["pid"] == container.record.pid
    assert value["status"] == "running"
    assert value["annotations"] == {"a": "ü"}
    assert out.startswith('{\n  "ociVersion": "1.3.0",\n  "id": "c1",\n')


@pytest.mark.parametrize(
    ("options", "status"), [({"waiting": True}, "created"), ({}, "running"), ({"dead": True}, "stopped")]
)
def test_statuses(options: dict[str, bool], status: str, make: Callable[..., Container], run: Run) -> None:
    container = make("c1", **options)
    value = json.loads(run("state", "c1")[1])
    assert value["status"] == status
    assert value["pid"] == (0 if status == "stopped" else container.record.pid)
    assert "annotations" not in value


def test_state_follows_the_official_schema(make: Callable[..., Container], run: Run) -> None:
    import jsonschema

    schema = json.loads(Path(__file__).parents[1].joinpath("data/oci-schema/state-schema.json").read_text())
    schema["properties"]["ociVersion"] = schema["properties"]["annotations"] = {}
    make("c1")
    jsonschema.validate(json.loads(run("state", "c1")[1]), schema)


def test_list(make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    assert run("list", "-q") == (1, "", f"ocirt: open {tmp_path}/root: no such file or directory\n")
    second, first = make("c2"), make("c1", dead=True)
    assert run("list", "-q") == (0, "c1\nc2\n", "")
    code, out, err = run("list")
    assert (code, err) == (0, "")
    title, *rows = [line.split() for line in out.splitlines()]
    assert title == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    owner = json.loads(run("state", "c1")[1])["owner"]
    assert rows == [
        ["c1", "0", "stopped", "/b", first.record.created, owner],
        ["c2", str(second.record.pid), "running", "/b", second.record.created, owner],
    ]
    values = json.loads(run("list", "--format", "json")[1])
    assert values == [json.loads(run("state", container_id)[1]) for container_id in ("c1", "c2")]


def test_list_goes_on_behind_an_unreadable_container(make: Callable[..., Container], run: Run) -> None:
    container = make("c1")
    make("c2")
    Path(container.path("state.json")).write_text("{")
    code, out, err = run("list", "-q")
    assert (code, out) == (0, "c2\n")
    assert err.startswith("ocirt: warning: c1 is left out: state of container c1 is unreadable")


def test_empty_list_as_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    assert run("list", "-f", "json") == (0, "[]\n", "")


def test_ps(make: Callable[..., Container], run: Run) -> None:
    pid = make("c1").record.pid
    assert run("ps", "--format", "json", "c1") == (0, f"[{pid}]\n", "")
    code, out, err = run("ps", "c1")
    assert (code, err) == (0, "")
    assert [line.split()[1] for line in out.splitlines()] == ["PID", str(pid)]
    assert run("ps", "c1", "-o", "pid,ppid", "-A")[1].split() == ["PID", "PPID", str(pid), str(os.getpid())]
    make("c2", dead=True)
    assert run("ps", "-f", "json", "c2")[1] == "[]\n"


def test_ps_failures(make: Callable[..., Container], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make("c1")
    code, _, err = run("ps", "c1", "--no-such-option")
    assert code == 1
    assert "ps --no-such-option: exit status 1: " in err
    assert err.count("\n") == 1
    assert "couldn't find PID field" in run("ps", "c1", "-eo", "comm")[2]
    monkeypatch.setenv("PATH", "/no/such")
    assert "executable file not found in $PATH" in run("ps", "c1")[2]
    monkeypatch.delenv("PATH")
    assert run("ps", "c1")[0] == 0


@pytest.mark.parametrize("word", ["9", "KILL", "SIGKILL", "sigkill"])
def test_kill(word: str, make: Callable[..., Container], run: Run) -> None:
    container = make("c1")
    assert run("kill", "c1", word) == (0, "", "")
    assert ended(container) == signal.SIGKILL


@pytest.mark.parametrize("words", [("c1",), ("c1", ""), ("c1", "TERM"), ("--all", "c1", "15")])
def test_kill_created_and_default_signal(words: tuple[str, ...], make: Callable[..., Container], run: Run) -> None:
    container = make("c1", waiting=True)
    assert run("kill", *words) == (0, "", "")
    assert ended(container) == signal.SIGTERM


def test_kill_stopped(make: Callable[..., Container], run: Run) -> None:
    make("c1", dead=True)
    code, out, err = run("kill", "c1", "9")
    assert (code, out) == (1, "")
    for words in ("container not running", "no such process"):
        assert words in err
    assert run("kill", "--all", "c1", "9") == (0, "", "")
    assert run("kill", "-a", "c1") == (0, "", "")


def test_kill_with_an_unknown_signal(make: Callable[..., Container], run: Run) -> None:
    container = make("c1")
    assert run("kill", "c1", "BOGUS") == (1, "", 'ocirt: unknown signal "BOGUS"\n')
    assert run("kill", "c1", "0") == (0, "", "")
    assert container.process() is not None


def test_kill_while_it_is_being_created(make: Callable[..., Container], run: Run) -> None:
    container = make("c1")
    container.try_lock()
    container.update(status="creating")
    assert "container not running" in run("kill", "c1", "9")[2]
    assert container.process() is not None


@pytest.mark.parametrize("options", [{"waiting": True}, {"dead": True}])
def test_delete(options: dict[str, bool], make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    container = make("c1", **options)
    assert run("delete", "c1") == (0, "", "")
    assert ended(container) == signal.SIGKILL
    assert os.listdir(tmp_path / "root") == []


def test_delete_running(make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    container = make("c1")
    message = "ocirt: cannot delete container c1 that is not stopped: running\n"
    assert run("delete", "c1") == (1, "", message)
    assert container.process() is not None
    assert run("delete", "--force", "c1") == (0, "", "")
    assert ended(container) == signal.SIGKILL
    assert os.listdir(tmp_path / "root") == []
    assert run("delete", "--force", "c1") == (0, "", "")


def test_delete_while_it_is_being_created(make: Callable[..., Container], run: Run) -> None:
    container = make("c1")
    container.try_lock()
    container.update(status="creating")
    assert run("delete", "c1")[2] == "ocirt: cannot delete container c1 that is not stopped: creating\n"
    assert container.process() is not None


def test_delete_force_ends_a_command_that_hangs(make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    """A start that waits for its init holds the lock: it ends with init."""
    container = make("c1", waiting=True)
    pidfd = os.pidfd_open(container.record.pid)

    def start() -> None:
        with Store(str(tmp_path / "root")).load("c1").locked():
            os.write(write_fd, b".")
            select.select([pidfd], [], [])

    read_fd, write_fd = os.pipe()
    pid = in_child(start)
    os.read(read_fd, 1)
    assert run("delete", "--force", "c1") == (0, "", "")
    assert os.waitpid(pid, 0)[1] == 0
    assert os.listdir(tmp_path / "root") == []
    for fd in (read_fd, write_fd, pidfd):
        os.close(fd)


@pytest.mark.root
def test_root_does_not_act_on_another_user_s_container(make: Callable[..., Container], run: Run) -> None:
    """Its record could name any process, and any program as a hook."""
    container = make("c1")
    os.chown(container.dir_fd, 1000, 1000)
    assert json.loads(run("state", "c1")[1])["status"] == "running"
    assert run("list", "-q")[1] == "c1\n"
    message = "operation not permitted: container c1 belongs to user 1000"
    for words in (["kill", "c1", "9"], ["delete", "--force", "c1"]):
        assert run(*words) == (1, "", f"ocirt: {message}\n")
    with pytest.raises(StateError, match=message):
        container.pidfd()
    assert container.process() is not None
    os.chown(container.dir_fd, 0, 0)


def test_delete_removes_what_is_recorded(make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    made = [tmp_path / "rdt", tmp_path / "rdt/mon_groups", tmp_path / "rdt/mon_groups/c1"]
    for directory in made[:2]:
        directory.mkdir()
    make("c1", dead=True, rdt_made=tuple(map(str, made)))
    assert run("delete", "c1") == (0, "", "")
    assert not made[0].exists()


def test_delete_that_fails_can_be_repeated(make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    (tmp_path / "rdt/in-the-way").mkdir(parents=True)
    make("c1", dead=True, rdt_made=(str(tmp_path / "rdt"),))
    code, _, err = run("delete", "--force", "c1")
    assert (code, err) == (1, f"ocirt: rmdir {tmp_path}/rdt: directory not empty\n")
    assert json.loads(run("state", "c1")[1])["status"] == "stopped"
    (tmp_path / "rdt/in-the-way").rmdir()
    assert run("delete", "--force", "c1") == (0, "", "")


def with_hooks(container: Container, hooks: list[dict[str, object]]) -> None:
    config = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "hooks": {"poststop": hooks}}
    container.write("config.json", json.dumps(config).encode())
    container.update(hooks=("poststop",))


def test_poststop_hooks(make: Callable[..., Container], run: Run, tmp_path: Path) -> None:
    root = tmp_path / "root"
    script = f"cat > {tmp_path}/state; ls {root} > {tmp_path}/listing; exit 1"
    hooks: list[dict[str, object]] = [
        {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]},
        {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {tmp_path}/second"]},
    ]
    with_hooks(make("c1", waiting=True), hooks)
    code, out, err = run("delete", "c1")
    assert (code, out) == (0, "")
    assert err == ("ocirt: warning: /hooks/poststop/0: error running poststop hook #0: /bin/sh: exit status 1\n"), (
        "a warning, and the next one is run"
    )
    assert json.loads((tmp_path / "state").read_text()) == {
        "ociVersion": "1.3.0",
        "id": "c1",
        "status": "stopped",
        "bundle": "/b",
    }
    assert (tmp_path / "listing").read_text() == "", "the container is destroyed by then"
    assert (tmp_path / "second").exists()


def test_unreadable_configuration_does_not_keep_a_container(make: Callable[..., Container], run: Run) -> None:
    container = make("c1", dead=True)
    with_hooks(container, [])
    Path(container.path("config.json")).unlink()
    code, _, err = run("delete", "c1")
    assert code == 0
    assert err.startswith("ocirt: warning: poststop hooks are not run: open ")


def test_delete_of_something_foreign_leaves_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "root" / "home").mkdir(parents=True)
    (tmp_path / "root" / "home" / "file").touch()
    assert run("delete", "--force", "home") == (0, "", "")
    assert run("delete", "home")[0] == 1
    assert (tmp_path / "root" / "home" / "file").exists()


def test_six_starts_and_a_delete_share_one_lock(make: Callable[..., Container], tmp_path: Path) -> None:
    """Only one at a time has the lock; those that come after the delete find no container."""
    make("c1", dead=True)
    log = tmp_path / "log"

    def command(number: int) -> None:
        try:
            with Store(str(tmp_path / "root")).load("c1").locked() as container:
                with log.open("a") as file:
                    file.write(f"+{number}\n")
                    file.flush()
                    file.write(f"-{number}\n")
                if number == 3:
                    container.remove()
        except StateError as error:
            if error.code != "state.missing":
                raise

    pids = [in_child(lambda number=number: command(number)) for number in range(7)]  # type: ignore[misc]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 7
    lines = log.read_text().splitlines()
    assert [line[1:] for line in lines[::2]] == [line[1:] for line in lines[1::2]]
    assert os.listdir(tmp_path / "root") == []


def test_commands_in_a_process_of_their_own(make: Callable[..., Container], tmp_path: Path) -> None:
    """As an engine calls: no environment at all."""
    make("c1", waiting=True)
    for words in (["state", "c1"], ["list"], ["ps", "c1"], ["kill", "c1", "9"], ["delete", "c1"]):
        done = subprocess.run(
            [sys.executable, "-m", "ocirt", "--root", tmp_path / "root", *words],
            env={},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
