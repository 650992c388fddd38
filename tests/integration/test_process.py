"""process: who the user's program is, what it may do, and what it is given."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.bundle import without_namespace
from tests.support.facts import CAPABILITY_NAMES, Facts
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

INIT_FAILED = "ocirt create failed: unable to start container process: error during container init: "
SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_DEADLINE = 3, 5, 1, 6


@pytest.mark.common
def test_args_and_env_are_exact(container: Container) -> None:
    container.process["args"] = ["/probe", "/a b", "", "--x=1", "ümlaut"]
    container.process["env"] = ["A=1", "B=", "C=x y=z", "HOME=/else"]
    facts = Facts.parse(container.run().out)
    assert facts["argv"][1:4] == ["/a b", "", "--x=1"]
    assert facts["argv"][4].encode("latin-1").decode() == "ümlaut"
    assert facts["env"] == ["A=1", "B=", "C=x y=z", "HOME=/else"]


@pytest.mark.common
def test_program_is_found_in_the_containers_path(container: Container) -> None:
    container.process["env"] = ["PATH=/nowhere:/opt/bin"]
    (container.rootfs / "opt/bin").mkdir(parents=True)
    os.link(container.rootfs / "probe", container.rootfs / "opt/bin/my-probe")
    container.process["args"] = ["my-probe"]
    assert '"argv":["my-probe"]' in container.run().out


@pytest.mark.common
@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/user"), (4242, "/")])
def test_home_comes_from_passwd(container: Container, uid: int, home: str) -> None:
    container.process["user"] = {"uid": uid, "gid": 0}
    assert container.facts().env()["HOME"] == home


@pytest.mark.common
def test_cwd(container: Container) -> None:
    container.process["cwd"] = "/usr/bin"
    assert container.facts()["cwd"] == "/usr/bin"


@pytest.mark.common
def test_missing_cwd_is_made(container: Container) -> None:
    container.process["cwd"] = "/new/folder"
    assert container.facts()["cwd"] == "/new/folder"
    assert (container.rootfs / "new/folder").is_dir()


@pytest.mark.common
def test_cwd_that_only_the_user_may_enter(container: Container) -> None:
    folder = container.rootfs / "own"
    folder.mkdir(mode=0o700)
    os.chown(folder, 1000, 1000)
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.process["cwd"] = "/own"
    assert container.facts()["cwd"] == "/own"


@pytest.mark.common
def test_cwd_that_is_a_file(container: Container) -> None:
    container.process["cwd"] = "/etc/passwd"
    assert "not a directory" in container.refused()


@pytest.mark.common
def test_user_group_and_additional_groups(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 100, "additionalGids": [5, 20, 300000]}
    facts = container.facts()
    assert facts["uids"] == [1000] * 3
    assert facts["gids"] == [100] * 3
    assert sorted(set(facts["groups"]) - {100}) == [5, 20, 300000]


@pytest.mark.common
def test_no_groups_are_inherited(container: Container) -> None:
    os.setgroups([4711])
    try:
        facts = container.facts()
    finally:
        os.setgroups([])
    assert 4711 not in facts["groups"]


@pytest.mark.common
@pytest.mark.parametrize(("given", "seen"), [(None, 0o022), (0o077, 0o077), (0, 0)])
def test_umask(container: Container, given: int | None, seen: int) -> None:
    if given is not None:
        container.process["user"]["umask"] = given
    assert container.facts()["umask"] == seen


@pytest.mark.common
def test_capabilities_of_root(container: Container) -> None:
    container.process["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    container.process["noNewPrivileges"] = False
    facts = container.facts()
    assert facts.capabilities("bounding") == {"CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"}
    assert facts.capabilities("inheritable") == {"CAP_KILL"}
    assert facts.capabilities("ambient") == {"CAP_KILL"}


@pytest.mark.common
def test_capabilities_of_a_user(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    facts = container.facts()
    assert facts.capabilities("bounding") == {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
    assert facts.capabilities("permitted") == set()
    assert facts.capabilities("effective") == set()


@pytest.mark.common
def test_ambient_capabilities_of_a_user(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    sets = ("bounding", "permitted", "effective", "inheritable", "ambient")
    container.process["capabilities"] = {kind: ["CAP_KILL"] for kind in sets}
    facts = container.facts()
    assert [facts.capabilities(kind) for kind in sets] == [{"CAP_KILL"}] * 5


@pytest.mark.common
def test_no_capabilities_at_all(container: Container) -> None:
    container.process["capabilities"] = {}
    facts = container.facts()
    assert [facts.capabilities(kind) for kind in ("bounding", "permitted", "effective")] == [set()] * 3


@pytest.mark.common
def test_inheritable_is_empty_unless_asked_for(container: Container) -> None:
    """CVE-2022-29162, CVE-2022-27650."""
    facts = container.facts()
    assert facts.capabilities("inheritable") == set()
    assert facts.capabilities("ambient") == set()


@pytest.mark.common
def test_unknown_capability_is_a_warning(container: Container) -> None:
    container.process["capabilities"]["bounding"].append("CAP_OF_TOMORROW")
    container.process["args"] = ["/probe"]
    result = container.run()
    assert "CAP_OF_TOMORROW" in result.err


@pytest.mark.common
@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(container: Container, value: bool) -> None:
    container.process["noNewPrivileges"] = value
    assert container.facts()["no_new_privs"] == int(value)


@pytest.mark.common
def test_rlimits(container: Container) -> None:
    container.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_FSIZE", "soft": 2**40, "hard": 2**64 - 1},
    ]
    limits = container.facts()["rlimits"]
    assert limits["NOFILE"] == [512, 1024]
    assert limits["CORE"] == [0, 0]
    assert limits["FSIZE"] == [2**40, -1]


def test_rlimit_that_may_not_be_raised_names_its_pointer(container: Container) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if hard == resource.RLIM_INFINITY or "CAP_SYS_RESOURCE" in _own_capabilities():
        pytest.skip("this root may raise every limit")
    container.process["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": hard + 1, "hard": hard + 1}]
    error = container.refused()
    assert "/process/rlimits/0" in error
    assert "operation not permitted" in error


def test_more_files_than_the_kernel_allows(container: Container) -> None:
    """With every capability, too: the kernel looks at fs.nr_open first."""
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": most + 1}]
    error = container.refused()
    assert "/process/rlimits/0" in error
    assert f"(no hard limit of files may be above the sysctl fs.nr_open, {most} here)" in error


def _own_capabilities() -> set[str]:
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("CapEff"))
    bits = int(line.split()[1], 16)
    return {f"CAP_{name}" for number, name in enumerate(CAPABILITY_NAMES) if bits >> number & 1}


@pytest.mark.common
@pytest.mark.parametrize("value", [0, 500, 1000])
def test_oom_score_adj(container: Container, value: int) -> None:
    container.process["oomScoreAdj"] = value
    assert container.facts()["oom_score_adj"] == f"{value}\n"


@pytest.mark.common
def test_oom_score_adj_unset_is_left_alone(container: Container) -> None:
    assert container.facts()["oom_score_adj"] == Path("/proc/self/oom_score_adj").read_text()


@pytest.mark.parametrize(
    ("scheduler", "seen"),
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, {"policy": SCHED_BATCH, "nice": 5}),
        ({"policy": "SCHED_IDLE"}, {"policy": SCHED_IDLE}),
        ({"policy": "SCHED_OTHER", "nice": 10}, {"policy": 0, "nice": 10}),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, {"policy": 0, "flags": 1}),
        ({"policy": "SCHED_FIFO", "priority": 10}, {"policy": SCHED_FIFO, "priority": 10}),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 10**7, "deadline": 2 * 10**7, "period": 3 * 10**7},
            {"policy": SCHED_DEADLINE, "runtime": 10**7, "deadline": 2 * 10**7, "period": 3 * 10**7},
        ),
    ],
)
def test_scheduler(container: Container, scheduler: dict[str, object], seen: dict[str, int]) -> None:
    container.process["scheduler"] = scheduler
    assert seen.items() <= container.facts()["scheduler"].items()


def test_scheduler_that_the_kernel_refuses_names_its_pointer(container: Container) -> None:
    container.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 3, "deadline": 2, "period": 1}
    assert "/process/scheduler" in container.refused()


@pytest.mark.parametrize(
    ("given", "seen"),
    [("IOPRIO_CLASS_BE", {"class": 2, "priority": 6}), ("IOPRIO_CLASS_RT", {"class": 1, "priority": 6})],
)
def test_io_priority(container: Container, given: str, seen: dict[str, int]) -> None:
    container.process["ioPriority"] = {"class": given, "priority": 6}
    assert container.facts()["io_priority"] == seen


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
@pytest.mark.parametrize(
    ("affinity", "cpus"),
    [({"initial": "0", "final": "1"}, [1]), ({"initial": "1"}, [1]), ({"initial": "0"}, [0]), ({"final": "0"}, [0])],
)
def test_exec_cpu_affinity(container: Container, affinity: dict[str, str], cpus: list[int]) -> None:
    """The initial one stays in force where no other follows, and no cpuset is entered with the cgroup."""
    container.hold()
    process = {**container.process, "args": ["/probe"], "execCPUAffinity": affinity}
    (container.bundle / "process.json").write_text(json.dumps(process))
    out = container.exec("--process", container.bundle / "process.json").out
    assert json.loads(out)["cpus"] == cpus


@pytest.mark.common
def test_all_cpus_unless_asked_otherwise(container: Container) -> None:
    assert container.facts()["cpus"] == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(("domain", "machine"), [("LINUX32", "i686"), ("LINUX", os.uname().machine)])
def test_personality(container: Container, domain: str, machine: str) -> None:
    container.linux["personality"] = {"domain": domain}
    assert container.facts()["machine"] == machine


def test_memory_policy(container: Container) -> None:
    container.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    policy = container.facts()["memory_policy"]
    assert policy["mode"] & 0xFFF == 2
    assert policy["nodes"] == 1


@pytest.mark.common
def test_session_keyring(container: Container) -> None:
    assert container.facts()["keyring"].endswith(f";_ses.{container.id}")


@pytest.mark.common
def test_no_new_keyring(container: Container) -> None:
    container.process["args"] = ["/probe"]
    assert f"_ses.{container.id}" not in container.run("--no-new-keyring").out


@pytest.mark.common
@pytest.mark.known_bad("runc", "leaves signals 32 and 33 ignored where its caller's posix_spawn(3) did")
def test_no_signal_is_ignored(container: Container) -> None:
    """Python and Go programs ignore or catch SIGPIPE; that is not for the container to inherit."""
    assert int(container.facts().status("SigIgn"), 16) == 0


def test_no_signal_is_blocked(container: Container) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
    try:
        facts = container.facts()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert int(facts.status("SigBlk"), 16) == 0


@pytest.mark.common
def test_stdio_belongs_to_the_user(container: Container) -> None:
    """The program may open /proc/self/fd/1 again, as /dev/stdout does."""
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.shell("echo text > /dev/stdout")
    assert container.run().out == "text\n"


@pytest.mark.common
def test_hostname(container: Container) -> None:
    container.config["hostname"] = "my-host.example"
    assert container.facts()["hostname"] == "my-host.example"


def test_domainname(container: Container) -> None:
    container.config["domainname"] = "example.org"
    assert container.facts()["domainname"] == "example.org"


@pytest.mark.common
def test_sysctl(container: Container) -> None:
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    container.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
    assert container.run().out == "1\n4096\n"


def test_sysctl_with_slashes(container: Container) -> None:
    container.linux["sysctl"] = {"net/ipv4/ip_forward": "1", "net/ipv4/conf/lo/accept_local": "1"}
    container.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/accept_local")
    assert container.run().out == "1\n1\n"


@pytest.mark.common
@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "fs.file-max"])
def test_sysctl_that_is_not_namespaced(container: Container, name: str) -> None:
    value = Path("/proc/sys", name.replace(".", "/")).read_text()
    container.linux["sysctl"] = {name: "1"}
    assert name in container.refused()
    assert Path("/proc/sys", name.replace(".", "/")).read_text() == value


@pytest.mark.common
@pytest.mark.parametrize(("name", "kind"), [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc")])
def test_sysctl_of_a_shared_namespace(container: Container, name: str, kind: str) -> None:
    without_namespace(container.config, kind)
    container.linux["sysctl"] = {name: "1"}
    assert name in container.refused()


def test_sysctl_that_does_not_exist_names_its_pointer(container: Container) -> None:
    container.linux["sysctl"] = {"net.ipv4.no_such_thing": "1"}
    error = container.refused()
    assert "/linux/sysctl/net.ipv4.no_such_thing" in error
    assert "no such file or directory" in error


@pytest.mark.parametrize("mount", ["--bind /proc/sys /proc/sys", "-t tmpfs none /proc/sys/kernel"])
def test_sysctl_that_something_is_mounted_over(container: Container, mount: str) -> None:
    """As in a container, where /proc/sys is made read-only. What covers it is not written."""
    script = f'mount {mount}; exec "$@"'
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *container.runtime.command)
    container.runtime = replace(container.runtime, command=command)
    container.linux["sysctl"] = {"kernel.msgmax": "4096"}
    error = container.refused()
    assert error.startswith(f"{INIT_FAILED}/linux/sysctl/kernel.msgmax: set sysctl")
    assert "(something is mounted over it in the runtime's own /proc/sys, as in most containers)" in error


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 passes its own CPU affinity on")
def test_cpu_affinity_of_the_runtime_is_not_passed_on(container: Container) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        pytest.skip("this machine has one CPU")
    bound = ("taskset", "--cpu-list", str(allowed[0]))
    container.runtime = replace(container.runtime, command=(*bound, *container.runtime.command))
    assert container.facts()["cpus"] == allowed
    container.hold()
    assert container.exec_facts()["cpus"] == allowed
