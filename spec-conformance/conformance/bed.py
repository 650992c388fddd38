"""The test bed: one runtime, containers of it, and what became of them.

Guarantees: whatever a container's configuration, it is gone when its test is over; what `attempt` found out about a
configuration is found out once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.expect import Mismatch, merged, not_testable
from conformance.machine import Snapshot, why_not

from tests.support import isolation, leaks
from tests.support.bundle import Config, default_config
from tests.support.facts import Facts
from tests.support.runtime import Container, Result, Runtime

# Where a requirement is not about the version, a configuration is of the greatest that the runtime takes.
VERSIONS = ("1.3.0", "1.2.0", "1.1.0", "1.0.2", "1.0.0")


# For a program to end, which the tests' machine is slow about: it is emulated, and says so.
END_SECONDS = 60 if os.environ.get("OCIRT_VM") else 10


def error_of(result: Result) -> str:
    """The last error that a command told, without what a logger put around it."""
    match = re.search(r'level=error msg="(.*)"', result.error)
    return match[1] if match else result.error


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a configuration: the operation that failed, if one did, with its error; else what the program
    wrote and its exit code. `left` is what a failed create did not undo."""

    failed: str
    error: str
    output: str = ""
    exit_code: int | None = None
    warnings: str = ""
    left: tuple[str, ...] = ()

    @property
    def taken(self) -> bool:
        return not self.failed

    @property
    def summary(self) -> str:
        return f"{self.failed} failed: {self.error}" if self.failed else f"taken, exit code {self.exit_code}"

    def facts(self) -> Facts:
        """What the probe saw. Raises Mismatch where it did not run."""
        if self.failed or self.exit_code != 0:
            raise Mismatch("the configuration", "taken, and the program runs", f"{self.summary} {self.output[:300]}")
        return Facts.parse(self.output)


@dataclass(slots=True)
class Bed:
    """One runtime's containers: `new` makes one to go through its life, `attempt` finds out what becomes of one."""

    runtime: Runtime
    token: str
    scratch: Path
    template: Path
    version: str = VERSIONS[-1]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _made: list[Container] = field(default_factory=list)
    # The containers that are known to be deleted.
    _gone: set[str] = field(default_factory=set)
    _attempts: dict[str, Attempt] = field(default_factory=dict)

    def find_version(self) -> None:
        """Takes the greatest version that the runtime takes."""
        for version in VERSIONS:
            self.version = version
            if self.attempt(self.config()).taken:
                return

    def require(self, *needs: str) -> None:
        """Ends the test where the machine or the runtime lacks something that it needs."""
        for need in needs:
            if reason := why_not(need, self.runtime):
                not_testable(reason)

    def config(self, patch: Config | None = None) -> Config:
        """The base configuration, with a merge patch. The probe is its program."""
        return merged({**default_config(), "ociVersion": self.version}, patch or {})

    def new(self, patch: Config | None = None) -> Container:
        """A container to be. It and its bundle are removed after the test."""
        name = f"{self.token}-{next(self._numbers)}"
        container = Container.prepare(self.runtime, name, self.scratch, self.template)
        container.config = self.config(patch)
        self._made.append(container)
        return container

    def clean(self) -> None:
        """Removes the containers of a test, and whatever else it left."""
        while self._made:
            container = self._made.pop()
            # Without a mount namespace of the container's, its mounts are here: what they show is not to be removed.
            for point in reversed(leaks.mounts()):
                if Path(point).is_relative_to(container.bundle):
                    isolation.umount(point)
            if container.id in self._gone:
                isolation.remove_tree(container.bundle)
            else:
                container.cleanup()

    def snapshot(self) -> Snapshot:
        return Snapshot.take(self.runtime, self.token)

    @contextlib.contextmanager
    def unchanged(self, patience_seconds: float = 2.0) -> Iterator[None]:
        """Raises Mismatch where what happens inside changes the host. What is just ending gets some time to do so."""
        before = self.snapshot()
        yield
        if left := self.changes_since(before, patience_seconds):
            raise Mismatch("after the operation that failed", "nothing changed", "; ".join(left))

    def changes_since(self, before: Snapshot, patience_seconds: float = 2.0) -> list[str]:
        """What is other than it was, a line each. What is just ending gets some time to do so."""
        deadline = time.monotonic() + patience_seconds
        while left := before.changes(self.snapshot()):
            if time.monotonic() > deadline:
                break
            leaks.reap_children()
            time.sleep(0.02)
        return left

    def attempt(self, config: Config) -> Attempt:
        """Creates, starts and deletes a container of that configuration, unless it is known what becomes of it."""
        key = json.dumps(config, sort_keys=True)
        if key not in self._attempts:
            self._attempts[key] = self.launch(self.new(), config)
        return self._attempts[key]

    def forget(self) -> None:
        """What became of configurations is no more known: the runtime is another one from now on."""
        self._attempts.clear()

    def launch(
        self,
        container: Container,
        config: Config | None = None,
        *,
        before_start: Callable[[Container], object] | None = None,
        **options: Any,
    ) -> Attempt:
        """Creates and starts a container, waits for its end, and deletes it."""
        if config is not None:
            container.config = config
        before = self.snapshot()
        created = container.create(check=False, **options)
        if created.rc != 0:
            left = self.changes_since(before)
            if not left:
                self._gone.add(container.id)
            return Attempt("create", error_of(created) or f"exit code {created.rc}", left=tuple(left))
        if before_start:
            before_start(container)
        started = container.start(check=False)
        if started.rc != 0:
            container.delete("--force", check=False)
            return Attempt("start", error_of(started) or f"exit code {started.rc}")
        exit_code = container.wait(END_SECONDS)
        if container.delete(check=False).rc == 0:
            self._gone.add(container.id)
        return Attempt("", "", container.output, exit_code, created.err + started.err)

    def observe(self, patch: Config | None = None, *paths: str) -> Facts:
        """What the probe sees in a container of the base configuration with a merge patch."""
        config = self.config(patch)
        if paths:
            config["process"] = {**config["process"], "args": ["/probe", *paths]}
        return self.attempt(config).facts()

    def refused(self, bad: Config, good: Config) -> None:
        """That the one configuration is refused, and changes nothing, shown beside the other, which must be taken."""
        control = self.attempt(good)
        if not control.taken:
            not_testable(f"what differs only in being valid is refused too: {control.error}")
        seen = self.attempt(bad)
        if seen.taken:
            raise Mismatch("the configuration", "create or start fails", seen.summary)
        if seen.left:
            raise Mismatch("after the create that failed", "nothing changed", "; ".join(seen.left))
