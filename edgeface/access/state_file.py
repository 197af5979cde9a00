"""What a door remembers over kill, power cut and restart; sealed, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from edgeface.access.audit import NO_ROOM, sync_folder
from edgeface.access.keys import AccessKeys
from edgeface.access.lockout import Lockout
from edgeface.backends.sealed_file import Refusal, read_sealed, write_sealed
from edgeface.errors import AccessStateError

__all__ = ["DoorState", "StateFile"]

_FORMAT = "edgeface access state 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorState:
    """What is remembered. Subjects are pseudonyms.

    ``counter`` counts the changes. ``audit_count`` is how long the audit log is with the
    ``audit_pending`` records that belong to the last one: the two files hold each other to it.
    ``has_anchor`` says that the log has an anchor elsewhere. ``inside`` came in and did not leave.
    ``used_codes`` are the newest steps of one-time passwords that were used, ``wrong_codes`` what
    wrong codes in a row led to, by person. ``noted`` is the last time of day that was believed,
    ``ceiling`` the last that will be.
    """

    lockout: Lockout
    counter: int = 0
    audit_count: int = 0
    inside: frozenset[str] = frozenset()
    used_codes: dict[str, int] = field(default_factory=dict)
    noted: datetime | None = None
    factors_version: int = 0
    audit_pending: int = 0
    has_anchor: bool = False
    wrong_codes: dict[str, Lockout] = field(default_factory=dict)
    ceiling: datetime | None = None


class StateFile:
    """The file of the state, ``state.sealed`` in the folder of a door.

    ``broken`` says why nothing more is written: after an error of the disk other than a lack of
    room nobody knows what it holds before the file is read again.
    """

    def __init__(self, folder: Path, keys: AccessKeys) -> None:
        self.path = folder / "state.sealed"
        self.broken = ""
        self._keys = keys

    def exists(self) -> bool:
        """Return whether anything lies where the state belongs."""
        return os.path.lexists(self.path)

    def read(self, *, boot: str, now_s: float) -> DoorState:
        """Return the state, waits counted in the run ``boot`` in which it is ``now_s``.

        Raises:
            AccessStateError: It is missing, was changed, or is of another door.
        """
        sealed = read_sealed(self.path, self._keys.state)
        if isinstance(sealed, Refusal):
            raise AccessStateError(
                f"the state {self.path} of the door is not believed: {sealed}; without it nobody "
                "knows how many attempts failed, so the door stays closed. Look why, then make a "
                "new folder for the door"
            )
        try:
            return _read(json.loads(sealed.payload), boot=boot, now_s=now_s)
        except (KeyError, TypeError, ValueError, RecursionError) as exc:
            raise AccessStateError(
                f"the state {self.path} was written by another release: {exc!r}"
            ) from exc

    def write(self, state: DoorState) -> DoorState:
        """Bring ``state`` to the disk, its counter one higher; return it so.

        Raises:
            AccessStateError: It cannot be written; the file is as it was.
        """
        counted = replace(state, counter=state.counter + 1)
        content = {
            "lockout": counted.lockout.to_dict(),
            "counter": counted.counter,
            "audit_count": counted.audit_count,
            "inside": sorted(counted.inside),
            "used_codes": counted.used_codes,
            "factors_version": counted.factors_version,
            "noted": counted.noted.isoformat() if counted.noted is not None else None,
            "ceiling": counted.ceiling.isoformat() if counted.ceiling is not None else None,
            "audit_pending": counted.audit_pending,
            "has_anchor": counted.has_anchor,
            "wrong_codes": {name: one.to_dict() for name, one in counted.wrong_codes.items()},
        }
        payload = json.dumps(content, sort_keys=True, allow_nan=False).encode()
        if self.broken:
            raise AccessStateError(f"the state of the door is not written any more: {self.broken}")
        try:
            write_sealed(self.path, {"format": _FORMAT}, payload, self._keys.state)
            sync_folder(self.path.parent)
        except OSError as exc:
            if exc.errno not in NO_ROOM:
                self.broken = f"the disk failed ({exc.strerror})"
            raise AccessStateError(
                f"the state of the door cannot be written: {exc.strerror}"
            ) from exc
        return counted

    def remove_leftovers(self) -> None:
        """Remove what writers that were killed left behind."""
        for path in self.path.parent.glob(".*.sealed-*"):
            with contextlib.suppress(OSError):
                path.unlink()


def _read(stored: dict[str, Any], *, boot: str, now_s: float) -> DoorState:
    # The keys of later releases have the values that a door without them had.
    wrong_codes = stored.get("wrong_codes", {})
    state = DoorState(
        lockout=Lockout.from_dict(stored["lockout"], boot=boot, now_s=now_s),
        counter=stored["counter"],
        audit_count=stored["audit_count"],
        inside=frozenset(map(str, stored["inside"])),
        used_codes={str(name): int(step) for name, step in stored["used_codes"].items()},
        noted=_moment(stored["noted"]),
        factors_version=stored["factors_version"],
        audit_pending=stored.get("audit_pending", 0),
        has_anchor=stored.get("has_anchor", False) is True,
        wrong_codes={
            str(name): Lockout.from_dict(entry, boot=boot, now_s=now_s)
            for name, entry in wrong_codes.items()
        },
        ceiling=_moment(stored.get("ceiling")),
    )
    counts = (state.counter, state.audit_count, state.factors_version, state.audit_pending)
    if not all(type(count) is int and 0 <= count < math.inf for count in counts):
        raise ValueError("a count is no count")
    return state


def _moment(stored: Any) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)
