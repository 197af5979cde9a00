"""What goes into ``report.json``, and from there onto the page."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edgeface.types import FloatArray
from edgeface_export.export_record import ExportRecord
from edgeface_export.int8 import Int8Result

__all__ = ["build_report"]

# More points than these look the same on the page.
_MAX_PAIRS = 2000


def build_report(record: ExportRecord) -> dict[str, Any]:
    """Return the report of an export, ready for JSON; keys as in ``html_report.schema``."""
    recognition, network = record.recognition, record.recognition.network
    report: dict[str, Any] = {
        "exported_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "layout": recognition.layout.name,
        "preprocessing": str(network.preprocessing),
        "reasons": list(recognition.reasons),
        "dropped": {entry.kind: len(entry.names) for entry in recognition.dropped},
        "figures": _finite(record.figures),
        "gates": [gate.sentence for gate in record.gates],
        "gate_results": [_finite(asdict(gate)) for gate in record.gates],
        "limits": asdict(record.limits),
    }
    if record.speed:
        report |= {"speed": list(record.speed), "speed_conditions": _conditions()}
    if record.int8 is not None:
        report |= _evidence(record.int8)
        report["activation_set"] = dict(record.crops.facts)
    if record.pairs is not None:
        report["verification"] = dict(record.pairs.verification)
        report["tar_losses"] = {
            name: [asdict(loss) for loss in losses] for name, losses in record.pairs.losses.items()
        }
        report |= {"pair_scores": record.pairs.pair_scores} if record.pairs.pair_scores else {}
    report["training"] = asdict(record.training)
    if record.discovery is not None:
        report["discovery"] = record.discovery.to_dict()
    if record.refusal:
        report["refusal"] = record.refusal
    return report


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Return ``figures`` with null for what is no number: JSON has no word for NaN."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in figures.items()
    }


def _conditions() -> str:
    return (
        f"Medians on the machine that exported: {platform.machine()}, {os.cpu_count()} processors. "
        "A device measures again."
    )


def _evidence(int8: Int8Result) -> dict[str, Any]:
    order = {name: k for k, name in enumerate(int8.quantised.placement.nodes)}
    kept = int8.quantised.placement.kept_float
    layers = sorted(int8.sensitivity, key=lambda entry: order.get(entry.layer, len(order)))
    return {
        "quantised": int8.quantised.to_dict(),
        "faces": int8.figures.faces and not int8.quantised.data_free,
        "cosines": _numbers(np.sum(int8.before * int8.after, axis=1)),
        "pair_scores": _pair_scores(int8.before, int8.after),
        "sensitivity": [asdict(entry) | {"kept_float": entry.layer in kept} for entry in layers],
        "ladder": [step.to_dict() for step in int8.steps],
    }


def _numbers(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _pair_scores(before: FloatArray, after: FloatArray) -> dict[str, list[float | None]]:
    """Return the scores of an even choice of pairs of different crops, in float and in INT8."""
    rows, columns = np.triu_indices(len(before), 1)
    chosen = np.linspace(0, len(rows) - 1, min(_MAX_PAIRS, len(rows))).astype(int)
    rows, columns = rows[chosen], columns[chosen]
    return {
        "before": _numbers(np.sum(before[rows] * before[columns], axis=1)),
        "after": _numbers(np.sum(after[rows] * after[columns], axis=1)),
    }
