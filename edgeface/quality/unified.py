"""One number for how useful a face is for recognition, fitted to what recognisers do.

The score of two images of one person rises with the quality of both. A line through five measures
of each image was fitted to such scores, every coefficient at least 0, so that no measure can make
a face better by getting worse. ``calibration/recipes/quality`` makes the constants and has the
evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeface.errors import InvalidInputError
from edgeface.types import FloatArray, QualityMeasure

__all__ = ["FEATURES", "embedding_agreement", "features", "unified_quality"]

FEATURES = ("detection", "sharpness", "looking_up", "looking_down", "agreement_of_points")
"""Names of what :func:`features` returns, in order."""

_MEDIAN_DISAGREEMENT = 0.088
"""Stands in where the detector gives no points to compare: the median over LFW."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Coefficients of the features, of the agreement of embeddings, and the line's scale.

    ``median`` and ``low`` are the median and the worst twentieth of undamaged LFW faces.
    """

    coefficients: tuple[float, ...]
    agreement: float
    median: float
    low: float


# Fitted to 14,805 mated pairs of 202 people of LFW who are in none of the folds: 1,230 images and
# 3,601 damaged copies, cosines of two MobileFaceNets (Xiaoccer's and foamliu's). Correlation of
# the line with the cosines 0.57 without agreement and 0.66 with it; 0.34 and 0.52 on pairs of
# undamaged images alone.
_MEASURES = _Line((0.5706, 0.182, 0.534, 0.1075, 2.708), 0.0, 1.0492, 0.6228)
_WITH_AGREEMENT = _Line((0.3972, 0.1871, 0.2147, 0.06347, 0.9691), 12.08, 12.3858, 11.8741)


def unified_quality(values: Mapping[QualityMeasure, float]) -> float:
    """Return the unified quality of a face, 0..100: 75 is the median of LFW, 50 its worst 5 %.

    Uses the agreement of embeddings where ``values`` hold it; it predicts better with it. Not the
    unified quality score of ISO/IEC 29794-5, which is the length of one network's features.

    Raises:
        InvalidInputError: A measure that is needed is missing or not finite.
    """
    agreement = values.get(QualityMeasure.EMBEDDING_AGREEMENT)
    line = _MEASURES if agreement is None else _WITH_AGREEMENT
    terms = zip(line.coefficients, features(values), strict=True)
    total = sum(weight * value for weight, value in terms)
    if agreement is not None:
        total += line.agreement * max(0.0, agreement)
    if not math.isfinite(total):
        raise InvalidInputError("a measure that the unified quality needs is not finite")
    # A logistic curve through (median, 0.75) and (low, 0.5).
    return 100 / (1 + math.exp(-math.log(3) * (total - line.low) / (line.median - line.low)))


def features(values: Mapping[QualityMeasure, float]) -> tuple[float, ...]:
    """Return what the line is fitted to, in the order of ``FEATURES``; more is better.

    Raises:
        InvalidInputError: A measure that is needed is missing.
    """
    m = QualityMeasure
    needed = (m.DETECTION_SCORE, m.SHARPNESS, m.PITCH)
    missing = [measure.value for measure in needed if measure not in values]
    if missing:
        raise InvalidInputError(f"the unified quality needs the measures {', '.join(missing)}")
    pitch = values[m.PITCH]
    disagreement = values.get(m.LANDMARK_DISAGREEMENT, _MEDIAN_DISAGREEMENT)
    # Beyond these limits more or less of a measure no longer changed the scores of LFW.
    return (
        -math.log(1 - _within(values[m.DETECTION_SCORE], 0.5, 0.975)),
        math.log(_within(values[m.SHARPNESS], 0.06, 0.4)),
        -_within(pitch, 0.0, 40.0) / 30,
        -_within(-pitch, 0.0, 40.0) / 30,
        -_within(disagreement, 0.03, 0.3),
    )


def embedding_agreement(embedding: FloatArray, of_mirrored: FloatArray) -> float:
    """Return the cosine of the embeddings of a crop and of its mirror image, -1..1.

    A recogniser that is sure of a face gives both the same; after the idea of SER-FIQ (Terhorst
    et al., CVPR 2020), with one mirror in place of a hundred dropouts. It costs a second run of
    the network. Both are (embedding size,) float32 of unit length.

    Raises:
        InvalidInputError: The shapes differ, or a number is not finite.
    """
    first, second = np.asarray(embedding, np.float64), np.asarray(of_mirrored, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise InvalidInputError(
            f"agreement needs two embeddings of one shape, got {first.shape} and {second.shape}"
        )
    cosine = float(first @ second)
    if not math.isfinite(cosine):
        raise InvalidInputError("an embedding holds NaN or infinity")
    return min(1.0, max(-1.0, cosine))


def _within(value: float, low: float, high: float) -> float:
    """Return ``value`` brought into the limits; NaN stays NaN."""
    return value if math.isnan(value) else min(high, max(low, value))
