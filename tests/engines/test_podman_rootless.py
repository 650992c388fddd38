"""Podman as an ordinary user: namespaces of his own, subordinate ids, and no cgroup unless one is delegated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cli import IMAGE
from tests.engines.podman import Podman, check_health
from tests.engines.seen import Comparison, assert_explained
from tests.engines.terminal import check_resizing
from tests.engines.test_cli import EXIT_CODES, PATHS, too_many_files
from tests.support.facts import Facts
from tests.support.runtime import wait_for
from tests.support.unprivileged import FIRST_SUBORDINATE, SUBORDINATES, UID, cgroup_of


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("podman rootless", name)


@feature("run")
def test_a_container_sees_the_same(rootless: Podman, seen: Comparison) -> None:
    facts = Facts(seen.same_facts("facts", rootless.run("/probe", *PATHS).out))
    assert facts["uid_map"].split() == ["0", str(UID), "1", "1", str(FIRST_SUBORDINATE), str(SUBORDINATES)]
    assert facts.status("Seccomp") == "2"


@feature("exit codes 0, 3, 126, 127")
@pytest.mark.parametrize("case", EXIT_CODES)
def test_exit_codes(rootless: Podman, case: str) -> None:
    command, code = EXIT_CODES[case]
    result = rootless.run(*command, check=False)
    assert result.rc == code, result.err


@feature("a start that fails: pointer, system call, errno, hint")
def test_a_failing_start_has_a_hint(rootless: Podman) -> None:
    flags, words = too_many_files()
    result = rootless.run("true", flags=flags, check=False)
    assert result.rc in (125, 126)
    if rootless.runtime.name == "ocirt":
        assert_explained(result.err, *words)


@feature("run -it, resize")
def test_a_container_has_a_terminal(rootless: Podman) -> None:
    arguments = rootless.run_arguments("--interactive", "--tty", "--rm", IMAGE, "sh")
    with rootless.terminal(*arguments, rows=30, columns=90) as terminal:
        check_resizing(terminal)


@feature("exec -it, resize")
def test_exec_has_a_terminal(rootless: Podman) -> None:
    rootless.hold("one")
    with rootless.terminal("exec", "--interactive", "--tty", "one", "sh", rows=31, columns=91) as terminal:
        check_resizing(terminal, 31, 91, device="/dev/pts/", code=6)


@feature("top, ps")
def test_top(rootless: Podman, seen: Comparison) -> None:
    rootless.hold("one")
    lines = rootless("top", "one", "user", "pid", "comm").out.splitlines()
    seen.same("processes", lines)
    assert [line.split() for line in lines[1:]] == [["root", "1", "probe"]]


@feature("health checks")
def test_health_checks(rootless: Podman) -> None:
    check_health(rootless)


@feature("run -d, logs, exec, stop")
def test_life(rootless: Podman, seen: Comparison) -> None:
    rootless.hold("one")
    seen.same_facts("facts", rootless.execute("one", "/probe", *PATHS).out)
    assert rootless.execute("one", "sh", "-c", "exit 4", check=False).rc == 4
    wait_for(lambda: rootless("logs", "one").out == "ready\n")
    rootless("stop", "--time", "10", "one")
    assert (rootless.status("one"), rootless.exit_code("one")) == ("exited", 42)
    rootless("start", "one")
    rootless("kill", "one")
    assert rootless("wait", "one").out == "137\n"


@feature("--userns=keep-id")
def test_keep_id(rootless: Podman, seen: Comparison) -> None:
    facts = seen.same_facts("facts", rootless.run("/probe", *PATHS, flags=("--userns", "keep-id")).out)
    assert facts["uids"] == [UID] * 3


@feature("--cgroups=disabled")
def test_without_cgroups(rootless: Podman, seen: Comparison) -> None:
    result = rootless.run("/probe", flags=("--cgroups", "disabled"), check=rootless.runtime.name != "runc")
    if rootless.runtime.name == "runc":
        assert "not compatible with NoCgroups" in result.err
        pytest.skip("Podman does not let runc run without cgroups")
    seen.same_facts("facts", result.out)


@feature("--network host")
def test_host_network(rootless: Podman, seen: Comparison) -> None:
    seen.same_facts("facts", rootless.run("/probe", *PATHS, network="host").out)


@feature("--cgroupns=host")
def test_host_cgroups(rootless: Podman, seen: Comparison) -> None:
    seen.same_facts("facts", rootless.run("/probe", *PATHS, flags=("--cgroupns", "host")).out)


@feature("-v, --user, --tmpfs, --read-only, --cap-drop, --hostname, --device")
def test_flags(rootless: Podman, seen: Comparison) -> None:
    source = rootless.engine.folder / "shared"
    source.mkdir(exist_ok=True)
    flags = (
        *("-v", f"{source}:/shared:ro", "--user", "1000:1001", "--tmpfs", "/scratch", "--read-only", "--init"),
        *("--cap-drop", "ALL", "--hostname", "somewhere", "--device", "/dev/zero:/dev/other"),
        *("--security-opt", "no-new-privileges", "--sysctl", "net.ipv4.ip_unprivileged_port_start=79"),
    )
    result = rootless.run("/probe", *PATHS, "/shared", "/scratch", "/dev/other", flags=flags)
    facts = Facts(seen.same_facts("facts", result.out))
    assert (facts["uids"], facts["hostname"], facts["no_new_privs"]) == ([1000] * 3, "somewhere", 1)


@feature("--privileged")
def test_privileged(rootless: Podman, seen: Comparison) -> None:
    seen.same_facts("facts", rootless.run("/probe", *PATHS, flags=("--privileged",)).out)


@feature("pods")
def test_pods(rootless: Podman) -> None:
    flags = ("--network", "none", "--infra-image", IMAGE, "--infra-command", "/probe hold")
    rootless("pod", "create", "--name", "pod", *flags)
    try:
        rootless("run", "--pod", "pod", "--detach", "--name", "one", IMAGE, "/probe", "hold")
        assert rootless.status("one") == "running"
        assert rootless.execute("one", "hostname").out == "pod\n"
    finally:
        rootless("pod", "rm", "--force", "pod", check=False)


@feature("pause without a cgroup: refused")
def test_pause_without_a_cgroup(rootless: Podman) -> None:
    rootless.hold("one")
    result = rootless("pause", "one", check=False)
    assert result.rc == 125
    if rootless.runtime.name == "ocirt":
        assert "has no cgroup of its own" in result.err
    assert rootless.status("one") == "running"


@feature("pause, resume in a delegated cgroup")
def test_a_delegated_cgroup(rootless: Podman, delegated: Path) -> None:
    rootless.hold("one")
    assert f"/sys/fs/cgroup{cgroup_of(rootless.pid('one'))}".startswith(f"{delegated}/")
    rootless("pause", "one")
    assert rootless.status("one") == "paused"
    rootless("unpause", "one")
    assert rootless.execute("one", "echo", "here").out == "here\n"
    rootless("rm", "--force", "one")
