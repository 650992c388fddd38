"""Namespaces for single operations, held by a helper process, which they end with; and a root file system in them.

What an operation has done is looked at from outside, through the helper's /proc/PID/root and /proc/PID/mountinfo.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocirt import constants as k
from ocirt._native import lib
from ocirt.ops import AttachRoot, Op, OpenProc, OpenTree
from tests.c.init_runner import InitRunner, Outcome, Running
from tests.support.facts import MountInfo

ROOT_SLOT = 8
SLOT = 9
"""The first slot that a test may have its operations fill."""


class Sandbox:
    """A mount namespace, and with `user` a user namespace in which we are root; both end with `close`.

    `prepare` is a shell command that is executed in them, `outer` one for an outer pair of such namespaces, which owns
    (and locks) what it mounts. The owner of the user namespace is `uid`, by default the caller.
    """

    def __init__(
        self, *, user: bool, prepare: str = "", outer: str = "", uid: int | None = None, propagation: str = "private"
    ) -> None:
        options = ["--mount", "--propagation", propagation, *(["--user", "--map-root-user"] if user else [])]
        command = ["unshare", *options, "sh", "-ec", f"{prepare}\nexec cat"]
        if outer:
            command = ["unshare", *options, "sh", "-ec", f'{outer}\nexec "$@"', "sh", *command]
        owner: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if uid is not None else {}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **owner)
        self.user = user
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # An answer of cat's: from then on a test may take everything away that the process would need to begin.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._process.stdin.fileno(), b"\n")
        if self._process.stdout.readline() != b"\n":
            self.close()
            raise OSError(f"{command} failed")

    def path(self, path: Path | str) -> Path:
        """How an absolute path inside is reached from here. Links on it are followed here, not there."""
        return Path(f"/proc/{self.pid}/root") / str(path).lstrip("/")

    def mounts(self) -> list[MountInfo]:
        return mounts_of(self.pid)

    def mount(self, point: Path | str) -> MountInfo:
        """The topmost mount there."""
        return next(mount for mount in reversed(self.mounts()) if mount.point == str(point))

    @contextlib.contextmanager
    def namespaces(self) -> Iterator[dict[int, int]]:
        """The descriptors of its namespaces, by CLONE_NEW*."""
        names = {k.CLONE_NEWUSER: "user", k.CLONE_NEWNS: "mnt"} if self.user else {k.CLONE_NEWNS: "mnt"}
        opened = {flag: os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY) for flag, name in names.items()}
        try:
            yield opened
        finally:
            for fd in opened.values():
                os.close(fd)

    @contextlib.contextmanager
    def start(self, init: InitRunner, *ops: Op, host_ops: tuple[Op, ...] = (OpenProc("/host"),)) -> Iterator[Running]:
        """Have ocirt-init execute operations in here."""
        with self.namespaces() as namespaces:
            joins = [(kind, slot) for slot, kind in enumerate(namespaces)]
            flags = lib.PLAN_SET_IDS | lib.PLAN_KEEP_GROUPS if self.user else 0
            slots = list(namespaces.values())
            with init.start(*ops, host_ops=host_ops, joins=joins, slots=slots, flags=flags) as running:
                yield running

    def run(self, init: InitRunner, *ops: Op, host_ops: tuple[Op, ...] = (OpenProc("/host"),)) -> Outcome:
        """The same, to their end; no sanitizer may have complained."""
        with self.start(init, *ops, host_ops=host_ops) as running:
            outcome = running.outcome()
        assert outcome.stderr == "", outcome.stderr
        return outcome

    def close(self) -> None:
        self._process.communicate()


MakeSandbox = Callable[..., Sandbox]


def mounts_of(pid: int) -> list[MountInfo]:
    return [MountInfo.parse(line) for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


@dataclass(frozen=True, slots=True)
class Container:
    """A root file system, and ocirt-init to do something to it in a sandbox."""

    init: InitRunner
    sandbox: Sandbox
    rootfs: Path

    def attach(self) -> tuple[Op, ...]:
        """The operations that make the root file system the root."""
        path = str(self.rootfs)
        return OpenTree("/root/path", path, lib.TREE_RECURSIVE, ROOT_SLOT), AttachRoot("/root/path", path, ROOT_SLOT)

    def run(self, *ops: Op) -> Outcome:
        """Execute operations on the attached root, to their end."""
        return self.sandbox.run(self.init, *self.attach(), *ops)

    def do(self, *ops: Op) -> None:
        """The same; they succeed."""
        outcome = self.run(*ops)
        assert outcome.failure is None, outcome.failure
        assert outcome.status == 0, outcome

    def fail(self, *ops: Op) -> tuple[int, str]:
        """The same; the last one fails, with this errno and detail."""
        outcome = self.run(*ops)
        assert outcome.failure is not None, outcome
        assert outcome.failure.op == len(ops) + 2, outcome.failure
        return outcome.error, outcome.detail

    def inside(self, path: str) -> Path:
        """How a path of the container is reached from here, before a pivot. Links on it are followed here."""
        return self.sandbox.path(self.rootfs) / path.lstrip("/")

    def mount(self, point: str) -> MountInfo:
        """The topmost mount on a path of the container, before a pivot."""
        return self.sandbox.mount(f"{self.rootfs}{point}")

    def points(self) -> list[str]:
        """The mount points of the container below "/", in the order of their mounts, before a pivot."""
        points, root = [mount.point for mount in self.sandbox.mounts()], str(self.rootfs)
        return [point.removeprefix(root) for point in points if point.startswith(f"{root}/")]
