"""The standalone binary under test: $OCIRT_BINARY, else dist/ocirt, which `make binary` makes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.bundle import default_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def binary() -> Path:
    path = Path(os.environ.get("OCIRT_BINARY") or ROOT / "dist" / "ocirt")
    if not path.exists():
        pytest.skip("there is no standalone binary: make binary")
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that `plan` and `validate` take."""
    path = tmp_path / "bundle"
    (path / "rootfs").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(default_config()))
    return path
