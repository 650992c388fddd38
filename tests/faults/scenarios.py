"""Containers to let ocirt fail with, and what must hold after it did."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.injection import Call, Done, Server
from tests.support import leaks
from tests.support.bundle import Config, bind_entry, default_config, link_tree, use_user_namespace

HOST_TRUE = {"path": "/bin/true"}
HOST_SHELL = {"path": "/bin/sh", "args": ["sh", "-c", "read state; echo $state"], "timeout": 30}
MAPPING = [{"containerID": 0, "hostID": 70000, "size": 1000}]


def plain(config: Config, bundle: Path) -> None:
    """What an engine asks for, in a cgroup whose parents are to be made."""


def hooked(config: Config, bundle: Path) -> None:
    """Hooks of all kinds, a terminal, a device, a sysctl, rlimits."""
    config["hooks"] = {
        "prestart": [HOST_TRUE],
        "createRuntime": [HOST_SHELL],
        "createContainer": [HOST_SHELL],
        "startContainer": [{"path": "/bin/true"}],
        "poststart": [HOST_TRUE],
        "poststop": [HOST_TRUE],
    }
    config["process"]["terminal"] = True
    config["process"]["consoleSize"] = {"height": 20, "width": 70}
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    config["linux"]["devices"] = [{"path": "/dev/example", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]


def isolated(config: Config, bundle: Path) -> None:
    """A user and a time namespace, an id-mapped mount, a seccomp filter, a user with capabilities."""
    use_user_namespace(config)
    config["linux"]["namespaces"].append({"type": "time"})
    config["linux"]["timeOffsets"] = {"monotonic": {"secs": 7}}
    source = bundle / "source"
    source.mkdir()
    entry = bind_entry(source, "/mnt", "idmap")
    config["mounts"].append({**entry, "uidMappings": MAPPING, "gidMappings": MAPPING})
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
    }
    config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    config["process"]["capabilities"]["ambient"] = ["CAP_KILL"]
    config["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]


KINDS: dict[str, Callable[[Config, Path], None]] = {"plain": plain, "hooked": hooked, "isolated": isolated}


@dataclass(slots=True)
class Subject:
    """A bundle, and the container that is made from it again and again."""

    server: Server
    token: str
    id: str
    bundle: Path
    config: Config
    console: socket.socket | None = None
    _mounts: list[str] = field(default_factory=leaks.mounts)
    _files: list[str] = field(default_factory=list)

    @classmethod
    def prepare(cls, server: Server, token: str, kind: str, folder: Path, template: Path) -> Subject:
        bundle = folder / f"bundle-{kind}"
        bundle.mkdir()
        link_tree(template, bundle / "rootfs")
        config = default_config()
        config["process"]["args"] = ["/probe", "hold"]
        config["linux"]["cgroupsPath"] = f"/{token}-faults/parent/{kind}"
        KINDS[kind](config, bundle)
        (bundle / "config.json").write_text(json.dumps(config))
        console = None
        if config["process"].get("terminal"):
            console = socket.socket(socket.AF_UNIX)
            console.bind(str(bundle / "console"))
            console.listen(64)
            console.setblocking(False)
        subject = cls(server, token, f"{token}-{kind}", bundle, config, console)
        subject._files = subject.files()
        return subject

    def close(self) -> None:
        if self.console:
            self.console.close()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.bundle.iterdir())

    # ---- command lines

    @property
    def creating(self) -> tuple[str, ...]:
        """The flags of create and run."""
        flags = ("--bundle", str(self.bundle), "--pid-file", str(self.bundle / "pid"))
        return (
            (*flags, "--console-socket", str(self.bundle / "console"), self.id) if self.console else (*flags, self.id)
        )

    def ocirt(self, *arguments: str) -> Done:
        """A command that is to succeed."""
        done = self.server.run(*arguments)
        assert done.rc == 0, f"{arguments}: {done}"
        return done

    @property
    def pid(self) -> int:
        """The init's pid."""
        return int((self.bundle / "pid").read_text())

    def state(self) -> str:
        """The container's status, "" where there is none. Raises AssertionError for any other answer."""
        done = self.server.run("state", self.id)
        if done.rc == 0:
            return str(json.loads(done.out)["status"])
        assert "does not exist" in done.err, f"state: {done.err}"
        assert not done.unclean, f"state: {done.unclean}"
        return ""

    # ---- what must hold

    def recover(self) -> list[str]:
        """What is wrong after a command was killed: list, state and delete --force have to work, and leave nothing."""
        wrong: list[str] = []
        listed = self.server.run("list")
        if listed.rc or listed.err:
            wrong.append(f"list: {listed}")
        try:
            status = self.state()
        except AssertionError as error:
            status = ""
            wrong.append(str(error))
        if (self.id in listed.out) != bool(status):
            wrong.append(f"list and state contradict each other: {listed.out!r}, {status!r}")
        deleted = self.server.run("delete", "--force", self.id)
        if deleted.rc:
            wrong.append(f"delete --force: {deleted}")
        return wrong + self.leftovers()

    def leftovers(self) -> list[str]:
        """What is left behind when there should be nothing any more."""
        left = [f"process {pid} {name}" for pid, name in self.server.processes().items()]
        left += [f"cgroup {path}" for path in leaks.cgroups(self.token)]
        left += [f"state {path.name}" for path in self.server.root.iterdir()]
        left += [f"mount {point}" for point in sorted(set(leaks.mounts()) - set(self._mounts))]
        with contextlib.suppress(FileNotFoundError):
            (self.bundle / "pid").unlink()
        left += [f"file {name}" for name in self.files() if name not in self._files]
        self._drop_consoles()
        return left

    def _drop_consoles(self) -> None:
        """Nobody wants the terminals that were sent."""
        if self.console:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.console.accept()[0].close()

    def clear(self) -> None:
        """Makes room for the next point, whatever the last one left."""
        self.server.run("delete", "--force", self.id)
        left = [int(pid) for pid in self.server.processes(patience_seconds=0)]
        leaks.end_processes(left)
        for path in self.server.root.iterdir():
            leaks_remove(path)


