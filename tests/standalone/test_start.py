"""A start of the saved image: nothing of the build is seen, all of the process is, under whatever circumstances."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.runtime import MODULES, wait_for

Command = Sequence[str | bytes | Path]


def outcome(command: Command, **options: object) -> tuple[int, bytes, bytes]:
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 60} | options
    done = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr


def same_in_both(binary: Path, *arguments: str | bytes | Path, **options: object) -> tuple[int, bytes, bytes]:
    """What the binary does, after asserting that the modules do it, too."""
    ours = outcome([binary, *arguments], **options)
    assert ours == outcome([*MODULES, *arguments], **options)
    return ours


def test_version_tells_the_form_in_a_line_of_its_own(binary: Path) -> None:
    ours, modules = outcome([binary, "--version"])[1].decode(), outcome([*MODULES, "--version"])[1].decode()
    assert ours.splitlines()[0] == modules.splitlines()[0]
    assert ours.splitlines()[2:] == [*modules.splitlines()[2:], "standalone: one file (saved)"]


def test_it_is_static_stripped_and_small(binary: Path) -> None:
    headers = subprocess.run(["readelf", "-lW", binary], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers
    assert binary.stat().st_size <= 20_000_000
    sections = subprocess.run(["readelf", "-SW", binary], capture_output=True, text=True, check=True).stdout
    assert "no sections" in sections


@pytest.mark.parametrize("name", ["config.json", "caf\u00e9", b"\xff\xfe", "a b\nc"])
def test_arguments_are_bytes(binary: Path, bundle: Path, name: str | bytes) -> None:
    """PEP 383: what is no UTF-8 gets through, too."""
    path = os.path.join(os.fsencode(bundle.parent), os.fsencode(name))
    os.rename(bundle, path)
    code, out, _ = same_in_both(binary, "plan", "--bundle", path)
    assert code == 0
    assert out
    log = os.path.join(os.fsencode(bundle.parent), b"log-\xfd")
    code, _, err = same_in_both(binary, "--log", log, "state", "none")
    assert code == 1
    assert err
    assert os.path.exists(log)


@pytest.mark.root
@pytest.mark.parametrize(
    ("directory", "shown"), [(b"/run/caf\xc3\xa9", "/run/caf\u00e9"), (b"/run/\xff", "/run/\\udcff")]
)
def test_the_environment_is_that_of_the_start(binary: Path, directory: bytes, shown: str) -> None:
    """$XDG_RUNTIME_DIR rules the state directory of users other than root; an error names it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    environment = {b"XDG_RUNTIME_DIR": directory, b"NAME": b"", b"\xfe": b"x"}
    with tempfile.TemporaryDirectory() as place:  # pytest's own can't be reached by others
        os.chmod(place, 0o755)
        program = shutil.copy(binary, place)
        code, _, err = outcome([program, "state", "none"], env=environment, user=65534, group=65534, extra_groups=[])
    assert code == 1
    assert f"there is no state directory {shown}/ocirt" in err.decode()


@pytest.mark.parametrize(
    "env", [{}, {"LC_ALL": "C"}, {"LC_ALL": "x.ISO-8859-1"}, {"PYTHONHOME": "/x", "TZ": "Asia/Tokyo"}]
)
def test_what_the_environment_may_not_change(binary: Path, bundle: Path, env: dict[str, str]) -> None:
    code, out, _ = outcome([binary, "plan", "--bundle", bundle], env=env)
    assert code == 0
    assert out == outcome([binary, "plan", "--bundle", bundle])[1]


def test_a_large_environment_and_many_arguments(binary: Path) -> None:
    environment = {f"VARIABLE_{i}": "x" * 1000 for i in range(100)}
    assert outcome([binary, "--version"], env=environment)[0] == 0
    code, _, err = outcome([binary, "state", *["x"] * 10000], env=environment)
    assert code == 1
    assert b"Traceback" not in err


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_descriptors(binary: Path, bundle: Path, closed: tuple[int, ...]) -> None:
    redirections = " ".join(f"{fd}>&-" for fd in closed)
    for arguments in ("--version", f"plan --bundle {bundle}", "state none", f"validate --bundle {bundle}"):
        command = f'"$@" {arguments} {redirections}'
        ours = outcome(["sh", "-c", command, "sh", binary])
        modules = outcome(["sh", "-c", command, "sh", *MODULES])
        assert ours[0] == modules[0]
        if "--version" not in arguments:
            assert ours == modules


