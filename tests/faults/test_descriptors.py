"""Exactly the descriptors that are meant: in init while it waits, in the program, and in ocirt itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import NewContainer
from tests.support.console import FdSocket
from tests.support.runtime import Container, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MANY = """
import gc, os, sys
from ocirt.cli import execute

def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

root, bundle, prefix = sys.argv[1:]
def cycle(number):
    name = f"{prefix}-{number}"
    for words in (["create", "--bundle", bundle, name], ["start", name], ["exec", name, "/bin/true"], ["state", name],
                  ["list"], ["delete", "--force", name], ["delete", name], ["state", name], ["create", "no-such-flag"]):
        execute(["--root", root, *words])

cycle(0)
before = descriptors()
for number in range(1, 6):
    cycle(number)
after = descriptors()
print(before, after)
"""


def descriptors_of(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    return {int(entry.name): os.readlink(entry) for entry in folder.iterdir()}


def waiting(container: Container) -> dict[int, str]:
    """What init has open while it waits for start."""
    container.create()
    wait_for(lambda: Path(f"/proc/{container.pid}/syscall").read_text().startswith("0 "))  # read(2)
    return descriptors_of(container.pid)


def fifos(container: Container) -> set[str]:
    return {str(container.runtime.root / container.id / name) for name in ("start", "result")}


def test_created(container: Container) -> None:
    """stdio as create had it, and the two FIFOs; neither the runtime's socket, nor the plan, nor a directory."""
    found = waiting(container)
    stdio = {found.pop(fd) for fd in (0, 1, 2)}
    assert str(container.bundle / "output") in stdio
    assert len(found) == 2
    assert set(found.values()) == fifos(container)


@pytest.mark.parametrize("count", [1, 3])
def test_created_with_preserved_ones(container: Container, count: int) -> None:
    container.write_config()
    flags = ["--bundle", str(container.bundle), "--pid-file", str(container.pid_file), "--preserve-fds", str(count)]
    argv = container.runtime.argv("create", *flags, container.id)
    script = 'exec 3</dev/zero 4</dev/full 5</dev/null 6</proc; exec "$@"'
    subprocess.run(["sh", "-c", script, "sh", *argv], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: Path(f"/proc/{container.pid}/syscall").read_text().startswith("0 "))
    found = descriptors_of(container.pid)
    names = dict(enumerate(["/dev/zero", "/dev/full", "/dev/null"][:count], 3))
    assert {fd: target for fd, target in found.items() if 3 <= fd < 3 + count} == names
    assert {target for fd, target in found.items() if fd >= 3 + count} == fifos(container)
    assert len(found) == 5 + count


def test_created_with_a_terminal(container: Container) -> None:
    container.process["terminal"] = True
    with FdSocket(container.bundle / "console") as console:
        container.create("--console-socket", console.path)
        console.receive_console()
        wait_for(lambda: Path(f"/proc/{container.pid}/syscall").read_text().startswith("0 "))
        found = descriptors_of(container.pid)
    assert {found[fd] for fd in (0, 1, 2)} == {"/dev/pts/0"}
    assert {target for fd, target in found.items() if fd > 2} == fifos(container)
    assert len(found) == 5


def test_program(container: Container) -> None:
    container.hold()
    found = descriptors_of(container.pid)
    assert set(found) == {0, 1, 2}
    assert found[1] == str(container.bundle / "output")


def test_executed_program(container: Container) -> None:
    container.hold()
    pid_file = container.bundle / "exec-pid"
    container.exec("--detach", "--pid-file", pid_file, "/bin/sleep", "1000", stdout=container.bundle / "exec-output")
    pid = int(pid_file.read_text())
    wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith("busybox"))
    assert set(descriptors_of(pid)) == {0, 1, 2}


def test_commands_do_not_accumulate_any(new: NewContainer) -> None:
    """One process that executes many commands, some of which fail, has no more descriptors open at the end."""
    container = new()
    container.process["args"] = ["/probe", "hold"]
    container.write_config()
    argv = [sys.executable, "-c", MANY, str(container.runtime.root), str(container.bundle), container.id]
    done = subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    before, after = done.stdout.split()[-2:]
    assert before == after, done.stderr
