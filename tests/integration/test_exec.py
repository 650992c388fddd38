"""exec: every flag, the process file, what is inherited from the container, and what is refused."""

from __future__ import annotations

import concurrent.futures
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.facts import Facts
from tests.support.runtime import Container, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


@pytest.fixture
def running(container: Container) -> Container:
    container.hold()
    return container


def process_file(container: Container, **changes: Any) -> Path:
    """The container's own process with changes, in a file."""
    path = container.bundle / "process.json"
    path.write_text(json.dumps({**container.process, "args": ["/probe"], **changes}))
    return path


@pytest.mark.common
def test_it_is_in_the_containers_namespaces(running: Container) -> None:
    facts = running.exec_facts()
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert facts["namespaces"][kind] == os.stat(f"/proc/{running.pid}/ns/{kind}").st_ino
    assert facts["hostname"] == "container"
    assert facts["pid"] > 1


@pytest.mark.common
def test_it_is_in_the_inits_cgroup(running: Container) -> None:
    running.exec("--detach", "--pid-file", running.bundle / "exec.pid", "/bin/sleep", "1000")
    pid = int((running.bundle / "exec.pid").read_text())
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{running.pid}/cgroup").read_text()


@pytest.mark.common
@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code(running: Container, code: int) -> None:
    assert running.exec("/bin/sh", "-c", f"exit {code}", check=False).rc == code


@pytest.mark.common
def test_exit_code_after_a_signal(running: Container) -> None:
    assert running.exec("/bin/sh", "-c", "kill -KILL $$", check=False).rc == 137


@pytest.mark.common
def test_streams(running: Container) -> None:
    result = running.exec("/bin/sh", "-c", "read line; echo out $line; echo err >&2", stdin="hello\n")
    assert (result.out, result.err) == ("out hello\n", "err\n")


@pytest.mark.common
def test_flags_end_at_the_program(running: Container) -> None:
    assert running.exec("/bin/echo", "--user", "-d", "--", "x").out == "--user -d -- x\n"


@pytest.mark.common
def test_detached_with_a_pid_file(running: Container) -> None:
    running.exec("--detach", "--pid-file", running.bundle / "exec.pid", "/bin/sleep", "1000")
    text = (running.bundle / "exec.pid").read_text()
    assert text.isdecimal()
    wait_for(lambda: Path(f"/proc/{text}/comm").read_text() == "sleep\n")


@pytest.mark.common
@pytest.mark.parametrize("flag", ["-d", "--detach"])
def test_detached_output_is_the_callers(running: Container, flag: str, scratch: Path) -> None:
    output = running.bundle / "exec.out"
    argv = ["exec", flag, running.id, "/bin/echo", "text"]
    running.runtime.run(*argv, stdout=output)
    wait_for(lambda: output.read_text() == "text\n")


@pytest.mark.common
@pytest.mark.parametrize(
    ("user", "uids", "gids"),
    [("1000", 1000, 0), ("1000:5", 1000, 5), ("0:7", 0, 7)],
)
def test_user(running: Container, user: str, uids: int, gids: int) -> None:
    facts = running.exec_facts("--user", user)
    assert facts["uids"] == [uids] * 3
    assert facts["gids"] == [gids] * 3


@pytest.mark.common
def test_home_is_of_the_user(running: Container) -> None:
    assert running.exec_facts("--user", "1000").env()["HOME"] == "/home/user"


NO_NUMBERS = ["x", "1000:y", ":", "1000:", "-1", "1e3", "root", "user", "\N{FULLWIDTH DIGIT ONE}", "0x0"]


@pytest.mark.common
@pytest.mark.known_bad("runc", "CVE-2026-46680: becomes root")
@pytest.mark.parametrize("user", ["", "4294967296", "18446744073709551616"])
def test_user_that_would_become_root(running: Container, user: str) -> None:
    test_user_that_is_no_number(running, user)


@pytest.mark.common
@pytest.mark.parametrize("user", NO_NUMBERS)
def test_user_that_is_no_number(running: Container, user: str) -> None:
    result = running.exec("--user", user, "/probe", check=False)
    assert result.rc != 0
    assert result.out == ""


