"""Error rates of a set of comparisons, each with its uncertainty, in the words of ISO/IEC 19795-1.

Scores are cosine similarities: higher is more alike. A comparison is accepted when its score is
at least the threshold. A rate that the data cannot resolve is None with the reason in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError

__all__ = [
    "ErrorCurves",
    "Interval",
    "KfoldAccuracy",
    "area_under_roc",
    "checked_scores",
    "equal_error_rate",
    "error_curves",
    "first_refused_rank",
    "kfold_accuracy",
    "next_score_above",
    "resolvable",
    "rule_of_three",
    "threshold_at_fmr",
    "unresolved_reason",
    "wilson_interval",
]

Scores = npt.NDArray[np.floating]
# Two-sided 95 % of the normal distribution.
_Z_95 = 1.959963984540054
# Huang et al., "Labeled Faces in the Wild", 2007, leave the threshold search open; the steps of
# 0.001 over this range are those of the common evaluators.
_ACCURACY_THRESHOLDS = np.linspace(-0.2, 1.0, 1201)


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval of a rate in 0..1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCurves:
    """FMR and FNMR when ``thresholds``, which rise, are applied. All (n,) float64."""

    thresholds: npt.NDArray[np.float64]
    fmr: npt.NDArray[np.float64]
    fnmr: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KfoldAccuracy:
    """Accuracy where each fold is judged by the threshold that is best on the others.

    ``std`` is the population standard deviation over the folds; ``n_correct`` counts pairs.
    """

    mean: float
    std: float
    n_correct: int
    folds: tuple[float, ...]


def checked_scores(name: str, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return ``scores`` as (n,) float64.

    Raises:
        InvalidInputError: None are given, one is not finite, or the shape is another.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InvalidInputError(f"{name} must be a non-empty list, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidInputError(f"{name} hold NaN or infinity; leave such comparisons out first")
    return values


def error_curves(mated: Scores, non_mated: Scores) -> ErrorCurves:
    """Return both error rates at every score that occurs and at one just above them all."""
    mated = np.sort(checked_scores("mated scores", mated))
    non_mated = np.sort(checked_scores("non-mated scores", non_mated))
    seen = np.unique(np.concatenate([mated, non_mated]))
    thresholds = np.append(seen, np.nextafter(seen[-1], np.inf))
    false_matches = len(non_mated) - np.searchsorted(non_mated, thresholds, side="left")
    false_non_matches = np.searchsorted(mated, thresholds, side="left")
    return ErrorCurves(thresholds, false_matches / len(non_mated), false_non_matches / len(mated))


def equal_error_rate(mated: Scores, non_mated: Scores) -> float:
    """Return the mean of FMR and FNMR at the threshold where the two are closest."""
    curves = error_curves(mated, non_mated)
    closest = np.abs(curves.fmr - curves.fnmr).argmin()
    return float(curves.fmr[closest] + curves.fnmr[closest]) / 2


def area_under_roc(mated: Scores, non_mated: Scores) -> float:
    """Return the probability that a mated score is the higher one; a tie counts half."""
    mated = checked_scores("mated scores", mated)
    non_mated = np.sort(checked_scores("non-mated scores", non_mated))
    below = np.searchsorted(non_mated, mated, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(non_mated, mated, side="right").sum(dtype=np.int64)
    return float(below + not_above) / 2 / len(mated) / len(non_mated)


def kfold_accuracy(scores: Scores, same: npt.ArrayLike, folds: npt.ArrayLike) -> KfoldAccuracy:
    """Return the accuracy over the folds, as the LFW protocol defines it.

    Args:
        scores: (n,) scores of the pairs.
        same: (n,) booleans, true for a mated pair.
        folds: (n,) integers that number each pair's fold.

    Raises:
        InvalidInputError: The lengths differ, or fewer than two folds have pairs.
    """
    values = checked_scores("scores", scores)
    labels, numbers = np.asarray(same, bool), np.asarray(folds)
    if not len(values) == len(labels) == len(numbers):
        raise InvalidInputError("scores, labels and folds must have one length")
    names = np.unique(numbers)
    if len(names) < 2:
        raise InvalidInputError(f"accuracy needs at least two folds with pairs, got {len(names)}")
    correct = np.stack([_correct_by_threshold(values, labels, numbers == k) for k in names])
    # The best threshold of the other folds; argmax takes the lowest of equals.
    best = (correct.sum(0) - correct).argmax(axis=1)
    hits = correct[np.arange(len(names)), best]
    rates = hits / np.array([(numbers == k).sum() for k in names])
    return KfoldAccuracy(
        float(rates.mean()), float(rates.std()), int(hits.sum()), tuple(map(float, rates))
    )


def _correct_by_threshold(
    scores: npt.NDArray[np.float64], same: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return how many pairs of one fold are judged rightly at each of the search's thresholds."""
    mated, non_mated = np.sort(scores[inside & same]), np.sort(scores[inside & ~same])
    rejected = np.searchsorted(non_mated, _ACCURACY_THRESHOLDS, side="right")
    missed = np.searchsorted(mated, _ACCURACY_THRESHOLDS, side="right")
    return (rejected + len(mated) - missed).astype(np.int64)


