"""How well scores tell mated pairs from non-mated ones, with intervals over people.

The measure is d-prime: the distance of the two means over the root of the mean variance (Daugman,
"Biometric decision landscapes", 2000). It still tells candidates apart where the area under the
ROC curve of both is nearly 1. Intervals resample people, not pairs: the pairs of one person are
not independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.types import FloatArray

__all__ = ["Separation", "difference", "separate"]

_DRAWS = 400
# Below this a variance is that of embeddings which are all the same.
_LEAST_VARIANCE = 1e-12
_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """d-prime with its 95 % interval over people, and the area under the ROC curve.

    ``draws`` are d-prime of the same resamples of people for every candidate, so that two can be
    compared draw by draw.
    """

    d_prime: float
    low: float
    high: float
    auc: float
    mated: int
    non_mated: int
    draws: _Array


def separate(rows: FloatArray, people: npt.NDArray[np.int64], *, seed: int = 0) -> Separation:
    """Return how well the (n, size) unit ``rows`` of ``people`` separate.

    A row that is not finite or not of length 1 is compared as if its scores were 0: a candidate
    that breaks the network must not win by the crops it still embeds.
    """
    unit = np.where(_usable(rows)[:, None], rows, 0.0).astype(np.float64)
    scores: _Array = unit @ unit.T
    upper = np.triu(np.ones(scores.shape, bool), 1)
    same = people[:, None] == people[None]
    mated, other = upper & same, upper & ~same
    groups = np.unique(people, return_inverse=True)[1]
    weights = _weights(int(groups.max()) + 1, seed)
    draws = _d_prime(
        _moments(scores, mated, groups, weights), _moments(scores, other, groups, weights)
    )
    point = _d_prime(
        _moments(scores, mated, groups, np.ones_like(weights[:1])),
        _moments(scores, other, groups, np.ones_like(weights[:1])),
    )
    low, high = np.quantile(draws, [0.025, 0.975])
    return Separation(
        float(point[0]),
        float(low),
        float(high),
        area_under_roc(scores[mated], scores[other]),
        int(mated.sum()),
        int(other.sum()),
        draws,
    )


def difference(first: Separation, second: Separation, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the d-prime of ``first`` less that of ``second``, draw by draw."""
    tail = (1 - level) / 2
    low, high = np.quantile(first.draws - second.draws, [tail, 1 - tail])
    return float(low), float(high)


def area_under_roc(mated: _Array, non_mated: _Array) -> float:
    """Return the chance that a mated score is above a non-mated one; ties count as half."""
    ordered = np.sort(non_mated)
    below = np.searchsorted(ordered, mated, "left")
    up_to = np.searchsorted(ordered, mated, "right")
    return float((below + up_to).mean() / 2 / len(ordered))


def _usable(rows: FloatArray) -> npt.NDArray[np.bool_]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1) < 1e-3)


def _weights(people: int, seed: int) -> _Array:
    """Return (draws, people) counts: how often each person is in a resample."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(people, np.full(people, 1 / people), _DRAWS).astype(np.float64)


def _moments(
    scores: _Array,
    kind: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    weights: _Array,
) -> tuple[_Array, _Array]:
    """Return mean and variance of the scores of ``kind`` for each draw of people.

    A pair counts as often as the product of its people's counts, a mated one as often as its
    person.
    """
    people = weights.shape[1]
    rows, columns = np.nonzero(kind)
    cells = groups[rows] * people + groups[columns]
    values = scores[rows, columns]
    sums = [
        np.bincount(cells, part, people * people).reshape(people, people)
        for part in (np.ones_like(values), values, np.square(values))
    ]
    if (groups[rows] == groups[columns]).all():
        count, total, square = (weights @ np.diagonal(part) for part in sums)
    else:
        count, total, square = (((weights @ part) * weights).sum(axis=1) for part in sums)
    count = np.maximum(count, 1.0)
    mean = total / count
    return mean, square / count - np.square(mean)


def _d_prime(mated: tuple[_Array, _Array], other: tuple[_Array, _Array]) -> _Array:
    spread = np.sqrt(np.maximum((mated[1] + other[1]) / 2, _LEAST_VARIANCE))
    return np.asarray((mated[0] - other[0]) / spread)
