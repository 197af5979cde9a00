"""Is a graph that embeds the mirrored crop too the sum, or the row, of what it is made of?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from edgeface.types import ImageArray
from edgeface_export.gates import GateResult, at_most
from edgeface_export.graph.mirror import CONCATENATE, joined, mirrored_crops, with_mirror
from edgeface_export.graph.session import EmbeddingSession

__all__ = ["SECOND_RUN", "mirror_difference", "mirror_gate", "size_with_mirror"]

SECOND_RUN = (
    "each embedding is that of a crop and of its mirror image: it takes two runs of the network, "
    "while the speeds and the INT8 figures here are of one"
)
_CROPS = 16
# Sums of two float32 rows round in another order than in numpy.
_LARGEST = 1e-5


def mirror_difference(models: Mapping[str, onnx.ModelProto], crops: ImageArray, how: str) -> float:
    """Return the largest difference of a value, in any of ``models``, to what it is made of."""
    some = crops[:_CROPS]
    worst = [0.0]
    for model in models.values():
        single = EmbeddingSession(model)
        wanted = joined(single.embed(some), single.embed(mirrored_crops(some)), how)
        found = EmbeddingSession(with_mirror(model, how)).embed(some)
        worst.append(float(np.abs(found - wanted).max()))
    return max(worst)


def mirror_gate(difference: float) -> GateResult:
    """Return the gate on :func:`mirror_difference`."""
    return at_most("crop and mirror image in one graph", difference, _LARGEST)


def size_with_mirror(size: int, how: str) -> int:
    """Return how many values a joined embedding has."""
    return 2 * size if how == CONCATENATE else size
