"""Containers to let ocirt fail with, and what must hold after it did."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.injection import Done, Server
from tests.support import leaks
from tests.support.bundle import Config, bind_entry, default_config, link_tree, use_user_namespace, without_namespace
from tests.support.isolation import CGROUP
from tests.support.runtime import wait_for

HOST_TRUE = {"path": "/bin/true"}
HOST_SHELL = {"path": "/bin/sh", "args": ["sh", "-c", "read state; echo $state"], "timeout": 30}
MAPPING = [{"containerID": 0, "hostID": 70000, "size": 1000}]
DEVICE, PEER = "fault0", "fault1"
UPDATE = {"cgroup.max.depth": "5", "cgroup.max.descendants": "7"}


def plain(config: Config, bundle: Path) -> None:
    """What an engine asks for, in a cgroup whose parents are to be made; and what an update will ask for."""
    (bundle / "update").write_text(json.dumps({"unified": UPDATE, "devices": [{"allow": False, "access": "rwm"}]}))


def brief(config: Config, bundle: Path) -> None:
    """A program that ends by itself, for `run` in the foreground; without a pid namespace of its own."""
    config["process"]["args"] = ["/bin/true"]
    without_namespace(config, "pid")


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


def networked(config: Config, bundle: Path) -> None:
    """A network device of the host's, one end of a veth pair, which the kernel removes with a container it is in."""
    config["linux"]["netDevices"] = {DEVICE: {"name": "eth0"}}


