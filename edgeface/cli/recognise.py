"""``edgeface enrol`` and ``edgeface identify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.camera import open_source
from edgeface.cli.console import note, print_json, print_line
from edgeface.cli.gallery_access import InsecureKeyOption, gallery_keys
from edgeface.cli.gallery_enrol_command import (
    ConsentOption,
    ConsentTextOption,
    KeepCropsOption,
    consent_record,
    print_enrolment,
)
from edgeface.cli.shared_options import (
    DEFAULT_FMR,
    DEFAULT_GALLERY,
    ArtefactOption,
    BundleOption,
    FmrOption,
    FpirOption,
    GalleryOption,
    JsonOption,
    PadOption,
    PadPointOption,
    ThreadsOption,
    open_recognizer,
    pad_options,
)
from edgeface.pad import PadDecision
from edgeface.pipeline import RecognizerOptions
from edgeface.types import Observation, Outcome

__all__ = ["enrol", "identify", "observation_as_dict"]


def enrol(
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    images: Annotated[list[Path], typer.Argument(help="Photos that show this person alone.")],
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    consent: ConsentOption = None,
    consent_text: ConsentTextOption = "",
    keep_crops: KeepCropsOption = False,
    extend: Annotated[bool, typer.Option(help="Add to a person enrolled before.")] = False,
    allow_duplicate: Annotated[
        bool, typer.Option(help="Enrol although the person has another name there.")
    ] = False,
    artefact: ArtefactOption = "auto",
    target_fmr: FmrOption = DEFAULT_FMR,
    insecure_key_file: InsecureKeyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Enrol a person from photos; `edgeface gallery enrol` also takes videos and webcams."""
    agreed = consent_record(consent, consent_text, keep_crops=keep_crops)
    keys = gallery_keys(insecure_key_file=insecure_key_file)
    options = RecognizerOptions(artefact=artefact, target_fmr=target_fmr, gallery_keys=keys)
    with open_recognizer(model, gallery, options) as recognizer:
        report = recognizer.enrol(
            name, images, extend=extend, allow_duplicate=allow_duplicate, consent=agreed
        )
    if agreed is None and not extend:
        note("no consent was recorded; say how it was given: --consent 'paper form 12'")
    print_enrolment(report, as_json=as_json)


def identify(
    images: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    artefact: ArtefactOption = "auto",
    threads: ThreadsOption = None,
    target_fmr: FmrOption = DEFAULT_FMR,
    target_fpir: FpirOption = None,
    pad: PadOption = None,
    pad_operating_point: PadPointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say who is on photos. Exit code 1 when nobody was recognised."""
    recognised = 0
    options = RecognizerOptions(
        artefact=artefact,
        threads=threads,
        target_fmr=target_fmr,
        target_fpir=target_fpir,
        pad=pad_options(pad, pad_operating_point),
    )
    with open_recognizer(model, gallery, options) as recognizer:
        for path in images:
            with open_source(path) as source:
                for frame in source:
                    faces = recognizer.identify(frame)
                    recognised += sum(f.result.outcome is Outcome.KNOWN for f in faces)
                    _print_faces(frame.source, faces, as_json=as_json)
    if not recognised:
        raise typer.Exit(1)


def _print_faces(image: str, faces: list[Observation], *, as_json: bool) -> None:
    if as_json:
        entries = [observation_as_dict(face) for face in faces]
        print_json({"image": image, "faces": entries}, indent=None)
        return
    print_line(f"{image}: {len(faces)} face(s)")
    for face in faces:
        result = face.result
        who = result.subject or result.outcome.value
        score = "" if result.score is None else f"  similarity {result.score:.2f}"
        reasons = ", ".join(reason.value for reason in result.reasons)
        print_line(f"  {who}{score}{'  ' + reasons if reasons else ''}")


def observation_as_dict(face: Observation) -> dict[str, Any]:
    """Return one observed face for JSON; lengths in pixels, angles in degrees."""
    box, result = face.detection.box, face.track_result or face.result
    quality = face.quality.values if face.quality else {}
    return {
        "track": face.track_id,
        "box": [round(v, 1) for v in (box.left_px, box.top_px, box.width_px, box.height_px)],
        "detection_score": round(face.detection.score, 4),
        "outcome": result.outcome.value,
        "subject": result.subject,
        "score": None if result.score is None else round(result.score, 4),
        "frame_outcome": face.result.outcome.value,
        "carried": face.is_carried,
        "frame_score": None if face.result.score is None else round(face.result.score, 4),
        "reasons": [reason.value for reason in face.result.reasons],
        "pad": None if face.pad is None else _pad_as_dict(face.pad),
        "quality": {measure.value: round(value, 4) for measure, value in quality.items()},
    }


def _pad_as_dict(decision: PadDecision) -> dict[str, Any]:
    return {
        "outcome": decision.outcome.value,
        "score": None if decision.score is None else round(decision.score, 4),
        "reasons": [reason.value for reason in decision.reasons],
    }
