"""Runs the tests of the requirements with one runtime after the other, and writes the report."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requirements
import suite
from conformance import outcome, page
from conformance.mutations import MUTATIONS
from conformance.runtimes import resolve

TESTS = Path(__file__).parent.parent / "tests"
PROJECT = TESTS.parent.parent


def run(runtimes: Sequence[str], output: Path, jobs: int, expression: str) -> int:
    """Runs all tests, or those that an expression of pytest's -k selects. 1 where the first runtime fails a MUST.

    Raises ValueError where a runtime is not there.
    """
    catalogue = outcome.commented(requirements.load())
    runs = []
    for text in runtimes:
        runtime = resolve(text)
        print(f"{runtime.name}: {' '.join(runtime.command)}", file=sys.stderr, flush=True)
        runs.append(_run_one(text, runtime, jobs, expression))
    machine = f"Linux {platform.release()} on {platform.machine()}"
    output.mkdir(parents=True, exist_ok=True)
    report = outcome.as_json(catalogue, runs, machine, {"caught": 0, "of": 0})
    (output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    _write(catalogue, runs, machine, output)
    for run_ in runs:
        for strength, found in outcome.counts(catalogue, run_).items():
            print(f"{run_.name:10} {strength:7}", " ".join(f"{name}={count}" for name, count in found.items()))
    missing = [r.id for r in catalogue.requirements if runs[0].of(r)["outcome"] == "no_test"]
    if not expression:
        print(f"no test yet: {len(missing)}", *missing, sep="\n  ")
    return int(outcome.counts(catalogue, runs[0])["MUST"]["failed"] > 0)


def render(output: Path) -> int:
    """Writes the reports for people anew, from report.json and the data of now. Raises OSError, ValueError."""
    report = json.loads((output / "report.json").read_text())
    runs = [
        outcome.Run(name, called["command"], called["version"], report["results"][name])
        for name, called in report["called"].items()
    ]
    _write(outcome.commented(requirements.load()), runs, report["machine"], output)
    return 0


def _write(catalogue: requirements.Catalogue, runs: Sequence[outcome.Run], machine: str, output: Path) -> None:
    (output / "report.md").write_text(outcome.as_markdown(catalogue, runs, machine))
    (output / "report.html").write_text(page.render(catalogue, runs, machine))


def mutate(output: Path, jobs: int) -> int:
    """Runs the mutations of report.json's first runtime, and adds their count. 1 where fewer than 95 % are caught.

    A mutation whose requirements the runtime does not pass by itself, or the machine cannot show, is left out.
    Raises OSError, ValueError.
    """
    report = json.loads((output / "report.json").read_text())
    name, results = next(iter(report["results"].items()))
    targets = {r.id: r for r in requirements.load().requirements}
    chosen = {
        mutation: [targets[i] for i in one.requirements]
        for mutation, one in MUTATIONS.items()
        if all(results.get(i, {}).get("outcome") == "passed" for i in one.requirements)
    }
    program, *rest = shlex.split(report["called"][name]["command"])
    command = shlex.join([str(PROJECT / program), *rest])
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda mutation: _is_caught(mutation, command, chosen[mutation]), chosen)
        caught = dict(zip(chosen, found, strict=True))
    missed = sorted(mutation for mutation, seen in caught.items() if not seen)
    left_out = sorted(MUTATIONS.keys() - chosen.keys())
    report["mutations"] = {"caught": sum(caught.values()), "of": len(caught), "missed": missed, "left_out": left_out}
    (output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"mutations: {sum(caught.values())} of {len(caught)} caught; missed: {missed}; left out: {left_out}")
    return int(sum(caught.values()) < 0.95 * len(caught))


def _is_caught(mutation: str, command: str, targets: Sequence[requirements.Requirement]) -> bool:
    """Whether one of the requirements fails with the mutated runtime."""
    ids = []
    for target in targets:
        module, _, function = target.checked_by.partition("::")
        ids.append(f"{TESTS}/test_{module}.py::{function}[{target.id}]")
    words = shlex.join([sys.executable, str(TESTS.parent / "mutant.py"), mutation])
    found = _pytest(f"mutant={words} {command}", *ids, quiet=True)
    return any(result["outcome"] == "failed" for result in found.values())


def _run_one(text: str, runtime: suite.Runtime, jobs: int, expression: str) -> outcome.Run:
    arguments = ["-n", str(jobs), "--dist", "worksteal"] if jobs > 1 else []
    arguments += ["-k", expression] if expression else []
    found = _pytest(text, *arguments, str(TESTS))
    return outcome.Run(runtime.name, _without_project(runtime.command), _version(runtime), found)


def _pytest(runtime: str, *arguments: str, quiet: bool = False) -> dict[str, Any]:
    """Runs tests with a runtime; the results by requirement."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, "-m", "pytest", "-p", "conformance.plugin", "-p", "no:cacheprovider", "-q"]
        command += ["--no-header", "-r", "f", "--tb", "line", "--runtime", runtime, "--results", str(results)]
        output = subprocess.DEVNULL if quiet else sys.stdout
        subprocess.run([*command, *arguments], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, check=False)
        found: dict[str, Any] = json.loads(results.read_text())
    return found


def _without_project(command: Sequence[str]) -> str:
    """A command line as it is from the project's folder."""
    return shlex.join([command[0].removeprefix(f"{PROJECT}/"), *command[1:]])


def _version(runtime: suite.Runtime) -> str:
    """The first line of what the runtime says of itself."""
    command = [*runtime.command, "--version"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (result.stdout.splitlines() or ["unknown"])[0]


def is_possible() -> str | None:
    """Why the tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "the tests need root"
    try:
        import pytest  # noqa: F401 - only whether it is there
    except ImportError:
        return "the tests need pytest: run them with the project's .venv/bin/python"
    return None
