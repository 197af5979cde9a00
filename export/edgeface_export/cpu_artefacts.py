"""The artefacts for CPUs: the fastest exact float graph, and the all-integer graph.

What is fastest is measured here and recorded. A device measures again among the artefacts that
it finds in the bundle (:mod:`edgeface.backends.selection`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import onnx

from edgeface.types import ImageArray
from edgeface_export.architectures.network import Network
from edgeface_export.graph.emit import emit
from edgeface_export.graph.flip import flip_network
from edgeface_export.graph.rewrites import PLAIN, ROUNDS, fastest_fp32, time_in_turns
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.probes import synthetic_crops
from edgeface_export.quantise import Quantised

__all__ = [
    "CPU_FP32",
    "CPU_INT8",
    "SPEED_BUDGET_S",
    "CpuArtefacts",
    "Timing",
    "build_cpu_artefacts",
]

CPU_FP32, CPU_INT8 = "cpu-fp32", "cpu-int8"
SPEED_BUDGET_S = 3.0
"""About how long artefacts are timed; a device measures again, so that more would be wasted."""
_QDQ = "int8-qdq"


@dataclass(frozen=True, slots=True, eq=False)
class CpuArtefacts:
    """Models by artefact name, figures for the manifest, and sentences for people.

    ``cpu-fp32`` is missing where no rewrite beats the plain graph, ``cpu-int8`` where it was not
    asked for or the network has no integer form. Neither has gone through a gate yet. ``speed``
    has the median time of each artefact, as rows of the report.
    """

    models: dict[str, onnx.ModelProto] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    speed: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """What artefacts are timed on: (n, height, width, 3) uint8 ``crops``, for about ``budget_s``.

    The crops also check that float rewrites are equal to the plain graph.
    """

    crops: ImageArray
    budget_s: float = SPEED_BUDGET_S


def build_cpu_artefacts(
    network: Network,
    fp32_model: onnx.ModelProto,
    quantised: Quantised | None,
    integer: onnx.ModelProto | None,
    *,
    timing: Timing | None = None,
) -> CpuArtefacts:
    """Return the artefacts for CPUs of ``network``, whose float graph is ``fp32_model``.

    ``integer`` is the integer graph of :func:`.quantise.integer_fit.quantise_integer`; None leaves
    out ``cpu-int8``. ``quantised`` is only timed, beside the others. ``timing`` is by default that
    of synthetic pictures.

    Figures: ``cpu_fp32_speed_ratio``, ``cpu_int8_speed_ratio`` and ``int8_qdq_speed_ratio`` are
    speeds over ``fp32_model`` on ONNX Runtime's CPU provider, one thread, one crop, in turns;
    with ``_batch8`` at the end for eight crops.

    Raises:
        GateFailedError: A float rewrite is not equal to ``fp32_model`` (an error of ours).
    """
    timing = timing or Timing(synthetic_crops(8, network.crop_size))
    plain_flipped = emit(flip_network(network), name=fp32_model.graph.name)
    fastest = fastest_fp32(
        fp32_model,
        plain_flipped,
        timing.crops,
        rounds={1: ROUNDS[1]},
        budget_s=timing.budget_s / 2,
    )
    models: dict[str, onnx.ModelProto] = {}
    notes = [f"cpu-fp32: PReLU as {fastest.form!r}, the fastest of {_listed(fastest.milliseconds)}"]
    if len(fastest.milliseconds) == 1:
        notes = ["cpu-fp32 is left out: the network has no PReLU to rewrite"]
    elif fastest.form == PLAIN:
        notes = ["cpu-fp32 is left out: no float rewrite was faster than the plain graph"]
    else:
        models[CPU_FP32] = fastest.model
    if integer is not None:
        models[CPU_INT8] = integer
    timed = {PLAIN: fp32_model, **models}
    if quantised is not None:
        timed[_QDQ] = quantised.model
    taken = _milliseconds(timed, timing.crops, timing.budget_s / 4)
    return CpuArtefacts(models, _ratios(taken), tuple(notes), _rows(taken))


def _listed(milliseconds: Mapping[str, Mapping[int, float]]) -> str:
    return ", ".join(f"{form} {min(ms.items())[1]:.2f} ms" for form, ms in milliseconds.items())


def _milliseconds(
    models: Mapping[str, onnx.ModelProto], crops: ImageArray, budget_s: float
) -> dict[int, dict[str, float]]:
    """Return the median time of each model by batch size, all in turns, on one thread."""
    if len(models) == 1:
        return {}
    sessions = {name: EmbeddingSession(model, threads=1) for name, model in models.items()}
    taken = {}
    for batch, count in ROUNDS.items():
        pixels = np.resize(crops, (batch, *crops.shape[1:]))
        runs = {name: partial(session.run, pixels) for name, session in sessions.items()}
        taken[batch] = time_in_turns(runs, count, budget_s=budget_s)
    return taken


def _ratios(taken: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Return the speed of each model over the plain one, by its name in the manifest."""
    return {
        f"{name.replace('-', '_')}_speed_ratio{'' if batch == 1 else f'_batch{batch}'}": (
            ms[PLAIN] / ms[name]
        )
        for batch, ms in taken.items()
        for name in ms
        if name != PLAIN
    }


def _rows(taken: Mapping[int, Mapping[str, float]]) -> tuple[dict[str, Any], ...]:
    engine = f"ONNX Runtime {metadata.version('onnxruntime')}"
    names = {PLAIN: "fp32", _QDQ: "int8"}
    return tuple(
        {
            "engine": engine,
            "artefact": names.get(name, name),
            "threads": 1,
            "batch": batch,
            "ms": round(ms, 4),
        }
        for batch, of in taken.items()
        for name, ms in of.items()
    )
