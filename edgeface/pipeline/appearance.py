"""Whether a track still shows the person it showed before."""

from __future__ import annotations

import numpy as np

from edgeface.types import OperatingPoint, Template

__all__ = ["Appearance"]

_KEPT = 4
"""Templates remembered of a track: enough for a face that turns, and soon renewed."""
_DISAGREEMENT = 0.5
"""Share of the threshold below which two templates of one track are taken for two people. Looks at
one face within seconds score far above the threshold itself; half of it is passed by about 3 % of
comparisons of different people (Xiaoccer, 0.25)."""


class Appearance:
    """The newest templates of one track."""

    def __init__(self, point: OperatingPoint) -> None:
        self._limit = _DISAGREEMENT * point.threshold
        self._templates: list[Template] = []

    def similarity(self, template: Template) -> float | None:
        """Return the best score with what was seen before, None when nothing was."""
        if not self._templates:
            return None
        return max(float(np.dot(one.vector, template.vector)) for one in self._templates)

    def agrees(self, template: Template) -> bool:
        """Return whether ``template`` may be of the same person; True when nothing was seen."""
        score = self.similarity(template)
        return score is None or score >= self._limit

    def add(self, template: Template) -> None:
        """Remember ``template``; the oldest one is forgotten."""
        self._templates = [*self._templates[-_KEPT + 1 :], template]

    def clear(self) -> None:
        """Forget everything: the track shows somebody else now."""
        self._templates = []
