"""Medians, quartiles and ratios of samples that were taken in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one series, in its unit."""

    median: float
    lower: float
    upper: float
    least: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """The quartiles are those of the samples themselves (not of a population that they are drawn from)."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], samples[0])
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, lower, upper, min(samples))


@dataclass(frozen=True, slots=True)
class Ratio:
    """One series as a part of another: the ratio of the medians, and the quartiles of the ratios within each round.

    What slows a machine down for a while slows both samples of a round: their ratio spreads less than the times do.
    """

    of_medians: float
    lower: float
    upper: float

    @classmethod
    def between(cls, samples: Sequence[float], baseline: Sequence[float]) -> Ratio:
        """Raises ValueError where the two series do not have the same rounds."""
        rounds = Summary.of([one / other for one, other in zip(samples, baseline, strict=True)])
        return cls(statistics.median(samples) / statistics.median(baseline), rounds.lower, rounds.upper)