def test_nobody_reads_the_output(binary: Path, bundle: Path) -> None:
    """SIGPIPE is ignored, as CPython's start has it, and the exit code is that of a shell's."""
    for command in ([binary], MODULES):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            assert outcome([*command, "plan", "--bundle", bundle], capture_output=False, stdout=writer)[0] == 141
        finally:
            os.close(writer)


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN])
def test_an_interrupt(binary: Path, bundle: Path, disposition: signal.Handlers) -> None:
    """An interrupt ends the program with 130, unless its caller ignores interrupts. It comes while a write waits."""
    codes = []
    before = signal.signal(signal.SIGINT, disposition)
    try:
        for command in ((str(binary),), MODULES):
            reader, writer = os.pipe()
            filled = os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
            process = subprocess.Popen(
                [*command, "plan", "--bundle", str(bundle)], stdout=writer, start_new_session=True
            )
            os.close(writer)
            wait_for(lambda pid=process.pid: Path(f"/proc/{pid}/syscall").read_text().startswith("1 0x1 "))
            os.kill(process.pid, signal.SIGINT)
            if disposition is signal.SIG_IGN:
                with open(reader, "rb") as file:
                    assert len(file.read()) > filled
                codes.append(process.wait(timeout=20))
            else:
                codes.append(process.wait(timeout=20))
                os.close(reader)
    finally:
        signal.signal(signal.SIGINT, before)
    assert codes == [0 if disposition is signal.SIG_IGN else 130] * 2


def limited(which: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (value, resource.getrlimit(which)[1]))


@pytest.mark.parametrize(
    ("which", "value"),
    [(resource.RLIMIT_STACK, 256 << 10), (resource.RLIMIT_AS, 60 << 20), (resource.RLIMIT_NOFILE, 8)],
)
def test_low_limits(binary: Path, bundle: Path, which: int, value: int) -> None:
    assert outcome([binary, "plan", "--bundle", bundle], preexec_fn=limited(which, value))[0] == 0


def test_too_little_memory_is_an_error_and_no_crash(binary: Path, bundle: Path) -> None:
    (bundle / "config.json").write_text('{"x": [' + "[]," * 500_000 + "[]]}")
    code, _, err = outcome([binary, "plan", "--bundle", bundle], preexec_fn=limited(resource.RLIMIT_AS, 40 << 20))
    assert code == 1
    assert b"cannot allocate memory" in err or b"malloc" in err


@pytest.mark.parametrize(
    "prefix",
    [("setarch", "-R"), ("strace", "-f", "-o", "/dev/null"), ("env", "-i"), ("setarch", "-R", "env", "-i")],
    ids=" ".join,
)
def test_unusual_starts(binary: Path, bundle: Path, prefix: tuple[str, ...]) -> None:
    if not shutil.which(prefix[0]):
        pytest.skip(f"there is no {prefix[0]}")
    code, out, _ = outcome([*prefix, binary, "plan", "--bundle", bundle])
    assert code == 0
    assert out == outcome([binary, "plan", "--bundle", bundle])[1]


@pytest.mark.root
def test_a_root_without_anything_else(binary: Path, bundle: Path, tmp_path: Path) -> None:
    """In a container or an initramfs: no /proc, no /dev, no library, and nothing that can be written to."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = tmp_path / "root"
    shutil.copytree(bundle, place / "bundle")
    shutil.copy(binary, place / "ocirt")
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec chroot "$@"'
    command: list[str | Path] = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
        place,
        place,
    ]
    code, out, err = outcome([*command, "/ocirt", "--version"])
    assert code == 0, err
    assert b"standalone" in out
    code, _, err = outcome([*command, "/ocirt", "validate", "--bundle", "/bundle"])
    assert b"Traceback" not in err
    assert b"internal error" not in err, err


def test_a_failure_inside_shows_its_place(binary: Path, tmp_path: Path) -> None:
    """The traceback of --debug has the lines of ocirt's modules, and nothing of a file that lies around."""
    (tmp_path / "proc").mkdir()
    code, _, err = outcome([binary, "--debug", "state", "none"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert re.search(rb'File "/proc/self/exe/ocirt/store.py", line [1-9]', err), err


@pytest.mark.slow
def test_many_starts(binary: Path) -> None:
    for i in range(int(os.environ.get("OCIRT_STARTS", "500"))):
        pid = os.posix_spawn(
            binary,
            [os.fspath(binary), "--version"],
            {"N": "x" * (i * 7 % 4096)},
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        )
        assert os.waitpid(pid, 0)[1] == 0, f"start {i}"
