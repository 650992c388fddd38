"""doctor with a running systemd: it finds the one that containers would be left to."""

from __future__ import annotations

import json

import pytest

from tests.support.runtime import Runtime
from tests.support.systemd import Systemd

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


def test_finds_it(runtime: Runtime, systemd: Systemd) -> None:
    result = runtime.run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.out)["checks"]}
    assert checks["systemd.bus"]["verdict"] == "ok", checks["systemd.bus"]
    assert checks["cgroup.mount"]["blocking"] is False


def test_a_bus_that_does_not_answer(runtime: Runtime, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """No container can run with the systemd manager then, which these commands ask for."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"):
        monkeypatch.setenv(name, "unix:path=/nosuch")
    result = runtime.run("doctor", "--json", check=False)
    checks = {check["name"]: check for check in json.loads(result.out)["checks"]}
    assert result.rc == 1
    assert checks["systemd.bus"]["blocking"]
    assert "systemd.controllers" not in checks
