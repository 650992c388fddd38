"""The beginning of the image in one huge page; and whatever keeps the kernel or us from it is no failure."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PR_SET_THP_DISABLE = 41
HUGE_PAGE_KIB = 2048


def without_huge_pages() -> None:
    """For the new program, too (prctl(2))."""
    if ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        os._exit(126)


def huge_kib(pid: int) -> int:
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    return sum(int(line.split()[1]) for line in smaps.splitlines() if line.startswith("AnonHugePages:"))


@pytest.mark.parametrize("allowed", [True, False], ids=["huge", "small"])
def test_what_the_kernel_gives_is_used(binary: Path, allowed: bool) -> None:
    if not ENABLED.exists() or "[never]" in ENABLED.read_text():
        pytest.skip("needs transparent huge pages")
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(ours, "rb") as output:
        # Its output is longer than the pipe: there it waits for us.
        before = None if allowed else without_huge_pages
        process = subprocess.Popen([binary, "completion", "bash"], stdout=theirs, preexec_fn=before)  # noqa: PLW1509
        os.close(theirs)
        select.select([output], [], [])
        kib = huge_kib(process.pid)
        assert output.read()
    assert process.wait() == 0
    assert kib == (HUGE_PAGE_KIB if allowed else 0)


@pytest.mark.parametrize("arguments", [["--version"], ["spec", "--help"], ["plan"]])
def test_the_same_is_done_without(binary: Path, bundle: Path, arguments: list[str]) -> None:
    def output(**options: object) -> bytes:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [binary, *arguments], cwd=bundle, capture_output=True, check=True, **options
        ).stdout

    assert output(preexec_fn=without_huge_pages) == output()


@pytest.mark.root
@pytest.mark.parametrize("proc", ["none", "a directory", "another file"])
def test_memory_comes_from_no_other_file(binary: Path, tmp_path: Path, proc: str) -> None:
    """In a chroot, /proc may be anything; then memory is what the kernel had mapped."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for chroot")
    shutil.copy(binary, tmp_path / "ocirt")
    if proc != "none":
        (tmp_path / "proc" / "self").mkdir(parents=True)
    if proc == "another file":
        (tmp_path / "proc" / "self" / "exe").write_bytes(os.urandom(4096) * 1024)
    done = subprocess.run(["chroot", tmp_path, "/ocirt", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:13], done.stderr) == (0, "ocirt version", "")
