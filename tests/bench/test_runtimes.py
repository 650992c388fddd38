"""Which runtimes are measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.runtimes import Runtime, default_runtimes, parse_runtime, parse_version, size_bytes
from bench.spawner import BenchError


def test_a_runtime_is_a_name_and_a_command_line() -> None:
    runtime = parse_runtime("mine=sh -c 'a b'")
    assert runtime.name == "mine"
    assert Path(runtime.command[0]).is_absolute()
    assert runtime.command[1:] == ("-c", "a b")
    assert runtime.argv("state", "x")[-4:] == ["--root", "/", "state", "x"]


@pytest.mark.parametrize("text", ["runc", "=runc", "runc=", "runc=/does/not/exist"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BenchError):
        parse_runtime(text)


def test_variables_name_others() -> None:
    runtimes, missing = default_runtimes({"RUNC": "/does/not/exist", "CRUN": "sh -x", "OCIRT": "sh -e"})
    assert [(one.name, one.command[1:]) for one in runtimes] == [("crun", ("-x",)), ("ocirt", ("-e",))]
    assert missing == ["runc: /does/not/exist: no such program"]


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("runc version 1.1.5+ds1\ncommit: 1\n", "1.1.5+ds1"),
        ("crun version 1.8.1\n", "1.8.1"),
        ("something else\n", "something else"),
        ("ends with version\n", "ends with version"),
        ("", ""),
    ],
)
def test_the_version_is_the_word_after_version(output: str, version: str) -> None:
    assert parse_version(output) == version


def test_crun_alone_has_other_flags_to_try() -> None:
    crun = Runtime("any name", ("/usr/bin/crun",))
    assert crun.fallback
    assert crun.fallback.command == ("/usr/bin/crun", "--cgroup-manager=disabled")
    assert "--cgroup-manager=disabled" in crun.fallback.note
    assert crun.fallback.fallback is None
    assert Runtime("runc", ("/usr/sbin/runc",)).fallback is None


def test_modules_and_scripts_have_no_size(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF" + b"." * 96)
    assert size_bytes(Runtime("a", (str(binary),))) == 100
    assert size_bytes(Runtime("b", (str(script),))) is None
    assert size_bytes(Runtime("c", (sys.executable, "-m", "ocirt"))) is None
