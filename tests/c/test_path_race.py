"""Directories of the root file system are exchanged for links to the host while it is worked on (CVE-2021-30465).

Every operation may succeed below the root or fail; nothing may appear outside of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt._native import lib
from ocirt.ops import Bind, MakeDevice, MakeReadonly, MakeSymlink, MountFs, Op, OpenTree
from tests.c.init_runner import InitRunner
from tests.c.sandbox import SLOT, Container, MakeSandbox, Sandbox

SECONDS = 2
ROUNDS = 40  # of operations in a plan
TOLERATED = (errno.ELOOP, errno.ENOENT)  # an exchange in the midst of it, or too many of them


@pytest.fixture(scope="session")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("exchange") / "exchange"
    source = Path(__file__).parent / "exchange.c"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", str(source), "-o", str(program)], check=True)
    return program


@contextlib.contextmanager
def exchanging(program: Path, folder: Path, name: str, other: str) -> Iterator[None]:
    command = [str(program), str(folder), name, other]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield
        process.communicate()
        assert process.returncode == 0, "the exchange ended early"


def everything(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def operations(number: int) -> tuple[Op, ...]:
    """What is done below the name that is exchanged: where there is nothing yet, and where the host has the same."""
    origin = "/mounts/0"
    made, there = f"/exchanged/{number}", f"/exchanged/there/{number}"
    return (
        OpenTree(origin, "/dev/null", 0, SLOT),
        Bind(origin, f"{there}-file", SLOT, tolerated=TOLERATED),
        MountFs(origin, "tmpfs", "tmpfs", f"{made}/a/b", tolerated=TOLERATED),
        MountFs(origin, "tmpfs", "tmpfs", "/exchanged/covered", tolerated=TOLERATED),
        MakeDevice(origin, f"{there}-fifo", 0o010600, 0, 0, 0, 0, tolerated=TOLERATED),
        MakeSymlink(origin, f"{made}/link", "target", tolerated=TOLERATED),
        MakeReadonly(origin, f"{made}/a", tolerated=TOLERATED),
    )


def points_below(sandbox: Sandbox, folder: Path) -> list[str]:
    return [mount.point for mount in sandbox.mounts() if mount.point.startswith(f"{folder}/")]


@pytest.mark.slow
@pytest.mark.parametrize("link", ["absolute", "relative", "parent"])
def test_nothing_appears_outside(
    init: InitRunner, make_sandbox: MakeSandbox, exchange: Path, rootfs: Path, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    for folder in (outside, rootfs / "deeper/other"):
        for name in ("there", "covered"):
            (folder / name).mkdir(parents=True)
    target = {"absolute": str(outside), "relative": "../outside", "parent": "deeper/other/../../../outside"}[link]
    (rootfs / "exchanged").symlink_to(target)
    before, deadline, runs = everything(outside), time.monotonic() + SECONDS, 0
    with exchanging(exchange, rootfs, "exchanged", "deeper/other"):
        while time.monotonic() < deadline:
            sandbox = make_sandbox(user=True)
            numbers = range(runs * ROUNDS, (runs + 1) * ROUNDS)
            Container(init, sandbox, rootfs).do(*(op for number in numbers for op in operations(number)))
            assert all(point.startswith(f"{rootfs}") for point in points_below(sandbox, tmp_path))
            assert points_below(sandbox, rootfs)
            sandbox.close()
            runs += 1
    made = [path for path in everything(rootfs) if path.endswith("-fifo")]
    assert len(made) > ROUNDS, "hardly any operation succeeded: this shows nothing"
    assert any(path.startswith(f"{rootfs}/deeper/") for path in made)
    assert everything(outside) == before
    assert sorted(os.listdir(tmp_path)) == ["outside", "rootfs"]


@pytest.mark.slow
def test_a_real_directory_is_never_a_link(
    init: InitRunner, make_sandbox: MakeSandbox, exchange: Path, rootfs: Path
) -> None:
    """CVE-2019-19921: it is covered where it is, or the mount fails; what the link leads to is not covered."""
    for name in ("proc", "elsewhere"):
        (rootfs / name).mkdir()
    (rootfs / "other").symlink_to("elsewhere")
    tolerated = (errno.ELOOP, errno.ENOTDIR)
    mount = MountFs("", "tmpfs", "tmpfs", "/proc", (), lib.MOUNT_REAL_DIRECTORY, tolerated=tolerated)
    deadline, mounted = time.monotonic() + SECONDS, 0
    with exchanging(exchange, rootfs, "proc", "other"):
        while time.monotonic() < deadline:
            sandbox = make_sandbox(user=True)
            Container(init, sandbox, rootfs).do(*(mount for _ in range(50)))
            points = points_below(sandbox, rootfs)
            assert {Path(point).name for point in points} <= {"proc", "other"}
            mounted += len(points)
            sandbox.close()
    assert mounted > 0
