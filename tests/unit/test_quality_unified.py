"""The unified quality: what raises it, what it needs, and the agreement of embeddings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeface.errors import InvalidInputError
from edgeface.quality import embedding_agreement, unified_quality, with_agreement
from edgeface.quality.unified import FEATURES, features
from edgeface.types import FloatArray, QualityMeasure, QualityReport, RejectionReason

M = QualityMeasure

# The medians of LFW outside the folds.
MEDIAN = {
    M.DETECTION_SCORE: 0.934,
    M.SHARPNESS: 0.37,
    M.PITCH: -2.0,
    M.LANDMARK_DISAGREEMENT: 0.088,
}
AGREEMENT = 0.95


def test_the_median_face_has_about_75() -> None:
    assert unified_quality(MEDIAN) == pytest.approx(75, abs=8)
    assert unified_quality({**MEDIAN, M.EMBEDDING_AGREEMENT: AGREEMENT}) == pytest.approx(
        75, abs=12
    )


@pytest.mark.parametrize("agreement", [{}, {M.EMBEDDING_AGREEMENT: AGREEMENT}])
@pytest.mark.parametrize(
    "worse",
    [
        {M.DETECTION_SCORE: 0.7},
        {M.SHARPNESS: 0.12},
        {M.PITCH: 25.0},
        {M.PITCH: -30.0},
        {M.LANDMARK_DISAGREEMENT: 0.25},
    ],
    ids=lambda change: next(iter(change)).value,
)
def test_each_measure_that_gets_worse_lowers_it(
    worse: dict[QualityMeasure, float], agreement: dict[QualityMeasure, float]
) -> None:
    good = {**MEDIAN, **agreement}
    assert unified_quality({**good, **worse}) < unified_quality(good) - 1


def test_an_embedding_that_changes_with_the_mirror_lowers_it() -> None:
    falling = [
        unified_quality({**MEDIAN, M.EMBEDDING_AGREEMENT: value}) for value in (0.99, 0.9, 0.7, 0.3)
    ]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 10


@pytest.mark.parametrize(
    "extreme", [{M.DETECTION_SCORE: 1.0}, {M.SHARPNESS: 0.0}, {M.LANDMARK_DISAGREEMENT: 1e6}]
)
def test_extremes_stay_in_range(extreme: dict[QualityMeasure, float]) -> None:
    assert 0 <= unified_quality({**MEDIAN, **extreme}) <= 100


def test_a_detector_without_points_counts_as_the_median() -> None:
    without: dict[QualityMeasure, float] = {
        key: value for key, value in MEDIAN.items() if key != M.LANDMARK_DISAGREEMENT
    }
    assert unified_quality(without) == pytest.approx(unified_quality(MEDIAN))


def test_a_missing_measure_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidInputError, match="sharpness"):
        unified_quality({M.DETECTION_SCORE: 0.9, M.PITCH: 0.0})


@pytest.mark.parametrize("measure", MEDIAN)
def test_a_measure_that_is_not_a_number_is_an_error(measure: QualityMeasure) -> None:
    with pytest.raises(InvalidInputError, match="finite"):
        unified_quality({**MEDIAN, measure: math.nan})


def test_features_are_named() -> None:
    assert len(features(MEDIAN)) == len(FEATURES)


def unit(*values: float) -> FloatArray:
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def test_agreement_is_a_cosine() -> None:
    assert embedding_agreement(unit(1, 2), unit(1, 2)) == pytest.approx(1)
    assert embedding_agreement(unit(1, 0), unit(0, 1)) == pytest.approx(0)
    assert embedding_agreement(unit(1, 0), unit(-1, 0)) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("first", "second"),
    [(unit(1, 0), unit(1, 0, 0)), (unit(1, 0)[None], unit(1, 0)[None]), (unit(1, 0), [np.nan, 1])],
)
def test_embeddings_that_cannot_be_compared_are_refused(first: FloatArray, second: object) -> None:
    with pytest.raises(InvalidInputError):
        embedding_agreement(first, np.asarray(second, np.float32))


def test_agreement_changes_the_score_and_keeps_the_reasons() -> None:
    report = QualityReport(MEDIAN, (RejectionReason.TOO_DARK,), unified_quality(MEDIAN) / 100)
    sure, unsure = with_agreement(report, 0.99), with_agreement(report, 0.5)
    assert unsure.score < report.score < sure.score
    assert sure.reasons == unsure.reasons == report.reasons
    assert sure.values[M.EMBEDDING_AGREEMENT] == 0.99


def test_agreement_does_not_make_up_for_a_measure_that_failed() -> None:
    assert with_agreement(QualityReport(MEDIAN, (), 0.0), 0.99).score == 0


@pytest.mark.parametrize("agreement", [math.nan, 1.1, -2.0])
def test_an_agreement_that_is_none_is_refused(agreement: float) -> None:
    with pytest.raises(InvalidInputError):
        with_agreement(QualityReport(MEDIAN, (), 0.5), agreement)
