"""Medians, quartiles and ratios."""

from __future__ import annotations

import pytest

from bench.series import Ratio, Summary


def test_a_summary_has_median_quartiles_and_least() -> None:
    assert Summary.of([5, 1, 4, 2, 3]) == Summary(median=3, lower=2, upper=4, least=1)


def test_one_sample_is_its_own_summary() -> None:
    assert Summary.of([7.5]) == Summary(7.5, 7.5, 7.5, 7.5)


def test_a_ratio_is_that_of_the_medians() -> None:
    # The medians of the rounds' ratios would be 0.5.
    assert Ratio.between([1, 2, 9], [2, 4, 3]).of_medians == pytest.approx(2 / 3)


def test_a_ratios_spread_is_that_within_the_rounds() -> None:
    """A machine that slows down tenfold for a while does not make ratios uncertain."""
    ratio = Ratio.between([1, 10, 1, 10], [4, 40, 4, 40])
    assert (ratio.lower, ratio.upper) == (0.25, 0.25)


def test_series_of_different_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        Ratio.between([1, 2], [1])