KINDS: dict[str, Callable[[Config, Path], None]] = {
    kind.__name__: kind for kind in (plain, brief, hooked, isolated, networked)
}


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
    def prepare(cls, server: Server, token: str, kind: str, bundle: Path, template: Path) -> Subject:
        """Makes the bundle. `token` is in the names of all that is made, and in no other's."""
        bundle.mkdir()
        link_tree(template, bundle / "rootfs")
        config = default_config()
        config["process"]["args"] = ["/probe", "hold"]
        config["linux"]["cgroupsPath"] = f"/{token}/parent/{kind}"
        KINDS[kind](config, bundle)
        console = None
        if config["process"].get("terminal"):
            console = socket.socket(socket.AF_UNIX)
            console.bind(str(bundle / "console"))
            console.listen(64)
            console.setblocking(False)
        subject = cls(server, token, f"{token}{kind}", bundle, config, console)
        subject.write_config()
        subject._files = subject._list()
        return subject

    def write_config(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def close(self) -> None:
        if self.console:
            self.console.close()

    def _list(self) -> list[str]:
        return sorted(path.name for path in self.bundle.iterdir())

    # ---- command lines

    @property
    def creating(self) -> tuple[str, ...]:
        """The arguments of create and run."""
        flags = ["--bundle", str(self.bundle), "--pid-file", str(self.bundle / "pid")]
        if self.console:
            flags += ["--console-socket", str(self.bundle / "console")]
        return (*flags, self.id)

    def ocirt(self, *arguments: str) -> Done:
        """A command that is to succeed."""
        done = self.server.run(*arguments)
        assert done.rc == 0, f"{arguments}: {done}"
        return done

    @property
    def pid(self) -> int:
        """The init's pid."""
        return int((self.bundle / "pid").read_text())

    def status(self) -> str:
        """The container's status, "" where there is none. Raises AssertionError for any other answer."""
        done = self.server.run("state", self.id)
        if done.rc == 0:
            return str(json.loads(done.out)["status"])
        assert "does not exist" in done.err, f"state: {done.err}"
        assert not done.unclean, f"state: {done.unclean}"
        return ""

    # ---- the network device

    def _ip(self, *words: str) -> Any:
        """iproute2 in the server's network namespace."""
        net = f"--net=/proc/{self.server.process.pid}/ns/net"
        done = subprocess.run(["nsenter", net, "ip", "-j", *words], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else []

    def devices(self) -> set[str]:
        """The network devices: both ends, none, or what is wrong. The kernel takes its time to remove a namespace."""
        found: set[str] = set()

        def settled() -> bool:
            nonlocal found
            found = {link["ifname"] for link in self._ip("link", "show")} - {"lo"}
            return found in (set(), {DEVICE, PEER})

        with contextlib.suppress(AssertionError):
            wait_for(settled, 5)
        return found

    def provide(self) -> None:
        """Makes the network device that the configuration names, if it is not there."""
        if "netDevices" in self.config["linux"] and not self.devices():
            self._ip("link", "add", DEVICE, "type", "veth", "peer", "name", PEER)

    # ---- what must hold

    def recover(self) -> list[str]:
        """What is wrong after a command was killed: list, state and delete --force have to work, and leave nothing."""
        wrong: list[str] = []
        listed = self.server.run("list")
        if listed.rc or listed.err:
            wrong.append(f"list: {listed}")
        try:
            status = self.status()
            if (self.id in listed.out) != bool(status):
                wrong.append(f"list and state contradict each other: {listed.out!r}, {status!r}")
            # An init whose runtime is gone before it was READY ends by itself: it needs no delete.
            if status not in ("created", "running", "paused") and (left := self.server.processes()):
                wrong.append(f"a container that is {status or 'not there'} has processes: {left}")
        except AssertionError as error:
            wrong.append(str(error))
        deleted = self.server.run("delete", "--force", self.id)
        if deleted.rc or deleted.hung:
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
        left += [f"file {name}" for name in self._list() if name not in self._files]
        if "netDevices" in self.config["linux"]:
            devices = self.devices()
            left += [f"network device {name}" for name in devices if devices != {DEVICE, PEER}]
        self.drop_consoles()
        return left

    def drop_consoles(self) -> None:
        """Nobody wants the terminals that were sent."""
        if self.console:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.console.accept()[0].close()

    def clear(self) -> None:
        """Makes room for the next point, whatever the last one left."""
        self.server.run("delete", "--force", self.id)
        leaks.end_processes([int(pid) for pid in self.server.processes(patience_seconds=0)])
        for path in self.server.root.iterdir():
            shutil.rmtree(path)
        for cgroup in sorted(leaks.cgroups(self.token), reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(cgroup)
        with contextlib.suppress(FileNotFoundError):
            (self.bundle / "pid").unlink()


@dataclass(frozen=True, slots=True)
class Command:
    """A command to be disturbed: what comes before it, and what the container's status is when it succeeded."""

    name: str
    argv: Callable[[Subject], Sequence[str]]
    success: tuple[str, ...]
    before: Callable[[Subject], None] = lambda subject: None
    traces_init: bool = False  # also the container's init, which is there before the command
    keeps_container: bool = False  # one container for all points
    changed: Callable[[Subject], list[str]] = (
        lambda subject: []
    )  # what is not as it was before, which a failure forbids

    @property
    def undoes(self) -> bool:
        """Whether a failure must leave nothing. In the foreground, the end's own failure is delete's to mend."""
        return self.name in ("create", "run")


def create_it(subject: Subject) -> None:
    subject.ocirt("create", *subject.creating)


def run_it(subject: Subject) -> None:
    subject.ocirt("run", "--detach", *subject.creating)


def pause_it(subject: Subject) -> None:
    run_it(subject)
    subject.ocirt("pause", subject.id)


def limits_changed(subject: Subject) -> list[str]:
    """What an update has left in the cgroup and the state."""
    cgroup = CGROUP / str(subject.config["linux"]["cgroupsPath"]).strip("/")
    changed = [name for name in UPDATE if (cgroup / name).read_text() != "max\n"]
    return changed + [path.name for path in (subject.server.root / subject.id).glob("resources.json")]


def is_paused(subject: Subject) -> list[str]:
    return ["it is paused"] if subject.status() == "paused" else []


def stop_it(subject: Subject) -> None:
    run_it(subject)
    subject.ocirt("kill", subject.id, "KILL")
    subject.server.processes()


COMMANDS = {
    command.name: command
    for command in (
        Command("create", lambda s: ("create", *s.creating), ("created",)),
        Command("start", lambda s: ("start", s.id), ("running",), create_it, traces_init=True),
        Command("run", lambda s: ("run", "--detach", *s.creating), ("running",)),
        Command("run in the foreground", lambda s: ("run", *s.creating), ("",)),
        Command("exec", lambda s: ("exec", s.id, "/bin/true"), ("running",), run_it, keeps_container=True),
        Command("pause", lambda s: ("pause", s.id), ("paused",), run_it, changed=is_paused),
        Command("resume", lambda s: ("resume", s.id), ("running",), pause_it),
        Command(
            "update",
            lambda s: ("update", "-r", f"{s.bundle}/update", s.id),
            ("running",),
            run_it,
            changed=limits_changed,
        ),
        Command("delete", lambda s: ("delete", s.id), ("",), stop_it),
        Command("delete --force", lambda s: ("delete", "--force", s.id), ("",), run_it),
    )
}
