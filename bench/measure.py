"""Takes the samples: in each round every case, and in each case every runtime, one right after the other.

The order of the runtimes changes from round to round. Warm-up rounds are dropped: the first ones read files from disk,
and find no cache of a runtime's own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.bundles import Bundles, make_bundles
from bench.cases import Case, Sample
from bench.results import Results, Subject
from bench.runtimes import Runtime, probe_version, size_bytes
from bench.session import Session
from bench.spawner import BenchError, CommandError, Outcome

PSS_SAMPLES = 3


@dataclass(slots=True)
class Measurement:
    """A run of the benchmark, and what has come of it so far."""

    session: Session
    bundles: Bundles
    runtimes: list[Runtime]
    results: Results
    _running: dict[str, str] = field(default_factory=dict)
    _variants: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def take(self, cases: Sequence[Case], rounds: int, warm_up: int) -> None:
        """Fills the results."""
        for runtime in self.runtimes:
            self._start_running(runtime)
        for number in range(-warm_up, rounds):
            _show_progress(number, rounds)
            for case in cases:
                # The slow ones are warm after one sample.
                if number % case.every == 0 or number == -warm_up:
                    self._take_case(case, number)
        _show_progress(None, rounds)
        for runtime in self.runtimes:
            self.results.pss_bytes[runtime.name] = self._created_pss_bytes(runtime)

    def _take_case(self, case: Case, number: int) -> None:
        if case.new_profile:
            self.bundles.renew_profile(next(self._variants))
        turn = number % len(self.runtimes)
        for runtime in self.runtimes[turn:] + self.runtimes[:turn]:
            if not self.results.has_failed(case.name, runtime.name):
                self._take_sample(case, runtime, keep=number >= 0)

    def sample(self, runtime: Runtime) -> Sample:
        """What the commands of a new sample are made of."""
        return Sample(runtime, self.bundles, self._running[runtime.name], self.session.new_id)

    def _take_sample(self, case: Case, runtime: Runtime, *, keep: bool) -> None:
        sample = self.sample(runtime)
        try:
            outcomes = self.session.spawner.run(*case.steps(sample))
        except CommandError as error:
            self.results.fail(case.name, case.parts, runtime.name, str(error))
            for container in sample.ids:
                self.session.delete(runtime, container)
            return
        if keep:
            self._keep(case, runtime, outcomes)

    def _keep(self, case: Case, runtime: Runtime, outcomes: Sequence[Outcome]) -> None:
        self.results.series(case.name, case.title, runtime.name).add(outcomes)
        for part, outcome in zip(case.parts, outcomes, strict=False):
            self.results.series(part, f"  {part}", runtime.name).add([outcome])

    def _start_running(self, runtime: Runtime) -> None:
        """Starts the container that goes on while others come and go. Raises CommandError."""
        container = self.session.new_id()
        self._running[runtime.name] = container
        create = runtime.argv("create", "--bundle", self.bundles.long_lived, container)
        self.session.spawner.run([create], [runtime.argv("start", container)])

    def _created_pss_bytes(self, runtime: Runtime) -> int | None:
        """Of the init's process alone, in a container that is created and not started.

        The most of some: another process with the same program on the machine makes the shares in it smaller.
        """
        found = []
        pid_file = self.session.folder / "pid"
        for _ in range(PSS_SAMPLES):
            container = self.session.new_id()
            create = runtime.argv("create", "--bundle", self.bundles.default, "--pid-file", pid_file, container)
            with contextlib.suppress(CommandError, OSError):
                self.session.spawner.run([create])
                found.append(read_pss_bytes(int(pid_file.read_text())))
            self.session.delete(runtime, container)
        return max(found, default=None)


def read_pss_bytes(pid: int) -> int:
    """A process's proportional set size, proc(5). Raises OSError."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def prepare(session: Session, runtimes: Sequence[Runtime], baseline: str | None) -> Measurement:
    """Makes the bundles, and finds out which runtimes can run one. Raises BenchError if none can."""
    runtimes = [replace(runtime, root=session.own_root(runtime)) for runtime in runtimes]
    writer = next((runtime for runtime in runtimes if runtime.name == baseline), runtimes[0])
    bundles = make_bundles(session.folder, _default_config(session, writer))
    able, notes = [], []
    for runtime in runtimes:
        try:
            able.append(_able(session, runtime, bundles))
        except CommandError as error:
            notes.append(f"{runtime.name} is left out: {error}")
    if not able:
        raise BenchError("; ".join(notes))
    subjects = [Subject(one.name, " ".join(one.command), probe_version(one), size_bytes(one), one.note) for one in able]
    return Measurement(session, bundles, able, Results(subjects, writer.name, notes))


def _default_config(session: Session, runtime: Runtime) -> dict[str, object]:
    """What the runtime's `spec` writes."""
    folder = session.folder / "spec"
    folder.mkdir()
    session.spawner.run([[*runtime.command, "spec", "--bundle", str(folder)]])
    config: dict[str, object] = json.loads((folder / "config.json").read_text())
    return config


def _able(session: Session, runtime: Runtime, bundles: Bundles) -> Runtime:
    """The runtime, with the flags without which it cannot run the default bundle. Raises CommandError."""
    candidates = [runtime, *([runtime.fallback] if runtime.fallback else [])]
    for candidate in candidates:
        container = session.new_id()
        try:
            session.spawner.run([candidate.argv("run", "--bundle", bundles.default, container)])
        except CommandError:
            session.delete(candidate, container)
            if candidate is candidates[-1]:
                raise
        else:
            return candidate
    raise AssertionError("there is always a candidate")


def _show_progress(number: int | None, rounds: int) -> None:
    """On a terminal only, in one line that goes away again."""
    if sys.stderr.isatty():
        text = "" if number is None else "warming up" if number < 0 else f"round {number + 1} of {rounds}"
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
