"""The crops of an export: those that set INT8 ranges, and others that measure what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import numpy as np

from edgeface.errors import ActivationSetError, InvalidInputError
from edgeface.types import ImageArray, Size
from edgeface_export.architectures.network import Network
from edgeface_export.probes import synthetic_crops
from edgeface_export.synthetic_faces import PROVENANCE, load_synthetic_faces

__all__ = ["ActivationCrops", "CropKind", "CropLoader", "CropSets", "choose_crops"]

_PICTURES = 64
# Every fourth crop measures what the other three set: figures on the very crops that set the
# ranges would flatter.
_HELD_OUT = 4
_MIN_CROPS = 2


class CropKind(str, Enum):
    """What the crops of an export show, which decides what its gates ask of them.

    ``FACES`` are an activation set, ``SYNTHETIC_FACES`` the built-in ones, ``PICTURES`` patterns
    with the spectrum of natural images, for crop sizes that no synthetic face was made in.
    """

    FACES = "faces"
    SYNTHETIC_FACES = "synthetic faces"
    PICTURES = "synthetic pictures"


@dataclass(frozen=True, slots=True, eq=False)
class ActivationCrops:
    """An activation set: (n, height, width, 3) uint8 RGB ``crops``, and ``facts`` for the report.

    ``facts`` are numbers, texts and flags by name, or one level of such facts.
    """

    crops: ImageArray
    facts: Mapping[str, Any] = field(default_factory=dict)


CropLoader: TypeAlias = Callable[[Network], ActivationCrops]
"""Returns the activation set, aligned to a network's template."""


@dataclass(frozen=True, slots=True, eq=False)
class CropSets:
    """Crops (n, height, width, 3) uint8 RGB: ``ranging`` set INT8 ranges, ``held_out`` measure.

    ``ranging`` is None where BatchNorm's statistics must set the ranges. ``facts`` say where the
    crops come from.
    """

    ranging: ImageArray | None
    held_out: ImageArray
    kind: CropKind
    facts: Mapping[str, Any]

    @property
    def data_free(self) -> bool:
        """Whether no picture of a person took part."""
        return self.kind is not CropKind.FACES

    @property
    def show_faces(self) -> bool:
        """Whether the crops look like what a recogniser was trained on."""
        return self.kind is not CropKind.PICTURES


def choose_crops(activation_set: CropLoader | None, network: Network) -> CropSets:
    """Return the crops of ``activation_set``, or without one the built-in synthetic faces.

    Raises:
        ActivationSetError: The activation set has too few crops, or crops of another form.
    """
    if activation_set is not None:
        loaded = activation_set(network)
        crops = _usable(loaded.crops, network.crop_size)
        return _parted(crops, CropKind.FACES, {"faces": len(crops), **loaded.facts})
    try:
        faces = load_synthetic_faces(network.crop_size)
    except InvalidInputError:
        # No synthetic face has that size: known in advance, and the verdict says so.
        pictures = synthetic_crops(_PICTURES, network.crop_size)
        facts = {"data_free": True, "ranges": "from BatchNorm's statistics", "pictures": _PICTURES}
        return CropSets(None, pictures, CropKind.PICTURES, facts)
    return _parted(
        faces, CropKind.SYNTHETIC_FACES, {"data_free": True, "synthetic_faces": PROVENANCE}
    )


def _parted(crops: ImageArray, kind: CropKind, facts: Mapping[str, Any]) -> CropSets:
    held_out = crops[::_HELD_OUT]
    ranging = np.delete(crops, np.s_[::_HELD_OUT], axis=0)
    counts = {"crops_that_set_ranges": len(ranging), "crops_that_measure": len(held_out)}
    return CropSets(ranging, held_out, kind, {**facts, **counts})


def _usable(crops: ImageArray, size: Size) -> ImageArray:
    """Return ``crops`` if they can set the ranges of a network that reads crops of ``size``."""
    wanted = (size.height_px, size.width_px, 3)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != wanted:
        raise ActivationSetError(
            f"the activation set must be uint8 RGB crops of shape (n, {size.height_px}, "
            f"{size.width_px}, 3), got {crops.dtype} of shape {crops.shape}; "
            "align the faces to the network's template"
        )
    if len(crops) < _MIN_CROPS:
        raise ActivationSetError(
            f"the activation set must have at least {_MIN_CROPS} crops, got {len(crops)}: "
            f"one in {_HELD_OUT} is held out to measure what the others set; give more faces"
        )
    return crops
