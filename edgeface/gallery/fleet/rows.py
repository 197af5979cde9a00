"""The rows that a fleet keeps on its server: names that say nothing, and sealed contents.

Three kinds: a *person* row holds the record of a person as one device last wrote it; a *template*
row holds one template, and never changes; a *forgotten* row stands in the place of a person row.
A device writes person and forgotten rows under names of its own, so that no two devices ever write
the same row: the server needs no locks, and no write can undo another.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from edgeface.errors import GalleryIntegrityError, GalleryModelError, InvalidInputError
from edgeface.gallery.base import Consent, TemplateSource, normalise_subject_name, short_id
from edgeface.gallery.fleet.key import FleetKey
from edgeface.gallery.records import Person, StoredTemplate
from edgeface.gallery.sealing import Field, pad, seal, unpad, unseal

__all__ = [
    "FleetRow",
    "PersonContent",
    "Revision",
    "RowKind",
    "RowSealer",
    "RowStamp",
]

_FORMAT = 1
_TAG_BYTES = 16
_UID_BYTES = 16
# A device that is lost for years stays far below; above it a clock was made up.
_MAX_CLOCK = 1 << 53


class RowKind(str, Enum):
    """What a row on the server is."""

    PERSON = "person"
    TEMPLATE = "template"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, order=True)
class Revision:
    """Which version of a person's record is newer: the higher clock, then the higher device.

    ``clock`` is one above that of the version it was made from, for each change since.
    """

    clock: int
    device: str


@dataclass(frozen=True, slots=True)
class RowStamp:
    """What the server can read of a row.

    ``key``, ``person`` and ``device`` are 32 hexadecimal digits. ``clock`` goes up with every
    writing of the row. ``tag`` are the last 16 bytes of the sealed content, hexadecimal.
    """

    key: str
    person: str
    kind: str
    clock: int
    device: str
    model: str
    tag: str = ""

    def __post_init__(self) -> None:
        names = (self.key, self.person, self.device)
        fits = all(len(name) == 32 and not set(name) - set("0123456789abcdef") for name in names)
        if not fits or not 0 < self.clock < _MAX_CLOCK or self.kind not in set(RowKind):
            raise GalleryIntegrityError(
                "the fleet's server gave a row that no device wrote; see docs/fleet.md"
            )


@dataclass(frozen=True, slots=True)
class FleetRow:
    """A row with its sealed content."""

    stamp: RowStamp
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PersonContent:
    """What a person row holds; ``templates`` are the uids that its device knew of."""

    uid: bytes
    person: Person
    revision: Revision
    templates: frozenset[bytes]


class RowSealer:
    """Makes and opens the rows of one fleet for one model."""

    def __init__(self, key: FleetKey, model_id: str, embedding_size: int) -> None:
        self._key = key
        self._sealing = key.sealing
        self._size = embedding_size
        self.model_id = model_id

    def person_name(self, uid: bytes) -> str:
        """Return what the person is called on the server."""
        return self._key.name("person", uid)

    def person_key(self, person: str, device: str) -> str:
        """Return the key of the row that ``device`` writes about ``person``."""
        return self._key.name("row", person, device)

    def template_key(self, person: str, uid: bytes) -> str:
        """Return the key of the row of a template."""
        return self._key.name("template", person, uid)

    def seal_person(self, content: PersonContent, device: str, clock: int) -> FleetRow:
        """Return the row of ``content`` as ``device`` writes it."""
        person = content.person
        value = {
            "uid": content.uid.hex(),
            "name": person.name,
            "created_at": person.created_at,
            "active": person.active,
            "consent": None if person.consent is None else person.consent.as_dict(),
            "revision": [content.revision.clock, content.revision.device],
            "templates": sorted(uid.hex() for uid in content.templates),
        }
        name = self.person_name(content.uid)
        key = self.person_key(name, device)
        return self._sealed(
            RowStamp(key, name, RowKind.PERSON.value, clock, device, self.model_id), _json(value)
        )

    def open_person(self, row: FleetRow) -> PersonContent:
        """Return the content of a person row.

        Raises:
            GalleryIntegrityError: It was changed, moved, or put in the place of another.
        """
        value = self._opened(row)
        try:
            consent, (clock, device) = value["consent"], value["revision"]
            content = PersonContent(
                bytes.fromhex(value["uid"]),
                Person(
                    normalise_subject_name(value["name"]),
                    str(value["created_at"]),
                    value["active"] is True,
                    None if consent is None else Consent.from_dict(consent),
                ),
                Revision(int(clock), str(device)),
                frozenset(bytes.fromhex(uid) for uid in value["templates"]),
            )
        except (KeyError, TypeError, ValueError, InvalidInputError) as exc:
            raise _malformed() from exc
        if self.person_name(content.uid) != row.stamp.person or len(content.uid) != _UID_BYTES:
            raise _malformed()
        return content

    def seal_template(
        self, person: bytes, uid: bytes, stored: StoredTemplate, device: str
    ) -> FleetRow:
        """Return the row of a template of ``person``."""
        value = {
            "uid": uid.hex(),
            "quality": float(stored.quality),
            "source": stored.source.value,
            "created_at": stored.created_at,
            "artefact": stored.artefact,
            "vector": base64.b64encode(stored.vector.astype("<f4").tobytes()).decode("ascii"),
        }
        name = self.person_name(person)
        key = self.template_key(name, uid)
        stamp = RowStamp(key, name, RowKind.TEMPLATE.value, 1, device, self.model_id)
        return self._sealed(stamp, _json(value))

    def open_template(self, row: FleetRow) -> tuple[bytes, StoredTemplate]:
        """Return the uid and the template of a template row.

        Raises:
            GalleryIntegrityError: It was changed, moved, or is no template of the model.
        """
        value = self._opened(row)
        try:
            uid = bytes.fromhex(value["uid"])
            raw = base64.b64decode(value["vector"], validate=True)
            stored = StoredTemplate(
                np.frombuffer(raw, "<f4").astype(np.float32),
                float(value["quality"]),
                TemplateSource(value["source"]),
                str(value["created_at"]),
                str(value["artefact"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise _malformed() from exc
        if not stored.is_usable(self._size) or len(uid) != _UID_BYTES:
            raise _malformed()
        if self.template_key(row.stamp.person, uid) != row.stamp.key:
            raise _malformed()
        return uid, stored

    def seal_forgotten(self, person: str, device: str, clock: int) -> FleetRow:
        """Return the row that says that ``person`` was forgotten, and nothing else."""
        key = self.person_key(person, device)
        stamp = RowStamp(key, person, RowKind.FORGOTTEN.value, clock, device, self.model_id)
        return self._sealed(stamp, _json({"forgotten": True}))

    def open_forgotten(self, row: FleetRow) -> None:
        """Return if a forgotten row was written by a device of the fleet.

        Raises:
            GalleryIntegrityError: It was not.
        """
        if self._opened(row).get("forgotten") is not True:
            raise _malformed()

    def require_model(self, stamp: RowStamp) -> None:
        """Check that a row belongs to the model.

        Raises:
            GalleryModelError: It does not.
        """
        if stamp.model != self.model_id:
            raise GalleryModelError(
                f"the fleet's server gave a row of model {short_id(stamp.model)}, this gallery "
                f"has {short_id(self.model_id)}; nothing of it was taken"
            )

    def _sealed(self, stamp: RowStamp, content: bytes) -> FleetRow:
        payload = seal(self._sealing, pad(content), *self._place(stamp))
        return FleetRow(replace(stamp, tag=payload[-_TAG_BYTES:].hex()), payload)

    def _opened(self, row: FleetRow) -> dict[str, Any]:
        self.require_model(row.stamp)
        content = unpad(unseal(self._sealing, row.payload, *self._place(row.stamp)))
        try:
            value = json.loads(content)
        except ValueError as exc:
            raise _malformed() from exc
        if not isinstance(value, dict):
            raise _malformed()
        return value

    def _place(self, stamp: RowStamp) -> tuple[Field, ...]:
        return (
            "fleet", _FORMAT, self._key.fleet_id, stamp.kind, stamp.key, stamp.person,
            stamp.clock, stamp.device, stamp.model,
        )  # fmt: skip


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def _malformed() -> GalleryIntegrityError:
    return GalleryIntegrityError(
        "a row of the fleet's server does not hold what its place says; nothing of it was taken"
    )
