"""The evidence: likeness of embeddings, scores of pairs, error rates, layers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from edgeface.errors import InvalidInputError
from edgeface.manifest import Manifest
from edgeface_export.html_report.charts import (
    LINE_STYLES,
    Mark,
    cosine_histogram,
    det_chart,
    pair_chart,
)
from edgeface_export.html_report.markup import (
    compact,
    count,
    fixed,
    join,
    listed,
    name,
    percent,
    points,
    text,
)
from edgeface_export.html_report.reading import finite, mapping, numbers, rows, sequence
from edgeface_export.html_report.schema import Tar
from edgeface_export.html_report.tables import Column, table
from edgeface_export.html_report.verdict import QUANTISED, REFERENCE, tried_on_faces

__all__ = ["evidence_section"]

_NO_FACES = '<p class="aside care">Measured without pictures of real faces.</p>'
_LIKENESS, _MOVEMENT = "Is it the same embedding?", "Do the scores of pairs move?"
_DET_CAPTION = (
    '<p class="aside">Both errors on labelled pairs, for every threshold: nearer to the lower left '
    "is better, and curves on one another tell people apart equally well. On the dotted line both "
    "errors are equal.</p>"
)
# A table of more artefacts is wider than half of the page.
_MOST_BESIDE = 2
_UNUSABLE = "embeddings without a usable value are counted here and not drawn"


def evidence_section(report: Mapping[str, Any], manifest: Manifest, *more: str) -> str:
    """Return the charts of what was measured, then ``more``; empty where there is none of it."""
    figures = join([_cosines(report, manifest), _pairs(report, manifest)])
    parts = [
        f'<div class="pair">\n{figures}\n</div>' if figures else "",
        _rates_section(report),
        *more,
    ]
    if not any(parts):
        return ""
    return join(
        [
            '<section aria-labelledby="evidence">',
            '<h2 id="evidence">Evidence</h2>',
            *parts,
            "</section>",
        ]
    )


def _figure(question: str, drawn: str, caption: str, aside: str = "") -> str:
    return join(
        [
            "<figure>",
            f"<h3>{question}</h3>",
            aside,
            drawn,
            f"<figcaption>{caption}</figcaption>",
            "</figure>",
        ]
    )


def _nothing_usable(question: str, unusable: int) -> str:
    if not unusable:
        return ""
    return _figure(question, "", f"<strong>None of {count(unusable)} has a usable value.</strong>")


def _cosines(report: Mapping[str, Any], manifest: Manifest) -> str:
    cosines, unusable = numbers(report, "cosines")
    if not cosines:
        return _nothing_usable(_LIKENESS, unusable)
    figures, limits = mapping(report, "figures"), mapping(report, "limits")
    marks = [
        Mark(label, value, finite(limits.get(f"min_cosine_{key}")))
        for label, key in (("mean", "mean"), ("worst hundredth", "p1"))
        if (value := finite(figures.get(f"int8_cosine_{key}"))) is not None
    ]
    caption = (
        "1 is the same embedding, and each bar counts crops. Half of the "
        f"{count(len(cosines))} crops are above {fixed(statistics.median(cosines), 4)}, the worst "
        f"is at {fixed(min(cosines), 4)}."
    )
    if any(mark.limit is not None for mark in marks):
        caption += " The dashed strokes are the limits of the gates."
    if unusable:
        caption += f" <strong>{count(unusable)} {_UNUSABLE}.</strong>"
    aside = "" if tried_on_faces(report, manifest) else _NO_FACES
    return _figure(_LIKENESS, cosine_histogram(cosines, marks), caption, aside)


def _pairs(report: Mapping[str, Any], manifest: Manifest) -> str:
    columns, unusable = _pair_columns(mapping(report, "pair_scores"))
    before, after, mated = columns
    if not before:
        return _nothing_usable(_MOVEMENT, unusable)
    limit = finite(mapping(report, "limits").get("max_pair_change_p99"))
    drawn = pair_chart(before, after, mated, limit) + (_pair_legend() if mated else "")
    # Pairs with labels are of people, whatever set the ranges.
    aside = "" if mated or tried_on_faces(report, manifest) else _NO_FACES
    moved = _moved_labelled(before, after) if mated else _moved(report)
    caption = _pair_caption(len(before), moved, limit, unusable)
    return _figure(_MOVEMENT, drawn, caption, aside)


def _pair_columns(
    source: Mapping[str, Any],
) -> tuple[tuple[list[float], list[float], list[bool]], int]:
    """Return the scores before and after and the kinds of usable pairs, and how many are not."""
    before, after, mated = (sequence(source, key) for key in ("before", "after", "mated"))
    if len(before) != len(after) or (mated and len(mated) != len(before)):
        raise InvalidInputError(
            "report.pair_scores must have before, after and mated of one length, got "
            f"{len(before)}, {len(after)} and {len(mated)}"
        )
    kept: tuple[list[float], list[float], list[bool]] = ([], [], [])
    for k, pair in enumerate(zip(before, after, strict=True)):
        first, second = (finite(score) for score in pair)
        if first is not None and second is not None:
            kept[0].append(first)
            kept[1].append(second)
            kept[2].extend([mated[k] is True] if mated else [])
    return kept, len(before) - len(kept[0])


def _moved_labelled(before: Sequence[float], after: Sequence[float]) -> str:
    changes = sorted(abs(a - b) for a, b in zip(before, after, strict=True))
    p99 = changes[min(len(changes) - 1, round(0.99 * (len(changes) - 1)))]
    return (
        f" They are the labelled pairs: 99\u202f% of those drawn move by at most {fixed(p99, 3)}, "
        f"and none by more than {fixed(changes[-1], 3)}."
    )


def _moved(report: Mapping[str, Any]) -> str:
    figures = mapping(report, "figures")
    p99, worst = (finite(figures.get(f"int8_pair_change_{key}")) for key in ("p99", "worst"))
    if p99 is None:
        return ""
    said = f" Of all pairs measured, 99\u202f% move by at most {fixed(p99, 3)}"
    return said + ("." if worst is None else f", and none by more than {fixed(worst, 3)}.")


def _pair_caption(n_pairs: int, moved: str, limit: float | None, unusable: int) -> str:
    caption = (
        f"Each point is one of {count(n_pairs)} pairs; on the line, INT8 scores it as FP32 does."
        + moved
    )
    if limit is not None:
        caption += (
            f" The shaded band is ±{compact(limit)}, the limit for 99\u202f% of pairs of faces."
        )
    return caption + (f" <strong>{count(unusable)} {_UNUSABLE}.</strong>" if unusable else "")


def _pair_legend() -> str:
    return _legend(
        f'<svg viewBox="0 0 24 12" aria-hidden="true"><path class="dots {kind} key" d="M12 6h0"/>'
        f"</svg>{kind}"
        for kind in ("non-mated", "mated")
    )


def _legend(entries: Any) -> str:
    return f'<ul class="legend">{"".join(f"<li>{entry}</li>" for entry in entries)}</ul>'


def _curve(entry: Mapping[str, Any]) -> list[tuple[float, float]]:
    found = []
    for pair in sequence(entry, "det"):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise InvalidInputError("report.verification: det must be a list of [fmr, fnmr]")
        fmr, fnmr = finite(pair[0]), finite(pair[1])
        if fmr is not None and fnmr is not None:
            found.append((fmr, fnmr))
    return found


def _rates_section(report: Mapping[str, Any]) -> str:
    """Return the error trade-off and the rates, empty where no labelled pairs were compared."""
    measured = _in_order(mapping(report, "verification"))
    if not measured:
        return ""
    chart, rates, remarks = _det(measured), _rates(measured), _beneath(measured)
    parts = [rates, remarks]
    if chart and len(measured) <= _MOST_BESIDE:
        parts = [_beside(join([chart, _DET_CAPTION]), join([rates, remarks]))]
    elif chart:
        parts = [_beside(chart, join([_DET_CAPTION, remarks])), rates]
    return join(
        [
            '<section class="block" aria-labelledby="rates">',
            '<h3 id="rates">Does it still tell people apart?</h3>',
            *parts,
            "</section>",
        ]
    )


def _in_order(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the artefacts with the two that are compared first; files hold them sorted by name."""
    first = [key for key in (REFERENCE, QUANTISED) if key in measured]
    return {key: measured[key] for key in (*first, *measured)}


