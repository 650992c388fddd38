"""The requirements and what became of them with each runtime: counted, as JSON and as Markdown."""

from __future__ import annotations

import fnmatch
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from requirements import Catalogue, Requirement

COMPARISON = Path(__file__).parent.parent / "comparison.toml"
OUTCOMES = ("passed", "failed", "not_testable", "no_test")
STRENGTHS = ("MUST", "SHOULD", "MAY", "STATED")
SPECIFICATION = "https://github.com/opencontainers/runtime-spec/blob/v1.3.0/"
# That a configuration without a required property is refused rests on "valid values", and is told apart.
INFERRED = "presence::test_refused_without"


@dataclass(slots=True)
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

    def ids_with(self, outcome: str) -> list[str]:
        """The requirements with that outcome."""
        return [name for name, result in self.results.items() if result["outcome"] == outcome]


@dataclass(slots=True)
class Report:
    """A whole run, of which the first runtime is what matters.

    `vm` is the tests' machine and how the runtimes were called there, None where it did not run. `mutations` are
    those of the first runtime.
    """

    machine: str
    runs: list[Run] = field(default_factory=list)
    vm: dict[str, Any] | None = None
    mutations: dict[str, Any] = field(default_factory=lambda: {"caught": 0, "of": 0, "missed": [], "left_out": []})

    @classmethod
    def of_json(cls, report: Mapping[str, Any]) -> Report:
        """What as_json() has made."""
        runs = [
            Run(name, called["command"], called["version"], report["results"][name])
            for name, called in report["called"].items()
        ]
        return cls(report["machine"], runs, report["vm"], report["mutations"])

    def add_vm(self, run: Run, machine: str, command: str, results: Mapping[str, Mapping[str, Any]]) -> None:
        """A runtime's results with those of the tests' machine, and how it was called there."""
        self.vm = self.vm or {"machine": machine, "called": {}}
        self.vm["called"][run.name] = command
        run.results = results

    def as_json(self, catalogue: Catalogue) -> dict[str, Any]:
        """The whole report for programs."""
        strengths = Counter(catalogue.strength(r) for r in catalogue.requirements)
        untestable = Counter(catalogue.strength(r) for r in catalogue.requirements if r.test == "none")
        return {
            "requirements": len(catalogue.requirements),
            "strengths": {name: {"all": strengths[name], "untestable": untestable[name]} for name in STRENGTHS},
            "machine": self.machine,
            "vm": self.vm,
            "runtimes": {run.name: counts(catalogue, run) for run in self.runs},
            "called": {run.name: {"command": run.command, "version": run.version} for run in self.runs},
            "mutations": self.mutations,
            "results": {run.name: {r.id: dict(run.of(r)) for r in catalogue.requirements} for run in self.runs},
        }


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


def deviations(name: str) -> dict[str, str]:
    """What a runtime does otherwise on purpose: the requirements, with the reason for each."""
    entries = tomllib.loads(COMPARISON.read_text()).get("deviation", [])
    return {identity: entry["reason"] for entry in entries if entry["runtime"] == name for identity in entry["ids"]}


def unexpected(catalogue: Catalogue, run: Run) -> list[str]:
    """What is not as it should be of a runtime: a MUST fails that it means to keep, or one does not that it doesn't."""
    known = deviations(run.name)
    must = {r.id: run.of(r)["outcome"] for r in catalogue.requirements if catalogue.strength(r) == "MUST"}
    failed = [name for name, outcome in must.items() if outcome == "failed" and name not in known]
    kept = [name for name in known if must[name] == "passed"]
    return [f"a MUST fails: {name}" for name in failed] + [f"no deviation any more: {name}" for name in kept]


