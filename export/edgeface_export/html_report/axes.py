"""The frame of a chart: two axes with ticks, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeface_export.html_report.markup import fixed, join, percent, text

__all__ = ["Axis", "Chart", "linear_axis", "log_axis", "nice_step"]

# The unit is about one CSS pixel on a phone; a square field, so that a score axis is as long
# across as it is up.
WIDTH, HEIGHT = 440, 424
LEFT, TOP, FIELD = 58, 12, 360


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from ``low`` to ``high``, with ``ticks`` and how to write one of them."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    written: Callable[[float], str]
    log: bool = False

    def at(self, value: float) -> float:
        """Return where ``value`` lies, 0 at ``low`` and 1 at ``high``, held inside of them."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Chart:
    """A field with the axis ``x`` below and ``y`` on the left.

    ``key`` is unique on the page; ``title`` and ``described`` are what a screen reader says.
    """

    key: str
    title: str
    described: str
    x: Axis
    y: Axis

    def px(self, value: float) -> float:
        """Return the place of ``value`` across, in units of the drawing."""
        return round(LEFT + FIELD * self.x.at(value), 1)

    def py(self, value: float) -> float:
        """Return the place of ``value`` down, in units of the drawing."""
        return round(TOP + FIELD * (1 - self.y.at(value)), 1)

    def draw(self, *marks: str) -> str:
        """Return the chart with ``marks`` inside, each a piece of SVG."""
        key = f"chart-{self.key}"
        return join(
            [
                f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
                f'aria-labelledby="{key}-title {key}-desc">',
                f'<title id="{key}-title">{text(self.title)}</title>',
                f'<desc id="{key}-desc">{text(self.described)}</desc>',
                *(self._across(tick) for tick in self.x.ticks),
                *(self._up(tick) for tick in self.y.ticks),
                *marks,
                f'<path class="axis" d="M{LEFT} {TOP}V{TOP + FIELD}H{LEFT + FIELD}"/>',
                f'<text class="label" x="{LEFT + FIELD / 2:g}" y="{HEIGHT - 8}" '
                f'text-anchor="middle">{text(self.x.label)}</text>',
                f'<text class="label" transform="translate(14 {TOP + FIELD / 2:g}) rotate(-90)" '
                f'text-anchor="middle">{text(self.y.label)}</text>',
                "</svg>",
            ]
        )

    def _across(self, tick: float) -> str:
        x = self.px(tick)
        return (
            f'<path class="grid" d="M{x} {TOP}v{FIELD}"/>'
            f'<text class="tick" x="{x}" y="{TOP + FIELD + 18}" text-anchor="middle">'
            f"{text(self.x.written(tick))}</text>"
        )

    def _up(self, tick: float) -> str:
        y = self.py(tick)
        return (
            f'<path class="grid" d="M{LEFT} {y}h{FIELD}"/>'
            f'<text class="tick" x="{LEFT - 7}" y="{y + 4}" text-anchor="end">'
            f"{text(self.y.written(tick))}</text>"
        )


def nice_step(length: float, most: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that goes ``most`` times into ``length``.

    ``length`` must be positive.
    """
    power = 10.0 ** math.floor(math.log10(length / most))
    return next(power * k for k in (1, 2, 5, 10, 20) if length / (power * k) <= most * (1 + 1e-9))


def linear_axis(label: str, low: float, high: float, *, most_ticks: int = 6) -> Axis:
    """Return a scale from ``low`` to ``high`` or a little beyond, to whole steps."""
    # Values that are all alike still need a scale.
    step = nice_step(max(high - low, 1e-6), most_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(round(k * step, digits) for k in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks, lambda tick: fixed(tick, digits))


def log_axis(label: str, low: float) -> Axis:
    """Return a scale of rates from the power of ten at or below ``low``, in 0..1, up to 1."""
    decades = max(1, math.ceil(-math.log10(low) - 1e-9))
    ticks = tuple(10.0**-k for k in range(decades, -1, -1))
    return Axis(
        label,
        ticks[0],
        1.0,
        ticks,
        lambda tick: percent(tick, max(0, -round(math.log10(tick)) - 2)),
        log=True,
    )
