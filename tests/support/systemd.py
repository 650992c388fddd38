"""A systemd for the tests: the machine's own where that is the first process, and a user's, started for the tests.

Guarantees: the user's one has a cgroup and a D-Bus of its own, and is gone with all of its units after `end()`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import leaks
from tests.support.isolation import CGROUP
from tests.support.runtime import wait_for

PROGRAM = Path("/lib/systemd/systemd")
BOOTED = Path("/run/systemd/system")

# systemd wants to know that the machine runs it too; only it and what it starts see that here.
_START = """
set -e
echo $$ >"$1/cgroup.procs"
if ! [ -d /run/systemd/system ]; then
    mount -t tmpfs tmpfs /run
    mkdir -p /run/systemd/system
fi
exec "$2" --user --log-target=null
"""


def why_no_user_systemd() -> str | None:
    """The reason why a user's systemd cannot be started here, or None."""
    for needed in (PROGRAM, "/usr/bin/systemctl", "/usr/bin/dbus-daemon", "/usr/lib/systemd/user/dbus.socket"):
        if not Path(needed).exists():
            return "needs systemd and a D-Bus for users"
    return None


@dataclass(slots=True)
class Systemd:
    """`flags`: what ocirt is given to use it; `environment`: where it is found."""

    flags: tuple[str, ...] = ("--systemd-cgroup",)
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _cgroup: Path | None = None

    @classmethod
    def start_user(cls, directory: Path, cgroup_name: str) -> Systemd:
        """Starts a user's systemd, with root as the user."""
        runtime_directory = directory / "runtime"
        runtime_directory.mkdir(parents=True, mode=0o700)
        cgroup = CGROUP / cgroup_name
        cgroup.mkdir()
        environment = {
            "XDG_RUNTIME_DIR": str(runtime_directory),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime_directory}/bus",
        }
        made = cls(("--systemd-cgroup", "--rootless", "true"), environment)
        made._cgroup = cgroup
        made._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "sh", str(cgroup), str(PROGRAM)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for((runtime_directory / "bus").exists, 60)
            wait_for(made.is_up, 60)
            # What the first client would start: a process that a test would seem to leave behind.
            made.ctl("start", "dbus.service")
        except BaseException:
            made.end()
            raise
        return made

    def end(self) -> None:
        if self._process is None or self._cgroup is None:
            return
        self.ctl("exit", check=False)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        (self._cgroup / "cgroup.kill").write_text("1")
        events = self._cgroup / "cgroup.events"
        wait_for(lambda: "populated 0" in events.read_text())
        leaks.reap_children()
        leaks.remove_cgroup(str(self._cgroup))

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line of one of systemd's tools, asking this one."""
        return [program, *(("--user",) if self._process else ()), *arguments]

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """What systemctl prints."""
        result = subprocess.run(
            self.command("systemctl", *arguments),
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or result.returncode == 0, f"systemctl {arguments}: {result.stdout}{result.stderr}"
        return result.stdout.strip()

    def is_up(self) -> bool:
        return self.ctl("show", "--property=SystemState", "--value", check=False) in ("running", "degraded")

    def scope(self, unit: str, *properties: str) -> subprocess.Popen[bytes]:
        """Runs a process in a scope that has nothing to do with a container, until it is killed."""
        options = [f"--property={each}" for each in properties]
        sleep = shutil.which("sleep") or "sleep"
        process = subprocess.Popen(
            self.command("systemd-run", "--scope", "--quiet", f"--unit={unit}", *options, sleep, "1000"),
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: self.show(unit)["ActiveState"] == "active")
        return process

    def show(self, unit: str) -> dict[str, str]:
        """A unit's properties; one that isn't there has the state "inactive"."""
        lines = (line.partition("=") for line in self.ctl("show", unit).splitlines())
        return {key: value for key, _, value in lines}

    def exists(self, unit: str) -> bool:
        return self.show(unit)["LoadState"] != "not-found"

    def reload(self) -> None:
        """daemon-reload: every unit is read anew from its files, and what it says written into its cgroup."""
        self.ctl("daemon-reload")
        # Cgroups are written after the answer, before the next question is looked at.
        self.is_up()
