"""Writing the sealed rows of people, templates and crops."""

from __future__ import annotations

from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.ledger import Change
from edgeface.gallery.people import ModelEntry, PersonEntry
from edgeface.gallery.records import Crop, Person, Place, StoredTemplate, lookup_of, new_uid
from edgeface.gallery.sealing import new_key

__all__ = ["add_crop", "add_person", "add_template", "change_person"]

_FIRST_VERSION = 1


def add_person(
    keys: GalleryKeys, change: Change, person: Person, *, uid: bytes | None = None
) -> PersonEntry:
    """Store a new person with a key of the person's own; return the entry.

    ``uid`` is given where another gallery has the person already.
    """
    uid, key = uid or new_uid(), new_key()
    place = Place(keys.gallery_id, uid, uid, _FIRST_VERSION)
    wrapped = keys.wrap(key, uid)
    row_id = change.insert(
        "subject",
        uid,
        lookup_of(keys, person.name),
        _FIRST_VERSION,
        wrapped,
        person.seal(key, place),
    )
    return PersonEntry(row_id, uid, _FIRST_VERSION, key, person, wrapped)


def change_person(keys: GalleryKeys, change: Change, entry: PersonEntry, person: Person) -> None:
    """Store ``person`` in the place of what ``entry`` holds, as the next version of the row."""
    version = entry.version + 1
    place = Place(keys.gallery_id, entry.uid, entry.uid, version)
    change.update(
        "subject",
        entry.row_id,
        entry.uid,
        lookup_of(keys, person.name),
        version,
        entry.wrapped_key,
        person.seal(entry.key, place),
    )


def add_template(
    keys: GalleryKeys,
    change: Change,
    entry: PersonEntry,
    model: ModelEntry,
    stored: StoredTemplate,
    *,
    uid: bytes | None = None,
) -> int:
    """Store a template of a person for ``model``; return its row.

    ``uid`` is given where another gallery has the template already.
    """
    uid = uid or new_uid()
    place = Place(keys.gallery_id, entry.uid, uid, _FIRST_VERSION, model.model_id)
    record = stored.seal(entry.key, place)
    return change.insert("template", uid, entry.row_id, model.row_id, _FIRST_VERSION, record)


def add_crop(keys: GalleryKeys, change: Change, entry: PersonEntry, crop: Crop) -> int:
    """Store an aligned face of a person; return its row."""
    uid = new_uid()
    place = Place(keys.gallery_id, entry.uid, uid, _FIRST_VERSION)
    record = crop.seal(entry.key, place)
    return change.insert("crop", uid, entry.row_id, _FIRST_VERSION, record)
