"""From a frame to its faces: detected, followed up by landmarks, aligned and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeface.alignment import align
from edgeface.detection.base import FaceDetector, LandmarkFinder
from edgeface.detection.sanity import landmarks_are_plausible
from edgeface.detection.scanning import EveryFrameScanner, FaceScanner, ScanOptions
from edgeface.errors import InvalidInputError
from edgeface.quality import QualityGateOptions, assess
from edgeface.types import (
    AlignedFace,
    FaceDetection,
    FaceLandmarks,
    Frame,
    QualityReport,
    RejectionReason,
)

__all__ = ["FaceFinder", "FoundFace", "StageTimer"]


class StageTimer:
    """Adds up the milliseconds of each named stage."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._total_ms: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """Count the time since the last call, or since the timer was made, as ``name``."""
        now = self._clock()
        self._total_ms[name] = self._total_ms.get(name, 0.0) + (now - self._since) * 1e3
        self._since = now

    @property
    def total_ms(self) -> Mapping[str, float]:
        """Milliseconds by stage."""
        return dict(self._total_ms)


@dataclass(frozen=True, slots=True, eq=False)
class FoundFace:
    """A detected face, as far as it could be followed.

    ``aligned`` is set exactly when the face may be compared; else ``reasons`` says why not.
    """

    detection: FaceDetection
    landmarks: FaceLandmarks | None = None
    quality: QualityReport | None = None
    aligned: AlignedFace | None = None
    reasons: tuple[RejectionReason, ...] = field(default=())


class FaceFinder:
    """Finds the faces of a frame and makes them ready for comparison with one model.

    ``template`` names the model's alignment template. ``max_faces`` bounds the work on a crowded
    frame: the largest faces are followed up, the others left out. ``scanner`` makes what searches
    a stream; without it every frame of a stream is given to ``detector``.
    """

    def __init__(
        self,
        detector: FaceDetector,
        landmark_finder: LandmarkFinder,
        *,
        template: str,
        max_faces: int = 20,
        scanner: Callable[[ScanOptions], FaceScanner] | None = None,
    ) -> None:
        if max_faces < 1:
            raise InvalidInputError(f"max_faces must be at least 1, got {max_faces}")
        self._detector = detector
        self._landmark_finder = landmark_finder
        self._template = template
        self._max_faces = max_faces
        self._scanner = scanner

    def detect(self, frame: Frame) -> list[FaceDetection]:
        """Return the faces of ``frame``, the largest first, at most ``max_faces``."""
        return self.largest(self._detector.detect(frame))

    def largest(self, detections: Iterable[FaceDetection]) -> list[FaceDetection]:
        """Return the largest of ``detections`` first, at most ``max_faces``."""
        return sorted(detections, key=lambda face: -face.box.area_px)[: self._max_faces]

    def scanner(self, options: ScanOptions) -> FaceScanner:
        """Return what searches the frames of one stream."""
        if self._scanner is not None:
            return self._scanner(options)
        return EveryFrameScanner(self._detector)

    def whole_scanner(self) -> FaceScanner:
        """Return what searches every picture whole, for pictures that stand alone."""
        return EveryFrameScanner(self._detector)

    def find(
        self,
        frame: Frame,
        options: QualityGateOptions,
        *,
        detections: Sequence[FaceDetection] | None = None,
        timer: StageTimer | None = None,
    ) -> list[FoundFace]:
        """Return the faces of ``frame``, or of ``detections`` in it, in that order."""
        timer = timer or StageTimer()
        if detections is None:
            detections = self.detect(frame)
            timer.stage("detect")
        return [self._follow(frame, face, detections, options, timer) for face in detections]

    def _follow(
        self,
        frame: Frame,
        face: FaceDetection,
        detections: Sequence[FaceDetection],
        options: QualityGateOptions,
        timer: StageTimer,
    ) -> FoundFace:
        landmarks = self._landmark_finder.find(frame, face)
        timer.stage("landmarks")
        if landmarks is None:
            return FoundFace(face, reasons=(RejectionReason.LANDMARKS_NOT_FOUND,))
        if not landmarks_are_plausible(landmarks.points_px, face.box):
            return FoundFace(face, landmarks, reasons=(RejectionReason.LANDMARKS_IMPLAUSIBLE,))
        aligned = align(frame, landmarks.points_px, self._template)
        timer.stage("align")
        quality = assess(frame, face, landmarks, aligned, options, others=detections)
        timer.stage("quality")
        if not quality.passed:
            return FoundFace(face, landmarks, quality, reasons=quality.reasons)
        return FoundFace(face, landmarks, quality, aligned)

    def close(self) -> None:
        """Free the models; may be called twice."""
        self._detector.close()
        self._landmark_finder.close()
