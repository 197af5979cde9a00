"""The head of the page: what came out, in one word, one sentence and a few figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeface.manifest import Manifest
from edgeface_export.html_report.markup import (
    compact,
    count,
    fixed,
    join,
    name,
    note,
    percent,
    points,
    size,
    text,
    times,
)
from edgeface_export.html_report.reading import finite, mapping, rows, sequence, string
from edgeface_export.html_report.schema import GateResult
from edgeface_export.html_report.speed import fastest

__all__ = [
    "DATA_FREE",
    "FAILED",
    "PASSED",
    "QUANTISED",
    "REFERENCE",
    "head",
    "is_advice",
    "status_of",
    "tried_on_faces",
]

PASSED, DATA_FREE, FAILED = "passed", "data-free", "failed"
REFERENCE, QUANTISED = "fp32", "int8"

_ADVICE = f"{DATA_FREE}:"
_SEALS = {
    PASSED: '<circle cx="48" cy="48" r="42"/><path d="M29 49l13 14 26-31"/>',
    # The broken ring says that the evidence is not whole.
    DATA_FREE: '<circle class="broken" cx="48" cy="48" r="42"/><path d="M29 49l13 14 26-31"/>',
    FAILED: '<path d="M31 6h34l25 25v34L65 90H31L6 65V31z"/><path d="M34 34l28 28m0-28L34 62"/>',
}
_WORDS = {
    PASSED: "Passed",
    DATA_FREE: 'Passed, <span class="whole">data-free</span>',
    FAILED: "Failed",
}


@dataclass(frozen=True, slots=True)
class _Tile:
    figure: str
    label: str
    beside: str = ""
    kind: str = ""


def status_of(report: Mapping[str, Any], manifest: Manifest) -> str:
    """Return ``passed``, ``data-free`` (passed, but without pictures) or ``failed``."""
    gates = rows(report, "gate_results", GateResult)
    if manifest.verdict.status != PASSED or any(gate["passed"] is not True for gate in gates):
        return FAILED
    return DATA_FREE if manifest.verdict.data_free else PASSED


def tried_on_faces(report: Mapping[str, Any], manifest: Manifest) -> bool:
    """Return whether INT8 was compared with float on pictures of faces."""
    faces = report.get("faces")
    return faces if isinstance(faces, bool) else not manifest.verdict.data_free


def head(report: Mapping[str, Any], manifest: Manifest) -> str:
    """Return the head of the page with the only heading of the first level."""
    status = status_of(report, manifest)
    return join(
        [
            f'<header class="verdict {status}">',
            '<div class="said">',
            f'<svg class="seal" viewBox="0 0 96 96" aria-hidden="true">{_SEALS[status]}</svg>',
            f'<div><p class="model">{name(manifest.name)}</p>',
            f"<h1>{_WORDS[status]}</h1>",
            f'<p class="lead">{_lead(status, report, manifest)}</p></div>',
            "</div>",
            _tiles(report, manifest),
            "</header>",
        ]
    )


def _lead(status: str, report: Mapping[str, Any], manifest: Manifest) -> str:
    figures = mapping(report, "figures") or manifest.verdict.figures
    cosine, crops = finite(figures.get("int8_cosine_mean")), finite(figures.get("int8_crops"))
    if status == FAILED:
        return _failures(report)
    if status == DATA_FREE:
        tried = "" if tried_on_faces(report, manifest) else " and none tried them"
        return f"No picture of a real face set the INT8 ranges{tried}. {_advice(report, manifest)}"
    if cosine is None:
        return _float_lead(finite(figures.get("parity_max_difference")))
    met = "" if crops is None else f" on {count(crops)} crops that set no range"
    gates = len(rows(report, "gate_results", GateResult)) or len(sequence(report, "gates"))
    held = f" All {count(gates)} gates were passed." if gates > 1 else ""
    return f"INT8 embeddings have a mean cosine of {fixed(cosine, 3)} to float{met}.{held}"


def _float_lead(parity: float | None) -> str:
    said = "A float export, which computes what the checkpoint computes"
    if parity is None:
        return f"{said}."
    return f"{said}: no value of an embedding differs by more than {compact(parity)}."


def _failures(report: Mapping[str, Any]) -> str:
    gates = rows(report, "gate_results", GateResult)
    failed = [text(str(gate["gate"])) for gate in gates if gate["passed"] is not True]
    if not failed:
        # Something that has no figure ended it.
        said = text(string(report, "refusal"))
        return f"{said}. No bundle was written." if said else "No bundle was written."
    named = f"{len(failed)} of {len(gates)} gates failed: {'; '.join(failed)}."
    return f"{named} No bundle was written."


def is_advice(said: str) -> bool:
    """Return whether ``said``, a note of a verdict, tells what to do about a data-free export."""
    return said.startswith(_ADVICE)


def _advice(report: Mapping[str, Any], manifest: Manifest) -> str:
    if mapping(report, "verification"):
        return "Labelled pairs were compared afterwards: see the evidence."
    said = [entry for entry in manifest.verdict.notes if is_advice(entry)]
    if not said:
        return "Check it on faces like those it will meet before you rely on it."
    plain = [entry[len(_ADVICE) :].strip() for entry in said]
    return "".join(f"<small>{note(entry[:1].upper() + entry[1:])}</small>" for entry in plain)


def _tiles(report: Mapping[str, Any], manifest: Manifest) -> str:
    figures = mapping(report, "figures") or manifest.verdict.figures
    tiles = (
        _accuracy(report),
        _likeness(figures),
        _speed(report, figures),
        _size(manifest),
        _share(figures),
        _parity(figures),
    )
    drawn = [_drawn(tile) for tile in tiles if tile is not None]
    return join(['<ul class="tiles">', *drawn[:5], "</ul>"]) if drawn else ""


def _drawn(tile: _Tile) -> str:
    beside = f'<span class="beside">{tile.beside}</span>' if tile.beside else ""
    return (
        f'<li class="{tile.kind}"><span class="figure">{tile.figure}</span>'
        f'<span class="label">{tile.label}</span>{beside}</li>'
    )


def _accuracy(report: Mapping[str, Any]) -> _Tile | None:
    measured = mapping(report, "verification")
    values = [finite(mapping(measured, key).get("accuracy")) for key in (REFERENCE, QUANTISED)]
    before, after = values
    if before is None or after is None:
        return None
    return _Tile(
        f"{points(after - before)}",
        "percentage points of accuracy on labelled pairs",
        f"{percent(after, 2)} in INT8, {percent(before, 2)} in FP32",
    )


def _likeness(figures: Mapping[str, Any]) -> _Tile | None:
    mean, worst = (finite(figures.get(f"int8_cosine_{which}")) for which in ("mean", "p1"))
    if mean is None:
        return None
    beside = "" if worst is None else f"{fixed(worst, 3)} in the worst hundredth"
    return _Tile(fixed(mean, 3), "cosine to the float embedding, on average", beside)


def _speed(report: Mapping[str, Any], figures: Mapping[str, Any]) -> _Tile | None:
    best = fastest(report)
    if best is not None:
        return _speed_tile(best.ratio, f"{name(best.artefact)} on {name(best.engine)}")
    measured = finite(figures.get("int8_speed_ratio"))
    return None if measured is None else _speed_tile(measured, "INT8 on ONNX Runtime")


def _speed_tile(ratio: float, what: str) -> _Tile:
    if ratio < 1:
        return _Tile(times(ratio), "the speed of plain FP32: slower", f"{what}, one crop", "care")
    return _Tile(times(ratio), "the speed of plain FP32", f"{what}, one crop")


def _size(manifest: Manifest) -> _Tile | None:
    sizes = {entry.name: entry.size_bytes for entry in manifest.artefacts}
    before, after = sizes.get(REFERENCE), sizes.get(QUANTISED)
    if not before or not after:
        return None if not before else _Tile(size(before), "FP32 file")
    return _Tile(
        times(before / after), "smaller file", f"{size(after)} in INT8, {size(before)} in FP32"
    )


def _share(figures: Mapping[str, Any]) -> _Tile | None:
    share = finite(figures.get("int8_share"))
    if share is None:
        return None
    total = finite(figures.get("multiply_adds"))
    beside = "" if total is None else f"of {compact(total / 1e6)} million for one crop"
    return _Tile(percent(share), "of the multiply-adds in INT8", beside)


def _parity(figures: Mapping[str, Any]) -> _Tile | None:
    parity = finite(figures.get("parity_max_difference"))
    if parity is None:
        return None
    return _Tile(
        compact(parity, 1), "largest difference to the checkpoint", "of any value of an embedding"
    )
