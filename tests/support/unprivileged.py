"""An ordinary user of the machine, for as long as a command runs: nothing of the machine's own accounts is changed.

A command is started with numeric ids and no capabilities. What it needs to see of accounts and programs otherwise (a
name in /etc/passwd, ranges in /etc/subuid, no newuidmap) is mounted over in a mount namespace of that command alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support import leaks
from tests.support.bundle import Config, mount_entry, without_namespace
from tests.support.isolation import CGROUP
from tests.support.runtime import MODULES, Container, Runtime

UID = 54321
NAME = "ocirttest"
FIRST_SUBORDINATE = 1_500_000
SUBORDINATES = 65536
PROJECT = Path(__file__).parent.parent.parent

# SOURCE TARGET ... -- CGROUP PROGRAM ...: mounts, then enters the cgroup, if one is named.
_PREPARE = """
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done
shift
[ -z "$1" ] || echo 0 > "$1/cgroup.procs" || exit 125
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class User:
    """`home` is a folder of the user's own; `overlays` is what is mounted over what: target to source; `cgroup`: where
    its commands begin."""

    home: Path
    uid: int = UID
    gid: int = UID
    groups: tuple[int, ...] = ()
    overlays: dict[str, Path] = field(default_factory=dict)
    cgroup: Path | None = None
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, home: Path) -> User:
        """Makes the home folder, with a runtime directory in it."""
        home.mkdir(mode=0o755)
        user = cls(home, env={"XDG_RUNTIME_DIR": str(home / "runtime")})
        (home / "runtime").mkdir(mode=0o700)
        user.own(home, home / "runtime")
        return user

    def own(self, *paths: Path) -> None:
        """Gives files or folders to the user."""
        for path in paths:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def with_account(self, *, ranges: bool = True) -> User:
        """The user with a name, and, unless told otherwise, with subordinate ids (subuid(5))."""
        lines = {
            "passwd": f"{NAME}:x:{self.uid}:{self.gid}::{self.home}:/bin/sh\n",
            "group": f"{NAME}:x:{self.gid}:\n",
            "subuid": f"{NAME}:{FIRST_SUBORDINATE}:{SUBORDINATES}\n" if ranges else "",
            "subgid": f"{NAME}:{FIRST_SUBORDINATE}:{SUBORDINATES}\n" if ranges else "",
        }
        overlays = {}
        for name, line in lines.items():
            original = Path("/etc") / name
            text = original.read_text() if name in ("passwd", "group") else ""
            (self.home / name).write_text(text + line)
            overlays[str(original)] = self.home / name
        return replace(self, overlays={**self.overlays, **overlays})

    def without_program(self, path: str) -> User:
        """The user for whom a program is not there: what is in its place cannot be executed."""
        nothing = self.home / "nothing"
        nothing.touch(mode=0o644)
        return replace(self, overlays={**self.overlays, path: nothing})

    def argv(self, *command: str) -> tuple[str, ...]:
        """A command line, for root, that executes the command as the user."""
        groups = ("--groups", ",".join(map(str, self.groups))) if self.groups else ("--clear-groups",)
        env = [f"{name}={value}" for name, value in {"PATH": "/usr/bin:/bin:/usr/sbin", **self.env}.items()]
        ids = ("setpriv", "--reuid", str(self.uid), "--regid", str(self.gid), *groups, "--inh-caps=-all")
        return (*prepared(self.overlays, self.cgroup), *ids, "--", "env", "-i", *env, *command)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command as the user, with its output as text."""
        return subprocess.run(
            self.argv(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )

    def runtime(self, runtime: Runtime) -> Runtime:
        """The runtime as this user's, with a state directory that is his."""
        root = self.home / f"state-{runtime.name}"
        root.mkdir(mode=0o700, exist_ok=True)
        self.own(root)
        rootless = ("--rootless", "true") if runtime.name == "runc" else ()
        return Runtime(runtime.name, self.argv(*runtime.command, *rootless), root)

    def reaching(self, runtime: Runtime) -> tuple[User, Runtime]:
        """The user and the runtime's command such that the one can execute the other, wherever the project lies."""
        overlays, reached = reach(runtime, self.uid, self.home)
        return replace(self, overlays={**self.overlays, **overlays}), reached


