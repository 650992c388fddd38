"""A real system: Debian's minimal base boots a shell on a terminal, for root, for a user, and in a user namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.bundle import use_user_namespace
from tests.support.console import Console, FdSocket
from tests.support.runtime import Container
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


@pytest.fixture
def user(scratch: Path) -> Iterator[User]:
    user = User.make(scratch / "debian-user")
    yield user
    shutil.rmtree(user.home)


@pytest.fixture
def debian_container(container: Container, tree: Path) -> Container:
    """A container whose root filesystem is the tree, to be configured by `spec`."""
    shutil.rmtree(container.rootfs)
    tree.rename(container.rootfs)  # what it is in the bundle that `spec` is for
    container.rootfs.rename(tree)
    container.rootfs.symlink_to(tree)
    return container


def configure(container: Container, *flags: str) -> None:
    """Has the runtime write the configuration, and makes bash its program."""
    container.runtime.run("spec", *flags, "--bundle", container.bundle)
    container.config = json.loads((container.bundle / "config.json").read_text())
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


def check_shell(container: Container, console: Console) -> None:
    """What a person would try in a shell."""
    assert type_line(console, "tty").split()[0] == "/dev/pts/0"
    assert type_line(console, "stty size").split()[:2] == ["31", "97"]
    assert type_line(console, "apt-get --version").startswith("apt 2.")
    assert type_line(console, "id -u").split()[0] == "0"
    assert type_line(console, "echo $$").split()[0] == "1"
    assert "VERSION_CODENAME=bookworm" in type_line(console, "cat /etc/os-release")
    assert "sleep 1000" in type_line(console, "sleep 1000 & jobs")
    assert "Killed" in type_line(console, "kill -KILL %1; sleep 0.5; jobs")


def end(container: Container, console: Console) -> None:
    """Kills it, sees the terminal end, and deletes it."""
    container.kill("KILL")
    assert container.wait() == 137
    console.read_all()
    assert container.status == "stopped"
    container.delete()
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.common
def test_shell_of_root(debian_container: Container) -> None:
    configure(debian_container)
    with FdSocket(debian_container.bundle / "console.sock") as socket:
        console = boot(debian_container, socket)
        check_shell(debian_container, console)
        assert "read-only file system" in type_line(console, "touch /file").lower()
        end(debian_container, console)


def as_user(container: Container, user: User) -> None:
    user, reached = user.reaching(container.runtime)
    container.runtime = user.runtime(reached)
    user.own(container.bundle)


@pytest.mark.common
def test_shell_of_a_user(debian_container: Container, user: User) -> None:
    """The same bundle; its files belong to root, whom the user namespace does not know."""
    if reason := why_no_user_namespaces(user):
        pytest.skip(reason)
    as_user(debian_container, user)
    configure(debian_container, "--rootless")
    with FdSocket(debian_container.bundle / "console.sock") as socket:
        user.own(socket.path)
        console = boot(debian_container, socket)
        check_shell(debian_container, console)
        assert type_line(console, "stat -c %U /etc/passwd").split()[0] == "nobody"
        assert type_line(console, "cat /proc/self/uid_map").split()[:3] == ["0", str(UID), "1"]
        end(debian_container, console)


@pytest.mark.common
def test_foreground_run_of_a_user(debian_container: Container, user: User) -> None:
    as_user(debian_container, user)
    configure(debian_container, "--rootless")
    debian_container.process["terminal"] = False
    del debian_container.process["consoleSize"]
    debian_container.process["args"] = ["apt-get", "--version"]
    assert debian_container.run().out.startswith("apt 2.")


@pytest.mark.common
def test_system_that_a_user_owns(debian_container: Container, user: User, tree: Path) -> None:
    """Unpacked by the user and written to by him: dpkg and apt are used for what they are for."""
    if reason := why_no_ranges():
        pytest.skip(reason)
    own = user.home / "tree"
    subprocess.run(["cp", "-a", str(tree), str(own)], check=True)
    subprocess.run(["chown", "-R", "--no-dereference", f"{user.uid}:{user.gid}", str(own)], check=True)
    as_user(debian_container, user.with_account())
    configure(debian_container, "--rootless")
    map_ranges(debian_container.config, user)
    debian_container.config["root"] = {"path": str(own), "readonly": False}
    debian_container.process["terminal"] = False
    del debian_container.process["consoleSize"]
    sets = ("bounding", "effective", "permitted")
    names = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID"]
    debian_container.process["capabilities"] = dict.fromkeys(sets, names)
    script = (
        "set -e; useradd --create-home someone; stat -c %U /home/someone; dpkg --audit; chown someone /etc/motd;"
        "stat -c %U /etc/motd; su someone -s /bin/sh -c 'id -u'; apt-config dump | grep -c ^APT"
    )
    debian_container.process["args"] = ["/bin/bash", "-c", script]
    shown = debian_container.run().out.split()
    assert shown[:3] == ["someone", "someone", "1000"]
    assert int(shown[3]) > 5


def test_shell_in_a_user_namespace(debian_container: Container) -> None:
    """Root's container with ids of its own, and the system's files idmapped in a mount of them."""
    configure(debian_container)
    use_user_namespace(debian_container.config)
    debian_container.process["terminal"] = False
    del debian_container.process["consoleSize"]
    mapped = {"destination": "/mnt", "type": "bind", "source": str(debian_container.rootfs.resolve())}
    debian_container.mounts.append(mapped | {"options": ["rbind", "ro", "idmap"]})
    script = "id -u; stat -c %U /etc/passwd; stat -c %U /mnt/etc/passwd; stat -c %G /mnt/etc/shadow; apt-get --version"
    debian_container.process["args"] = ["/bin/bash", "-c", script]
    shown = debian_container.run().out.split()
    assert shown[:5] == ["0", "nobody", "root", "shadow", "apt"]


def test_exec_in_the_system(debian_container: Container) -> None:
    configure(debian_container)
    debian_container.process["terminal"] = False
    del debian_container.process["consoleSize"]
    debian_container.process["args"] = ["sleep", "1000"]
    debian_container.start_new()
    assert debian_container.exec("--user", "65534", "sh", "-c", "echo $HOME; id -un").out.split() == [
        "/nonexistent",
        "nobody",
    ]
    assert debian_container.exec("--cwd", "/usr", "pwd").out == "/usr\n"
    assert debian_container.exec("no-such-program", check=False).rc == 255
