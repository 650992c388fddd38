"""linux.devices and the devices that every container has."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from tests.support.bundle import mount_entry
from tests.support.runtime import Container

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

DEFAULTS = {"null": [1, 3], "zero": [1, 5], "full": [1, 7], "random": [1, 8], "urandom": [1, 9], "tty": [5, 0]}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


@pytest.mark.common
def test_default_devices(container: Container) -> None:
    facts = container.facts(*(f"/dev/{name}" for name in DEFAULTS))
    for name, numbers in DEFAULTS.items():
        path = facts.path(f"/dev/{name}")
        assert (path["type"], path["rdev"], path["mode"]) == ("c", numbers, 0o666), name
        assert name == "tty" or path["read_errno"] == 0


@pytest.mark.common
def test_links(container: Container) -> None:
    facts = container.facts(*(f"/dev/{name}" for name in LINKS))
    assert {name: facts.path(f"/dev/{name}")["target"] for name in LINKS} == LINKS


@pytest.mark.common
def test_no_console_without_a_terminal(container: Container) -> None:
    assert container.facts("/dev/console").path("/dev/console")["errno"] == 2


@pytest.mark.common
def test_no_other_device(container: Container) -> None:
    container.shell("ls /dev")
    extra = {"ptmx", "pts", "shm", "mqueue", "core"}
    assert set(container.run().out.split()) - extra == set(DEFAULTS) | set(LINKS)


@pytest.mark.common
@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ({"type": "c", "major": 10, "minor": 229, "path": "/dev/my-fuse", "fileMode": 0o640}, ("c", [10, 229], 0o640)),
        ({"type": "b", "major": 8, "minor": 0, "path": "/dev/sub/disk", "fileMode": 0o600}, ("b", [8, 0], 0o600)),
        ({"type": "u", "major": 10, "minor": 200, "path": "/dev/u", "fileMode": 0o600}, ("c", [10, 200], 0o600)),
        ({"type": "p", "path": "/dev/fifo", "fileMode": 0o622}, ("p", [0, 0], 0o622)),
    ],
    ids=["char", "block", "unbuffered", "fifo"],
)
def test_device(container: Container, entry: dict[str, Any], seen: tuple[str, list[int], int]) -> None:
    container.linux["devices"] = [{**entry, "uid": 12, "gid": 34}]
    path = container.facts(entry["path"]).path(entry["path"])
    assert (path["type"], path["rdev"], path["mode"]) == seen
    assert (path["uid"], path["gid"]) == (12, 34)


@pytest.mark.common
def test_device_mode_is_not_cut_by_the_umask(container: Container) -> None:
    container.linux["devices"] = [{"type": "c", "major": 10, "minor": 229, "path": "/dev/x", "fileMode": 0o666}]
    before = os.umask(0o077)
    try:
        facts = container.facts("/dev/x", "/dev/null")
    finally:
        os.umask(before)
    assert facts.path("/dev/x")["mode"] == 0o666
    assert facts.path("/dev/null")["mode"] == 0o666


@pytest.mark.common
def test_device_may_replace_a_default_one(container: Container) -> None:
    container.linux["devices"] = [
        {"type": "c", "major": 1, "minor": 5, "path": "/dev/zero", "fileMode": 0o600, "uid": 1, "gid": 2}
    ]
    path = container.facts("/dev/zero").path("/dev/zero")
    assert (path["mode"], path["uid"], path["gid"]) == (0o600, 1, 2)


@pytest.mark.common
def test_device_outside_of_dev(container: Container) -> None:
    container.linux["devices"] = [{"type": "c", "major": 1, "minor": 5, "path": "/opt/zero", "fileMode": 0o666}]
    assert container.facts("/opt/zero").path("/opt/zero")["rdev"] == [1, 5]


def test_existing_file_of_another_kind_names_its_pointer(container: Container) -> None:
    """config-linux.md#devices: a file of another kind at the path is an error."""
    (container.rootfs / "opt").mkdir()
    (container.rootfs / "opt/zero").write_text("text")
    container.linux["devices"] = [{"type": "c", "major": 1, "minor": 5, "path": "/opt/zero"}]
    assert "/linux/devices/0" in container.refused()
    assert (container.rootfs / "opt/zero").read_text() == "text"


def test_existing_device_that_matches_is_kept(container: Container) -> None:
    (container.rootfs / "opt").mkdir()
    os.mknod(container.rootfs / "opt/zero", 0o020600, os.makedev(1, 5))
    container.linux["devices"] = [{"type": "c", "major": 1, "minor": 5, "path": "/opt/zero"}]
    assert container.facts("/opt/zero").path("/opt/zero")["rdev"] == [1, 5]


@pytest.mark.common
def test_default_devices_may_be_used_and_others_may_not(container: Container) -> None:
    """The filter of the cgroup: a device that is made in the container cannot be opened."""
    names = ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]
    container.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    container.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    container.shell("mknod /dev/mem c 1 1 && cat /dev/mem >/dev/null; echo 5 > /dev/null; head -c 1 /dev/zero | wc -c")
    result = container.run(check=False)
    assert "not permitted" in result.err
    assert result.out == "1\n"


@pytest.mark.common
def test_device_that_is_allowed(container: Container) -> None:
    """No driver has the major number 240: what the filter lets through ends with ENXIO, what it doesn't with EPERM."""
    container.linux["devices"] = [{"type": "c", "major": 240, "minor": 1, "path": "/dev/x", "fileMode": 0o666}]
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 240, "minor": 1, "access": "r"},
    ]
    container.linux["resources"] = {"devices": rules}
    path = container.facts("/dev/x").path("/dev/x")
    assert (path["read_errno"], path["write_errno"]) == (errno.ENXIO, errno.EPERM)


@pytest.mark.common
def test_read_only_dev_has_its_nodes(container: Container) -> None:
    container.config["mounts"][1] = mount_entry("/dev", "tmpfs", None, "nosuid", "ro", "mode=755")
    facts = container.facts("/dev/null", "/dev/ptmx")
    assert "ro" in facts.mount("/dev").options
    assert facts.path("/dev/null")["rdev"] == [1, 3]
    assert facts.path("/dev/ptmx")["type"] == "l"


@pytest.mark.common
def test_dev_of_the_host_is_left_as_it_is(container: Container) -> None:
    """A bound /dev gets no nodes and no links."""
    container.config["mounts"] = [entry for entry in container.mounts if not entry["destination"].startswith("/dev")]
    folder = container.bundle / "dev"
    folder.mkdir()
    os.mknod(folder / "null", 0o020666, os.makedev(1, 3))
    container.mounts.append({"destination": "/dev", "type": "bind", "source": str(folder), "options": ["rbind"]})
    container.facts()
    assert list(folder.iterdir()) == [folder / "null"]
