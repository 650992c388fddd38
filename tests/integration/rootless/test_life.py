"""An ordinary user runs containers: every command, terminals, exec, and whose state it is."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import termios
from dataclasses import replace

import pytest

from tests.support.console import Console, FdSocket
from tests.support.runtime import Container, Runtime, wait_for
from tests.support.unprivileged import (
    UID,
    User,
    host_status,
)

pytestmark = [pytest.mark.root]


# ---- from spec to delete


@pytest.mark.common
def test_spec_rootless_runs(rootless: Container) -> None:
    rootless.runtime.run("spec", "--rootless", "--bundle", rootless.bundle)
    config = json.loads((rootless.bundle / "config.json").read_text())
    rootless.config = config
    rootless.process["terminal"] = False
    facts = rootless.facts("/sys/class/net/lo")
    assert facts["uids"] == [0, 0, 0]
    assert facts["uid_map"].split() == ["0", str(UID), "1"]
    assert facts["gid_map"].split() == ["0", str(UID), "1"]
    assert facts["setgroups"] == "deny\n"
    assert facts["namespaces"]["net"] == os.stat("/proc/self/ns/net").st_ino
    assert facts["namespaces"]["user"] != os.stat("/proc/self/ns/user").st_ino
    assert facts["no_new_privs"] == 1
    assert {"ro", "nosuid", "nodev", "noexec"} <= facts.mount("/sys").options
    assert "ro" in facts.mount("/").options


@pytest.mark.common
def test_spec_rootless_is_of_the_user(rootless: Container) -> None:
    rootless.runtime.run("spec", "--rootless", "--bundle", rootless.bundle)
    path = rootless.bundle / "config.json"
    assert path.stat().st_uid == UID
    linux = json.loads(path.read_text())["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": UID, "size": 1}]
    assert {entry["type"] for entry in linux["namespaces"]} == {"pid", "ipc", "uts", "mount", "cgroup", "user"}


@pytest.mark.common
def test_life_in_steps(rootless: Container) -> None:
    rootless.process["args"] = ["/probe", "hold"]
    rootless.create()
    assert rootless.status == "created"
    assert host_status(rootless.pid)["Uid"] == [str(UID)] * 4
    rootless.start()
    wait_for(lambda: rootless.output == "ready\n")
    assert rootless.status == "running"
    listed = json.loads(rootless.runtime.run("list", "--format", "json").out)
    assert [(entry["id"], entry["pid"], entry["status"]) for entry in listed] == [
        (rootless.id, rootless.pid, "running")
    ]
    assert rootless.exec("/bin/echo", "inside").out == "inside\n"
    rootless.kill("TERM")
    assert rootless.wait() == 42
    assert rootless.status == "stopped"
    rootless.delete()
    assert list(rootless.runtime.root.iterdir()) == []


@pytest.mark.common
def test_run_detached(rootless: Container) -> None:
    rootless.process["args"] = ["/probe", "hold"]
    rootless.write_config()
    output = rootless.bundle / "output"
    command = ("run", "--detach", "--bundle", rootless.bundle, "--pid-file", rootless.pid_file, rootless.id)
    rootless.runtime.run(*command, stdout=output)
    wait_for(lambda: output.read_text() == "ready\n")
    assert rootless.status == "running"
    rootless.kill("KILL")
    assert rootless.wait() == 137


@pytest.mark.common
def test_exit_code_of_run(rootless: Container) -> None:
    rootless.shell("exit 7")
    assert rootless.run(check=False).rc == 7


def test_ps_without_a_cgroup(rootless: Container) -> None:
    """Without a cgroup of its own, the container's init is all that is known of its processes."""
    rootless.hold()
    assert json.loads(rootless.runtime.run("ps", "--format", "json", rootless.id).out) == [rootless.pid]
    assert "/probe hold" in rootless.runtime.run("ps", rootless.id).out


def test_kill_all_and_delete_without_a_cgroup(rootless: Container) -> None:
    """The pid namespace ends with its init."""
    rootless.shell("trap '' TERM; sleep 1000 & echo ready; wait; wait")
    rootless.create()
    rootless.start()
    wait_for(lambda: rootless.output == "ready\n")
    rootless.delete("--force")
    assert list(rootless.runtime.root.iterdir()) == []


def test_root_does_not_act_on_it(rootless: Container, plain_runtime: Runtime) -> None:
    """What a user's state says is not to be done with root's privileges; looking is harmless."""
    rootless.hold()
    as_root = replace(plain_runtime, root=rootless.runtime.root)
    assert json.loads(as_root.run("state", rootless.id).out)["pid"] == rootless.pid
    for command in (("kill", rootless.id, "KILL"), ("delete", "--force", rootless.id), ("exec", rootless.id, "true")):
        result = as_root.run(*command, check=False)
        assert result.rc != 0
        assert f"belongs to user {UID}" in result.error
    assert rootless.status == "running"


