"""What one exchange with a fleet's server did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["SyncReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """Counts of one exchange.

    ``added``, ``changed`` and ``forgotten`` are people of this replica; ``templates`` came to it.
    ``sent`` and ``sent_templates`` went to the server, ``sent_forgotten`` were people forgotten
    here. ``renamed`` are the new names of people who had one of somebody else. ``waiting`` are
    people who changed here meanwhile; the next exchange takes them.
    """

    added: int = 0
    changed: int = 0
    forgotten: int = 0
    templates: int = 0
    sent: int = 0
    sent_templates: int = 0
    sent_forgotten: int = 0
    renamed: tuple[str, ...] = ()
    waiting: int = 0

    @property
    def changed_something(self) -> bool:
        """Whether anything went either way."""
        return self != SyncReport(waiting=self.waiting)

    def __add__(self, other: SyncReport) -> SyncReport:
        """Return both in one; those who wait are those of ``other``."""
        values = {
            one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)
        }
        return SyncReport(**{**values, "waiting": other.waiting})

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {**asdict(self), "renamed": list(self.renamed)}
