"""Hooks that hang, that outlive the runtime, that don't read or print without end. Nothing waits, nothing is left."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.conftest import NewSubject
from tests.faults.injection import Done
from tests.faults.scenarios import Subject
from tests.support import leaks
from tests.support.bundle import bind_entry
from tests.support.runtime import Container, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

ALL = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# The command in which they run.
COMMAND = dict.fromkeys(ALL[:3], "create") | dict.fromkeys(ALL[3:5], "start") | {"poststop": "delete"}


def with_hook(subject: Subject, kind: str, script: str, **extra: object) -> None:
    subject.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], **extra}]}
    subject.write_config()


def run_to(subject: Subject, kind: str) -> tuple[Done, float]:
    """Runs commands up to and with the one of the hook: what became of it, and how many seconds it took."""
    commands = {"create": ("create", *subject.creating), "start": ("start", subject.id)}
    commands["delete"] = ("delete", "--force", subject.id)
    for name, command in commands.items():
        begin = time.monotonic()
        done = subject.server.run(*command)
        if name == COMMAND[kind]:
            return done, time.monotonic() - begin
        assert done.rc == 0, done
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ALL)
def test_timeout_with_a_grandchild_that_holds_the_output(new_subject: NewSubject, kind: str) -> None:
    subject = new_subject("plain")
    with_hook(subject, kind, "sleep 300 & sleep 300", timeout=1)
    done, seconds = run_to(subject, kind)
    assert 0.9 < seconds < 2.5
    if kind == "poststop":  # all has been removed by then
        assert done.rc == 0
        assert "warning" in done.err
    else:
        assert done.rc == 1
        assert done.unclean == ""
    assert f"/hooks/{kind}/0" in done.err
    assert [name for name in subject.server.processes().values() if name == "sleep"] == []
    assert not subject.recover()


@pytest.mark.parametrize("script", ["exec <&-; exec sleep 0.1", "exec sleep 0.1", "sleep 0.1; cat >/dev/null"])
@pytest.mark.parametrize("kind", ALL)
def test_state_that_is_read_late_or_never(new_subject: NewSubject, kind: str, script: str) -> None:
    """A state of 300 KB fits into no pipe."""
    subject = new_subject("plain")
    subject.config["annotations"] = {"org.example.long": "x" * 300000}
    with_hook(subject, kind, script, timeout=20)
    done, seconds = run_to(subject, kind)
    assert (done.rc, done.err) == (0, "")
    assert seconds < 5
    assert not subject.recover()


@pytest.mark.parametrize("kind", ALL)
def test_output_without_end(new_subject: NewSubject, kind: str) -> None:
    """Megabytes on both streams are taken; a failure shows some of it, in its one line."""
    subject = new_subject("plain")
    print_much = "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' 'x'; i=$((i+1)); done"
    with_hook(subject, kind, f"{print_much}; ({print_much}) >&2; exit 3")
    done, seconds = run_to(subject, kind)
    assert seconds < 10
    assert "exit status 3" in done.err
    assert "xxxx" in done.err
    assert len(done.err) < 3000
    assert done.err.count("\n") == 1
    assert not subject.recover()


@pytest.fixture
def begun(container: Container) -> Path:
    """A file that a hook makes when it has begun, wherever it runs."""
    folder = container.bundle / "shared"
    folder.mkdir()
    container.mounts.append(bind_entry(folder, str(folder)))
    return folder / "begun"


def begin(container: Container, kind: str, begun: Path) -> subprocess.Popen[bytes]:
    """The command that runs the hook, once the hook with its child sleeps."""
    script = f"sleep 300 & touch {begun}; sleep 300"
    container.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    container.process["args"] = ["/probe", "hold"]
    container.write_config()
    flags = ("--bundle", container.bundle, "--pid-file", container.pid_file)
    commands = {"create": ("create", *flags, container.id), "start": ("start", container.id)}
    commands["delete"] = ("delete", "--force", container.id)
    for name, command in commands.items():
        if name == COMMAND[kind]:
            argv = container.runtime.argv(*command)
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            wait_for(begun.exists)
            return process
        assert container.runtime.run(*command, stdout=container.bundle / "output").rc == 0
    raise AssertionError(kind)


def sleepers(before: leaks.Snapshot) -> list[str]:
    return [name for name in before.new_processes(patience_seconds=0).values() if name == "sleep"]


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "startContainer"])
def test_runtime_is_killed_in_a_hook(container: Container, kind: str, begun: Path, token: str) -> None:
    """The hook's whole group goes with the runtime, its child that the death signal doesn't reach too."""
    before = leaks.Snapshot.take(token)
    process = begin(container, kind, begun)
    process.kill()
    process.wait()
    wait_for(lambda: not sleepers(before), 2)
    assert container.delete("--force").rc == 0
    assert before.new_processes() == {}


def test_start_is_killed_in_a_hook_of_the_containers(container: Container, begun: Path, token: str) -> None:
    """It is init's: it goes on, and so does the start. delete --force ends it."""
    before = leaks.Snapshot.take(token)
    process = begin(container, "startContainer", begun)
    process.kill()
    process.wait()
    assert container.delete("--force").rc == 0
    assert before.new_processes() == {}


def test_delete_in_a_hook_of_create(container: Container, begun: Path, token: str) -> None:
    """delete --force kills the init of a create that hangs in a hook, which ends with its runtime's error."""
    before = leaks.Snapshot.take(token)
    process = begin(container, "createContainer", begun)
    assert container.delete("--force").rc == 0
    assert process.wait(5) == 1
    assert before.new_processes() == {}
