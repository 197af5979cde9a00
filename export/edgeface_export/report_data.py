"""What goes into ``report.json``, and from there onto the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edgeface.types import FloatArray
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.gates import GateLimits, GateResult
from edgeface_export.int8 import Int8Result

__all__ = ["build_report"]

# More points than these look the same on the page.
_MAX_PAIRS = 2000


def build_report(
    recognition: Recognition,
    limits: GateLimits,
    figures: Mapping[str, float],
    gates: Sequence[GateResult],
    int8: Int8Result | None,
) -> dict[str, Any]:
    """Return the report of an export, ready for JSON; keys as in ``html_report.schema``."""
    network = recognition.network
    report: dict[str, Any] = {
        "exported_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "layout": recognition.layout.name,
        "preprocessing": str(network.preprocessing),
        "reasons": list(recognition.reasons),
        "dropped": {entry.kind: len(entry.names) for entry in recognition.dropped},
        "figures": dict(figures),
        "gates": [gate.sentence for gate in gates],
        "gate_results": [asdict(gate) for gate in gates],
        "limits": asdict(limits),
    }
    if int8 is not None:
        report |= _evidence(int8)
    return report


def _evidence(int8: Int8Result) -> dict[str, Any]:
    order = {name: k for k, name in enumerate(int8.quantised.placement.nodes)}
    kept = int8.quantised.placement.kept_float
    layers = sorted(int8.sensitivity, key=lambda entry: order.get(entry.layer, len(order)))
    return {
        "quantised": int8.quantised.to_dict(),
        "faces": int8.figures.faces,
        "cosines": np.sum(int8.before * int8.after, axis=1).astype(float).tolist(),
        "pair_scores": _pair_scores(int8.before, int8.after),
        "sensitivity": [asdict(entry) | {"kept_float": entry.layer in kept} for entry in layers],
        "tried": list(int8.steps),
    }


def _pair_scores(before: FloatArray, after: FloatArray) -> dict[str, list[float]]:
    """Return the scores of an even choice of pairs of different crops, in float and in INT8."""
    rows, columns = np.triu_indices(len(before), 1)
    chosen = np.linspace(0, len(rows) - 1, min(_MAX_PAIRS, len(rows))).astype(int)
    rows, columns = rows[chosen], columns[chosen]
    return {
        "before": np.sum(before[rows] * before[columns], axis=1).astype(float).tolist(),
        "after": np.sum(after[rows] * after[columns], axis=1).astype(float).tolist(),
    }
