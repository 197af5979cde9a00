"""d-prime, the area under the ROC curve, and their intervals over people."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.types import FloatArray
from edgeface_export.discovery.separation import area_under_roc, difference, separate

PEOPLE = np.repeat(np.arange(30), 3)


def rows_of(noise: float, seed: int = 0) -> FloatArray:
    """Return unit rows: a direction for each person, with ``noise`` on each face."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, 16))
    rows = centres[PEOPLE] + noise * rng.standard_normal((len(PEOPLE), 16))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize(
    ("mated", "non_mated", "area"),
    [
        ([0.9], [0.1], 1.0),
        ([0.1], [0.9], 0.0),
        ([0.5], [0.5], 0.5),
        ([0.2, 0.8], [0.5], 0.5),
        ([0.4, 0.6, 0.9], [0.1, 0.5], 5 / 6),
    ],
)
def test_the_area_is_the_chance_that_a_mated_score_is_higher(
    mated: list[float], non_mated: list[float], area: float
) -> None:
    assert area_under_roc(np.array(mated), np.array(non_mated)) == pytest.approx(area)


def test_d_prime_is_that_of_all_pairs() -> None:
    rows = rows_of(0.8)
    scores = rows.astype(np.float64) @ rows.T
    upper = np.triu(np.ones_like(scores, dtype=bool), 1)
    same = PEOPLE[:, None] == PEOPLE[None]
    mated, other = scores[upper & same], scores[upper & ~same]
    wanted = (mated.mean() - other.mean()) / np.sqrt((mated.var() + other.var()) / 2)
    found = separate(rows, PEOPLE)
    assert found.d_prime == pytest.approx(wanted)
    assert (found.mated, found.non_mated) == (len(mated), len(other))
    assert found.low < found.d_prime < found.high


def test_less_noise_separates_more_and_the_difference_is_certain() -> None:
    better, worse = separate(rows_of(0.4), PEOPLE), separate(rows_of(1.5), PEOPLE)
    assert better.d_prime > worse.d_prime
    assert difference(better, worse)[0] > 0
    assert difference(worse, better)[1] < 0


def test_two_candidates_that_differ_by_rounding_cannot_be_told_apart() -> None:
    rows = rows_of(0.8)
    nearly = rows + np.float32(1e-7) * np.random.default_rng(1).standard_normal(rows.shape)
    low, high = difference(separate(rows, PEOPLE), separate(nearly.astype(np.float32), PEOPLE))
    assert low < 0 < high
    assert high - low < 1e-4


def test_the_same_rows_give_the_same_interval_every_time() -> None:
    first, second = separate(rows_of(0.8), PEOPLE), separate(rows_of(0.8), PEOPLE)
    assert (first.low, first.high) == (second.low, second.high)


def test_the_order_of_the_faces_changes_nothing() -> None:
    order = np.random.default_rng(2).permutation(len(PEOPLE))
    rows = rows_of(0.8)
    assert separate(rows[order], PEOPLE[order]).d_prime == pytest.approx(
        separate(rows, PEOPLE).d_prime
    )


@pytest.mark.parametrize("ruin", [np.nan, np.inf, 0.0, 1e30])
def test_rows_that_are_no_embeddings_separate_nobody(ruin: float) -> None:
    rows = rows_of(0.4)
    some = rows.copy()
    some[::2] = ruin
    assert separate(some, PEOPLE).d_prime < separate(rows, PEOPLE).d_prime
    found = separate(np.full_like(rows, ruin), PEOPLE)
    assert (found.d_prime, found.auc) == (0.0, 0.5)
