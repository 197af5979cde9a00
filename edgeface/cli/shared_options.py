"""Options that several commands share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeface.cli.console import note
from edgeface.cli.needs import need_cpu
from edgeface.pipeline import Recognizer, RecognizerOptions

__all__ = [
    "ArtefactOption",
    "BundleOption",
    "FmrOption",
    "GalleryOption",
    "JsonOption",
    "ThreadsOption",
    "open_recognizer",
]

BundleOption = Annotated[
    Path, typer.Option("--model", "-m", envvar="EDGEFACE_MODEL", help="Bundle to recognise with.")
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


def open_recognizer(
    bundle: Path, gallery: Path | None, *, artefact: str, threads: int | None, target_fmr: float
) -> Recognizer:
    """Return the recogniser and say on stderr what it took."""
    need_cpu()
    options = RecognizerOptions(artefact=artefact, threads=threads, target_fmr=target_fmr)
    recognizer = Recognizer.open(bundle, gallery, options=options)
    note(recognizer.description)
    return recognizer
