"""What one check found, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edgeface.errors import InvalidInputError

__all__ = ["CheckState", "Finding", "fault", "ok", "skipped", "warning", "worst"]


class CheckState(str, Enum):
    """How a check ended."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not done: what it needs is not here, or was not named. ``got`` says why."""
    WARNING = "warning"
    """It works, and will not in some situation that ``fix`` names."""
    FAULT = "fault"
    """It does not work, or must not be relied on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``name`` groups it, ``what`` was looked at, and what came out.

    ``wanted`` and ``fix`` are empty only where ``state`` is ok or skipped. The texts are for the
    owner of the machine and may hold paths; :mod:`edgeface.doctor.report` leaves those out.
    """

    name: str
    what: str
    state: CheckState
    got: str
    wanted: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        if self.state in (CheckState.WARNING, CheckState.FAULT) and not (self.wanted and self.fix):
            raise InvalidInputError(
                f"the finding {self.name!r} is a {self.state.value} and must say what is wanted "
                "and how to fix it"
            )


def ok(name: str, what: str, got: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name, what, CheckState.OK, got)


def skipped(name: str, what: str, why: str) -> Finding:
    """Return a finding that nothing was checked, and why."""
    return Finding(name, what, CheckState.SKIPPED, why)


def warning(name: str, what: str, got: str, *, wanted: str, fix: str) -> Finding:
    """Return a finding that something may go wrong."""
    return Finding(name, what, CheckState.WARNING, got, wanted, fix)


def fault(name: str, what: str, got: str, *, wanted: str, fix: str) -> Finding:
    """Return a finding that something is wrong."""
    return Finding(name, what, CheckState.FAULT, got, wanted, fix)


def worst(findings: Sequence[Finding]) -> CheckState:
    """Return the worst state among ``findings``; ok when there are none."""
    order = list(CheckState)
    return max((finding.state for finding in findings), key=order.index, default=CheckState.OK)
