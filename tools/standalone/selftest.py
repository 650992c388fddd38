"""What a binary must do before it takes its place: a start, the schema, a plan, an explanation, a seccomp program."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path


class SelfTestError(Exception):
    """The binary does not do what it must."""


def check(binary: Path, form: str) -> None:
    """Raises SelfTestError."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory)
        (bundle / "rootfs").mkdir()
        _expect(f"({form})" in _run(binary, "--version"), "--version doesn't tell the form")
        _run(binary, "spec", "--bundle", directory)
        _run(binary, "validate", "--bundle", directory)
        config = json.loads((bundle / "config.json").read_text())
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
        }
        (bundle / "config.json").write_text(json.dumps(config))
        _expect("load seccomp filter" in _run(binary, "plan", "--bundle", directory), "the plan has no seccomp program")
        config["process"] = {"args": [7], "cwd": False}
        (bundle / "config.json").write_text(json.dumps(config))
        said = _run(binary, "validate", "--bundle", directory, code=1)
        _expect("/process/args/0" in said and "/process/cwd" in said, f"a refused config is explained by {said!r}")


def _run(binary: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [str(binary), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    _expect(done.returncode == code, f"{' '.join(arguments)}: exit code {done.returncode}\n{said}")
    return said


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SelfTestError(otherwise)
