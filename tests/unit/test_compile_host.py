"""The probing of the host: on this machine, whatever it is, and what it refuses."""

from __future__ import annotations

import os
import resource
import stat
import types
from pathlib import Path
from typing import Any

import pytest

from ocirt import constants as k
from ocirt.errors import HostError
from ocirt.host import KERNEL_FLOOR, UnsupportedHostError, probe_host, probe_kernel
from ocirt.spec import parse_config
from tests.unit.compile_samples import use_user_namespace
from tests.unit.spec_samples import small_config, with_value


def release(text: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(release=text)


@pytest.mark.parametrize(
    ("text", "version"),
    [("5.14.0-362.el9", (5, 14)), ("6.1.0-13-amd64", (6, 1)), ("10.0", (10, 0)), ("5.15.153.1-microsoft", (5, 15))],
)
def test_kernels_that_will_do(monkeypatch: pytest.MonkeyPatch, text: str, version: tuple[int, int]) -> None:
    monkeypatch.setattr(os, "uname", lambda: release(text))
    assert probe_kernel() == version


@pytest.mark.parametrize("text", ["5.13.19", "4.18.0-513.el8", "3.10", "unknown", ""])
def test_kernels_that_will_not(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: release(text))
    with pytest.raises(UnsupportedHostError, match=r"ocirt needs Linux 5\.14 or newer, this is") as caught:
        probe_host()
    assert caught.value.code == "host.unsupported"


def test_this_process() -> None:
    host = probe_host()
    assert (host.euid, host.egid) == (os.geteuid(), os.getegid())
    assert host.kernel >= KERNEL_FLOOR
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert host.effective == int(status["CapEff"], 16)
    assert host.bounding == int(status["CapBnd"], 16)
    assert "user" in host.owned


def test_only_what_the_config_uses_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = os.open

    def watched(path: Any, *arguments: Any, **named: Any) -> int:
        opened.append(str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr("os.open", watched)
    host = probe_host(parse_config(small_config()))
    assert not [path for path in opened if "apparmor" in path or "selinux" in path]
    if not host.in_user_namespace:
        files = {path for path in opened if not path.startswith("/proc/self/ns/")}
        assert files <= {"/proc/self/status", "/proc/self/uid_map", "/proc/self/cgroup", "/proc/self/mountinfo"}
    probe_host(parse_config(with_value("/process/apparmorProfile", "p")))
    assert [path for path in opened if "apparmor" in path]


def test_symbolic_links_among_sources(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    (tmp_path / "file").touch()
    entries = [
        {"destination": f"/{name}", "source": name, "options": ["bind", *words]}
        for name, words in (("link", ["copy-symlink"]), ("file", ["copy-symlink"]), ("link", []))
    ]
    host = probe_host(parse_config(small_config() | {"mounts": entries}), bundle=str(tmp_path))
    assert host.symlinks == {f"{tmp_path}/link"}


def test_limits_matter_with_a_user_namespace() -> None:
    config = with_value("/process/rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}])
    assert probe_host(parse_config(config)).rlimits == {}
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    found = probe_host(parse_config(use_user_namespace(config))).rlimits
    assert found == {"RLIMIT_CORE": (soft % 2**64, hard % 2**64)}


def test_namespaces_that_are_shared_or_foreign() -> None:
    config = with_value("/linux/namespaces", [{"type": "network", "path": "/proc/self/ns/net"}])
    assert probe_host(parse_config(config)).shared == frozenset()
    config = with_value("/linux/sysctl", {"net.ipv4.ip_forward": "1"}, config)
    assert probe_host(parse_config(config)).shared == {"network"}
    assert probe_host(parse_config(config)).foreign == frozenset()
    # Our own network namespace cannot belong to a user namespace that is still to be made.
    assert probe_host(parse_config(use_user_namespace(config))).foreign == {"network"}


def test_devices_of_the_config() -> None:
    devices = [
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/no-such-device", "type": "c", "major": 1, "minor": 3},
    ]
    host = probe_host(parse_config(use_user_namespace(with_value("/linux/devices", devices))))
    assert host.devices == {"/dev/null": ("c", 1, 3)}
    info = os.stat("/dev/null")
    assert host.device_access == {"/dev/null": (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)}


def test_a_namespace_that_is_not_there_is_an_error_with_its_pointer() -> None:
    config = with_value("/linux/namespaces", [{"type": "network", "path": "/nowhere"}])
    with pytest.raises(HostError) as caught:
        probe_host(parse_config(use_user_namespace(config)))
    assert caught.value.pointer == "/linux/namespaces/0/path"


def test_capabilities_have_names() -> None:
    host = probe_host()
    assert [host.has(name) for name in k.CAPABILITIES] == [
        bool(host.effective >> n & 1) for n in range(len(k.CAPABILITIES))
    ]
