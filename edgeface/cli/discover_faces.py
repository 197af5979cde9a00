"""The labelled faces that ``--discover`` names: found once, cut as often as there are templates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeface.cli.console import note, progress
from edgeface.cli.labelled_pairs import read_protocol
from edgeface.cli.needs import need_cpu
from edgeface.errors import CameraError
from edgeface.types import FloatArray, Frame

if TYPE_CHECKING:
    from edgeface_calibration.crops import FaceLocator
    from edgeface_export.discovery import LabelledFaces

__all__ = ["load_faces"]

_MAX_FACES = 400
# More faces of one person add pairs that say the same.
_MAX_OF_A_PERSON = 4
# Any template serves: only the points are asked for.
_TEMPLATE = "arcface-112x112"


def load_faces(photos: Path, images: Path | None, landmarks: Path | None) -> LabelledFaces:
    """Return up to 400 faces of the people in ``photos``, a folder for each or a list of pairs.

    Names in a list of pairs are relative to ``images``, by default the list's own folder.
    ``landmarks`` has the points of each image; without it faces are detected.

    Raises:
        InvalidInputError: The folder or list cannot be used, or has too few faces.
    """
    from edgeface_export.discovery.faces import LabelledFaces, numbered, patch_of

    need_cpu()
    listed = photos.is_file()
    folder = images or (photos.parent if listed else photos)
    protocol = read_protocol(photos if listed else None, folder, None)
    people_of = protocol.subject_of()
    if landmarks is not None:
        from edgeface_calibration.crops import read_landmarks

        marked = read_landmarks(landmarks)
        people_of = {name: person for name, person in people_of.items() if name in marked}
    names = chosen_images(people_of)
    patches, people = [], []
    with _locator(landmarks, folder) as locator, progress("finding faces", names) as bar:
        for name in bar:
            found = _located(locator, folder / name)
            if found is not None:
                patches.append(patch_of(*found))
                people.append(names[name])
    if len(patches) < len(names):
        missing = len(names) - len(patches)
        note(f"discovery: {missing} of {len(names)} photos cannot be read or show no face")
    return LabelledFaces(tuple(patches), numbered(people))


def chosen_images(subject_of: Mapping[str, str]) -> dict[str, str]:
    """Return up to 400 images and their people: those with most images first, at most four each."""
    of_person: dict[str, list[str]] = defaultdict(list)
    for name in sorted(subject_of):
        of_person[subject_of[name]].append(name)
    chosen: dict[str, str] = {}
    for person, names in sorted(of_person.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        some = names[:_MAX_OF_A_PERSON]
        chosen |= dict.fromkeys(some[: _MAX_FACES - len(chosen)], person)
    return chosen


def _located(locator: FaceLocator, path: Path) -> tuple[Frame, FloatArray] | None:
    try:
        return locator.locate(path)
    except CameraError:  # one damaged photo of hundreds; it is counted
        return None


@contextmanager
def _locator(landmarks: Path | None, images: Path) -> Iterator[FaceLocator]:
    from edgeface_calibration.crops import DetectorCrops, LandmarkFileCrops

    if landmarks is not None:
        yield LandmarkFileCrops(landmarks, images, _TEMPLATE)
        return
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder

    with closing(AutoRangeDetector()) as detector, closing(MediaPipeLandmarkFinder()) as finder:
        yield DetectorCrops(detector, finder, _TEMPLATE)
