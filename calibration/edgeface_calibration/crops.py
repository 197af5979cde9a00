"""Aligned crops of single images: from a file of landmarks, or through detection."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeface.alignment import align, alignment_template
from edgeface.camera.images import read_image
from edgeface.detection.base import FaceDetector, LandmarkFinder
from edgeface.detection.sanity import landmarks_are_plausible
from edgeface.errors import InvalidInputError
from edgeface.types import AlignedFace, FaceDetection, FloatArray, Frame

__all__ = ["CropSource", "DetectorCrops", "FaceLocator", "LandmarkFileCrops", "read_landmarks"]


class CropSource(Protocol):
    """Turns an image into the aligned crop of its one face of interest."""

    def crop(self, path: Path) -> AlignedFace | None:
        """Return the crop, or None when no face is found.

        Raises:
            CameraError: The image cannot be read.
        """
        ...


class FaceLocator(Protocol):
    """Finds the five points of the one face of interest in an image."""

    def locate(self, path: Path) -> tuple[Frame, FloatArray] | None:
        """Return the image and the (5, 2) points in its pixels, or None when no face is found.

        Raises:
            CameraError: The image cannot be read.
        """
        ...


class LandmarkFileCrops:
    """Crops by landmarks that were written down beforehand.

    Args:
        landmarks: A file in the format of :func:`read_landmarks`.
        images: The folder that its names are relative to.
        template: Name of the alignment template.

    Raises:
        InvalidInputError: The file is malformed or the template unknown.
    """

    def __init__(
        self,
        landmarks: str | os.PathLike[str],
        images: str | os.PathLike[str],
        template: str,
    ) -> None:
        alignment_template(template)
        self._points_px = read_landmarks(landmarks)
        self._images = Path(images)
        self._template = template

    def crop(self, path: Path) -> AlignedFace | None:
        """Return the crop of the image ``path``, or None when no landmarks are known for it.

        Raises:
            CameraError: The image cannot be read.
            InvalidInputError: The image does not lie under the folder, or its landmarks lie on
                one spot.
        """
        found = self.locate(path)
        return None if found is None else align(*found, self._template)

    def locate(self, path: Path) -> tuple[Frame, FloatArray] | None:
        """Return the image ``path`` and its points, or None when none are known for it.

        Raises:
            CameraError: The image cannot be read.
            InvalidInputError: The image does not lie under the folder.
        """
        try:
            name = path.relative_to(self._images).as_posix()
        except ValueError as exc:
            raise InvalidInputError(f"{path} does not lie under {self._images}") from exc
        points_px = self._points_px.get(name)
        return None if points_px is None else (read_image(path), points_px)


class DetectorCrops:
    """Crops by detection and landmarks, of the face whose box is nearest the image's centre.

    The caller closes ``detector`` and ``landmark_finder``.

    Raises:
        InvalidInputError: The template is unknown.
    """

    def __init__(
        self, detector: FaceDetector, landmark_finder: LandmarkFinder, template: str
    ) -> None:
        alignment_template(template)
        self._detector = detector
        self._landmark_finder = landmark_finder
        self._template = template

    def crop(self, path: Path) -> AlignedFace | None:
        """Return the crop of the image ``path``, or None.

        None stands for no face, no landmarks, or landmarks that cannot be a face: what the
        runtime rejects before alignment.

        Raises:
            CameraError: The image cannot be read.
        """
        found = self.locate(path)
        return None if found is None else align(*found, self._template)

    def locate(self, path: Path) -> tuple[Frame, FloatArray] | None:
        """Return the image ``path`` and the points of its face, or None as :meth:`crop` does.

        Raises:
            CameraError: The image cannot be read.
        """
        frame = read_image(path)
        detections = self._detector.detect(frame)
        if not detections:
            return None
        nearest = min(detections, key=lambda found: _distance_from_centre_px(found, frame))
        landmarks = self._landmark_finder.find(frame, nearest)
        if landmarks is None or not landmarks_are_plausible(landmarks.points_px, nearest.box):
            return None
        return frame, landmarks.points_px


def read_landmarks(path: str | os.PathLike[str]) -> dict[str, FloatArray]:
    """Return the (5, 2) float32 x, y points in pixels of each image named in ``path``.

    A line is a name relative to the folder of images, then ten numbers, tab separated: eye, other
    eye, nose, mouth corner, other corner; the one further left in the image first.

    Raises:
        InvalidInputError: The file cannot be read, or a line is malformed (its number is given).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"the landmark file {path} cannot be read: {exc}") from exc
    points_px: dict[str, FloatArray] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        words = line.split("\t") if "\t" in line else line.split()
        try:
            values = np.array([float(word) for word in words[1:]], np.float32).reshape(5, 2)
        except ValueError:
            values = np.full((5, 2), np.nan, np.float32)
        if not np.isfinite(values).all() or words[0] in points_px:
            raise InvalidInputError(
                f"{path}, line {number}: wanted a new name and ten numbers, got {line[:80]!r}"
            )
        points_px[words[0]] = values
    return points_px


def _distance_from_centre_px(detection: FaceDetection, frame: Frame) -> float:
    x_px, y_px = detection.box.centre_px
    return float(np.hypot(x_px - frame.size.width_px / 2, y_px - frame.size.height_px / 2))
