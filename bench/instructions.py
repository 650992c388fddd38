"""Counts the instructions of a runtime's own process with valgrind's callgrind: unlike times, they repeat exactly.

What the process spawns is not counted, nor what the kernel does. Valgrind has no clone3(2) and runs some programs not
at all: what fails in it has a reason in the place of its number.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cases import Case
from bench.measure import Measurement
from bench.runtimes import Runtime
from bench.spawner import ENVIRONMENT
from bench.tables import NOTHING, align

# Those of one command each.
COUNTED = ("version", "run", "exec", "state", "kill")
TIMEOUT_SECONDS = 120.0
# The signals by which Go interrupts its threads are too many for callgrind, which then fails an assertion.
FOR_GO = {"GODEBUG": "asyncpreemptoff=1"}
_COLLECTED = re.compile(r"Collected : (\d+)")
_VALGRINDS_OWN = re.compile(r"==\d+==")


@dataclass(frozen=True, slots=True)
class Count:
    """The instructions, or why there is no number."""

    instructions: int | None
    reason: str = ""


def why_no_counts() -> str | None:
    """The reason why nothing can be counted here, or None."""
    return None if shutil.which("valgrind") else "needs valgrind"


def parse_count(code: int, log: str) -> Count:
    """Of valgrind's log, into which the program writes its errors too."""
    found = _COLLECTED.search(log)
    if code == 0 and found:
        return Count(int(found[1]))
    lines = [line.strip() for line in log.splitlines() if line.strip() and not _VALGRINDS_OWN.match(line)]
    # Where valgrind itself gives up it says so first, and many lines follow.
    own = [line for line in lines if line.startswith(("valgrind: ", "Callgrind: "))]
    return Count(None, (own[:1] or lines[-1:] or [f"exit code {code}"])[0])


def count(argv: Sequence[str]) -> Count:
    """Runs a command in valgrind."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=no"]
    # A file: a container that outlives its command would keep a pipe open.
    with tempfile.TemporaryFile() as log:
        try:
            result = subprocess.run(
                [*valgrind, *argv],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=ENVIRONMENT | FOR_GO,
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Count(None, f"not over after {TIMEOUT_SECONDS:.0f} s")
        log.seek(0)
        return parse_count(result.returncode, log.read().decode(errors="backslashreplace"))


def count_all(measurement: Measurement, cases: Sequence[Case]) -> str:
    """A table of the cases that are one command, once each; the runtimes are warm from the measurement before."""
    runtimes = measurement.runtimes
    rows = [["instructions of the process alone", *(runtime.name for runtime in runtimes)]]
    reasons: dict[str, list[str]] = {}
    for case in (one for one in cases if one.name in COUNTED):
        counts = [count(_argv(measurement, case, runtime)) for runtime in runtimes]
        rows.append([case.title, *(_show(one) for one in counts)])
        for runtime, one in zip(runtimes, counts, strict=True):
            if one.reason:
                reasons.setdefault(f"{runtime.name}: {one.reason}", []).append(case.name)
    lines = [f"{reason} (in {', '.join(names)})" for reason, names in reasons.items()]
    return "\n".join([*align(rows), *([""] if lines else []), *lines]) + "\n"


def _argv(measurement: Measurement, case: Case, runtime: Runtime) -> Sequence[str]:
    return case.steps(measurement.sample(runtime))[0][0]


def _show(one: Count) -> str:
    return NOTHING if one.instructions is None else f"{one.instructions / 1e6:.2f} M"
