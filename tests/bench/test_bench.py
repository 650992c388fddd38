"""The whole benchmark, with few rounds; and that nothing is left of it, also when it is interrupted."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.session import TOKEN_PREFIX
from tests.support import leaks
from tests.support.runtime import find_runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

TREE = Path(__file__).parent.parent.parent


@pytest.fixture
def command() -> list[str]:
    """The benchmark's, with runc and the ocirt that is under test."""
    words = [sys.executable, "-m", "bench"]
    for name in ("runc", "ocirt"):
        runtime = find_runtime(name, Path("/"))
        if runtime is None:
            pytest.skip(f"{name} is not installed")
        words += ["--runtime", f"{name}={shlex.join(runtime.command)}"]
    return words


def begin(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=TREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def nothing_is_left(pid: int) -> bool:
    token = f"{TOKEN_PREFIX}{pid}"
    return not [*leaks.cgroups(token), *leaks.folders(token)]


def test_two_rounds(command: list[str], tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    cases = [word for case in ("version", "lifecycle", "exec", "both") for word in ("--only", case)]
    process = begin([*command, *cases, "--rounds", "2", "--warm-up", "1", "--json", str(target)])
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    results = json.loads(target.read_text())
    assert results["notes"] == []
    assert list(results["cases"]) == ["version", "lifecycle", "create", "start", "delete", "exec", "both"]
    for by_runtime in results["cases"].values():
        assert {name: len(one["seconds"]) for name, one in by_runtime.items()} == {"runc": 2, "ocirt": 2}
        assert all(one["peak_bytes"] > 1_000_000 for one in by_runtime.values())
    assert all(0 < count < 100_000_000 for count in results["pss_bytes"].values())
    assert "create + start + delete -f" in out
    assert nothing_is_left(process.pid)


def test_a_limit_that_is_missed_is_exit_code_1(command: list[str]) -> None:
    """A runtime by the name of ocirt that is runc is as slow as that."""
    runc = command[command.index("--runtime") + 1]
    slow = ["--runtime", runc, "--runtime", runc.replace("runc=", "ocirt=", 1)]
    process = begin([*command[:3], *slow, "--only", "run", "--rounds", "1", "--warm-up", "1", "--check"])
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "")
    assert "MISSED" in out


def test_what_fails_is_left_out_with_a_note(command: list[str], tmp_path: Path) -> None:
    """A runtime that knows everything but `state`."""
    runc = find_runtime("runc", Path("/"))
    assert runc
    script = tmp_path / "script"
    refusal = '#!/bin/sh\ncase "$*" in *" state "*) echo no such thing >&2; exit 9;; esac\n'
    script.write_text(f'{refusal}exec {runc.command[0]} "$@"\n')
    script.chmod(0o755)
    options = ["--runtime", f"bad={script}", "--only", "state", "--only", "kill", "--rounds", "1"]
    process = begin([*command, *options])
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "state is left out for bad: " in out
    assert "exit code 9: no such thing" in out
    assert "kill is left out" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_nothing(command: list[str], number: signal.Signals) -> None:
    process = begin([*command, "--only", "run", "--only", "exec", "--rounds", "100000"])
    token = f"{TOKEN_PREFIX}{process.pid}"
    # Two containers that go on, and one more that is just being run.
    wait_for(lambda: len(list(leaks.cgroups(token))) > 2, timeout_seconds=60)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "bench: interrupted\n")
    assert nothing_is_left(process.pid)
    assert not Path("/proc", str(process.pid)).exists()


def test_without_root_it_says_so(command: list[str]) -> None:
    process = subprocess.run(
        command, cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, text=True, user=65534, check=False, timeout=60
    )
    assert (process.returncode, process.stderr) == (2, "bench: needs root\n")
