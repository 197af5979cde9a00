from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import InvalidInputError
from edgeface_calibration.bootstrap import LabelledScores, tar_at_fmr
from edgeface_calibration.error_rates import (
    Interval,
    area_under_roc,
    equal_error_rate,
    error_curves,
    kfold_accuracy,
    next_score_above,
    resolvable,
    rule_of_three,
    threshold_at_fmr,
    unresolved_reason,
    wilson_interval,
)

# Coarse values make ties, which are where thresholds go wrong.
SCORES = st.one_of(
    st.floats(-1, 1, allow_nan=False),
    st.floats(-1, 1, allow_nan=False, width=32),
    st.integers(-10, 10).map(lambda k: k / 10),
)
SCORE_LISTS = st.lists(SCORES, min_size=1, max_size=200)


def labelled(mated: list[float], non_mated: list[float]) -> LabelledScores:
    """Every comparison has subjects of its own."""
    n = len(mated)
    return LabelledScores(
        np.array(mated, float),
        np.array(non_mated, float),
        np.arange(n),
        (n + np.arange(2 * len(non_mated))).reshape(-1, 2),
    )


@given(SCORE_LISTS, st.floats(1e-4, 0.9999))
def test_measured_fmr_never_exceeds_the_target(non_mated: list[float], target: float) -> None:
    threshold = threshold_at_fmr(np.array(non_mated), target)
    assert (np.array(non_mated) >= threshold).mean() <= target


@given(SCORE_LISTS, st.floats(1e-4, 0.9999))
def test_measured_fmr_never_exceeds_the_target_for_float32_scores(
    non_mated: list[float], target: float
) -> None:
    scores = np.array(non_mated, np.float32)
    threshold = threshold_at_fmr(scores, target)
    assert (scores >= threshold).mean() <= target
    assert np.float32(threshold) == threshold


@given(SCORE_LISTS, st.floats(1e-4, 0.9999))
def test_no_lower_threshold_at_a_score_would_keep_the_target(
    non_mated: list[float], target: float
) -> None:
    scores = np.array(non_mated, np.float32)
    threshold = threshold_at_fmr(scores, target)
    below = scores[scores < threshold]
    assert (scores >= below.max()).mean() > target


@given(SCORES)
def test_next_score_is_above_and_survives_float32(score: float) -> None:
    above = next_score_above(score)
    assert above > score
    assert np.float32(above) == above
    assert not np.float32(score) >= above or float(np.float32(score)) > score


@given(SCORE_LISTS, SCORE_LISTS)
def test_curves_fall_and_rise_from_everything_to_nothing(
    mated: list[float], non_mated: list[float]
) -> None:
    curves = error_curves(np.array(mated), np.array(non_mated))
    assert (np.diff(curves.fmr) <= 0).all()
    assert (np.diff(curves.fnmr) >= 0).all()
    assert (curves.fmr[0], curves.fnmr[0]) == (1.0, 0.0)
    assert (curves.fmr[-1], curves.fnmr[-1]) == (0.0, 1.0)


@given(SCORE_LISTS, SCORE_LISTS)
def test_area_counts_the_pairs_in_the_right_order(
    mated: list[float], non_mated: list[float]
) -> None:
    high, low = np.array(mated)[:, None], np.array(non_mated)[None]
    wanted = (high > low).mean() + (high == low).mean() / 2
    assert area_under_roc(np.array(mated), np.array(non_mated)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("mated", "non_mated", "eer", "auc"),
    [
        ([0.8, 0.9], [0.1, 0.2], 0.0, 1.0),
        ([0.1, 0.2], [0.8, 0.9], 1.0, 0.0),
        ([0.5, 0.5], [0.5, 0.5], 0.5, 0.5),
        ([0.2, 0.8, 0.9, 0.7], [0.1, 0.3, 0.0, 0.05], 0.25, 15 / 16),
    ],
)
def test_equal_error_rate_and_area(
    mated: list[float], non_mated: list[float], eer: float, auc: float
) -> None:
    assert equal_error_rate(np.array(mated), np.array(non_mated)) == pytest.approx(eer)
    assert area_under_roc(np.array(mated), np.array(non_mated)) == pytest.approx(auc)


