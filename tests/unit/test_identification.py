"""Rates of searches: what is computed is the average over every gallery that could be drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.types import FloatArray
from edgeface_calibration.error_rates import Interval
from edgeface_calibration.identification import (
    LabelledRows,
    SearchScores,
    chance_of_none,
    false_negative_rate,
    false_positive_rate,
    log_factorials,
    search_scores,
    threshold_at_fpir,
)
from edgeface_calibration.normalisation import cohort_figures
from edgeface_calibration.search_points import PointOptions
from edgeface_calibration.search_resampling import Resampler, spread_about


def people(
    n: int, per_person: int, *, size: int = 16, within: float = 0.6, seed: int = 0
) -> LabelledRows:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 1, size)) + within * rng.standard_normal((n, per_person, size))
    rows = rows.reshape(-1, size)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return LabelledRows(rows.astype(np.float32), np.repeat(np.arange(n), per_person), n)


def by_drawing_every_gallery(
    labelled: LabelledRows, threshold: float, size: int, templates: int = 1
) -> tuple[float, float]:
    """FPIR and FNIR over all galleries of ``size`` people, one search after the other."""
    enrolled = labelled.enrolled(templates)
    scores = np.stack(
        [
            (labelled.rows @ labelled.rows[enrolled & (labelled.subjects == s)].T).max(axis=1)
            for s in range(labelled.n_people)
        ],
        axis=1,
    ).clip(-1, 1)
    false, missed = [], []
    for row, person in enumerate(labelled.subjects):
        others = [s for s in range(labelled.n_people) if s != person]
        false += [
            scores[row, list(gallery)].max() >= np.float32(threshold)
            for gallery in itertools.combinations(others, size)
        ]
        if enrolled[row]:
            continue
        own = scores[row, person]
        for gallery in itertools.combinations(others, size - 1):
            best = scores[row, list(gallery)].max(initial=-2)
            missed.append(not (own >= np.float32(threshold) and own > best))
    return float(np.mean(false)), float(np.mean(missed))


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("templates", [1, 2])
@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.5, 0.8, 1.0])
def test_rates_are_those_of_every_gallery_that_could_be_drawn(
    size: int, templates: int, threshold: float
) -> None:
    labelled = people(6, 3)
    scores = search_scores(labelled, templates=templates)
    fpir, fnir = by_drawing_every_gallery(labelled, threshold, size, templates)
    assert false_positive_rate(scores, threshold, size) == pytest.approx(fpir, abs=1e-12)
    assert false_negative_rate(scores, threshold, size) == pytest.approx(fnir, abs=1e-12)


def test_the_chance_of_none_is_that_of_counting_draws() -> None:
    logs = log_factorials(7)
    for n_all, marked, drawn in itertools.product(range(1, 8), range(8), range(8)):
        if marked > n_all:
            continue
        draws = list(itertools.combinations(range(n_all), min(drawn, n_all)))
        none = np.mean([all(one >= marked for one in draw) for draw in draws])
        got = chance_of_none(np.array([marked]), n_all, drawn, logs)[0]
        assert got == pytest.approx(none, abs=1e-12), (n_all, marked, drawn)


@pytest.mark.parametrize("size", [1, 3, 20])
@pytest.mark.parametrize("target", [0.5, 0.1, 0.01, 1e-9])
def test_the_threshold_is_the_lowest_that_keeps_the_target(size: int, target: float) -> None:
    scores = search_scores(people(40, 2))
    threshold = threshold_at_fpir(scores, target, size)
    below = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    assert false_positive_rate(scores, threshold, size) <= target
    # One step lower the next score is accepted too.
    assert false_positive_rate(scores, below, size) > target


def test_a_larger_gallery_wants_a_higher_threshold() -> None:
    scores = search_scores(people(60, 2))
    found = [threshold_at_fpir(scores, 0.05, size) for size in (1, 5, 20, 59)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_short_lists_of_the_highest_scores_change_no_rate_that_is_asked_for() -> None:
    labelled = people(700, 1)
    full, short = (search_scores(labelled, smallest_gallery=size) for size in (1, 300))
    assert short.best.shape[1] < full.best.shape[1]
    for target in (0.2, 0.01):
        threshold = threshold_at_fpir(full, target, 300)
        rates = [false_positive_rate(scores, threshold, 300) for scores in (full, short)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-3)


def test_faces_without_a_usable_row_are_left_out() -> None:
    labelled = people(5, 2)
    rows = labelled.rows.copy()
    rows[3, 2] = np.nan
    names = [f"p{number}" for number in labelled.subjects]
    kept = LabelledRows.of(rows, names)
    assert len(kept.rows) == 9
    assert kept.n_people == 5
    with pytest.raises(InvalidInputError, match="names"):
        LabelledRows.of(rows, names[:-1])


def test_the_first_faces_of_a_person_are_the_references() -> None:
    rows = np.eye(6, dtype=np.float32)
    labelled = LabelledRows.of(rows, ["b", "a", "b", "b", "a", "c"])
    assert labelled.enrolled(1).tolist() == [True, True, False, False, False, True]
    assert labelled.enrolled(2).tolist() == [True, True, True, False, True, True]


def test_fewer_than_three_people_are_no_search() -> None:
    with pytest.raises(OperatingPointError, match="at least three people, got 2"):
        search_scores(people(2, 3))


@pytest.mark.parametrize("size", [0, 5])
def test_a_gallery_that_was_not_compared_has_no_rate(size: int) -> None:
    scores = search_scores(people(5, 2))
    for ask in (false_positive_rate, false_negative_rate, threshold_at_fpir):
        with pytest.raises(InvalidInputError, match="1 to 4"):
            ask(scores, 0.5, size)


def test_people_with_one_face_have_no_rate_of_missing() -> None:
    scores = search_scores(people(5, 1))
    assert false_negative_rate(scores, 0.5, 2) is None
    assert Resampler.of(scores, n_resamples=20).fnir(0.5, 2) is None


def test_no_error_leaves_three_in_n_and_never_zero() -> None:
    scores = search_scores(people(50, 2))
    resampler = Resampler.of(scores, n_resamples=50)
    assert resampler.fpir(1.0, 10) == Interval(0.0, 3 / 50)
    assert spread_about(0.0, np.zeros(9), n_units=100, n_events=0) == Interval(0.0, 0.03)


def test_few_errors_are_as_uncertain_as_a_count_of_as_many() -> None:
    steady = np.full(100, 0.01)
    few = spread_about(0.01, steady, n_units=1000, n_events=4)
    many = spread_about(0.01, steady, n_units=1000, n_events=400)
    assert few.low < 0.004
    assert few.high > 0.026
    assert many.low == pytest.approx(0.01)
    assert many.high == pytest.approx(0.01)


def test_intervals_hold_what_other_people_show() -> None:
    """Thresholds from 150 people, judged on 4,000 others of the same kind."""
    size, target = 50, 0.1
    truth = search_scores(people(4000, 1, size=12, seed=99), smallest_gallery=size)
    held_fpir, relative = 0, []
    for seed in range(30):
        scores = search_scores(people(150, 1, size=12, seed=seed), smallest_gallery=size)
        threshold = threshold_at_fpir(scores, target, size)
        interval = Resampler.of(scores, n_resamples=100, seed=seed).fpir(threshold, size)
        true = false_positive_rate(truth, threshold, size)
        held_fpir += interval.low <= true <= interval.high
        relative.append(true / target)
    # 95 % of 30 is 28.5; 24 or fewer would happen once in 100 runs.
    assert held_fpir >= 25
    assert np.mean(relative) == pytest.approx(1.0, abs=0.15)


def wolves(seed: int = 0) -> LabelledRows:
    """People of whom a tenth resemble each other, and so are taken for one another."""
    labelled = people(400, 3, size=32, within=0.5, seed=seed)
    rng = np.random.default_rng(seed)
    common = np.ones(32) / 32**0.5
    lean = np.where(rng.random(400) < 0.1, 1.6, 0.0)[labelled.subjects]
    rows = labelled.rows + lean[:, None] * common
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return LabelledRows(rows.astype(np.float32), labelled.subjects, 400)


def test_normalisation_helps_where_some_people_resemble_each_other() -> None:
    options = PointOptions(gallery_sizes=(200,), cohort_share=0.3, n_resamples=100)
    figures = cohort_figures(wolves(), options)
    assert figures.verdict == "helps"
    assert figures.normalised_fnir < figures.fnir
    assert figures.n_cohort == 120
    assert "helps" in figures.sentence


def test_normalisation_is_not_said_to_help_where_all_are_alike() -> None:
    options = PointOptions(gallery_sizes=(200,), cohort_share=0.3, n_resamples=100)
    figures = cohort_figures(people(400, 3, size=32, within=0.9), options)
    assert figures.verdict != "helps"


def test_a_cohort_of_a_few_people_is_refused() -> None:
    options = PointOptions(gallery_sizes=(10,), cohort_share=0.1)
    with pytest.raises(OperatingPointError, match="cohort of 20"):
        cohort_figures(people(50, 2), options)


def test_scores_of_a_search_name_who_was_taken_for_whom() -> None:
    labelled = people(30, 2)
    scores: SearchScores = search_scores(labelled)
    rows: FloatArray = labelled.rows
    enrolled = rows[labelled.enrolled(1)]
    for row in range(len(rows)):
        all_scores = (rows[row] @ enrolled.T).clip(-1, 1)
        all_scores[labelled.subjects[row]] = -2
        assert scores.best_of[row, 0] == all_scores.argmax()
        assert scores.best[row, 0] == pytest.approx(all_scores.max(), abs=1e-6)
