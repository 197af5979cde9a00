"""The charts of the page as inline SVG: histogram, pair scores, error trade-off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeface_export.html_report.axes import (
    FIELD,
    LEFT,
    TOP,
    Axis,
    Chart,
    linear_axis,
    log_axis,
    nice_step,
)
from edgeface_export.html_report.markup import compact, count, fixed, join

__all__ = ["LINE_STYLES", "Mark", "cosine_histogram", "det_chart", "pair_chart"]

_MOST_BINS = 60
# Points that lie on one another shade darker, which one path alone would not do.
_LAYERS = 16
# Room for the marks above the highest bar, as a share of the field.
_HEADROOM = 0.26
_LANE = 46
LINE_STYLES = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """A figure on the axis of a histogram, and the limit it must reach where one is known."""

    label: str
    figure: float
    limit: float | None


def cosine_histogram(cosines: Sequence[float], marks: Sequence[Mark]) -> str:
    """Return how often each cosine occurs, with ``marks`` above the bars.

    ``cosines`` are not empty and in -1..1, up to rounding.
    """
    known = [m.limit for m in marks if m.limit is not None]
    low = max(-1.0, min([*cosines, *known]))
    # One hundredth is the narrowest scale: differences below it are not worth looking at. A little
    # room keeps the lowest limit off the axis.
    low = max(-1.0, min(low, 0.99) - 0.03 * (1 - low))
    x = linear_axis("cosine of INT8 and float embedding", low, 1.0)
    step = nice_step(x.high - x.low, _MOST_BINS)
    bins = [0] * round((x.high - x.low) / step)
    for value in cosines:
        place = math.floor((value - x.low) / step + 1e-6)
        bins[min(max(place, 0), len(bins) - 1)] += 1
    y = _counts("crops", max(bins))
    chart = Chart(
        "cosines",
        "Histogram of the cosine between the INT8 and the float embedding of a crop",
        f"{len(cosines)} crops, from {min(cosines):.4f} to {max(cosines):.4f}. "
        + " ".join(f"{m.label}: {m.figure:.4f}." for m in marks),
        x,
        y,
    )
    bars = [_bar(chart, x.low + k * step, step, n) for k, n in enumerate(bins) if n]
    return chart.draw(*bars, *(_lane(chart, mark, k) for k, mark in enumerate(marks)))


def _counts(label: str, highest: int) -> Axis:
    step = max(1.0, nice_step(highest, 5))
    ticks = tuple(k * step for k in range(math.ceil(highest / step) + 1))
    return Axis(label, 0.0, ticks[-1] / (1 - _HEADROOM), ticks, count)


def _bar(chart: Chart, start: float, step: float, n: int) -> str:
    left, right, top = chart.px(start), chart.px(start + step), chart.py(n)
    return (
        f'<rect class="bar int8" x="{left + 0.5:.1f}" y="{top}" width="{right - left - 1:.1f}" '
        f'height="{TOP + FIELD - top:.1f}"/>'
    )


def _lane(chart: Chart, mark: Mark, k: int) -> str:
    """Return a line from the limit to the figure, with both written above it."""
    y, x = TOP + 30 + k * _LANE, chart.px(mark.figure)
    said, drawn = f"{mark.label} {fixed(mark.figure, 4)}", ""
    if mark.limit is not None:
        at = chart.px(mark.limit)
        said += f", limit {compact(mark.limit, 4)}"
        drawn = f'<path class="span" d="M{at} {y}H{x}"/><path class="limit" d="M{at} {y - 8}v16"/>'
    # Written from the side that has the room.
    right = x > LEFT + FIELD / 2
    place = (LEFT + FIELD, "end") if right else (LEFT + 6, "start")
    return (
        f'{drawn}<circle class="mark" cx="{x}" cy="{y}" r="5.5"/>'
        f'<text class="said" x="{place[0]}" y="{y - 13}" text-anchor="{place[1]}">{said}</text>'
    )


def pair_chart(
    before: Sequence[float],
    after: Sequence[float],
    mated: Sequence[bool],
    largest_change: float | None,
) -> str:
    """Return the INT8 score of each pair over its FP32 score, with the line where both are equal.

    ``mated`` is empty where it is not known. ``largest_change`` is drawn as a band.
    """
    low, high = min(*before, *after), max(*before, *after)
    x, y = (linear_axis(f"score in {kind}", low, high, most_ticks=8) for kind in ("FP32", "INT8"))
    chart = Chart(
        "pairs",
        "Score of each pair of crops in INT8 over its score in FP32",
        f"{len(before)} pairs. Points on the diagonal have the same score in both; the largest "
        f"change is {max(abs(a - b) for a, b in zip(before, after, strict=True)):.3f}.",
        x,
        y,
    )
    spots = [(chart.px(a), chart.py(b)) for a, b in zip(before, after, strict=True)]
    groups = [("non-mated", spots)]
    if mated:
        groups = [
            (kind, [spot for spot, same in zip(spots, mated, strict=True) if same is wanted])
            for kind, wanted in (("non-mated", False), ("mated", True))
        ]
    return chart.draw(
        _band(chart, largest_change) if largest_change else "",
        f'<path class="identity" d="M{LEFT} {TOP + FIELD}L{LEFT + FIELD} {TOP}"/>',
        *(_points(kind, places) for kind, places in groups),
    )


def _band(chart: Chart, change: float) -> str:
    """Return the strip of INT8 scores within ``change`` of FP32, cut at the edges of the field."""
    low, high = chart.x.low, chart.x.high
    change = min(change, high - low)
    corners = [
        (low, low + change),
        (high - change, high),
        (high, high),
        (high, high - change),
        (low + change, low),
        (low, low),
    ]
    path = "L".join(f"{chart.px(a)} {chart.py(b)}" for a, b in corners)
    return f'<path class="band" d="M{path}Z"/>'


def _points(kind: str, places: Sequence[tuple[float, float]]) -> str:
    # A line of no length with round ends is a dot, with square ends a square: two shapes.
    return join(
        f'<path class="dots {kind}" d="{"".join(f"M{x} {y}h0" for x, y in part)}"/>'
        for part in (places[k::_LAYERS] for k in range(_LAYERS))
        if part
    )


def det_chart(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the FNMR over the FMR of each curve by its name, both axes logarithmic.

    A rate of 0 has no place there and is drawn at half of the smallest rate of its curve.
    """
    floors = {name: _floors(curve) for name, curve in curves.items()}
    low = max(min(min(pair) for pair in floors.values()), 1e-7)
    chart = Chart(
        "det",
        "Detection error trade-off: false non-match rate over false match rate",
        f"Curves of {', '.join(curves)}; lower and further left is better.",
        log_axis("false match rate", low),
        log_axis("false non-match rate", low),
    )
    lines = [
        f'<path class="line line{k % LINE_STYLES}" d="{_steps(chart, curve, floors[name])}"/>'
        for k, (name, curve) in enumerate(curves.items())
    ]
    diagonal = f'<path class="identity" d="M{LEFT} {TOP + FIELD}L{LEFT + FIELD} {TOP}"/>'
    return chart.draw(diagonal, *lines)


def _floors(curve: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = (
        min((rates[k] for rates in curve if rates[k] > 0), default=1.0) / 2 for k in (0, 1)
    )
    return first, second


def _steps(chart: Chart, curve: Sequence[tuple[float, float]], floors: tuple[float, float]) -> str:
    """Return ``curve`` as steps, with the corners that fall on one spot drawn once."""
    path, last = "", (math.nan, math.nan)
    for fmr, fnmr in sorted(curve, key=lambda rates: (rates[0], -rates[1])):
        x, y = chart.px(max(fmr, floors[0])), chart.py(max(fnmr, floors[1]))
        if path and (x, y) != last:
            path += (f"H{x}" if x != last[0] else "") + (f"V{y}" if y != last[1] else "")
        elif not path:
            path = f"M{x} {y}"
        last = (x, y)
    return path