@pytest.mark.parametrize("bad", [[], [math.nan, 0.1], [math.inf], [[0.1, 0.2]]])
def test_scores_that_are_missing_or_not_finite_are_refused(bad: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        threshold_at_fmr(np.array(bad), 0.1)
    with pytest.raises(InvalidInputError):
        error_curves(np.array([0.5]), np.array(bad))


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_target_outside_the_open_unit_interval_is_refused(target: float) -> None:
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        threshold_at_fmr(np.array([0.1, 0.2]), target)
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        tar_at_fmr(labelled([0.5], [0.1]), [target])


def reference_accuracy(
    scores: np.ndarray, same: np.ndarray, folds: np.ndarray
) -> tuple[float, list[float]]:
    """The common evaluator's loop, written out."""
    thresholds = np.linspace(-0.2, 1, 1201)
    rates = []
    for k in np.unique(folds):
        others = folds != k
        right = ((scores[others][:, None] > thresholds) == same[others][:, None]).mean(0)
        chosen = thresholds[right.argmax()]
        rates.append(float(((scores[~others] > chosen) == same[~others]).mean()))
    return float(np.mean(rates)), rates


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.booleans())
@settings(max_examples=40)
def test_kfold_accuracy_is_the_common_evaluators(seed: int, n_folds: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    same = np.arange(n_folds * 20) % 2 == 0
    folds = np.repeat(np.arange(n_folds), 20)
    scores = rng.normal(same * 0.5, 0.25).clip(-1, 1)
    if coarse:
        scores = scores.round(1)
    mean, rates = reference_accuracy(scores, same, folds)
    result = kfold_accuracy(scores, same, folds)
    assert result.mean == pytest.approx(mean, abs=1e-12)
    assert result.folds == pytest.approx(rates, abs=1e-12)
    assert result.std == pytest.approx(np.std(rates))
    assert result.n_correct == round(sum(rates) * 20)


def test_accuracy_of_one_fold_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="two folds"):
        kfold_accuracy(np.array([0.1, 0.9]), [False, True], [1, 1])


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_the_published_one(
    events: int, trials: int, low: float, high: float
) -> None:
    interval = wilson_interval(events, trials)
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


def test_nothing_tried_leaves_everything_possible() -> None:
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)
    assert rule_of_three(0) == 1.0
    assert rule_of_three(30_000) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("target", "n", "enough"), [(1e-2, 99, False), (1e-2, 100, True), (1e-3, 1000, True)]
)
def test_a_target_needs_one_comparison_per_error(target: float, n: int, enough: bool) -> None:
    assert resolvable(target, n) is enough


def test_what_cannot_be_resolved_is_said_and_not_invented() -> None:
    (figure,) = tar_at_fmr(labelled([0.5] * 10, [0.1] * 600), [1e-3])
    assert (figure.tar, figure.interval, figure.threshold) == (None, None, None)
    assert figure.note == unresolved_reason(1e-3, 600)
    assert "at least 1,000 non-mated comparisons, there are 600" in figure.note


@given(SCORE_LISTS, st.lists(SCORES, min_size=10, max_size=200), st.floats(0.1, 0.9))
@settings(max_examples=50)
def test_tar_is_the_common_evaluators(
    mated: list[float], non_mated: list[float], target: float
) -> None:
    ranked = np.sort(non_mated)[::-1]
    wanted = (np.array(mated) > ranked[int(target * len(ranked))]).mean()
    (figure,) = tar_at_fmr(labelled(mated, non_mated), [target], n_resamples=5)
    assert figure.tar == wanted


def test_interval_covers_the_figure_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(3)
    scores = labelled(list(rng.normal(0.5, 0.2, 300)), list(rng.normal(0, 0.2, 2000)))
    first, again = (tar_at_fmr(scores, [1e-2]) for _ in range(2))
    assert first == again
    assert first[0].tar is not None
    assert first[0].interval is not None
    assert first[0].interval.low < first[0].tar < first[0].interval.high
    assert first[0].note == "rests on 20 false matches; 30 make it firm"


def test_few_people_make_a_wider_interval_than_many() -> None:
    """Ten people with 60 pairs each prove less than 600 people with one."""
    rng = np.random.default_rng(0)
    mated = (np.repeat(rng.normal(0.5, 0.2, 10), 60)).clip(-1, 1)
    non_mated = rng.normal(0, 0.15, 2000)
    strangers = 600 + np.arange(4000).reshape(-1, 2)
    few = LabelledScores(mated, non_mated, np.repeat(np.arange(10), 60), strangers)
    many = LabelledScores(mated, non_mated, np.arange(600), strangers)
    widths = []
    for scores in (few, many):
        (figure,) = tar_at_fmr(scores, [1e-2])
        assert figure.interval is not None
        widths.append(figure.interval.high - figure.interval.low)
    assert widths[0] > 2 * widths[1]


def test_a_thousand_resamples_of_six_thousand_pairs_take_seconds() -> None:
    rng = np.random.default_rng(0)
    scores = LabelledScores(
        rng.normal(0.5, 0.2, 3000),
        rng.normal(0, 0.2, 3000),
        rng.integers(0, 2000, 3000),
        rng.integers(0, 2000, (3000, 2)),
    )
    started = time.perf_counter()
    tar_at_fmr(scores, [1e-2, 1e-3])
    assert time.perf_counter() - started < 10
