"""Activation sets: the face crops whose activations set the ranges of an INT8 model.

They come from a folder of photos, or from a set that ``edgeface activation-set collect`` wrote.
The crops go through the very detection and alignment of the runtime: ranges taken from other
crops would be those of pictures that the model never sees.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.errors import ActivationSetError, CameraError, InvalidInputError
from edgeface.types import ImageArray, read_only
from edgeface_calibration.activation_set_colour import check_skin_colour
from edgeface_calibration.activation_set_duplicates import NearDuplicates
from edgeface_calibration.activation_set_limits import (
    ActivationSetLimits,
    even_order,
    even_positions,
    require_enough,
)
from edgeface_calibration.activation_set_spot_check import spot_check
from edgeface_calibration.activation_set_store import (
    StoredActivationSet,
    cut_to_template,
    default_activation_set,
    is_activation_set,
)
from edgeface_calibration.crops import CropSource
from edgeface_calibration.pairs import image_files
from edgeface_calibration.progress import Progress, silent

__all__ = [
    "ActivationSet",
    "ActivationSetLimits",
    "default_activation_set",
    "load_activation_set",
]


@dataclass(frozen=True, slots=True, eq=False)
class ActivationSet:
    """Face crops and where they came from.

    ``crops`` is (n, height, width, 3) uint8 RGB, read-only; ``names`` are their files, relative
    to the folder. ``refused`` counts images left out, by reason: ``no_face``, ``duplicate``, and
    ``unusable`` (damaged, or neither JPEG nor PNG); of a collected set, what was counted then.
    ``notes`` are sentences for people.
    """

    crops: ImageArray
    names: tuple[str, ...]
    refused: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "crops", read_only(self.crops))

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.crops)

    def batches(self, size: int = 8) -> Iterator[ImageArray]:
        """Give the crops ``size`` at a time; may be called again."""
        for start in range(0, len(self.crops), size):
            yield self.crops[start : start + size]


def load_activation_set(
    folder: str | os.PathLike[str],
    crop_source: CropSource,
    *,
    limits: ActivationSetLimits | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ActivationSet:
    """Return the faces of the photos, or of the collected set, in ``folder``, ordered by name.

    Of a folder, JPEG and PNG images are read. Where there are more than ``limits.maximum``, they
    are visited in an order that is spread evenly over the sorted names and starts where ``seed``
    says, until enough faces are found. Exact and near duplicates are left out.

    Of a set that ``edgeface activation-set collect`` wrote, hashes are checked and 16 crops are
    found again; the others are taken as they are, cut to the template of ``crop_source`` where
    that is narrower. Where they are too many, an even sample is taken.

    Args:
        folder: The images, those of sub-folders too; or the set.
        crop_source: Detection and alignment, as in the runtime.
        limits: How many faces are wanted.
        seed: Chooses the sample where there are too many images.
        progress: Shows how far the work is.

    Raises:
        ActivationSetError: There are fewer faces than ``limits.minimum``, most have red and blue
            exchanged, or a set was changed, is not whole, or does not show aligned faces.
    """
    limits = limits or ActivationSetLimits()
    root = Path(folder)
    if not root.is_dir():
        raise ActivationSetError(
            f"there is no folder at {root}; give a folder of face images from the cameras that "
            "the model will work with"
        )
    if is_activation_set(root):
        return _load_stored(root, crop_source, limits)
    paths = image_files(root)
    sieve = _Sieve(crop_source)
    order = [paths[k] for k in even_order(len(paths), seed)]
    for path in progress("reading faces", order):
        sieve.take(path)
        if len(sieve.kept) == limits.maximum:
            break
    return _assemble(root, sieve, limits)


def _load_stored(root: Path, crop_source: CropSource, limits: ActivationSetLimits) -> ActivationSet:
    stored = StoredActivationSet.open(root)
    manifest = stored.manifest
    require_enough(str(root), len(stored), limits, refused=manifest.refused)
    wanted = spot_check(stored, crop_source)
    positions = even_positions(len(stored), limits.maximum)
    crops = stored.crops(positions)
    notes = limits.notes(len(crops)) + check_skin_colour(crops, str(root))
    return ActivationSet(
        crops=cut_to_template(crops, manifest.template, wanted),
        names=tuple(manifest.crops[k].file for k in positions),
        refused=dict(manifest.refused),
        notes=notes,
    )


class _Sieve:
    """Keeps the crops that are faces and new; counts the others by reason."""

    def __init__(self, crop_source: CropSource) -> None:
        self.kept: dict[Path, ImageArray] = {}
        self.refused: Counter[str] = Counter()
        self.first_problem = ""
        self._crop_source = crop_source
        self._known = NearDuplicates()

    def take(self, path: Path) -> None:
        """Keep the face in the image ``path``, or count why not."""
        try:
            face = self._crop_source.crop(path)
        except (CameraError, InvalidInputError) as exc:
            self.first_problem = self.first_problem or str(exc)
            self.refused["unusable"] += 1
            return
        if face is None:
            self.refused["no_face"] += 1
        elif self._known.is_known(face.pixels):
            self.refused["duplicate"] += 1
        else:
            self.kept[path] = face.pixels


def _assemble(root: Path, sieve: _Sieve, limits: ActivationSetLimits) -> ActivationSet:
    n_faces = len(sieve.kept)
    require_enough(
        str(root), n_faces, limits, refused=sieve.refused, first_problem=sieve.first_problem
    )
    paths = sorted(sieve.kept, key=lambda path: path.as_posix())
    crops = np.stack([sieve.kept[path] for path in paths])
    return ActivationSet(
        crops=crops,
        names=tuple(path.relative_to(root).as_posix() for path in paths),
        refused=dict(sieve.refused),
        notes=limits.notes(n_faces) + check_skin_colour(crops, str(root)),
    )
