"""What ocirt's figures must not exceed, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.results import Results
from bench.tables import NOTHING, align, format_bytes

JUDGED, REFERENCE = "ocirt", "runc"


@dataclass(frozen=True, slots=True)
class Limit:
    """`measure` gives the figure, or None where it was not measured. `cases` are those that it needs."""

    title: str
    cases: tuple[str, ...]
    at_most: float
    measure: Callable[[Results], float | None]
    show: Callable[[float], str] = "{:.2f}".format


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one limit came to. What was not measured is missed, unless a case that it needs was not asked for."""

    limit: Limit
    value: float | None
    asked: bool

    @property
    def word(self) -> str:
        if not self.asked:
            return "not asked for"
        if self.value is None:
            return "NOT MEASURED"
        return "met" if self.value <= self.limit.at_most else "MISSED"

    @property
    def is_missed(self) -> bool:
        return self.word.isupper()


def _to_baseline(case: str) -> Callable[[Results], float | None]:
    return lambda results: _of_medians(results, (case, JUDGED), (case, REFERENCE))


def _to_run(case: str) -> Callable[[Results], float | None]:
    return lambda results: _of_medians(results, (case, JUDGED), ("run", JUDGED))


def _of_medians(results: Results, one: tuple[str, str], other: tuple[str, str]) -> float | None:
    ratio = results.ratio_between(one, other)
    return ratio.of_medians if ratio else None


def _peak_of_run(results: Results) -> float | None:
    series = results.cases.get("run", {}).get(JUDGED)
    return series.peak_bytes if series else None


def _size(results: Results) -> float | None:
    return next((one.size_bytes for one in results.subjects if one.name == JUDGED), None)


def _bytes(value: float) -> str:
    return format_bytes(int(value))


LIMITS = (
    Limit("run, to runc's", ("run",), 0.25, _to_baseline("run")),
    Limit("create + start + delete -f, to runc's", ("lifecycle",), 0.32, _to_baseline("lifecycle")),
    Limit("exec, to runc's", ("exec",), 0.20, _to_baseline("exec")),
    Limit("--version, to runc's", ("version",), 0.60, _to_baseline("version")),
    Limit("run with a profile as Docker's, to that without", ("run", "seccomp"), 1.15, _to_run("seccomp")),
    Limit("PSS of a created container's init", (), 200_000, lambda results: results.pss_bytes.get(JUDGED), _bytes),
    Limit("peak memory of run", ("run",), 8_000_000, _peak_of_run, _bytes),
    Limit("size of the binary", (), 20_000_000, _size, _bytes),
)


def judge(results: Results, asked: Sequence[str]) -> list[Verdict]:
    """Every limit's verdict, where the cases that `asked` names were to be measured."""
    return [Verdict(one, one.measure(results), set(one.cases) <= set(asked)) for one in LIMITS]


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    rows = [[JUDGED, "at most", "is", ""]]
    for verdict in verdicts:
        show = verdict.limit.show
        is_value = NOTHING if verdict.value is None else show(verdict.value)
        rows.append([verdict.limit.title, show(verdict.limit.at_most), is_value, verdict.word])
    return "\n".join(align(rows)) + "\n"
