"""Schema 1, which held names and templates unencrypted, becomes the schema of today.

A new file is written beside the old one, read back and compared, and only then put in its place:
after a power cut at any moment the gallery is the old one or the new one, whole.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.errors import GalleryError, GalleryFormatError, GalleryModelError
from edgeface.gallery.base import TemplateSource, normalise_subject_name, short_id
from edgeface.gallery.keys import GalleryKeys, KeyOptions, Slot, new_gallery_slot
from edgeface.gallery.people import ACTIVE, ModelEntry
from edgeface.gallery.records import Person, StoredTemplate
from edgeface.gallery.schema import open_connection, sync_folder, write_beside
from edgeface.gallery.vault import Vault, fill_new, new_gallery_id
from edgeface.gallery.writing import add_person, add_template

__all__ = ["encrypt_file"]

_BLOCK_BYTES = 1 << 20
_SQL = {
    "meta": "SELECT key, value FROM meta",
    "subject": "SELECT id, name, created_at FROM subject ORDER BY id",
    "template": (
        "SELECT subject_id, vector, quality, source, created_at FROM template ORDER BY id"
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class _OldGallery:
    """What a file of schema 1 holds."""

    model_id: str
    size: int
    people: Sequence[tuple[int, Person]]
    templates: Sequence[tuple[int, StoredTemplate]]


def encrypt_file(
    path: Path, options: KeyOptions, model: tuple[str, int] | None
) -> tuple[GalleryKeys, int]:
    """Encrypt the gallery of schema 1 at ``path``; return its keys and how many people it holds.

    ``model`` is the model id and embedding size that it must have, or None. The old content is
    overwritten as far as the disk allows.

    Raises:
        GalleryFormatError: The file is damaged. It is left as it was.
        GalleryModelError: The gallery belongs to another model.
        GalleryKeyError: There is no place for a key.
        GalleryError: Another process uses the gallery.
    """
    with contextlib.closing(open_connection(path)) as connection:
        old = _read(connection, path)
        if model is not None and model != (old.model_id, old.size):
            raise GalleryModelError(
                f"the gallery {path} belongs to model {short_id(old.model_id)} (embedding size "
                f"{old.size}), this is model {short_id(model[0])} (embedding size {model[1]}); "
                "open it with the model it was made with"
            )
        keys, slot = new_gallery_slot(new_gallery_id(), options)
        # Nobody else has it open from here on, and nothing is left in a log.
        if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
            raise GalleryError(f"another process uses the gallery {path}; close it first")
        connection.execute("BEGIN EXCLUSIVE")
        new = write_beside(path, lambda fresh: _fill(fresh, keys, slot, old))
        try:
            _compare(new, options, keys, old)
            with path.open("r+b") as unencrypted:
                new.replace(path)
                sync_folder(path.parent)
                connection.execute("ROLLBACK")
                _overwrite(unencrypted.fileno())
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    return keys, len(old.people)


def _read(connection: sqlite3.Connection, path: Path) -> _OldGallery:
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise GalleryFormatError(
            f"the gallery {path} is damaged ({damage}); restore it from a copy"
        )
    try:
        meta = dict(connection.execute(_SQL["meta"]).fetchall())
        people = [
            (row_id, Person(normalise_subject_name(name), created_at))
            for row_id, name, created_at in connection.execute(_SQL["subject"])
        ]
        size = int(meta["embedding_size"])
        templates = [
            (row[0], stored)
            for row in connection.execute(_SQL["template"])
            if (stored := _template(row)).is_usable(size)
        ]
        return _OldGallery(str(meta["model_id"]), size, people, templates)
    except (KeyError, TypeError, ValueError, sqlite3.OperationalError) as exc:
        raise GalleryFormatError(
            f"the gallery {path} has other tables or rows than schema 1; restore it from a copy"
        ) from exc


def _template(row: tuple[Any, ...]) -> StoredTemplate:
    _, blob, quality, source, created_at = row
    whole = isinstance(blob, bytes) and len(blob) % 4 == 0
    vector = np.frombuffer(blob if whole else b"", "<f4").astype(np.float32)
    return StoredTemplate(vector, float(quality), TemplateSource(source), str(created_at))


def _fill(connection: sqlite3.Connection, keys: GalleryKeys, slot: Slot, old: _OldGallery) -> None:
    change = fill_new(connection, keys, slot, model_id=old.model_id, size=old.size)
    model_row = change.done[1].row_id
    model = ModelEntry(model_row, old.model_id, old.size, ACTIVE)
    entries = {row_id: add_person(keys, change, person) for row_id, person in old.people}
    for row_id, stored in old.templates:
        if row_id not in entries:
            raise GalleryFormatError("a template of the gallery has no subject; restore a copy")
        add_template(keys, change, entries[row_id], model, stored)
    change.finish()


def _compare(new: Path, options: KeyOptions, keys: GalleryKeys, old: _OldGallery) -> None:
    """Read the new file back.

    Raises:
        GalleryError: It does not hold what the old one held.
    """
    vault = Vault.open(new, options, keys=keys, check_anchor=False)
    try:
        people = vault.people
        same = [entry.person for entry in people.subjects.values()] == [
            person for _, person in old.people
        ]
        stored = [entry.stored for entry in people.every_template()]
        same = same and len(stored) == len(old.templates)
        same = same and all(
            np.array_equal(ours.vector, theirs.vector)
            for ours, (_, theirs) in zip(stored, old.templates, strict=True)
        )
    finally:
        vault.close()
    if not same:
        raise GalleryError("the encrypted gallery reads back otherwise; the old one is unchanged")


def _overwrite(handle: int) -> None:
    """Write zeros over the unencrypted file, which has no name any more."""
    size = os.fstat(handle).st_size
    os.lseek(handle, 0, os.SEEK_SET)
    for start in range(0, size, _BLOCK_BYTES):
        os.write(handle, bytes(min(_BLOCK_BYTES, size - start)))
    os.fsync(handle)
