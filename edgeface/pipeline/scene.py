"""Whether a picture is another scene than the one before: what was known of faces is in doubt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeface.types import Frame

__all__ = ["SceneWatch"]

_SAMPLES = 64
"""Points along the longer side of a frame."""
_LEVELS = 24
_SHARE = 0.22
"""Points that change by more than 24 levels from one frame to the next: at cuts of a dark film
27 to 33 %, at changes of light 53 to 56 %, and otherwise at most 17 % in five clips."""


class SceneWatch:
    """Compares each frame with the one before."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.int16] | None = None

    def is_cut(self, frame: Frame) -> bool:
        """Return whether ``frame`` shows another scene; also for a frame of another size."""
        step = max(1, max(frame.size.width_px, frame.size.height_px) // _SAMPLES)
        samples = frame.pixels[::step, ::step, 1].astype(np.int16)
        last, self._last = self._last, samples
        if last is None:
            return False
        if last.shape != samples.shape:
            return True
        return float((np.abs(samples - last) > _LEVELS).mean()) > _SHARE
