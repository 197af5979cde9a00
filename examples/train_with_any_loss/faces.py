"""Aligned faces of a folder with a sub-folder for each person, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

TEMPLATE = "arcface-112x112"
_OF_EACH = 12


@dataclass(frozen=True)
class Faces:
    """Crops (n, 112, 112, 3) uint8 RGB, and for each the number of its person, from 0."""

    crops: npt.NDArray[np.uint8]
    people: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of people."""
        return int(self.people.max()) + 1


def read_faces(images: Path, landmarks: Path | None = None, *, most: int = 2000) -> Faces:
    """Return ``most`` faces of people with two photos or more, those with most photos first.

    Twelve of each person at most: more people teach more than more photos of the same.
    """
    folders: dict[Path, list[Path]] = {}
    for path in sorted(images.rglob("*.jpg")):
        folders.setdefault(path.parent, []).append(path)
    ordered = sorted(folders.values(), key=lambda paths: -len(paths))
    photos = [path for paths in ordered if len(paths) > 1 for path in paths[:_OF_EACH]]
    found = [
        (path, crop) for path, crop in _cut(photos[:most], images, landmarks) if crop is not None
    ]
    if not found:
        raise SystemExit(f"no faces of people with two photos under {images}")
    names = {name: k for k, name in enumerate(dict.fromkeys(p.parent for p, _ in found))}
    return Faces(
        np.stack([crop for _, crop in found]), np.array([names[p.parent] for p, _ in found])
    )


def _cut(
    photos: list[Path], images: Path, landmarks: Path | None
) -> Iterator[tuple[Path, npt.NDArray[np.uint8] | None]]:
    from edgeface_calibration.crops import DetectorCrops, LandmarkFileCrops

    if landmarks is not None:
        source = LandmarkFileCrops(landmarks, images, TEMPLATE)
        for path in photos:
            face = source.crop(path)
            yield path, None if face is None else face.pixels
        return
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder

    with closing(AutoRangeDetector()) as detector, closing(MediaPipeLandmarkFinder()) as finder:
        for path in photos:
            face = DetectorCrops(detector, finder, TEMPLATE).crop(path)
            yield path, None if face is None else face.pixels


def batches(
    faces: Faces, size: int, *, of_each: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Yield batches without end, every crop mirrored by chance.

    ``of_each`` 1 draws faces evenly, as classifiers want it; more draws that many faces of each
    of ``size // of_each`` people (P x K), so that every face has a mated one in its batch.
    """
    rng = np.random.default_rng(seed)
    of_person = [np.flatnonzero(faces.people == number) for number in range(faces.count)]
    while True:
        if of_each == 1:
            chosen = rng.choice(len(faces.people), size, replace=False)
        else:
            people = rng.choice(faces.count, min(size // of_each, faces.count), replace=False)
            chosen = np.concatenate(
                [rng.choice(of_person[k], of_each, len(of_person[k]) < of_each) for k in people]
            )
        crops = faces.crops[chosen]
        mirrored = rng.random(len(chosen)) < 0.5
        crops[mirrored] = crops[mirrored, :, ::-1]
        yield crops, faces.people[chosen]
