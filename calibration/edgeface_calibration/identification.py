"""Error rates of searches among N enrolled people, averaged over every choice of the N.

Everyone is a stranger once: a face is compared with one enrolled reference of each other person.
With c of M others scoring at least the threshold, a gallery of N of them, drawn at random, holds
none of the c with probability C(M - c, N) / C(M, N). The mean of what is left is the expected
FPIR: no galleries are drawn, and no luck is in it. Words follow ISO/IEC 19795-1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.types import FloatArray
from edgeface_calibration.error_rates import next_score_above

__all__ = [
    "Adjust",
    "LabelledRows",
    "SearchScores",
    "chance_of_none",
    "false_negative_rate",
    "false_positive_rate",
    "log_factorials",
    "search_scores",
    "threshold_at_fpir",
]

Weights = npt.NDArray[np.float64]
_BLOCK_ROWS = 512
# A gallery of N of M others misses all of the best 8 M / N with a chance of e^-8 at most: more
# need not be kept. The limit is 160 MB of scores.
_KEPT_TIMES = 8
_MAX_KEPT = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Embeddings with the people behind them.

    ``rows`` is (n, d) float32 of length 1, ``subjects`` (n,) numbers the people from 0, every
    number used. ``n_people`` counts them.
    """

    rows: FloatArray
    subjects: npt.NDArray[np.intp]
    n_people: int

    @classmethod
    def of(cls, rows: FloatArray, names: Sequence[str]) -> LabelledRows:
        """Return ``rows`` of the people ``names``, without those that are not finite.

        Raises:
            InvalidInputError: The lengths differ.
        """
        if len(rows) != len(names):
            raise InvalidInputError(f"got {len(rows)} rows for {len(names)} names")
        usable = np.isfinite(rows).all(axis=1)
        kept = np.asarray(names, str)[usable]
        found, subjects = np.unique(kept, return_inverse=True)
        return cls(rows[usable], subjects, len(found))

    def enrolled(self, templates: int) -> npt.NDArray[np.bool_]:
        """Return (n,) which rows are references: the first ``templates`` of each person."""
        order = np.argsort(self.subjects, kind="stable")
        starts = np.searchsorted(self.subjects[order], np.arange(self.n_people))
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order)) - starts[self.subjects[order]]
        return rank < templates


@dataclass(frozen=True, slots=True, eq=False)
class SearchScores:
    """What every face scores against the references of every person.

    A score with a person is that of their best reference. ``best`` (n, r) float32 are the highest
    scores of face i with other people, falling, and ``best_of`` (n, r) who they are; ``people``
    (n,) is who face i is of. ``mated`` (q,) are the scores of the faces that are no reference with
    their own person, ``mated_people`` (q,) who they are, ``better`` (q,) how many other people
    score as high or higher. ``counts`` (bins,) counts the scores of different people by
    ``edges``.
    """

    best: FloatArray
    best_of: npt.NDArray[np.int32]
    people: npt.NDArray[np.intp]
    mated: FloatArray
    mated_people: npt.NDArray[np.intp]
    better: npt.NDArray[np.intp]
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    n_people: int

    @property
    def largest_gallery(self) -> int:
        """The most people that a stranger was compared with."""
        return self.n_people - 1

    @property
    def n_non_mated(self) -> int:
        """How many scores of different people there are."""
        return len(self.people) * (self.n_people - 1)

    def above(self, threshold: float) -> npt.NDArray[np.int64]:
        """Return (n,) how many other people each face takes for its own at ``threshold``."""
        return np.asarray((self.best >= np.float32(threshold)).sum(axis=1), np.int64)


Adjust: TypeAlias = Callable[[FloatArray, npt.NDArray[np.intp], npt.NDArray[np.intp]], FloatArray]
"""Takes (faces, references) scores and the numbers of both rows; returns other scores, -1..1."""


def search_scores(
    labelled: LabelledRows,
    *,
    templates: int = 1,
    smallest_gallery: int = 1,
    adjust: Adjust | None = None,
) -> SearchScores:
    """Return the scores of every face of ``labelled`` with every person.

    Args:
        labelled: The faces.
        templates: References of each person, their first faces.
        smallest_gallery: No rate will be asked for fewer enrolled people: fewer scores are kept.
        adjust: Changes the scores before anything is counted, such as score normalisation.

    Raises:
        OperatingPointError: There are not three people.
        InvalidInputError: ``templates`` or ``smallest_gallery`` is below 1.
    """
    if templates < 1 or smallest_gallery < 1:
        raise InvalidInputError("templates and smallest_gallery must be at least 1")
    if labelled.n_people < 3:
        raise OperatingPointError(
            f"searches need images of at least three people, got {labelled.n_people}"
        )
    collected = _Collected(labelled, templates, smallest_gallery, adjust)
    for start in range(0, len(labelled.rows), _BLOCK_ROWS):
        collected.add(np.arange(start, min(start + _BLOCK_ROWS, len(labelled.rows))))
    return collected.done()


