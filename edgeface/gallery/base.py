"""The seam for galleries, and the checks that every gallery makes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Protocol

from edgeface.errors import GalleryModelError, InvalidInputError
from edgeface.types import Candidate, Template

__all__ = [
    "Gallery",
    "SubjectInfo",
    "TemplateSource",
    "check_templates",
    "normalise_subject_name",
    "short_id",
    "utc_now",
]

MAX_NAME_LENGTH = 200
# NFC makes a text at most three times longer; anything above cannot become a valid name, and is
# not worth normalising.
_MAX_RAW_NAME_LENGTH = 4 * MAX_NAME_LENGTH
# Controls, lone surrogates, private use, line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Zl", "Zp"})
# Invisible characters that reorder or hide text: bidirectional marks, embeddings, overrides and
# isolates, the zero-width space, the word joiner and the byte order mark. The zero-width joiners
# stay allowed: Persian and Indic names need them.
_REFUSED_CHARACTERS = frozenset(
    "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)


class TemplateSource(str, Enum):
    """Where the face of a stored template came from."""

    IMAGE = "image"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class SubjectInfo:
    """What a gallery says about one subject; ``created_at`` is UTC, ISO 8601."""

    name: str
    template_count: int
    created_at: str


class Gallery(Protocol):
    """The enrolled references of one model.

    Every method may be called from several threads. A name is normalised as
    :func:`normalise_subject_name` says before it is stored or looked up.
    """

    @property
    def model_id(self) -> str:
        """The model that every template of the gallery belongs to."""
        ...

    def add(
        self,
        subject: str,
        templates: Sequence[Template],
        *,
        source: TemplateSource = TemplateSource.IMAGE,
        extend: bool = False,
    ) -> None:
        """Store ``templates`` under ``subject``: all of them, or none.

        ``extend`` adds to a subject that is enrolled already; without it such a name is refused,
        so that two people of one name never become one.

        Raises:
            SubjectExistsError: The subject is enrolled and ``extend`` is false.
            GalleryModelError: A template belongs to another model.
            InvalidInputError: The name or a template is unusable, or there is no template.
        """
        ...

    def subjects(self) -> list[SubjectInfo]:
        """Return the enrolled subjects, sorted by name."""
        ...

    def templates(self, subject: str) -> list[Template]:
        """Return the usable templates of ``subject``, oldest first.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
        """
        ...

    def remove(self, subject: str) -> None:
        """Forget ``subject`` and its templates.

        Raises:
            SubjectNotFoundError: No such subject is enrolled.
        """
        ...

    def search(self, template: Template, k: int = 5) -> list[Candidate]:
        """Return up to ``k`` subjects, the most alike first; an empty list for an empty gallery.

        The score of a subject is that of its best template. Ties are ordered by name.

        Raises:
            GalleryModelError: The template belongs to another model.
        """
        ...

    def search_many(self, templates: Sequence[Template], k: int = 5) -> list[list[Candidate]]:
        """Return what :meth:`search` returns, for each of ``templates``."""
        ...

    def close(self) -> None:
        """Free the gallery; may be called twice."""
        ...


def normalise_subject_name(name: str) -> str:
    """Return ``name`` in Unicode form NFC without outer white space.

    Raises:
        InvalidInputError: Not 1 to 200 characters, or with characters that cannot be seen or
            that reorder the text around them.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"a subject name must be text, got {type(name).__name__}")
    if len(name) <= _MAX_RAW_NAME_LENGTH:
        name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise InvalidInputError(
            f"a subject name must have 1 to {MAX_NAME_LENGTH} characters, got {len(name)}"
        )
    for position, character in enumerate(name):
        if _is_refused(character):
            raise InvalidInputError(
                f"a subject name must not hold U+{ord(character):04X} (character {position + 1}): "
                "control and direction characters are not allowed; type the name without it"
            )
    return name


def _is_refused(character: str) -> bool:
    return (
        character in _REFUSED_CHARACTERS or unicodedata.category(character) in _REFUSED_CATEGORIES
    )


def check_templates(templates: Sequence[Template], *, model_id: str, embedding_size: int) -> None:
    """Check that ``templates`` belong to the model and have its size.

    :class:`Template` itself has made sure that vectors are finite and of unit length.

    Raises:
        GalleryModelError: A template belongs to another model.
        InvalidInputError: A vector has another size, or a quality is not in 0..1.
    """
    for template in templates:
        if template.model_id != model_id:
            raise GalleryModelError(
                f"the template belongs to model {short_id(template.model_id)}, the gallery to "
                f"{short_id(model_id)}; make it again with the model of the gallery"
            )
        if template.vector.shape != (embedding_size,):
            raise InvalidInputError(
                f"a template of this gallery has shape ({embedding_size},), "
                f"got {template.vector.shape}"
            )
        if not 0.0 <= template.quality <= 1.0:
            raise InvalidInputError(
                f"the quality of a template must be in 0..1, got {template.quality}"
            )


def short_id(model_id: str) -> str:
    """Return the first twelve characters of ``model_id``, which are enough for people."""
    return model_id[:12]


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(timezone.utc)
