"""The table for the terminal, and the one for the README."""

from __future__ import annotations

import pytest

from bench.results import Results
from bench.tables import align, format_bytes, format_seconds, markdown_table, terminal_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000612, "0.61 ms"),
        (0.009996, "10.0 ms"),
        (0.0246, "24.6 ms"),
        (0.09996, "100 ms"),
        (0.1234, "123 ms"),
        (1.2, "1200 ms"),
        (12.34, "12.3 s"),
    ],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(None, "-"), (94_208, "94 KB"), (8_600_000, "8.6 MB")])
def test_sizes_are_in_decimal_units(count: int | None, text: str) -> None:
    assert format_bytes(count) == text


def test_columns_are_aligned() -> None:
    assert align([["", "is"], ["long", "1"], ["x", "100"]]) == ["       is", "long    1", "x     100"]


def test_the_terminal_sees_everything(results: Results) -> None:
    text = terminal_table(results)
    row = next(line for line in text.splitlines() if line.split()[:1] == ["ocirt"] and " ms " in line)
    assert row.split() == "ocirt 4.00 ms 3.80 to 4.20 3.60 ms 0.20 0.20 to 0.20 5.0 MB".split()
    for words in ("Linux 6.18", "load 0.1", "ocirt 0.1.0: /dist/ocirt (<a note & more>)", "94 KB", "14.0 MB"):
        assert words in text


def test_the_terminal_sees_notes(results: Results) -> None:
    results.fail("run", [], "ocirt", "it broke")
    assert terminal_table(results).endswith("\n\nrun is left out for ocirt: it broke\n")


def test_markdown_has_one_row_for_each_case(results: Results) -> None:
    rows = [line for line in markdown_table(results).splitlines() if line.startswith("|")]
    assert rows[0] == "|  | runc 1.1.5 | ocirt 0.1.0 |"
    assert "| the run | 20.0 ms | 4.00 ms (**0.20**, 0.20 to 0.20) |" in rows
    assert "| peak memory of `run` | 5.0 MB | 5.0 MB |" in rows
    assert {row.count("|") for row in rows} == {4}


def test_what_was_not_measured_has_a_dash(results: Results) -> None:
    results.fail("exec", [], "ocirt", "it broke")
    assert "| the exec | 20.0 ms | - |" in markdown_table(results)
