"""Docker and Podman: what both do with the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.cli import IMAGE, Cli
from tests.engines.engine import CAP_SYS_RESOURCE, has_capability
from tests.engines.flags import FLAGS
from tests.engines.seen import Comparison, assert_explained
from tests.engines.terminal import check_resizing
from tests.support.facts import Facts
from tests.support.runtime import Result, wait_for
from tests.support.unprivileged import cgroup_of

PATHS = (
    "/dev /dev/null /dev/ptmx /dev/console /dev/shm /proc/kcore /proc/sys /sys/firmware /sys/fs/cgroup"
    " /tmp /run /var/tmp"
).split()


def is_too_much(cli: Cli) -> bool:
    """Whether a privileged process fails: Docker asks for every capability, and runc fails where one is lacking."""
    return cli.name == "docker" and cli.runtime.name == "runc" and not has_capability(CAP_SYS_RESOURCE)


def skip_what_runc_cannot(result: Result) -> None:
    """Asserts that runc has failed for want of a capability, and skips the rest of the test."""
    assert result.rc != 0
    assert "unable to apply caps: operation not permitted" in result.out + result.err
    pytest.skip("Docker asks for all capabilities, and runc fails without CAP_SYS_RESOURCE")


def too_many_files() -> tuple[tuple[str, ...], tuple[str, str, str, str]]:
    """The options of a container with more files than the kernel allows, and what ocirt says to that."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    # Podman forgets the limits of its configuration then.
    flags = ("--ulimit", f"nofile={most + 1}:{most + 1}", "--ulimit", "nproc=4096:4096")
    hint = f"no hard limit of files may be above the sysctl fs.nr_open, {most} here)"
    return flags, ("/process/rlimits/", "prlimit64 RLIMIT_NOFILE", "operation not permitted", hint)


def feature(name: str) -> pytest.MarkDecorator:
    return pytest.mark.feature("docker, podman", name)


@feature("run")
def test_a_container_sees_the_same(cli: Cli, seen: Comparison) -> None:
    facts = Facts(seen.same_facts("facts", cli.run("/probe", *PATHS).out))
    assert facts.status("Seccomp") == "2"


EXIT_CODES = {
    "true": (("true",), 0),
    "program": (("sh", "-c", "exit 3"), 3),
    "directory": (("/tmp",), 126),
    "not executable": (("/etc/not-executable",), 126),
    "no such program": (("no-such-program",), 127),
    "no such file": (("/no/such/file",), 127),
}


@feature("exit codes 0, 3, 126, 127")
@pytest.mark.parametrize("case", EXIT_CODES)
def test_exit_codes(cli: Cli, case: str) -> None:
    command, code = EXIT_CODES[case]
    result = cli.run(*command, check=False)
    assert result.rc == code, result.err


@feature("a start that fails: message, exit code 125 (Podman: 126, ctr: 1)")
def test_a_failing_start_is_explained(cli: Cli) -> None:
    result = cli.run("true", flags=("--sysctl", "net.ipv4.ip_forward=nonsense"), check=False)
    assert result.rc == {"docker": 125, "podman": 126}[cli.name]
    if cli.runtime.name == "ocirt":
        assert "/linux/sysctl/net.ipv4.ip_forward: set sysctl" in result.err
        assert "write sysctl net/ipv4/ip_forward: invalid argument" in result.err


@feature("a start that fails: pointer, system call, errno, hint")
def test_a_failing_start_has_a_hint(cli: Cli) -> None:
    flags, words = too_many_files()
    result = cli.run("true", flags=flags, check=False)
    assert result.rc in (125, 126)
    assert "operation not permitted" in result.err.lower()
    if cli.runtime.name == "ocirt":
        assert_explained(result.err, *words)


@feature("run -it, resize")
def test_a_container_has_a_terminal(cli: Cli) -> None:
    arguments = cli.run_arguments("--interactive", "--tty", "--rm", IMAGE, "sh")
    with cli.terminal(*arguments, rows=30, columns=90) as terminal:
        check_resizing(terminal)


