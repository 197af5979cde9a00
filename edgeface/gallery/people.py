"""The people of a gallery: the rows of its file, checked, and opened when they are asked for.

A million people would not fit the memory of a small device as objects. So what is kept is which
rows there are, 32 bytes each, and the few people asked for last; the templates that are searched
are in the search index alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgeface.errors import GalleryIntegrityError
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.ledger import Row, RowChange
from edgeface.gallery.records import Person, Place, StoredTemplate, lookup_of
from edgeface.gallery.row_tags import TAG_BYTES, RowTags
from edgeface.gallery.tables import (
    COUNT_TEMPLATES,
    TABLE,
    TEMPLATE_ROWS_OF_MODEL,
    TEMPLATE_ROWS_OF_SUBJECT,
    TEMPLATE_UIDS,
    TEMPLATES_OF_MODEL,
    TEMPLATES_OF_SUBJECT,
)

__all__ = ["ACTIVE", "INCOMING", "PREVIOUS", "ModelEntry", "People", "PersonEntry", "TemplateEntry"]

ACTIVE, INCOMING, PREVIOUS = "active", "incoming", "previous"
_STATES = (ACTIVE, INCOMING, PREVIOUS)
# People who stay open: about 5 MB. A search names a few, the same ones again and again.
_MOST_OPEN = 4096
_ROWS_AT_ONCE = 512
# Above this share of changed people a new index is quicker than changing the one there is.
_MOST_CHANGED = 0.2

Query: TypeAlias = "Callable[[str, Sequence[Any]], list[Row]]"
"""Gives the rows of a statement of :mod:`edgeface.gallery.tables` with its parameters."""


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


class Subjects(Mapping[int, PersonEntry]):
    """The people by their row; opened when they are asked for."""

    def __init__(self, keys: GalleryKeys, query: Query) -> None:
        self._keys = keys
        self._query = query
        self._open: dict[int, PersonEntry] = {}
        self.tags = RowTags()

    def __getitem__(self, row_id: int) -> PersonEntry:
        entry = self._open.get(row_id)
        if entry is None:
            rows = self._query(TABLE["subject"].select_one, (row_id,))
            if not rows:
                raise KeyError(row_id)
            entry = self._opened(rows[0])
            if len(self._open) >= _MOST_OPEN:
                self._open.clear()
            self._open[row_id] = entry
        return entry

    def __iter__(self) -> Iterator[int]:
        return iter(self.tags.ids.tolist())

    def __len__(self) -> int:
        return len(self.tags)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self.tags

    def values(self) -> ValuesView[PersonEntry]:
        """Return everybody, by ascending row; they are read while they are gone through."""
        return _Everybody(self)

    def after(self, row_id: int, most: int) -> list[PersonEntry]:
        """Return up to ``most`` people whose rows are above ``row_id``."""
        rows = self._query(TABLE["subject"].select_after, (row_id, most))
        return [self._opened(row) for row in rows]

    def called(self, name: str) -> PersonEntry | None:
        """Return the person of that name, or None."""
        return self._one(TABLE["subject"].select_by("lookup"), lookup_of(self._keys, name))

    def with_uid(self, uid: bytes) -> PersonEntry | None:
        """Return the person with that uid, or None."""
        return self._one(TABLE["subject"].select_by("uid"), uid)

    def forget_open(self, row_id: int) -> None:
        """Read the person anew the next time."""
        self._open.pop(row_id, None)

    def _one(self, statement: str, value: bytes) -> PersonEntry | None:
        rows = self._query(statement, (value,))
        return self._opened(rows[0]) if rows else None

    def _opened(self, row: Row) -> PersonEntry:
        row_id, uid, lookup, version, wrapped, record = row
        key = self._keys.unwrap(wrapped, uid)
        place = Place(self._keys.gallery_id, uid, uid, version)
        person = Person.unseal(key, record, place)
        if lookup != lookup_of(self._keys, person.name):
            raise GalleryIntegrityError("a person of the gallery is filed under another name")
        return PersonEntry(row_id, uid, version, key, person, wrapped)


class _Everybody(ValuesView[PersonEntry]):
    def __init__(self, subjects: Subjects) -> None:
        super().__init__(subjects)
        self._subjects = subjects

    def __iter__(self) -> Iterator[PersonEntry]:
        if len(self._subjects) <= _MOST_OPEN:
            yield from [self._subjects[row_id] for row_id in self._subjects]
            return
        last = -1
        while found := self._subjects.after(last, _ROWS_AT_ONCE):
            yield from found
            last = found[-1].row_id


class People:
    """The rows of a gallery. To be used inside :meth:`Vault.reading` or :meth:`Vault.changing`.

    ``changed`` are the subjects, by row, whose templates or state changed since a search index
    last took them; ``all_changed`` says that all may have.
    """

    def __init__(self, keys: GalleryKeys, query: Query) -> None:
        self._keys = keys
        self._query = query
        self.models: dict[int, ModelEntry] = {}
        self.subjects = Subjects(keys, query)
        self.changed: set[int] = set()
        self.all_changed = True
        self._templates = RowTags()

    def take(self, table: str, row: Row) -> None:
        """Take a row as the file is read: models first, ids in ascending order."""
        if table == "model":
            entry = ModelEntry(*row)
            self.models[entry.row_id] = entry
        elif table == "subject":
            self.subjects.tags.append(row[0], row[0], row[5][-TAG_BYTES:])
        elif table == "template":
            self._templates.append(row[0], row[2], row[5][-TAG_BYTES:])

    def finish(self, before: People) -> None:
        """End the reading of the file; ``before`` is what a search index may have taken.

        Raises:
            GalleryIntegrityError: There is no active model, or more than one.
        """
        states = [model.state for model in self.models.values()]
        if set(states) - set(_STATES):
            raise GalleryIntegrityError("a model of the gallery has an unknown state")
        if states.count(ACTIVE) != 1:
            raise GalleryIntegrityError("the gallery does not name one active model")
        if before.all_changed or before.models != self.models:
            return
        changed = before.changed | self.subjects.tags.owners_of_changed(before.subjects.tags)
        changed |= self._templates.owners_of_changed(before._templates)
        if len(changed) <= _MOST_CHANGED * len(self.subjects):
            self.changed, self.all_changed = changed, False

    def apply(self, changes: Iterable[RowChange]) -> None:
        """Take the rows that a transaction wrote or removed; none of them is a model."""
        for change in changes:
            row_id, row = change.row_id, change.row
            if change.table == "subject":
                self.changed.add(row_id)
                self.subjects.forget_open(row_id)
                _note(self.subjects.tags, row_id, row_id, row)
            elif change.table == "template":
                owner = self._templates.owner(row_id) if row is None else row[2]
                if owner is not None:
                    self.changed.add(owner)
                    _note(self._templates, row_id, owner, row)

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

    @property
    def template_count(self) -> int:
        """How many templates the gallery has, of whatever model."""
        return len(self._templates)

    def find(self, name: str) -> PersonEntry | None:
        """Return the person of that name, or None."""
        return self.subjects.called(name)

    def templates_of(self, subject: int, model: int | None = None) -> list[TemplateEntry]:
        """Return the templates of a person, oldest first; of the active model, or of ``model``."""
        wanted = self.active.row_id if model is None else model
        rows = self._query(TEMPLATES_OF_SUBJECT, (subject, wanted))
        return [self._open_template(row) for row in rows]

    def every_template(self) -> Iterator[TemplateEntry]:
        """Give the templates of the active model, by ascending row."""
        last, model = -1, self.active.row_id
        while rows := self._query(TEMPLATES_OF_MODEL, (model, last, _ROWS_AT_ONCE)):
            for row in rows:
                yield self._open_template(row)
            last = rows[-1][0]

    def counts(self, model: int) -> dict[int, int]:
        """Return how many templates of ``model`` each person has, by the person's row."""
        found = dict.fromkeys(self.subjects, 0)
        found.update(self._query(COUNT_TEMPLATES, (model,)))
        return found

    def template_uids(self, model: int) -> dict[int, list[bytes]]:
        """Return the uids of the templates of ``model``, by the row of the person."""
        found: dict[int, list[bytes]] = {}
        for subject, uid in self._query(TEMPLATE_UIDS, (model,)):
            found.setdefault(subject, []).append(uid)
        return found

    def template_rows_of(self, subject: int) -> list[int]:
        """Return the rows of every template of a person, of whatever model."""
        return [row_id for (row_id,) in self._query(TEMPLATE_ROWS_OF_SUBJECT, (subject,))]

    def template_rows_of_model(self, model: int) -> list[int]:
        """Return the rows of every template of ``model``."""
        return [row_id for (row_id,) in self._query(TEMPLATE_ROWS_OF_MODEL, (model,))]

    def _open_template(self, row: Row) -> TemplateEntry:
        row_id, uid, subject, model, version, record = row
        if model not in self.models:
            raise GalleryIntegrityError("a template of the gallery has no model")
        try:
            person = self.subjects[subject]
        except KeyError as exc:
            raise GalleryIntegrityError("a template of the gallery has no person") from exc
        place = Place(self._keys.gallery_id, person.uid, uid, version, self.models[model].model_id)
        stored = StoredTemplate.unseal(person.key, record, place)
        return TemplateEntry(row_id, uid, subject, model, stored)


def _note(tags: RowTags, row_id: int, owner: int, row: Row | None) -> None:
    if row is None:
        tags.drop(row_id)
    else:
        tags.put(row_id, owner, row[5][-TAG_BYTES:])
