"""What is kept of samples, and of those that fail."""

from __future__ import annotations

import json

import pytest

from bench.results import Results, Subject, probe_machine
from bench.spawner import Outcome
from tests.bench.conftest import add, outcome


def test_a_sample_lasts_from_its_first_command_until_its_last(results: Results) -> None:
    series = results.series("eight", "eight", "runc")
    series.add([Outcome(1_000_000, 5_000_000, 10, 0), Outcome(2_000_000, 4_000_000, 30, 0)])
    assert series.seconds == [0.004]
    assert series.peak_bytes == 30


def test_the_peak_is_that_of_all_samples(results: Results) -> None:
    series = results.series("new", "new", "runc")
    for peak in (10, 30, 20):
        series.add([outcome(1, peak)])
    assert series.peak_bytes == 30


def test_a_failure_drops_the_case_and_its_parts_for_that_runtime_alone() -> None:
    results = Results([Subject("a", "a", "1", None), Subject("b", "b", "1", None)], "a")
    for case in ("lifecycle", "create", "run"):
        add(results, case, "a", 1)
        add(results, case, "b", 1)
    results.fail("lifecycle", ["create"], "b", "it broke")
    assert [results.summary(case, "b") is None for case in ("lifecycle", "create", "run")] == [True, True, False]
    assert results.summary("lifecycle", "a") is not None
    assert results.ratio("lifecycle", "b") is None
    assert results.has_failed("lifecycle", "b")
    assert not results.has_failed("lifecycle", "a")
    assert results.notes == ["lifecycle is left out for b: it broke"]


def test_without_the_baseline_there_is_no_ratio(results: Results) -> None:
    add(results, "only", "ocirt", 3)
    assert results.summary("only", "ocirt") is not None
    assert results.ratio("only", "ocirt") is None


def test_json_has_every_sample_and_the_summaries(results: Results) -> None:
    read = json.loads(json.dumps(results.to_json()))
    run = read["cases"]["run"]["ocirt"]
    assert run["seconds"] == pytest.approx([0.004, 0.0044, 0.0036])
    assert run["summary"]["least"] == pytest.approx(0.0036)
    assert run["ratio"]["of_medians"] == pytest.approx(0.2)
    assert [one["name"] for one in read["subjects"]] == ["runc", "ocirt"]
    assert read["machine"]["kernel"] == "Linux 6.18"


def test_the_machines_facts_are_known() -> None:
    facts = probe_machine()
    assert facts["kernel"].startswith("Linux ")
    assert facts["processor"]
    assert int(facts["processors"]) > 0
