"""One pytest session: cases with one runtime, and their results by requirement."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from requirements import Requirement

TESTS = Path(__file__).parent.parent / "tests"
PROJECT = TESTS.parent.parent

Results = dict[str, dict[str, Any]]


def case(requirement: Requirement) -> str:
    """The case of a requirement, as pytest names it."""
    module, _, function = requirement.checked_by.partition("::")
    return f"{TESTS}/test_{module}.py::{function}[{requirement.id}]"


def run(
    runtime: str,
    cases: Sequence[str] = (str(TESTS),),
    *,
    jobs: int = 1,
    expression: str = "",
    mutations: Mapping[str, str] | None = None,
) -> Results:
    """Runs cases with a runtime, `jobs` of them at once; an expression of pytest's -k chooses among them.

    With `mutations`, what is wrong with the runtime by the requirement's id, failures are expected, and not printed.
    """
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, "-m", "pytest", "-p", "conformance.plugin", "-p", "no:cacheprovider", "-q"]
        command += ["--no-header", "-r", "f", "--tb", "line", "--runtime", runtime, "--results", str(results)]
        command += ["-n", str(jobs), "--dist", "worksteal"] if jobs > 1 else []
        command += ["-k", expression] if expression else []
        if mutations is not None:
            (Path(folder) / "mutations.json").write_text(json.dumps(mutations))
            command += ["--mutations", f"{folder}/mutations.json"]
        output = sys.stdout if mutations is None else subprocess.DEVNULL
        subprocess.run([*command, *cases], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, check=False)
        found: Results = json.loads(results.read_text())
    return found
