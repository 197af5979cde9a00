"""Two devices of a fleet and what they hold, for fault tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeface.gallery.fleet import FleetGallery, FleetKey, FleetServer
from tests.faults.galleries import open_gallery

__all__ = ["KEY", "contents", "open_device"]

KEY = FleetKey(bytes(range(32)))


def open_device(path: Path, server: FleetServer) -> FleetGallery:
    return FleetGallery(open_gallery(path), server, KEY)


def contents(gallery: FleetGallery) -> dict[str, Any]:
    """Return everything that a fleet keeps equal, by name."""
    return {
        person.name: (
            person.created_at,
            person.active,
            gallery.replica.details(person.name).consent,
            sorted(row.vector.tobytes() for row in gallery.templates(person.name)),
        )
        for person in gallery.subjects()
    }
