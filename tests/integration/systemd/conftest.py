"""The systemd manager's tests run with each systemd that is there: the machine's own, and a user's."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import Runtime
from tests.support.systemd import Systemd, why_no_user_systemd


@pytest.fixture(scope="session", params=[pytest.param("system", marks=pytest.mark.systemd), "user"])
def systemd(request: pytest.FixtureRequest, token: str, scratch: Path) -> Iterator[Systemd]:
    if request.param == "system":
        yield Systemd()
        return
    if reason := why_no_user_systemd():
        pytest.skip(reason)
    directory = scratch / "systemd"
    found = Systemd.start_user(directory, f"{token}-systemd{os.environ.get('PYTEST_XDIST_WORKER', '')}")
    yield found
    found.end()
    shutil.rmtree(directory)


@pytest.fixture
def runtime(runtime: Runtime, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The runtime, using that systemd."""
    for name, value in systemd.environment.items():
        monkeypatch.setenv(name, value)
    return dataclasses.replace(runtime, command=(*runtime.command, *systemd.flags))
