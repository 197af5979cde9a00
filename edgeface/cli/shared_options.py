"""Options that several commands share, and what they open."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edgeface.cli.console import note
from edgeface.cli.gallery_access import gallery_keys
from edgeface.cli.needs import need_cpu
from edgeface.default_model import DEFAULT_MODEL_NOTICE, default_bundle_path
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.operating_points import expected_fpir
from edgeface.pad import PadOperatingPoint
from edgeface.pipeline import PadOptions, Recognizer, RecognizerOptions
from edgeface.quality import QualityGateOptions

__all__ = [
    "ArtefactOption",
    "BundleOption",
    "FmrOption",
    "FpirOption",
    "GalleryOption",
    "JsonOption",
    "PadOption",
    "PadPointOption",
    "Profile",
    "ProfileOption",
    "ThreadsOption",
    "bundle_or_default",
    "open_recognizer",
    "pad_options",
]

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        envvar="EDGEFACE_MODEL",
        help="Bundle to recognise with. [default: the demonstration model of the package]",
    ),
]
GalleryOption = Annotated[
    Path,
    typer.Option("--gallery", "-g", envvar="EDGEFACE_GALLERY", help="Gallery file of the people."),
]
ArtefactOption = Annotated[str, typer.Option(help="Artefact to run: auto, fp32 or int8.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of the inference engine.")]
FmrOption = Annotated[
    float, typer.Option(help="False match rate of one comparison that is aimed at.")
]


class Profile(str, Enum):
    """The gates that faces of a stream have to pass."""

    WATCH = "watch"
    DOOR = "door"

    @property
    def options(self) -> QualityGateOptions:
        """The limits."""
        return QualityGateOptions.door() if self is Profile.DOOR else QualityGateOptions.watch()


FpirOption = Annotated[
    float | None,
    typer.Option(
        help="Rate of strangers taken for somebody that is aimed at, for as many as are enrolled. "
        "It takes the place of --target-fmr."
    ),
]
ProfileOption = Annotated[
    Profile,
    typer.Option(help="Gates for faces: watch lets all pass that can be compared, door is strict."),
]
PadOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--pad",
        help="Bundle of a PAD model: nobody is named before their face passed. Repeat it to fuse.",
    ),
]
PadPointOption = Annotated[
    Path | None,
    typer.Option(
        "--pad-operating-point",
        help="Operating point of the PAD models [the trainer's rule, unmeasured].",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DEFAULT_GALLERY = Path("people.db")
DEFAULT_FMR = RecognizerOptions().target_fmr
# One stranger in a hundred taken for somebody: from there on the number enrolled is worth a line.
_NOTED_FPIR = 0.01


def bundle_or_default(model: Path | None) -> Path:
    """Return the bundle that was named; else the package's own, and say so on stderr."""
    if model is not None:
        return model
    note(DEFAULT_MODEL_NOTICE)
    return default_bundle_path()


def open_recognizer(
    model: Path | None, gallery: Path | None, options: RecognizerOptions
) -> Recognizer:
    """Return the recogniser and say on stderr what it took; None is the package's own model.

    Where ``options`` say nothing of the gallery's key, it is where commands look for it.
    """
    need_cpu()
    bundle = bundle_or_default(model)
    if options.gallery_keys == KeyOptions():
        options = replace(options, gallery_keys=gallery_keys())
    recognizer = Recognizer.open(bundle, gallery, options=options)
    if isinstance(recognizer.gallery, SqliteGallery):
        for text in recognizer.gallery.notices:
            note(text)
    note(recognizer.description)
    _note_limits(recognizer)
    return recognizer


def _note_limits(recognizer: Recognizer) -> None:
    """Say that the threshold does not hold for so many people, where that matters."""
    limits, point = recognizer.operating_point_limits, recognizer.operating_point
    enrolled = recognizer.gallery.subject_count
    is_small = expected_fpir(point.target_fmr, enrolled) < _NOTED_FPIR
    if limits is not None and not (point.gallery_size is None and is_small):
        note(limits)


def pad_options(bundles: list[Path] | None, point: Path | None) -> PadOptions | None:
    """Return the options of PAD, None where no bundle is named.

    Raises:
        typer.BadParameter: There is an operating point and no bundle.
        OperatingPointError: The file holds no operating point.
    """
    if not bundles:
        if point is not None:
            raise typer.BadParameter("--pad-operating-point belongs to --pad BUNDLE")
        return None
    if point is None:
        note("PAD threshold by the trainer's rule; measured on no camera of yours")
        return PadOptions(bundles=tuple(bundles))
    return PadOptions(bundles=tuple(bundles), operating_point=PadOperatingPoint.read(point))