def test_default_state_directory(rootless: Container, user: User, plain_runtime: Runtime) -> None:
    """$XDG_RUNTIME_DIR/ocirt, closed to others and with the sticky bit, so that it isn't cleaned up."""
    user, reached = user.reaching(plain_runtime)
    rootless.shell("true")
    rootless.write_config()
    result = user.run(*reached.command, "run", "--bundle", str(rootless.bundle), rootless.id)
    assert (result.returncode, result.stdout) == (0, "")
    folder = user.home / "runtime/ocirt"
    assert folder.stat().st_mode & 0o7777 == 0o1700
    assert folder.stat().st_uid == UID
    assert list(folder.iterdir()) == []


def test_no_runtime_directory(rootless: Container, user: User, plain_runtime: Runtime) -> None:
    user, reached = user.reaching(plain_runtime)
    env = {name: value for name, value in user.env.items() if name != "XDG_RUNTIME_DIR"}
    rootless.write_config()
    command = (*reached.command, "run", "--bundle", str(rootless.bundle), rootless.id)
    result = replace(user, env=env).run(*command)
    assert result.returncode == 1
    assert "permission denied (XDG_RUNTIME_DIR or --root can name another directory)" in result.stderr.splitlines()[-1]


# ---- terminals


@pytest.mark.common
def test_terminal(rootless: Container, user: User) -> None:
    rootless.process["terminal"] = True
    rootless.process["consoleSize"] = {"height": 31, "width": 97}
    rootless.shell("tty; stty size; stat -c %u $(tty) /dev/console")
    with FdSocket(rootless.bundle / "console.sock") as listening:
        user.own(listening.path)
        rootless.create("--console-socket", listening.path)
        console = listening.receive_console()
        rootless.start()
        assert console.read_all().split() == ["/dev/pts/0", "31", "97", "0", "0"]


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets the size after the program has begun, which busybox stty may find without one")
def test_terminal_of_a_foreground_run(rootless: Container) -> None:
    """The caller's terminal is relayed, and its size taken over."""
    rootless.process["terminal"] = True
    rootless.shell("tty; stty size; read line; echo got $line; exit 3")
    rootless.write_config()
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    argv = rootless.runtime.argv("run", "--bundle", rootless.bundle, rootless.id)
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        console = Console(ours)
        shown = console.read_until("31 97")
        assert "/dev/pts/0" in shown
        console.write("hello\n")
        console.read_until("got hello")
        assert process.wait(10) == 3
    finally:
        os.close(ours)
        process.kill()
        process.wait()


@pytest.mark.common
def test_terminal_of_exec(rootless: Container, user: User) -> None:
    rootless.hold()
    with FdSocket(rootless.bundle / "console.sock") as listening:
        user.own(listening.path)
        rootless.exec("--tty", "--detach", "--console-socket", listening.path, "/bin/sh", "-c", "tty; id -u")
        assert listening.receive_console().read_all().split() == ["/dev/pts/0", "0"]


# ---- exec


@pytest.mark.common
def test_exec_with_one_id(rootless: Container) -> None:
    rootless.process["env"].append("FROM=container")
    rootless.hold()
    facts = rootless.exec_facts("--cwd", "/tmp", "--env", "ONE=1")
    assert facts["uids"] == [0, 0, 0]
    assert facts["cwd"] == "/tmp"
    assert facts.env()["HOME"] == "/root"
    for kind in ("pid", "ipc", "uts", "mnt", "cgroup", "user"):
        assert facts["namespaces"][kind] == os.stat(f"/proc/{rootless.pid}/ns/{kind}").st_ino
    assert facts["namespaces"]["net"] == os.stat("/proc/self/ns/net").st_ino


@pytest.mark.common
@pytest.mark.known_bad("runc", "1.1 sets no groups for a user")
def test_exec_with_ranges(ranged: Container) -> None:
    ranged.hold()
    facts = ranged.exec_facts("--user", "1000:5", "--additional-gids", "7")
    assert (facts["uids"], facts["gids"]) == ([1000] * 3, [5] * 3)
    assert 7 in facts["groups"]
    assert facts.env()["HOME"] == "/home/user"


def test_exec_cannot_set_groups(rootless: Container) -> None:
    rootless.hold()
    result = rootless.exec("--additional-gids", "0", "/probe", check=False)
    assert result.rc == 255
    assert "cannot set any additional groups in a rootless container" in result.error


def test_exec_of_a_user_who_is_not_mapped(rootless: Container) -> None:
    rootless.hold()
    result = rootless.exec("--user", "5", "/probe", check=False)
    assert result.rc != 0
    assert "user/uid" in result.error
    assert "5 is not mapped" in result.error
