"""How a controller is opened, and what it is asked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from edgeface.access.clock import DoorClocks
from edgeface.access.events import AccessEvent

__all__ = ["ControllerOptions", "Nonce"]

Nonce: TypeAlias = "str | Callable[[], str]"
"""A nonce of the lock's verifier, or what fetches one; it is called only when the door may open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """How a controller is opened.

    ``create`` makes the state of a new door in an empty folder; a folder that has lost only a part
    of it is refused even so. ``anchor_folder`` holds what shows that older files were put back
    (None: ``$STATE_DIRECTORY``, else ``$XDG_STATE_HOME/edgeface``). ``on_event`` is called in the
    thread that caused the event; what it raises is passed over.
    """

    create: bool = False
    clocks: DoorClocks = field(default_factory=DoorClocks)
    anchor_folder: Path | None = None
    on_event: Callable[[AccessEvent], None] | None = None
