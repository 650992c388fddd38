"""Commands in this process, with a state directory of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from ocirt.cli import execute

Run: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit code, what it printed, and its errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = execute(["--root", str(tmp_path / "root"), *words])
        return code, *capfd.readouterr()

    return run
