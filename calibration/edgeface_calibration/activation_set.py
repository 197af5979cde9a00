"""Activation sets: the face crops whose activations set the ranges of an INT8 model.

The crops go through the very detection and alignment of the runtime: ranges taken from other
crops would be those of pictures that the model never sees.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import ActivationSetError, CameraError, InvalidInputError
from edgeface.types import ImageArray, read_only
from edgeface_calibration.crops import CropSource
from edgeface_calibration.pairs import image_files
from edgeface_calibration.progress import Progress, silent

__all__ = ["ActivationSet", "ActivationSetLimits", "load_activation_set"]

_HASH_SIDE = 8
# Of 64 bits. A recompressed or rescaled copy moves at most a bit or two.
_DUPLICATE_BITS = 2
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSetLimits:
    """How many faces are needed, advised, and used at most.

    Below 100 faces the ranges depend on who happens to be in them; beyond 1,000 they stop moving.
    """

    minimum: int = 100
    recommended: int = 300
    maximum: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise InvalidInputError(f"wanted 1 <= minimum <= maximum, got {self}")


@dataclass(frozen=True, slots=True, eq=False)
class ActivationSet:
    """Face crops and where they came from.

    ``crops`` is (n, height, width, 3) uint8 RGB, read-only; ``names`` are their files, relative
    to the folder. ``refused`` counts images left out, by reason: ``no_face``, ``duplicate``, and
    ``unusable`` (damaged, or neither JPEG nor PNG). ``notes`` are sentences for people.
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
    """Return the faces of the JPEG and PNG images under ``folder``, ordered by name.

    Where there are more images than ``limits.maximum``, they are visited in an order that is
    spread evenly over the sorted names and starts where ``seed`` says, until enough faces are
    found. Exact and near duplicates are left out.

    Args:
        folder: The images; sub-folders are entered.
        crop_source: Detection and alignment, as in the runtime.
        limits: How many faces are wanted.
        seed: Chooses the sample where there are too many images.
        progress: Shows how far the work is.

    Raises:
        ActivationSetError: There are fewer faces than ``limits.minimum``.
    """
    limits = limits or ActivationSetLimits()
    root = Path(folder)
    if not root.is_dir():
        raise ActivationSetError(
            f"there is no folder at {root}; give a folder of face images from the cameras that "
            "the model will work with"
        )
    paths = image_files(root)
    sieve = _Sieve(crop_source)
    order = [paths[k] for k in _even_order(len(paths), seed)]
    for path in progress("reading faces", order):
        sieve.take(path)
        if len(sieve.kept) == limits.maximum:
            break
    return _assemble(root, sieve, limits)


class _Sieve:
    """Keeps the crops that are faces and new; counts the others by reason."""

    def __init__(self, crop_source: CropSource) -> None:
        self.kept: dict[Path, ImageArray] = {}
        self.refused: Counter[str] = Counter()
        self.first_problem = ""
        self._crop_source = crop_source
        self._hashes = np.empty((0, _HASH_SIDE**2), np.bool_)

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
        elif self._is_known(face.pixels):
            self.refused["duplicate"] += 1
        else:
            self.kept[path] = face.pixels

    def _is_known(self, crop: ImageArray) -> bool:
        """Return whether the like of ``crop`` is kept already; remember it where not."""
        bits = _difference_hash(crop)
        known = bool(((self._hashes != bits).sum(axis=1) <= _DUPLICATE_BITS).any())
        if not known:
            self._hashes = np.concatenate([self._hashes, bits[None]])
        return known


def _assemble(root: Path, sieve: _Sieve, limits: ActivationSetLimits) -> ActivationSet:
    n_faces = len(sieve.kept)
    if n_faces < limits.minimum:
        refused = ", ".join(f"{count} {why}" for why, count in sorted(sieve.refused.items()))
        problem = f"; the first unusable one: {sieve.first_problem}" if sieve.first_problem else ""
        raise ActivationSetError(
            f"{root} gives {n_faces} faces (refused: {refused or 'none'}), wanted at least "
            f"{limits.minimum} and better {limits.recommended}; add images of different people, "
            f"one face each, from the cameras that the model will work with{problem}"
        )
    few = f"{n_faces} faces are few: {limits.recommended} or more give steadier ranges"
    paths = sorted(sieve.kept, key=lambda path: path.as_posix())
    return ActivationSet(
        crops=np.stack([sieve.kept[path] for path in paths]),
        names=tuple(path.relative_to(root).as_posix() for path in paths),
        refused=dict(sieve.refused),
        notes=(few,) if n_faces < limits.recommended else (),
    )


def _even_order(n: int, seed: int) -> Iterator[int]:
    """Give 0..n-1, each once, so that every beginning of the sequence is spread over the range.

    Steps of the golden section, rounded to a number that shares no factor with ``n``, leave no
    wide gap anywhere (Weyl's sequence).
    """
    step = max(1, round(n * _GOLDEN))
    while n and math.gcd(step, n) != 1:
        step += 1
    start = int(np.random.default_rng(seed).integers(n)) if n else 0
    for k in range(n):
        yield (start + k * step) % n


def _difference_hash(crop: ImageArray) -> npt.NDArray[np.bool_]:
    """Return 64 bits: whether each cell of a coarse grey picture is brighter than its neighbour."""
    grey = crop.astype(np.float32).mean(axis=2)
    rows = np.array_split(grey, _HASH_SIDE, axis=0)
    cells = [[part.mean() for part in np.array_split(row, _HASH_SIDE + 1, axis=1)] for row in rows]
    grid = np.asarray(cells)
    return (grid[:, 1:] > grid[:, :-1]).ravel()
