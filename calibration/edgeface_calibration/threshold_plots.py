"""Curves of a threshold report as SVG: error trade-off, and rates of searches over thresholds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeface_calibration.plots import FNIR_DASHES, LINE_COLOURS, new_figure
from edgeface_calibration.search_points import SearchPoint, ThresholdFigures

__all__ = ["draw_searches", "draw_trade_off"]

_LOWEST = 1e-6


def draw_trade_off(artefacts: Sequence[ThresholdFigures]) -> str:
    """Return the FNMR over the FMR of every artefact as SVG, both on logarithmic axes.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.8)
    panel = figure.subplots()
    floors = []
    for k, figures in enumerate(artefacts):
        floor_fmr, floor_fnmr = 0.5 / figures.n_non_mated, 0.5 / max(1, figures.n_mated)
        floors += [floor_fmr, floor_fnmr]
        panel.plot(
            np.maximum(figures.curves.fpir[1], floor_fmr),
            np.maximum(figures.curves.fnir[1], floor_fnmr),
            color=LINE_COLOURS[k % len(LINE_COLOURS)],
            linestyle="-" if k == 0 else "--",
            label=figures.artefact,
        )
        for point in figures.comparisons:
            if point.fpir and point.fnir:
                panel.plot(
                    [point.fpir], [point.fnir], "o", color=LINE_COLOURS[k % len(LINE_COLOURS)]
                )
    low = max(_LOWEST, min(floors, default=_LOWEST))
    panel.set(xscale="log", yscale="log", xlim=(low, 1.0), ylim=(max(low, 1e-4), 1.0))
    panel.set(xlabel="FMR: share of comparisons of different people that are accepted")
    panel.set(ylabel="FNMR: share of own comparisons refused")
    panel.legend(loc="upper right", fontsize=9)
    panel.grid(alpha=0.25, which="both")
    return _svg(figure)


def draw_searches(figures: ThresholdFigures) -> str:
    """Return FPIR and FNIR of one artefact over the threshold as SVG, a line for each gallery.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.8)
    panel = figure.subplots()
    curves = figures.curves
    for k, size in enumerate(n for n in curves.fpir if n > 1):
        colour = LINE_COLOURS[k % len(LINE_COLOURS)]
        some = curves.fpir[size] > 0
        panel.plot(
            curves.thresholds[some], curves.fpir[size][some], color=colour,
            label=f"FPIR, {size:,} enrolled",
        )  # fmt: skip
        panel.plot(
            curves.thresholds, curves.fnir[size], color=colour, linestyle=FNIR_DASHES,
            label=f"FNIR, {size:,} enrolled",
        )  # fmt: skip
    for point in figures.searches:
        _mark(panel, point)
    panel.set(yscale="log", ylim=(max(1e-5, 0.2 / figures.n_faces), 1.3))
    panel.set(xlabel="threshold on the cosine similarity", ylabel="rate of searches")
    panel.legend(loc="lower left", fontsize=8)
    panel.grid(alpha=0.25, which="both")
    return _svg(figure)


def _mark(panel: Any, point: SearchPoint) -> None:
    """Draw a point with its interval; a hollow one lies beyond the data."""
    if point.threshold is None or not point.fpir or point.fpir_interval is None:
        return
    low, high = point.fpir_interval.low, point.fpir_interval.high
    panel.errorbar(
        [point.threshold],
        [point.fpir],
        yerr=[[point.fpir - max(low, 1e-6)], [high - point.fpir]],
        fmt="o",
        color="black",
        markerfacecolor="white" if point.is_extrapolated else "black",
        capsize=3,
    )
    panel.annotate(
        f"{point.gallery_size:,}", (point.threshold, point.fpir), xytext=(6, 6),
        textcoords="offset points", fontsize=8,
    )  # fmt: skip


def _svg(figure: Any) -> str:
    import matplotlib

    written = io.StringIO()
    # Names of shapes would be random, and the file new each time, without a salt.
    with matplotlib.rc_context({"svg.hashsalt": "edgeface"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
