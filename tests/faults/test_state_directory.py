"""A state directory that is full, or read-only: a clean error, and what is in it can still be seen and deleted."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.isolation import mount, umount
from tests.support.runtime import Container, Result, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

MS_RDONLY, MS_REMOUNT = 1, 32


@pytest.fixture
def mount_root(container: Container) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with the options given as the container's state directory."""
    folder = container.bundle / "root"
    folder.mkdir()
    before = container.runtime
    mounted = []

    def make(options: str) -> Path:
        mount("tmpfs", str(folder), "tmpfs", 0, options)
        mounted.append(folder)
        container.runtime = Runtime(before.name, before.command, folder)
        return folder

    yield make
    container.delete("--force", check=False)
    container.runtime = before
    for each in mounted:
        umount(str(each))


def assert_clean(result: Result) -> None:
    """One line of error for each failure, and no internal one."""
    lines = [line for line in result.err.splitlines() if "warning" not in line]
    assert result.rc != 124
    assert len(lines) == (1 if result.rc else 0), result.err
    assert "Traceback" not in result.err
    assert "internal error" not in result.err


@pytest.mark.parametrize("inodes", range(2, 10))
def test_full(container: Container, mount_root: Callable[[str], Path], inodes: int) -> None:
    """One more file at each run: from none at all to the one that is enough."""
    root = mount_root(f"nr_inodes={inodes},mode=700")
    container.process["args"] = ["/probe", "hold"]
    result = container.create(check=False)
    assert_clean(result)
    if result.rc:
        assert os.strerror(errno.ENOSPC).lower() in result.err
        assert list(root.iterdir()) == []
        assert not container.pid_file.exists()
    else:
        container.start()
    assert_clean(container.runtime.run("list", check=False))
    container.delete("--force")
    assert list(root.iterdir()) == []


def fill(path: Path) -> None:
    """Writes a file until there is no room for more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_full_after_create(container: Container, mount_root: Callable[[str], Path]) -> None:
    """A container whose state directory others have filled can be used, and deleted."""
    root = mount_root("size=64k,mode=700")
    container.process["args"] = ["/probe", "hold"]
    container.create()
    fill(root / "filler")
    container.start()
    assert container.status == "running"
    assert container.exec("/bin/echo", "well").out == "well\n"
    container.delete("--force")
    assert [path.name for path in root.iterdir()] == ["filler"]


@pytest.mark.parametrize("started", [False, True])
def test_read_only(container: Container, mount_root: Callable[[str], Path], started: bool) -> None:
    """What can be done without writing is done; delete says why it cannot, and can be repeated."""
    root = mount_root("mode=700")
    container.process["args"] = ["/probe", "hold"]
    container.create()
    if started:
        container.start()
        wait_for(lambda: container.output == "ready\n")
    mount("tmpfs", str(root), None, MS_REMOUNT | MS_RDONLY)
    other = container.runtime.run("create", "--bundle", container.bundle, "other", check=False)
    assert_clean(other)
    assert "read-only file system" in other.err
    assert container.status == ("running" if started else "created")
    refused = container.delete("--force", check=False)
    assert_clean(refused)
    assert "read-only file system" in refused.err
    assert container.status == "stopped"
    mount("tmpfs", str(root), None, MS_REMOUNT)
    container.delete("--force")
    assert list(root.iterdir()) == []
