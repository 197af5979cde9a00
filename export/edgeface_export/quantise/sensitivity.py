"""How much each layer loses in INT8 alone, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgeface.types import ImageArray
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.progress import Progress, no_progress
from edgeface_export.quantise.placement import Placement
from edgeface_export.quantise.qdq import insert_qdq
from edgeface_export.quantise.ranges import TensorRange

__all__ = ["LayerSensitivity", "measure_sensitivity"]


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """``error`` is 1 minus the mean cosine to float when only this layer runs in INT8."""

    layer: str
    error: float
    multiply_adds: int


def measure_sensitivity(
    model: onnx.ModelProto,
    placement: Placement,
    ranges: Mapping[str, TensorRange],
    crops: ImageArray,
    multiply_adds: Mapping[str, int],
    *,
    progress: Progress = no_progress,
) -> list[LayerSensitivity]:
    """Return the sensitivity of each INT8 node of ``placement``, the worst first.

    Each is tried alone in the float ``model`` on (n, height, width, 3) uint8 ``crops``.
    """
    expected = EmbeddingSession(model).embed(crops)
    sources = {node.name: node.input[0] for node in model.graph.node if node.input}
    found = []
    for name in progress("measuring layers", placement.nodes):
        alone = Placement((name,), (), (sources[name],), {})
        rows = EmbeddingSession(insert_qdq(model, alone, ranges)).embed(crops)
        cosines = np.nan_to_num(np.sum(rows * expected, axis=1, dtype=np.float64), nan=-1.0)
        found.append(LayerSensitivity(name, float(1 - cosines.mean()), multiply_adds[name]))
    return sorted(found, key=lambda entry: (-entry.error, entry.layer))
