"""Speed of the artefacts on their engines, as ratios to plain FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeface_export.html_report.markup import compact, join, name, text, times
from edgeface_export.html_report.reading import finite, rows, string
from edgeface_export.html_report.schema import Speed
from edgeface_export.html_report.tables import Column, bar, table

__all__ = ["Ratio", "fastest", "speed_section"]

_PLAIN = "fp32"
_NUMBERS = {1: "one"}


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster than plain FP32 an artefact is on an engine; ``ms`` for a batch."""

    artefact: str
    engine: str
    ms: float
    ratio: float
    plain: bool


def fastest(report: Mapping[str, Any]) -> Ratio | None:
    """Return the fastest that is not plain FP32 with one thread and one crop, where measured."""
    timed = [entry for entry in _groups(report).get((1, 1), ()) if not entry.plain]
    return max(timed, key=lambda entry: entry.ratio, default=None)


def speed_section(report: Mapping[str, Any]) -> str:
    """Return a table with bars for each number of threads and batch size, empty where none."""
    groups = _groups(report)
    if not groups:
        return ""
    conditions = text(string(report, "speed_conditions"))
    return join(
        [
            '<section class="block" aria-labelledby="speed">',
            '<h3 id="speed">How fast is it?</h3>',
            f"<p>{_answer(groups)} {conditions}</p>",
            '<div class="pair">',
            *(_group(key, entries) for key, entries in groups.items()),
            "</div>",
            "</section>",
        ]
    )


def _groups(report: Mapping[str, Any]) -> dict[tuple[int, int], list[Ratio]]:
    """Return the ratios by threads and batch; a group without plain FP32 has none."""
    found: dict[tuple[int, int], list[Speed]] = {}
    for entry in rows(report, "speed", Speed):
        ms, threads, batch = (finite(entry[key]) for key in ("ms", "threads", "batch"))
        if ms is not None and ms > 0 and threads is not None and batch is not None:
            found.setdefault((int(threads), int(batch)), []).append(entry)
    ratios = {key: _ratios(entries) for key, entries in found.items()}
    return {key: entries for key, entries in ratios.items() if entries}


def _ratios(entries: Sequence[Speed]) -> list[Ratio]:
    plain = next((entry for entry in entries if entry["artefact"] == _PLAIN), None)
    if plain is None:
        return []
    measured = [
        Ratio(
            str(entry["artefact"]),
            str(entry["engine"]),
            float(entry["ms"]),
            float(plain["ms"]) / float(entry["ms"]),
            entry is plain,
        )
        for entry in entries
    ]
    return sorted(measured, key=lambda entry: -entry.ratio)


def _answer(groups: Mapping[tuple[int, int], Sequence[Ratio]]) -> str:
    key, entries = next(iter(groups.items()))
    best = entries[0]
    if best.plain:
        return f"With {_conditions(key)}, nothing is faster than plain FP32."
    return (
        f"With {_conditions(key)}, {name(best.artefact)} on {name(best.engine)} is the fastest: "
        f"<strong>{times(best.ratio)}</strong> plain FP32."
    )


def _conditions(key: tuple[int, int]) -> str:
    threads, batch = key
    return (
        f"{_NUMBERS.get(threads, threads)} thread{'s' * (threads != 1)} and "
        f"{_NUMBERS.get(batch, batch)} crop{'s' * (batch != 1)} at a time"
    )


def _group(key: tuple[int, int], entries: Sequence[Ratio]) -> str:
    longest = max(entry.ratio for entry in entries)
    lines = [
        (
            f"{name(entry.artefact)}<small>{name(entry.engine)}</small>",
            bar(entry.ratio / longest, _kind(entry), tick=1 / longest),
            f"<strong>{times(entry.ratio)}</strong><small>{_judged(entry)}</small>",
            f"{compact(entry.ms)} ms",
        )
        for entry in entries
    ]
    columns = [
        Column("Artefact, engine"),
        Column("Speed", "drawn"),
        Column("To plain FP32", "number"),
        Column("Median", "number"),
    ]
    said = _conditions(key)
    return table(said[0].upper() + said[1:], columns, lines)


def _kind(entry: Ratio) -> str:
    return "int8" if "int8" in entry.artefact else "float"


def _judged(entry: Ratio) -> str:
    return "plain FP32" if entry.plain else "slower" if entry.ratio < 1 else "faster"
