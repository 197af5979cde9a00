"""TAR at a false match rate, with an interval that knows that comparisons share people.

Comparisons of one person are not independent, so people are drawn, not comparisons: each resample
draws as many subjects as there are, with replacement; a comparison counts as often as its two
subjects were drawn together (Bolle, Ratha and Pankanti, CVIU 93(1), 2004, for the principle).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface_calibration.error_rates import (
    Interval,
    checked_scores,
    first_refused_rank,
    next_score_above,
    resolvable,
    unresolved_reason,
)

__all__ = ["LabelledScores", "TarAtFmr", "TarLoss", "tar_at_fmr", "tar_losses"]

_MAX_BLOCK_WEIGHTS = 4_000_000
# ISO/IEC 19795-1, annex B, rule of 30: fewer errors leave a rate uncertain by more than 30 %.
_FIRM_ERRORS = 30
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class TarAtFmr:
    """The share of mated comparisons accepted where the FMR is at most ``target_fmr``.

    ``tar``, ``interval`` and ``threshold`` are None where the data cannot resolve the target;
    ``note`` says so, or how few false matches the figure rests on.
    """

    target_fmr: float
    tar: float | None = None
    interval: Interval | None = None
    threshold: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TarLoss:
    """TAR of one artefact minus that of another at ``target_fmr``, in -1..1, with its interval."""

    target_fmr: float
    loss: float
    interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class LabelledScores:
    """Scores with the subjects behind them.

    ``mated`` (m,) and ``non_mated`` (n,) are float64 scores; ``mated_subjects`` (m,) and
    ``non_mated_subjects`` (n, 2) number the subjects from 0.
    """

    mated: npt.NDArray[np.float64]
    non_mated: npt.NDArray[np.float64]
    mated_subjects: Index
    non_mated_subjects: Index

    @property
    def n_subjects(self) -> int:
        """How many subjects there are."""
        numbers = np.concatenate([self.mated_subjects, self.non_mated_subjects.ravel(), [-1]])
        return int(numbers.max()) + 1


def tar_at_fmr(
    scores: LabelledScores, targets: Sequence[float], *, n_resamples: int = 1000, seed: int = 0
) -> tuple[TarAtFmr, ...]:
    """Return one figure for each of ``targets``, with 95 % intervals by resampling subjects.

    With n non-mated comparisons, those mated scores are accepted that lie above the non-mated
    score of rank ``int(target * n)``, counted from 0 at the highest.

    Raises:
        InvalidInputError: There are no scores, one is not finite, or a target is not in 0..1.
    """
    checked_scores("mated scores", scores.mated)
    checked_scores("non-mated scores", scores.non_mated)
    n_non_mated = len(scores.non_mated)
    wanted = [t for t in targets if resolvable(t, n_non_mated)]
    intervals = dict(zip(wanted, _intervals(scores, wanted, n_resamples, seed), strict=True))
    return tuple(
        _figure(scores, target, intervals[target])
        if target in intervals
        else TarAtFmr(target, note=unresolved_reason(target, n_non_mated))
        for target in targets
    )


def tar_losses(
    before: LabelledScores,
    after: LabelledScores,
    targets: Sequence[float],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[TarLoss, ...]:
    """Return how much TAR ``after`` loses, one figure for each of ``targets`` that is resolved.

    Both hold the scores of the same comparisons, by two artefacts. Each has the threshold that its
    own non-mated scores ask for, and both are resampled by the same draws of subjects: what the
    draws do to both alike does not widen the interval.

    Raises:
        InvalidInputError: As for :func:`tar_at_fmr`.
    """
    pair = [tar_at_fmr(scores, targets, n_resamples=0) for scores in (before, after)]
    wanted = [k for k, (b, a) in enumerate(zip(*pair, strict=True)) if None not in (b.tar, a.tar)]
    if not wanted:
        return ()
    rng = np.random.default_rng(seed)
    n_subjects = max(before.n_subjects, after.n_subjects)
    ranked = [_Ranked.of(scores) for scores in (before, after)]
    chosen, drawn = [targets[k] for k in wanted], []
    for counts in _draws(rng, n_subjects, n_resamples, len(before.mated) + len(before.non_mated)):
        rates = [each.tars(counts, chosen) for each in ranked]
        drawn.append(rates[0] - rates[1])
    columns = np.concatenate(drawn).T
    losses = [(pair[0][k].tar or 0.0) - (pair[1][k].tar or 0.0) for k in wanted]
    return tuple(
        TarLoss(target, loss, _percentiles(column) or Interval(-1.0, 1.0))
        for target, loss, column in zip(chosen, losses, columns, strict=True)
    )


def _draws(
    rng: np.random.Generator, n_subjects: int, n_resamples: int, n_scores: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Give how often each subject is drawn, (resamples, subjects), in blocks of bounded memory."""
    block = max(1, _MAX_BLOCK_WEIGHTS // n_scores)
    for start in range(0, n_resamples, block):
        n_block = min(block, n_resamples - start)
        yield rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_block)


