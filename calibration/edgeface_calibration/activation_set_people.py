"""How many people a set of crops shows, estimated by a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.embedding import FaceEmbedder
from edgeface.types import FloatArray, ImageArray, OperatingPoint

__all__ = ["PeopleEstimate", "estimate_people", "group_by_score"]


@dataclass(frozen=True, slots=True)
class PeopleEstimate:
    """How many people there are, and the share of the crops that are of the most frequent one.

    ``threshold`` is the score that groups are joined at, that of an operating point at
    ``target_fmr``; ``provisional`` says that it was not measured with this model. ``n_crops``
    counts the crops that were compared, ``n_unusable`` those without an embedding.
    """

    count: int
    largest_share: float
    threshold: float
    target_fmr: float
    provisional: bool
    n_crops: int
    n_unusable: int


def estimate_people(
    crops: ImageArray, embedder: FaceEmbedder, point: OperatingPoint
) -> PeopleEstimate:
    """Return how many people ``crops``, aligned to the embedder's template, show.

    A group of crops counts as one person; groups are made by :func:`group_by_score` at the
    threshold of ``point``.

    Raises:
        InvalidInputError: The crops have not the model's size.
        BackendError: The engine failed.
    """
    rows = embedder.embed_arrays(crops)
    usable = rows[np.isfinite(rows).all(axis=1)]
    groups = group_by_score(usable, point.threshold)
    sizes = np.bincount(groups) if len(groups) else np.zeros(0, np.int64)
    return PeopleEstimate(
        count=len(sizes),
        largest_share=float(sizes.max() / len(usable)) if len(sizes) else 0.0,
        threshold=point.threshold,
        target_fmr=point.target_fmr,
        provisional=point.provisional,
        n_crops=len(usable),
        n_unusable=len(rows) - len(usable),
    )


def group_by_score(rows: FloatArray, threshold: float) -> npt.NDArray[np.int64]:
    """Return the group, from 0, of each of the (n, d) unit ``rows``.

    Every row begins as a group of its own, and the two groups whose rows have the highest mean
    score with each other are joined as long as that is at least ``threshold`` (agglomerative
    clustering with average linkage). Joining whatever two single rows score above the threshold
    would let a few false matches chain people together. Of 540 faces of 374 named people of LFW,
    and 21 in their backgrounds, it makes 408 to 413 groups by four MobileFaceNets at FMR 1e-4, and
    345 to 406 at 1e-3.
    """
    n = len(rows)
    scores = (rows @ rows.T).astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    sizes = np.ones(n)
    group = np.arange(n)
    while n:
        first, second = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[first, second] < threshold:
            break
        _join(scores, sizes, int(first), int(second))
        group[group == second] = first
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _join(
    scores: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], first: int, second: int
) -> None:
    """Put the mean scores of the joined group in the place of ``first``, and end ``second``."""
    joined = sizes[first] * scores[first] + sizes[second] * scores[second]
    joined /= sizes[first] + sizes[second]
    joined[[first, second]] = -np.inf
    scores[first], scores[:, first] = joined, joined
    scores[second], scores[:, second] = -np.inf, -np.inf
    sizes[first] += sizes[second]
