"""Small charts as SVG, drawn by the server; colours come from the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Bar", "Span", "bar_chart", "day_chart"]

_BAR_HEIGHT, _AXIS, _LEFT, _TOP = 132, 26, 30, 10
_LEAST_TOP_HOURS = 8.0
_ROW, _DAY_WIDTH, _LABEL = 30, 720, 120


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what stands under it, its length in hours, what a pointer or a reader is told."""

    label: str
    hours: float
    title: str
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A time between two hours, counted on from midnight; those above 24 are of the next day."""

    begin: float
    end: float
    title: str
    is_open: bool = False


def bar_chart(bars: Sequence[Bar], *, title: str, unit: str) -> Markup:
    """Return the chart of hours, one bar each; empty text where there is none."""
    if not bars:
        return Markup("")
    top = _top_of_axis(max(bar.hours for bar in bars))
    step = 24 if len(bars) > 16 else 48
    width, height = _LEFT + step * len(bars) + 6, _TOP + _BAR_HEIGHT + _AXIS
    parts = [_head(width, height, title, "chart-bars")]
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _BAR_HEIGHT * (1 - share)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, width, y, y
            )
        )
        parts.append(
            Markup('<text class="tick" x="{}" y="{:.1f}">{}</text>').format(
                _LEFT - 6, y + 4, f"{top * share:g}{unit if share == 1.0 else ''}"
            )
        )
    for index, bar in enumerate(bars):
        parts.append(_bar(bar, _LEFT + index * step, step, bar.hours / top))
    return Markup("").join([*parts, Markup("</svg>")])


def day_chart(rows: Sequence[tuple[str, Sequence[Span]]], *, title: str, now: float) -> Markup:
    """Return who was there when, a row for each person, from the first hour used to the last.

    ``now`` is the hour that is marked; NaN for none.
    """
    spans = [span for _, row in rows for span in row]
    if not spans:
        return Markup("")
    first = max(0, math.floor(min(span.begin for span in spans)) - 1)
    last = min(49, math.ceil(max(span.end for span in spans)) + 1)
    width, height = _LABEL + _DAY_WIDTH, _ROW * len(rows) + 24

    def x(hour: float) -> float:
        return _LABEL + (_DAY_WIDTH - 8) * (hour - first) / (last - first)

    step = 1 if last - first <= 12 else 2
    parts = [_head(width, height, title, "chart-day")]
    parts.extend(_hour(hour, x(hour), height) for hour in range(first, last + 1, step))
    for index, (label, row) in enumerate(rows):
        y = index * _ROW
        parts.append(Markup('<text class="name" x="0" y="{}">{}</text>').format(y + 19, label))
        parts.extend(_span(span, x(span.begin), x(span.end), y) for span in row)
    if first <= now <= last:
        line = Markup('<line class="now" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>')
        parts.append(line.format(x(now), height - 20))
    return Markup("").join([*parts, Markup("</svg>")])


def _hour(hour: int, x: float, height: int) -> Markup:
    return Markup(
        '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>'
        '<text class="hour" x="{0:.1f}" y="{2}">{3}</text>'
    ).format(x, height - 20, height - 5, hour % 24)


def _bar(bar: Bar, x: int, step: int, share: float) -> Markup:
    length = _BAR_HEIGHT * min(1.0, max(0.0, share))
    kind = "bar marked" if bar.is_marked else "bar"
    return Markup(
        '<g><title>{}</title><rect class="hit" x="{}" y="{}" width="{}" height="{}"/>'
        '<rect class="{}" x="{}" y="{:.1f}" width="{}" height="{:.1f}" rx="3"/>'
        '<text class="label" x="{}" y="{}">{}</text></g>'
    ).format(
        bar.title,
        x,
        _TOP,
        step,
        _BAR_HEIGHT,
        kind,
        x + 3,
        _TOP + _BAR_HEIGHT - length,
        step - 6,
        length,
        x + step / 2,
        _TOP + _BAR_HEIGHT + 17,
        bar.label,
    )


def _span(span: Span, left: float, right: float, y: int) -> Markup:
    kind, width = "span open" if span.is_open else "span", max(3.0, right - left)
    return Markup(
        '<g><title>{}</title><rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="16" rx="4"/>'
        "</g>"
    ).format(span.title, kind, left, y + 6, width)


def _head(width: int, height: int, title: str, kind: str) -> Markup:
    return Markup(
        '<svg class="{}" role="img" viewBox="0 0 {} {}" width="{}" height="{}" '
        'aria-label="{}" xmlns="http://www.w3.org/2000/svg">'
    ).format(kind, width, height, width, height, escape(title))


def _top_of_axis(most: float) -> float:
    """Return an even number of hours that ``most`` fits under."""
    return max(_LEAST_TOP_HOURS, 2.0 * math.ceil(most / 2.0)) if math.isfinite(most) else 24.0