def leaks_remove(path: Path) -> None:
    """Removes a state directory that a command left behind."""
    for name in path.iterdir():
        name.unlink()
    path.rmdir()


@dataclass(frozen=True, slots=True)
class Command:
    """A command to be disturbed: what comes before it, and what the container's status may be when it succeeded."""

    name: str
    argv: Callable[[Subject], Sequence[str]]
    before: Callable[[Subject], None] = lambda subject: None
    success: tuple[str, ...] = ()
    traces_init: bool = False
    keeps_container: bool = False


def create_it(subject: Subject) -> None:
    subject.ocirt("create", *subject.creating)


def run_it(subject: Subject) -> None:
    subject.ocirt("run", "--detach", *subject.creating)


def stop_it(subject: Subject) -> None:
    run_it(subject)
    subject.ocirt("kill", subject.id, "KILL")
    subject.server.processes()


COMMANDS = {
    command.name: command
    for command in (
        Command("create", lambda s: ("create", *s.creating), success=("created",)),
        Command("start", lambda s: ("start", s.id), create_it, ("running",), traces_init=True),
        Command("run", lambda s: ("run", "--detach", *s.creating), success=("running",)),
        Command("exec", lambda s: ("exec", s.id, "/bin/true"), run_it, ("running",), keeps_container=True),
        Command("delete", lambda s: ("delete", s.id), stop_it, ("",)),
        Command("delete --force", lambda s: ("delete", "--force", s.id), run_it, ("",)),
    )
}


def describe(call: Call, done: Done, wrong: Sequence[str]) -> str:
    """One point's failure."""
    return f"{call} {done.text!r}: {'; '.join(wrong)}"
