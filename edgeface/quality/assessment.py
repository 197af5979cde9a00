"""The report on one face: its measures, the gates it fails, its score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeface.errors import InvalidInputError
from edgeface.quality import geometry, pixels
from edgeface.quality.gates import failed_gates
from edgeface.quality.options import QualityGateOptions
from edgeface.quality.unified import unified_quality
from edgeface.types import (
    AlignedFace,
    FaceDetection,
    FaceLandmarks,
    Frame,
    QualityMeasure,
    QualityReport,
)

__all__ = ["assess", "with_agreement"]


def assess(
    frame: Frame,
    detection: FaceDetection,
    landmarks: FaceLandmarks,
    aligned: AlignedFace,
    options: QualityGateOptions,
    *,
    others: Sequence[FaceDetection] | None = None,
) -> QualityReport:
    """Return the measures of one face, the reasons it fails ``options``, and its score.

    A measure that is not finite is left out of ``values``, fails its gate and brings the score
    to 0. The score does not depend on ``options``. ``others`` are the other faces of the frame,
    for the measure of a single face, which is not taken without them.
    """
    measured = {
        QualityMeasure.DETECTION_SCORE: detection.score,
        QualityMeasure.EYE_DISTANCE: landmarks.eye_distance_px,
        QualityMeasure.SHARPNESS: pixels.sharpness(aligned.pixels),
        QualityMeasure.LUMINANCE: pixels.luminance(aligned.pixels),
        QualityMeasure.YAW: landmarks.yaw_deg,
        QualityMeasure.PITCH: landmarks.pitch_deg,
        QualityMeasure.ROLL: landmarks.roll_deg,
        QualityMeasure.INSIDE_FRAME: geometry.share_inside(frame, aligned),
        **pixels.light_measures(aligned.pixels),
        **pixels.skin_measures(landmarks, aligned),
        **geometry.mesh_measures(landmarks, frame.size),
    }
    disagreement = geometry.landmark_disagreement(detection, landmarks)
    if disagreement is not None:
        measured[QualityMeasure.LANDMARK_DISAGREEMENT] = disagreement
    if others is not None:
        measured[QualityMeasure.SINGLE_FACE] = geometry.single_face(detection, others)
    score = _score(measured)
    values = {measure: value for measure, value in measured.items() if math.isfinite(value)}
    return QualityReport(values, failed_gates(measured, score, options), score)


def with_agreement(report: QualityReport, agreement: float) -> QualityReport:
    """Return ``report`` with the agreement of two embeddings of the face in its score.

    ``agreement`` is :func:`edgeface.quality.embedding_agreement`, -1..1. The reasons stay: they
    were found before anything was embedded.

    Raises:
        InvalidInputError: ``agreement`` is not in -1..1.
    """
    if not -1.0 <= agreement <= 1.0:
        raise InvalidInputError(f"the agreement of two embeddings is in -1..1, got {agreement}")
    values = {**report.values, QualityMeasure.EMBEDDING_AGREEMENT: agreement}
    # A face of score 0 had a measure that failed: agreement does not make up for it.
    return replace(report, values=values, score=_score(values) if report.score > 0 else 0.0)


def _score(measured: Mapping[QualityMeasure, float]) -> float:
    """Return the unified quality over 100, and 0 where a measure failed."""
    if not all(math.isfinite(value) for value in measured.values()):
        return 0.0
    return unified_quality(measured) / 100
