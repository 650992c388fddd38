"""Reads the Test Anything Protocol (versions 12 to 14) as real programs write it.

Guarantees: never raises on any text, counts a test point once, takes no indented line (a subtest's or a YAML block's)
for a test point of the program's own, and knows a run that is incomplete (bail-out, fewer points than planned) from one
that passed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_POINT = re.compile(r"(?P<not>not )?ok\b(?:[ \t]+(?P<number>[0-9]{1,9}))?(?:[ \t]+-)?[ \t]*(?P<text>.*)")
_PLAN = re.compile(r"1\.\.(?P<last>[0-9]{1,9})[ \t]*(?:#[ \t]*(?P<directive>.*))?$")
_DIRECTIVE = re.compile(r"(?<!\\)#[ \t]*(?P<kind>skip|todo)(?P<rest>.*)", re.IGNORECASE)
_SKIP_ALL = re.compile(r"skip\S*[ \t]*(?P<reason>.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Point:
    """One test point. `number` is the one written, or the position where none is."""

    ok: bool
    number: int
    description: str
    skip: str | None = None
    todo: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure: a todo's doesn't."""
        return not self.ok and self.todo is None


@dataclass(slots=True)
class Result:
    """What a program's output says. `garbage` are the lines that are neither TAP nor diagnostics."""

    points: list[Point] = field(default_factory=list)
    planned: int | None = None
    skip_all: str | None = None
    bail_out: str | None = None
    diagnostics: list[str] = field(default_factory=list)
    garbage: list[str] = field(default_factory=list)

    @property
    def ok(self) -> int:
        """Points that passed, the skipped ones included."""
        return sum(point.ok for point in self.points)

    @property
    def not_ok(self) -> int:
        return sum(point.failed for point in self.points)

    @property
    def skipped(self) -> int:
        return sum(point.skip is not None for point in self.points)

    @property
    def todo(self) -> int:
        return sum(point.todo is not None and not point.ok for point in self.points)

    @property
    def problem(self) -> str | None:
        """Why the run is incomplete, or None. A run without a plan is taken for complete: `prove` can't know either."""
        if self.bail_out is not None:
            return f"bailed out: {self.bail_out}".rstrip(": ")
        if self.planned is not None and self.planned != len(self.points):
            return f"planned {self.planned}, ran {len(self.points)}"
        return None


def parse(text: str) -> Result:
    """Reads one program's output."""
    result = Result()
    in_yaml = False
    for line in text.splitlines():
        if in_yaml:
            in_yaml = line.strip() != "..."
        elif line.strip() == "---" and line[:1].isspace():
            in_yaml = True
        elif line.strip() and not line[0].isspace():
            _parse_line(line.rstrip(), result)
    return result


def _parse_line(line: str, result: Result) -> None:
    """Takes one line that isn't indented."""
    if line.startswith("#"):
        result.diagnostics.append(line[1:].strip())
    elif line.startswith("Bail out!"):
        result.bail_out = line.removeprefix("Bail out!").strip()
    elif match := _PLAN.match(line):
        result.planned = int(match["last"])
        if match["directive"] and (skip := _SKIP_ALL.match(match["directive"])):
            result.skip_all = skip["reason"].strip()
    elif match := _POINT.match(line):
        result.points.append(_point(match, len(result.points) + 1))
    elif not re.match(r"TAP version [0-9]+$|pragma [+-]", line):
        result.garbage.append(line)


def _point(match: re.Match[str], position: int) -> Point:
    text = match["text"]
    directive = _DIRECTIVE.search(text)
    notes: dict[str, str | None] = {"skip": None, "todo": None}
    if directive:
        # "# SKIPPED: reason" and "# skip reason" alike; the kind's own ending is no part of the reason.
        notes[directive["kind"].lower()] = re.sub(r"^\w*:?[ \t]*", "", directive["rest"]).strip()
        text = text[: directive.start()]
    number = int(match["number"]) if match["number"] else position
    return Point(match["not"] is None, number, text.strip(), notes["skip"], notes["todo"])
