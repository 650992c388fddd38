"""The table, the stored form and the comparison of the suite's runner."""

from __future__ import annotations

import json

import pytest
import report
import suite
import tap


def outcome(program: str = "create", output: str = "1..2\nok 1\nnot ok 2 - x\n", rc: int | None = 0) -> suite.Outcome:
    return suite.Outcome(program, rc, tap.parse(output), "", 0.5)


def test_stored_form_is_read_back() -> None:
    counts = {"a": report.Counts(0, 309, 0), "b_c": report.Counts(1, 0, 2), "d": report.Counts(None, 1, 0)}
    text = "".join(f"{name} {count}\n" for name, count in counts.items())
    assert text.splitlines()[0] == "a rc=0 ok=309 notok=0"
    assert report.parse_stored(text) == counts


@pytest.mark.parametrize("line", ["a rc=0 ok=1", "rc=0 ok=1 notok=0", "a rc=x ok=1 notok=0", "a rc=0 ok=1 notok=0 b"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of a stored result"):
        report.parse_stored(line)


@pytest.mark.parametrize(
    ("mine", "worse"),
    [
        (report.Counts(0, 4, 1), False),
        (report.Counts(0, 5, 0), False),
        (report.Counts(0, 3, 1), True),
        (report.Counts(0, 4, 2), True),
        (report.Counts(1, 4, 1), True),
        (report.Counts(None, 4, 1), True),
    ],
)
def test_worse(mine: report.Counts, worse: bool) -> None:
    assert mine.is_worse_than(report.Counts(0, 4, 1)) is worse
    assert bool(report.worse_programs({"p": mine}, {"p": report.Counts(0, 4, 1), "other": mine})) is worse


def test_a_failing_exit_code_is_not_worse_than_the_same() -> None:
    assert not report.Counts(1, 0, 0).is_worse_than(report.Counts(1, 0, 0))


def test_table_is_side_by_side() -> None:
    counts = {"create": report.Counts.of(outcome())}
    text = report.table({"mine": counts, "other": {}}, {"mine: create": ["no test points"], "other: create": []})
    assert text.splitlines() == [
        "program  mine               other",
        "create   rc=0 ok=1 notok=1  -",
        "total    ok=1 notok=1       ok=0 notok=0",
        "mine: create: no test points",
    ]


def test_remarks() -> None:
    strange = outcome(output="1..3\nnot ok 1 # TODO x\n")
    strange.left = ["container c1"]
    assert report.remarks_of(strange) == ["planned 3, ran 1", "1 todo", "left container c1"]
    assert report.remarks_of(outcome(output="")) == ["no test points"]
    assert report.remarks_of(outcome(output="1..0 # skip not here\n")) == ["skipped: not here"]


def test_json_names_what_failed() -> None:
    value = json.loads(json.dumps(report.as_json({"mine": [outcome()]})))
    assert value["mine"]["create"]["failed"] == ["x"]
    assert value["mine"]["create"]["rc"] == 0


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [("sh", "sh", ()), ("/bin/sh -x", "sh", ("-x",)), ("mine=sh -c 'a b'", "mine", ("-c", "a b"))],
)
def test_runtime_names(text: str, name: str, rest: tuple[str, ...]) -> None:
    runtime = suite.Runtime.of(text)
    assert (runtime.name, runtime.command[1:]) == (name, rest)
    assert runtime.command[0].startswith("/")


def test_runtime_must_exist() -> None:
    with pytest.raises(ValueError, match="no such command"):
        suite.Runtime.of("no-such-runtime-here")
