"""Quality components against OFIQ's own results."""

from __future__ import annotations

import math

import pytest

from edgeface.quality import component
from edgeface.types import QualityMeasure

M = QualityMeasure

# Native and scalar results that OFIQ publishes for its 28 test images
# (data/tests/expected_results/expected_results.csv), chosen from the steep parts of the curves.
# The shares of over- and under-exposure are flat there; those two rows are the formula's.
OFIQ = [
    (M.SINGLE_FACE, 0.720493, 28),
    (M.SINGLE_FACE, 0.743829, 26),
    (M.ROLL, 27.373343, 79),
    (M.ROLL, -16.291553, 92),
    (M.PITCH, -13.847975, 94),
    (M.PITCH, -16.617661, 92),
    (M.YAW, 7.966364, 98),
    (M.MOUTH_CLOSED, 0.002205, 96),
    (M.MOUTH_CLOSED, 0.065307, 90),
    (M.MOUTH_CLOSED, 0.080564, 88),
    (M.EYES_OPEN, 0.023125, 58),
    (M.EYES_OPEN, 0.050498, 95),
    (M.EYES_OPEN, 0.059627, 98),
    (M.ILLUMINATION_UNIFORMITY, 0.009796, 25),
    (M.ILLUMINATION_UNIFORMITY, 0.148789, 56),
    (M.ILLUMINATION_UNIFORMITY, 0.843893, 95),
    (M.INTER_EYE_DISTANCE, 352.585483, 100),
    (M.DYNAMIC_RANGE, 6.912061, 86.400761),
    (M.DYNAMIC_RANGE, 5.560847, 69.510584),
    (M.LEFTWARD_CROP, 2.561339, 100),
    (M.MARGIN_BELOW, 1.726251, 32),
    (M.MARGIN_BELOW, 1.749557, 38),
    (M.MARGIN_BELOW, 2.021810, 90),
    (M.MARGIN_ABOVE, 1.545541, 81),
    (M.MARGIN_ABOVE, 1.742159, 97),
    (M.NATURAL_COLOUR, 0.0, 100),
    (M.NATURAL_COLOUR, 0.604248, 97),
    (M.NATURAL_COLOUR, 3.299769, 84),
    (M.NATURAL_COLOUR, 4.809711, 76),
    (M.NATURAL_COLOUR, 100.0, 0),
    (M.HEAD_SIZE, 0.224977, 2),
    (M.HEAD_SIZE, 0.257293, 4),
    (M.LUMINANCE_MEAN, 0.103973, 13),
    (M.LUMINANCE_MEAN, 0.190446, 45),
    (M.LUMINANCE_MEAN, 0.250659, 73),
    (M.LUMINANCE_MEAN, 0.498524, 100),
    (M.LUMINANCE_VARIANCE, 0.007321, 82),
    (M.LUMINANCE_VARIANCE, 0.014962, 100),
    (M.LUMINANCE_VARIANCE, 0.067844, 58),
    (M.OVER_EXPOSURE, 0.000043, 100),
    (M.OVER_EXPOSURE, 0.09, 10),
    (M.UNDER_EXPOSURE, 0.351960, 100),
    (M.UNDER_EXPOSURE, 0.92, 40),
]


@pytest.mark.parametrize(("measure", "native", "expected"), OFIQ)
def test_components_equal_ofiq(measure: QualityMeasure, native: float, expected: float) -> None:
    assert component(measure, native) == pytest.approx(expected, abs=0.5001)


@pytest.mark.parametrize("measure", QualityMeasure)
@pytest.mark.parametrize("value", [-1e9, -1.0, 0.0, 0.3, 1.0, 7.0, 50.0, 1e9])
def test_components_lie_in_their_range(measure: QualityMeasure, value: float) -> None:
    found = component(measure, value)
    assert found is None or 0 <= found <= 100


@pytest.mark.parametrize("measure", QualityMeasure)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_failure_to_assess_is_never_a_component(measure: QualityMeasure, value: float) -> None:
    assert component(measure, value) is None


@pytest.mark.parametrize(
    "measure", [M.DETECTION_SCORE, M.SHARPNESS, M.LUMINANCE, M.EMBEDDING_AGREEMENT]
)
def test_measures_that_are_not_the_standards_have_no_component(measure: QualityMeasure) -> None:
    assert component(measure, 0.5) is None