@feature("run -d, logs")
def test_logs_of_a_container_in_the_background(cli: Cli) -> None:
    script = "echo out; echo err >&2; exit 7"
    cli(*cli.run_arguments("--detach", "--name", "one", IMAGE, "sh", "-c", script))
    assert cli("wait", "one").out == "7\n"
    logs = cli("logs", "one")
    assert (logs.out, logs.err) == ("out\n", "err\n")


@feature("exec")
def test_exec_sees_the_same(cli: Cli, seen: Comparison) -> None:
    cli.hold("one")
    seen.same_facts("facts", cli.execute("one", "/probe", *PATHS).out)
    flags = ("--user", "1000:1000", "--workdir", "/tmp", "--env", "A=b")
    facts = seen.same_facts("with flags", cli.execute("one", "/probe", flags=flags).out)
    assert (facts["cwd"], facts["uids"], "A=b" in facts["env"]) == ("/tmp", [1000, 1000, 1000], True)


@feature("exec --privileged")
def test_exec_with_privileges(cli: Cli, seen: Comparison) -> None:
    cli.hold("one")
    result = cli.execute("one", "/probe", flags=("--privileged",), check=not is_too_much(cli))
    if is_too_much(cli):
        skip_what_runc_cannot(result)
    seen.same_facts("privileged", result.out)


@feature("exec: exit codes 4, 126, 127 (Docker: 126)")
def test_exec_exit_codes(cli: Cli) -> None:
    cli.hold("one")
    assert cli.execute("one", "sh", "-c", "exit 4", check=False).rc == 4
    assert cli.execute("one", "/tmp", check=False).rc == 126
    missing = cli.execute("one", "no-such-program", check=False)
    assert missing.rc == {"docker": 126, "podman": 127}[cli.name]
    assert 'exec: "no-such-program": executable file not found in $PATH' in missing.out + missing.err


@feature("exec -it, resize")
def test_exec_has_a_terminal(cli: Cli) -> None:
    cli.hold("one")
    with cli.terminal("exec", "--interactive", "--tty", "one", "sh", rows=31, columns=91) as terminal:
        check_resizing(terminal, 31, 91, device="/dev/pts/", code=6)


@feature("exec -d")
def test_exec_in_the_background(cli: Cli) -> None:
    cli.hold("one")
    cli.execute("one", "sh", "-c", "echo here > /tmp/here", flags=("--detach",))
    wait_for(lambda: cli.execute("one", "cat", "/tmp/here", check=False).out == "here\n")


@feature("stop")
def test_stop(cli: Cli) -> None:
    cli.hold("one")
    cli("stop", "--time", "10", "one")
    assert (cli.status("one"), cli.exit_code("one")) == ("exited", 42)


@feature("kill")
def test_kill(cli: Cli) -> None:
    cli.hold("one")
    cli("kill", "--signal", "TERM", "one")
    assert cli("wait", "one").out == "42\n"
    cli("start", "one")
    cli("kill", "one")
    assert cli("wait", "one").out == "137\n"


@feature("restart")
def test_restart(cli: Cli) -> None:
    cli.hold("one")
    pid = cli.pid("one")
    cli("restart", "one")
    assert cli.status("one") == "running"
    assert cli.pid("one") != pid


@feature("create, start, attach")
def test_attach(cli: Cli) -> None:
    arguments = cli.run_arguments("--name", "one", IMAGE, "sh", "-c", "echo here; exit 8")
    cli("create", *arguments[1:])
    result = cli("start", "--attach", "one", check=False)
    assert (result.rc, result.out) == (8, "here\n")


@feature("pause, resume")
def test_pause(cli: Cli) -> None:
    cli.hold("one")
    cli("pause", "one")
    assert cli.status("one") == "paused"
    cli("unpause", "one")
    assert cli.status("one") == "running"
    assert cli.execute("one", "echo", "here").out == "here\n"


