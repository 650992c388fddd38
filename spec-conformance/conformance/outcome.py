"""The requirements and what became of them with each runtime: counted, as JSON and as Markdown."""

from __future__ import annotations

import fnmatch
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from requirements import Catalogue, Requirement

COMPARISON = Path(__file__).parent.parent / "comparison.toml"
OUTCOMES = ("passed", "failed", "not_testable", "no_test")
STRENGTHS = ("MUST", "SHOULD", "MAY", "STATED")
SPECIFICATION = "https://github.com/opencontainers/runtime-spec/blob/v1.3.0/"
# That a configuration without a required property is refused rests on "valid values", and is told apart.
INFERRED = "presence::test_refused_without"


@dataclass(frozen=True, slots=True)
class Run:
    """One runtime's results: by the requirement's id, as conformance.results writes them."""

    name: str
    command: str
    version: str
    results: Mapping[str, Mapping[str, Any]]

    def of(self, requirement: Requirement) -> Mapping[str, Any]:
        if requirement.test == "none":
            return {"outcome": "untestable", "reason": requirement.reason}
        return self.results.get(requirement.id, {"outcome": "no_test", "reason": requirement.checked_by})


def remarks() -> list[tuple[str, str]]:
    """What there is to say about requirements when runtimes are compared: a glob of ids, and the remark."""
    entries = tomllib.loads(COMPARISON.read_text())["remark"]
    return [(glob, entry["reason"]) for entry in entries for glob in entry["ids"]]


def commented(catalogue: Catalogue) -> Catalogue:
    """The requirements with the remarks in their notes."""
    known = remarks()

    def comment(requirement: Requirement) -> Requirement:
        found = [text for glob, text in known if fnmatch.fnmatchcase(requirement.id, glob)]
        return replace(requirement, note=" ".join(filter(None, [requirement.note, *found])))

    return replace(catalogue, requirements=[comment(requirement) for requirement in catalogue.requirements])


def counts(catalogue: Catalogue, run: Run) -> dict[str, dict[str, int]]:
    """By strength, how many of the requirements that have a test had which outcome."""
    found = {strength: dict.fromkeys(OUTCOMES, 0) for strength in STRENGTHS}
    for requirement in catalogue.requirements:
        if requirement.test != "none":
            found[catalogue.strength(requirement)][run.of(requirement)["outcome"]] += 1
    return found


def as_json(catalogue: Catalogue, runs: Sequence[Run], machine: str, mutations: Mapping[str, int]) -> dict[str, Any]:
    """The whole report for programs."""
    strengths = Counter(catalogue.strength(r) for r in catalogue.requirements)
    untestable = Counter(catalogue.strength(r) for r in catalogue.requirements if r.test == "none")
    return {
        "requirements": len(catalogue.requirements),
        "strengths": {name: {"all": strengths[name], "untestable": untestable[name]} for name in STRENGTHS},
        "machine": machine,
        "runtimes": {run.name: counts(catalogue, run) for run in runs},
        "called": {run.name: {"command": run.command, "version": run.version} for run in runs},
        "mutations": dict(mutations),
        "results": {run.name: {r.id: dict(run.of(r)) for r in catalogue.requirements} for run in runs},
    }


def as_markdown(catalogue: Catalogue, runs: Sequence[Run], machine: str) -> str:
    """The report for people: the counts, then what failed, with what was expected and seen, then what has no answer."""
    lines = ["# Conformance to the OCI runtime specification 1.3", ""]
    lines += [f"{len(catalogue.requirements)} requirements for Linux; {machine}.", ""]
    lines += [f"- {run.name}: `{run.command}`, {run.version}" for run in runs]
    lines += ["", *_table_of_counts(catalogue, runs), ""]
    untested = sum(r.test == "none" for r in catalogue.requirements)
    lines += [
        f"Beside these, {untested} requirements cannot be tested from outside: each has its reason in the data.",
        "",
    ]
    lines.append(
        "*Of these inferred* are failures to refuse a configuration that lacks a required property: the text says in"
        " general that invalid values are refused, and not of each property."
    )
    lines.append("")
    for run in runs:
        lines += _failures(catalogue, run, runs)
    for run in runs:
        lines += _not_testable(catalogue, run)
    missing = [r for r in catalogue.requirements if any(run.of(r)["outcome"] == "no_test" for run in runs)]
    lines += ["## No test yet", "", *([f"- `{r.id}` ({r.checked_by})" for r in missing] or ["None."]), ""]
    return "\n".join(lines)


def _table_of_counts(catalogue: Catalogue, runs: Sequence[Run]) -> list[str]:
    rows = ["| runtime | strength | passed | failed | not testable here | no test yet | of these inferred |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|")
    for run in runs:
        for strength, found in counts(catalogue, run).items():
            inferred = sum(
                r.checked_by == INFERRED and catalogue.strength(r) == strength and run.of(r)["outcome"] == "failed"
                for r in catalogue.requirements
            )
            cells = [run.name, strength, *(str(found[outcome]) for outcome in OUTCOMES), str(inferred)]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _failures(catalogue: Catalogue, run: Run, runs: Sequence[Run]) -> list[str]:
    failed = [r for r in catalogue.requirements if run.of(r)["outcome"] == "failed"]
    lines = [f"## What {run.name} fails", ""]
    for strength in STRENGTHS:
        for requirement in failed:
            if catalogue.strength(requirement) != strength:
                continue
            result = run.of(requirement)
            others = [o.name for o in runs if o is not run and o.of(requirement)["outcome"] == "failed"]
            lines.append(f"- **{strength}** [`{requirement.id}`]({SPECIFICATION}{requirement.section}): "
                         f"{requirement.summary}  ")  # fmt: skip
            lines.append(f"  expected {_line(result['expected'])}  ")
            lines.append(f"  seen {_line(result['seen'])}" + (f"  \n  also {', '.join(others)}" if others else ""))
            if requirement.note:
                lines.append(f"  note: {requirement.note}")
    return [*lines, *([] if failed else ["Nothing."]), ""]


def _not_testable(catalogue: Catalogue, run: Run) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for requirement in catalogue.requirements:
        result = run.of(requirement)
        if result["outcome"] == "not_testable":
            reasons.setdefault(str(result["reason"]), []).append(requirement.id)
    lines = [f"## What this machine cannot show of {run.name}", ""]
    lines += [f"- {_line(reason)}: {len(ids)}" for reason, ids in sorted(reasons.items(), key=lambda i: -len(i[1]))]
    return [*lines, *([] if reasons else ["Nothing."]), ""]


def _line(text: str) -> str:
    """One line of text that Markdown leaves as it is."""
    return "`" + " ".join(str(text).replace("`", "'").split())[:400] + "`"
