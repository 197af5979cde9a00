"""``edgeface gallery enrol`` and ``enrol-folder``: with consent, from photos, videos, cameras."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.camera import open_source
from edgeface.cli.console import note, print_json, print_line, progress
from edgeface.cli.gallery_access import InsecureKeyOption, PassphraseFileOption, gallery_keys
from edgeface.cli.shared_options import (
    DEFAULT_FMR,
    DEFAULT_GALLERY,
    ArtefactOption,
    BundleOption,
    FmrOption,
    GalleryOption,
    JsonOption,
    open_recognizer,
)
from edgeface.errors import InvalidInputError
from edgeface.gallery import Consent
from edgeface.pipeline import EnrolmentReport, Recognizer, RecognizerOptions
from edgeface.pipeline.coach import Coaching, EnrolmentCoach, collect_references
from edgeface.pipeline.people_folder import FolderResult, enrol_folders, people_in
from edgeface.types import Frame

__all__ = [
    "ConsentOption",
    "ConsentTextOption",
    "KeepCropsOption",
    "consent_record",
    "enrol_folder",
    "enrol_person",
    "print_enrolment",
]

ConsentOption = Annotated[
    str | None,
    typer.Option("--consent", help="How the person agreed, such as 'paper form 12'."),
]
ConsentTextOption = Annotated[
    str, typer.Option("--consent-text", help="Version of the text that was agreed to.")
]
KeepCropsOption = Annotated[
    bool,
    typer.Option(
        "--keep-crops",
        help="The person agreed that the enrolled faces are kept, encrypted, for later models.",
    ),
]
ExtendOption = Annotated[bool, typer.Option(help="Add to a person enrolled before.")]
DuplicateOption = Annotated[
    bool, typer.Option(help="Enrol although the person has another name there.")
]
_DEFAULT_MOST_FRAMES = 1500


def enrol_person(
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    sources: Annotated[
        list[str],
        typer.Argument(help="Photos, folders of photos, a video, or the number of a webcam."),
    ],
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    consent: ConsentOption = None,
    consent_text: ConsentTextOption = "",
    keep_crops: KeepCropsOption = False,
    extend: ExtendOption = False,
    allow_duplicate: DuplicateOption = False,
    most_frames: Annotated[
        int, typer.Option(min=1, help="Look at no more frames of a video or webcam than this.")
    ] = _DEFAULT_MOST_FRAMES,
    artefact: ArtefactOption = "auto",
    target_fmr: FmrOption = DEFAULT_FMR,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol a person; from a video or a webcam, with advice on what to do next."""
    agreed = _consent(consent, consent_text, name, keep_crops=keep_crops)
    keys = gallery_keys(insecure_key_file=insecure_key_file, passphrase_file=passphrase_file)
    options = RecognizerOptions(artefact=artefact, target_fmr=target_fmr, gallery_keys=keys)
    with open_recognizer(model, gallery, options) as recognizer:
        images = _images(sources, recognizer, most_frames)
        report = recognizer.enrol(
            name, images, extend=extend, allow_duplicate=allow_duplicate, consent=agreed
        )
    print_enrolment(report, as_json=as_json)


