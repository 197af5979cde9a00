"""The artefacts for CPUs: the fastest exact float graph, and the all-integer graph.

What is fastest is measured here and recorded. A device measures again among the artefacts that
it finds in the bundle (:mod:`edgeface.backends.selection`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx

from edgeface.errors import ArchitectureError
from edgeface.types import ImageArray
from edgeface_export.architectures.network import Layer, Network, PRelu
from edgeface_export.graph.emit import emit, fold
from edgeface_export.graph.flip import flip_network
from edgeface_export.graph.rewrites import PLAIN, ROUNDS, fastest_fp32, time_in_turns
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.probes import synthetic_crops
from edgeface_export.quantise import Quantised
from edgeface_export.quantise.equalise import equalise, equalised_tensors
from edgeface_export.quantise.integer import integer_model, integer_tensors
from edgeface_export.quantise.ranges import TensorRange, collect_channel_magnitudes

__all__ = ["CPU_FP32", "CPU_INT8", "CpuArtefacts", "IntegerSource", "build_cpu_artefacts"]

CPU_FP32, CPU_INT8 = "cpu-fp32", "cpu-int8"


@dataclass(frozen=True, slots=True, eq=False)
class IntegerSource:
    """What the ranges of the integer graph are measured on.

    ``network`` is the network in the form that the integer graph is made of, ``model`` its float
    graph, and ``tensors`` are the tensors whose ranges are needed, empty where the network has no
    integer form; ``reason`` then says why.
    """

    network: Network
    model: onnx.ModelProto
    tensors: tuple[str, ...]
    reason: str = ""

    @classmethod
    def of(cls, network: Network, *, crops: ImageArray | None = None) -> IntegerSource:
        """Return the source for ``network``, equalised on (n, height, width, 3) uint8 ``crops``.

        Without crops nothing is equalised, and BatchNorm's statistics stay in the network for
        data-free ranges.
        """
        flipped = flip_network(network)
        try:
            tensors = tuple(integer_tensors(flipped.layers))
        except ArchitectureError as exc:
            return cls(flipped, emit(flipped, name="ranges"), (), str(exc))
        if crops is not None:
            flipped = replace(flipped, layers=_equalised(flipped, crops))
        return cls(flipped, emit(flipped, name="ranges"), tensors)


def _equalised(network: Network, crops: ImageArray) -> tuple[Layer, ...]:
    """Return the folded layers of ``network`` with channels brought to one range.

    In the integer graph a PReLU has the scale of its input, which is never smaller: a channel
    with a small slope would blow that up if it were scaled by what leaves the PReLU. Measured
    cosine to float, Xiaoccer: 0.987 without, 0.989 by outputs, 0.9965 by the larger of the two.
    """
    layers = fold(network.layers)
    before = {layer.name: layer.input for layer in layers if isinstance(layer, PRelu)}
    wanted = equalised_tensors(layers)
    tensors = [*wanted, *(before[name] for name in wanted if name in before)]
    measured = collect_channel_magnitudes(emit(network, name="channels"), tensors, crops)
    magnitudes = {
        name: np.maximum(measured[name], measured[before.get(name, name)]) for name in wanted
    }
    return equalise(layers, magnitudes).layers


@dataclass(frozen=True, slots=True, eq=False)
class CpuArtefacts:
    """Models by artefact name, figures for the manifest, and sentences for people.

    ``cpu-fp32`` is missing where no rewrite beats the plain graph, ``cpu-int8`` where it was not
    asked for or the network has no integer form. Neither has gone through a gate yet.
    """

    models: dict[str, onnx.ModelProto] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def build_cpu_artefacts(
    network: Network,
    fp32_model: onnx.ModelProto,
    quantised: Quantised | None,
    integer_ranges: Mapping[str, TensorRange] | None,
    *,
    source: IntegerSource | None = None,
    crops: ImageArray | None = None,
) -> CpuArtefacts:
    """Return the artefacts for CPUs of ``network``, whose float graph is ``fp32_model``.

    ``integer_ranges`` are those of the tensors of :class:`IntegerSource`, measured on its model or
    taken from its network's BatchNorm; None leaves out ``cpu-int8``. ``source`` is that source,
    by default the network's own. ``quantised`` is only timed, beside the others. ``crops`` are
    (n, height, width, 3) uint8, synthetic by default; they check equality and are timed.

    Figures: ``cpu_fp32_speed_ratio``, ``cpu_int8_speed_ratio`` and ``int8_qdq_speed_ratio`` are
    speeds over ``fp32_model`` on ONNX Runtime's CPU provider, one thread, one crop, in turns;
    with ``_batch8`` at the end for eight crops.

    Raises:
        GateFailedError: A float rewrite is not equal to ``fp32_model`` (an error of ours).
        InvalidInputError: A range is missing.
    """
    crops = synthetic_crops(8, network.crop_size) if crops is None else crops
    source = source or IntegerSource.of(network)
    plain_flipped = emit(flip_network(network), name=fp32_model.graph.name)
    fastest = fastest_fp32(fp32_model, plain_flipped, crops)
    models: dict[str, onnx.ModelProto] = {}
    notes = [f"cpu-fp32: PReLU as {fastest.form!r}, the fastest of {_listed(fastest.milliseconds)}"]
    if len(fastest.milliseconds) == 1:
        notes = ["cpu-fp32 is left out: the network has no PReLU to rewrite"]
    elif fastest.form == PLAIN:
        notes = ["cpu-fp32 is left out: no float rewrite was faster than the plain graph"]
    else:
        models[CPU_FP32] = fastest.model
    if integer_ranges is not None and source.tensors:
        models[CPU_INT8] = integer_model(source.network, integer_ranges, name=fp32_model.graph.name)
    elif integer_ranges is not None:
        notes.append(f"cpu-int8 is left out: {source.reason}")
    timed = models if quantised is None else models | {"int8-qdq": quantised.model}
    figures = _speed_ratios(fp32_model, timed, crops)
    return CpuArtefacts(models, figures, tuple(notes))


def _listed(milliseconds: Mapping[str, Mapping[int, float]]) -> str:
    return ", ".join(f"{form} {min(ms.items())[1]:.2f} ms" for form, ms in milliseconds.items())


def _speed_ratios(
    plain: onnx.ModelProto,
    models: Mapping[str, onnx.ModelProto],
    crops: ImageArray,
) -> dict[str, float]:
    """Return the speed of each model over ``plain``, all in turns."""
    sessions = {
        name: EmbeddingSession(model, threads=1) for name, model in {PLAIN: plain, **models}.items()
    }
    figures = {}
    for batch, count in ROUNDS.items():
        pixels = np.resize(crops, (batch, *crops.shape[1:]))
        runs = {name: partial(session.run, pixels) for name, session in sessions.items()}
        taken = time_in_turns(runs, count)
        suffix = "" if batch == 1 else f"_batch{batch}"
        for name in models:
            key = f"{name.replace('-', '_')}_speed_ratio{suffix}"
            figures[key] = taken[PLAIN] / taken[name]
    return figures