@pytest.mark.common
@pytest.mark.parametrize("flag", ["-g", "--additional-gids"])
def test_additional_groups(running: Container, flag: str) -> None:
    facts = running.exec_facts("--user", "1000:1000", flag, "5", flag, "6")
    assert {5, 6} <= set(facts["groups"])


@pytest.mark.common
@pytest.mark.parametrize("flag", ["-e", "--env"])
def test_env_is_added(running: Container, flag: str) -> None:
    env = running.exec_facts(flag, "ONE=1", flag, "TWO=a b=c", flag, "TERM=other").env()
    assert (env["ONE"], env["TWO"], env["TERM"]) == ("1", "a b=c", "other")
    assert env["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.common
def test_cwd(running: Container) -> None:
    assert running.exec_facts("--cwd", "/usr/bin")["cwd"] == "/usr/bin"


@pytest.mark.common
def test_cwd_is_the_containers_by_default(container: Container) -> None:
    container.process["cwd"] = "/tmp"
    container.hold()
    assert container.exec_facts()["cwd"] == "/tmp"


@pytest.mark.common
def test_relative_cwd(running: Container) -> None:
    assert running.exec("--cwd", "tmp", "/probe", check=False).rc != 0


@pytest.mark.common
def test_capabilities_are_the_containers(running: Container) -> None:
    facts = running.exec_facts()
    assert facts.capabilities("bounding") == {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
    assert facts.capabilities("effective") == {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}


@pytest.mark.common
@pytest.mark.parametrize("flag", ["-c", "--cap"])
def test_cap_adds(running: Container, flag: str) -> None:
    facts = running.exec_facts(flag, "CAP_SYSLOG", flag, "CAP_CHOWN")
    for kind in ("bounding", "effective", "permitted"):
        assert {"CAP_SYSLOG", "CAP_CHOWN", "CAP_KILL"} <= facts.capabilities(kind)


@pytest.mark.common
def test_cap_adds_nothing_to_inheritable(running: Container) -> None:
    assert running.exec_facts("--cap", "CAP_SYSLOG").capabilities("inheritable") == set()


@pytest.mark.common
def test_no_new_privs(container: Container) -> None:
    container.process["noNewPrivileges"] = False
    container.hold()
    assert container.exec_facts()["no_new_privs"] == 0
    assert container.exec_facts("--no-new-privs")["no_new_privs"] == 1


@pytest.mark.common
def test_limits_are_the_containers(container: Container) -> None:
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    container.hold()
    assert container.exec_facts()["rlimits"]["NOFILE"] == [100, 200]


@pytest.mark.common
def test_oom_score_is_the_containers(container: Container) -> None:
    container.process["oomScoreAdj"] = 300
    container.hold()
    assert container.exec_facts()["oom_score_adj"] == "300\n"


def test_umask_is_the_containers(container: Container) -> None:
    container.process["user"]["umask"] = 0o077
    container.hold()
    assert container.exec_facts()["umask"] == 0o077


@pytest.mark.parametrize("key", ["scheduler", "ioPriority"])
def test_priorities_are_the_containers(container: Container, key: str) -> None:
    container.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}
    container.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 7}
    container.hold()
    facts = container.exec_facts()
    assert facts["scheduler"]["policy"] == 3
    assert facts["io_priority"] == {"class": 2, "priority": 7}


