"""What was measured, and how it becomes JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.series import Ratio, Summary
from bench.spawner import Outcome, elapsed_seconds


@dataclass(frozen=True, slots=True)
class Subject:
    """A runtime, as the results speak of it."""

    name: str
    command: str
    version: str
    size_bytes: int | None
    note: str = ""


@dataclass(slots=True)
class Series:
    """All the samples of one case with one runtime, and the most memory that a command of it had resident."""

    title: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self.seconds.append(elapsed_seconds(outcomes))
        self.peak_bytes = max(self.peak_bytes, *(outcome.peak_bytes for outcome in outcomes))


@dataclass(slots=True)
class Results:
    """Series by case and runtime. A case that failed with a runtime has none for it, and a note instead."""

    subjects: list[Subject]
    baseline: str
    notes: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)
    cases: dict[str, dict[str, Series]] = field(default_factory=dict)
    pss_bytes: dict[str, int | None] = field(default_factory=dict)
    _failed: set[tuple[str, str]] = field(default_factory=set)

    def series(self, case: str, title: str, runtime: str) -> Series:
        """The series to add to."""
        return self.cases.setdefault(case, {}).setdefault(runtime, Series(title))

    def fail(self, case: str, parts: Sequence[str], runtime: str, reason: str) -> None:
        """Drops what there is of a case and of its parts, with a note."""
        self._failed.add((case, runtime))
        for name in (case, *parts):
            self.cases.get(name, {}).pop(runtime, None)
        self.notes.append(f"{case} is left out for {runtime}: {reason}")

    def has_failed(self, case: str, runtime: str) -> bool:
        return (case, runtime) in self._failed

    def title(self, case: str) -> str:
        return next((series.title for series in self.cases[case].values()), case)

    def summary(self, case: str, runtime: str) -> Summary | None:
        """In seconds; None where nothing was measured."""
        series = self.cases.get(case, {}).get(runtime)
        return Summary.of(series.seconds) if series and series.seconds else None

    def ratio(self, case: str, runtime: str) -> Ratio | None:
        """To the baseline; None where one of the two was not measured."""
        return self.ratio_between((case, runtime), (case, self.baseline))

    def ratio_between(self, one: tuple[str, str], other: tuple[str, str]) -> Ratio | None:
        """Of two series, each named by its case and runtime."""
        samples, baseline = (self.cases.get(case, {}).get(runtime) for case, runtime in (one, other))
        if not samples or not baseline or not samples.seconds:
            return None
        return Ratio.between(samples.seconds, baseline.seconds)

    def to_json(self) -> dict[str, Any]:
        """Everything: the samples in the order of the rounds, in seconds, and their summaries."""
        return {
            "machine": self.machine,
            "baseline": self.baseline,
            "subjects": [asdict(subject) for subject in self.subjects],
            "notes": self.notes,
            "pss_bytes": self.pss_bytes,
            "cases": {
                case: {runtime: self._series_to_json(case, runtime) for runtime in by_runtime}
                for case, by_runtime in self.cases.items()
            },
        }

    def _series_to_json(self, case: str, runtime: str) -> dict[str, Any]:
        series, summary, ratio = self.cases[case][runtime], self.summary(case, runtime), self.ratio(case, runtime)
        return {
            "title": series.title.strip(),
            "seconds": series.seconds,
            "peak_bytes": series.peak_bytes,
            "summary": asdict(summary) if summary else None,
            "ratio": asdict(ratio) if ratio else None,
        }


def probe_machine() -> dict[str, str]:
    """The facts without which figures say little."""
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "processors": str(len(os.sched_getaffinity(0))),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "") if _has_os_release() else "",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _has_os_release() -> bool:
    return any(Path(path).exists() for path in ("/etc/os-release", "/usr/lib/os-release"))
