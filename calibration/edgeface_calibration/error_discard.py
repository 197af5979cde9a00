"""Whether a quality measure foretells errors: the error-versus-discard characteristic (EDC).

Comparisons are discarded, worst quality first, and the false non-match rate of the others is
followed at one fixed threshold (Grother and Tabassi, "Performance of biometric quality measures",
IEEE TPAMI 29(4), 2007; ISO/IEC 29794-1). A measure that knows which faces fail makes the rate
fall steeply; a measure that knows nothing leaves it where it is. The quality of a comparison is
that of the worse of its two images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError, MissingDependencyError

__all__ = [
    "DiscardEffect",
    "ErrorDiscard",
    "discard_effect",
    "error_discard",
    "pair_quality",
    "save_error_discard",
    "without_worst_images",
    "without_worst_pairs",
]

Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

# Okabe and Ito's palette, which stays apart for colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DPI = 120
# The last comparisons decide nothing: the rate of a handful jumps between 0 and 1.
_SHOWN_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ErrorDiscard:
    """The characteristic: ``fnmr[i]`` in 0..1 when the share ``discarded[i]`` is left out.

    Both are (n,) float64 for n mated comparisons; ``discarded`` rises from 0 to (n - 1) / n.
    """

    discarded: Reals
    fnmr: Reals

    def area(self, up_to: float) -> float:
        """Return the area under the curve from 0 to ``up_to``, over that of no discarding at all.

        1 for a measure that knows nothing, less for a better one; 1 also where nothing fails.

        Raises:
            InvalidInputError: ``up_to`` is not in 0..1, or leaves nothing to integrate.
        """
        inside = self.discarded <= up_to
        if not 0.0 < up_to < 1.0 or inside.sum() < 2:
            raise InvalidInputError(f"the area needs a share between 0 and 1, got {up_to}")
        mean = float(self.fnmr[inside].mean())
        return mean / float(self.fnmr[0]) if self.fnmr[0] > 0 else 1.0


@dataclass(frozen=True, slots=True)
class DiscardEffect:
    """The FNMR before and after discarding.

    ``change`` is relative: -0.25 for a quarter fewer errors; ``change_low`` and ``change_high``
    are its 95 % interval by resampling subjects. ``discarded`` is the share of the comparisons
    that was left out. ``n_errors`` counts false non-matches before.
    """

    fnmr_before: float
    fnmr_after: float
    change: float
    change_low: float
    change_high: float
    discarded: float
    n_errors: int


def pair_quality(image_quality: npt.ArrayLike, pairs: npt.ArrayLike) -> Reals:
    """Return (n,) float64: the quality of the worse image of each of the (n, 2) ``pairs``.

    Raises:
        InvalidInputError: A quality is NaN, or a pair names no image.
    """
    quality, numbers = _checked_quality(image_quality), np.asarray(pairs, np.intp)
    if numbers.ndim != 2 or numbers.shape[1] != 2:
        raise InvalidInputError(f"pairs must have shape (n, 2), got {numbers.shape}")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= len(quality)):
        raise InvalidInputError(f"pairs name images outside 0..{len(quality) - 1}")
    worse: Reals = quality[numbers].min(axis=1)
    return worse


def error_discard(mated: npt.ArrayLike, quality: npt.ArrayLike, threshold: float) -> ErrorDiscard:
    """Return the characteristic of (n,) mated scores and the (n,) qualities of the comparisons.

    A comparison fails when its score is below ``threshold``. Comparisons of equal quality are
    discarded in no order: each counts as the mean of them all.

    Raises:
        InvalidInputError: The lengths differ, there are none, or a number is not finite.
    """
    values, refused = _checked_quality(quality), _refused(mated, threshold)
    if len(values) != len(refused):
        raise InvalidInputError(f"got {len(values)} qualities for {len(refused)} scores")
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, weights=refused) / counts)[group]
    falling = np.sort(group, kind="stable")[::-1]
    ranked = expected[np.argsort(group, kind="stable")][::-1]
    kept = np.arange(1, len(falling) + 1)
    fnmr = (np.cumsum(ranked) / kept)[::-1]
    return ErrorDiscard(np.arange(len(values)) / len(values), fnmr)


def without_worst_pairs(quality: npt.ArrayLike, share: float) -> Flags:
    """Return (n,) flags of the comparisons that stay when the worst ``share`` goes.

    As many as fit are discarded; of equal qualities at the limit, the later ones stay.

    Raises:
        InvalidInputError: A quality is NaN, or the share is not in 0..1.
    """
    values = _checked_quality(quality)
    _check_share(share)
    kept = np.ones(len(values), bool)
    kept[np.argsort(values, kind="stable")[: int(share * len(values))]] = False
    return kept


def without_worst_images(image_quality: npt.ArrayLike, pairs: npt.ArrayLike, share: float) -> Flags:
    """Return (n,) flags of the (n, 2) ``pairs`` neither of whose images is in the worst ``share``.

    Raises:
        InvalidInputError: A quality is NaN, a pair names no image, or the share is not in 0..1.
    """
    stays = without_worst_pairs(image_quality, share).astype(np.float64)
    flags: Flags = pair_quality(stays, pairs) > 0
    return flags


def discard_effect(
    mated: npt.ArrayLike,
    kept: npt.ArrayLike,
    subjects: npt.ArrayLike,
    threshold: float,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> DiscardEffect:
    """Return what leaving out all but ``kept`` of the mated comparisons does to the FNMR.

    Args:
        mated: (n,) scores.
        kept: (n,) flags of the comparisons that stay.
        subjects: (n,) names or numbers of the person in each comparison. Comparisons of one person
            are not independent, so people are drawn for the interval, not comparisons.
        threshold: The score from which on a comparison is accepted.
        n_resamples: How often people are drawn.
        seed: Of the drawing.

    Raises:
        InvalidInputError: The lengths differ, nothing is kept, nothing fails, or a score is not
            finite.
    """
    refused, stays = _refused(mated, threshold), np.asarray(kept, bool)
    people = np.unique(np.asarray(subjects), return_inverse=True)[1]
    if not len(refused) == len(stays) == len(people):
        raise InvalidInputError(
            f"got {len(refused)} scores, {len(stays)} flags and {len(people)} subjects"
        )
    if not stays.any() or not refused.any():
        raise InvalidInputError(
            f"{stays.sum()} comparisons stay and {refused.sum()} fail; a change needs some of both"
        )
    columns = (np.ones(len(refused)), refused, stays, refused & stays)
    per_person = np.stack([np.bincount(people, weights=column) for column in columns], 1).astype(
        np.float64
    )
    n_all, n_refused, n_kept, n_both = per_person.sum(0)
    drawn = _resampled_changes(per_person, n_resamples, seed)
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    before, after = float(n_refused / n_all), float(n_both / n_kept)
    return DiscardEffect(
        before,
        after,
        after / before - 1,
        float(low),
        float(high),
        float(1 - n_kept / n_all),
        int(n_refused),
    )


def save_error_discard(
    curves: Mapping[str, ErrorDiscard], path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Write a PNG of the characteristics, each under its name, up to half of the comparisons.

    The dotted line is what a measure that knows every error in advance would reach.

    Raises:
        InvalidInputError: There are no curves, or the file cannot be written.
        MissingDependencyError: Matplotlib is not installed.
    """
    if not curves:
        raise InvalidInputError("there is no characteristic to draw")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingDependencyError("matplotlib", extra="report") from exc
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for k, (name, curve) in enumerate(curves.items()):
        shown = curve.discarded <= _SHOWN_SHARE
        panel.step(
            100 * curve.discarded[shown],
            100 * curve.fnmr[shown],
            where="post",
            color=_COLOURS[k % len(_COLOURS)],
            linestyle=("-", "--")[k // len(_COLOURS) % 2],
            label=name,
        )
    first = next(iter(curves.values()))
    ideal = np.linspace(0, _SHOWN_SHARE, 501)
    best = np.maximum(0.0, (first.fnmr[0] - ideal) / (1 - ideal))
    panel.plot(100 * ideal, 100 * best, ":", color="grey", label="every error known")
    panel.set(xlabel="comparisons discarded, %", ylabel="false non-match rate of the others, %")
    panel.set_ylim(bottom=0)
    panel.set_title(title, fontsize=11)
    panel.legend(fontsize=8)
    panel.grid(alpha=0.25)
    try:
        figure.savefig(Path(path), dpi=_DPI, format="png")
    except OSError as exc:
        raise InvalidInputError(f"the picture {path} cannot be written: {exc}") from exc


def _resampled_changes(per_person: Reals, n_resamples: int, seed: int) -> Reals:
    """Return the changes of resamples in which something fails and something stays."""
    rng, n_people = np.random.default_rng(seed), len(per_person)
    counts = rng.multinomial(n_people, np.full(n_people, 1 / n_people), size=n_resamples)
    n_all, n_refused, n_kept, n_both = (counts @ per_person).T
    usable = (n_refused > 0) & (n_kept > 0)
    before = n_refused[usable] / n_all[usable]
    changes: Reals = n_both[usable] / n_kept[usable] / before - 1
    return changes


def _refused(mated: npt.ArrayLike, threshold: float) -> Flags:
    scores = np.asarray(mated, np.float64)
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise InvalidInputError(f"mated scores must be finite numbers, got shape {scores.shape}")
    if not np.isfinite(threshold):
        raise InvalidInputError(f"a threshold must be finite, got {threshold}")
    flags: Flags = scores < threshold
    return flags


def _checked_quality(quality: npt.ArrayLike) -> Reals:
    values = np.asarray(quality, np.float64)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise InvalidInputError(
            f"qualities must be a list without NaN, got shape {values.shape}; give a face that "
            "could not be measured the lowest quality"
        )
    return values


def _check_share(share: float) -> None:
    if not 0.0 <= share < 1.0:
        raise InvalidInputError(f"a share to discard is in 0..1 and below 1, got {share}")