def first_refused_rank(target_fmr: float, n_non_mated: int) -> int:
    """Return k such that accepting the k highest non-mated scores keeps the FMR at the target.

    Raises:
        InvalidInputError: The target is not between 0 and 1.
    """
    _check_target(target_fmr)
    rank = min(int(target_fmr * n_non_mated), n_non_mated - 1)
    # The product above may round up to a whole number that the target does not allow.
    return rank - 1 if rank > 0 and rank / n_non_mated > target_fmr else rank


def _check_target(target_fmr: float) -> None:
    if not 0.0 < target_fmr < 1.0:
        raise InvalidInputError(f"a target FMR lies between 0 and 1, got {target_fmr}")


def next_score_above(score: float) -> float:
    """Return the smallest float32 number above ``score``.

    Scores are float32 in the runtime, and NumPy brings a Python float to float32 before it
    compares: a float64 neighbour would be rounded back onto the score that it must refuse.
    """
    near = np.float32(score)
    above = np.float32(np.inf)
    return float(near if float(near) > score else np.nextafter(near, above, dtype=np.float32))


def threshold_at_fmr(non_mated: Scores, target_fmr: float) -> float:
    """Return the lowest float32 threshold at which the measured FMR is at most ``target_fmr``.

    Non-mated scores that are equal are accepted or refused together, so that the measured FMR
    may lie below the target.

    Raises:
        InvalidInputError: The scores or the target are unusable.
    """
    ranked = np.sort(checked_scores("non-mated scores", non_mated))[::-1]
    return next_score_above(float(ranked[first_refused_rank(target_fmr, len(ranked))]))


def resolvable(target_fmr: float, n_non_mated: int) -> bool:
    """Return whether so many non-mated comparisons can show an FMR as small as the target.

    Raises:
        InvalidInputError: The target is not between 0 and 1.
    """
    _check_target(target_fmr)
    # 1e-9: 1e-3 x 1,000 must count as one whole comparison.
    return target_fmr * n_non_mated >= 1.0 - 1e-9


def unresolved_reason(target_fmr: float, n_non_mated: int) -> str:
    """Return in words why the target cannot be resolved."""
    needed = math.ceil(1.0 / target_fmr - 1e-9)
    return (
        f"not enough data: FMR {target_fmr:g} needs at least {needed:,} non-mated comparisons, "
        f"there are {n_non_mated:,}"
    )


def wilson_interval(n_events: float, n_trials: int) -> Interval:
    """Return Wilson's 95 % interval of a proportion; 0..1 where nothing was tried.

    Wilson, JASA 22 (1927). It holds at 0 and at 1, where the textbook interval has no width.
    """
    if n_trials == 0:
        return Interval(0.0, 1.0)
    rate, square = n_events / n_trials, _Z_95**2 / n_trials
    centre = rate + square / 2
    half = _Z_95 * math.sqrt(rate * (1 - rate) / n_trials + square / n_trials / 4)
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    return Interval(max(0.0, min(low, rate)), min(1.0, max(high, rate)))


def rule_of_three(n_trials: int) -> float:
    """Return the highest rate that no event in ``n_trials`` trials leaves possible at 95 %.

    ISO/IEC 19795-1, annex B: 3 / n.
    """
    return min(1.0, 3.0 / n_trials) if n_trials else 1.0
