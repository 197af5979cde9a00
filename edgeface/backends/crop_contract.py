"""What every engine of a bundle takes and gives, checked at the border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeface.bundle import Manifest
from edgeface.errors import BackendError, InvalidInputError
from edgeface.types import FloatArray, ImageArray

__all__ = ["CropContract"]


@dataclass(frozen=True, slots=True)
class CropContract:
    """Crops are uint8 (n, *``crop_shape``), rows float32 (n, ``embedding_size``).

    ``where`` names bundle and artefact in errors.
    """

    crop_shape: tuple[int, int, int]
    embedding_size: int
    where: str

    @classmethod
    def of(cls, manifest: Manifest, where: str) -> CropContract:
        """Return the contract of ``manifest``."""
        size = manifest.crop_size
        return cls((size.height_px, size.width_px, 3), manifest.embedding_size, where)

    def check_crops(self, crops: ImageArray) -> ImageArray:
        """Return ``crops``, contiguous.

        Raises:
            InvalidInputError: They have another type or shape.
        """
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != self.crop_shape:
            height, width, _ = self.crop_shape
            raise InvalidInputError(
                f"{self.where}: crops must be uint8 of shape (n, {height}, {width}, 3), got "
                f"{crops.dtype} {crops.shape}; align faces to the bundle's alignment template first"
            )
        return np.ascontiguousarray(crops)

    def no_rows(self) -> FloatArray:
        """Return what no crops give."""
        return np.empty((0, self.embedding_size), np.float32)

    def check_model(
        self,
        inputs: Sequence[tuple[str, Sequence[Any]]],
        outputs: Sequence[tuple[str, Sequence[Any]]],
    ) -> None:
        """Return if a model has the one input and the one output of this contract.

        Both are lists of (type, shape), the types as numpy writes them, the first axis free.

        Raises:
            BackendError: They differ from the contract.
        """
        wanted = (("uint8", self.crop_shape), ("float32", (self.embedding_size,)))
        for what, got, (kind, shape) in zip(
            ("inputs", "outputs"), (inputs, outputs), wanted, strict=True
        ):
            fits = len(got) == 1 and got[0][0] == kind and tuple(got[0][1][1:]) == shape
            if not fits:
                found = "; ".join(f"{name} {list(axes)}" for name, axes in got) or "none"
                raise BackendError(
                    f"{self.where}: the model's {what} are {found}, wanted {kind} "
                    f"{['n', *shape]}; export the model again"
                )
