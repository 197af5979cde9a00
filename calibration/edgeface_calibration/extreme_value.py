"""FPIR for more enrolled people than any stranger was compared with: an estimate beyond the data.

With p the chance that a stranger reaches the threshold among M people, it is at most
``1 - (1 - p) ** (N / M)`` among N > M: equal if all strangers were alike, less because they are
not (Jensen's inequality). p is counted where enough strangers reach the threshold; beyond, it is
the larger of the count and an extreme-value fit: above a high level the highest score of a stranger
follows a generalised Pareto distribution (Pickands, Annals of Statistics 3, 1975). Every result
says that it is no measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import OperatingPointError
from edgeface_calibration.error_rates import Interval, next_score_above
from edgeface_calibration.identification import (
    SearchScores,
    false_positive_rate,
    threshold_at_fpir,
)
from edgeface_calibration.search_resampling import Resampler, spread_about

__all__ = ["MAX_STRETCH", "ParetoTail", "TailModel"]

# The tenth of the strangers with the highest scores makes the tail; fewer make no fit.
_TAIL_SHARE = 0.1
_MIN_TAIL = 30
# ISO/IEC 19795-1, annex B, rule of 30: so many errors make a rate firm, and no fit is needed.
_FIRM_ERRORS = 30
_RESAMPLED_FITS = 200
# A fit that is stretched over more than this is a guess.
MAX_STRETCH = 100


@dataclass(frozen=True, slots=True)
class ParetoTail:
    """A tail: a share ``above`` exceeds ``level``, by ``scale`` on average if ``shape`` is 0."""

    level: float
    above: float
    scale: float
    shape: float

    @classmethod
    def fit(
        cls, values: npt.NDArray[np.float64], weights: npt.NDArray[np.int64], level: float
    ) -> ParetoTail:
        """Return the fit to ``values`` with ``weights``, by probability-weighted moments.

        Hosking and Wallis, Technometrics 29, 1987. The shape is held to -0.5 .. 0: scores are
        bounded, and a heavier tail than exponential is not what a bounded score has.
        """
        kept = (values > level) & (weights > 0)
        order = np.argsort(values[kept])
        excess, counts = values[kept][order] - level, weights[kept][order]
        n = counts.sum()
        above = float(n / weights.sum())
        # The mean over equal values of the plotting positions (i - 0.35) / n.
        rank = (np.cumsum(counts) - (counts - 1) / 2 - 0.35) / n
        first = float((counts * excess).sum() / n)
        second = float((counts * excess * (1 - rank)).sum() / n)
        shape = 2.0 - first / (first - 2.0 * second) if first > 2.0 * second else 0.0
        shape = min(0.0, max(-0.5, shape))
        return cls(level, above, first * (1.0 - shape), shape)

    def chance(self, score: float) -> float:
        """Return the chance of a value of at least ``score``; of the level where it is below."""
        excess = max(0.0, score - self.level) / self.scale
        if abs(self.shape) < 1e-9:
            return float(self.above * np.exp(-excess))
        return float(self.above * max(0.0, 1.0 + self.shape * excess) ** (-1.0 / self.shape))

    def score(self, chance: float) -> float:
        """Return the score that is reached with ``chance``, which is at most ``above``."""
        ratio = chance / self.above
        if abs(self.shape) < 1e-9:
            return float(self.level - self.scale * np.log(ratio))
        return float(self.level + self.scale * (ratio**-self.shape - 1.0) / self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class TailModel:
    """The highest score of a stranger among all people that were compared, and beyond."""

    scores: SearchScores
    resampler: Resampler
    tail: ParetoTail
    resampled: tuple[ParetoTail, ...]

    @classmethod
    def of(cls, scores: SearchScores, resampler: Resampler) -> TailModel:
        """Return the fit to the highest score of every face, and one for every resample.

        Raises:
            OperatingPointError: There are too few strangers for a tail.
        """
        highest = scores.best[:, 0].astype(np.float64)
        n_tail = int(_TAIL_SHARE * len(highest))
        if n_tail < _MIN_TAIL:
            raise OperatingPointError(
                f"not enough data: an extreme-value fit needs {_MIN_TAIL / _TAIL_SHARE:.0f} faces, "
                f"there are {len(highest)}"
            )
        level = float(np.partition(highest, -n_tail - 1)[-n_tail - 1])
        ones = np.ones(len(highest), np.int64)
        resampled = tuple(
            ParetoTail.fit(_drawn_highest(scores, draw), draw[scores.people], level)
            for draw in resampler.draws[:_RESAMPLED_FITS]
        )
        return cls(scores, resampler, ParetoTail.fit(highest, ones, level), resampled)

    def threshold(self, target_fpir: float, gallery_size: int) -> float:
        """Return the float32 threshold for ``target_fpir`` among ``gallery_size`` people.

        Raises:
            OperatingPointError: The gallery is over 100 times what was compared, or no threshold
                up to 1 is high enough.
        """
        compared = self.scores.largest_gallery
        if gallery_size > MAX_STRETCH * compared:
            raise OperatingPointError(
                f"not enough data: {gallery_size:,} people are over {MAX_STRETCH} times the "
                f"{compared:,} that were compared"
            )
        chance = float(-np.expm1(np.log1p(-target_fpir) * compared / gallery_size))
        n_expected = chance * self.scores.n_people
        # Less than one error cannot be counted: refusing all that was seen would prove nothing.
        counted = threshold_at_fpir(self.scores, chance, compared) if n_expected >= 1.0 else -1.0
        if n_expected >= _FIRM_ERRORS:
            return counted
        threshold = max(counted, next_score_above(self.tail.score(chance)))
        if threshold > 1.0:
            raise OperatingPointError(
                f"no threshold keeps FPIR {target_fpir:g} among {gallery_size:,} people: the "
                "highest scores of strangers reach 1; look for people with two names"
            )
        return threshold

    def fpir(self, threshold: float, gallery_size: int) -> float:
        """Return the FPIR at ``threshold`` among ``gallery_size`` people, at most."""
        compared = self.scores.largest_gallery
        return _stretched(self._chance(threshold), gallery_size / compared)

    def interval(self, threshold: float, gallery_size: int) -> Interval:
        """Return the 95 % interval of :meth:`fpir`: what the choice of people changes of it."""
        compared = self.scores.largest_gallery
        ratio = gallery_size / compared
        if self._is_firm(false_positive_rate(self.scores, threshold, compared)):
            counted = self.resampler.fpir(threshold, compared)
            return Interval(_stretched(counted.low, ratio), _stretched(counted.high, ratio))
        rates = np.array([_stretched(t.chance(threshold), ratio) for t in self.resampled])
        expected = int(self.tail.chance(threshold) * self.scores.n_people)
        return spread_about(
            self.fpir(threshold, gallery_size),
            rates,
            n_units=self.scores.n_people,
            n_events=expected,
        )

    def is_fitted(self, threshold: float) -> bool:
        """Return whether so few strangers reach ``threshold`` that the fit decides."""
        compared = self.scores.largest_gallery
        return not self._is_firm(false_positive_rate(self.scores, threshold, compared))

    def _chance(self, threshold: float) -> float:
        counted = false_positive_rate(self.scores, threshold, self.scores.largest_gallery)
        return counted if self._is_firm(counted) else max(counted, self.tail.chance(threshold))

    def _is_firm(self, counted: float) -> bool:
        # 0.8: equal scores may leave the counted rate below the one that was aimed at.
        return counted * self.scores.n_people >= 0.8 * _FIRM_ERRORS


def _stretched(chance: float, ratio: float) -> float:
    return float(-np.expm1(np.log1p(-min(chance, 1.0 - 1e-12)) * ratio))


def _drawn_highest(scores: SearchScores, draw: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return (n,) the highest score of each face among the people of ``draw``.

    The lists of the best are long enough: the chance that none of 64 was drawn is 1e-28.
    """
    present = draw[scores.best_of] > 0
    first = present.argmax(axis=1)
    return np.asarray(scores.best[np.arange(len(first)), first], np.float64)
