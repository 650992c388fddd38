"""The command line of `spec-conformance/run`: the tests of the requirements, or with --suite the official suite."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from pathlib import Path

import report
import suite
from conformance import cli

EPILOG = """\
DIR is a checkout of opencontainers/runtime-tools in which "make runtimetest validation-executables" was run.
A runtime is a command line, "runc" or "/usr/bin/crun --cgroup-manager=disabled", with a name of its own in front
where wanted: "mine=python -m ocirt". Exit code: 0, or 1 where the first runtime fails a MUST that comparison.toml does
not name as a deviation, or with --mutate where too few mutations are noticed; with --suite, where it did worse than the
baseline.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spec-conformance/run", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runtime", action="append", default=[], metavar="R", help="repeat it for a comparison")
    tests = parser.add_argument_group("the tests of the requirements")
    tests.add_argument("--output", type=Path, default=Path(__file__).parent, metavar="DIR", help="where reports go")
    tests.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many at once")
    tests.add_argument("-k", default="", dest="expression", metavar="EXPRESSION", help="those alone, as pytest has it")
    tests.add_argument(
        "--vm", action="store_true", help="what cannot be shown here in the tests' machine, where QEMU is"
    )
    tests.add_argument("--render", action="store_true", help="only write the reports anew, from DIR/report.json")
    tests.add_argument(
        "--mutate",
        action="store_true",
        help="then break the first runtime on purpose; without --runtime only that, with DIR/report.json's",
    )
    official = parser.add_argument_group("the official suite")
    official.add_argument("--suite", type=Path, metavar="DIR", help="run its programs instead")
    official.add_argument("--baseline", type=Path, metavar="FILE", help="a stored result, as --store writes it")
    official.add_argument("--store", type=Path, metavar="FILE", help="store the first runtime's result")
    official.add_argument("--only", action="append", default=[], metavar="GLOB", help="run these programs alone")
    official.add_argument("--skip", action="append", default=[], metavar="GLOB", help="leave these programs out")
    official.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="for one program (120)")
    official.add_argument("--json", action="store_true", help="print JSON, with what failed and the programs' stderr")
    return parser


def select(programs: list[str], only: list[str], skip: list[str]) -> list[str]:
    """The programs that any glob of `only` (empty: all) and none of `skip` matches."""

    def matches(program: str, globs: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(program, glob) for glob in globs)

    return [program for program in programs if (not only or matches(program, only)) and not matches(program, skip)]


def main(arguments: list[str]) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not (options.runtime or options.render or options.mutate):
        parser.error("name a runtime with --runtime")
    if options.suite is None:
        return run_requirements(parser, options)
    if os.geteuid() != 0:
        parser.error("the suite needs root")
    directory = options.suite.absolute()
    try:
        programs = select(suite.programs_of(directory), options.only, options.skip)
        runtimes = [suite.Runtime.of(text) for text in options.runtime]
        baseline = report.parse_stored(options.baseline.read_text()) if options.baseline else {}
    except (ValueError, OSError) as error:
        parser.error(str(error))
    outcomes = run_all(directory, programs, runtimes, options.timeout)
    print_results(outcomes, baseline, options)
    worse = report.worse_programs(_counts(outcomes[runtimes[0].name]), baseline)
    for line in worse:
        print(f"worse: {line}", file=sys.stderr)
    return 1 if worse else 0


def run_requirements(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """The tests of the requirements, with every runtime."""
    if options.render:
        return cli.render(options.output)
    if reason := cli.is_possible():
        parser.error(reason)
    try:
        if not options.runtime:
            return cli.mutate(options.output, options.jobs)
        return cli.run(
            options.runtime,
            options.output,
            options.jobs,
            options.expression,
            in_vm=options.vm,
            mutated=options.mutate,
        )
    except ValueError as error:
        parser.error(str(error))


def run_all(
    directory: Path, programs: list[str], runtimes: list[suite.Runtime], timeout_seconds: float
) -> dict[str, list[suite.Outcome]]:
    """Runs program after program, each with runtime after runtime, and says on stderr where it is."""
    suite.become_subreaper()
    outcomes: dict[str, list[suite.Outcome]] = {runtime.name: [] for runtime in runtimes}
    for number, program in enumerate(programs, 1):
        for runtime in runtimes:
            print(f"[{number}/{len(programs)}] {program} {runtime.name}", file=sys.stderr, flush=True)
            outcomes[runtime.name].append(suite.run_program(directory, program, runtime, timeout_seconds))
    return outcomes


def print_results(
    outcomes: dict[str, list[suite.Outcome]], baseline: dict[str, report.Counts], options: argparse.Namespace
) -> None:
    first = next(iter(outcomes.values()))
    if options.store:
        options.store.write_text("".join(f"{outcome.program} {report.Counts.of(outcome)}\n" for outcome in first))
    if options.json:
        print(json.dumps(report.as_json(outcomes), indent=2))
        return
    columns = {name: _counts(run) for name, run in outcomes.items()}
    if baseline:
        columns["baseline"] = {
            outcome.program: baseline[outcome.program] for outcome in first if outcome.program in baseline
        }
    remarks = {f"{name}: {o.program}": report.remarks_of(o) for name, run in outcomes.items() for o in run}
    print(report.table(columns, remarks))


def _counts(run: list[suite.Outcome]) -> dict[str, report.Counts]:
    return {outcome.program: report.Counts.of(outcome) for outcome in run}