def _figure(scores: LabelledScores, target: float, interval: Interval | None) -> TarAtFmr:
    rank = first_refused_rank(target, len(scores.non_mated))
    refused = float(np.sort(scores.non_mated)[::-1][rank])
    n_above = int((scores.non_mated > refused).sum())
    firm = n_above >= _FIRM_ERRORS
    note = "" if firm else f"rests on {n_above} false matches; {_FIRM_ERRORS} make it firm"
    tar = float((scores.mated > refused).mean())
    return TarAtFmr(target, tar, interval, next_score_above(refused), note)


def _intervals(
    scores: LabelledScores, targets: Sequence[float], n_resamples: int, seed: int
) -> list[Interval | None]:
    if not targets or not n_resamples:
        return [None] * len(targets)
    rng = np.random.default_rng(seed)
    n_subjects = scores.n_subjects
    ranked = _Ranked.of(scores)
    n_scores = len(scores.non_mated) + len(scores.mated)
    drawn = [
        ranked.tars(counts, targets) for counts in _draws(rng, n_subjects, n_resamples, n_scores)
    ]
    return [_percentiles(column) for column in np.concatenate(drawn).T]


def _percentiles(values: npt.NDArray[np.float64]) -> Interval | None:
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Scores sorted once, from the highest, so that a resample only sums weights."""

    mated_subjects: Index
    non_mated_subjects: Index
    mated_above: Index
    """For each non-mated score, how many mated scores lie above it."""

    @classmethod
    def of(cls, scores: LabelledScores) -> _Ranked:
        mated_order = np.argsort(-scores.mated, kind="stable")
        non_mated_order = np.argsort(-scores.non_mated, kind="stable")
        above = np.searchsorted(
            -scores.mated[mated_order], -scores.non_mated[non_mated_order], side="left"
        )
        return cls(
            scores.mated_subjects[mated_order], scores.non_mated_subjects[non_mated_order], above
        )

    def tars(
        self, counts: npt.NDArray[np.int64], targets: Sequence[float]
    ) -> npt.NDArray[np.float64]:
        """Return (resamples, targets) rates; NaN where a resample drew no comparison of a kind."""
        first, second = self.non_mated_subjects.T
        non_mated = (counts[:, first] * counts[:, second]).cumsum(axis=1)
        mated = np.pad(counts[:, self.mated_subjects].cumsum(axis=1), ((0, 0), (1, 0)))
        rates = np.full((len(counts), len(targets)), np.nan)
        for row, (false_matches, matches) in enumerate(zip(non_mated, mated, strict=True)):
            if false_matches[-1] == 0 or matches[-1] == 0:
                continue
            allowed = np.asarray(targets) * false_matches[-1]
            ranks = np.searchsorted(false_matches, allowed, side="right")
            ranks = np.minimum(ranks, len(false_matches) - 1)
            rates[row] = matches[self.mated_above[ranks]] / matches[-1]
        return rates
