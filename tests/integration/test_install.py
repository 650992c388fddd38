"""`make install`: what it puts in place runs a container by itself, wherever it is called from and with what around."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.bundle import make_template

pytestmark = [pytest.mark.root, pytest.mark.cgroup, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
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


def test_version_names_the_commit(prefix: Path) -> None:
    commit = output("git", "rev-parse", "HEAD").strip() if (ROOT / ".git").exists() else "unknown"
    assert f"\ncommit: {commit}" in output(prefix / "bin/ocirt", "--version")


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
