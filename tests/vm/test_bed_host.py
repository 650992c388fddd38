"""tools/vm.py itself: exit codes, limits of time, errors, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.runtime import wait_for
from tools import vm

SCRIPT = Path(vm.__file__)

pytestmark = pytest.mark.skipif("OCIRT_VM" in os.environ, reason="boots machines, and is in one")


def why_no_machine() -> str | None:
    try:
        vm.check_host(systemd=False)
    except vm.BedError as error:
        return str(error)
    return None


boots = [
    pytest.mark.slow,
    pytest.mark.skipif(why_no_machine() is not None, reason=f"no test bed: {why_no_machine()}"),
]


def run_vm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in QEMU's place, which is to be written, and a folder for the temporary files, which must be empty."""
    if reason := why_no_machine():
        pytest.skip(f"no test bed: {reason}")
    program = tmp_path / "bin" / vm.QEMU
    program.parent.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return program


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def left_behind(program: Path) -> list[str]:
    return [path.name for path in (program.parent.parent / "temporary").iterdir()]


# How tools/vm.py has its ports in QEMU's command line.
PORT_OF = """\
port() {
    for argument in "$@"; do
        case $argument in file,id=$name,path=*) echo "${argument#*path=}" ;; esac
    done
}
for name in stdout stderr result console; do
    eval "$name=$(port "$@")"
done
"""


class TestWithoutAMachine:
    """What the machine says of itself, said by a script in QEMU's place."""

    def test_output_and_exit_code(self, qemu: Path) -> None:
        write_program(qemu, PORT_OF + "echo up 1 >$result; echo out >$stdout; echo err >$stderr; echo exit 3 >$result")
        result = run_vm("--accel", "tcg", "--", "true")
        assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
        assert left_behind(qemu) == []

    def test_long_output_is_whole(self, qemu: Path) -> None:
        write_program(qemu, PORT_OF + "echo up 1 >$result; seq 200000 >$stdout; echo exit 0 >$result; sleep 100")
        result = run_vm("--accel", "tcg", "--", "true")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [str(number) for number in range(1, 200001)]

    def test_the_machine_dies(self, qemu: Path) -> None:
        write_program(qemu, PORT_OF + "echo 'Kernel panic' >$console; echo 'no such device' >&2; exit 1")
        result = run_vm("--accel", "tcg", "--", "true")
        assert result.returncode == vm.EXIT_MACHINE
        assert result.stderr == "no such device\nKernel panic\nvm.py: the machine ended before the command did\n"
        assert left_behind(qemu) == []

    @pytest.mark.parametrize(("said", "message"), [("", "did not boot"), ("echo up 1 >$result;", "was not through")])
    def test_the_machine_hangs(self, qemu: Path, said: str, message: str) -> None:
        pid_file = qemu.parent / "pid"
        write_program(qemu, PORT_OF + f"{said} echo $$ >{pid_file}; echo here >$console; sleep 1000")
        result = run_vm("--accel", "tcg", "--timeout", "2", "--", "true")
        assert result.returncode == vm.EXIT_TIME
        assert result.stderr == f"here\nvm.py: the machine {message} in 2 s\n"
        assert not Path("/proc", pid_file.read_text().strip()).exists()
        assert left_behind(qemu) == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    def test_a_signal_ends_the_machine_too(self, qemu: Path, number: int) -> None:
        pid_file = qemu.parent / "pid"
        write_program(qemu, f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000")
        process = subprocess.Popen([sys.executable, str(SCRIPT), "--accel", "tcg", "--", "true"])
        wait_for(pid_file.exists, timeout_seconds=30)
        machine = int(pid_file.read_text())
        process.send_signal(number)
        assert process.wait(timeout=30) == (-number if number == signal.SIGKILL else 128 + number)
        wait_for(lambda: not is_alive(machine), timeout_seconds=10)
        if number != signal.SIGKILL:
            assert left_behind(qemu) == []

    def test_kvm_that_hangs_is_not_used(self, qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            pytest.skip("needs /dev/kvm")
        write_program(qemu, "exec sleep 1000")
        monkeypatch.setattr(vm, "CACHE", tmp_path / "cache")
        monkeypatch.setattr(vm, "KVM_PROBE_SECONDS", 1)
        kernel = vm.find_kernel()
        assert not vm.kvm_works(kernel)
        begin = time.monotonic()
        assert not vm.kvm_works(kernel), "remembered"
        assert time.monotonic() - begin < 0.5


def is_alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


class TestWhatIsMissing:
    def test_qemu(self, tmp_path: Path) -> None:
        for arguments in (["--", "true"], ["--check"]):
            result = run_vm(*arguments, PATH=str(tmp_path))
            assert result.returncode == vm.EXIT_MISSING
            assert result.stderr == f"vm.py: {vm.QEMU} is not installed (apt-get install qemu-system-x86)\n"

    def test_kernel(self, tmp_path: Path) -> None:
        (tmp_path / "vmlinuz-6.1.0-9").touch()
        with pytest.raises(vm.BedError, match="no kernel") as caught:
            vm.find_kernel(tmp_path, tmp_path / "modules")
        assert caught.value.code == vm.EXIT_MISSING

    def test_the_newest_kernel_that_has_its_modules(self, tmp_path: Path) -> None:
        for version in ("6.1.0-9", "6.1.0-56", "6.12.1"):
            (tmp_path / f"vmlinuz-{version}").touch()
            (tmp_path / "modules" / version).mkdir(parents=True)
        for version in ("6.1.0-9", "6.1.0-56"):
            (tmp_path / "modules" / version / "modules.dep").touch()
        assert vm.find_kernel(tmp_path, tmp_path / "modules").image.name == "vmlinuz-6.1.0-56"

    def test_command(self) -> None:
        assert run_vm().returncode == 2


class TestWithAMachine:
    pytestmark = boots

    def test_exit_code_output_and_files(self) -> None:
        mark = vm.TREE / "build" / f"leak-{os.getpid()}"
        touch = f"touch {mark} /etc/leak /tmp/leak /usr/leak && echo written"
        script = f'echo "$PWD"; echo "it\'s" >&2; {touch}; exit 42'
        result = run_vm("--timeout", "300", "--", "sh", "-c", script)
        assert (result.returncode, result.stdout, result.stderr) == (42, f"{vm.TREE}\nwritten\n", "it's\n")
        assert not any(path.exists() for path in (mark, Path("/etc/leak"), Path("/usr/leak")))

    def test_what_the_command_leaves_running_keeps_nobody(self) -> None:
        result = run_vm("--timeout", "300", "--", "sh", "-c", "sleep 1000 & kill -TERM $$")
        assert (result.returncode, result.stdout) == (128 + signal.SIGTERM, "")

    def test_time_limit(self) -> None:
        begin = time.monotonic()
        result = run_vm("--timeout", "3", "--", "sleep", "1000")
        assert result.returncode == vm.EXIT_TIME
        assert "vm.py: the machine did not boot in 3 s" in result.stderr
        assert time.monotonic() - begin < 30