def enrol_folder(
    folder: Annotated[Path, typer.Argument(help="Folder with a folder of photos for each person.")],
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    consent: ConsentOption = None,
    consent_text: ConsentTextOption = "",
    keep_crops: KeepCropsOption = False,
    extend: ExtendOption = False,
    allow_duplicate: DuplicateOption = False,
    artefact: ArtefactOption = "auto",
    target_fmr: FmrOption = DEFAULT_FMR,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol everybody of a folder, and report who was not. Exit code 1 if somebody was not."""
    people = people_in(folder)
    agreed = _consent(consent, consent_text, f"{len(people)} people", keep_crops=keep_crops)
    keys = gallery_keys(insecure_key_file=insecure_key_file, passphrase_file=passphrase_file)
    options = RecognizerOptions(artefact=artefact, target_fmr=target_fmr, gallery_keys=keys)
    results = []
    with (
        open_recognizer(model, gallery, options) as recognizer,
        progress("enrolling", people, total=len(people)) as bar,
    ):
        for result in enrol_folders(
            recognizer, bar, agreed, extend=extend, allow_duplicate=allow_duplicate
        ):
            results.append(result)  # noqa: PERF402 - a bar moves while they come
    _print_results(results, as_json=as_json)
    if any(result.problem for result in results):
        raise typer.Exit(1)


def _consent(how: str | None, text_version: str, who: str, *, keep_crops: bool) -> Consent:
    if how is None and sys.stdin.isatty():
        how = typer.prompt(f"How did {who} agree to be enrolled (such as: paper form 12)", err=True)
    if how is None:
        raise InvalidInputError(
            "enrolment needs a record of consent; say how it was given: --consent 'paper form 12'"
        )
    return _made(how, text_version, keep_crops=keep_crops)


def consent_record(how: str | None, text_version: str, *, keep_crops: bool) -> Consent | None:
    """Return the record of consent, or None where nothing was said about it.

    Raises:
        InvalidInputError: Something was said about a consent that was not given.
    """
    if how is not None:
        return _made(how, text_version, keep_crops=keep_crops)
    if text_version or keep_crops:
        raise InvalidInputError(
            "--consent-text and --keep-crops belong to a consent; say how it was given: --consent "
            "'paper form 12'"
        )
    return None


def _made(how: str, text_version: str, *, keep_crops: bool) -> Consent:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Consent(how, now, text_version, _user(), keep_crops)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        return ""


def _images(sources: list[str], recognizer: Recognizer, most_frames: int) -> list[Frame]:
    frames: list[Frame] = []
    for text in sources:
        with open_source(text) as source:
            if source.fps is None and not source.is_live:
                frames += list(source)
            else:
                coach = EnrolmentCoach(recognizer.identify)
                frames += collect_references(source, coach, _Sayer(), most=most_frames)
    return frames


class _Sayer:
    """Says an advice when it has held for some frames, and not again until another one came."""

    # A fifth of a second at 25 frames a second: nobody can follow quicker changes.
    _FRAMES = 5

    def __init__(self) -> None:
        self._said = ""
        self._now = ""
        self._frames = 0

    def __call__(self, coaching: Coaching) -> None:
        self._frames = self._frames + 1 if coaching.advice == self._now else 1
        self._now = coaching.advice
        ready = self._frames >= self._FRAMES or coaching.is_done
        if ready and self._now != self._said:
            note(f"[{coaching.settled}/{coaching.wanted}] {self._now}")
            self._said = self._now


def print_enrolment(report: EnrolmentReport, *, as_json: bool) -> None:
    """Say what was taken of one person, and what was left out."""
    if as_json:
        print_json(
            {
                "subject": report.subject,
                "accepted": list(report.accepted),
                "rejected": [
                    {"image": r.image, "reasons": [x.value for x in r.reasons]}
                    for r in report.rejected
                ],
            }
        )
        return
    print_line(f"enrolled {report.subject} from {len(report.accepted)} picture(s)")
    for rejected in report.rejected:
        note(f"left out: {rejected.sentence}")


def _print_results(results: list[FolderResult], *, as_json: bool) -> None:
    done = [result for result in results if not result.problem]
    if as_json:
        value: dict[str, Any] = {
            "enrolled": {result.name: result.taken for result in done},
            "not_enrolled": {r.name: r.problem for r in results if r.problem},
            "left_out": {r.name: list(r.left_out) for r in results if r.left_out},
            "failure_to_enrol": 1 - len(done) / len(results) if results else 0.0,
        }
        print_json(value)
        return
    print_line(
        f"enrolled {len(done)} of {len(results)} people from "
        f"{sum(result.taken for result in done)} photos"
    )
    for result in results:
        if result.problem:
            print_line(f"not enrolled: {result.name}: {result.problem}")
        for sentence in result.left_out:
            note(f"left out: {sentence}")
