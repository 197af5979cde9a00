"""A gallery without a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType

import numpy as np

from edgeface.errors import InvalidInputError, SubjectExistsError, SubjectNotFoundError
from edgeface.gallery.base import (
    EnrolmentRecord,
    SubjectInfo,
    TemplateSource,
    check_templates,
    normalise_subject_name,
    utc_now,
)
from edgeface.gallery.matrix import TemplateMatrix
from edgeface.types import Candidate, FloatArray, Template

__all__ = ["InMemoryGallery"]


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    created_at: str
    templates: tuple[Template, ...]
    active: bool = True


class InMemoryGallery:
    """A gallery that is gone when the process ends."""

    def __init__(
        self, *, model_id: str, embedding_size: int, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._model_id = model_id
        self._embedding_size = embedding_size
        self._clock = clock
        self._lock = threading.RLock()
        self._subjects: dict[str, _Subject] = {}
        self._matrix: TemplateMatrix | None = None

    @property
    def model_id(self) -> str:
        """The model that every template of the gallery belongs to."""
        return self._model_id

    @property
    def embedding_size(self) -> int:
        """The length of every template."""
        return self._embedding_size

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

        ``record`` is not kept: nothing here outlives the process.
        """
        TemplateSource(source)
        del record
        name = normalise_subject_name(subject)
        self._check(templates)
        if not templates:
            raise InvalidInputError("a subject needs at least one template, got none")
        with self._lock:
            known = self._subjects.get(name)
            if known is not None and not extend:
                raise SubjectExistsError(
                    "a subject of that name is enrolled already; choose another name, or pass "
                    "extend=True to add templates to it"
                )
            created_at = known.created_at if known else self._clock().isoformat(timespec="seconds")
            before = known or _Subject(created_at, ())
            self._subjects[name] = replace(before, templates=(*before.templates, *templates))
            self._matrix = None

    def subjects(self) -> list[SubjectInfo]:
        """Return the enrolled subjects, sorted by name."""
        with self._lock:
            return [
                SubjectInfo(name, len(entry.templates), entry.created_at, entry.active)
                for name, entry in sorted(self._subjects.items())
            ]

    @property
    def subject_count(self) -> int:
        """How many subjects are enrolled: see :attr:`Gallery.subject_count`."""
        with self._lock:
            return len(self._subjects)

    def templates(self, subject: str) -> list[Template]:
        """Return the templates of ``subject``: see :meth:`Gallery.templates`."""
        with self._lock:
            return list(self._get(subject).templates)

    def remove(self, subject: str) -> None:
        """Forget ``subject``: see :meth:`Gallery.remove`."""
        with self._lock:
            self._get(subject)
            del self._subjects[normalise_subject_name(subject)]
            self._matrix = None

    def rename(self, subject: str, new_name: str) -> None:
        """Give ``subject`` another name.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
            SubjectExistsError: Somebody else has the new name.
        """
        name, new_name = normalise_subject_name(subject), normalise_subject_name(new_name)
        with self._lock:
            entry = self._get(name)
            if new_name != name and new_name in self._subjects:
                raise SubjectExistsError("a subject of the new name is enrolled already")
            del self._subjects[name]
            self._subjects[new_name] = entry
            self._matrix = None

    def set_active(self, subject: str, *, active: bool) -> None:
        """Let ``subject`` take part in searches, or not; the templates stay.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
        """
        name = normalise_subject_name(subject)
        with self._lock:
            self._subjects[name] = replace(self._get(name), active=active)
            self._matrix = None

    def search(self, template: Template, k: int = 5) -> list[Candidate]:
        """Return up to ``k`` candidates: see :meth:`Gallery.search`."""
        return self.search_many([template], k)[0]

    def search_many(self, templates: Sequence[Template], k: int = 5) -> list[list[Candidate]]:
        """Return what :meth:`search` returns, for each of ``templates``."""
        if k < 1:
            raise InvalidInputError(f"k must be at least 1, got {k}")
        self._check(templates)
        if not templates:
            return []
        with self._lock:
            matrix = self._matrix = self._matrix or self._build()
        return matrix.search(np.stack([template.vector for template in templates]), k)

    def close(self) -> None:
        """Forget everything; may be called twice."""
        with self._lock:
            self._subjects.clear()
            self._matrix = None

    def __enter__(self) -> InMemoryGallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, templates: Sequence[Template]) -> None:
        check_templates(templates, model_id=self._model_id, embedding_size=self._embedding_size)

    def _get(self, subject: str) -> _Subject:
        entry = self._subjects.get(normalise_subject_name(subject))
        if entry is None:
            raise SubjectNotFoundError("no subject of that name is enrolled")
        return entry

    def _build(self) -> TemplateMatrix:
        active = {name: entry for name, entry in self._subjects.items() if entry.active}
        names = [name for name, entry in active.items() for _ in entry.templates]
        rows = [row.vector for entry in active.values() for row in entry.templates]
        vectors: FloatArray = (
            np.stack(rows) if rows else np.empty((0, self._embedding_size), np.float32)
        )
        return TemplateMatrix.build(names, vectors)
