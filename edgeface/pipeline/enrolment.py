"""What enrolment accepts as a reference, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeface.errors import EnrolmentError
from edgeface.quality import advice
from edgeface.types import OperatingPoint, RejectionReason, Template

__all__ = ["EnrolmentReport", "RejectedImage", "require_one_person"]


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
) -> None:
    """Return if every template is accepted against the one of best quality.

    Raises:
        EnrolmentError: One is not: the images show different people, or one is of no use.
    """
    best = max(range(len(templates)), key=lambda k: templates[k].quality)
    for name, template in zip(names, templates, strict=True):
        score = float(np.dot(template.vector, templates[best].vector))
        if not point.accepts(score):
            raise EnrolmentError(
                f"{name} does not look like the person of {names[best]} (similarity {score:.2f}, "
                f"wanted {point.threshold:.2f}); enrol one person at a time"
            )
