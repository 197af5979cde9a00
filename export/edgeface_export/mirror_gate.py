"""Is a graph that embeds the mirrored crop too the sum, or the row, of what it is made of?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgeface.types import ImageArray
from edgeface_export.gates import GateResult, at_least, at_most
from edgeface_export.graph.mirror import CONCATENATE, joined, mirrored_crops, with_mirror
from edgeface_export.graph.session import EmbeddingSession

__all__ = ["SECOND_RUN", "MirrorFit", "measure_mirror", "mirror_gates", "size_with_mirror"]

SECOND_RUN = (
    "each embedding is that of a crop and of its mirror image: it takes two runs of the network, "
    "while the speeds and the INT8 figures here are of one"
)
_CROPS = 8
# Sums of two float32 rows round in another order than in numpy.
_LARGEST = 1e-5
# ONNX Runtime fuses the INT8 layers of the larger graph in another way, so that some values round
# to the next of 255 steps: the default model has 0.99997.
_LEAST_COSINE = 0.999


@dataclass(frozen=True, slots=True)
class MirrorFit:
    """How a joined graph differs from the two runs that it joins.

    ``difference`` is the largest of a value in the float artefacts, ``cosine`` the least of two
    rows in any artefact.
    """

    difference: float
    cosine: float

    def figures(self) -> dict[str, float]:
        """Return the figures by the names they have in the manifest."""
        return {"flip_max_difference": self.difference, "flip_min_cosine": self.cosine}


def measure_mirror(models: Mapping[str, onnx.ModelProto], crops: ImageArray, how: str) -> MirrorFit:
    """Return how the joined graphs of ``models``, by artefact, differ from two runs of them."""
    some = crops[:_CROPS]
    both = np.concatenate([some, mirrored_crops(some)])
    differences, cosines = [0.0], [1.0]
    for artefact, model in models.items():
        rows = EmbeddingSession(model).run(both)[0]
        wanted = joined(rows[: len(some)], rows[len(some) :], how)
        found = EmbeddingSession(with_mirror(model, how)).run(some)[0]
        cosines.append(float((found * wanted).sum(axis=1).min()))
        if "int8" not in artefact:
            differences.append(float(np.abs(found - wanted).max()))
    # numpy's extremes keep NaN, which no gate lets through.
    return MirrorFit(float(np.max(differences)), float(np.min(cosines)))


def mirror_gates(fit: MirrorFit) -> list[GateResult]:
    """Return the gates on :func:`measure_mirror`."""
    return [
        at_most("crop and mirror image in one float graph", fit.difference, _LARGEST),
        at_least("cosine of joined graphs to two runs", fit.cosine, _LEAST_COSINE),
    ]


def size_with_mirror(size: int, how: str) -> int:
    """Return how many values a joined embedding has."""
    return 2 * size if how == CONCATENATE else size
