"""Whether a door opens: one pure function, and every condition that it looked at as a value."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface.access.conditions import CHECKS, Case, Condition
from edgeface.access.policy import AccessPolicy
from edgeface.access.values import AccessInputs, AccessState

__all__ = ["AccessDecision", "Condition", "decide"]


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """Whether the door opens, and why.

    ``conditions`` are all that were looked at, in the order of docs/access.md. ``subject`` is
    whom the evidence names, also where the door stays closed; it is not for showing before the
    door opens. There is no score in it, or in anything that follows from it.
    """

    is_open: bool
    conditions: tuple[Condition, ...]
    subject: str | None = None

    def __post_init__(self) -> None:
        # A decision that does not follow from its conditions cannot be made.
        allowed = bool(self.conditions) and all(one.satisfied is True for one in self.conditions)
        if self.is_open and not (allowed and self.subject is not None):
            object.__setattr__(self, "is_open", False)

    @property
    def unmet(self) -> tuple[Condition, ...]:
        """The conditions that keep the door closed, in their order."""
        return tuple(one for one in self.conditions if one.satisfied is not True)

    @property
    def reason(self) -> str:
        """The first condition that keeps the door closed, in words; empty for an open door."""
        return "" if self.is_open or not self.unmet else str(self.unmet[0])


def decide(policy: AccessPolicy, state: AccessState, inputs: AccessInputs) -> AccessDecision:
    """Return whether the door opens: only if every condition of the policy is satisfied.

    Pure: no clock, no file, no memory. It never raises; a condition that cannot be judged is not
    satisfied.
    """
    conditions = []
    try:
        case = Case.of(policy, state, inputs)
    except Exception as exc:  # noqa: BLE001 - whatever goes wrong here must keep the door closed
        return AccessDecision(False, (Condition("inputs", type(exc).__name__, "usable", False),))
    for name, check in CHECKS:
        try:
            got, wanted, satisfied = check(case)
        except Exception as exc:  # noqa: BLE001 - as above
            got, wanted, satisfied = type(exc).__name__, "a value that can be judged", False
        conditions.append(Condition(name, got, wanted, satisfied is True))
    opens = all(condition.satisfied for condition in conditions)
    return AccessDecision(opens, tuple(conditions), case.subject)
