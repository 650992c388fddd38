"""Which commands a sample is made of."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from bench.bundles import Bundles
from bench.cases import CASES, Sample, choose_cases
from bench.runtimes import Runtime
from bench.spawner import BenchError


@pytest.fixture
def sample() -> Sample:
    numbers = itertools.count()
    bundles = Bundles(*(Path("/b", name) for name in Bundles.__slots__))
    return Sample(Runtime("rt", ("/rt",), Path("/state")), bundles, "standing", lambda: f"id{next(numbers)}")


def test_a_lifecycle_is_three_commands_for_one_container(sample: Sample) -> None:
    (case,) = choose_cases(["lifecycle"])
    assert list(case.steps(sample)) == [
        [["/rt", "--root", "/state", "create", "--bundle", "/b/default", "id0"]],
        [["/rt", "--root", "/state", "start", "id0"]],
        [["/rt", "--root", "/state", "delete", "--force", "id0"]],
    ]
    assert len(case.parts) == 3
    assert sample.ids == ["id0"]


def test_fifty_are_steps_and_eight_are_one(sample: Sample) -> None:
    fifty, eight = choose_cases(["fifty", "eight"])
    assert [len(step) for step in fifty.steps(sample)] == [1] * 50
    assert [len(step) for step in eight.steps(sample)] == [8]
    assert len(set(sample.ids)) == 58


def test_no_two_cases_or_parts_have_one_name() -> None:
    names = [name for case in CASES for name in (case.name, *case.parts)]
    assert len(names) == len(set(names))


def test_patterns_choose_in_the_order_of_the_table() -> None:
    assert [case.name for case in choose_cases(["*seccomp", "run"])] == ["run", "seccomp", "new-seccomp"]
    with pytest.raises(BenchError, match="nothing: no such case; there are version, run"):
        choose_cases(["run", "nothing"])
