"""What a check finds, and the report of all of them, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ocirt.errors import one_line


class Verdict(Enum):
    """`LIMITED`: a part of the feature is there, or it has conditions. `MISSING`: it isn't there for this user."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; what that means for containers, and what to do about it, where it isn't as it could be.

    `blocking`: without it no container can run, not even the one that `ocirt spec` describes.
    """

    verdict: Verdict
    found: str
    means: str = ""
    hint: str = ""
    blocking: bool = False


def ok(found: str) -> Finding:
    return Finding(Verdict.OK, found)


def limited(found: str, means: str, hint: str = "") -> Finding:
    return Finding(Verdict.LIMITED, found, means, hint)


def missing(found: str, means: str, hint: str = "") -> Finding:
    return Finding(Verdict.MISSING, found, means, hint)


def blocking(found: str, hint: str = "", means: str = "no container can run") -> Finding:
    return Finding(Verdict.MISSING, found, means, hint, blocking=True)


@dataclass(frozen=True, slots=True)
class Report:
    """The findings by the names of their checks, in their order, for a user."""

    user: str
    uid: int
    findings: Sequence[tuple[str, Finding]]

    @property
    def blocked_by(self) -> list[str]:
        return [name for name, finding in self.findings if finding.blocking]

    def as_json(self) -> dict[str, object]:
        checks = [
            {
                "name": name,
                "verdict": finding.verdict.value,
                "found": finding.found,
                "means": finding.means,
                "hint": finding.hint,
                "blocking": finding.blocking,
            }
            for name, finding in self.findings
        ]
        return {"canRun": not self.blocked_by, "user": {"uid": self.uid, "name": self.user}, "checks": checks}

    def as_text(self, *, colours: bool = False) -> str:
        """A line a check, with a line below it where something can be done, and the verdict on the whole at the end."""
        width = max((len(name) for name, _ in self.findings), default=0)
        lines = []
        for name, finding in self.findings:
            told = "; ".join(text for text in (finding.found, finding.means) if text)
            lines.append(f"{_coloured_verdict(finding, colours)}  {name:<{width}}  {one_line(told)}")
            if finding.hint:
                lines.append(f"{'':9}{'':{width}}  -> {one_line(finding.hint)}")
        return "\n".join([*lines, "", *textwrap.wrap(self._summary(), 100), ""])

    def _summary(self) -> str:
        counts = {verdict: sum(finding.verdict is verdict for _, finding in self.findings) for verdict in Verdict}
        told = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items())
        if self.blocked_by:
            return f"Containers cannot run as {self.user}, for want of {', '.join(self.blocked_by)} ({told})."
        return f"Containers can run as {self.user} ({told})."


_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLUMN = max(len(verdict.value) for verdict in Verdict)


def _coloured_verdict(finding: Finding, colours: bool) -> str:
    word = f"{finding.verdict.value:<{_COLUMN}}"
    if not colours:
        return word
    colour = _GREEN if finding.verdict is Verdict.OK else _RED if finding.blocking else _YELLOW
    return f"\033[{colour}m{word}\033[0m"