def _beside(left: str, right: str) -> str:
    return join(
        ['<div class="beside-chart">', f"<div>{left}</div>", f"<div>{right}</div>", "</div>"]
    )


def _det(measured: Mapping[str, Any]) -> str:
    """Return the curves with their legend, empty where there are none."""
    curves = {key: _curve(mapping(measured, key)) for key in measured}
    curves = {key: curve for key, curve in curves.items() if curve}
    if not curves:
        return ""
    return det_chart(curves) + _legend(
        f'<svg viewBox="0 0 32 12" aria-hidden="true"><path class="line line{k % LINE_STYLES}" '
        f'd="M1 6h30"/></svg>{name(key)}'
        for k, key in enumerate(curves)
    )


def _rates(measured: Mapping[str, Any]) -> str:
    """Return a table of the rates, one column for each artefact."""
    base = mapping(measured, REFERENCE)
    entries = [(mapping(measured, key), {} if key == REFERENCE else base) for key in measured]
    lines = [("Accuracy", *(_rate(entry, before, "accuracy") for entry, before in entries))]
    lines += [
        (
            f"TAR at FMR {compact(target * 100)}\u202f%",
            *(_tar(entry, before, target) for entry, before in entries),
        )
        for target in _targets(measured)
    ]
    lines += [("Equal error rate", *(_rate(entry, before, "eer") for entry, before in entries))]
    columns = [Column("Rate", "top"), *(Column(name(key), "number top") for key in measured)]
    return table("On labelled pairs, with 95\u202f% intervals", columns, lines, stacked=False)


