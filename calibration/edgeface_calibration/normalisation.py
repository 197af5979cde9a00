"""Score normalisation with a cohort: whether it helps, measured.

A face that resembles many people scores high with strangers. The cohort, people who are neither
enrolled nor searched for, shows how high: a score is counted in standard deviations above the
mean of the highest cohort scores, once for the face and once for the reference, and the two are
averaged (adaptive symmetric normalisation; Matejka et al., Interspeech 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import OperatingPointError
from edgeface.types import FloatArray
from edgeface_calibration.error_rates import Interval
from edgeface_calibration.identification import (
    LabelledRows,
    SearchScores,
    chance_of_none,
    log_factorials,
    search_scores,
    threshold_at_fpir,
)
from edgeface_calibration.search_resampling import Resampler

__all__ = ["CohortFigures", "CohortOptions", "cohort_figures", "highest_cohort_scores"]

# The share of the cohort, the most alike, that mean and deviation come from.
_HIGHEST_SHARE, _MIN_HIGHEST = 0.2, 20
# Standard deviations that a normalised score of 1 stands for; none reaches it.
_FULL_SCALE = 40.0


class CohortOptions(Protocol):
    """What :func:`cohort_figures` reads of the options."""

    @property
    def target_fpirs(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def gallery_sizes(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def cohort_share(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def n_resamples(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class CohortFigures:
    """The FNIR at one FPIR and gallery size, without and with normalisation, on the same people.

    ``change`` is the 95 % interval of the difference, negative where normalisation helps.
    """

    n_cohort: int
    gallery_size: int
    target_fpir: float
    fnir: float
    normalised_fnir: float
    change: Interval

    @property
    def verdict(self) -> str:
        """``helps``, ``harms`` or ``makes no difference that can be told``."""
        if self.change.high < 0:
            return "helps"
        return "harms" if self.change.low > 0 else "makes no difference that can be told"

    @property
    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"Score normalisation with a cohort of {self.n_cohort:,} people {self.verdict}: at "
            f"FPIR {100 * self.target_fpir:g} % with {self.gallery_size:,} enrolled the FNIR is "
            f"{100 * self.fnir:.2f} % without and {100 * self.normalised_fnir:.2f} % with it "
            f"(95 % interval of the change {100 * self.change.low:+.2f} to "
            f"{100 * self.change.high:+.2f} points)."
        )


def cohort_figures(labelled: LabelledRows, options: CohortOptions) -> CohortFigures:
    """Return what normalisation does, with ``cohort_share`` of the people as the cohort.

    Raises:
        OperatingPointError: The cohort or the rest are too few.
    """
    rng = np.random.default_rng(options.seed)
    n_cohort = int(options.cohort_share * labelled.n_people)
    chosen = np.zeros(labelled.n_people, np.bool_)
    chosen[rng.permutation(labelled.n_people)[:n_cohort]] = True
    rest = _only(labelled, ~chosen)
    if n_cohort < _MIN_HIGHEST or rest.n_people < 3:
        raise OperatingPointError(
            f"score normalisation needs a cohort of {_MIN_HIGHEST} people and others to try it "
            f"on, got {n_cohort} and {rest.n_people}; give images of more people"
        )
    cohort = _only(labelled, chosen)
    first = cohort.rows[cohort.enrolled(1)]
    size = min(max(options.gallery_sizes), rest.n_people - 1)
    target = max(options.target_fpirs)
    plain = search_scores(rest, smallest_gallery=size)
    normal = search_scores(
        rest, smallest_gallery=size, adjust=_Normalised(highest_cohort_scores(rest.rows, first))
    )
    missed = [_missed(scores, target, size) for scores in (plain, normal)]
    draws = Resampler.of(plain, n_resamples=options.n_resamples, seed=options.seed).draws
    weights = draws[:, plain.mated_people]
    changes = (weights @ (missed[1] - missed[0])) / weights.sum(axis=1)
    low, high = np.quantile(changes, [0.025, 0.975])
    return CohortFigures(
        n_cohort=n_cohort,
        gallery_size=size,
        target_fpir=target,
        fnir=float(missed[0].mean()),
        normalised_fnir=float(missed[1].mean()),
        change=Interval(float(low), float(high)),
    )


def highest_cohort_scores(rows: FloatArray, cohort: FloatArray) -> FloatArray:
    """Return (n, 2) float32: mean and standard deviation of the highest cohort scores.

    ``rows`` (n, d) and ``cohort`` (c, d) are of unit length.
    """
    n_highest = max(_MIN_HIGHEST, int(_HIGHEST_SHARE * len(cohort)))
    figures = np.empty((len(rows), 2), np.float32)
    for start in range(0, len(rows), 1024):
        scores = rows[start : start + 1024] @ cohort.T
        highest = np.partition(scores, -n_highest, axis=1)[:, -n_highest:]
        figures[start : start + 1024] = np.stack(
            [highest.mean(axis=1), np.maximum(highest.std(axis=1), 1e-3)], axis=1
        )
    return figures


class _Normalised:
    """Brings a block of scores to standard deviations above the cohort, scaled into -1..1."""

    def __init__(self, figures: FloatArray) -> None:
        self._figures = figures

    def __call__(
        self,
        scores: FloatArray,
        faces: npt.NDArray[np.intp],
        references: npt.NDArray[np.intp],
    ) -> FloatArray:
        mean, deviation = self._figures[faces].T[..., None]
        reference_mean, reference_deviation = self._figures[references].T[:, None]
        both = (scores - mean) / deviation + (scores - reference_mean) / reference_deviation
        result: FloatArray = (both / (2 * _FULL_SCALE)).astype(np.float32)
        return result


def _missed(scores: SearchScores, target: float, size: int) -> npt.NDArray[np.float64]:
    """Return (q,) how likely each mated search fails at the threshold for ``target``."""
    threshold = np.float32(threshold_at_fpir(scores, target, size))
    logs = log_factorials(scores.n_people)
    first = chance_of_none(scores.better, scores.largest_gallery, size - 1, logs)
    return np.asarray(1.0 - first * (scores.mated >= threshold), np.float64)


def _only(labelled: LabelledRows, chosen: npt.NDArray[np.bool_]) -> LabelledRows:
    kept = chosen[labelled.subjects]
    numbers = np.cumsum(chosen) - 1
    return LabelledRows(labelled.rows[kept], numbers[labelled.subjects[kept]], int(chosen.sum()))
