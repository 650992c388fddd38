"""hooks: their order, namespaces, folder, standard input, environment, time limits, and what a failure does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Container, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

RUNTIME_HOOKS = ("prestart", "createRuntime")
CONTAINER_HOOKS = ("createContainer", "startContainer")
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def add_hook(container: Container, kind: str, script: str, **extra: Any) -> None:
    """A hook that is a shell script. In the container's namespaces its path is the container's."""
    entry = {"path": "/bin/sh", "args": ["sh", "-c", script], **extra}
    container.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)


def log_of(container: Container) -> Path:
    """A file at the same path on the host and, as a bind mount, in the container."""
    log = container.bundle / "log"
    log.touch()
    entry = {"destination": str(log), "type": "bind", "source": str(log), "options": ["bind"]}
    if entry not in container.mounts:
        container.mounts.append(entry)
    return log


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 calls poststart hooks during create")
def test_order(container: Container) -> None:
    log = log_of(container)
    for kind in KINDS:
        for number in (1, 2):
            add_hook(container, kind, f"echo {kind} {number} >> {log}")
    container.shell(f"echo program >> {log}; sleep 1000")
    container.create()
    create = [f"{kind} {number}" for kind in KINDS[:3] for number in (1, 2)]
    assert log.read_text().splitlines() == create
    container.start()
    start = ["startContainer 1", "startContainer 2"]
    wait_for(lambda: "program" in log.read_text())
    lines = log.read_text().splitlines()
    assert lines[: len(create) + 2] == create + start
    assert sorted(lines[len(create) + 2 :]) == ["poststart 1", "poststart 2", "program"]
    container.delete("--force")
    assert log.read_text().splitlines()[-2:] == ["poststop 1", "poststop 2"]


@pytest.mark.common
@pytest.mark.parametrize("kind", KINDS)
def test_namespaces(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, f"for n in net uts; do readlink /proc/self/ns/$n; done > {log}")
    container.shell("true")
    container.run()
    host = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "uts")]
    seen = log.read_text().split()
    assert len(seen) == 2
    assert (seen == host) is (kind not in CONTAINER_HOOKS)


@pytest.mark.common
@pytest.mark.parametrize("kind", KINDS)
def test_state_on_standard_input(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, f"cat > {log}")
    container.config["annotations"] = {"key": "value"}
    container.shell("true")
    container.run()
    state = json.loads(log.read_text())
    assert (state["id"], state["bundle"]) == (container.id, str(container.bundle))
    assert state["annotations"] == {"key": "value"}
    assert state["ociVersion"]
    assert ("pid" in state and state["pid"] > 0) or kind == "poststop"


def status_seen_by(container: Container, kind: str) -> str:
    """The status in the state that a hook gets."""
    log = log_of(container)
    add_hook(container, kind, f"cat > {log}")
    container.shell("sleep 1000")
    container.start_new()
    container.delete("--force")
    return str(json.loads(log.read_text())["status"])


@pytest.mark.common
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststop", "stopped"),
    ],
)
def test_status(container: Container, kind: str, status: str) -> None:
    assert status_seen_by(container, kind) == status


@pytest.mark.common
def test_status_for_prestart(container: Container) -> None:
    """Version 1.0 of the specification, and so the official suite, had "created"."""
    assert status_seen_by(container, "prestart") in ("creating", "created")


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 calls poststart hooks during create")
def test_status_for_poststart(container: Container) -> None:
    assert status_seen_by(container, "poststart") == "running"


@pytest.mark.common
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "poststart"])
def test_pid_is_the_hosts_for_hooks_on_the_host(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, f"cat > {log}")
    container.shell("sleep 1000")
    container.start_new()
    assert json.loads(log.read_text())["pid"] == container.pid


@pytest.mark.parametrize("kind", CONTAINER_HOOKS)
def test_pid_is_the_containers_for_hooks_in_it(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, f"cat > {log}")
    container.shell("true")
    container.run()
    assert json.loads(log.read_text())["pid"] == 1


@pytest.mark.common
@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_namespaces_are_made_before_the_hooks_of_create(container: Container, kind: str) -> None:
    """A network plug-in finds the container's network by the pid."""
    log = log_of(container)
    pid = r"""sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' """
    add_hook(container, kind, f"readlink /proc/$({pid})/ns/net > {log}")
    container.shell("readlink /proc/self/ns/net")
    seen = container.run().out
    assert log.read_text() == seen


@pytest.mark.common
def test_create_container_hook_sees_the_hosts_root(container: Container) -> None:
    """It runs in the container's namespaces, but before the pivot: its path is the runtime's."""
    log = log_of(container)
    add_hook(container, "createContainer", f"test -e {container.rootfs}/probe && echo before > {log}")
    container.shell("true")
    container.run()
    assert log.read_text() == "before\n"


