"""Measures every artefact of a bundle on labelled pairs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

import numpy as np

from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface.embedding import FaceEmbedder
from edgeface.types import FloatArray, ImageArray, OperatingPoint
from edgeface_calibration.crops import CropSource
from edgeface_calibration.figures import PairTable, artefact_figures
from edgeface_calibration.operating_point import (
    DEFAULT_TARGETS,
    NonMatedTail,
    cross_subject_scores,
    fit_operating_points,
)
from edgeface_calibration.pairs import PairProtocol
from edgeface_calibration.progress import Progress, silent
from edgeface_calibration.report import VerificationReport

__all__ = ["REFERENCE_ARTEFACT", "fit_report", "verify_bundle"]

REFERENCE_ARTEFACT = "fp32"
# Crops in memory at once: 5 MB at 112x112.
_BATCH = 128


def verify_bundle(
    bundle: Bundle,
    protocol: PairProtocol,
    crop_source: CropSource,
    *,
    artefacts: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> VerificationReport:
    """Return the figures of ``artefacts`` of ``bundle`` (None: all) on the pairs of ``protocol``.

    An image is cropped once and given to every artefact. Pairs with a face that was not found, or
    whose embedding is unusable, are left out of the figures, and counted as errors in
    ``accuracy_counting_missing``. ``fp32``, where the bundle has it, is what others are compared
    with, and is run for that even when it is not asked for.

    Raises:
        InvalidInputError: Too few faces were found to leave mated and non-mated pairs in two
            folds.
        CameraError: An image cannot be read.
        GateFailedError: An artefact gives no usable embeddings.
        BundleFormatError: The bundle has no such artefact.
        BackendError: An artefact cannot be loaded or run.
    """
    available = [entry.name for entry in bundle.manifest.artefacts]
    names = list(dict.fromkeys(artefacts or available))
    compared = [REFERENCE_ARTEFACT] if REFERENCE_ARTEFACT in available else []
    with ExitStack() as stack:
        embedders: dict[str, FaceEmbedder] = {}
        for name in dict.fromkeys([*names, *compared]):
            backend = stack.enter_context(
                closing(open_backend(bundle, artefact=name, threads=threads))
            )
            embedders[name] = FaceEmbedder(backend, bundle.manifest)
        rows, missing = _embed(embedders, protocol, crop_source, progress)
    table = PairTable.of(protocol)
    differing = [name for name in names if compared and name != REFERENCE_ARTEFACT]
    return VerificationReport(
        bundle=bundle.manifest.name,
        model_id=bundle.manifest.model_id,
        protocol=protocol,
        faces_not_found=tuple(missing),
        artefacts=tuple(
            artefact_figures(
                table,
                rows[name],
                artefact=name,
                backend=embedders[name].backend.name,
                n_missing=len(missing),
                reference=rows[REFERENCE_ARTEFACT] if name in differing else None,
            )
            for name in names
        ),
        scores={name: table.labelled(table.scores(rows[name])) for name in names},
        embeddings={name: rows[name] for name in names},
    )


def fit_report(
    report: VerificationReport, targets: Sequence[float] = DEFAULT_TARGETS
) -> tuple[OperatingPoint, ...]:
    """Return operating points for every artefact of ``report``, for the targets it can resolve.

    Where the protocol names subjects, every two images of different subjects are compared, not
    the listed non-mated pairs alone; the FNMR is that of the listed mated pairs.

    Raises:
        OperatingPointError: There are too few comparisons, or no threshold keeps a target.
    """
    points: list[OperatingPoint] = []
    for figures in report.artefacts:
        tail, described = _non_mated(report, figures.artefact, max(targets))
        mated = report.scores[figures.artefact].mated
        points += fit_operating_points(mated, tail, figures.artefact, described, targets)
    return tuple(points)


def _non_mated(
    report: VerificationReport, artefact: str, largest_target: float
) -> tuple[NonMatedTail, str]:
    """Return the non-mated scores to fit with, and what was compared in words."""
    protocol = report.protocol
    if protocol.subjects is None:
        return NonMatedTail.of(report.scores[artefact].non_mated), protocol.name
    rows = report.embeddings[artefact]
    usable = np.flatnonzero(np.isfinite(rows[:, 0]))
    subjects = [protocol.subjects[protocol.image_names[k]] for k in usable]
    tail = cross_subject_scores(rows[usable], subjects, largest_target=largest_target)
    return tail, f"{protocol.name}; every two of {len(usable):,} images of different people"


def _embed(
    embedders: dict[str, FaceEmbedder],
    protocol: PairProtocol,
    crop_source: CropSource,
    progress: Progress,
) -> tuple[dict[str, FloatArray], list[str]]:
    """Return a row for each image by artefact, NaN where there is none, and the faceless images."""
    names = protocol.image_names
    size = next(iter(embedders.values())).manifest.embedding_size
    rows = {name: np.full((len(names), size), np.nan, np.float32) for name in embedders}
    missing: list[str] = []
    waiting: dict[int, ImageArray] = {}

    def flush() -> None:
        for name, embedder in embedders.items():
            rows[name][list(waiting)] = embedder.embed_arrays(waiting.values())
        waiting.clear()

    for k, image in enumerate(progress("embedding", names)):
        face = crop_source.crop(protocol.images / image)
        if face is None:
            missing.append(image)
            continue
        waiting[k] = face.pixels
        if len(waiting) == _BATCH:
            flush()
    flush()
    return rows, missing