@feature("top, ps")
def test_top(cli: Cli, seen: Comparison) -> None:
    cli.hold("one")
    cli.execute("one", "sleep", "1000", flags=("--detach",))
    wait_for(lambda: len(cli("top", "one").out.splitlines()) == 3)
    lines = cli("top", "one").out.splitlines()
    seen.same("commands", sorted(line.partition(" 00:00:00 ")[2] for line in lines[1:]))


@feature("stats, metrics")
def test_stats(cli: Cli, seen: Comparison) -> None:
    cli.hold("one")
    result = cli("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "one")
    seen.same("stats", result.out)
    assert result.out.startswith("one ")


@feature("remove a running container")
def test_remove_by_force(cli: Cli) -> None:
    cli.hold("one")
    cli("rm", "--force", "one")
    assert "one" not in cli("ps", "--all").out


@feature("cp")
def test_copy(cli: Cli) -> None:
    cli.hold("one")
    source = cli.engine.folder / "copied"
    source.write_text("content\n")
    cli("cp", source, "one:/tmp/copied")
    assert cli.execute("one", "cat", "/tmp/copied").out == "content\n"


@pytest.mark.parametrize("flag", [pytest.param(flag, marks=feature(f"run {flag}")) for flag in FLAGS])
def test_flags(cli: Cli, seen: Comparison, flag: str) -> None:
    case = FLAGS[flag]
    source = cli.engine.folder / "shared"
    source.mkdir(exist_ok=True)
    words = tuple(word.format(shared=source) for word in case.words)
    too_much = flag == "--privileged" and is_too_much(cli)
    paths = (*PATHS, "/shared", "/dev/other", "/scratch")
    result = cli.run("/probe", *paths, flags=words, network=case.network, check=not too_much)
    if too_much:
        skip_what_runc_cannot(result)
    assert case.check(Facts(seen.same_facts("facts", result.out)))


@feature("update --cpus, --memory, --pids-limit")
@pytest.mark.controllers("cpu", "memory", "pids")
def test_limits_and_their_update(cli: Cli, seen: Comparison) -> None:
    """Docker and Podman set the limits; what is in the container's cgroup is what holds."""
    # Not cpu.weight: ocirt converts shares as runc does since 1.3.2, where 1024 are the default weight of 100.
    files = ("cpu.max", "memory.max", "memory.swap.max", "pids.max")

    def limits() -> dict[str, str]:
        cgroup = cgroup_of(cli.pid("one"))
        return {name: Path(f"/sys/fs/cgroup{cgroup}", name).read_text().strip() for name in files}

    flags = ("--cpus", "0.5", "--memory", "64m", "--pids-limit", "30", "--cpu-shares", "512")
    cli.hold("one", *flags)
    before = limits()
    seen.same("limits", before)
    assert (before["cpu.max"], before["memory.max"], before["pids.max"]) == ("50000 100000", "67108864", "30")
    # Podman's `update` came with 4.3 and knows resources alone.
    cli("update", "--cpus", "0.25", "--memory", "128m", "--memory-swap", "256m", "one")
    after = limits()
    seen.same("limits after update", after)
    assert (after["cpu.max"], after["memory.max"]) == ("25000 100000", "134217728")
    # Podman shows the limit that the container was made with.
    usage, _, limit, pids = cli("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "one").out.split()
    assert (limit, pids) == ({"docker": "128MiB", "podman": "67.11MB"}[cli.name], "1")
    assert usage[0] in "123456789"


@feature("out of memory: exit code 137")
@pytest.mark.controllers("memory")
def test_out_of_memory(cli: Cli) -> None:
    script = "dd if=/dev/zero of=/dev/null bs=200M"
    arguments = cli.run_arguments("--name", "one", "--memory", "32m", "--memory-swap", "32m", IMAGE)
    cli(*arguments, "sh", "-c", f"exec {script}", check=False)
    assert cli.exit_code("one") == 137
    if cli.name == "docker":
        assert cli.inspect("one")["State"]["OOMKilled"] is True
