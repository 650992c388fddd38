"""containerd, its shim for runc and ctr: what the runtime has to do for each of their commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.engines.containerd import Containerd
from tests.engines.flags import is_own
from tests.engines.seen import Comparison, assert_explained
from tests.engines.terminal import Terminal, check_resizing
from tests.engines.test_cli import PATHS
from tests.support.facts import Facts
from tests.support.runtime import wait_for
from tests.support.unprivileged import cgroup_of


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("containerd", name)


@feature("run")
def test_a_container_sees_the_same(containerd: Containerd, seen: Comparison) -> None:
    seen.same_facts("facts", containerd.run("one", "/probe", *PATHS).out)


@feature("exit code")
@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_program_s(containerd: Containerd, code: int) -> None:
    assert containerd.run("one", "sh", "-c", f"exit {code}", check=False).rc == code


@feature("a missing program is named")
def test_a_missing_program_is_named(containerd: Containerd) -> None:
    result = containerd.run("one", "no-such-program", check=False)
    assert result.rc == 1
    assert 'exec: "no-such-program": executable file not found in $PATH' in result.err


@feature("a start that fails: message, exit code 125 (Podman: 126, ctr: 1)")
def test_a_failing_start_is_explained(containerd: Containerd) -> None:
    mount = ("--mount", "type=bind,src=/no/such/folder,dst=/mnt,options=rbind")
    result = containerd.run("one", "true", flags=mount, check=False)
    assert result.rc == 1
    assert "no such file or directory" in result.err
    if containerd.runtime.name == "ocirt":
        assert re.search(r" /mounts/\d+(/source)?: .*/no/such/folder", result.err)


@feature("a start that fails: pointer, system call, errno, hint")
def test_a_failing_start_has_a_hint(containerd: Containerd) -> None:
    mount = ("--mount", "type=nosuchfs,src=none,dst=/mnt,options=rw")
    result = containerd.run("one", "true", flags=mount, check=False)
    assert result.rc == 1
    assert "no such device" in result.err
    if containerd.runtime.name == "ocirt":
        assert_explained(
            result.err, "/mounts/", "fsopen nosuchfs", "no such device", "the kernel does not know this file system"
        )


@feature("run -d")
def test_a_container_goes_on_in_the_background(containerd: Containerd) -> None:
    containerd.hold("one")
    assert containerd.status("one") == "RUNNING"
    containerd.ctr("task", "kill", "--signal", "TERM", "one")
    wait_for(lambda: containerd.status("one") == "STOPPED")
    assert "exit code 42" in containerd.ctr("task", "delete", "one").err
    containerd.ctr("container", "delete", "one")


@feature("run -it, resize")
def test_a_container_has_a_terminal(containerd: Containerd) -> None:
    argv = containerd.server.argv(*containerd.run_arguments("--rm", "--tty"), "one", "sh")
    with Terminal(argv, containerd.server.engine.env, 30, 90) as terminal:
        check_resizing(terminal)


@feature("exec")
def test_exec_sees_the_same(containerd: Containerd, seen: Comparison) -> None:
    containerd.hold("one")
    seen.same_facts("facts", containerd.execute("one", "/probe", *PATHS).out)
    assert containerd.execute("one", "sh", "-c", "exit 4", check=False).rc == 4
    facts = Facts.parse(containerd.execute("one", "/probe", flags=("--cwd", "/tmp", "--user", "1000")).out)
    assert (facts["cwd"], facts["uids"]) == ("/tmp", [1000, 1000, 1000])


@feature("exec: a missing program is named")
def test_exec_names_a_missing_program(containerd: Containerd) -> None:
    containerd.hold("one")
    result = containerd.execute("one", "no-such-program", check=False)
    assert result.rc == 1
    assert 'exec: "no-such-program": executable file not found in $PATH' in result.err


@feature("exec -it, resize")
def test_exec_has_a_terminal(containerd: Containerd) -> None:
    containerd.hold("one")
    argv = containerd.server.argv("task", "exec", "--tty", "--exec-id", "e1", "one", "sh")
    with Terminal(argv, containerd.server.engine.env, 31, 91) as terminal:
        check_resizing(terminal, 31, 91, code=6)


@feature("kill")
def test_kill_sends_signals(containerd: Containerd) -> None:
    containerd.hold("one")
    containerd.execute("one", "sh", "-c", "sleep 1000 &")
    containerd.ctr("task", "kill", "--signal", "KILL", "--all", "one")
    wait_for(lambda: containerd.status("one") == "STOPPED")
    assert "exit code 137" in containerd.ctr("task", "delete", "one").err


@feature("pause, resume")
def test_pause_and_resume(containerd: Containerd) -> None:
    containerd.hold("one")
    containerd.ctr("task", "pause", "one")
    assert containerd.status("one") == "PAUSED"
    containerd.ctr("task", "resume", "one")
    assert containerd.status("one") == "RUNNING"
    containerd.ctr("task", "kill", "one")
    wait_for(lambda: containerd.status("one") == "STOPPED")


@feature("top, ps")
def test_ps_lists_the_processes(containerd: Containerd) -> None:
    containerd.hold("one")
    containerd.execute("one", "sh", "-c", "sleep 1000 &")
    lines = containerd.ctr("task", "ps", "one").out.splitlines()
    pids = {line.split()[0] for line in lines[1:]}
    assert str(containerd.pid("one")) in pids
    assert len(pids) == 2


@feature("stats, metrics")
def test_metrics(containerd: Containerd, seen: Comparison) -> None:
    containerd.hold("one")
    lines = containerd.ctr("task", "metrics", "one").out.splitlines()
    seen.same("the metrics' names", [line.split()[0] for line in lines if line.strip()])
    assert any(line.startswith("one") for line in lines)


@feature("delete")
def test_delete_needs_force_while_it_runs(containerd: Containerd) -> None:
    containerd.hold("one")
    assert containerd.ctr("task", "delete", "one", check=False).rc != 0
    assert containerd.status("one") == "RUNNING"
    containerd.ctr("task", "delete", "--force", "one")
    assert containerd.status("one") == ""


@feature("user namespace")
def test_user_namespace(containerd: Containerd, seen: Comparison) -> None:
    flags = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "--remap-labels")
    seen.same_facts("facts", containerd.run("one", "/probe", *PATHS, flags=flags).out)


@feature("mounts, devices, capabilities, seccomp")
def test_flags(containerd: Containerd, seen: Comparison) -> None:
    source = containerd.server.engine.folder / "shared"
    source.mkdir(exist_ok=True)
    flags = (
        *("--mount", f"type=bind,src={source},dst=/shared,options=rbind:ro", "--device", "/dev/zero", "--seccomp"),
        *("--cap-add", "CAP_NET_ADMIN", "--cap-drop", "CAP_CHOWN", "--read-only", "--cwd", "/tmp", "--env", "A=b"),
        *("--allow-new-privs", "--rootfs-propagation", "private"),
    )
    facts = seen.same_facts("facts", containerd.run("one", "/probe", *PATHS, "/shared", flags=flags).out)
    assert "A=b" in facts["env"]


@feature("run --network host")
def test_host_network(containerd: Containerd, seen: Comparison) -> None:
    facts = Facts(seen.same_facts("facts", containerd.run("one", "/probe", *PATHS, flags=("--net-host",)).out))
    assert not is_own(facts, "net")


@feature("run --privileged")
def test_privileged(containerd: Containerd, seen: Comparison) -> None:
    result = containerd.run("one", "/probe", *PATHS, flags=("--privileged",))
    facts = Facts(seen.same_facts("facts", result.out))
    assert facts.status("Seccomp") == "0"


@feature("limits")
@pytest.mark.controllers("memory", "cpu")
def test_limits_and_metrics(containerd: Containerd, seen: Comparison) -> None:
    """ctr has no command for an update: the CRI plugin's tests do that."""
    containerd.hold("one", "--memory-limit", "67108864", "--cpu-quota", "50000", "--cpu-period", "100000")
    cgroup = Path(f"/sys/fs/cgroup{cgroup_of(containerd.pid('one'))}")
    values = {name: (cgroup / name).read_text() for name in ("memory.max", "cpu.max")}
    seen.same("limits", values)
    assert (values["memory.max"], values["cpu.max"]) == ("67108864\n", "50000 100000\n")
    metrics = containerd.ctr("task", "metrics", "one").out
    assert "67108864" in metrics
