"""The INT8 artefact: quantised, measured, its worst layers returned to float if need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx

from edgeface.types import FloatArray, ImageArray
from edgeface_export.architectures.network import Network
from edgeface_export.gates import GateLimits, QuantiserFigures, compare_embeddings, quantiser_gates
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.progress import Progress, no_progress
from edgeface_export.quantise import Quantised, QuantiseOptions, quantise
from edgeface_export.quantise.ladder import Attempt, climb
from edgeface_export.quantise.sensitivity import LayerSensitivity, measure_sensitivity

__all__ = ["Int8Result", "Int8Source", "make_int8"]

# A layer's share of the loss shows on few crops already; every layer is one measurement.
_SENSITIVITY_CROPS = 8


_Tried: TypeAlias = tuple[Quantised, QuantiserFigures, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Int8Result:
    """The INT8 graph that passed, its figures, each layer's sensitivity, and the steps taken.

    ``before`` and ``after`` are the float and INT8 embeddings of the crops that measured it.
    """

    quantised: Quantised
    figures: QuantiserFigures
    before: FloatArray
    after: FloatArray
    sensitivity: tuple[LayerSensitivity, ...]
    steps: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return placement, ranges, sensitivity and steps for the report."""
        kept = self.quantised.placement.kept_float
        layers = [
            {
                "layer": entry.layer,
                "error": entry.error,
                "multiply_adds": entry.multiply_adds,
                "kept_float": entry.layer in kept,
            }
            for entry in self.sensitivity
        ]
        return {**self.quantised.to_dict(), "sensitivity": layers, "ladder": list(self.steps)}


@dataclass(frozen=True, slots=True, eq=False)
class Int8Source:
    """What the artefact is made from and measured on.

    ``fp32`` is the float graph of ``network``. ``ranging`` are the crops that set the ranges, None
    for data-free; ``held_out`` are others that measure the result. Crops are (n, height, width, 3)
    uint8 RGB.
    """

    network: Network
    fp32: onnx.ModelProto
    ranging: ImageArray | None
    held_out: ImageArray


def make_int8(
    source: Int8Source,
    *,
    options: QuantiseOptions,
    limits: GateLimits,
    progress: Progress = no_progress,
) -> Int8Result:
    """Return the INT8 form of ``source`` that passes the gates, with as little float as that takes.

    Raises:
        GateFailedError: It does not pass with as much in float as the ladder allows.
    """
    first: list[Quantised] = []
    expected = EmbeddingSession(source.fp32).embed(source.held_out)

    def attempt(kept: frozenset[str]) -> Attempt[_Tried]:
        wanted = replace(options, keep_float=options.keep_float | kept)
        name = source.fp32.graph.name
        result = quantise(source.network, source.ranging, wanted, name=name, progress=progress)
        first.append(result)
        rows = EmbeddingSession(result.model).embed(source.held_out)
        figures = compare_embeddings(expected, rows, faces=source.ranging is not None)
        failed = [gate.sentence for gate in quantiser_gates(figures, limits) if not gate.passed]
        return Attempt((result, figures, rows), tuple(failed))

    sensitivity: list[LayerSensitivity] = []

    def order() -> Sequence[LayerSensitivity]:
        if not sensitivity:
            sensitivity.extend(_sensitivity(source, first[0], progress))
        return sensitivity

    total = sum(source.network.multiply_adds().values())
    climbed = climb(attempt, order, total)
    quantised, figures, rows = climbed.result
    return Int8Result(quantised, figures, expected, rows, tuple(order()), climbed.steps)


def _sensitivity(
    source: Int8Source, quantised: Quantised, progress: Progress
) -> list[LayerSensitivity]:
    """Return every INT8 layer's sensitivity, in the float graph that was quantised."""
    count = min(_SENSITIVITY_CROPS, len(source.held_out))
    chosen = np.linspace(0, len(source.held_out) - 1, count).astype(int)
    return measure_sensitivity(
        emit(source.network, name=source.fp32.graph.name, layers=quantised.layers),
        quantised.placement,
        quantised.ranges,
        source.held_out[chosen],
        source.network.multiply_adds(),
        progress=progress,
    )
