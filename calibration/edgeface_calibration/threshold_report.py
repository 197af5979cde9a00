"""Thresholds of every artefact of a bundle as values, and the words for them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgeface.types import OperatingPoint
from edgeface_calibration.error_rates import Interval
from edgeface_calibration.search_points import PointOptions, SearchPoint, ThresholdFigures

__all__ = ["ThresholdReport", "interval_text", "rate_text"]

_SMALLEST_SHOWN, _UNDER_SMALLEST = 1e-7, "< 0.00001 %"


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdReport:
    """What was found for the artefacts of one bundle.

    ``protocol`` names the images; ``faces_not_found`` are pictures without a face.
    """

    bundle: str
    model_id: str
    protocol: str
    options: PointOptions
    artefacts: tuple[ThresholdFigures, ...]
    faces_not_found: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every threshold for searches that was asked for was found."""
        return all(p.threshold is not None for a in self.artefacts for p in a.searches)

    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """Return every threshold that was found, for the manifest of the bundle."""
        return tuple(
            p for figures in self.artefacts for p in figures.operating_points(self.protocol)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as numbers, texts, lists and dictionaries that JSON can hold."""
        return {
            "bundle": self.bundle,
            "model_id": self.model_id,
            "protocol": self.protocol,
            "complete": self.complete,
            "options": asdict(self.options),
            "n_faces_not_found": len(self.faces_not_found),
            "artefacts": [_figures(entry) for entry in self.artefacts],
        }


def rate_text(rate: float | None) -> str:
    """Return ``rate`` in per cent with three digits, ``-`` for None."""
    if rate is None:
        return "-"
    if 0.0 < rate < _SMALLEST_SHOWN:
        return _UNDER_SMALLEST
    # Not the general format, which would write 1.2e-05.
    digits = 0 if rate == 0.0 else max(0, 2 - math.floor(math.log10(100 * rate)))
    number = f"{100 * rate:.{digits}f}"
    return f"{number.rstrip('0').rstrip('.') if digits else number} %"


def interval_text(interval: Interval | None) -> str:
    """Return the ends of ``interval`` in per cent, ``-`` for None."""
    if interval is None:
        return "-"
    return f"{rate_text(interval.low)} to {rate_text(interval.high)}"


def _figures(figures: ThresholdFigures) -> dict[str, Any]:
    cohort = figures.cohort
    return {
        "artefact": figures.artefact,
        "n_people": figures.n_people,
        "n_faces": figures.n_faces,
        "n_mated": figures.n_mated,
        "n_non_mated": figures.n_non_mated,
        "n_twins": figures.n_twins,
        "comparisons": [_point(point) for point in figures.comparisons],
        "searches": [_point(point) for point in figures.searches],
        "cohort": None if cohort is None else {**asdict(cohort), "verdict": cohort.verdict},
    }


def _point(point: SearchPoint) -> dict[str, Any]:
    return asdict(point)
