"""Enrolment of a folder with one folder of photos for each person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeface.camera.images import is_image_file, read_image
from edgeface.errors import (
    CameraError,
    EnrolmentError,
    InvalidInputError,
    SubjectExistsError,
)
from edgeface.gallery import Consent
from edgeface.pipeline.recognizer import Recognizer

__all__ = ["FolderResult", "PersonFolder", "enrol_folders", "people_in"]


@dataclass(frozen=True, slots=True)
class PersonFolder:
    """The photos of one person; ``name`` is that of the folder."""

    name: str
    images: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What came of one person: how many photos were taken, and what was left out, in sentences.

    ``problem`` is why the person was not enrolled, and empty where that worked.
    """

    name: str
    taken: int
    left_out: tuple[str, ...]
    problem: str = ""


def people_in(folder: Path) -> list[PersonFolder]:
    """Return the people of ``folder``, sorted by name; folders without photos are people too.

    Raises:
        InvalidInputError: There is no such folder, or no folder in it.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder")
    people = [
        PersonFolder(
            entry.name,
            tuple(file for file in sorted(entry.iterdir()) if is_image_file(file)),
        )
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    if not people:
        raise InvalidInputError(
            f"{folder} holds no folders; put the photos of each person in a folder of that name"
        )
    return people


def enrol_folders(
    recognizer: Recognizer,
    people: Iterable[PersonFolder],
    consent: Consent,
    *,
    extend: bool = False,
    allow_duplicate: bool = False,
) -> Iterator[FolderResult]:
    """Enrol each of ``people`` and yield what came of it; one who fails stops nobody else.

    Raises:
        GalleryError: The gallery itself failed (a full disk, a changed file).
    """
    for person in people:
        yield _enrol_one(
            recognizer, person, consent, extend=extend, allow_duplicate=allow_duplicate
        )


def _enrol_one(
    recognizer: Recognizer,
    person: PersonFolder,
    consent: Consent,
    *,
    extend: bool,
    allow_duplicate: bool,
) -> FolderResult:
    problems = {file: _problem_of(file) for file in person.images}
    unreadable = tuple(text for text in problems.values() if text)
    images = [file for file, text in problems.items() if not text]
    try:
        report = recognizer.enrol(
            person.name,
            images,
            extend=extend,
            allow_duplicate=allow_duplicate,
            consent=consent,
        )
    except EnrolmentError as error:
        return FolderResult(person.name, 0, (*unreadable, *error.reasons), str(error))
    except (SubjectExistsError, InvalidInputError) as error:
        # The name is taken, or cannot be one: nobody else is the worse for it.
        return FolderResult(person.name, 0, unreadable, str(error))
    left_out = tuple(entry.sentence for entry in report.rejected)
    return FolderResult(person.name, len(report.accepted), (*unreadable, *left_out))


def _problem_of(file: Path) -> str:
    try:
        read_image(file)
    except CameraError as error:
        return str(error)
    return ""
