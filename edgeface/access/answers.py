"""What a controller answers: to a decision, to a code that was typed, to a look at the door."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface.access.decide import AccessDecision
from edgeface.access.lease import Lease

__all__ = ["AccessAnswer", "DoorStatus", "FactorAnswer"]


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """A decision, and the lease where it opens; never one without the other."""

    decision: AccessDecision
    lease: Lease | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a lease."""
        return self.lease is not None


@dataclass(frozen=True, slots=True)
class FactorAnswer:
    """Whether a code was accepted, and what to say to the person where it was not.

    A duress PIN is answered like any other.
    """

    accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorStatus:
    """How the door is doing: for a panel, and for whoever looks after it.

    ``wait_s`` is how long nothing is looked at after failures, ``failures`` how many there were in
    a row. ``fault`` is empty, or says what is broken. ``clock_doubt`` says why the time of day is
    not believed.
    """

    door: str
    fault: str = ""
    wait_s: float = 0.0
    failures: int = 0
    is_face_off: bool = False
    is_camera_usable: bool = False
    clock_doubt: str = ""
    is_demonstration: bool = False
