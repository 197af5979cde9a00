"""What a device remembers of its fleet, sealed in the gallery file itself.

It is written in the transaction that changes the people it speaks of: a crash never parts the two.
Of a person who was forgotten it holds names of rows, which say nothing without the fleet's key.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeface.errors import GalleryIntegrityError, GalleryKeyError
from edgeface.gallery.fleet.key import FleetKey
from edgeface.gallery.fleet.rows import Revision, RowStamp
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.ledger import Change
from edgeface.gallery.sealing import seal, unseal

__all__ = [
    "FleetMemory",
    "Membership",
    "PersonState",
    "Seen",
    "join_fleet",
    "joined_fleet",
    "with_seen",
]

_MEMBERSHIP = "fleet"


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of the server as it was when this device last read or wrote it."""

    clock: int
    tag: str

    @classmethod
    def of(cls, stamp: RowStamp) -> Seen:
        """Return what is remembered of ``stamp``."""
        return cls(stamp.clock, stamp.tag)


@dataclass(frozen=True, slots=True)
class PersonState:
    """What the device knows of a person at the server.

    ``revision`` is that of the record that both sides had last, and ``version`` the version of
    the local row that holds it: another version there is a change since. ``mark`` finds the
    person among those that were forgotten here.
    """

    revision: Revision | None = None
    version: int = 0
    mark: str = ""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """The fleet that a gallery belongs to, and what this device is called there."""

    key: FleetKey
    device: str


def joined_fleet(keys: GalleryKeys, connection: sqlite3.Connection) -> Membership | None:
    """Return the fleet of the gallery, or None.

    Raises:
        GalleryIntegrityError: What the gallery says about it was changed.
    """
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_MEMBERSHIP,)).fetchone()
    if row is None:
        return None
    value = _open(keys, _MEMBERSHIP, row[0])
    try:
        return Membership(FleetKey(bytes.fromhex(value["key"])), str(value["device"]))
    except (KeyError, TypeError, ValueError, GalleryKeyError) as exc:
        raise _malformed() from exc


def join_fleet(keys: GalleryKeys, change: Change, key: FleetKey) -> Membership:
    """Write into the gallery that it belongs to the fleet of ``key``, under a new device name.

    Raises:
        GalleryKeyError: It belongs to another fleet.
    """
    known = joined_fleet(keys, change.connection)
    if known is not None and known.key != key:
        raise GalleryKeyError(
            "the gallery belongs to another fleet; give the key of that one, or begin a new "
            "gallery and bring the people over with `edgeface gallery export --all`"
        )
    member = Membership(key, secrets.token_hex(16))
    _put(keys, change, _MEMBERSHIP, {"key": key.secret.hex(), "device": member.device})
    return member


class FleetMemory:
    """The states of people in a gallery, for one fleet and one model."""

    def __init__(self, keys: GalleryKeys, key: FleetKey, model_id: str) -> None:
        self._keys = keys
        self._prefix = f"fleet-{key.name('states', model_id)[:12]}-"

    def read(self, connection: sqlite3.Connection) -> dict[str, PersonState]:
        """Return every state, by what the person is called on the server.

        Raises:
            GalleryIntegrityError: One was changed.
        """
        rows = connection.execute(
            "SELECT key, value FROM meta WHERE key >= ? AND key < ?",
            (self._prefix, self._prefix + "~"),
        ).fetchall()
        start = len(self._prefix)
        return {key[start:]: _state(_open(self._keys, key, value)) for key, value in rows}

    def write(self, change: Change, person: str, state: PersonState) -> None:
        """Remember ``state``."""
        value = {
            "revision": None
            if state.revision is None
            else [state.revision.clock, state.revision.device],
            "version": state.version,
            "mark": state.mark,
            "seen": {key: [seen.clock, seen.tag] for key, seen in state.seen.items()},
            "forgotten": state.forgotten,
        }
        _put(self._keys, change, self._prefix + person, value)


def with_seen(state: PersonState, *stamps: RowStamp) -> PersonState:
    """Return ``state`` with ``stamps`` seen."""
    return replace(state, seen={**state.seen, **{one.key: Seen.of(one) for one in stamps}})


def _state(value: Mapping[str, Any]) -> PersonState:
    try:
        revision = value["revision"]
        return PersonState(
            None if revision is None else Revision(int(revision[0]), str(revision[1])),
            int(value["version"]),
            str(value["mark"]),
            {key: Seen(int(clock), str(tag)) for key, (clock, tag) in value["seen"].items()},
            value["forgotten"] is True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise _malformed() from exc


def _put(keys: GalleryKeys, change: Change, name: str, value: Mapping[str, Any]) -> None:
    sealed = seal(keys.of("fleet"), json.dumps(value).encode(), keys.gallery_id, name).hex()
    row = change.connection.execute("SELECT id FROM meta WHERE key = ?", (name,)).fetchone()
    if row is None:
        change.insert("meta", name, sealed)
    else:
        change.update("meta", row[0], name, sealed)


def _open(keys: GalleryKeys, name: str, sealed: str) -> dict[str, Any]:
    try:
        content = unseal(keys.of("fleet"), bytes.fromhex(sealed), keys.gallery_id, name)
        value = json.loads(content)
    except ValueError as exc:
        raise _malformed() from exc
    if not isinstance(value, dict):
        raise _malformed()
    return value


def _malformed() -> GalleryIntegrityError:
    return GalleryIntegrityError("what the gallery remembers of its fleet is malformed")
