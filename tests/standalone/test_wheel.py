"""`make wheel`: what pip makes of it has the standalone binary as its script, and the modules, which run too."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.standalone.conftest import ROOT
from tools.commit import source_commit


def output(*command: str | Path, cwd: Path) -> str:
    """What a command prints that knows nothing of this tree."""
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        command, check=True, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ).stdout


@pytest.fixture(scope="module")
def environment(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and with this one's packages behind it for the dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    output("make", "-s", "wheel", f"WHEEL_DIR={folder}", cwd=ROOT)
    (wheel,) = folder.glob("ocirt-*.whl")
    path = folder / "environment"
    output(sys.executable, "-m", "venv", "--without-pip", path, cwd=folder)
    output(sys.executable, "-m", "pip", "--python", path, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = path.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("platlib"))
    return path


@pytest.mark.slow
def test_the_script_is_the_binary(environment: Path, tmp_path: Path) -> None:
    script = environment / "bin" / "ocirt"
    assert script.read_bytes() == (ROOT / "dist" / "ocirt").read_bytes()
    assert script.stat().st_mode & 0o777 == 0o755
    assert output(script, "--version", cwd=tmp_path).endswith("standalone: one file (saved)\n")


@pytest.mark.slow
def test_the_modules_run(environment: Path, tmp_path: Path) -> None:
    """With their extension module and data, and without the binary."""
    python = environment / "bin" / "python"
    (tmp_path / "rootfs").mkdir()
    where = output(python, "-c", "import ocirt; print(ocirt.__file__)", cwd=tmp_path)
    assert where.startswith(f"{environment}/")
    version = output(python, "-m", "ocirt", "--version", cwd=tmp_path)
    assert f"\ncommit: {source_commit()}\n" in version
    assert "standalone" not in version
    output(python, "-m", "ocirt", "spec", cwd=tmp_path)
    assert output(python, "-m", "ocirt", "validate", cwd=tmp_path) == output(
        environment / "bin" / "ocirt", "validate", cwd=tmp_path
    )
    assert "execute" in output(python, "-m", "ocirt", "plan", cwd=tmp_path)
