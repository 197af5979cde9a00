"""What happens at a door, as values: for the app, its alarms, and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["AccessEvent", "AccessEventKind"]


class AccessEventKind(str, Enum):
    """What happened at a door."""

    STARTED = "started"
    OPENED = "opened"
    """A lease was given."""
    NOT_OPENED = "not-opened"
    """The lease before it opened nothing: the lock refused it, or it came too late."""
    DENIED = "denied"
    """Somebody whom the door knows was refused; no failure is counted."""
    FAILED = "failed"
    """An attempt failed and is counted: not recognised, an attack, or a wrong factor."""
    ATTACK = "attack"
    LOCKED_OUT = "locked-out"
    FACE_OFF = "face-off"
    FACE_ON = "face-on"
    FACTOR = "factor"
    """A second factor was right."""
    FACTORS = "factors"
    """The second factors of the door's people were changed."""
    DURESS = "duress"
    """A duress PIN was typed: silent alarm. Show nothing of it at the door."""
    PASSBACK = "passback"
    """A subject who is inside came in again, and the policy only reports that."""
    LEFT = "left"
    CAMERA = "camera"
    """The camera became usable, or unusable."""
    CLOCK = "clock"
    """The time of day came into doubt, or was said to be right."""
    FAULT = "fault"
    """Something is broken; the door stays closed."""
    RECOVERED = "recovered"
    RECOVERY = "recovery"
    """The log was cut back to its last whole record after a power cut."""
    UNPROVEN = "unproven"
    """At the start the newest records or the anchor were gone: the power, or somebody."""
    DROPPED = "dropped"
    """So many records were lost while the disk was full; in the log only."""


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """Something that happened. ``time_s`` is on the monotonic clock.

    ``subject`` is the enrolled name, for the app; the audit log holds a pseudonym instead.
    """

    kind: AccessEventKind
    time_s: float
    subject: str | None = None
    detail: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def is_alarm(self) -> bool:
        """Whether somebody should be told at once, away from the door."""
        return self.kind in _ALARMS


_ALARMS = frozenset(
    {
        AccessEventKind.ATTACK,
        AccessEventKind.DURESS,
        AccessEventKind.LOCKED_OUT,
        AccessEventKind.FACE_OFF,
        AccessEventKind.FAULT,
        AccessEventKind.PASSBACK,
        AccessEventKind.UNPROVEN,
    }
)