def table_by_section(catalogue: Catalogue, run: Run) -> str:
    """A line a section: how many requirements of each strength there are, and how many of them had which outcome."""
    order = {anchor: number for number, anchor in enumerate(catalogue.digests)}
    rows: dict[str, Counter[str]] = {}
    for requirement in sorted(catalogue.requirements, key=lambda r: order.get(r.section, len(order))):
        for name in (requirement.section, "all"):
            row = rows.setdefault(name, Counter())
            row.update((catalogue.strength(requirement), str(run.of(requirement)["outcome"])))
    # "all" was met in the first section.
    rows["all"] = rows.pop("all", Counter())
    columns = [*STRENGTHS, *OUTCOMES, "untestable"]
    lines = [[f"{run.name}, by section", *(column.replace("_", " ") for column in columns)]]
    lines += [[name, *(str(row[column] or "") for column in columns)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def mutations_line(mutations: Mapping[str, Any]) -> str:
    """The share of the mutations that the tests notice."""
    caught, of = mutations["caught"], mutations["of"]
    share = f" ({100 * caught / of:.1f} %)" if of else ""
    missed = f"; not noticed: {', '.join(mutations['missed'])}" if mutations["missed"] else ""
    return f"{caught} of {of} mutations are noticed{share}{missed}"


def as_markdown(catalogue: Catalogue, report: Report) -> str:
    """The report for people: the counts, then what failed, with what was expected and seen, then what has no answer."""
    runs = report.runs
    lines = ["# Conformance to the OCI runtime specification 1.3", ""]
    lines += [f"{len(catalogue.requirements)} requirements for Linux; {report.machine}.", ""]
    lines += [f"- {run.name}: `{run.command}`, {run.version}" for run in runs]
    if report.vm:
        where = f"`tools/vm.py`: {report.vm['machine']}"
        lines += ["", f"What cannot be shown there was tried in the tests' own machine ({where}),"]
        lines += ["which has every controller in cgroup v2. The report says so: *in the VM*."]
        called = {run.command for run in runs}
        others = {name: command for name, command in report.vm["called"].items() if command not in called}
        lines += [f"There {name} is `{command}`." for name, command in others.items()]
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
    if report.mutations["of"]:
        lines += ["", f"Of {runs[0].name} with one thing wrong, {mutations_line(report.mutations)}."]
    lines.append("")
    for run in runs:
        lines += _failures(catalogue, run, runs)
    for run in runs:
        lines += _not_testable(catalogue, run)
    missing = [r for r in catalogue.requirements if any(run.of(r)["outcome"] == "no_test" for run in runs)]
    lines += ["## No test yet", "", *([f"- `{r.id}` ({r.checked_by})" for r in missing] or ["None."]), ""]
    lines += ["## By section", "", "```text", table_by_section(catalogue, runs[0]), "```", ""]
    return "\n".join(lines)


def _table_of_counts(catalogue: Catalogue, runs: Sequence[Run]) -> list[str]:
    rows = ["| runtime | strength | passed | in the VM | failed | of these inferred | not testable | no test yet |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for run in runs:
        for strength, found in counts(catalogue, run).items():
            these = [(r, run.of(r)) for r in catalogue.requirements if catalogue.strength(r) == strength]
            inferred = sum(r.checked_by == INFERRED and result["outcome"] == "failed" for r, result in these)
            in_vm = sum(result["outcome"] == "passed" and "where" in result for _, result in these)
            cells = [found["passed"], in_vm, found["failed"], inferred, found["not_testable"], found["no_test"]]
            rows.append(f"| {run.name} | {strength} | {' | '.join(map(str, cells))} |")
    return rows


def _failures(catalogue: Catalogue, run: Run, runs: Sequence[Run]) -> list[str]:
    failed = [r for r in catalogue.requirements if run.of(r)["outcome"] == "failed"]
    lines = [f"## What {run.name} fails", ""]
    known = deviations(run.name)
    for strength in STRENGTHS:
        for requirement in failed:
            if catalogue.strength(requirement) != strength:
                continue
            result = run.of(requirement)
            others = [o.name for o in runs if o is not run and o.of(requirement)["outcome"] == "failed"]
            lines.append(f"- **{strength}** [`{requirement.id}`]({SPECIFICATION}{requirement.section}): "
                         f"{requirement.summary}  ")  # fmt: skip
            lines.append(f"  expected {_line(result['expected'])}  ")
            where = " in the VM" if "where" in result else ""
            also = f"  \n  also {', '.join(others)}" if others else ""
            lines.append(f"  seen{where} {_line(result['seen'])}{also}")
            if requirement.note:
                lines.append(f"  note: {requirement.note}")
            if requirement.id in known:
                lines.append(f"  on purpose: {known[requirement.id]}")
    return [*lines, *([] if failed else ["Nothing."]), ""]


def _not_testable(catalogue: Catalogue, run: Run) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for requirement in catalogue.requirements:
        result = run.of(requirement)
        if result["outcome"] == "not_testable":
            reasons.setdefault(str(result["reason"]), []).append(requirement.id)
    lines = [f"## What cannot be shown here of {run.name}", ""]
    lines += [f"- {_line(reason)}: {len(ids)}" for reason, ids in sorted(reasons.items(), key=lambda i: -len(i[1]))]
    return [*lines, *([] if reasons else ["Nothing."]), ""]


def _line(text: str) -> str:
    """One line of text that Markdown leaves as it is."""
    return "`" + " ".join(str(text).replace("`", "'").split())[:400] + "`"


_BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {value}">
<title>{label}: {value}</title>
<rect width="{width}" height="20" rx="3" fill="#555"/>
<path d="M{left} 0h{flat}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{flat}z" fill="{color}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{label_at}" y="14" textLength="{label_length}">{label}</text>
<text x="{value_at}" y="14" textLength="{value_length}">{value}</text>
</g>
</svg>
"""
# Of a letter, which differ: textLength has the browser make up for it.
_LETTER_WIDTH = 6.5


def badge(catalogue: Catalogue, run: Run) -> str:
    """A runtime's MUSTs as an image of one line: how many it keeps of those that could be tested."""
    found = counts(catalogue, run)["MUST"]
    label = "OCI runtime 1.3, MUST"
    value = f"{found['passed']} of {found['passed'] + found['failed']}"
    lengths = [round(len(text) * _LETTER_WIDTH) for text in (label, value)]
    left, right = (length + 10 for length in lengths)
    return _BADGE.format(
        label=label,
        value=value,
        width=left + right,
        left=left,
        flat=right - 3,
        color="#a50" if unexpected(catalogue, run) else "#383",
        label_at=left / 2,
        value_at=left + right / 2,
        label_length=lengths[0],
        value_length=lengths[1],
    )
