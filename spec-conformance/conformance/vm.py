"""The tests' machine (tools/vm.py), whose results take the place of what was not testable here.

It has pure cgroup v2 with every controller, and the devices that conformance.guest makes. It is emulated, and ten times
slower: hence those cases alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.guest import PREFIX
from conformance.session import PROJECT, Results
from requirements import Requirement

TIMEOUT_SECONDS = 1200
# What a result says that comes from there.
WHERE = "vm"
# What it has that others may lack, as the requirements name their needs: without the values of controllers.
OFFERS = frozenset("apparmor block-device cgroup2 controller device-weights hugepages rdma swap".split())
RESOURCES = "/linux/resources"


def why_not() -> str | None:
    """The reason why no machine can be booted here, or None."""
    command = [sys.executable, "tools/vm.py", "--check"]
    result = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return result.stderr.strip() or f"exit code {result.returncode}" if result.returncode else None


def may_show(requirement: Requirement) -> bool:
    """Whether what was not testable here may be testable there."""
    needs = {need.partition(":")[0] for need in requirement.needs}
    return bool(needs & OFFERS) or requirement.pointer.startswith(RESOURCES)


def run(runtime: str, ids: Sequence[str]) -> dict[str, Any]:
    """Runs the cases of requirements there with a runtime. What conformance.guest found out; raises ValueError."""
    inside = ["env", "PYTHONPATH=.:spec-conformance"]
    inside += [f"OCIRT={os.environ['OCIRT']}"] if os.environ.get("OCIRT") else []
    inside += [sys.executable, "-m", "conformance.guest", runtime, *ids]
    command = [sys.executable, "tools/vm.py", "--verbose", "--timeout", str(TIMEOUT_SECONDS), "--", *inside]
    result = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    lines = [line for line in result.stdout.splitlines() if line.startswith(PREFIX)]
    if not lines:
        raise ValueError(f"the tests' machine, with {runtime}: exit code {result.returncode}\n{result.stderr[-3000:]}")
    print(result.stdout.replace(lines[-1], ""), result.stderr, sep="\n", flush=True)
    return dict(json.loads(lines[-1].removeprefix(PREFIX)))


def merged(here: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]) -> Results:
    """The results of a runtime here, with those of the machine in the place of what was not testable here."""
    results = {name: dict(result) for name, result in here.items()}
    for name, result in there.items():
        if results.get(name, {}).get("outcome") == "not_testable":
            results[name] = {**result, "where": WHERE} if result["outcome"] in ("passed", "failed") else dict(result)
    return results
