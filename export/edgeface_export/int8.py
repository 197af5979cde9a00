"""The INT8 artefact: quantised, measured, its worst layers returned to float if need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from edgeface.errors import GateFailedError
from edgeface.types import FloatArray
from edgeface_export.architectures.network import Network
from edgeface_export.crop_sets import CropSets
from edgeface_export.gates import GateLimits, QuantiserFigures, compare_embeddings, quantiser_gates
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.progress import Progress, no_progress
from edgeface_export.quantise import Quantised, QuantiseOptions, quantise
from edgeface_export.quantise.activations import Activations
from edgeface_export.quantise.ladder import Attempt, climb
from edgeface_export.quantise.options import SYNTHETIC_SLACK
from edgeface_export.quantise.partial import most_float
from edgeface_export.quantise.sensitivity import LayerSensitivity, measure_sensitivity

__all__ = ["Int8Result", "Int8Source", "Step", "make_int8", "suited"]

# A layer's share of the loss shows on few crops already, and every layer is one measurement: 4
# crops of a MobileFaceNet's 50 layers are 38e9 multiply-adds, some 3 s.
_SENSITIVITY_CROPS = 4
_SENSITIVITY_MULTIPLY_ADDS = 60e9


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt: what was tried, how near to float it came, and the gates that it failed."""

    step: str
    cosine_mean: float
    cosine_p1: float
    failed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the step for the report."""
        return {
            "step": self.step,
            "cosine_mean": self.cosine_mean,
            "cosine_p1": self.cosine_p1,
            "passed": not self.failed,
            "failed": list(self.failed),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Int8Result:
    """The INT8 graph, its figures, each layer's sensitivity, and the steps taken.

    ``before`` and ``after`` are the float and INT8 embeddings of the crops that measured it.
    ``refusal`` is empty where it passed its gates; else it says how much was tried, and the graph
    is the nearest to float of those tried. ``sensitivity`` is empty where a network is so large
    that it is measured only when a gate fails.
    """

    quantised: Quantised
    figures: QuantiserFigures
    before: FloatArray
    after: FloatArray
    sensitivity: tuple[LayerSensitivity, ...]
    steps: tuple[Step, ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Source:
    """What the artefact is made from and measured on: ``fp32`` is the float graph of ``network``.

    ``expected`` are the float embeddings of the held-out crops.
    """

    network: Network
    fp32: onnx.ModelProto
    crops: CropSets
    expected: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    quantised: Quantised
    figures: QuantiserFigures
    rows: FloatArray
    step: Step


def make_int8(
    source: Int8Source,
    *,
    options: QuantiseOptions,
    limits: GateLimits,
    progress: Progress = no_progress,
) -> Int8Result:
    """Return the INT8 form of ``source`` that passes the gates, with as little float as that takes.

    Where none passes with as much in float as the ladder allows, the nearest is returned with the
    ``refusal``.

    Raises:
        GateFailedError: The INT8 graph breaks a placement rule (an error of ours).
    """
    costs = source.network.multiply_adds()
    options = suited(options, source.crops)
    tried: list[_Tried] = []

    def attempt(kept: frozenset[str]) -> Attempt[_Tried]:
        wanted = replace(options, keep_float=options.keep_float | kept)
        known = tried[0].quantised.activations if tried else None
        tried.append(_try(source, wanted, limits, _named(kept, costs), known, progress))
        head = set(tried[0].quantised.placement.kept_float)
        return Attempt(tried[-1], tried[-1].step.failed, sum(costs[name] for name in head))

    sensitivity: list[LayerSensitivity] = []

    def order() -> Sequence[LayerSensitivity]:
        if not sensitivity:
            sensitivity.extend(_sensitivity(source, tried[0].quantised, progress))
        return sensitivity

    refusal = ""
    try:
        most = most_float(source.network.layers)
        best = climb(attempt, order, sum(costs.values()), max_float_share=most).result
    except GateFailedError:
        if not tried or not tried[-1].step.failed:
            raise
        refusal = f"{len(tried)} form(s) were tried, the last with {tried[-1].step.step}"
        best = max(tried, key=lambda entry: entry.figures.cosine_mean)
    if len(costs) * sum(costs.values()) <= _SENSITIVITY_MULTIPLY_ADDS:
        order()
    steps = tuple(entry.step for entry in tried)
    return Int8Result(
        best.quantised,
        best.figures,
        source.expected,
        best.rows,
        tuple(sensitivity),
        steps,
        refusal,
    )


def suited(options: QuantiseOptions, crops: CropSets) -> QuantiseOptions:
    """Return ``options`` with slack where ``crops`` show nobody: photos of people reach further."""
    if not crops.data_free:
        return options
    return replace(options, slack=max(options.slack, SYNTHETIC_SLACK))


def _named(kept: frozenset[str], costs: dict[str, int]) -> str:
    if not kept:
        return "every layer that may be is INT8"
    share = sum(costs[name] for name in kept) / sum(costs.values())
    named = sorted(kept)[0] if len(kept) == 1 else f"{len(kept)} layers"
    return f"{named} in float, {share:.1%} of the arithmetic"


def _try(
    source: Int8Source,
    options: QuantiseOptions,
    limits: GateLimits,
    step: str,
    activations: Activations | None,
    progress: Progress,
) -> _Tried:
    crops, name = source.crops, source.fp32.graph.name
    result = quantise(
        source.network,
        crops.ranging,
        options,
        name=name,
        activations=activations,
        progress=progress,
    )
    rows = EmbeddingSession(result.model).embed(crops.held_out)
    figures = compare_embeddings(source.expected, rows, faces=crops.show_faces)
    failed = tuple(gate.sentence for gate in quantiser_gates(figures, limits) if not gate.passed)
    return _Tried(
        replace(result, data_free=crops.data_free),
        figures,
        rows,
        Step(step, figures.cosine_mean, figures.cosine_p1, failed),
    )


def _sensitivity(
    source: Int8Source, quantised: Quantised, progress: Progress
) -> list[LayerSensitivity]:
    """Return every INT8 layer's sensitivity, in the float graph that was quantised."""
    held_out, costs = source.crops.held_out, source.network.multiply_adds()
    affordable = int(_SENSITIVITY_MULTIPLY_ADDS / (len(costs) * sum(costs.values()) or 1))
    count = max(1, min(_SENSITIVITY_CROPS, affordable, len(held_out)))
    chosen = np.linspace(0, len(held_out) - 1, count).astype(int)
    return measure_sensitivity(
        quantised.float_model,
        quantised.placement,
        quantised.ranges,
        held_out[chosen],
        costs,
        progress=progress,
    )
