"""Gate A: does the emitted graph compute what the checkpoint's own layers compute?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgeface.types import ImageArray
from edgeface_export.architectures.network import Network
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession

__all__ = ["Parity", "measure_parity"]

_BATCHES = (1, 2, 8)
# The reference takes half a second for a crop, and a graph that is wrong is wrong on every one.
_REFERENCE_CROPS = 4


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest difference of any value of any unit embedding, over ``crops`` crops and all batches.

    ``batch_difference`` is the largest change of an embedding by the batch that it came in.
    """

    difference: float
    batch_difference: float
    crops: int


def measure_parity(network: Network, model: onnx.ModelProto, crops: ImageArray) -> Parity:
    """Return how far ``model`` is from the float64 forward of ``network`` on up to 4 ``crops``.

    Batches are compared on up to 8. NaN in either counts as an infinite difference.
    """
    crops = crops[: max(_BATCHES)]
    expected = reference_embeddings(network, crops[:_REFERENCE_CROPS])
    session = EmbeddingSession(model)
    runs = [session.embed(crops, batch_size=size) for size in _BATCHES]
    difference = max(_largest(run[: len(expected)] - expected) for run in runs)
    between = max(_largest(run - runs[0]) for run in runs)
    return Parity(difference, between, len(expected))


def _largest(differences: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> float:
    largest = float(np.abs(differences).max())
    return largest if np.isfinite(largest) else float("inf")
