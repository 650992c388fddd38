"""The table of docs/engines.md: its rows are the tests' features, and its cells say what the runs' results come to."""

from __future__ import annotations

import pytest

from tests.engines import table
from tests.engines.table import Outcome


def test_the_rows_are_the_tests_features() -> None:
    expected: dict[str, set[str]] = {}
    for engine, feature in table.features():
        expected.setdefault(feature, set()).add(engine)
    _, text, _ = table.parts(table.DOCUMENT.read_text())
    assert table.rows(text) == expected, "run `make test-engines`, then `python -m tests.engines.table`"


def outcome(result: str, runtime: str = "ocirt", reason: str = "") -> Outcome:
    return {"test": "t", "engine": "e", "feature": "f", "runtime": runtime, "outcome": result, "reason": reason}


@pytest.mark.parametrize(
    ("host", "machine", "text"),
    [
        ([outcome("passed"), outcome("passed", "runc")], [], "yes"),
        ([outcome("passed"), outcome("skipped", "runc")], [], "yes; not with runc"),
        ([outcome("skipped")], [outcome("passed"), outcome("passed", "runc")], "yes, in the VM"),
        ([outcome("passed"), outcome("failed"), outcome("passed", "runc")], [], "no"),
        ([outcome("passed"), outcome("passed", "runc")], [outcome("failed")], "no"),
        ([outcome("skipped", reason="needs x")], [], "not tried: needs x"),
        ([], [], "not tried"),
    ],
)
def test_a_cell(host: list[Outcome], machine: list[Outcome], text: str) -> None:
    assert table.cell(host, machine) == text


def test_a_later_run_counts() -> None:
    assert table.merge([outcome("failed")], [outcome("passed")]) == [outcome("passed")]
