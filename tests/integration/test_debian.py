"""A real system: Debian's minimal base boots a shell on a terminal, for root, for a user, and in a user namespace."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.bundle import use_user_namespace
from tests.support.console import Console, FdSocket
from tests.support.runtime import Container, wait_for
from tests.support.unprivileged import UID, User, map_ranges, why_no_ranges, why_no_user_namespaces

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.slow]

PROMPT = "@@ "


@pytest.fixture(scope="module")
def tree(scratch: Path) -> Iterator[Path]:
    """The root filesystem, as root unpacked it. The tests mount it read-only."""
    path = scratch / "debian"
    try:
        debian.unpack(path)
    except debian.UnavailableError as error:
        pytest.skip(str(error))
    yield path
    subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True)


def configure(container: Container, tree: Path, *flags: str) -> None:
    """Has the runtime write the configuration, and makes bash its program."""
    container.runtime.run("spec", *flags, "--bundle", container.bundle)
    container.config = json.loads((container.bundle / "config.json").read_text())
    container.config["root"]["path"] = str(tree)
    container.process["args"] = ["/bin/bash", "--norc", "-i"]
    container.process["env"] += [f"PS1={PROMPT}", "HISTFILE=/dev/null"]
    container.process["env"] = [word.replace("TERM=xterm", "TERM=dumb") for word in container.process["env"]]
    container.process["consoleSize"] = {"height": 31, "width": 97}


def type_line(console: Console, line: str, until: str = PROMPT) -> str:
    """Types a line, and reads what is shown until the next prompt, the echo of the line left out."""
    console.write(f"{line}\n")
    shown = console.read_until(f"{line}\r\n")
    return shown.rpartition(f"{line}\r\n")[2] + (console.read_until(until) if until not in shown[-len(until) :] else "")


def boot(container: Container, socket: FdSocket) -> Console:
    container.create("--console-socket", socket.path)
    console = socket.receive_console()
    assert container.status == "created"
    container.start()
    seen = console.read_until(PROMPT)
    assert "job control" not in seen  # bash says so where it has no controlling terminal
    return console


def check_shell(console: Console) -> None:
    """What a person would try in a shell."""
    assert type_line(console, "tty").split()[0] == "/dev/pts/0"
    assert type_line(console, "stty size").split()[:2] == ["31", "97"]
    assert type_line(console, "apt-get --version").startswith("apt 2.")
    assert type_line(console, "id -u").split()[0] == "0"
    assert type_line(console, "echo $$").split()[0] == "1"
    assert "VERSION_CODENAME=bookworm" in type_line(console, "cat /etc/os-release")
    assert "sleep 1000" in type_line(console, "sleep 1000 & jobs")
    # No timing: the key is typed when the job has the terminal, and SIGINT waits for a stopped one to go on.
    assert "Stopped" in interrupt(console, "fg", "\x1a")  # ^Z
    interrupt(console, "fg", "\x03")  # ^C
    assert type_line(console, "echo $?").split()[0] == "130"


def interrupt(console: Console, line: str, key: str) -> str:
    """Types a line that puts the sleeping job into the foreground, and then a key; what is shown until the prompt."""
    console.write(f"{line}\n")
    wait_for(lambda: Path(f"/proc/{os.tcgetpgrp(console.fd)}/comm").read_text() == "sleep\n")
    console.write(key)
    return console.read_until(PROMPT)


def end(container: Container, console: Console) -> None:
    """Kills it, sees the terminal end, and deletes it."""
    container.kill("KILL")
    assert container.wait() == 137
    console.read_all()
    assert container.status == "stopped"
    container.delete()
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.common
def test_shell_of_root(container: Container, tree: Path) -> None:
    configure(container, tree)
    with FdSocket(container.bundle / "console.sock") as socket:
        console = boot(container, socket)
        check_shell(console)
        assert "read-only file system" in type_line(console, "touch /file").lower()
        end(container, console)


def as_user(container: Container, user: User) -> None:
    user, reached = user.reaching(container.runtime)
    container.runtime = user.runtime(reached)
    user.own(container.bundle)


@pytest.mark.common
def test_shell_of_a_user(container: Container, user: User, tree: Path) -> None:
    """The same bundle; its files belong to root, whom the user namespace does not know."""
    if reason := why_no_user_namespaces(user):
        pytest.skip(reason)
    as_user(container, user)
    configure(container, tree, "--rootless")
    with FdSocket(container.bundle / "console.sock") as socket:
        user.own(socket.path)
        console = boot(container, socket)
        check_shell(console)
        assert type_line(console, "stat -c %U /etc/passwd").split()[0] == "nobody"
        assert type_line(console, "cat /proc/self/uid_map").split()[:3] == ["0", str(UID), "1"]
        end(container, console)


@pytest.mark.common
def test_foreground_run_of_a_user(container: Container, user: User, tree: Path) -> None:
    as_user(container, user)
    configure(container, tree, "--rootless")
    container.process["terminal"] = False
    del container.process["consoleSize"]
    container.process["args"] = ["apt-get", "--version"]
    assert container.run().out.startswith("apt 2.")


@pytest.mark.common
def test_system_that_a_user_owns(container: Container, user: User, tree: Path) -> None:
    """Unpacked by the user and written to by him: dpkg and apt are used for what they are for."""
    if reason := why_no_ranges():
        pytest.skip(reason)
    own = user.home / "tree"
    subprocess.run(["cp", "-a", str(tree), str(own)], check=True)
    subprocess.run(["chown", "-R", "--no-dereference", f"{user.uid}:{user.gid}", str(own)], check=True)
    as_user(container, user.with_account())
    configure(container, tree, "--rootless")
    map_ranges(container.config, user)
    container.config["root"] = {"path": str(own), "readonly": False}
    container.process["terminal"] = False
    del container.process["consoleSize"]
    sets = ("bounding", "effective", "permitted")
    names = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID"]
    container.process["capabilities"] = dict.fromkeys(sets, names)
    script = (
        "set -e; useradd --create-home someone; stat -c %U /home/someone; dpkg --audit; chown someone /etc/motd;"
        "stat -c %U /etc/motd; su someone -s /bin/sh -c 'id -u'; apt-config dump | grep -c ^APT"
    )
    container.process["args"] = ["/bin/bash", "-c", script]
    shown = container.run().out.split()
    assert shown[:3] == ["someone", "someone", "1000"]
    assert int(shown[3]) > 5


def test_shell_in_a_user_namespace(container: Container, tree: Path) -> None:
    """Root's container with ids of its own, and the system's files idmapped in a mount of them."""
    configure(container, tree)
    use_user_namespace(container.config)
    container.process["terminal"] = False
    del container.process["consoleSize"]
    mapped = {"destination": "/mnt", "type": "bind", "source": str(tree)}
    container.mounts.append(mapped | {"options": ["rbind", "ro", "idmap"]})
    script = "id -u; stat -c %U /etc/passwd; stat -c %U /mnt/etc/passwd; stat -c %G /mnt/etc/shadow; apt-get --version"
    container.process["args"] = ["/bin/bash", "-c", script]
    shown = container.run().out.split()
    assert shown[:5] == ["0", "nobody", "root", "shadow", "apt"]


def test_exec_in_the_system(container: Container, tree: Path) -> None:
    configure(container, tree)
    container.process["terminal"] = False
    del container.process["consoleSize"]
    container.process["args"] = ["sleep", "1000"]
    container.start_new()
    assert container.exec("--user", "65534", "sh", "-c", "echo $HOME; id -un").out.split() == [
        "/nonexistent",
        "nobody",
    ]
    assert container.exec("--cwd", "/usr", "pwd").out == "/usr\n"
    assert container.exec("no-such-program", check=False).rc == 255
