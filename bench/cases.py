"""What is measured: each case as the commands of one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from bench.bundles import Bundles
from bench.runtimes import Runtime
from bench.spawner import BenchError, Step

ONE_AFTER_ANOTHER = 50
SIDE_BY_SIDE = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """What a case's commands are made of. `running` is the id of a container that runs; `ids` are those of new ones."""

    runtime: Runtime
    bundles: Bundles
    running: str
    make_id: Callable[[], str]
    ids: list[str] = field(default_factory=list)

    def new_id(self) -> str:
        """An id that was never used before."""
        self.ids.append(self.make_id())
        return self.ids[-1]


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the results. It is measured in every `every`th round.

    `parts` names the commands of a case that is several, to show them as rows of their own.
    """

    name: str
    title: str
    steps: Callable[[Sample], Sequence[Step]]
    every: int = 1
    parts: tuple[str, ...] = ()
    new_profile: bool = False


def _version(sample: Sample) -> Sequence[Step]:
    return [[sample.runtime.version_argv]]


def _run(sample: Sample, bundle: Path) -> Sequence[Step]:
    return [[sample.runtime.argv("run", "--bundle", bundle, sample.new_id())]]


def _lifecycle(sample: Sample) -> Sequence[Step]:
    container, runtime = sample.new_id(), sample.runtime
    return [
        [runtime.argv("create", "--bundle", sample.bundles.default, container)],
        [runtime.argv("start", container)],
        [runtime.argv("delete", "--force", container)],
    ]


def _on_running(sample: Sample, command: str, *arguments: str) -> Sequence[Step]:
    return [[sample.runtime.argv(command, sample.running, *arguments)]]


def _one_after_another(sample: Sample) -> Sequence[Step]:
    return [step for _ in range(ONE_AFTER_ANOTHER) for step in _run(sample, sample.bundles.default)]


def _side_by_side(sample: Sample) -> Sequence[Step]:
    steps = [step for _ in range(SIDE_BY_SIDE) for step in _run(sample, sample.bundles.default)]
    return [[command for step in steps for command in step]]


CASES = (
    Case("version", "--version", _version),
    Case("run", "run", lambda sample: _run(sample, sample.bundles.default)),
    Case("lifecycle", "create + start + delete -f", _lifecycle, parts=("create", "start", "delete")),
    Case("exec", "exec of true", lambda sample: _on_running(sample, "exec", "/bin/true")),
    Case("state", "state", lambda sample: _on_running(sample, "state")),
    # A signal that the container's program, its init, does not see: it goes on for the next sample.
    Case("kill", "kill", lambda sample: _on_running(sample, "kill", "CONT")),
    Case("seccomp", "run, a profile as Docker's", lambda sample: _run(sample, sample.bundles.seccomp)),
    Case(
        "new-seccomp",
        "run, a new profile of that size",
        lambda sample: _run(sample, sample.bundles.new_seccomp),
        new_profile=True,
    ),
    Case("mounts", "run, 40 mounts", lambda sample: _run(sample, sample.bundles.mounts)),
    Case("both", "run, the profile and 40 mounts", lambda sample: _run(sample, sample.bundles.both)),
    Case("fifty", f"{ONE_AFTER_ANOTHER} times run, one after another", _one_after_another, every=5),
    Case("eight", f"{SIDE_BY_SIDE} times run, side by side", _side_by_side, every=2),
)


def choose_cases(patterns: Iterable[str]) -> list[Case]:
    """The cases with a name that one of the shell patterns fits. Raises BenchError for a pattern that fits none."""
    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(case.name, pattern) for case in CASES):
            raise BenchError(f"{pattern}: no such case; there are {', '.join(case.name for case in CASES)}")
    return [case for case in CASES if any(fnmatchcase(case.name, pattern) for pattern in patterns)]
