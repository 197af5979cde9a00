"""Quality components of ISO/IEC 29794-5: what a value is worth, 0..100.

Every mapping and constant is OFIQ's (release 1.0.3), which rounds to a whole number; these do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeface.types import QualityMeasure

__all__ = ["component"]


def component(measure: QualityMeasure, value: float) -> float | None:
    """Return the standard's quality component of a value, 0 worst to 100 best.

    None for a measure that the standard does not have, and for a value that is not finite:
    failure to assess is never 100.
    """
    mapping = _MAPPINGS.get(measure)
    if mapping is None or not math.isfinite(value):
        return None
    return min(100.0, max(0.0, mapping(value)))


def _sigmoid(value: float, middle: float, width: float) -> float:
    power = (middle - value) / width
    # Beyond this the result is 0 in double precision and exp overflows.
    return 0.0 if power > 700 else 1 / (1 + math.exp(power))


def _rising(middle: float, width: float) -> Callable[[float], float]:
    return lambda value: 100 * _sigmoid(value, middle, width)


def _angle(value: float) -> float:
    return 100 * max(0.0, math.cos(math.radians(value))) ** 2


def _head_size(value: float) -> float:
    return 200 * (1 - _sigmoid(abs(value - 0.45), 0.0, 0.05))


def _luminance_mean(value: float) -> float:
    return 100 * _sigmoid(value, 0.2, 0.05) * (1 - _sigmoid(value, 0.8, 0.05))


def _luminance_variance(value: float) -> float:
    return 100 * math.sin(math.pi * 60 * value / (60 * value + 1))


_MAPPINGS: dict[QualityMeasure, Callable[[float], float]] = {
    QualityMeasure.YAW: _angle,
    QualityMeasure.PITCH: _angle,
    QualityMeasure.ROLL: _angle,
    QualityMeasure.INTER_EYE_DISTANCE: _rising(70.0, 20.0),
    QualityMeasure.HEAD_SIZE: _head_size,
    QualityMeasure.LEFTWARD_CROP: _rising(0.9, 0.1),
    QualityMeasure.RIGHTWARD_CROP: _rising(0.9, 0.1),
    QualityMeasure.MARGIN_ABOVE: _rising(1.4, 0.1),
    QualityMeasure.MARGIN_BELOW: _rising(1.8, 0.1),
    QualityMeasure.EYES_OPEN: _rising(0.02, 0.01),
    QualityMeasure.MOUTH_CLOSED: lambda value: 100 * (1 - _sigmoid(value, 0.2, 0.06)),
    QualityMeasure.SINGLE_FACE: lambda value: 100 * (1 - value),
    QualityMeasure.LUMINANCE_MEAN: _luminance_mean,
    QualityMeasure.LUMINANCE_VARIANCE: _luminance_variance,
    QualityMeasure.DYNAMIC_RANGE: lambda value: 12.5 * value,
    QualityMeasure.ILLUMINATION_UNIFORMITY: lambda value: 100 * max(0.0, value) ** 0.3,
    QualityMeasure.OVER_EXPOSURE: lambda value: 1 / (max(0.0, value) + 0.01),
    QualityMeasure.UNDER_EXPOSURE: lambda value: 120 * (0.832 - _sigmoid(value, 0.92, 0.05)),
    QualityMeasure.NATURAL_COLOUR: lambda value: 200 * (1 - _sigmoid(value, 0.0, 10.0)),
}