@pytest.mark.common
def test_start_container_hook_has_the_containers_root(container: Container) -> None:
    log = log_of(container)
    add_hook(container, "startContainer", f"cat /etc/os-release > {log}; hostname >> {log}")
    container.shell("true")
    container.run()
    assert log.read_text() == 'NAME="busybox"\nID=busybox\ncontainer\n'


@pytest.mark.common
@pytest.mark.parametrize("kind", KINDS)
def test_environment_is_the_hooks_own_alone(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, f"env > {log}", env=["ONE=1", "TWO=a b"])
    container.shell("true")
    container.run(env={**os.environ, "SECRET": "x"})
    assert "SECRET" not in log.read_text()
    assert {"ONE=1", "TWO=a b"} <= set(log.read_text().splitlines())


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 gives a hook without env the runtime's environment")
def test_no_environment_by_default(container: Container) -> None:
    log = log_of(container)
    add_hook(container, "createRuntime", f"env > {log}")
    container.shell("true")
    container.run(env={**os.environ, "SECRET": "x"})
    assert "SECRET" not in log.read_text()


@pytest.mark.common
def test_args_begin_with_the_name(container: Container) -> None:
    log = log_of(container)
    container.config["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["my-name", "-c", f'echo "$0 $1" > {log}', "zero", "one"]}]
    }
    container.shell("true")
    container.run()
    assert log.read_text() == "zero one\n"


@pytest.mark.common
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_in_create(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, "exit 3")
    add_hook(container, kind, f"echo second >> {log}")
    error = container.refused()
    assert "hook" in error
    assert log.read_text() == ""


@pytest.mark.common
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_poststop_hooks_run_after_a_failure_in_create(container: Container, kind: str) -> None:
    log = log_of(container)
    add_hook(container, kind, "exit 3")
    add_hook(container, "poststop", f"cat > {log}")
    container.refused()
    assert json.loads(log.read_text())["status"] == "stopped"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_names_its_pointer(container: Container, kind: str) -> None:
    add_hook(container, kind, "true")
    add_hook(container, kind, "echo oh no >&2; exit 3")
    error = container.refused()
    assert f"/hooks/{kind}/1" in error
    assert "3" in error


@pytest.mark.common
def test_failure_of_start_container(container: Container) -> None:
    log = log_of(container)
    add_hook(container, "startContainer", "exit 3")
    container.shell(f"echo program > {log}")
    container.create()
    container.start(check=False)
    container.wait()
    assert log.read_text() == ""


def test_failure_of_start_container_destroys(container: Container) -> None:
    """runtime.md#lifecycle, step 7: an error, and on with step 12."""
    log = log_of(container)
    add_hook(container, "startContainer", "exit 3")
    add_hook(container, "poststop", f"cat > {log}")
    container.create()
    result = container.start(check=False)
    assert result.rc == 1
    assert "/hooks/startContainer/0" in result.error
    assert json.loads(log.read_text())["status"] == "stopped"
    assert "container does not exist" in container.delete(check=False).error


def test_failure_of_poststart_destroys(container: Container) -> None:
    log = log_of(container)
    add_hook(container, "poststart", "exit 3")
    add_hook(container, "poststop", f"echo poststop > {log}")
    container.shell("sleep 1000")
    container.create()
    result = container.start(check=False)
    assert result.rc == 1
    assert "/hooks/poststart/0" in result.error
    assert container.wait() == 137
    container.delete(check=False)
    assert log.read_text() == "poststop\n"


@pytest.fixture
def waiting(container: Container) -> Iterator[subprocess.Popen[bytes]]:
    """A `start` whose poststart hook waits, and fails with the number that is written to `go`."""
    go, begun = container.bundle / "go", container.bundle / "begun"
    os.mkfifo(go)
    add_hook(container, "poststart", f"touch {begun}; read code < {go}; exit $code")
    container.process["args"] = ["/probe", "hold"]
    container.create()
    argv = container.runtime.argv("start", container.id)
    with (container.bundle / "start").open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=output)
    wait_for(begun.exists)
    yield process
    process.kill()
    process.wait()


def let_go(container: Container, code: int) -> None:
    (container.bundle / "go").write_text(f"{code}\n")


def test_commands_do_not_wait_for_a_poststart_hook(container: Container, waiting: subprocess.Popen[bytes]) -> None:
    """A hook that hangs doesn't stand in the way of the command that ends it all."""
    assert container.status == "running"
    assert container.exec("/bin/echo", "here").out == "here\n"
    begin = time.monotonic()
    container.delete("--force")
    assert time.monotonic() - begin < 3
    assert not (container.runtime.root / container.id).exists()
    assert container.wait() == 137
    let_go(container, 0)
    assert waiting.wait(10) == 0


