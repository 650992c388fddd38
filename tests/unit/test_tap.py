"""The TAP reader of spec-conformance: every kind of line, and runs that end early."""

from __future__ import annotations

import pytest
import tap
from hypothesis import given
from hypothesis import strategies as st


def test_counts_points() -> None:
    result = tap.parse("TAP version 13\n1..3\nok 1 - one\nnot ok 2 - two\nok 3\n")
    assert (result.ok, result.not_ok, result.planned, result.problem) == (2, 1, 3, None)
    assert [point.description for point in result.points] == ["one", "two", ""]


def test_plan_may_come_last() -> None:
    assert tap.parse("ok 1\nok 2\n1..2\n").problem is None


def test_no_plan_is_no_problem() -> None:
    assert tap.parse("ok 1\n").problem is None


@pytest.mark.parametrize("output", ["1..3\nok 1\n", "ok 1\n1..0\n", "1..1\nok 1\nok 2\n"])
def test_plan_not_kept(output: str) -> None:
    problem = tap.parse(output).problem
    assert problem is not None
    assert problem.startswith("planned ")


def test_points_without_numbers_get_their_position() -> None:
    assert [point.number for point in tap.parse("ok\nok 5 - x\nnot ok - y\n").points] == [1, 5, 3]


@pytest.mark.parametrize(
    "directive", ["# SKIP no cgroup", "# skip no cgroup", "#Skip: no cgroup", "# SKIPPED: no cgroup"]
)
def test_skip(directive: str) -> None:
    result = tap.parse(f"ok 1 - limit {directive}\n")
    assert result.points == [tap.Point(True, 1, "limit", skip="no cgroup")]
    assert (result.ok, result.skipped) == (1, 1)


def test_todo_is_no_failure() -> None:
    result = tap.parse("not ok 1 - later # TODO not yet\nok 2 # todo\n")
    assert (result.ok, result.not_ok, result.todo) == (1, 0, 1)


def test_escaped_hash_is_no_directive() -> None:
    assert tap.parse(r"not ok 1 - path \# skip").not_ok == 1


def test_whole_program_skipped() -> None:
    result = tap.parse("1..0 # SKIP wrong system\n")
    assert (result.skip_all, result.planned, result.problem) == ("wrong system", 0, None)


@pytest.mark.parametrize(
    ("line", "problem"), [("Bail out! no disk", "bailed out: no disk"), ("Bail out!", "bailed out")]
)
def test_bail_out(line: str, problem: str) -> None:
    assert tap.parse(f"1..9\nok 1\n{line}\n").problem == problem


def test_subtest_counts_once() -> None:
    output = "# Subtest: inner\n    ok 1 - a\n    not ok 2 - b\n    1..2\nnot ok 1 - inner\n1..1\n"
    assert (tap.parse(output).ok, tap.parse(output).not_ok) == (0, 1)


def test_yaml_block_is_no_point() -> None:
    output = "not ok 1 - x\n  ---\n  message: bad\nok 7 - output of the container, quoted\n  ...\nok 2\n1..2\n"
    assert (tap.parse(output).ok, tap.parse(output).not_ok, tap.parse(output).problem) == (1, 1, None)


def test_garbage_and_diagnostics_are_kept_apart() -> None:
    result = tap.parse("okay, let us start\nnothing\n# note\nok 1\n")
    assert result.garbage == ["okay, let us start", "nothing"]
    assert result.diagnostics == ["note"]
    assert result.ok == 1


def test_empty_output() -> None:
    assert (tap.parse("").ok, tap.parse("").not_ok, tap.parse("").problem) == (0, 0, None)


LINES = st.sampled_from(
    [
        "ok 1",
        "not ok 2 - x",
        "1..2",
        "1..0 # skip",
        "Bail out!",
        "# d",
        "  ---",
        "  ...",
        "    ok 1",
        "ok # todo",
        "x",
        "",
    ]
)


@given(st.one_of(st.text(), st.lists(LINES).map("\n".join)))
def test_never_raises_and_counts_each_line_once(output: str) -> None:
    result = tap.parse(output)
    assert result.ok + result.not_ok + result.todo == len(result.points)
    assert len(result.points) + len(result.garbage) + len(result.diagnostics) <= len(output.splitlines())
