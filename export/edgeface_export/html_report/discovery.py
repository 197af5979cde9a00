"""How the preprocessing was found out: every candidate that was tried, and what it gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from edgeface_export.html_report.markup import count, fixed, join, listed, name, note
from edgeface_export.html_report.reading import finite, mapping, rows, sequence, string
from edgeface_export.html_report.tables import Column, details, table

__all__ = ["discovery_section"]

_COLUMNS = (
    Column("Candidate", "code"),
    Column("Faces", "number"),
    Column("d-prime", "number"),
    Column("95 %", "number"),
    Column("AUC", "number"),
    Column("First layer, nats", "number"),
    Column("Seconds", "number"),
    Column("Outcome"),
)


class Tried(TypedDict, total=True):
    """A candidate as ``edgeface_export.discovery.Tried`` has it; more keys may be there."""

    name: str
    crop: str
    outcome: str


def discovery_section(report: Mapping[str, Any]) -> str:
    """Return the candidates of a discovery, or nothing where none took place.

    Raises:
        InvalidInputError: Something in it is of another kind.
    """
    found = mapping(report, "discovery")
    if not found:
        return ""
    warnings = [note(text) for text in sequence(found, "warnings") if isinstance(text, str)]
    faces, people = (finite(found.get(key)) or 0 for key in ("faces", "people"))
    lead = (
        f"<p>{name(string(found, 'name'))} separates {count(faces)} faces of {count(people)} "
        "people best. d-prime is the distance of mated to non-mated scores over their spread.</p>"
    )
    return join(
        [
            '<section aria-labelledby="discovery">',
            '<h2 id="discovery">How the preprocessing was found</h2>',
            lead,
            listed(warnings) if warnings else "",
            _table("Candidates tried", found, "tried", "name"),
            details("Crops tried", _table("Crops tried", found, "crops", "crop")),
            "</section>",
        ]
    )


def _table(caption: str, found: Mapping[str, Any], key: str, label: str) -> str:
    tried = rows(found, key, Tried)
    return table(caption, _COLUMNS, [_cells(entry, label) for entry in tried]) if tried else ""


def _cells(entry: Mapping[str, Any], label: str) -> list[str]:
    values = {
        key: finite(entry.get(key))
        for key in ("faces", "d_prime", "low", "high", "auc", "first_layer", "seconds")
    }
    return [
        name(str(entry[label])),
        count(values["faces"] or 0),
        fixed(values["d_prime"], 2),
        f"{fixed(values['low'], 2)} to {fixed(values['high'], 2)}",
        fixed(values["auc"], 4),
        fixed(values["first_layer"], 3),
        fixed(values["seconds"], 1),
        note(str(entry["outcome"])),
    ]
