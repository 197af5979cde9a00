"""People on their way out of a gallery and into another: as JSON, or as an encrypted archive.

An archive is one line of JSON, which says how its key is made from a passphrase, and then one
sealed frame for each person. Every frame is bound to the line, to its number, and to whether it
is the last: frames that are missing, added or in another order are refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.errors import GalleryFormatError, GalleryModelError, InvalidInputError
from edgeface.gallery.base import Consent, TemplateSource, normalise_subject_name, short_id
from edgeface.gallery.key_sources import Passphrase
from edgeface.gallery.people import PersonEntry
from edgeface.gallery.records import Crop, Person, Place, StoredTemplate
from edgeface.gallery.sealing import derive, seal, unseal
from edgeface.gallery.vault import Vault
from edgeface.gallery.writing import add_crop, add_person, add_template

__all__ = ["Imported", "crops_of", "person_as_dict", "read_archive", "write_archive"]

_FORMAT, _VERSION = "edgeface-people", 1
_MAX_HEADER_BYTES = 4096
# A person has tens of templates and crops of some tens of kilobytes.
_MAX_FRAME_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """Who came in from an archive, and who was left out since the name is taken."""

    added: tuple[str, ...]
    left_out: tuple[str, ...]


def person_as_dict(vault: Vault, name: str, *, with_templates: bool = False) -> dict[str, Any]:
    """Return what the gallery keeps about a person, for JSON; ``with_templates`` adds vectors.

    Raises:
        SubjectNotFoundError: Nobody has that name.
    """
    with vault.reading():
        entry = vault.require(name)
        templates = vault.people.templates_of(entry.row_id)
        crops = crops_of(vault, entry)
        active = vault.people.active
    return {
        "name": entry.person.name,
        "created_at": entry.person.created_at,
        "active": entry.person.active,
        "consent": None if entry.person.consent is None else entry.person.consent.as_dict(),
        "model_id": active.model_id,
        "embedding_size": active.embedding_size,
        "templates": [_template_as_dict(one.stored, with_templates) for one in templates],
        "crops": [
            {
                "created_at": crop.created_at,
                "quality": crop.quality,
                "shape": crop.face.pixels.shape,
            }
            for crop in crops
        ],
    }


def _template_as_dict(stored: StoredTemplate, with_vector: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "quality": stored.quality,
        "source": stored.source.value,
        "created_at": stored.created_at,
        "artefact": stored.artefact,
    }
    if with_vector:
        value["vector"] = [float(number) for number in stored.vector]
    return value


def crops_of(vault: Vault, entry: PersonEntry) -> list[Crop]:
    """Return the aligned faces that are kept of a person, oldest first."""
    with vault.reading() as connection:
        rows = connection.execute(
            "SELECT uid, version, record FROM crop WHERE subject = ? ORDER BY id", (entry.row_id,)
        ).fetchall()
    gallery_id = vault.keys.gallery_id
    return [
        Crop.unseal(entry.key, record, Place(gallery_id, entry.uid, uid, version))
        for uid, version, record in rows
    ]


def write_archive(vault: Vault, passphrase: Passphrase) -> bytes:
    """Return everybody in the gallery as an archive for ``passphrase``.

    Raises:
        GalleryKeyError: No passphrase was given, or one that is too short.
    """
    made = passphrase.make("")
    if made is None:
        raise InvalidInputError("an archive needs a passphrase")
    with vault.reading():
        active = vault.people.active
        people = [_pack(vault, entry) for entry in vault.people.subjects.values()]
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "model_id": active.model_id,
        "embedding_size": active.embedding_size,
        "people": len(people),
        "key": dict(made.parameters),
    }
    line = json.dumps(header, sort_keys=True).encode() + b"\n"
    key, digest = derive(made.key, "archive"), hashlib.sha256(line).digest()
    parts = [line]
    for number, content in enumerate(people):
        frame = seal(key, content, "archive", digest, number, int(number == len(people) - 1))
        parts += [len(frame).to_bytes(4, "big"), frame]
    return b"".join(parts)


def read_archive(vault: Vault, path: Path, passphrase: Passphrase) -> Imported:
    """Store everybody of the archive at ``path``: all in one change, or nobody.

    Raises:
        GalleryFormatError: Not an archive, cut short, or changed.
        GalleryModelError: It is of another model.
        GalleryKeyError: The passphrase was not given.
        GalleryIntegrityError: The passphrase is wrong, or a frame was changed or moved.
    """
    content = path.read_bytes()
    line, _, rest = content.partition(b"\n")
    header = _header(line, path)
    active = vault.people.active
    if header["model_id"] != active.model_id:
        raise GalleryModelError(
            f"the archive belongs to model {short_id(str(header['model_id']))}, the gallery to "
            f"{short_id(active.model_id)}; import it into a gallery of its model and migrate that"
        )
    secret = passphrase.find("", header["key"])
    if secret is None:
        raise InvalidInputError("an archive needs a passphrase")
    key, digest = derive(secret, "archive"), hashlib.sha256(line + b"\n").digest()
    count = int(header["people"])
    people = []
    for number, frame in enumerate(_frames(rest, count, path)):
        place = ("archive", digest, number, int(number == count - 1))
        people.append(_unpack(unseal(key, frame, *place)))
    return _store(vault, people)


def _header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(line[:_MAX_HEADER_BYTES])
        fits = header["format"] == _FORMAT and header["version"] == _VERSION
        fits = fits and isinstance(header["key"], dict) and isinstance(header["people"], int)
    except (ValueError, KeyError, TypeError):
        fits, header = False, {}
    if not fits or "model_id" not in header:
        raise GalleryFormatError(
            f"{path} is not an archive of people; `edgeface gallery export --all` makes one"
        )
    return dict(header)


def _frames(content: bytes, count: int, path: Path) -> Iterator[bytes]:
    start = 0
    for _ in range(count):
        length = int.from_bytes(content[start : start + 4], "big")
        frame = content[start + 4 : start + 4 + length]
        if not 0 < length <= _MAX_FRAME_BYTES or len(frame) != length:
            raise GalleryFormatError(f"{path} is cut short; get the whole archive")
        start += 4 + length
        yield frame
    if start != len(content):
        raise GalleryFormatError(f"{path} has more behind its last person; get the whole archive")


def _pack(vault: Vault, entry: PersonEntry) -> bytes:
    templates = [
        {**_template_as_dict(one.stored, False), "vector": _b64(one.stored.vector.tobytes())}
        for one in vault.people.templates_of(entry.row_id)
    ]
    crops = [_b64(crop.pack()) for crop in crops_of(vault, entry)]
    person = entry.person
    consent = None if person.consent is None else person.consent.as_dict()
    value = {
        "name": person.name,
        "created_at": person.created_at,
        "active": person.active,
        "consent": consent,
        "templates": templates,
        "crops": crops,
    }
    return json.dumps(value, allow_nan=False).encode()


def _unpack(content: bytes) -> tuple[Person, list[StoredTemplate], list[Crop]]:
    try:
        value = json.loads(content)
        consent = value["consent"]
        person = Person(
            normalise_subject_name(value["name"]),
            str(value["created_at"]),
            bool(value["active"]),
            None if consent is None else Consent.from_dict(consent),
        )
        templates = [_template_of(one) for one in value["templates"]]
        crops = [Crop.unpack(base64.b64decode(one, validate=True)) for one in value["crops"]]
    except (KeyError, TypeError, ValueError) as exc:
        raise GalleryFormatError("a person of the archive is malformed") from exc
    return person, templates, crops


def _template_of(value: Mapping[str, Any]) -> StoredTemplate:
    vector = np.frombuffer(base64.b64decode(value["vector"], validate=True), "<f4")
    return StoredTemplate(
        vector.astype(np.float32),
        float(value["quality"]),
        TemplateSource(value["source"]),
        str(value["created_at"]),
        str(value["artefact"]),
    )


def _store(vault: Vault, people: list[tuple[Person, list[StoredTemplate], list[Crop]]]) -> Imported:
    added, left_out = [], []
    with vault.changing() as change:
        active = vault.people.active
        for person, templates, crops in people:
            if vault.people.find(person.name) is not None:
                left_out.append(person.name)
                continue
            bad = [one for one in templates if not one.is_usable(active.embedding_size)]
            if bad or not templates:
                raise GalleryFormatError("a person of the archive has no or unusable templates")
            entry = add_person(vault.keys, change, person)
            for stored in templates:
                add_template(vault.keys, change, entry, active, stored)
            for crop in crops:
                add_crop(vault.keys, change, entry, crop)
            added.append(person.name)
    return Imported(tuple(added), tuple(left_out))


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
