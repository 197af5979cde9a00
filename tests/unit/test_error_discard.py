"""The error-versus-discard characteristic: known answers, ties, intervals, the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import InvalidInputError
from edgeface_calibration.error_discard import (
    ErrorDiscard,
    discard_effect,
    error_discard,
    pair_quality,
    save_error_discard,
    without_worst_images,
    without_worst_pairs,
)

SCORES = np.array([0.1, 0.2, 0.8, 0.9])
THRESHOLD = 0.5


def test_the_quality_of_a_pair_is_that_of_its_worse_image() -> None:
    assert pair_quality([0.9, 0.1, 0.5], [[0, 1], [2, 0], [2, 2]]).tolist() == [0.1, 0.5, 0.5]


def test_a_measure_that_knows_the_errors_discards_them_first() -> None:
    curve = error_discard(SCORES, [1, 2, 3, 4], THRESHOLD)
    assert curve.discarded.tolist() == [0, 0.25, 0.5, 0.75]
    assert curve.fnmr == pytest.approx([0.5, 1 / 3, 0, 0])


def test_a_measure_that_is_wrong_discards_them_last() -> None:
    curve = error_discard(SCORES, [4, 3, 2, 1], THRESHOLD)
    assert curve.fnmr == pytest.approx([0.5, 2 / 3, 1, 1])
    assert curve.area(0.9) > 1


def test_a_measure_that_knows_nothing_leaves_the_rate_where_it_is() -> None:
    curve = error_discard(SCORES, [7, 7, 7, 7], THRESHOLD)
    assert curve.fnmr == pytest.approx([0.5] * 4)
    assert curve.area(0.9) == pytest.approx(1)


def test_the_order_of_the_comparisons_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, quality = rng.random(200), rng.integers(0, 9, 200)
    order = rng.permutation(200)
    one = error_discard(scores, quality, THRESHOLD)
    other = error_discard(scores[order], quality[order], THRESHOLD)
    assert one.fnmr == pytest.approx(other.fnmr)


def test_infinite_quality_is_an_order_like_any_other() -> None:
    curve = error_discard(SCORES, [-np.inf, -np.inf, np.inf, 0], THRESHOLD)
    assert curve.fnmr == pytest.approx([0.5, 1 / 3, 0, 0])


@pytest.mark.parametrize(
    ("scores", "quality", "threshold"),
    [
        ([], [], 0.5),
        ([0.1, np.nan], [1, 2], 0.5),
        ([0.1, 0.2], [1, np.nan], 0.5),
        ([0.1, 0.2], [1], 0.5),
        ([0.1, 0.2], [1, 2], np.nan),
    ],
)
def test_unusable_numbers_are_refused(
    scores: list[float], quality: list[float], threshold: float
) -> None:
    with pytest.raises(InvalidInputError):
        error_discard(scores, quality, threshold)


def test_the_worst_share_goes() -> None:
    assert without_worst_pairs([3, 1, 2, 4], 0.25).tolist() == [True, False, True, True]
    assert without_worst_pairs([3, 1, 2, 4], 0.0).all()
    assert without_worst_pairs([1, 1, 1, 1], 0.5).tolist() == [False, False, True, True]


def test_a_pair_goes_with_either_of_its_images() -> None:
    pairs = [[0, 1], [1, 2], [2, 3], [0, 3]]
    assert without_worst_images([1, 2, 3, 4], pairs, 0.25).tolist() == [False, True, True, False]


@pytest.mark.parametrize("share", [-0.1, 1.0, np.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InvalidInputError):
        without_worst_pairs([1, 2], share)


@pytest.mark.parametrize("pairs", [[[0, 5]], [[-1, 0]], [0, 1]])
def test_pairs_that_name_no_image_are_refused(pairs: object) -> None:
    with pytest.raises(InvalidInputError):
        pair_quality([1, 2], pairs)  # type: ignore[arg-type]


def test_the_effect_of_discarding_is_counted() -> None:
    effect = discard_effect(SCORES, [False, True, True, True], [0, 1, 2, 3], THRESHOLD)
    assert effect.fnmr_before == 0.5
    assert effect.fnmr_after == pytest.approx(1 / 3)
    assert effect.change == pytest.approx(-1 / 3)
    assert effect.discarded == 0.25
    assert effect.n_errors == 2
    assert effect.change_low <= effect.change <= effect.change_high


def test_comparisons_of_one_person_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    failing = np.repeat(rng.random(50) < 0.3, 20)
    kept = rng.random(1000) < np.where(failing, 0.7, 0.95)
    scores = np.where(failing, 0.2, 0.8)
    alone = discard_effect(scores, kept, np.arange(1000), THRESHOLD)
    shared = discard_effect(scores, kept, np.arange(1000) // 20, THRESHOLD)
    assert shared.change == alone.change
    assert shared.change_high - shared.change_low > alone.change_high - alone.change_low


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second = (
        discard_effect(SCORES, [False, True, True, True], [0, 1, 2, 3], THRESHOLD, seed=3)
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("scores", "kept"),
    [(SCORES, [False] * 4), (SCORES + 1, [True] * 4), (SCORES, [True])],
    ids=["nothing stays", "nothing fails", "lengths differ"],
)
def test_an_effect_needs_errors_and_comparisons(scores: np.ndarray, kept: list[bool]) -> None:
    with pytest.raises(InvalidInputError):
        discard_effect(scores, kept, [0, 1, 2, 3], THRESHOLD)


@pytest.mark.parametrize("up_to", [0.0, 1.0, np.nan, 1e-9])
def test_an_area_of_nothing_is_refused(up_to: float) -> None:
    with pytest.raises(InvalidInputError):
        error_discard(SCORES, [1, 2, 3, 4], THRESHOLD).area(up_to)


def test_the_picture_shows_every_curve(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    scores = rng.random(400)
    curves = {
        name: error_discard(scores, scores + rng.normal(0, noise, 400), 0.3)
        for name, noise in (("good", 0.1), ("poor", 3.0))
    }
    path = tmp_path / "edc.png"
    save_error_discard(curves, path, title="made up")
    one = {"good": curves["good"]}
    save_error_discard(one, tmp_path / "one.png", title="made up")
    drawn, fewer = (cv2.imread(str(p)) for p in (path, tmp_path / "one.png"))
    assert (drawn != 255).any()
    assert (drawn != fewer).any()


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        save_error_discard({}, tmp_path / "edc.png")


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves = {"one": ErrorDiscard(np.array([0.0, 0.5]), np.array([0.1, 0.0]))}
    with pytest.raises(InvalidInputError, match="cannot be written"):
        save_error_discard(curves, tmp_path / "absent" / "edc.png")
