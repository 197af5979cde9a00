"""95 % intervals of search error rates, by resampling people.

A resample draws as many people as there are, with replacement; someone drawn twice counts twice
as a stranger and twice as enrolled. A face of one person is never searched among copies of that
person. Doubles make a resampled gallery hold fewer different people than a real one, which lowers
its rates as a whole; so the spread of the resamples about their own middle is taken, on a
logarithmic scale, and laid about the measured rate (the basic bootstrap of Davison and Hinkley,
1997, section 5.2, without its reflection).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface_calibration.error_rates import Interval, rule_of_three
from edgeface_calibration.identification import (
    SearchScores,
    chance_of_none,
    false_negative_rate,
    false_positive_rate,
    log_factorials,
)

__all__ = ["Resampler", "spread_about"]

# Below this many events the spread of the resamples understates what luck can do.
_FEW_EVENTS = 10
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Resampler:
    """Draws of people: ``draws`` (resamples, people) counts how often each was drawn."""

    scores: SearchScores
    draws: Counts

    @classmethod
    def of(cls, scores: SearchScores, *, n_resamples: int = 400, seed: int = 0) -> Resampler:
        """Return ``n_resamples`` draws of the people of ``scores``."""
        n = scores.n_people
        rng = np.random.default_rng(seed)
        return cls(scores, rng.multinomial(n, np.full(n, 1 / n), size=n_resamples))

    def fpir(self, threshold: float, gallery_size: int) -> Interval:
        """Return the interval of the FPIR at ``threshold``."""
        above = self.scores.above(threshold)
        measured = false_positive_rate(self.scores, threshold, gallery_size)
        rows = np.flatnonzero(above).astype(np.int64)
        strangers = np.unique(self.scores.people[rows])
        if not len(rows):
            return Interval(0.0, rule_of_three(self.scores.n_people))
        ranks = np.arange(self.scores.best.shape[1])
        inside = ranks < above[rows, None]
        others = self.scores.best_of[rows][inside].astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(above[rows])[:-1]])
        rates = np.array(
            [self._fpir(draw, rows, others, starts, gallery_size) for draw in self.draws]
        )
        return spread_about(measured, rates, n_units=self.scores.n_people, n_events=len(strangers))

    def fnir(self, threshold: float, gallery_size: int) -> Interval | None:
        """Return the interval of the FNIR at ``threshold``; None without mated searches."""
        measured = false_negative_rate(self.scores, threshold, gallery_size)
        if measured is None:
            return None
        logs = log_factorials(self.scores.n_people)
        first = chance_of_none(
            self.scores.better, self.scores.largest_gallery, gallery_size - 1, logs
        )
        missed = 1.0 - first * (self.scores.mated >= np.float32(threshold))
        weights = self.draws[:, self.scores.mated_people]
        with np.errstate(invalid="ignore"):
            rates = (weights @ missed) / weights.sum(axis=1)
        people = self.scores.mated_people
        n_events = len(np.unique(people[missed > 0.5]))
        return spread_about(measured, rates, n_units=len(np.unique(people)), n_events=n_events)

    def fmr(self, threshold: float) -> Interval:
        """Return the interval of the FMR of one comparison at ``threshold``."""
        return self.fpir(threshold, 1)

    def _fpir(
        self, draw: Counts, rows: Counts, others: Counts, starts: Counts, gallery_size: int
    ) -> float:
        """Return the FPIR of one resample; only ``rows`` can be taken for anybody."""
        weights = draw[self.scores.people]
        marked = np.add.reduceat(draw[others], starts)
        everyone = self.scores.n_people - draw[self.scores.people[rows]]
        logs = _logs(self.scores.n_people)
        some = 1.0 - chance_of_none(marked, everyone, gallery_size, logs)
        return float((weights[rows] * some).sum() / weights.sum())


def spread_about(
    measured: float, rates: npt.NDArray[np.float64], *, n_units: int, n_events: int
) -> Interval:
    """Return the 95 % interval about ``measured`` with the relative spread of ``rates``.

    ``n_units`` independent people had ``n_events`` errors among them. No error leaves up to 3 / n
    (rule of three, ISO/IEC 19795-1); of few, the interval is no narrower than that of as many
    independent ones would be.
    """
    usable = rates[np.isfinite(rates) & (rates > 0)]
    if measured <= 0.0 or not len(usable):
        return Interval(0.0, rule_of_three(n_units))
    middle = float(np.exp(np.log(usable).mean()))
    low, high = np.quantile(usable, [0.025, 0.975]) * measured / middle
    if n_events < _FEW_EVENTS:
        # 1.96 standard deviations of the logarithm of a Poisson count.
        factor = float(np.exp(1.96 / np.sqrt(max(n_events, 1))))
        low, high = min(low, measured / factor), max(high, measured * factor)
    return Interval(float(min(low, measured)), float(min(1.0, max(high, measured))))


_CACHED: dict[int, npt.NDArray[np.float64]] = {}


def _logs(n: int) -> npt.NDArray[np.float64]:
    if n not in _CACHED:
        _CACHED.clear()
        _CACHED[n] = log_factorials(n)
    return _CACHED[n]
