"""Pictures of a verification: score histograms and detection error trade-off curves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import OperatingPoint
from edgeface_calibration.error_rates import error_curves
from edgeface_calibration.report import ArtefactFigures, VerificationReport

__all__ = ["FNIR_DASHES", "LINE_COLOURS", "new_figure", "save_det_curve", "save_score_histogram"]

# Okabe and Ito's palette, which stays apart for colour-blind readers.
_MATED, _NON_MATED = "#0072B2", "#E69F00"
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")
FNIR_DASHES = (0, (2, 2))
_BINS = np.linspace(-0.5, 1.0, 76)
_DPI = 120


def save_score_histogram(
    report: VerificationReport,
    path: str | os.PathLike[str],
    points: Sequence[OperatingPoint] = (),
) -> None:
    """Write a PNG with the scores of mated and non-mated pairs, one panel for each artefact.

    Thresholds are drawn from ``points``, or, without any, where the TAR figures were read.

    Raises:
        InvalidInputError: The file cannot be written.
        MissingDependencyError: Matplotlib is not installed.
    """
    n_panels = len(report.artefacts)
    figure = new_figure(5.6 * n_panels, 4.2)
    panels = figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]
    for panel, figures in zip(panels, report.artefacts, strict=True):
        scores = report.scores[figures.artefact]
        groups = (("mated", scores.mated, _MATED), ("non-mated", scores.non_mated, _NON_MATED))
        for label, values, colour in groups:
            panel.hist(
                np.clip(values, _BINS[0], _BINS[-1]),
                bins=_BINS,
                weights=np.full(len(values), 100 / len(values)),
                color=colour,
                alpha=0.65,
                label=f"{label}: {len(values):,}, mean {values.mean():.3f}",
            )
        _draw_thresholds(panel, figures, points)
        panel.set_title(
            f"{figures.artefact}: accuracy {figures.accuracy:.2%}, EER {figures.eer:.2%}"
        )
        panel.set_xlabel("cosine similarity")
        # Room above the bars, so that the legend covers none of them.
        panel.margins(y=0.45)
        panel.legend(loc="upper left", fontsize=8, ncols=2, framealpha=1)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("pairs of the kind, %")
    figure.suptitle(f"Scores of {report.bundle} on {report.protocol.name}")
    _save(figure, path)


def save_det_curve(report: VerificationReport, path: str | os.PathLike[str]) -> None:
    """Write a PNG with the FNMR over the FMR of every artefact, both on logarithmic axes.

    Raises:
        InvalidInputError: The file cannot be written.
        MissingDependencyError: Matplotlib is not installed.
    """
    figure = new_figure(6.4, 5.2)
    panel = figure.subplots()
    floors = []
    for k, figures in enumerate(report.artefacts):
        scores = report.scores[figures.artefact]
        curves = error_curves(scores.mated, scores.non_mated)
        # A rate of 0 has no place on a logarithmic axis: it is drawn at half an error.
        floors += [0.5 / len(scores.mated), 0.5 / len(scores.non_mated)]
        panel.step(
            np.maximum(curves.fmr, floors[-1]),
            np.maximum(curves.fnmr, floors[-2]),
            where="post",
            color=LINE_COLOURS[k % len(LINE_COLOURS)],
            linestyle="-" if k == 0 else "--",
            label=f"{figures.artefact}: EER {figures.eer:.2%}, AUC {figures.auc:.5f}",
        )
    limits = (min(floors), 1.0)
    panel.plot(limits, limits, color="grey", linewidth=0.8, linestyle=":", label="FMR = FNMR")
    panel.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    panel.set(xlabel="false match rate", ylabel="false non-match rate")
    panel.set_title(f"Error trade-off of {report.bundle}\n{report.protocol.name}", fontsize=11)
    panel.legend(loc="upper right", fontsize=8)
    panel.grid(alpha=0.25, which="both")
    _save(figure, path)


def _draw_thresholds(
    panel: Any, figures: ArtefactFigures, points: Sequence[OperatingPoint]
) -> None:
    fitted = [(p.target_fmr, p.threshold) for p in points if p.artefact == figures.artefact]
    read = [(t.target_fmr, t.threshold) for t in figures.tar if t.threshold is not None]
    for k, (target_fmr, threshold) in enumerate(fitted or read):
        panel.axvline(
            threshold,
            color="black",
            linewidth=1.1,
            linestyle=_DASHES[k % len(_DASHES)],
            label=f"threshold at FMR {target_fmr:g}: {threshold:.3f}",
        )


def new_figure(width_in: float, height_in: float) -> Any:
    """Return an empty matplotlib figure of that size, without a window.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingDependencyError("matplotlib", extra="report") from exc
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    try:
        figure.savefig(Path(path), dpi=_DPI, format="png")
    except OSError as exc:
        raise InvalidInputError(f"the picture {path} cannot be written: {exc}") from exc
