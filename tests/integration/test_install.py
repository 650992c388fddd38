"""`make install`: the standalone binary, which runs a container wherever it is called from and with what around."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.bundle import make_template
from tools.commit import source_commit

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BINARY = ROOT / "dist" / "ocirt"
COMPLETIONS = (
    "bash-completion/completions/ocirt",
    "zsh/site-functions/_ocirt",
    "fish/vendor_completions.d/ocirt.fish",
)


def output(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, check=True, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where ocirt is installed."""
    prefix = tmp_path_factory.mktemp("prefix")
    output("make", "-s", "install", f"PREFIX={prefix}")
    return prefix


def test_the_binary_of_this_commit_is_installed(prefix: Path) -> None:
    ocirt = prefix / "bin/ocirt"
    assert ocirt.read_bytes() == BINARY.read_bytes()
    assert ocirt.stat().st_mode & 0o777 == 0o755
    version = output(ocirt, "--version")
    assert f"\ncommit: {source_commit()}\n" in version
    assert "\nstandalone: one file (saved)\n" in version


def test_nothing_has_changed(prefix: Path) -> None:
    """The binary, which takes half a minute, is not made again."""
    before = BINARY.stat()
    output("make", "-s", "binary")
    after = BINARY.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "source",
    [
        "ocirt/cli/parse.py",
        "ocirt/spec/schema/config.json",
        "c_ext/standalone/save.c",
        "c_ext/standalone/alloc.h",
        "tools/standalone/image.py",
    ],
)
def test_what_the_binary_is_made_of(prefix: Path, tmp_path: Path, source: str) -> None:
    """Where a source is newer, the binary is made: the builder's interpreter is called, a stand-in here."""
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    (tmp_path / "python").chmod(0o755)
    assert (ROOT / source).exists()
    output("make", "-s", "binary", f"BIN={tmp_path}", "--what-if", source)
    assert (tmp_path / "called").read_text() == "-m tools.standalone dist/ocirt\n"


def test_manual_and_completion(prefix: Path) -> None:
    pages = {path.name for path in (prefix / "share/man/man8").iterdir()}
    assert {"ocirt.8", "ocirt-run.8", "ocirt-doctor.8"} <= pages
    for path in COMPLETIONS:
        assert "doctor" in (prefix / "share" / path).read_text()


def test_run(prefix: Path, tmp_path: Path, token: str) -> None:
    """A module of the same name in the caller's folder and environment is not what runs."""
    (tmp_path / "ocirt.py").write_text("raise SystemExit('the wrong module')")
    make_template(tmp_path / "rootfs")
    ocirt = prefix / "bin/ocirt"
    output(ocirt, "spec", "--bundle", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/echo", "installed"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"}
    command = (ocirt, "--root", tmp_path / "state", "run", token)
    assert output(*command, cwd=tmp_path, environment=environment) == "installed\n"


def test_uninstall_leaves_nothing(prefix: Path) -> None:
    output("make", "-s", "uninstall", f"PREFIX={prefix}")
    assert not [path for path in prefix.rglob("*") if not path.is_dir()]
