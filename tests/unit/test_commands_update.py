"""update and events: what their command lines ask for, and what is refused before a container is looked at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ocirt.cli import Context
from ocirt.cli.flags import Args
from ocirt.cli.parse import parse
from ocirt.cli.table import GLOBAL_FLAGS
from ocirt.commands.update import wanted_resources
from ocirt.log import Logger
from tests.unit.conftest import Run


def wanted(*words: str) -> dict[str, Any]:
    invocation = parse(["update", *words, "c1"], Args(GLOBAL_FLAGS))
    return wanted_resources(invocation.args, Context(Logger()))


@pytest.mark.parametrize(
    ("flag", "text", "resources"),
    [
        ("--blkio-weight", "500", {"blockIO": {"weight": 500}}),
        ("--blkio-weight", "0", {}),
        ("--cpu-period", "20000", {"cpu": {"period": 20000}}),
        ("--cpu-period", "", {}),
        ("--cpu-quota", "-1", {"cpu": {"quota": -1}}),
        ("--cpu-burst", "0", {"cpu": {"burst": 0}}),
        ("--cpu-share", "512", {"cpu": {"shares": 512}}),
        ("--cpu-rt-period", "1", {"cpu": {"realtimePeriod": 1}}),
        ("--cpu-rt-runtime", "1", {"cpu": {"realtimeRuntime": 1}}),
        ("--cpu-idle", "1", {"cpu": {"idle": 1}}),
        ("--cpuset-cpus", "0-1", {"cpu": {"cpus": "0-1"}}),
        ("--cpuset-mems", "0", {"cpu": {"mems": "0"}}),
        ("--memory", "-1", {"memory": {"limit": -1}}),
        ("--memory-reservation", "1024", {"memory": {"reservation": 1024}}),
        ("--memory-swap", "1g", {"memory": {"swap": 1 << 30}}),
        ("--pids-limit", "0", {"pids": {"limit": 0}}),
        ("--pids-limit", "-1", {"pids": {"limit": -1}}),
    ],
)
def test_flags(flag: str, text: str, resources: dict[str, Any]) -> None:
    assert wanted(f"{flag}={text}") == resources


def test_flags_together() -> None:
    assert wanted("--cpu-quota", "5000", "--memory", "512m", "--cpu-period", "10000", "--pids-limit", "7") == {
        "cpu": {"quota": 5000, "period": 10000},
        "memory": {"limit": 512 << 20},
        "pids": {"limit": 7},
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("0", 0),
        ("10k", 10 << 10),
        ("10K", 10 << 10),
        ("512m", 512 << 20),
        ("512MB", 512 << 20),
        ("512MiB", 512 << 20),
        ("512 mib", 512 << 20),
        ("2g", 2 << 30),
        ("1.5g", 3 << 29),
        ("1t", 1 << 40),
        ("1p", 1 << 50),
        ("100b", 100),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert wanted("--memory", text) == {"memory": {"limit": size}}


@pytest.mark.parametrize("text", ["-2", "m", "1x", "1mm", "1.m", "1,5g", "0x10", "1e3", "\u0661", "1m ", "max"])
def test_what_is_no_size(text: str, run: Run) -> None:
    code, out, err = run("update", "--memory", text, "c1")
    assert (code, out) == (1, "")
    assert err.startswith(f'ocirt: invalid value "{text}" for flag --memory: a size such as 512m is needed')


@pytest.mark.parametrize("flag", ["--cpu-period", "--cpu-quota", "--cpu-share", "--cpu-burst", "--cpu-idle"])
@pytest.mark.parametrize("text", ["x", "1.5", "1m", "99999999999999999999"])
def test_what_is_no_integer(flag: str, text: str, run: Run) -> None:
    assert run("update", flag, text, "c1") == (
        1,
        "",
        f'ocirt: invalid value "{text}" for flag {flag}: an integer is needed\n',
    )


@pytest.mark.parametrize(
    ("words", "pointer"),
    [
        (("--cpu-period", "-5"), "/cpu/period"),
        (("--blkio-weight", "100000"), "/blockIO/weight"),
        (("--memory", "99999999p"), "/memory/limit"),
    ],
)
def test_values_out_of_range_have_the_pointer(words: tuple[str, ...], pointer: str, run: Run) -> None:
    code, _, err = run("update", *words, "c1")
    assert code == 1
    assert err.startswith(f"ocirt: {pointer}: ")


def test_kernel_memory_is_ignored_with_a_word(run: Run) -> None:
    _, _, err = run("update", "--kernel-memory", "1m", "--kernel-memory-tcp", "1m", "c1")
    assert err.splitlines()[:2] == [
        f"ocirt: warning: --{name} is ignored: cgroup v2 counts the kernel's memory in --memory"
        for name in ("kernel-memory", "kernel-memory-tcp")
    ]


def test_file_stands_for_all(tmp_path: Path) -> None:
    path = tmp_path / "resources"
    path.write_text('{"pids": {"limit": 3}}')
    assert wanted("--memory", "1", "-r", str(path)) == {"pids": {"limit": 3}}


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, json.dumps({"memory": {"limit": 5}}).encode())
    os.close(write_fd)
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: real(read_fd if fd == 0 else fd, count))
    assert wanted("--resources=-") == {"memory": {"limit": 5}}
    os.close(read_fd)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "/: resources is not JSON"),
        ("[]", "/: "),
        ('{"memory": {"limit": "512m"}}', "/memory/limit: "),
        ('{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "rate": 1}]}}', "/blockIO/throttleReadBpsDevice/0: "),
        ('{"pids": {"limit": 1, "limit": 2}}', "/pids/limit: the key stands twice"),
    ],
)
def test_files_that_are_refused(
    text: str, error: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resources").write_text(text)
    code, out, err = run("update", "-r", "resources", "c1")
    assert (code, out) == (1, "")
    assert err.startswith(f"ocirt: {error}")


def test_missing_file(run: Run) -> None:
    assert run("update", "-r", "/no/such", "c1") == (1, "", "ocirt: open /no/such: no such file or directory\n")


@pytest.mark.parametrize("command", ["update", "events", "pause", "resume"])
def test_missing_container(command: str, run: Run) -> None:
    code, out, err = run(command, "c1")
    assert (code, out) == (1, "")
    assert err.startswith("ocirt: container does not exist")


@pytest.mark.parametrize("text", ["x", "5", "-1s"])
def test_bad_interval(text: str, run: Run) -> None:
    assert "a duration such as 5s is needed" in run("events", f"--interval={text}", "c1")[2]
