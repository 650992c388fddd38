"""The allocators alone: alignment, overlap, reuse, growth."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.standalone.conftest import ROOT

UBSAN = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
SOURCES = ROOT / "c_ext" / "standalone"


@pytest.mark.slow
@pytest.mark.parametrize(
    "sanitize", [(), ("-fsanitize=undefined", "-fno-sanitize-recover=all")], ids=["shipped", "ubsan"]
)
def test_a_million_random_calls(tmp_path: Path, sanitize: tuple[str, ...]) -> None:
    program = tmp_path / "stress"
    flags = ["-O2", "-fno-builtin", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", *sanitize]
    files = [Path(__file__).with_name("stress_alloc.c"), SOURCES / "alloc.c", SOURCES / "image_heap.c"]
    subprocess.run(["gcc", *flags, *files, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
