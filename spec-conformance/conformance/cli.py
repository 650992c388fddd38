"""Runs the tests of the requirements with one runtime after the other, and writes the report."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requirements
from conformance import outcome, page, session, vm
from conformance.mutations import MUTATIONS, derived
from conformance.runtimes import command_line, machine, resolve, version

# The share of the mutations that must be caught.
CAUGHT_AT_LEAST = 0.95


def run(
    runtimes: Sequence[str], output: Path, jobs: int, expression: str, *, in_vm: bool = False, mutated: bool = False
) -> int:
    """Runs all tests, or those that an expression of pytest's -k selects; what cannot be shown here `in_vm`.

    1 where the first runtime fails a MUST that is no known deviation of it, or with `mutated` where too few mutations
    are noticed, or the machine fails. Raises ValueError where a runtime is not there.
    """
    report = outcome.Report(machine=machine())
    reason = vm.why_not() if in_vm else None
    if reason:
        print(f"not run in the tests' machine: {reason}", file=sys.stderr, flush=True)
    may_show = {r.id for r in requirements.load().requirements if vm.may_show(r)}
    # One at a time: it waits as often as it works, and so do the tests here.
    with ThreadPoolExecutor(1) as machines:
        there = []
        for text in runtimes:
            runtime = resolve(text)
            print(f"{runtime.name}: {' '.join(runtime.command)}", file=sys.stderr, flush=True)
            found = session.run(text, jobs=jobs, expression=expression)
            report.runs.append(outcome.Run(runtime.name, command_line(runtime), version(runtime), found))
            ids = [name for name in report.runs[-1].ids_with("not_testable") if name in may_show]
            if in_vm and not reason and ids:
                there.append((report.runs[-1], machines.submit(vm.run, text, ids)))
        if mutated:
            report.mutations = mutations(report.runs[0], jobs)
        failed = False
        for run_, pending in there:
            try:
                answer = pending.result()
            except ValueError as error:
                # What was found out here is worth a report all the same.
                print(error, file=sys.stderr, flush=True)
                failed = True
            else:
                report.add_vm(run_, answer["machine"], answer["command"], vm.merged(run_.results, answer["results"]))
    write(report, output)
    return summarize(report) or int(failed)


def read(output: Path) -> outcome.Report:
    """What report.json has. Raises OSError, ValueError."""
    return outcome.Report.of_json(json.loads((output / "report.json").read_text()))


def write(report: outcome.Report, output: Path) -> None:
    """The report for programs and for people."""
    output.mkdir(parents=True, exist_ok=True)
    catalogue = outcome.commented(requirements.load())
    (output / "report.json").write_text(json.dumps(report.as_json(catalogue), indent=1) + "\n")
    (output / "report.md").write_text(outcome.as_markdown(catalogue, report))
    (output / "report.html").write_text(page.render(catalogue, report))
    (output / "badge.svg").write_text(outcome.badge(catalogue, report.runs[0]))


def render(output: Path) -> int:
    """Writes the reports anew, from report.json and the data of now. Raises OSError, ValueError."""
    report = read(output)
    write(report, output)
    return summarize(report)


def summarize(report: outcome.Report) -> int:
    """Prints the counts. 1 where the first runtime fails a MUST that it does not deviate from on purpose."""
    catalogue = outcome.commented(requirements.load())
    first = report.runs[0]
    print(outcome.table_by_section(catalogue, first))
    print()
    for run_ in report.runs:
        for strength, found in outcome.counts(catalogue, run_).items():
            print(f"{run_.name:10} {strength:7}", " ".join(f"{name}={count}" for name, count in found.items()))
    if report.mutations["of"]:
        print(outcome.mutations_line(report.mutations))
    missing = [r.id for r in catalogue.requirements if first.of(r)["outcome"] == "no_test"]
    print(f"no test yet: {len(missing)}", *missing[:20], sep="\n  ")
    wrong = outcome.unexpected(catalogue, first)
    for line in wrong:
        print(f"{first.name}: {line}", file=sys.stderr)
    few = report.mutations["caught"] < CAUGHT_AT_LEAST * report.mutations["of"]
    return int(bool(wrong) or few)


def mutate(output: Path, jobs: int) -> int:
    """Runs the mutations of report.json's first runtime, and adds them. 1 where too few are noticed.

    Raises OSError, ValueError.
    """
    report = read(output)
    report.mutations = mutations(report.runs[0], jobs)
    write(report, output)
    return summarize(report)


def mutations(run_: outcome.Run, jobs: int) -> dict[str, Any]:
    """How many of a runtime's mutations are noticed; `missed` are the others.

    One whose requirements the runtime does not pass by itself, or this machine cannot show, is `left_out`.
    """
    by_id = {r.id: r for r in requirements.load().requirements}
    shown = {name for name, requirement in by_id.items() if is_shown_here(run_.of(requirement))}
    wanted = mutations_of(by_id.values())
    left_out = sorted(title for title, (_, targets) in wanted.items() if not shown.issuperset(targets))
    chosen = {title: wanted[title] for title in wanted if title not in left_out}
    program, *rest = shlex.split(run_.command)
    words = [sys.executable, "-S", str(session.TESTS.parent / "mutant.py"), str(session.PROJECT / program), *rest]
    noticed = set()
    for round_ in rounds(chosen):
        names = {identity: chosen[title][0] for identity, title in round_.items()}
        cases = [session.case(by_id[identity]) for identity in names]
        found = session.run(f"mutant={shlex.join(words)}", cases, jobs=jobs, mutations=names)
        noticed |= {round_[identity] for identity, result in found.items() if result["outcome"] == "failed"}
    missed = sorted(chosen.keys() - noticed)
    return {"caught": len(noticed), "of": len(chosen), "missed": missed, "left_out": left_out}


def mutations_of(found: Iterable[requirements.Requirement]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every mutation with the requirements of which one must fail, by a title that is its alone."""
    wanted = {name: (name, one.requirements) for name, one in MUTATIONS.items()}
    for requirement in found:
        if requirement.test != "none" and (name := derived(requirement)):
            wanted[f"{name} ({requirement.id})"] = (name, (requirement.id,))
    return wanted


def rounds(chosen: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[dict[str, str]]:
    """The mutations' titles by requirement, one for each in each round."""
    by_requirement: dict[str, list[str]] = {}
    for title, (_, targets) in chosen.items():
        for identity in targets:
            by_requirement.setdefault(identity, []).append(title)
    return [
        {identity: titles[number] for identity, titles in by_requirement.items() if number < len(titles)}
        for number in range(max(map(len, by_requirement.values()), default=0))
    ]


def is_shown_here(result: Mapping[str, Any]) -> bool:
    return result["outcome"] == "passed" and result.get("where") != vm.WHERE


def is_possible() -> str | None:
    """Why the tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "the tests need root"
    try:
        import pytest  # noqa: F401 - only whether it is there
    except ImportError:
        return "the tests need pytest: run them with the project's .venv/bin/python"
    return None