def _beneath(measured: Mapping[str, Any]) -> str:
    """Return what the rates rest on, and the notes of each artefact."""
    entry = mapping(measured, next(iter(measured)))
    mated, others = (finite(entry.get(key)) for key in ("n_mated", "n_non_mated"))
    said = ""
    if mated is not None and others is not None:
        where = f" of {text(str(entry['protocol']))}" if entry.get("protocol") else ""
        said = (
            f'<p class="aside">{count(mated)} mated and {count(others)} non-mated pairs{where}.</p>'
        )
    return join([said, listed(_rate_notes(measured)).replace("<ul>", '<ul class="remarks">')])


def _rate_notes(measured: Mapping[str, Any]) -> list[str]:
    """Return each note once, with the artefacts that it is about."""
    about: dict[str, list[str]] = {}
    for key in measured:
        for note in sequence(mapping(measured, key), "notes"):
            about.setdefault(str(note), []).append(key)
    return [
        f"{text(note)} ({', '.join(name(key) for key in keys)})" for note, keys in about.items()
    ]


def _targets(measured: Mapping[str, Any]) -> list[float]:
    found = {
        target
        for key in measured
        for entry in rows(mapping(measured, key), "tar", Tar)
        if (target := finite(entry["target_fmr"])) is not None
    }
    return sorted(found, reverse=True)


def _rate(entry: Mapping[str, Any], base: Mapping[str, Any], key: str) -> str:
    rate = finite(entry.get(key))
    if rate is None:
        return "not measured"
    return _said(rate, mapping(entry, f"{key}_interval"), finite(base.get(key)))


def _tar(entry: Mapping[str, Any], base: Mapping[str, Any], target: float) -> str:
    found, before = (
        next((tar for tar in rows(where, "tar", Tar) if tar["target_fmr"] == target), None)
        for where in (entry, base)
    )
    rate = None if found is None else finite(found["tar"])
    if found is None or rate is None:
        return "too few pairs to tell"
    return _said(rate, found.get("interval") or {}, finite(before["tar"]) if before else None)


def _said(rate: float, interval: Mapping[str, Any], base: float | None) -> str:
    low, high = finite(interval.get("low")), finite(interval.get("high"))
    beside: Sequence[str] = (
        "" if low is None or high is None else f"{fixed(100 * low, 2)} to {percent(high, 2)}",
        "" if base is None else f"{points(rate - base)} points to FP32",
    )
    small = "".join(f"<small>{part}</small>" for part in beside if part)
    return f"<strong>{percent(rate, 2)}</strong>{small}"
