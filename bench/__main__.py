"""`python -m bench`: measures OCI runtimes side by side. README.md in this folder says what the figures mean."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cases import CASES, choose_cases
from bench.instructions import count_all, why_no_counts
from bench.limits import judge, verdict_table
from bench.measure import prepare
from bench.plot import draw
from bench.results import Results, probe_machine
from bench.runtimes import default_runtimes, parse_runtime
from bench.session import session
from bench.spawner import BenchError
from bench.tables import markdown_table, terminal_table

RESULTS = Path(__file__).parent / "results"
EXIT_OK, EXIT_MISSED, EXIT_ERROR, EXIT_LEFT_BEHIND, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def make_parser() -> argparse.ArgumentParser:
    names = ", ".join(case.name for case in CASES)
    parser = argparse.ArgumentParser(prog="bench", description="Measure OCI runtimes side by side. Needs root.")
    add = parser.add_argument
    add("--runtime", action="append", metavar="NAME=COMMAND", help="instead of runc, crun and ocirt; may be repeated")
    add("--baseline", default="runc", metavar="NAME", help="to whose times the others' are put in ratio (runc)")
    add("--rounds", type=_positive, default=30, metavar="N", help="samples of each case (30)")
    add("--warm-up", type=_positive, default=2, metavar="N", help="rounds before, which are dropped (2)")
    add("--only", action="append", metavar="CASE", help=f"shell patterns of {names}; may be repeated")
    add("--json", type=Path, metavar="FILE", help="write every sample there")
    add("--write", action="store_true", help=f"write table, plot and samples to {RESULTS.parent.name}/{RESULTS.name}")
    add("--check", action="store_true", help="compare ocirt's figures with their limits; exit 1 if one is missed")
    add("--callgrind", action="store_true", help="also count instructions, with valgrind")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def measure(options: argparse.Namespace, left_behind: list[str]) -> tuple[Results, str]:
    """The results, and the table of instruction counts if it was asked for. Raises BenchError."""
    cases = choose_cases(options.only or ["*"])
    machine = probe_machine()
    runtimes, missing = default_runtimes(os.environ)
    if options.runtime:
        runtimes, missing = [parse_runtime(text) for text in options.runtime], []
    with session(left_behind) as place:
        measurement = prepare(place, runtimes, options.baseline)
        measurement.results.machine = machine
        measurement.results.notes += missing
        measurement.take(cases, options.rounds, options.warm_up)
        counts = ""
        if options.callgrind:
            reason = why_no_counts()
            counts = f"instructions are not counted: {reason}\n" if reason else count_all(measurement, cases)
    return measurement.results, counts


def write_results(results: Results) -> None:
    """What the README shows, and the samples that it is made of."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "table.md").write_text(markdown_table(results))
    (RESULTS / "plot.svg").write_text(draw(results, [case.name for case in CASES]))
    write_json(results, RESULTS / "samples.json")


def write_json(results: Results, path: Path) -> None:
    path.write_text(json.dumps(results.to_json(), indent=1) + "\n")


def report(options: argparse.Namespace, results: Results, counts: str) -> int:
    """Prints and writes what was asked for; the exit code."""
    print(terminal_table(results))
    if counts:
        print(counts)
    if options.json:
        write_json(results, options.json)
    if options.write:
        write_results(results)
    if not options.check:
        return EXIT_OK
    verdicts = judge(results, [case.name for case in choose_cases(options.only or ["*"])])
    print(verdict_table(verdicts))
    return EXIT_MISSED if any(verdict.is_missed for verdict in verdicts) else EXIT_OK


def main(arguments: Sequence[str]) -> int:
    options = make_parser().parse_args(arguments)
    left_behind: list[str] = []
    try:
        code = report(options, *measure(options, left_behind))
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        code = EXIT_ERROR
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    for line in left_behind:
        print(f"bench: left behind: {line}", file=sys.stderr)
    return EXIT_LEFT_BEHIND if left_behind else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
