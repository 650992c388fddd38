"""Makes the table engine x feature x works in docs/engines.md from what the tests' runs have left in build/engines.

python -m tests.engines.table                    writes the table; --check: ends with 1 where it is another one
python -m tests.engines.table --record COMMAND   runs the tests elsewhere, and keeps the results that they print
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "engines.md"
RESULTS = ROOT / "build" / "engines"
BEGIN, END = "<!-- engines -->\n", "<!-- end -->"
# Before the results in a run's output, where no file of it can be had: in the virtual machine.
PREFIX = "engines-results: "
TITLES = {
    "containerd": "containerd",
    "docker": "Docker",
    "podman": "Podman",
    "podman rootless": "Podman, rootless",
    "buildah": "Buildah",
    "buildkit": "BuildKit",
}

Outcome = dict[str, str]


def features() -> list[tuple[str, str]]:
    """Every engine with every feature that a test is marked with, in the tests' order."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.engines.{path.stem}")
        for function in vars(module).values():
            for mark in marks_of(function):
                found += [(engine, mark.args[1]) for engine in mark.args[0].split(", ")]
    return list(dict.fromkeys(found))


def marks_of(function: Any) -> list[Any]:
    """A test's `feature` marks, those of its parameters included."""
    found = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "feature":
            found.append(mark)
        elif mark.name == "parametrize":
            for parameters in mark.args[1]:
                found += [inner for inner in getattr(parameters, "marks", ()) if inner.name == "feature"]
    return found


def merge(old: list[Outcome], new: list[Outcome]) -> list[Outcome]:
    """The results of the last run of each test."""
    return list({outcome["test"]: outcome for outcome in [*old, *new]}.values())


def read(place: str) -> list[Outcome]:
    """What the runs on this machine (`host`) or in the virtual one (`vm`) have left."""
    path = RESULTS / f"{place}.json"
    outcomes: list[Outcome] = json.loads(path.read_text()) if path.exists() else []
    return outcomes


def write(place: str, outcomes: list[Outcome]) -> None:
    """Adds the results of a run."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{place}.json").write_text(json.dumps(merge(read(place), outcomes), indent=1) + "\n")


def cell(host: list[Outcome], machine: list[Outcome]) -> str:
    """What the results of one feature in one engine come to."""

    def seen(outcomes: list[Outcome], runtime: str) -> set[str]:
        return {outcome["outcome"] for outcome in outcomes if outcome["runtime"] == runtime}

    here, there = seen(host, "ocirt"), seen(machine, "ocirt")
    if "failed" in here | there:
        return "no"
    if "passed" not in here | there:
        reasons = [outcome["reason"] for outcome in [*host, *machine] if outcome["runtime"] == "ocirt"]
        return f"not tried: {reasons[0]}" if reasons else "not tried"
    where = "yes" if "passed" in here else "yes, in the VM"
    return where if "passed" in seen(host, "runc") | seen(machine, "runc") else f"{where}; not with runc"


def render(host: list[Outcome], machine: list[Outcome]) -> str:
    """The table: a row a feature, a column an engine."""
    known = features()
    engines = [engine for engine in TITLES if any(engine == other for other, _ in known)]
    lines = [f"| | {' | '.join(TITLES[engine] for engine in engines)} |", f"|---|{'---|' * len(engines)}"]
    for feature in dict.fromkeys(name for _, name in known):
        cells = []
        for engine in engines:
            of_this = [
                [outcome for outcome in outcomes if (outcome["engine"], outcome["feature"]) == (engine, feature)]
                for outcomes in (host, machine)
            ]
            cells.append(cell(*of_this) if (engine, feature) in known else "")
        lines.append(f"| {feature} | {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def parts(document: str) -> tuple[str, str, str]:
    """The document before the table, the table, and the rest."""
    before, _, rest = document.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{DOCUMENT} has no place for the table")
    return before + BEGIN, table, END + after


def rows(table: str) -> dict[str, set[str]]:
    """Of each row's feature, the engines that have something in their columns."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    titles = {title: engine for engine, title in TITLES.items()}
    engines = [titles[title] for title in lines[0][1:]]
    return {line[0]: {engine for engine, text in zip(engines, line[1:], strict=True) if text} for line in lines[2:]}


def record(command: list[str]) -> int:
    """Runs a command whose output it copies, but for the results, which it keeps; returns its exit code."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(PREFIX):
                write("vm", json.loads(line.removeprefix(PREFIX)))
            else:
                sys.stdout.write(line)
                sys.stdout.flush()
    return process.returncode


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--record"]:
        return record(arguments[1:])
    before, table, after = parts(DOCUMENT.read_text())
    new = render(read("host"), read("vm"))
    if arguments == ["--check"]:
        return int(new != table)
    DOCUMENT.write_text(before + new + after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