@contextlib.contextmanager
def delegated_cgroup(user: User, name: str) -> Iterator[User]:
    """The user in a cgroup `session` below one that root has given to him (cgroups(7), delegation)."""
    cgroup = CGROUP / name
    session = cgroup / "session"
    session.mkdir(parents=True)
    user.own(cgroup, *(cgroup / file for file in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")))
    user.own(session, session / "cgroup.procs")
    yield replace(user, cgroup=session)
    leaks.remove_cgroup(str(cgroup))


def prepared(overlays: dict[str, Path], cgroup: Path | None = None) -> tuple[str, ...]:
    """What a command line begins with for the command to have things mounted over others, and to be in a cgroup."""
    if not overlays and not cgroup:
        return ()
    mounts = [str(word) for target, source in overlays.items() for word in (source, target)]
    unshare = ("unshare", "--mount", "--propagation", "private") if overlays else ()
    return (*unshare, "sh", "-c", _PREPARE, "sh", *mounts, "--", str(cgroup or ""))


def reach(runtime: Runtime, uid: int, folder: Path) -> tuple[dict[str, Path], Runtime]:
    """The runtime as somebody can call it who cannot enter where the project lies, and the mounts that this takes.

    `folder` is one that he can enter.
    """
    if runtime.name != "ocirt" or _may_execute(uid, runtime.command):
        return {}, runtime
    project = folder / "project"
    project.mkdir(exist_ok=True)
    return {str(project): PROJECT}, replace(runtime, command=moved_command(runtime.command, project))


def moved_command(command: tuple[str, ...], project: Path) -> tuple[str, ...]:
    """ocirt's command line where the project is mounted in another place."""
    moved = tuple(word.replace(str(PROJECT), str(project)) for word in command)
    if command != MODULES:
        return moved
    # Where the modules are, the virtual environment has as a path of the first place.
    return ("env", f"PYTHONPATH={project}", moved[0], "-P", "-m", "ocirt")


@functools.cache
def _may_execute(uid: int, command: tuple[str, ...]) -> bool:
    return User(Path("/"), uid, uid).run(*command, "--version").returncode == 0


def make_rootless(config: Config, user: User) -> None:
    """What `spec --rootless` does to a configuration: the user is root, and keeps the host's network."""
    without_namespace(config, "network")
    config["linux"]["namespaces"].append({"type": "user"})
    map_own_id(config, user)
    for index, mount in enumerate(config["mounts"]):
        if mount["destination"] == "/sys":
            config["mounts"][index] = mount_entry("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
        mount["options"] = [word for word in mount["options"] if not word.startswith(("uid=", "gid="))]


def map_own_id(config: Config, user: User, *, inside: int = 0) -> None:
    """Maps one id alone, as anybody may."""
    for kind, number in (("uidMappings", user.uid), ("gidMappings", user.gid)):
        config["linux"][kind] = [{"containerID": inside, "hostID": number, "size": 1}]


def map_ranges(config: Config, user: User) -> None:
    """Maps the user to root, and the subordinate ids from 1 on (newuidmap(1))."""
    for kind, number in (("uidMappings", user.uid), ("gidMappings", user.gid)):
        config["linux"][kind] = [
            {"containerID": 0, "hostID": number, "size": 1},
            {"containerID": 1, "hostID": FIRST_SUBORDINATE, "size": SUBORDINATES},
        ]


def give_bundle(container: Container, user: User) -> None:
    """Gives the bundle to the user; the files of its root filesystem, which are all bundles', stay root's."""
    user.own(container.bundle)
    for folder, _, _ in os.walk(container.rootfs):
        user.own(Path(folder))


def host_status(pid: int) -> dict[str, Any]:
    """The lines of /proc/PID/status, split into words."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def cgroup_of(pid: int) -> str:
    """The cgroup v2 of a process, as this process sees it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def why_no_ranges() -> str | None:
    """The reason why subordinate ids cannot be had here, or None."""
    missing = [path for path in ("/usr/bin/newuidmap", "/usr/bin/newgidmap") if not os.access(path, os.X_OK)]
    # A mount needs something to be mounted on.
    missing += [path for path in ("/etc/subuid", "/etc/subgid") if not os.path.exists(path)]
    return f"needs {', '.join(missing)}" if missing else None


def why_no_user_namespaces(user: User) -> str | None:
    """The reason why an ordinary user can make no user namespace here, or None."""
    result = user.run("unshare", "--user", "--map-root-user", "true")
    return None if result.returncode == 0 else f"unprivileged user namespaces: {shlex.quote(result.stderr.strip())}"
