"""The program as a whole: exit codes, where errors go, --version and --help, and a caller that closed its streams."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocirt import cli
from ocirt.cli import Context, commit, execute, version_text
from ocirt.cli.context import _cgroup_manager, _default_root, _rootless, make_context
from ocirt.cli.flags import Args, Command
from ocirt.cli.table import COMMANDS, GLOBAL_FLAGS
from ocirt.errors import PlanError, SpecError, UsageError
from ocirt.log import Logger
from ocirt.ops import SetHostname
from ocirt.output import OutputClosedError


def run_as(monkeypatch: pytest.MonkeyPatch, error: BaseException | int, *words: str) -> int:
    """The exit code of a command line whose command does nothing but that."""

    def run(*_: object) -> int:
        if isinstance(error, int):
            return error
        raise error

    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(run=run))
    return execute(words)


def test_without_a_command_it_is_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute([]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("Usage: ocirt ")
    assert err == ""
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute([name, "--help"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: ocirt {name}")
    assert max(len(line) for line in out.splitlines()) <= 120
    for flag in COMMANDS[name].flags:
        assert (re.search(rf"--{flag.name}\b", out) is None) == flag.hidden
    assert ("doesn't support" in out) == (not COMMANDS[name].supported)


def test_podman_s_probes(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["checkpoint", "--help"]) == 0
    capfd.readouterr()
    assert execute(["restore", "--lsm-mount-context"]) == 1
    assert "flag needs an argument" in capfd.readouterr().err


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.supported])
def test_unsupported_commands_say_so(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute([name, "c1"]) == 1
    assert capfd.readouterr() == ("", f"ocirt: {name} is not supported by this version of ocirt\n")


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == 0
    out = capfd.readouterr().out
    assert out == version_text()
    assert re.fullmatch(r"ocirt version \d+\.\d+\.\d+\S*\ncommit: \S+\nspec: 1\.3\.\d+\n", out)
    assert sum("version" in line for line in out.splitlines()) == 1, "Docker would take the last one"


def test_commit_is_the_build_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ocirt._commit", SimpleNamespace(COMMIT="abc"))
    assert commit() == "abc"
    monkeypatch.setitem(sys.modules, "ocirt._commit", None)
    assert commit() == "unknown"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nosuch"], 3, 'unknown command "nosuch"'),
        (["help", "nosuch"], 3, 'unknown command "nosuch"'),
        (["--nosuch"], 1, "flag provided but not defined: -nosuch"),
        (["create"], 1, '"create" requires exactly 1 argument(s)'),
        (["exec"], 1, '"exec" requires a minimum of 1 argument(s)'),
        (["--root", "/", "list"], 1, "--root argument should not be set to /"),
        (["--root", "", "list"], 1, "--root argument should not be set to /"),
        (["--root", "../../../../../../..", "list"], 1, "--root argument should not be set to /"),
        (["--log", "/no/such/file", "list"], 1, "open the log file /no/such/file: no such file or directory"),
        (["--systemd-cgroup", "--cgroup-manager", "cgroupfs", "list"], 1, "exclude each other"),
        (["--rootless", "perhaps", "list"], 1, 'invalid value "perhaps" for flag --rootless'),
        (["--root", "/no/such/dir", "list"], 1, "open /no/such/dir: no such file or directory"),
        (["--root", "/no/such/dir", "state", "x"], 1, "container does not exist"),
        (["--root", "/no/such/dir", "delete", "x"], 1, "container does not exist"),
    ],
)
def test_errors(
    words: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    assert execute(words) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("ocirt: ")
    assert message in err
    assert err.count("\n") == 1


def test_usage_error_reaches_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.json"
    assert execute(["--log", str(log), "--log-format", "json", "create"]) == 1
    value = json.loads(log.read_text())
    assert value["code"] == "usage"
    assert value["msg"] in capfd.readouterr().err


@pytest.mark.parametrize(("command", "prefix"), [("create", "ocirt create failed: "), ("start", "ocirt: ")])
def test_error_of_a_command(
    command: str, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    error = SpecError("/process/cwd", "must be absolute")
    assert run_as(monkeypatch, error, command, "c1", "--log", str(log), "--log-format=json") == 1
    assert capfd.readouterr() == ("", f"{prefix}/process/cwd: must be absolute\n")
    value = json.loads(log.read_text())
    assert value["msg"] == f"{prefix}/process/cwd: must be absolute".removeprefix("ocirt: ")
    assert value["code"] == "spec.value"


def test_error_of_init_has_runcs_words(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    error = PlanError(SetHostname("/hostname", "h"), errno.EPERM, "sethostname")
    words = "unable to start container process: error during container init: "
    assert run_as(monkeypatch, error, "create", "c1") == 1
    assert capfd.readouterr().err.startswith(f"ocirt create failed: {words}/hostname: ")
    assert run_as(monkeypatch, error, "exec", "c1", "sh") == 255
    assert capfd.readouterr().err.startswith(f"ocirt: exec failed: {words}/hostname: ")


def test_failed_exec_is_255(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_as(monkeypatch, UsageError("user must be a number"), "exec", "c1", "sh") == 255
    assert capfd.readouterr().err == "ocirt: exec failed: user must be a number\n"


@pytest.mark.parametrize("code", [0, 7, 137, 255])
def test_exit_code_of_the_command(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_as(monkeypatch, code, "run", "c1") == code


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OutputClosedError(), 141)])
def test_silent_ends(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_as(monkeypatch, error, "run", "c1") == code
    assert capfd.readouterr() == ("", "")


def test_internal_error_is_one_line_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_as(monkeypatch, ZeroDivisionError("by\nzero"), "start", "c1") == 1
    assert capfd.readouterr().err == "ocirt: internal error: ZeroDivisionError: by\\nzero (--debug shows where)\n"


def test_internal_error_with_a_traceback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_as(monkeypatch, ZeroDivisionError("zero"), "--debug", "start", "c1") == 1
    lines = capfd.readouterr().err.splitlines()
    assert "Traceback (most recent call last):" in lines
    assert lines[-1] == "ocirt: internal error: ZeroDivisionError: zero"


def test_debug_tells_what_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    assert run_as(monkeypatch, 0, "--debug", "--root", "/r", "--log", str(log), "start", "c1") == 0
    assert re.search(r'level=debug msg="ocirt \d\S* start, root /r, cgroup manager cgroupfs"', log.read_text())
    assert run_as(monkeypatch, ZeroDivisionError("zero"), "--debug", "--log", str(log), "start", "c1") == 1
    assert 'level=debug msg="Traceback (most recent call last):' in log.read_text()


def test_forgotten_os_error_has_the_kernel_s_words(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_as(monkeypatch, PermissionError(13, "Permission denied", "/x"), "start", "c1") == 1
    assert "/x: permission denied" in capfd.readouterr().err


def test_warnings_are_written_when_the_command_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def run(_: Args, context: Context) -> int:
        context.log.warning("careful")
        return 0

    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(run=run))
    assert execute(["--log", str(log), "--log-format", "json", "start", "c1"]) == 0
    assert json.loads(log.read_text())["msg"] == "careful"


# ---- global options


def options(*words: str) -> Args:
    args = Args(GLOBAL_FLAGS)
    for word in words:
        name, _, value = word.partition("=")
        args.set(name, value)
    return args


@pytest.mark.parametrize(
    ("environ", "euid", "expected"),
    [
        ({}, 0, ("/run/ocirt", False)),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, ("/run/ocirt", False)),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, 7, ("/run/user/7/ocirt", True)),
        ({"XDG_RUNTIME_DIR": "/run/user/7/"}, 7, ("/run/user/7/ocirt", True)),
        ({"XDG_RUNTIME_DIR": ""}, 7, ("/run/ocirt", False)),
        ({"XDG_RUNTIME_DIR": "relative"}, 7, ("/run/ocirt", False)),
        ({}, 7, ("/run/ocirt", False)),
    ],
)
def test_default_root(environ: dict[str, str], euid: int, expected: tuple[str, bool]) -> None:
    assert _default_root(environ, euid) == expected


def test_a_given_root_is_the_caller_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given, expected in (("root=r", f"{tmp_path}/r"), ("root=/x/../y/", "/y")):
        context = make_context(options(given), Logger())
        assert (context.root, context.root_given, context.root_sticky) == (expected, True, False)
        assert context.seccomp_cache.endswith("/ocirt.seccomp")


def test_cgroup_managers() -> None:
    assert _cgroup_manager(options()) == "cgroupfs"
    assert _cgroup_manager(options("systemd-cgroup=true")) == "systemd"
    assert _cgroup_manager(options("systemd-cgroup=true", "cgroup-manager=systemd")) == "systemd"
    assert _cgroup_manager(options("cgroup-manager=disabled")) == "disabled"
    with pytest.raises(UsageError):
        options("cgroup-manager=other")


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("auto", None), ("AUTO", None), ("true", True), ("False", False)]
)
def test_rootless(text: str, value: bool | None) -> None:
    assert _rootless(text) is value


# ---- the caller's streams and environment


def test_closed_streams_don_t_become_files(tmp_path: Path) -> None:
    """Without a guard the log would be descriptor 0, 1 or 2, and get what is printed."""
    log = tmp_path / "log"
    root = tmp_path / "root"
    root.mkdir()
    script = f"exec '{sys.executable}' -m ocirt --root '{root}' --log '{log}' list 0<&- 1>&- 2>&-"
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 0
    assert log.read_text() == ""
    script = script.replace("list", "start x")
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 1
    assert log.read_text().count("\n") == 1


def test_empty_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocirt", "--root", tmp_path, "list"], env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_words_that_are_not_utf_8(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"ocirt", b"--root", bytes(tmp_path), b"state", b"\xff"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"invalid container ID format" in done.stderr
    assert done.stderr.isascii()


def test_every_command_has_a_module_s_name() -> None:
    for command in COMMANDS.values():
        assert isinstance(command, Command)
        assert command.module.isidentifier()
        assert command.supported == (command.module != "unsupported")


def test_umask_and_directory_are_the_caller_s(tmp_path: Path) -> None:
    before = (os.getcwd(), os.umask(0o027))
    execute(["--root", str(tmp_path), "list"])
    assert (os.getcwd(), os.umask(before[1])) == (before[0], 0o027)
