"""Settings as text, kept beside the record."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from datetime import time
from typing import Any

from examples.attendance.errors import AttendanceError
from examples.attendance.store import Store
from examples.attendance.values import NameDisplay, Settings

__all__ = ["load_settings", "save_settings"]

_KEY = "settings"


def load_settings(store: Store) -> Settings | None:
    """Return the settings of the office, None before it was set up.

    Raises:
        AttendanceError: They are damaged, or of a later release.
    """
    text = store.meta(_KEY)
    if text is None:
        return None
    try:
        values: dict[str, Any] = json.loads(text)
        unknown = values.keys() - {one.name for one in fields(Settings)}
        if unknown:
            raise AttendanceError(f"the settings hold {sorted(unknown)}, of a later release")
        values["day_starts_at"] = time.fromisoformat(values["day_starts_at"])
        values["display_names"] = NameDisplay(values["display_names"])
        return replace(Settings(), **values)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise AttendanceError(f"the settings are damaged: {exc}; set the office up anew") from exc


def save_settings(store: Store, settings: Settings) -> None:
    """Keep the settings of the office."""
    values = asdict(settings)
    values["day_starts_at"] = settings.day_starts_at.isoformat()
    values["display_names"] = settings.display_names.value
    with store.writing() as connection:
        store.set_meta(connection, _KEY, json.dumps(values, sort_keys=True))
