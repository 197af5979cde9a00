"""What enrolment accepts as a reference, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeface.errors import EnrolmentError
from edgeface.quality import advice
from edgeface.types import OperatingPoint, RejectionReason, Template

__all__ = ["EnrolmentReport", "RejectedImage", "require_one_person"]

# Two images that agree may both be of somebody else; three that do outvote one.
_FEWEST_THAT_OUTVOTE = 3


@dataclass(frozen=True, slots=True)
class RejectedImage:
    """An image that was not taken, with the reasons."""

    image: str
    reasons: tuple[RejectionReason, ...]

    @property
    def sentence(self) -> str:
        """What the person or the photographer can do about it."""
        return f"{self.image}: " + ", ".join(advice(reason) for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class EnrolmentReport:
    """Who was enrolled, from which images, and which images were not taken."""

    subject: str
    accepted: tuple[str, ...]
    rejected: tuple[RejectedImage, ...]


def require_one_person(
    names: Sequence[str], templates: Sequence[Template], point: OperatingPoint
) -> tuple[int, ...]:
    """Return the positions of templates that must be left out; the others show one person.

    The others are those that are accepted against one of them: the one with most of them, and of
    several the one of best quality. Some are left out only where at least three others agree, and
    more than twice as many as are left out.

    Raises:
        EnrolmentError: The images show different people, or too few agree to tell who is meant.
    """
    scores = [[float(np.dot(one.vector, other.vector)) for other in templates] for one in templates]
    agreeing = [{k for k, score in enumerate(row) if point.accepts(score)} for row in scores]
    best = max(range(len(templates)), key=lambda k: (len(agreeing[k]), templates[k].quality))
    left_out = tuple(k for k in range(len(templates)) if k not in agreeing[best])
    agreed = len(agreeing[best])
    if left_out and (agreed < _FEWEST_THAT_OUTVOTE or agreed <= 2 * len(left_out)):
        score = scores[best][left_out[0]]
        raise EnrolmentError(
            f"{names[left_out[0]]} does not look like the person of {names[best]} (similarity "
            f"{score:.2f}, wanted {point.threshold:.2f}); enrol one person at a time"
        )
    return left_out
