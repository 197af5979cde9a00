"""What an activation set covers, and what it has too little of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import ActivationSetError
from edgeface.overlay import contact_sheet
from edgeface.types import ImageArray
from edgeface_calibration.activation_set_colour import blue_skin_share, check_skin_colour
from edgeface_calibration.activation_set_duplicates import count_near_duplicates
from edgeface_calibration.activation_set_limits import ActivationSetLimits, even_positions
from edgeface_calibration.activation_set_manifest import CropMeasures
from edgeface_calibration.activation_set_people import PeopleEstimate
from edgeface_calibration.activation_set_store import StoredActivationSet

__all__ = ["Coverage", "Distribution", "Verdict", "cover", "coverage_sheet"]


class Verdict(str, Enum):
    """Whether ranges may be taken from a set."""

    GOOD = "good"
    WARNED = "warned"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where the values of a measure lie; a tenth is below ``p10``, a tenth above ``p90``."""

    minimum: float
    p10: float
    median: float
    p90: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a set covers.

    ``measures`` has a distribution for each of :class:`CropMeasures`, and is empty for an empty
    set. ``thin`` are sentences about what there is little of. ``people`` is None where no model
    was at hand. ``reasons`` are sentences that say why the verdict is not ``good``.
    """

    count: int
    template: str
    source_kinds: Mapping[str, int]
    refused: Mapping[str, int]
    measures: Mapping[str, Distribution]
    near_duplicates: int
    blue_skin_share: float
    people: PeopleEstimate | None
    thin: tuple[str, ...]
    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        says = {
            Verdict.GOOD: "good: ranges may be taken from this set",
            Verdict.WARNED: "usable, with a warning",
            Verdict.REFUSED: "refused: take no ranges from this set",
        }[self.verdict]
        return "; ".join([says, *self.reasons])

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"verdict": self.verdict.value, "sentence": self.sentence}


def cover(
    stored: StoredActivationSet,
    *,
    people: PeopleEstimate | None = None,
    limits: ActivationSetLimits | None = None,
) -> Coverage:
    """Return what ``stored`` covers.

    Raises:
        ActivationSetError: A file of the set was changed.
    """
    limits = limits or ActivationSetLimits()
    crops, records = stored.crops(), stored.manifest.crops
    values = _values([record.measures for record in records])
    refusals, warnings = _judge(crops, limits, people)
    return Coverage(
        count=len(records),
        template=stored.manifest.template,
        source_kinds=dict(Counter(record.source_kind.value for record in records)),
        refused=dict(stored.manifest.refused),
        measures={name: _distribution(each) for name, each in values.items() if len(each)},
        near_duplicates=count_near_duplicates(crops),
        blue_skin_share=round(blue_skin_share(crops), 4),
        people=people,
        thin=_thin(values) if records else (),
        verdict=Verdict.REFUSED if refusals else Verdict.WARNED if warnings else Verdict.GOOD,
        reasons=refusals or warnings,
    )


def coverage_sheet(
    stored: StoredActivationSet, *, wanted: int = 60, columns: int = 10
) -> ImageArray:
    """Return an RGB picture of an even sample of the crops, from the left-most look to the right.

    Raises:
        ActivationSetError: The set is empty, or a file of it was changed.
    """
    records = stored.manifest.crops
    if not records:
        raise ActivationSetError(f"{stored.path} has no crop to show; collect it again")
    chosen = even_positions(len(records), wanted)
    chosen.sort(key=lambda k: records[k].measures.yaw_deg)
    titles = [_title(records[k].measures) for k in chosen]
    return contact_sheet(list(stored.crops(chosen)), titles, columns)


def _title(measures: CropMeasures) -> str:
    return f"yaw {round(measures.yaw_deg):+d}  pitch {round(measures.pitch_deg):+d}"


def _values(measures: Sequence[CropMeasures]) -> dict[str, npt.NDArray[np.float64]]:
    return {
        each.name: np.array([getattr(one, each.name) for one in measures], np.float64)
        for each in fields(CropMeasures)
    }


def _distribution(values: npt.NDArray[np.float64]) -> Distribution:
    return Distribution(*(round(float(v), 4) for v in np.percentile(values, (0, 10, 50, 90, 100))))


@dataclass(frozen=True, slots=True)
class _Part:
    """Faces that a set should have some of: those outside of ``low`` .. ``high``."""

    measure: str
    low: float
    high: float
    words: str


# What photos of the press have of each (540 faces of LFW): 20, 19, 19, 4, 13, 14 and 9 %.
_PARTS = (
    _Part("yaw_deg", -15.0, 15.0, "turned more than 15 degrees"),
    _Part("pitch_deg", -10.0, 10.0, "raised or lowered more than 10 degrees"),
    _Part("roll_deg", -10.0, 10.0, "tilted more than 10 degrees"),
    _Part("luminance", 0.35, 1.0, "darker than 0.35"),
    _Part("luminance", 0.0, 0.60, "brighter than 0.60"),
    _Part("sharpness", 0.25, np.inf, "softer than 0.25"),
    _Part("eye_distance_px", 35.0, np.inf, "smaller than the crop, with eyes closer than 35 px"),
)
_THIN_SHARE = 0.05


def _thin(values: Mapping[str, npt.NDArray[np.float64]]) -> tuple[str, ...]:
    """Return a sentence for each part that a set has less than 5 % of."""
    sentences = []
    for part in _PARTS:
        of_part = (values[part.measure] < part.low) | (values[part.measure] > part.high)
        share = float(of_part.mean())
        if share == 0:
            sentences.append(f"none {part.words}")
        elif share < _THIN_SHARE:
            sentences.append(f"only {share:.1%} {part.words}")
    return tuple(sentences)


def _judge(
    crops: ImageArray, limits: ActivationSetLimits, people: PeopleEstimate | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why a set is refused, and what it is warned of."""
    refusals, warnings = [], list(limits.notes(len(crops)))
    if len(crops) < limits.minimum:
        refusals.append(f"{len(crops)} faces are too few, wanted at least {limits.minimum}")
    try:
        warnings += check_skin_colour(crops, "this set")
    except ActivationSetError as error:
        refusals.append(str(error))
    if people is not None and people.count == 1:
        warnings.append("all faces are of one person: the ranges will be theirs; add others")
    return tuple(refusals), tuple(warnings)
