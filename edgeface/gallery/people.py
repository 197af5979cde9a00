"""The people of a gallery in memory: the rows of its file, opened and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeface.errors import GalleryIntegrityError
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.ledger import Row, RowChange
from edgeface.gallery.records import Person, Place, StoredTemplate, lookup_of

__all__ = ["ACTIVE", "INCOMING", "PREVIOUS", "ModelEntry", "People", "PersonEntry", "TemplateEntry"]

_TAG_BYTES = 16
ACTIVE, INCOMING, PREVIOUS = "active", "incoming", "previous"
_STATES = (ACTIVE, INCOMING, PREVIOUS)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that the gallery has templates of; ``state`` is active, incoming or previous."""

    row_id: int
    model_id: str
    embedding_size: int
    state: str


@dataclass(frozen=True, slots=True, eq=False)
class PersonEntry:
    """A person with the key that opens the person's rows."""

    row_id: int
    uid: bytes
    version: int
    key: bytes
    person: Person
    wrapped_key: bytes


@dataclass(frozen=True, slots=True, eq=False)
class TemplateEntry:
    """A template of a person, of the model with row ``model``."""

    row_id: int
    uid: bytes
    subject: int
    model: int
    stored: StoredTemplate


class People:
    """The opened rows of a gallery.

    Templates of the active model alone are kept here; those of others are opened when asked for.
    ``changed`` are the subjects, by row, whose templates or state changed since a search index
    last took them; ``all_changed`` says that all may have.
    """

    def __init__(self, keys: GalleryKeys) -> None:
        self._keys = keys
        self.models: dict[int, ModelEntry] = {}
        self.subjects: dict[int, PersonEntry] = {}
        self.templates: dict[int, TemplateEntry] = {}
        self.by_name: dict[str, int] = {}
        self.changed: set[int] = set()
        self.all_changed = True
        self._rows: dict[int, Row] = {}

    def load(self, rows: Mapping[str, Iterable[Row]], before: People | None = None) -> None:
        """Take every row; what ``before`` has opened already is not opened again.

        Raises:
            GalleryIntegrityError: A row was changed, moved, or put back.
        """
        for table in ("model", "subject"):
            for row in rows[table]:
                self._take(table, row, None)
        for row in rows["template"]:
            self._take("template", row, before)
        if sum(model.state == ACTIVE for model in self.models.values()) != 1:
            raise GalleryIntegrityError("the gallery does not name one active model")

    def apply(self, changes: Iterable[RowChange]) -> None:
        """Take the rows that a transaction wrote or removed; none of them is a model."""
        for change in changes:
            self.changed |= self._subjects_of(change)
            if change.row is None:
                self._drop(change.table, change.row_id)
            else:
                self._take(change.table, change.row, None)

    def _subjects_of(self, change: RowChange) -> set[int]:
        if change.table == "subject":
            return {change.row_id}
        if change.table == "template":
            row = change.row or self._rows.get(change.row_id)
            return set() if row is None else {row[2]}
        return set()

    @property
    def active(self) -> ModelEntry:
        """The model whose templates are searched."""
        return next(model for model in self.models.values() if model.state == ACTIVE)

    def model_in(self, state: str) -> ModelEntry | None:
        """Return the model in ``state``, or None."""
        return next((model for model in self.models.values() if model.state == state), None)

    def model_called(self, model_id: str) -> ModelEntry | None:
        """Return the entry of the model with that id, or None."""
        return next((one for one in self.models.values() if one.model_id == model_id), None)

    def find(self, name: str) -> PersonEntry | None:
        """Return the person of that name, or None."""
        row_id = self.by_name.get(name)
        return None if row_id is None else self.subjects[row_id]

    def templates_of(self, subject: int, model: int | None = None) -> list[TemplateEntry]:
        """Return the templates of a person, oldest first; of the active model, or of ``model``."""
        if model is None or model == self.active.row_id:
            return [entry for entry in self.templates.values() if entry.subject == subject]
        rows = (row for row in self._rows.values() if row[2] == subject)
        return [self._open_template(row) for row in rows if row[3] == model]

    def templates_among(self, subjects: set[int]) -> list[TemplateEntry]:
        """Return the templates of the active model of several people, oldest first."""
        return [entry for entry in self.templates.values() if entry.subject in subjects]

    def counts(self, model: int) -> dict[int, int]:
        """Return how many templates of ``model`` each person has, by the person's row."""
        found = dict.fromkeys(self.subjects, 0)
        for row in self._rows.values():
            if row[3] == model:
                found[row[2]] += 1
        return found

    def template_uids(self, model: int) -> dict[int, list[bytes]]:
        """Return the uids of the templates of ``model``, by the row of the person."""
        found: dict[int, list[bytes]] = {}
        for row in self._rows.values():
            if row[3] == model:
                found.setdefault(row[2], []).append(row[1])
        return found

    def template_rows_of(self, subject: int) -> list[int]:
        """Return the rows of every template of a person, of whatever model."""
        return [row_id for row_id, row in self._rows.items() if row[2] == subject]

    def template_rows_of_model(self, model: int) -> list[int]:
        """Return the rows of every template of ``model``."""
        return [row_id for row_id, row in self._rows.items() if row[3] == model]

    def _take(self, table: str, row: Row, before: People | None) -> None:
        if table == "model":
            self._take_model(row)
        elif table == "subject":
            self._take_subject(row)
        elif table == "template":
            self._take_template(row, before)

    def _take_model(self, row: Row) -> None:
        entry = ModelEntry(*row)
        if entry.state not in _STATES:
            raise GalleryIntegrityError("a model of the gallery has an unknown state")
        self.models[entry.row_id] = entry

    def _take_subject(self, row: Row) -> None:
        row_id, uid, lookup, version, wrapped, record = row
        key = self._keys.unwrap(wrapped, uid)
        place = Place(self._keys.gallery_id, uid, uid, version)
        person = Person.unseal(key, record, place)
        if lookup != lookup_of(self._keys, person.name):
            raise GalleryIntegrityError("a person of the gallery is filed under another name")
        self._drop("subject", row_id)
        self.subjects[row_id] = PersonEntry(row_id, uid, version, key, person, wrapped)
        self.by_name[person.name] = row_id

    def _take_template(self, row: Row, before: People | None) -> None:
        row_id = row[0]
        if row[3] != self.active.row_id:
            self._rows[row_id] = row
            return
        # What is open needs no ciphertext; its tag tells it from another version.
        self._rows[row_id] = short = (*row[:5], row[5][-_TAG_BYTES:])
        known = None if before is None else before.templates.get(row_id)
        if known is None or before is None or before.short_row(row_id) != short:
            known = self._open_template(row)
        self.templates[row_id] = known

    def short_row(self, row_id: int) -> Row | None:
        """Return what tells one version of an open template row from another, or None."""
        return self._rows.get(row_id)

    def _open_template(self, row: Row) -> TemplateEntry:
        row_id, uid, subject, model, version, record = row
        if subject not in self.subjects or model not in self.models:
            raise GalleryIntegrityError("a template of the gallery has no person or no model")
        person = self.subjects[subject]
        place = Place(self._keys.gallery_id, person.uid, uid, version, self.models[model].model_id)
        stored = StoredTemplate.unseal(person.key, record, place)
        return TemplateEntry(row_id, uid, subject, model, stored)

    def _drop(self, table: str, row_id: int) -> None:
        if table == "subject" and row_id in self.subjects:
            del self.by_name[self.subjects.pop(row_id).person.name]
        elif table == "template":
            self._rows.pop(row_id, None)
            self.templates.pop(row_id, None)
        elif table == "model":
            self.models.pop(row_id, None)
