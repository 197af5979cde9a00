"""Labelled pairs for ``edgeface export``: measured by the same code as ``edgeface verify``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import progress
from edgeface.cli.labelled_pairs import crop_source, read_protocol
from edgeface.cli.needs import need_cpu
from edgeface.errors import GateFailedError, OperatingPointError
from edgeface.types import OperatingPoint

if TYPE_CHECKING:
    from edgeface_calibration.report import ArtefactFigures, VerificationReport
    from edgeface_export.pair_evidence import PairEvaluator, PairEvidence, TarLoss

__all__ = ["pair_evaluator"]

_FP32, _INT8 = "fp32", "int8"
_TAR_TARGETS = (1e-2, 1e-3)
# More points than these look the same on the page.
_MAX_PAIRS = 2000
_STEPS_PER_DECADE = 60
# Guessing has 50 %; accuracy does not show it where nearly all pairs are non-mated.
_GUESSING_EER = 0.4
_LOWEST_RATE = 1e-7


def pair_evaluator(
    pairs: Path | None, images: Path | None, landmarks: Path | None, folds: str | None
) -> PairEvaluator | None:
    """Return what measures a bundle on the pairs named, None where none are.

    The list is read now, so that a mistake in it shows before the work and not after.

    Raises:
        InvalidInputError: The list, or a folder of images, cannot be used.
    """
    if images is None:
        if pairs is not None or landmarks is not None or folds is not None:
            raise typer.BadParameter("labelled pairs need --images, the folder of their images")
        return None
    need_cpu()
    protocol = read_protocol(pairs, images, folds)

    def evaluate(bundle: Bundle) -> PairEvidence:
        from edgeface_calibration.verify import verify_bundle

        with crop_source(landmarks, images, bundle.manifest.alignment_template) as source:
            report = verify_bundle(bundle, protocol, source, progress=_bar)
        _require_better_than_guessing(report)
        return evidence_of(report)

    return evaluate


def evidence_of(report: VerificationReport) -> PairEvidence:
    """Return what ``report`` says, as the export takes it."""
    from edgeface_export.pair_evidence import PairEvidence

    points, notes = _points(report)
    missing, listed = len(report.faces_not_found), len(report.protocol.image_names)
    if missing:
        notes.append(f"{missing} of the {listed} images of the labelled pairs show no face")
    return PairEvidence(
        protocol=report.protocol.name,
        verification={entry.artefact: _figures(report, entry) for entry in report.artefacts},
        losses=_losses(report),
        points=points,
        pair_scores=_pair_scores(report),
        notes=tuple(notes),
    )


def _require_better_than_guessing(report: VerificationReport) -> None:
    for entry in report.artefacts:
        if entry.at_chance or entry.collapsed or entry.eer > _GUESSING_EER:
            raise GateFailedError(
                f"the export failed its gates, nothing was written: on the labelled pairs "
                f"{entry.artefact} has an equal error rate of {entry.eer:.1%} and an effective "
                f"dimension of {entry.effective_dimension:.1f}: it does not tell people apart"
            )


def _points(report: VerificationReport) -> tuple[tuple[OperatingPoint, ...], list[str]]:
    from edgeface_calibration.verify import fit_report

    try:
        return fit_report(report), []
    except OperatingPointError as error:
        return (), [f"no operating point could be fitted to the labelled pairs: {error}"]


def _losses(report: VerificationReport) -> dict[str, tuple[TarLoss, ...]]:
    from edgeface_calibration.bootstrap import tar_losses
    from edgeface_export.pair_evidence import TarLoss

    before = report.scores.get(_FP32)
    if before is None:
        return {}
    return {
        entry.artefact: tuple(
            TarLoss(found.target_fmr, found.loss, found.interval.low, found.interval.high)
            for found in tar_losses(before, report.scores[entry.artefact], _TAR_TARGETS)
        )
        for entry in report.artefacts
        if entry.artefact != _FP32
    }


def _figures(report: VerificationReport, entry: ArtefactFigures) -> dict[str, Any]:
    said = next(e for e in report.to_dict()["artefacts"] if e["artefact"] == entry.artefact)
    wanted = ("accuracy", "accuracy_interval", "tar", "eer", "n_mated", "n_non_mated", "notes")
    return {
        **{key: said[key] for key in wanted},
        "backend": entry.backend,
        "protocol": report.protocol.name,
        "det": _det(report, entry.artefact),
    }


def _det(report: VerificationReport, artefact: str) -> list[list[float]]:
    """Return [FMR, FNMR] with the threshold rising, without points that fall on one spot."""
    from edgeface_calibration.error_rates import error_curves

    scores = report.scores[artefact]
    curves = error_curves(scores.mated, scores.non_mated)
    rates = np.stack([curves.fmr, curves.fnmr], axis=1)
    spots = np.rint(_STEPS_PER_DECADE * np.log10(np.maximum(rates, _LOWEST_RATE)))
    new = np.append(True, (np.diff(spots, axis=0) != 0).any(axis=1))
    # The end of a run is the corner of the step that the next run begins with.
    kept: list[list[float]] = np.round(rates[new | np.append(new[1:], True)], 6).tolist()
    return kept


def _pair_scores(report: VerificationReport) -> dict[str, Any]:
    """Return scores of listed pairs in FP32 and INT8, an even choice of those that have both."""
    from edgeface_calibration.figures import PairTable

    if not {_FP32, _INT8} <= set(report.embeddings):
        return {}
    table = PairTable.of(report.protocol)
    before, after = (table.scores(report.embeddings[name]) for name in (_FP32, _INT8))
    usable = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
    chosen = usable[np.linspace(0, len(usable) - 1, min(_MAX_PAIRS, len(usable))).astype(int)]
    return {
        "before": before[chosen].tolist(),
        "after": after[chosen].tolist(),
        "mated": table.same[chosen].tolist(),
    }


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar
