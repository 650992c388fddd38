"""Results with known figures."""

from __future__ import annotations

import pytest

from bench.results import Results, Subject
from bench.spawner import Outcome


def outcome(msec: float, peak_bytes: int = 5_000_000) -> Outcome:
    return Outcome(1_000_000, 1_000_000 + int(msec * 1e6), peak_bytes, 0)


def add(results: Results, case: str, runtime: str, *times_msec: float) -> None:
    for time_msec in times_msec:
        results.series(case, f"the {case}", runtime).add([outcome(time_msec)])


@pytest.fixture
def results() -> Results:
    """runc takes 20 ms for everything, ocirt 4: all limits are met."""
    subjects = [
        Subject("runc", "/usr/sbin/runc", "1.1.5", 8_800_000),
        Subject("ocirt", "/dist/ocirt", "0.1.0", 14_000_000, note="<a note & more>"),
    ]
    found = Results(subjects, "runc", machine={"kernel": "Linux 6.18", "processors": "2", "load": "0.1"})
    for case in ("version", "run", "lifecycle", "exec", "seccomp"):
        add(found, case, "runc", 20, 22, 18)
        add(found, case, "ocirt", 4, 4.4, 3.6)
    found.pss_bytes = {"runc": 8_600_000, "ocirt": 94_000}
    return found
