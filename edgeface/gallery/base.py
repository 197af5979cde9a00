"""The seam for galleries, and the checks that every gallery makes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Protocol

from edgeface._arrays import FloatArray, ImageArray, read_only, require_finite, require_image
from edgeface.errors import GalleryModelError, InvalidInputError
from edgeface.types import Candidate, Template

__all__ = [
    "Consent",
    "EnrolmentRecord",
    "Gallery",
    "ReferenceCrop",
    "SubjectInfo",
    "TemplateSource",
    "check_templates",
    "normalise_subject_name",
    "short_id",
    "utc_now",
]

MAX_NAME_LENGTH = 200
_MAX_CONSENT_LENGTH = 500
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
    """What a gallery says about one subject; ``created_at`` is UTC, ISO 8601.

    An inactive subject takes part in no search.
    """

    name: str
    template_count: int
    created_at: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class Consent:
    """That a person agreed to be enrolled, or why no agreement was needed.

    ``how`` says how it was given (``paper form 12``), ``text_version`` which text was agreed to,
    ``given_at`` when (ISO 8601), ``recorded_by`` who wrote it down. ``keep_crops`` says that the
    person also agreed that the enrolled faces are kept, encrypted, for later models.
    """

    how: str
    given_at: str
    text_version: str = ""
    recorded_by: str = ""
    keep_crops: bool = False

    def __post_init__(self) -> None:
        if not self.how.strip():
            raise InvalidInputError("a consent record must say how consent was given, got nothing")
        for entry in (self.how, self.given_at, self.text_version, self.recorded_by):
            if len(entry) > _MAX_CONSENT_LENGTH or any(map(_is_refused, entry)):
                raise InvalidInputError(
                    f"a part of a consent record must be at most {_MAX_CONSENT_LENGTH} characters "
                    "on one line, without characters that cannot be seen"
                )

    def as_dict(self) -> dict[str, str | bool]:
        """Return the record for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Consent:
        """Return the record that :meth:`as_dict` gave.

        Raises:
            KeyError: A part is missing.
            InvalidInputError: A part is unusable.
        """
        texts = ("how", "given_at", "text_version", "recorded_by")
        kept = {name: str(value[name]) for name in texts}
        return cls(**kept, keep_crops=value["keep_crops"] is True)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceCrop:
    """A face cut out of its picture, to make templates of later models from.

    ``pixels`` is (height, width, 3) uint8 RGB. ``points_px`` is (5, 2) float32, the five points of
    :class:`~edgeface.types.FaceLandmarks` in pixels of the crop: any alignment can be made of it.
    """

    pixels: ImageArray
    points_px: FloatArray

    def __post_init__(self) -> None:
        pixels = require_image("ReferenceCrop.pixels", self.pixels)
        points = require_finite("ReferenceCrop.points_px", self.points_px, (5, 2))
        object.__setattr__(self, "pixels", read_only(pixels))
        object.__setattr__(self, "points_px", read_only(points))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnrolmentRecord:
    """What is kept beside the templates of one enrolment.

    ``consent`` replaces an earlier record of the person. ``artefact`` names the artefact of the
    bundle that made the templates. ``crops`` are the faces that the templates were made from, one
    for each; or empty, and then a later model needs new pictures.
    """

    consent: Consent | None = None
    artefact: str = ""
    crops: Sequence[ReferenceCrop] = ()


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
        record: EnrolmentRecord | None = None,
    ) -> None:
        """Store ``templates`` under ``subject``: all of them, or none.

        ``extend`` adds to a subject that is enrolled already; without it such a name is refused,
        so that two people of one name never become one. ``record`` is kept where the gallery has
        a place for it.

        Raises:
            SubjectExistsError: The subject is enrolled and ``extend`` is false.
            GalleryModelError: A template belongs to another model.
            InvalidInputError: The name or a template is unusable, or there is no template.
        """
        ...

    def subjects(self) -> list[SubjectInfo]:
        """Return the enrolled subjects, sorted by name."""
        ...

    @property
    def subject_count(self) -> int:
        """How many subjects are enrolled, inactive ones among them. Reads none of them."""
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
