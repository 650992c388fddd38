"""What is met, missed, not measured, or not asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.cases import CASES
from bench.limits import LIMITS, Verdict, judge, verdict_table
from bench.results import Results
from tests.bench.conftest import add

ALL = [case.name for case in CASES]


def words(results: Results, asked: list[str] = ALL) -> list[str]:
    return [verdict.word for verdict in judge(results, asked)]


def test_all_are_met(results: Results) -> None:
    assert words(results) == ["met"] * len(LIMITS)
    assert not any(verdict.is_missed for verdict in judge(results, ALL))


@pytest.mark.parametrize("case", ["run", "lifecycle", "exec", "version"])
def test_a_slow_command_is_missed(results: Results, case: str) -> None:
    results.cases[case].pop("ocirt")
    add(results, case, "ocirt", 13, 13, 13)
    missed = [verdict.limit.cases[0] for verdict in judge(results, ALL) if verdict.is_missed]
    assert missed == [case]


def test_a_slow_profile_is_missed_though_runc_is_slower(results: Results) -> None:
    results.cases["seccomp"].pop("ocirt")
    add(results, "seccomp", "ocirt", 4.7, 4.7, 4.7)
    assert [verdict.limit.cases for verdict in judge(results, ALL) if verdict.is_missed] == [("run", "seccomp")]


def test_memory_and_size_have_limits(results: Results) -> None:
    results.pss_bytes["ocirt"] = 200_001
    results.cases["run"]["ocirt"].peak_bytes = 8_000_001
    results.subjects[1] = replace(results.subjects[1], size_bytes=20_000_001)
    assert words(results).count("MISSED") == 3


def test_exactly_the_limit_is_met(results: Results) -> None:
    results.pss_bytes["ocirt"] = 200_000
    assert "MISSED" not in words(results)


def test_what_was_not_measured_is_missed(results: Results) -> None:
    results.fail("exec", [], "ocirt", "it broke")
    assert [verdict.word for verdict in judge(results, ALL) if verdict.is_missed] == ["NOT MEASURED"]


def test_ratios_are_to_runc_whatever_the_baseline(results: Results) -> None:
    results.baseline = "ocirt"
    assert words(results) == ["met"] * len(LIMITS)
    del results.cases["run"]["runc"]
    assert words(results).count("NOT MEASURED") == 1


def test_what_was_not_asked_for_does_not_count(results: Results) -> None:
    for case in ("exec", "lifecycle", "version", "seccomp"):
        del results.cases[case]
    verdicts = judge(results, ["run"])
    assert not any(verdict.is_missed for verdict in verdicts)
    assert [verdict.word for verdict in verdicts].count("not asked for") == 4


def test_the_table_says_what_is_and_what_may_be() -> None:
    table = verdict_table([Verdict(LIMITS[0], 0.3, asked=True), Verdict(LIMITS[-1], None, asked=True)])
    assert "0.25  0.30        MISSED" in table
    assert "20.0 MB     -  NOT MEASURED" in table
