"""Where cgroup2 is on a host, and what a user without privileges can make there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroup.manager import CgroupfsManager
from ocirt.cgroup.paths import CgroupHost, probe_cgroup_host
from ocirt.errors import HostError
from tests.support.cgroups import call_in
from tests.support.unprivileged import PROJECT

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

NOBODY = 65534


def create_as_nobody(path: str | None, *, early: bool, optional: bool, owner: int | None) -> list[Any]:
    """What the manager plans and makes for a user without privileges, who is this process from now on.

    [own cgroup, the delegated one, planned path, made path, whether there is a cgroup, warnings], or [the error].
    """
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    host = probe_cgroup_host()
    assert host
    manager = CgroupfsManager(host)
    record = manager.prepare(path, "c1", optional=early)
    try:
        created = manager.create(record, optional=optional, owner_uid=owner)
    except HostError as error:
        return [str(error)]
    manager.remove(created.record)
    has_cgroup = created.cgroup is not None
    return [host.own, host.delegated, record.path, created.record.path, has_cgroup, list(created.warnings)]


class TestUnprivileged:
    def run(
        self,
        directory: Path,
        path: str | None = None,
        *,
        early: bool = False,
        optional: bool = True,
        owner: int | None = None,
    ) -> list[Any]:
        result = call_in(directory, lambda: create_as_nobody(path, early=early, optional=optional, owner=owner))
        assert isinstance(result, list)
        return result

    def test_in_a_delegated_cgroup_it_is_below_the_own_one(self, base: str, directory: Path) -> None:
        (directory / "scope").mkdir(parents=True)
        for path in (directory, directory / "cgroup.procs", directory / "scope", directory / "scope/cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        scope = directory / "scope"
        assert self.run(scope) == [f"{base}/scope", base, f"{base}/c1", f"{base}/c1", True, []]
        assert self.run(scope, "pods/c1") == [f"{base}/scope", base, f"{base}/pods/c1", f"{base}/pods/c1", True, []]
        assert self.run(directory) == [base, base, f"{base}/c1", f"{base}/c1", True, []]
        assert sorted(entry.name for entry in directory.iterdir() if entry.is_dir()) == ["scope"]

    def test_without_permission_it_does_without_if_it_may(self, base: str, directory: Path) -> None:
        directory.mkdir()
        *found, (warning,) = self.run(directory)
        assert found == [base, None, "/c1", None, False]
        assert "no cgroup of its own" in warning
        assert "permission denied" in warning

    def test_without_permission_it_is_planned_without(self, base: str, directory: Path) -> None:
        """So that the plan, and a mount of the cgroup in it, is of what will be."""
        directory.mkdir()
        *found, (warning,) = self.run(directory, early=True)
        assert found == [base, None, None, None, False]
        assert "no cgroup of its own" in warning

    def test_without_permission_it_fails_if_it_may_not(self, directory: Path) -> None:
        directory.mkdir()
        (error,) = self.run(directory, "/c1", optional=False)
        assert error == "/linux/cgroupsPath: mkdir /sys/fs/cgroup/c1: permission denied"

    def test_a_user_can_give_nothing_away_and_is_told(self, base: str, directory: Path) -> None:
        directory.mkdir()
        for path in (directory, directory / "cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        *found, (warning,) = self.run(directory, owner=1234)
        assert found == [base, base, f"{base}/c1", f"{base}/c1", True]
        assert warning.startswith("the cgroup keeps its owner:")


class TestProbe:
    def run(self, script: str) -> str:
        """What is found in a mount namespace of its own, after a script there."""
        code = "from ocirt.cgroup.paths import probe_cgroup_host; print(probe_cgroup_host())"
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{script}\nexec "$@"', "sh"]
        result = subprocess.run(
            [*command, sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT
        )
        return result.stdout.strip()

    def test_a_pure_host(self, host: CgroupHost) -> None:
        assert (host.mount, host.root, host.delegated) == ("/sys/fs/cgroup", "/", "/")

    def test_a_hybrid_host(self) -> None:
        script = (
            "mount -t tmpfs t /sys/fs/cgroup; mkdir /sys/fs/cgroup/unified; mount -t cgroup2 c /sys/fs/cgroup/unified"
        )
        assert "mount='/sys/fs/cgroup/unified', root='/', " in self.run(script)

    def test_an_unusual_place(self, scratch: Path) -> None:
        place = scratch / "an unusual place"
        place.mkdir()
        script = f"mount -t tmpfs t /sys/fs/cgroup; mount -t cgroup2 c '{place}'"
        assert f"mount='{place}', root='/', " in self.run(script)
        place.rmdir()

    def test_a_part_of_the_hierarchy(self, base: str, directory: Path) -> None:
        """As in a container without a cgroup namespace: mountinfo has what paths in /proc/self/cgroup begin with."""
        (directory / "inner").mkdir(parents=True)
        script = f"mount --bind {directory} /sys/fs/cgroup; echo 0 > /sys/fs/cgroup/inner/cgroup.procs"
        assert self.run(script) == f"CgroupHost(mount='/sys/fs/cgroup', root='{base}', own='/inner', delegated='/')"

    def test_a_read_only_mount_is_nobodys(self) -> None:
        assert "delegated=None" in self.run("mount -o remount,bind,ro /sys/fs/cgroup")

    def test_no_cgroup2_at_all(self) -> None:
        """Whatever else there is: the file system's magic counts."""
        script = "umount -a -t cgroup2; mount -t tmpfs t /sys/fs/cgroup; touch /sys/fs/cgroup/cgroup.controllers"
        assert self.run(script) == "None"
