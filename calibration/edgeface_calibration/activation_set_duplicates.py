"""Near-duplicates among crops: they cost time and say nothing new about a model's ranges."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edgeface.types import ImageArray

__all__ = ["NearDuplicates", "count_near_duplicates", "difference_hash"]

_HASH_SIDE = 8
# Of 64 bits. A recompressed or rescaled copy moves at most a bit or two.
_DUPLICATE_BITS = 2


class NearDuplicates:
    """Remembers crops, and knows their like again."""

    def __init__(self) -> None:
        self._hashes = np.empty((0, _HASH_SIDE**2), np.bool_)

    def is_known(self, crop: ImageArray) -> bool:
        """Return whether the like of ``crop`` was seen already; remember it where not."""
        bits = difference_hash(crop)
        known = bool(((self._hashes != bits).sum(axis=1) <= _DUPLICATE_BITS).any())
        if not known:
            self._hashes = np.concatenate([self._hashes, bits[None]])
        return known


def count_near_duplicates(crops: Iterable[ImageArray]) -> int:
    """Return how many of ``crops`` are the like of one before them."""
    seen = NearDuplicates()
    return sum(seen.is_known(crop) for crop in crops)


def difference_hash(crop: ImageArray) -> npt.NDArray[np.bool_]:
    """Return 64 bits: whether each cell of a coarse grey picture is brighter than its neighbour."""
    grey = crop.astype(np.float32).mean(axis=2)
    rows = np.array_split(grey, _HASH_SIDE, axis=0)
    cells = [[part.mean() for part in np.array_split(row, _HASH_SIDE + 1, axis=1)] for row in rows]
    grid = np.asarray(cells)
    return (grid[:, 1:] > grid[:, :-1]).ravel()
