"""Options that several commands share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeface.cli.console import note
from edgeface.cli.gallery_access import gallery_keys
from edgeface.cli.needs import need_cpu
from edgeface.default_model import DEFAULT_MODEL_NOTICE, default_bundle_path
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.pipeline import Recognizer, RecognizerOptions

__all__ = [
    "ArtefactOption",
    "BundleOption",
    "FmrOption",
    "GalleryOption",
    "JsonOption",
    "ThreadsOption",
    "bundle_or_default",
    "open_recognizer",
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DEFAULT_GALLERY = Path("people.db")
DEFAULT_FMR = RecognizerOptions().target_fmr


def bundle_or_default(model: Path | None) -> Path:
    """Return the bundle that was named; else the package's own, and say so on stderr."""
    if model is not None:
        return model
    note(DEFAULT_MODEL_NOTICE)
    return default_bundle_path()


def open_recognizer(
    model: Path | None,
    gallery: Path | None,
    *,
    artefact: str,
    threads: int | None,
    target_fmr: float,
    keys: KeyOptions | None = None,
) -> Recognizer:
    """Return the recogniser and say on stderr what it took; None is the package's own model."""
    need_cpu()
    bundle = bundle_or_default(model)
    options = RecognizerOptions(
        artefact=artefact,
        threads=threads,
        target_fmr=target_fmr,
        gallery_keys=keys or gallery_keys(),
    )
    recognizer = Recognizer.open(bundle, gallery, options=options)
    if isinstance(recognizer.gallery, SqliteGallery):
        for text in recognizer.gallery.notices:
            note(text)
    note(recognizer.description)
    return recognizer