@pytest.mark.parametrize("kind", RUNTIME_HOOKS)
def test_delete_ends_a_hook_that_hangs(container: Container, kind: str) -> None:
    begun = container.bundle / "begun"
    add_hook(container, kind, f"touch {begun}; exec sleep 1000")
    container.write_config()
    with (container.bundle / "create").open("wb") as output:
        creating = subprocess.Popen(
            container.runtime.argv("create", "--bundle", str(container.bundle), container.id),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        wait_for(begun.exists)
        before = time.monotonic()
        container.delete("--force")
        assert time.monotonic() - before < 5
        assert creating.wait(10) == 1
    assert f"/hooks/{kind}/0: " in (error := (container.bundle / "create").read_text())
    assert "the container was killed meanwhile" in error
    assert not (container.runtime.root / container.id).exists()


def test_kill_and_delete_do_not_wait_for_a_poststart_hook(
    container: Container, waiting: subprocess.Popen[bytes]
) -> None:
    container.kill("KILL")
    assert container.wait() == 137
    container.delete()
    let_go(container, 0)
    assert waiting.wait(10) == 0


def test_a_poststart_hook_that_fails_when_the_container_is_gone(
    container: Container, waiting: subprocess.Popen[bytes]
) -> None:
    """It takes nothing along: what has the id by then is another container."""
    container.delete("--force")
    container.wait()
    container.config["hooks"] = {}
    container.start_new()
    let_go(container, 3)
    assert waiting.wait(10) == 1
    assert "/hooks/poststart/0" in (container.bundle / "start").read_text()
    assert container.status == "running"


def test_a_poststart_hook_of_run_that_fails_when_the_container_is_gone(container: Container) -> None:
    go, begun = container.bundle / "go", container.bundle / "begun"
    os.mkfifo(go)
    add_hook(container, "poststart", f"touch {begun}; read code < {go}; exit $code")
    container.process["args"] = ["/probe", "hold"]
    process = container.run_in_background()
    try:
        wait_for(begun.exists)
        container.delete("--force")
        let_go(container, 3)
        assert process.wait(10) == 1
    finally:
        process.kill()
        process.wait()
    assert "/hooks/poststart/0" in container.output
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 stops at the first poststop hook that fails")
def test_failure_of_poststop_is_a_warning(container: Container) -> None:
    log = log_of(container)
    add_hook(container, "poststop", "exit 3")
    add_hook(container, "poststop", f"echo second > {log}")
    container.shell("true")
    container.start_new()
    container.wait()
    result = container.delete()
    assert result.err != ""
    assert log.read_text() == "second\n"
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.common
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_timeout(container: Container, kind: str) -> None:
    add_hook(container, kind, "exec sleep 1000", timeout=1)
    begin = time.monotonic()
    container.refused()
    assert 0.9 < time.monotonic() - begin < 4


@pytest.mark.common
@pytest.mark.known_bad("runc", "waits for the grandchild's end of the pipe, and leaves it running")
def test_timeout_reaches_a_grandchild_that_holds_the_output(container: Container) -> None:
    add_hook(container, "createRuntime", "sleep 6 & sleep 6", timeout=1)
    begin = time.monotonic()
    container.refused()
    assert time.monotonic() - begin < 3


@pytest.mark.common
def test_a_hook_within_its_time(container: Container) -> None:
    log = log_of(container)
    add_hook(container, "createRuntime", f"echo done > {log}", timeout=5)
    container.shell("true")
    container.run()
    assert log.read_text() == "done\n"


@pytest.mark.common
@pytest.mark.parametrize("timeout", [0, -1])
def test_timeout_must_be_positive(container: Container, timeout: int) -> None:
    add_hook(container, "createRuntime", "true", timeout=timeout)
    container.refused()


@pytest.mark.common
@pytest.mark.parametrize("path", ["bin/true", "true", "/no/such/hook", "/etc"])
def test_path_must_be_an_absolute_executable(container: Container, path: str) -> None:
    container.config["hooks"] = {"createRuntime": [{"path": path}]}
    container.refused()


def test_bad_path_names_its_pointer(container: Container) -> None:
    container.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    error = container.refused()
    assert "/hooks/createRuntime/0" in error
    assert "no such file or directory" in error


def test_hook_has_no_descriptor_of_the_runtimes(container: Container) -> None:
    log = log_of(container)
    for kind in KINDS:
        add_hook(container, kind, f"ls /proc/self/fd | wc -l >> {log}")
    container.shell("true")
    container.run()
    # 0, 1, 2, and ls's own for the folder.
    assert log.read_text().split() == ["4"] * len(KINDS)


@pytest.mark.common
@pytest.mark.parametrize("kind", ["createRuntime", "poststop"])
def test_hook_killed_by_a_signal(container: Container, kind: str) -> None:
    add_hook(container, kind, "kill -9 $$")
    container.shell("true")
    assert (container.run(check=False).rc != 0) is (kind == "createRuntime")
