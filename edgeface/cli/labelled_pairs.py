"""Labelled pairs as the command line names them: a list or a folder, and where the faces are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgeface_calibration.crops import CropSource
    from edgeface_calibration.pairs import PairProtocol

__all__ = ["crop_source", "read_protocol"]


def read_protocol(pairs: Path | None, images: Path, folds: str | None) -> PairProtocol:
    """Return the pairs listed in ``pairs``, or without it those of the labelled folder ``images``.

    Raises:
        InvalidInputError: The list or the folder cannot be used.
    """
    from edgeface_calibration.pairs import parse_folds, read_folder, read_pairs

    if pairs is None:
        if folds is not None:
            raise typer.BadParameter("--folds needs --pairs: a labelled folder has no folds")
        return read_folder(images)
    return read_pairs(pairs, images, None if folds is None else parse_folds(folds))


@contextmanager
def crop_source(landmarks: Path | None, images: Path, template: str) -> Iterator[CropSource]:
    """Yield what crops the images: by the file ``landmarks``, or by the runtime's own detection."""
    from edgeface_calibration.crops import DetectorCrops, LandmarkFileCrops

    if landmarks is not None:
        yield LandmarkFileCrops(landmarks, images, template)
        return
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder

    with closing(AutoRangeDetector()) as detector, closing(MediaPipeLandmarkFinder()) as finder:
        yield DetectorCrops(detector, finder, template)