@pytest.mark.common
def test_process_file(running: Container) -> None:
    path = process_file(
        running,
        args=["/probe", "/etc/passwd"],
        env=["ONLY=this"],
        cwd="/tmp",
        user={"uid": 5, "gid": 6, "additionalGids": [7]},
        rlimits=[{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
        capabilities={"bounding": ["CAP_CHOWN"]},
        noNewPrivileges=False,
    )
    facts = Facts.parse(running.exec("--process", path).out)
    assert facts["uids"] == [5, 5, 5]
    assert facts["gids"] == [6, 6, 6]
    assert 7 in facts["groups"]
    assert facts["cwd"] == "/tmp"
    assert facts.env()["ONLY"] == "this"
    assert "TERM" not in facts.env()
    assert facts["rlimits"]["CORE"] == [1, 2]
    assert facts.capabilities("bounding") == {"CAP_CHOWN"}
    assert facts["no_new_privs"] == 0
    assert facts.path("/etc/passwd")["type"] == "f"


@pytest.mark.common
@pytest.mark.parametrize("text", ["{", "[]", "", "null", '{"args": "sh"}', '{"cwd": 1}'])
def test_bad_process_file(running: Container, text: str) -> None:
    (running.bundle / "bad.json").write_text(text)
    result = running.exec("--process", running.bundle / "bad.json", check=False)
    assert result.rc not in (0, 124)
    assert "Traceback" not in result.err
    assert running.status == "running"


@pytest.mark.common
def test_missing_process_file(running: Container) -> None:
    assert "no such file or directory" in running.exec("--process", "/no/such/file", check=False).error


@pytest.mark.common
def test_missing_program(running: Container) -> None:
    result = running.exec("no-such-program", check=False)
    assert result.rc != 0
    assert 'exec: "no-such-program": executable file not found in $PATH' in result.error.replace("\\", "")


@pytest.mark.common
def test_missing_program_with_a_path(running: Container) -> None:
    assert "no such file or directory" in running.exec("/no/such/program", check=False).error


@pytest.mark.common
def test_program_that_may_not_be_executed(running: Container) -> None:
    assert "permission denied" in running.exec("/etc/passwd", check=False).error


@pytest.mark.common
def test_without_a_program(running: Container) -> None:
    assert running.exec(check=False).rc != 0


@pytest.mark.common
def test_missing_container(running: Container) -> None:
    result = running.runtime.run("exec", f"{running.id}-none", "/probe", check=False)
    assert result.rc != 0
    assert "container does not exist" in result.error


@pytest.mark.common
def test_stopped_container(container: Container) -> None:
    container.shell("true")
    container.start_new()
    container.wait()
    result = container.exec("/probe", check=False)
    assert result.rc != 0
    assert "stopped container" in result.error or "container not running" in result.error


@pytest.mark.common
def test_created_container(container: Container) -> None:
    """Allowed, as in runc: engines look into a container that isn't started yet."""
    container.create()
    assert container.exec_facts()["hostname"] == "container"


@pytest.mark.common
def test_no_descriptor_of_the_hosts(running: Container) -> None:
    assert set(running.exec_facts()["fds"]) == {"0", "1", "2"}


@pytest.mark.common
def test_seccomp_is_the_containers(container: Container) -> None:
    container.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}],
    }
    container.hold()
    assert json.loads(container.exec("/probe", "call", "getpgid", "0").out)["errno"] == 99


@pytest.mark.common
def test_it_cannot_be_traced_while_it_enters(running: Container) -> None:
    """CVE-2016-9962: its memory and descriptors are closed to the container until the program runs."""
    assert running.exec_facts()["dumpable"] == 1


@pytest.mark.common
def test_executed_program_is_a_child_of_the_caller(running: Container) -> None:
    """Detached, it goes to the caller's reaper, with its exit code."""
    running.exec("--detach", "--pid-file", running.bundle / "exec.pid", "/bin/sh", "-c", "exit 11")
    pid = int((running.bundle / "exec.pid").read_text())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11


@pytest.mark.common
def test_many_at_once(running: Container) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: running.exec("/bin/sh", "-c", f"exit {n}", check=False).rc, range(16)))
    assert results == list(range(16))


@pytest.mark.common
def test_cgroup_that_does_not_exist(running: Container) -> None:
    assert running.exec("--cgroup", "/no-such-cgroup", "/probe", check=False).rc != 0


@pytest.mark.common
def test_cgroup_below_the_containers(running: Container) -> None:
    line = next(text for text in Path(f"/proc/{running.pid}/cgroup").read_text().splitlines() if text.startswith("0::"))
    child = Path("/sys/fs/cgroup") / line.removeprefix("0::/") / "child"
    child.mkdir()
    running.exec("--detach", "--pid-file", running.bundle / "exec.pid", "--cgroup", "child", "/bin/sleep", "1000")
    pid = int((running.bundle / "exec.pid").read_text())
    assert str(pid) in (child / "cgroup.procs").read_text().split()
