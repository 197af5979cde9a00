"""Sizes and rectangles in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeface.errors import InvalidInputError

__all__ = ["BoundingBox", "Size"]


@dataclass(frozen=True, slots=True)
class Size:
    """A size in pixels; never a bare tuple, so width and height cannot be swapped."""

    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InvalidInputError(f"a size is counted in whole pixels, got {self!r}")
            if value <= 0:
                raise InvalidInputError(f"a size must be positive, got {self}")
            object.__setattr__(self, name, int(value))

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A rectangle in frame pixels; may reach outside the frame."""

    left_px: float
    top_px: float
    width_px: float
    height_px: float

    def __post_init__(self) -> None:
        values = (self.left_px, self.top_px, self.width_px, self.height_px)
        if not all(math.isfinite(value) for value in values):
            raise InvalidInputError(f"a bounding box must be finite, got {values}")
        if self.width_px <= 0 or self.height_px <= 0:
            raise InvalidInputError(f"a bounding box must have an area, got {values}")

    @property
    def right_px(self) -> float:
        """X of the right edge."""
        return self.left_px + self.width_px

    @property
    def bottom_px(self) -> float:
        """Y of the lower edge."""
        return self.top_px + self.height_px

    @property
    def area_px(self) -> float:
        """Area in square pixels."""
        return self.width_px * self.height_px

    @property
    def centre_px(self) -> tuple[float, float]:
        """(x, y) of the centre."""
        return self.left_px + self.width_px / 2, self.top_px + self.height_px / 2

    def iou(self, other: BoundingBox) -> float:
        """Return the intersection over union with ``other``, in 0..1."""
        width = min(self.right_px, other.right_px) - max(self.left_px, other.left_px)
        height = min(self.bottom_px, other.bottom_px) - max(self.top_px, other.top_px)
        # In shares of the longer sides, so that no area overflows or comes to nothing.
        across, down = max(self.width_px, other.width_px), max(self.height_px, other.height_px)
        width = min(max(0.0, width), self.width_px, other.width_px) / across
        height = min(max(0.0, height), self.height_px, other.height_px) / down
        areas = [box.width_px / across * (box.height_px / down) for box in (self, other)]
        union = sum(areas) - width * height
        return width * height / union if union > 0 else 0.0
