"""Faces of a folder of pictures as the runtime sees them: measures, crops, embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edgeface.alignment import ALIGNMENT_TEMPLATES, align
from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface.detection import (
    AutoRangeDetector,
    MediaPipeLandmarkFinder,
    landmarks_are_plausible,
)
from edgeface.embedding import FaceEmbedder
from edgeface.quality import QualityGateOptions, assess
from edgeface.types import FaceLandmarks, FloatArray, Frame, ImageArray, QualityReport

__all__ = ["Face", "FaceReader", "agreements", "embeddings"]


class Face:
    """One face: its landmarks, its report and its crop in every alignment template."""

    def __init__(
        self, landmarks: FaceLandmarks, report: QualityReport, crops: dict[str, ImageArray]
    ) -> None:
        self.landmarks = landmarks
        self.report = report
        self.crops = crops


class FaceReader:
    """Finds the face nearest the centre of a picture, and measures it."""

    def __init__(self) -> None:
        self._detector = AutoRangeDetector()
        self._finder = MediaPipeLandmarkFinder()
        self._options = QualityGateOptions.watch()

    def read(self, pixels: ImageArray) -> Face | None:
        """Return the face in ``pixels``, or None when the runtime would reject it unmeasured."""
        frame = Frame(pixels)
        found = self._detector.detect(frame)
        if not found:
            return None
        centre = np.array([frame.size.width_px, frame.size.height_px]) / 2
        nearest = min(found, key=lambda face: float(np.hypot(*(face.box.centre_px - centre))))
        landmarks = self._finder.find(frame, nearest)
        if landmarks is None or not landmarks_are_plausible(landmarks.points_px, nearest.box):
            return None
        aligned = {name: align(frame, landmarks.points_px, name) for name in ALIGNMENT_TEMPLATES}
        report = assess(
            frame, nearest, landmarks, aligned["arcface-112x112"], self._options, others=found
        )
        return Face(landmarks, report, {name: face.pixels for name, face in aligned.items()})

    def close(self) -> None:
        """Free the models."""
        self._detector.close()
        self._finder.close()


def embeddings(bundle: Path, faces: Sequence[Face]) -> tuple[FloatArray, FloatArray]:
    """Return the (n, size) float32 embeddings of the crops, and of their mirror images."""
    opened = Bundle.open(bundle)
    template = opened.manifest.alignment_template
    with closing(open_backend(opened, artefact="fp32", backend="ort", threads=1)) as backend:
        embedder = FaceEmbedder(backend, opened.manifest)
        plain = embedder.embed_arrays(_crops(faces, template))
        mirrored = embedder.embed_arrays(crop[:, ::-1] for crop in _crops(faces, template))
    return plain, mirrored


def agreements(plain: FloatArray, mirrored: FloatArray) -> np.ndarray:
    """Return the (n,) cosines of embeddings and those of the mirror images."""
    return np.einsum("nd,nd->n", plain.astype(np.float64), mirrored.astype(np.float64))


def _crops(faces: Iterable[Face], template: str) -> Iterator[ImageArray]:
    for face in faces:
        yield face.crops[template]
