"""What a recogniser is opened with, and the parts that are opened for it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgeface.bundle import Bundle, Manifest
from edgeface.camera import FrameSource, SourceOptions, open_source, read_image, to_rgb
from edgeface.decision import DecisionOptions
from edgeface.detection.base import LandmarkFinder
from edgeface.gallery import Gallery, InMemoryGallery, KeyOptions, SqliteGallery
from edgeface.gallery.search import SearchOptions
from edgeface.operating_points import chosen_for_gallery
from edgeface.pipeline.pad_gate import PadGate, PadOptions
from edgeface.pipeline.stream import StreamOptions
from edgeface.quality import QualityGateOptions
from edgeface.signatures import PublicKey
from edgeface.types import Frame, ImageArray, OperatingPoint

__all__ = [
    "Image",
    "RecognizerOptions",
    "Source",
    "as_frame",
    "as_source",
    "open_gallery",
    "open_pad",
    "operating_point_for",
]

Image: TypeAlias = "str | os.PathLike[str] | ImageArray | Frame"
"""A picture: a file, an (height, width, 3) uint8 RGB array, or a frame."""

Source: TypeAlias = "int | str | os.PathLike[str] | FrameSource"
"""A webcam number, an address, a video file, a picture, a folder, or an opened source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerOptions:
    """How to recognise.

    ``backend`` and ``artefact`` are names or ``auto``; ``threads`` bounds the engine's threads.
    ``target_fmr`` picks the operating point: 1e-4, one false match in 10,000 comparisons, is the
    most that NIST SP 800-63B-4 allows. With ``target_fpir`` the operating point is instead one that
    keeps that rate of strangers taken for somebody with as many people as are enrolled, and changes
    as more are. ``watch_quality`` gates faces of streams and probes,
    ``enrol_quality`` those of references. ``stream`` says how often a stream is searched and its
    faces compared; ``StreamOptions.every_frame()`` spares nothing. ``gallery_keys`` says where the
    key of a gallery file may be kept, and ``search`` how it is searched: None is exact, in a form
    that suits its size. With ``pad`` nobody is named whose face has not passed
    presentation attack detection. With ``trusted_keys`` the bundle, and those for PAD, must be
    signed by one of them: see :mod:`edgeface.signatures`.
    """

    backend: str = "auto"
    artefact: str = "auto"
    threads: int | None = None
    target_fmr: float = 1e-4
    target_fpir: float | None = None
    max_faces: int = 20
    watch_quality: QualityGateOptions = field(default_factory=QualityGateOptions.watch)
    enrol_quality: QualityGateOptions = field(default_factory=QualityGateOptions.enrolment)
    decision: DecisionOptions = field(default_factory=DecisionOptions)
    camera: SourceOptions = field(default_factory=SourceOptions)
    stream: StreamOptions = field(default_factory=StreamOptions)
    gallery_keys: KeyOptions = field(default_factory=KeyOptions)
    search: SearchOptions | None = None
    pad: PadOptions | None = None
    trusted_keys: tuple[PublicKey, ...] | None = None


def open_gallery(
    path: str | os.PathLike[str] | None,
    manifest: Manifest,
    keys: KeyOptions,
    search: SearchOptions | None = None,
) -> Gallery:
    """Return the gallery file at ``path``, made when it does not exist; None is one in memory."""
    model_id, size = manifest.model_id, manifest.embedding_size
    if path is None:
        return InMemoryGallery(model_id=model_id, embedding_size=size)
    return SqliteGallery.open(
        Path(path), model_id=model_id, embedding_size=size, keys=keys, search=search
    )


def operating_point_for(
    bundle: Bundle, artefact: str, gallery: Gallery, options: RecognizerOptions
) -> OperatingPoint:
    """Return the operating point that ``options`` ask for, for the people in ``gallery``."""
    if options.target_fpir is None:
        return bundle.operating_point(artefact, target_fmr=options.target_fmr)
    points, size = bundle.manifest.operating_points, gallery.subject_count
    return chosen_for_gallery(points, artefact, target_fpir=options.target_fpir, gallery_size=size)


def open_pad(options: RecognizerOptions, landmark_finder: LandmarkFinder) -> PadGate | None:
    """Return the gate of presentation attack detection where it is asked for."""
    if options.pad is None:
        return None
    return PadGate.open(
        options.pad,
        landmark_finder,
        threads=options.threads,
        trusted_keys=options.trusted_keys,
    )


def as_frame(image: Image) -> Frame:
    """Return ``image`` as a frame."""
    if isinstance(image, Frame):
        return image
    if isinstance(image, np.ndarray):
        return Frame(to_rgb(image))
    return read_image(image)


def as_source(source: Source, options: SourceOptions) -> FrameSource:
    """Return ``source`` opened."""
    if isinstance(source, int | str | os.PathLike):
        return open_source(source, options=options)
    return source
