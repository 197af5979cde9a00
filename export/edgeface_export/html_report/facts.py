"""What was exported, the gates, the operating points, where it came from, and the notes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeface.manifest import Manifest
from edgeface_export.html_report.markup import (
    MINUS,
    TIMES,
    compact,
    count,
    definitions,
    join,
    listed,
    name,
    note,
    percent,
    size,
    text,
)
from edgeface_export.html_report.reading import finite, mapping, rows, sequence, string
from edgeface_export.html_report.schema import GateResult
from edgeface_export.html_report.tables import Column, bar, details, state, table
from edgeface_export.html_report.verdict import DATA_FREE, is_advice, status_of

__all__ = [
    "exported_section",
    "gates_section",
    "notes_section",
    "operating_points_section",
    "provenance_section",
]

_BOUND = re.compile(r"\((at most|at least) [^()]*\)\s*$")


def _section(key: str, title: str, *parts: str) -> str:
    if not any(parts):
        return ""
    return join(
        [f'<section aria-labelledby="{key}">', f'<h2 id="{key}">{title}</h2>', *parts, "</section>"]
    )


def exported_section(report: Mapping[str, Any], manifest: Manifest) -> str:
    """Return the way of a crop through the model, and the artefacts with their sizes."""
    return _section(
        "exported",
        "What was exported",
        _flow(report, manifest),
        '<div class="block">',
        _artefacts(manifest),
        details("How it was recognised", _recognition(report)),
        "</div>",
    )


def _flow(report: Mapping[str, Any], manifest: Manifest) -> str:
    source, crop = manifest.source, manifest.crop_size
    figures = mapping(report, "figures") or manifest.verdict.figures
    cost = finite(figures.get("multiply_adds"))
    preprocessing = string(report, "preprocessing")
    trained = " · ".join(name(part) for part in (source.loss, source.trainer) if part)
    stations = [
        (
            "Crop",
            f"{crop.width_px} {TIMES} {crop.height_px}",
            f"px wide and high, RGB, aligned to {name(manifest.alignment_template)}",
        ),
        ("Preprocessing", _unbroken(preprocessing), "inside the graph") if preprocessing else None,
        ("Network", name(source.architecture), trained + _cost(cost, bool(trained))),
        (
            "Embedding",
            count(manifest.embedding_size),
            f"numbers of unit length, compared by {text(manifest.metric)}",
        ),
    ]
    lines = [
        f'<li><span class="term">{term}</span><span class="figure">{figure}</span>'
        f'<span class="beside">{beside}</span></li>'
        for term, figure, beside in (station for station in stations if station)
    ]
    return join(['<ol class="flow">', *lines, "</ol>"])


def _unbroken(formula: str) -> str:
    """Return ``formula`` with line breaks after its commas only; a hyphen would break it too."""
    return name(formula).replace("-", MINUS).replace(" ", "\u00a0").replace(",\u00a0", ", ")


def _cost(multiply_adds: float | None, more: bool) -> str:
    if multiply_adds is None:
        return ""
    return f"{'<br>' if more else ''}{compact(multiply_adds / 1e6)} million multiply-adds"


def _artefacts(manifest: Manifest) -> str:
    largest = max((entry.size_bytes for entry in manifest.artefacts), default=0) or 1
    lines = [
        (
            name(entry.name),
            text(entry.precision),
            bar(entry.size_bytes / largest, "int8" if "int8" in entry.precision else "float"),
            size(entry.size_bytes),
            name(entry.file),
        )
        for entry in manifest.artefacts
    ]
    columns = [
        Column("Artefact"),
        Column("Precision"),
        Column("File size", "drawn"),
        Column("", "number"),
        Column("File", "code"),
    ]
    return table("Files of the bundle that run", columns, lines) if lines else ""


def _recognition(report: Mapping[str, Any]) -> str:
    layout = string(report, "layout")
    reasons = [text(str(reason)) for reason in sequence(report, "reasons")]
    dropped = [
        f"left out, as inference has no use for it: {text(str(kind))} ({count(finite(n) or 0)})"
        for kind, n in mapping(report, "dropped").items()
    ]
    first = [f"layout {name(layout)}"] if layout else []
    return listed([*first, *reasons, *dropped])


def gates_section(report: Mapping[str, Any]) -> str:
    """Return each gate with its figure and limit, or the sentences where only these are known."""
    results = rows(report, "gate_results", GateResult)
    sentences = [
        f"{state(True, ('passed', ''))}<span>{text(str(said))}</span>"
        for said in sequence(report, "gates")
    ]
    if not results:
        return _section("gates", "Gates", listed(sentences).replace("<ul>", '<ul class="plain">'))
    columns = [
        Column("Gate"),
        Column("Used of the limit", "drawn"),
        Column("Figure", "number"),
        Column("Limit", "number"),
        Column("Outcome"),
    ]
    drawn = table("A gate that fails stops the export", columns, (_gate(r) for r in results))
    return _section("gates", "Gates", drawn)


def _gate(result: GateResult) -> tuple[str, ...]:
    passed = result["passed"] is True
    figure, limit = finite(result["figure"]), finite(result["limit"])
    bound = result.get("bound") or _bound(result.get("sentence", ""))
    used = None if figure is None or limit is None else _used(figure, limit, bound)
    # What to do is asked for where a gate failed; its whole sentence is in the JSON.
    advice = "" if passed else f"<small>{text(result.get('advice', ''))}</small>"
    return (
        text(str(result["gate"])) + advice,
        "" if used is None else bar(used, "good" if passed else "bad"),
        compact(figure, 4),
        f"{text(bound)} {compact(limit, 4)}".strip(),
        state(passed, ("passed", "failed")),
    )


def _bound(sentence: str) -> str:
    found = _BOUND.search(sentence)
    return found.group(1) if found else ""


def _used(figure: float, limit: float, bound: str) -> float | None:
    """Return how much of the room up to the limit is used; a least cosine has its room below 1."""
    if bound == "at most" and limit > 0:
        return max(figure, 0.0) / limit
    if bound == "at least" and limit > 1 and figure > 0:
        return limit / figure
    if bound == "at least" and limit < 1:
        return (1 - figure) / (1 - limit)
    return None


def operating_points_section(manifest: Manifest) -> str:
    """Return the thresholds by artefact and false match rate."""
    lines = [
        (
            name(point.artefact),
            f"{compact(point.target_fmr * 100)}\u202f%",
            f"{point.threshold:.3f}",
            "not measured" if point.fnmr is None else percent(point.fnmr, 2),
            '<span class="pill care">provisional</span>'
            if point.provisional
            else f"{name(point.protocol)}<small>{count(point.n_mated)} mated, "
            f"{count(point.n_non_mated)} non-mated</small>",
        )
        for point in manifest.operating_points
    ]
    columns = [
        Column("Artefact"),
        Column("FMR aimed at", "number"),
        Column("Threshold", "number"),
        Column("FNMR there", "number"),
        Column("Measured on"),
    ]
    if not lines:
        return ""
    drawn = table("From this score on, two faces are taken for one person", columns, lines)
    return _section("points", "Operating points", drawn)


def provenance_section(report: Mapping[str, Any], manifest: Manifest) -> str:
    """Return the source, the tools, the activation set and the hashes."""
    source = manifest.source
    tools = ", ".join(f"{name(tool)} {text(version)}" for tool, version in manifest.tools.items())
    facts = definitions(
        {
            "Checkpoint": name(source.file_name),
            "Format": text(source.format),
            "SHA-256": f"<code>{text(source.sha256)}</code>",
            "Model identity": f"<code>{text(manifest.model_id)}</code>",
            "Exported": text(string(report, "exported_at")),
            "Tools": tools,
        }
    )
    hashes = {name(entry.file): entry.sha256 for entry in manifest.artefacts}
    hashes |= {name(file): digest for file, digest in manifest.files.items()}
    return _section(
        "provenance",
        "Provenance",
        facts,
        _activation_set(report),
        details(
            "SHA-256 of the files",
            definitions({file: f"<code>{text(digest)}</code>" for file, digest in hashes.items()}),
        ),
    )


def _activation_set(report: Mapping[str, Any]) -> str:
    facts = mapping(report, "activation_set")
    drawn = definitions({_words(key): _fact(value) for key, value in facts.items()})
    return f"<h3>Activation set</h3>\n{drawn}" if drawn else ""


def _words(key: str) -> str:
    said = text(str(key).replace("_", " "), longest=120)
    return said[:1].upper() + said[1:]


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key)).lower()} {_fact(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        number = finite(value)
        return count(number) if number is not None and number.is_integer() else compact(number)
    return "" if value is None else f"<bdi>{text(str(value))}</bdi>"


def notes_section(report: Mapping[str, Any], manifest: Manifest) -> str:
    """Return what the verdict says besides what stands in the head of the page."""
    said = manifest.verdict.notes
    if status_of(report, manifest) == DATA_FREE and not mapping(report, "verification"):
        said = tuple(entry for entry in said if not is_advice(entry))
    return _section("notes", "Notes", listed(note(entry) for entry in said))
