"""A gallery in one encrypted file, with the ``sqlite3`` of the standard library."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from edgeface.errors import GalleryError, InvalidInputError, SubjectExistsError
from edgeface.gallery.base import (
    Consent,
    EnrolmentRecord,
    SubjectInfo,
    TemplateSource,
    check_templates,
    normalise_subject_name,
    utc_now,
)
from edgeface.gallery.forgetting import Receipt, finish_forgetting, forget, receipts
from edgeface.gallery.index_of_people import PeopleIndex
from edgeface.gallery.keys import GalleryKeys, KeyOptions, where_the_key_is
from edgeface.gallery.ledger import Change
from edgeface.gallery.people import PersonEntry
from edgeface.gallery.records import Crop, Person, StoredTemplate
from edgeface.gallery.schema import UNENCRYPTED_VERSION, as_gallery_errors, file_version
from edgeface.gallery.search import SearchOptions
from edgeface.gallery.upgrade import encrypt_file
from edgeface.gallery.vault import Vault
from edgeface.gallery.writing import add_crop, add_person, add_template, change_person
from edgeface.types import Candidate, Template

__all__ = ["PersonDetails", "SqliteGallery"]


@dataclass(frozen=True, slots=True)
class PersonDetails:
    """What the gallery keeps about one person, without the templates themselves.

    ``qualities`` are those of the templates in 0..1, the best first; ``crops`` counts the aligned
    faces that are kept to make templates of later models from.
    """

    name: str
    created_at: str
    active: bool
    consent: Consent | None
    qualities: tuple[float, ...]
    crops: int


class SqliteGallery:
    """A gallery that outlives the process: what was acknowledged survives a crash.

    Names, templates, consent and crops are encrypted with one key for each person, and bound to
    their row: what was swapped, changed or put back is refused. Decrypted templates are in memory
    alone. See :class:`~edgeface.gallery.keys.KeyOptions` for where the key of the gallery is.

    Several threads may share a gallery, and several processes one file: a change made by another
    process is seen by the next search.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        search: SearchOptions | None = None,
        clock: Callable[[], datetime] = utc_now,
        notices: tuple[str, ...] = (),
    ) -> None:
        self.vault = vault
        self.notices = notices
        self._clock = clock
        self._index = PeopleIndex(search)

    @classmethod
    def open(  # noqa: PLR0913 - what a gallery is opened with, each by its name
        cls,
        path: str | os.PathLike[str],
        *,
        model_id: str,
        embedding_size: int,
        create: bool = True,
        keys: KeyOptions | None = None,
        search: SearchOptions | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> SqliteGallery:
        """Return the gallery at ``path``, made there first if it does not exist and ``create``.

        A gallery of schema 1, which held everything unencrypted, is encrypted; ``notices`` says
        so. Without ``search`` it is searched exactly, in a form that suits its size.

        Raises:
            GalleryFormatError: The file is not a gallery, damaged, of an unknown schema, or not a
                plain file. It is left as it was.
            GalleryIntegrityError: A row, or the file as a whole, was changed or put back.
            GalleryModelError: The gallery belongs to another model.
            GalleryKeyError: The key is not at hand or wrong; or there is no protected place for
                a new one, and a plain file was not asked for.
            GalleryError: There is no such file or folder, or other users may read the file.
            MissingDependencyError: ``cryptography`` is not installed.
        """
        if not model_id or embedding_size < 1:
            raise InvalidInputError(
                f"a gallery needs a model_id and an embedding size of at least 1, got "
                f"{model_id!r} and {embedding_size}"
            )
        file, options = Path(path).absolute(), keys or KeyOptions()
        made = None
        if not os.path.lexists(file):
            if not create:
                raise GalleryError(f"no gallery at {file}; enrol a subject to make one")
            made = Vault.create(file, model_id=model_id, size=embedding_size, options=options)
        gallery = cls._open(file, options, (model_id, embedding_size), clock, made, search)
        try:
            gallery.vault.require_model(model_id, embedding_size)
        except BaseException:
            gallery.close()
            raise
        return gallery

    @classmethod
    def open_existing(
        cls,
        path: str | os.PathLike[str],
        *,
        keys: KeyOptions | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> SqliteGallery:
        """Return the gallery at ``path``, of whatever model.

        Raises:
            GalleryError: As :meth:`open`, but for the model.
        """
        file = Path(path).absolute()
        if not os.path.lexists(file):
            raise GalleryError(f"no gallery at {file}; `edgeface enrol` makes one")
        return cls._open(file, keys or KeyOptions(), None, clock)

    @classmethod
    def _open(
        cls,
        file: Path,
        options: KeyOptions,
        model: tuple[str, int] | None,
        clock: Callable[[], datetime],
        keys: GalleryKeys | None = None,
        search: SearchOptions | None = None,
    ) -> SqliteGallery:
        notices = []
        with as_gallery_errors(file):
            if file_version(file) == UNENCRYPTED_VERSION:
                keys, count = encrypt_file(file, options, model)
                notices.append(f"the gallery {file} was not encrypted; now it is ({count} people)")
        vault = Vault.open(file, options, keys=keys)
        try:
            if not finish_forgetting(vault):
                notices.append(
                    "a removal is not finished: another process reads the gallery, or the disk "
                    "is full; open it again later"
                )
        except BaseException:
            vault.close()
            raise
        if keys is not None:
            notices.append(where_the_key_is(vault.keys))
        gallery = cls(vault, search=search, clock=clock, notices=tuple(notices))
        try:
            # Opens every template: what does not belong where it lies is refused now.
            gallery._bring_index_up_to_date()
        except BaseException:
            gallery.close()
            raise
        return gallery

    @property
    def model_id(self) -> str:
        """The model that every searched template of the gallery belongs to."""
        with self.vault.reading():
            return self.vault.people.active.model_id

    @property
    def embedding_size(self) -> int:
        """The length of every searched template."""
        with self.vault.reading():
            return self.vault.people.active.embedding_size

    @property
    def path(self) -> Path:
        """The file of the gallery."""
        return self.vault.path

    @property
    def search_description(self) -> str:
        """How the gallery is searched now, in words for people."""
        return self._index.description

    @property
    def quarantined(self) -> int:
        """How many stored templates are unusable and not searched; enrol their subjects again."""
        self._bring_index_up_to_date()
        return self._index.quarantined

    def add(
        self,
        subject: str,
        templates: Sequence[Template],
        *,
        source: TemplateSource = TemplateSource.IMAGE,
        extend: bool = False,
        record: EnrolmentRecord | None = None,
    ) -> None:
        """Store ``templates`` under ``subject``: see :meth:`Gallery.add`.

        They are on the disk when this returns.
        """
        source, name = TemplateSource(source), normalise_subject_name(subject)
        record = record or EnrolmentRecord()
        if not templates:
            raise InvalidInputError("a subject needs at least one template, got none")
        if record.crops and len(record.crops) != len(templates):
            raise InvalidInputError(
                f"got {len(record.crops)} crops for {len(templates)} templates; give one for each"
            )
        now = self._now()
        with self.vault.changing() as change:
            # Inside: another process may have moved the gallery to another model.
            self._check(templates)
            entry = self.vault.people.find(name)
            if entry is not None and not extend:
                raise SubjectExistsError(
                    "a subject of that name is enrolled already; choose another name, or pass "
                    "extend=True to add templates to it"
                )
            if entry is None:
                person = Person(name, now, consent=record.consent)
                entry = add_person(self.vault.keys, change, person)
            elif record.consent is not None:
                agreed = replace(entry.person, consent=record.consent)
                change_person(self.vault.keys, change, entry, agreed)
            self._add_rows(change, entry, templates, source, record)

    def subjects(self) -> list[SubjectInfo]:
        """Return the enrolled subjects, sorted by name."""
        with self.vault.reading():
            people = self.vault.people
            counts = people.counts(people.active.row_id)
            found = [
                SubjectInfo(
                    entry.person.name,
                    counts[entry.row_id],
                    entry.person.created_at,
                    entry.person.active,
                )
                for entry in people.subjects.values()
            ]
        return sorted(found, key=lambda info: info.name)

    @property
    def subject_count(self) -> int:
        """How many subjects are enrolled: see :attr:`Gallery.subject_count`."""
        with self.vault.reading():
            return len(self.vault.people.subjects)

    def templates(self, subject: str) -> list[Template]:
        """Return the usable templates of ``subject``: see :meth:`Gallery.templates`."""
        name = normalise_subject_name(subject)
        with self.vault.reading():
            entries = self.vault.people.templates_of(self.vault.require(name).row_id)
            size, model_id = self.embedding_size, self.model_id
        return [
            Template(entry.stored.vector, model_id, entry.stored.quality)
            for entry in entries
            if entry.stored.is_usable(size)
        ]

    def details(self, subject: str) -> PersonDetails:
        """Return what is kept about ``subject``.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
        """
        name = normalise_subject_name(subject)
        with self.vault.reading() as connection:
            entry = self.vault.require(name)
            stored = [one.stored for one in self.vault.people.templates_of(entry.row_id)]
            crops = connection.execute(
                "SELECT count(*) FROM crop WHERE subject = ?", (entry.row_id,)
            ).fetchone()[0]
        person = entry.person
        qualities = tuple(sorted((one.quality for one in stored), reverse=True))
        return PersonDetails(
            person.name, person.created_at, person.active, person.consent, qualities, crops
        )

    def remove(self, subject: str) -> None:
        """Forget ``subject``: see :meth:`forget`."""
        self.forget(subject)

    def forget(self, subject: str) -> Receipt:
        """Destroy the key and every row of ``subject``; return the receipt.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
            GalleryError: The subject is removed, but another process was reading, so that the
                log still holds the old pages; opening the gallery again finishes it.
        """
        return forget(self.vault, normalise_subject_name(subject), self._now())

    def receipts(self) -> list[Receipt]:
        """Return the receipts of everybody who was forgotten, oldest first."""
        return receipts(self.vault)

    def rename(self, subject: str, new_name: str) -> None:
        """Give ``subject`` another name.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
            SubjectExistsError: Somebody else has the new name.
        """
        name, new_name = normalise_subject_name(subject), normalise_subject_name(new_name)
        with self.vault.changing() as change:
            entry = self.vault.require(name)
            other = self.vault.people.find(new_name)
            if other is not None and other.row_id != entry.row_id:
                raise SubjectExistsError("a subject of the new name is enrolled already")
            change_person(self.vault.keys, change, entry, replace(entry.person, name=new_name))

    def set_active(self, subject: str, *, active: bool) -> None:
        """Let ``subject`` take part in searches, or not; the templates stay.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
        """
        name = normalise_subject_name(subject)
        with self.vault.changing() as change:
            entry = self.vault.require(name)
            change_person(self.vault.keys, change, entry, replace(entry.person, active=active))

    def search(self, template: Template, k: int = 5) -> list[Candidate]:
        """Return up to ``k`` candidates: see :meth:`Gallery.search`."""
        return self.search_many([template], k)[0]

    def search_many(self, templates: Sequence[Template], k: int = 5) -> list[list[Candidate]]:
        """Return what :meth:`search` returns, for each of ``templates``."""
        if k < 1:
            raise InvalidInputError(f"k must be at least 1, got {k}")
        if not templates:
            return []
        with self.vault.reading():
            self._check(templates)
            self._index.bring_up_to_date(self.vault.people)
            return self._index.search(self.vault.people, np.stack([t.vector for t in templates]), k)

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._index.close()
        self.vault.close()

    def __enter__(self) -> SqliteGallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add_rows(
        self,
        change: Change,
        entry: PersonEntry,
        templates: Sequence[Template],
        source: TemplateSource,
        record: EnrolmentRecord,
    ) -> None:
        keys, model, now = self.vault.keys, self.vault.people.active, self._now()
        for template in templates:
            quality = float(template.quality)
            stored = StoredTemplate(template.vector, quality, source, now, record.artefact)
            add_template(keys, change, entry, model, stored)
        for face, template in zip(record.crops, templates, strict=False):
            add_crop(keys, change, entry, Crop(face, float(template.quality), now))

    def _bring_index_up_to_date(self) -> None:
        with self.vault.reading():
            self._index.bring_up_to_date(self.vault.people)

    def _check(self, templates: Sequence[Template]) -> None:
        active = self.vault.people.active
        check_templates(templates, model_id=active.model_id, embedding_size=active.embedding_size)

    def _now(self) -> str:
        return self._clock().isoformat(timespec="seconds")