class _Collected:
    """Scores of one block of faces after the other."""

    def __init__(
        self,
        labelled: LabelledRows,
        templates: int,
        smallest_gallery: int,
        adjust: Adjust | None,
    ) -> None:
        self._labelled = labelled
        self._adjust = adjust
        reference = labelled.enrolled(templates)
        order = np.flatnonzero(reference)
        order = order[np.argsort(labelled.subjects[order], kind="stable")]
        self._order, self._references = order, labelled.rows[order]
        self._starts = np.searchsorted(labelled.subjects[order], np.arange(labelled.n_people))
        self._is_probe = ~reference
        n, others = len(labelled.rows), labelled.n_people - 1
        self._kept = min(
            others, max(64, _KEPT_TIMES * others // smallest_gallery), max(64, _MAX_KEPT // n)
        )
        self._edges = np.linspace(-1.0, 1.0, 2001)
        self._counts = np.zeros(len(self._edges) - 1, np.int64)
        self._parts: list[tuple[npt.NDArray[np.generic], ...]] = []

    def add(self, block: npt.NDArray[np.intp]) -> None:
        scores = self._labelled.rows[block] @ self._references.T
        if self._adjust is not None:
            scores = self._adjust(scores, block, self._order)
        scores = np.maximum.reduceat(scores, self._starts, axis=1).clip(-1.0, 1.0)
        own = self._labelled.subjects[block]
        mated = scores[np.arange(len(block)), own]
        scores[np.arange(len(block)), own] = -np.inf
        better = (scores >= mated[:, None]).sum(axis=1)
        self._counts += np.histogram(scores[np.isfinite(scores)], self._edges)[0]
        of = np.argpartition(scores, -self._kept, axis=1)[:, -self._kept :]
        best = np.take_along_axis(scores, of, axis=1)
        falling = np.argsort(-best, axis=1, kind="stable")
        probes = self._is_probe[block]
        self._parts.append(
            (
                np.take_along_axis(best, falling, axis=1),
                np.take_along_axis(of, falling, axis=1).astype(np.int32),
                mated[probes],
                own[probes],
                better[probes],
            )
        )

    def done(self) -> SearchScores:
        best, best_of, mated, mated_people, better = (
            np.concatenate([part[k] for part in self._parts]) for k in range(5)
        )
        return SearchScores(
            best=best,
            best_of=best_of,
            people=self._labelled.subjects,
            mated=mated,
            mated_people=mated_people,
            better=better,
            counts=self._counts,
            edges=self._edges,
            n_people=self._labelled.n_people,
        )


def log_factorials(largest: int) -> Weights:
    """Return the logarithms of 0! to ``largest``!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])


def chance_of_none(
    n_marked: npt.NDArray[np.int64], n_all: npt.NDArray[np.int64] | int, n_drawn: int, logs: Weights
) -> Weights:
    """Return the chance that ``n_drawn`` of ``n_all`` hold none of the ``n_marked``.

    At most all are drawn. ``logs`` are :func:`log_factorials` up to the largest ``n_all``.
    """
    everyone = np.asarray(n_all, np.int64)
    drawn = np.minimum(n_drawn, everyone)
    rest = everyone - n_marked - drawn
    possible = np.maximum(rest, 0)
    chance = np.exp(
        logs[everyone - n_marked] - logs[possible] - logs[everyone] + logs[everyone - drawn]
    )
    # The logarithms are sums of thousands: they take a chance of 1 up to 1e-12 beyond it.
    return np.where(rest >= 0, np.minimum(chance, 1.0), 0.0)


def false_positive_rate(scores: SearchScores, threshold: float, gallery_size: int) -> float:
    """Return the FPIR: the share of strangers' searches that return somebody.

    Raises:
        InvalidInputError: ``gallery_size`` is below 1 or larger than any that was compared.
    """
    _check_gallery(scores, gallery_size)
    logs = log_factorials(scores.n_people)
    none = chance_of_none(scores.above(threshold), scores.largest_gallery, gallery_size, logs)
    return max(0.0, float(1.0 - none.mean()))


def false_negative_rate(scores: SearchScores, threshold: float, gallery_size: int) -> float | None:
    """Return the FNIR: the share of enrolled people's searches that do not name them first.

    A search is right when the person is accepted and no other scores as high. None without a
    face that is no reference.

    Raises:
        InvalidInputError: ``gallery_size`` is below 1 or larger than any that was compared.
    """
    _check_gallery(scores, gallery_size)
    if not len(scores.mated):
        return None
    logs = log_factorials(scores.n_people)
    first = chance_of_none(scores.better, scores.largest_gallery, gallery_size - 1, logs)
    accepted = scores.mated >= np.float32(threshold)
    return max(0.0, float(1.0 - (accepted * first).mean()))


def threshold_at_fpir(scores: SearchScores, target_fpir: float, gallery_size: int) -> float:
    """Return the lowest float32 threshold at which the FPIR is at most ``target_fpir``.

    Raises:
        InvalidInputError: ``gallery_size`` is below 1 or larger than any that was compared, or the
            target is not between 0 and 1.
    """
    _check_gallery(scores, gallery_size)
    if not 0.0 < target_fpir < 1.0:
        raise InvalidInputError(f"a target FPIR lies between 0 and 1, got {target_fpir}")
    candidates = np.unique(scores.best)
    low, high = -1, len(candidates) - 1
    # Refusing the highest score of all leaves a rate of 0; refusing none may leave too much.
    while high - low > 1:
        middle = (low + high) // 2
        above = next_score_above(float(candidates[middle]))
        if false_positive_rate(scores, above, gallery_size) <= target_fpir:
            high = middle
        else:
            low = middle
    return next_score_above(float(candidates[high]))


def _check_gallery(scores: SearchScores, gallery_size: int) -> None:
    if not 1 <= gallery_size <= scores.largest_gallery:
        raise InvalidInputError(
            f"rates are known for 1 to {scores.largest_gallery:,} enrolled people, asked for "
            f"{gallery_size:,}"
        )
