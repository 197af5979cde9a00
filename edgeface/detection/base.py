"""The seams for finding faces and their landmarks."""

from __future__ import annotations

from typing import Protocol

from edgeface.types import FaceDetection, FaceLandmarks, Frame

__all__ = ["FaceDetector", "LandmarkFinder"]


class FaceDetector(Protocol):
    """Finds the faces of a frame."""

    def detect(self, frame: Frame) -> list[FaceDetection]:
        """Return the faces found, best score first; an empty list when there is none."""
        ...

    def close(self) -> None:
        """Free the model; may be called twice."""
        ...


class LandmarkFinder(Protocol):
    """Finds the landmarks of one detected face."""

    def find(self, frame: Frame, detection: FaceDetection) -> FaceLandmarks | None:
        """Return the landmarks, or None when the face cannot be followed up."""
        ...

    def close(self) -> None:
        """Free the model; may be called twice."""
        ...
