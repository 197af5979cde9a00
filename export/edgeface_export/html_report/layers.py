"""Which layers are sensitive to INT8, and the attempts that were made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeface_export.html_report.markup import (
    count,
    definitions,
    fixed,
    join,
    name,
    percent,
    text,
)
from edgeface_export.html_report.reading import finite, mapping, rows
from edgeface_export.html_report.schema import LadderStep, LayerSensitivity
from edgeface_export.html_report.tables import Column, bar, details, span_bar, state, table

__all__ = ["ladder_section", "sensitivity_section"]

_SHOWN = 10
_FEWEST_FOR_STRIP = 12
_STRIP_HEIGHT = 72


def sensitivity_section(report: Mapping[str, Any]) -> str:
    """Return the layers by their error, the worst first, empty where it was not measured."""
    layers = [
        entry
        for entry in rows(report, "sensitivity", LayerSensitivity)
        if finite(entry["error"]) is not None
    ]
    if not layers:
        return ""
    ranked = sorted(layers, key=lambda entry: -entry["error"])
    highest = max(ranked[0]["error"], 1e-12)
    total = _total(report, layers)
    rest = ranked[_SHOWN:]
    return join(
        [
            '<section class="block" aria-labelledby="layers">',
            '<h3 id="layers">Which layers are sensitive?</h3>',
            f"<p>{_answer(ranked)}</p>",
            _strip(layers, highest),
            _layers("The most sensitive layers", ranked[:_SHOWN], highest, total),
            details(
                f"{count(len(rest))} more layers",
                _layers("All other layers", rest, highest, total) if rest else "",
            ),
            details("Why layers stay in float", _kept(report)),
            "</section>",
        ]
    )


def _total(report: Mapping[str, Any], layers: Sequence[LayerSensitivity]) -> float:
    listed = sum(finite(entry["multiply_adds"]) or 0.0 for entry in layers)
    stated = finite(mapping(report, "figures").get("multiply_adds")) or 0.0
    return max(listed, stated) or 1.0


def _answer(ranked: Sequence[LayerSensitivity]) -> str:
    total = sum(max(entry["error"], 0.0) for entry in ranked)
    worst = ranked[:3]
    said = "Error is the mean of 1\u202f\u2212\u202fcosine to float when one layer alone is INT8."
    if len(ranked) > len(worst) and total > 0:
        share = sum(max(entry["error"], 0.0) for entry in worst) / total
        said += (
            f" The worst {len(worst)} of {len(ranked)} layers make {percent(share, 0)} of the sum."
        )
    kept = sum(entry["kept_float"] is True for entry in ranked)
    return said + (
        f" {count(kept)} {'stays' if kept == 1 else 'stay'} in float."
        if kept
        else " All of them run in INT8."
    )


def _strip(layers: Sequence[LayerSensitivity], highest: float) -> str:
    """Return the errors along the network as upright bars; the tables hold the same figures."""
    if len(layers) < _FEWEST_FOR_STRIP:
        return ""
    bars = []
    for k, entry in enumerate(layers):
        height = max(1.0, _STRIP_HEIGHT * entry["error"] / highest)
        bars.append(
            f'<rect class="bar {_kind(entry)}" x="{k + 0.12:.2f}" y="{_STRIP_HEIGHT - height:.1f}" '
            f'width="0.76" height="{height:.1f}"/>'
        )
    return join(
        [
            '<div class="strip">',
            f'<svg viewBox="0 0 {len(layers)} {_STRIP_HEIGHT}" preserveAspectRatio="none" '
            f'aria-hidden="true">{"".join(bars)}</svg>',
            f"<p><span>first layer</span>{_strip_key(layers)}<span>last layer</span></p>",
            "</div>",
        ]
    )


def _strip_key(layers: Sequence[LayerSensitivity]) -> str:
    kept = any(entry["kept_float"] is True for entry in layers)
    return "<span>outlined: stays in float</span>" if kept else ""


def _kind(entry: LayerSensitivity) -> str:
    return "kept" if entry["kept_float"] is True else "int8"


def _layers(caption: str, layers: Sequence[LayerSensitivity], highest: float, total: float) -> str:
    # Two digits of the largest, and as many decimals for all of them.
    digits = 1 - math.floor(math.log10(highest))
    columns = [
        Column("Layer", "code"),
        Column("Error", "drawn"),
        Column("1 \u2212 cosine", "number"),
        Column("Multiply-adds", "number"),
        Column("Runs in"),
    ]
    lines = [
        (
            name(str(entry["layer"])),
            bar(entry["error"] / highest, _kind(entry)),
            fixed(entry["error"], digits),
            percent((finite(entry["multiply_adds"]) or 0.0) / total),
            "<strong>float</strong>" if entry["kept_float"] is True else "INT8",
        )
        for entry in layers
    ]
    return table(caption, columns, lines)


def _kept(report: Mapping[str, Any]) -> str:
    reasons = mapping(mapping(report, "quantised"), "kept_float")
    return definitions({name(key): text(str(reason)) for key, reason in reasons.items()})


def ladder_section(report: Mapping[str, Any]) -> str:
    """Return the attempts in their order, empty where none is reported."""
    steps = [
        (entry, mean, worst)
        for entry in rows(report, "ladder", LadderStep)
        if (mean := finite(entry["cosine_mean"])) is not None
        and (worst := finite(entry["cosine_p1"])) is not None
    ]
    if not steps:
        return ""
    limits = [
        limit
        for key in ("min_cosine_mean", "min_cosine_p1")
        if (limit := finite(mapping(report, "limits").get(key))) is not None
    ]
    low = min([worst for _, _, worst in steps] + limits)
    low -= (1 - low) * 0.08 + 1e-9

    def place(cosine: float) -> float:
        return (cosine - low) / (1 - low)

    columns = [
        Column("Step"),
        Column("Worst hundredth to mean", "drawn"),
        Column("Worst hundredth", "number"),
        Column("Mean", "number"),
    ]
    told = any("passed" in entry for entry, _, _ in steps)
    lines = [
        (
            text(str(entry["step"])) + _failed(entry),
            span_bar(place(worst), place(mean), [place(limit) for limit in limits]),
            fixed(worst, 4),
            fixed(mean, 4),
            *((_good(entry),) if told else ()),
        )
        for entry, mean, worst in steps
    ]
    drawn = table("Cosine to float after each step", columns + [Column("Outcome")] * told, lines)
    return join(
        [
            '<section aria-labelledby="tried">',
            '<h2 id="tried">What was tried</h2>',
            drawn,
            "</section>",
        ]
    )


def _failed(entry: LadderStep) -> str:
    said = "; ".join(str(sentence) for sentence in entry.get("failed", ()))
    return f"<small>{text(said)}</small>" if said else ""


def _good(entry: LadderStep) -> str:
    return state(entry["passed"], ("enough", "not enough")) if "passed" in entry else ""
