"""Freezing against a folder with a cgroup's files: what is left behind when it doesn't come to its end."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroup.directory import Cgroup
from ocirt.cgroup.freeze import freeze, is_frozen_from_above, is_to_freeze, thaw
from ocirt.errors import HostError, StateError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cgroup below another one, which is not frozen."""
    folder = tmp_path / "parent" / "own"
    folder.mkdir(parents=True)
    (folder / "cgroup.freeze").write_text("0")
    for path in (folder, folder.parent):
        (path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    return folder


@pytest.fixture
def cgroup(folder: Path) -> Iterator[Cgroup]:
    with Cgroup(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), str(folder)) as cgroup:
        yield cgroup


def answer(monkeypatch: pytest.MonkeyPatch, result: bool | BaseException) -> list[tuple[str, int]]:
    """Have the kernel come to an end, or not; what was waited for."""
    waited = []

    def wait_event(_: Cgroup, name: str, value: int, deadline: float) -> bool:
        waited.append((name, value))
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(Cgroup, "wait_event", wait_event)
    return waited


def test_freeze(cgroup: Cgroup, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = answer(monkeypatch, True)
    freeze(cgroup)
    assert waited == [("frozen", 1)]
    assert (folder / "cgroup.freeze").read_text() == "1"
    assert is_to_freeze(cgroup)


@pytest.mark.parametrize("result", [False, KeyboardInterrupt(), HostError("read", "x", errno.EIO)])
def test_freeze_that_fails_is_undone(
    result: bool | BaseException, cgroup: Cgroup, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, result)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        freeze(cgroup)
    assert (folder / "cgroup.freeze").read_text() == "0"
    if result is False:
        assert "cgroup.events: device or resource busy (a process cannot be stopped" in str(caught.value)
    else:
        assert caught.value is result


def test_thaw(cgroup: Cgroup, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cgroup.freeze").write_text("1")
    waited = answer(monkeypatch, True)
    thaw(cgroup)
    assert waited == [("frozen", 0)]
    assert (folder / "cgroup.freeze").read_text() == "0"


def test_thaw_below_a_frozen_cgroup_changes_nothing(cgroup: Cgroup, folder: Path) -> None:
    (folder / "cgroup.freeze").write_text("1")
    (folder.parent / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    with pytest.raises(StateError, match=f"a cgroup above {folder} is frozen") as caught:
        thaw(cgroup)
    assert caught.value.code == "cgroup.frozen"
    assert (folder / "cgroup.freeze").read_text() == "1"


def test_root_is_never_frozen(cgroup: Cgroup, folder: Path) -> None:
    (folder.parent / "cgroup.events").unlink()
    assert not is_frozen_from_above(cgroup)
