"""Who reads the log, and finds what there."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import HostError
from ocirt.log import Logger, _for_persons

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def logger(path: Path | str = "", log_format: str = "text", *, debug: bool = False) -> Logger:
    log = Logger()
    log.configure(str(path), log_format, debug=debug)
    return log


def test_without_a_file_an_error_is_one_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    logger().error("container does not exist: x", code="state.missing")
    assert capfd.readouterr() == ("", "ocirt: container does not exist: x\n")


def test_own_name_is_not_doubled(capfd: pytest.CaptureFixture[str]) -> None:
    logger().error("ocirt create failed: no", code="spec.value")
    assert capfd.readouterr().err == "ocirt create failed: no\n"


def test_json_error_is_a_line_of_its_own_for_podman(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.json"
    log = logger(path, "json")
    log.warning("first")
    log.warning("second")
    log.error('exec: "sh": executable file not found in $PATH', code="plan")
    text = path.read_text()
    value = json.loads(text)
    assert text.endswith("}\n")
    assert list(value) == ["code", "level", "msg", "time", "warnings"]
    assert value["level"] == "error"
    assert value["msg"] == 'exec: "sh": executable file not found in $PATH'
    assert value["code"] == "plan"
    assert value["warnings"] == ["first", "second"]
    assert re.fullmatch(TIME, value["time"])
    assert capfd.readouterr().err == 'ocirt: exec: "sh": executable file not found in $PATH\n'


def test_json_warnings_of_a_success_are_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.json"
    log = logger(path, "json")
    log.warning("first")
    assert path.read_text() == ""
    log.flush()
    log.flush()
    assert [json.loads(line)["msg"] for line in path.read_text().splitlines()] == ["first"]
    assert capfd.readouterr().err == ""


def test_text_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    log = logger(path)
    log.warning("careful")
    log.error('it is "broken"', code="host")
    first, second = path.read_text().splitlines()
    assert re.fullmatch(rf'time="{TIME}" level=warning msg="careful"', first)
    assert re.fullmatch(rf'time="{TIME}" level=error msg="it is \\"broken\\"" code=host', second)
    assert capfd.readouterr().err == 'ocirt: it is "broken"\n'


def test_json_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    logger(log_format="json").error("no", code="host")
    assert json.loads(capfd.readouterr().err)["msg"] == "no"


def test_debug_messages_only_when_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    logger().debug("quiet")
    logger(debug=True).debug("loud")
    assert re.fullmatch(rf'time="{TIME}" level=debug msg="loud"\n', capfd.readouterr().err)


def test_file_is_appended_to_and_may_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = os.umask(0o022)
    try:
        for _ in range(2):
            logger(path).warning("x")
    finally:
        os.umask(before)
    assert len(path.read_text().splitlines()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_symlink_is_refused(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "log"
    link.symlink_to(victim)
    with pytest.raises(HostError, match="too many levels of symbolic links"):
        logger(link)
    assert not victim.exists()


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no such file or directory"):
        logger(tmp_path / "no" / "log")


@pytest.mark.parametrize("path", ["/dev/stderr", "/proc/self/fd/2"])
def test_stderr_as_the_file_gets_nothing_twice(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    logger(path, "json").error("once", code="host")
    assert capfd.readouterr().err.count("once") == 1


def test_file_that_stderr_goes_to_gets_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    saved = os.dup(2)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, 2)
    try:
        logger(path).error("once", code="host")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(fd)
    assert path.read_text() == "ocirt: once\n"


def test_full_disk_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    logger("/dev/full").error("still told", code="host")
    assert capfd.readouterr().err == "ocirt: still told\n"


@given(st.text())
def test_every_message_is_one_line(message: str) -> None:
    line = _for_persons("error", message)
    assert line.endswith("\n")
    assert all(character.isprintable() for character in line[:-1])
