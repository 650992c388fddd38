"""Where cgroup2 is on a host, and what a user without privileges can make there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt.cgroup.paths import CgroupHost

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

NOBODY = 65534


def run_python(code: str, *command: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python code in another process, perhaps in other namespaces or as another user."""
    return subprocess.run(
        [*command, sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        user=uid,
        group=uid,
        extra_groups=[],
        cwd=Path(__file__).parents[3],
    )


class TestUnprivileged:
    CODE = """
import os, sys
from ocirt.cgroup.manager import CgroupfsManager
from ocirt.cgroup.paths import probe_cgroup_host
host = probe_cgroup_host()
manager = CgroupfsManager(host)
record = manager.prepare({path!r}, "c1", optional={early!r})
created = manager.create(record, optional={optional!r}, owner_uid={owner!r})
made = created.record
print(host.own, host.delegated, record.path, made.path, created.cgroup is not None, *created.warnings, sep="|")
manager.remove(made)
"""

    @pytest.fixture(autouse=True)
    def readable(self) -> None:
        probe = run_python("import ocirt.cgroup.manager, ocirt._native", uid=NOBODY)
        if probe.returncode:
            pytest.skip("another user cannot read this folder")

    def run(
        self,
        directory: Path,
        path: str | None = None,
        *,
        early: bool = False,
        optional: bool = True,
        owner: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        join = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(directory)]
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return run_python(self.CODE.format(path=path, early=early, optional=optional, owner=owner), *join, *become)

    def test_in_a_delegated_cgroup_it_is_below_the_own_one(self, base: str, directory: Path) -> None:
        (directory / "scope").mkdir(parents=True)
        for path in (directory, directory / "cgroup.procs", directory / "scope", directory / "scope/cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        result = self.run(directory / "scope")
        assert result.stderr == ""
        assert result.stdout == f"{base}/scope|{base}|{base}/c1|{base}/c1|True\n"
        result = self.run(directory / "scope", "pods/c1")
        assert result.stdout == f"{base}/scope|{base}|{base}/pods/c1|{base}/pods/c1|True\n"
        result = self.run(directory, None)
        assert result.stdout == f"{base}|{base}|{base}/c1|{base}/c1|True\n"
        assert sorted(entry.name for entry in directory.iterdir() if entry.is_dir()) == ["scope"]

    def test_without_permission_it_does_without_if_it_may(self, base: str, directory: Path) -> None:
        directory.mkdir()
        result = self.run(directory)
        own, delegated, planned, path, has_cgroup, warning = result.stdout.strip().split("|")
        assert (own, delegated, planned, path, has_cgroup) == (base, "None", "/c1", "None", "False")
        assert "no cgroup of its own" in warning
        assert "permission denied" in warning

    def test_without_permission_it_is_planned_without(self, base: str, directory: Path) -> None:
        """So that the plan, and a mount of the cgroup in it, is of what will be."""
        directory.mkdir()
        result = self.run(directory, early=True)
        own, delegated, planned, path, has_cgroup, warning = result.stdout.strip().split("|")
        assert (own, delegated, planned, path, has_cgroup) == (base, "None", "None", "None", "False")
        assert "no cgroup of its own" in warning

    def test_without_permission_it_fails_if_it_may_not(self, directory: Path) -> None:
        directory.mkdir()
        result = self.run(directory, "/c1", optional=False)
        assert "HostError: /linux/cgroupsPath: mkdir /sys/fs/cgroup/c1: permission denied" in result.stderr

    def test_a_user_can_give_nothing_away_and_is_told(self, base: str, directory: Path) -> None:
        directory.mkdir()
        for path in (directory, directory / "cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        result = self.run(directory, owner=1234)
        assert result.stdout.startswith(f"{base}|{base}|{base}/c1|{base}/c1|True|the cgroup keeps its owner:")


class TestProbe:
    CODE = """
from ocirt.cgroup.paths import probe_cgroup_host
print(probe_cgroup_host())
"""

    def run(self, script: str) -> str:
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{script}\nexec "$@"', "sh"]
        result = run_python(self.CODE, *command)
        assert result.stderr == ""
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
