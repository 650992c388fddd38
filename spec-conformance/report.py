"""The suite's outcomes as a table, as JSON, and beside a stored result. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite import Outcome

_STORED = re.compile(r"(?P<program>\S+) rc=(?P<rc>-?[0-9]+|timeout) ok=(?P<ok>[0-9]+) notok=(?P<not_ok>[0-9]+)")


@dataclass(frozen=True, slots=True)
class Counts:
    """One cell of the table. `rc` is None where the program ran out of time."""

    rc: int | None
    ok: int
    not_ok: int

    @classmethod
    def of(cls, outcome: Outcome) -> Counts:
        return cls(outcome.rc, outcome.tap.ok, outcome.tap.not_ok)

    def __str__(self) -> str:
        return f"rc={'timeout' if self.rc is None else self.rc} ok={self.ok} notok={self.not_ok}"

    def is_worse_than(self, other: Counts) -> bool:
        """Fewer passes, more failures, or an exit code of failure where the other has none."""
        return self.ok < other.ok or self.not_ok > other.not_ok or (self.rc != 0 and other.rc == 0)


def parse_stored(text: str) -> dict[str, Counts]:
    """Reads lines of the form `PROGRAM rc=0 ok=1 notok=0`, which str(Counts) writes. Raises ValueError."""
    stored = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = _STORED.fullmatch(line)
        if match is None:
            raise ValueError(f"not a line of a stored result: {line}")
        rc = None if match["rc"] == "timeout" else int(match["rc"])
        stored[match["program"]] = Counts(rc, int(match["ok"]), int(match["not_ok"]))
    return stored


def remarks_of(outcome: Outcome) -> list[str]:
    """What the three numbers don't say."""
    result = outcome.tap
    remarks = [result.problem] if result.problem else []
    if result.skip_all is not None:
        remarks.append(f"skipped: {result.skip_all}")
    if not result.points and result.skip_all is None:
        remarks.append("no test points")
    if result.todo:
        remarks.append(f"{result.todo} todo")
    return remarks + [f"left {what}" for what in outcome.left]


def table(columns: Mapping[str, Mapping[str, Counts]], remarks: Mapping[str, Sequence[str]]) -> str:
    """A line a program and a column a runtime, then the remarks."""
    programs = sorted({program for cells in columns.values() for program in cells})
    rows = [["program", *columns]]
    rows += [[program, *(str(cells.get(program, "-")) for cells in columns.values())] for program in programs]
    totals = [
        f"ok={sum(c.ok for c in cells.values())} notok={sum(c.not_ok for c in cells.values())}"
        for cells in columns.values()
    ]
    rows.append(["total", *totals])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{program}: {'; '.join(notes)}" for program, notes in remarks.items() if notes]
    return "\n".join(lines)


def worse_programs(counts: Mapping[str, Counts], baseline: Mapping[str, Counts]) -> list[str]:
    """The programs that did worse than in the baseline, with both results."""
    return [
        f"{program}: {counts[program]}, but the baseline has {stored}"
        for program, stored in baseline.items()
        if program in counts and counts[program].is_worse_than(stored)
    ]


def as_json(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """All that was found out, for programs."""
    return {runtime: {outcome.program: _outcome_json(outcome) for outcome in run} for runtime, run in outcomes.items()}


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    result = outcome.tap
    return {
        "rc": outcome.rc,
        "ok": result.ok,
        "not_ok": result.not_ok,
        "skipped": result.skipped,
        "todo": result.todo,
        "failed": [point.description for point in result.points if point.failed],
        "remarks": remarks_of(outcome),
        "stderr": outcome.stderr,
        "seconds": round(outcome.seconds, 2),
    }
