"""The artefacts for CPUs, made from the same crops as INT8's and put through the same gates."""

from __future__ import annotations

from dataclasses import replace

import onnx

from edgeface.errors import ArchitectureError
from edgeface_export.cpu_artefacts import (
    CPU_INT8,
    SPEED_BUDGET_S,
    CpuArtefacts,
    Timing,
    build_cpu_artefacts,
)
from edgeface_export.gates import GateLimits, compare_embeddings, quantiser_gates
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.int8 import Int8Result, Int8Source, suited
from edgeface_export.quantise import QuantiseOptions
from edgeface_export.quantise.integer_fit import quantise_integer

__all__ = ["left_out", "make_cpu_artefacts"]

_TIMED_CROPS = 4


def make_cpu_artefacts(
    source: Int8Source,
    int8: Int8Result | None,
    *,
    options: QuantiseOptions,
    limits: GateLimits,
    budget_s: float = SPEED_BUDGET_S,
) -> CpuArtefacts:
    """Return the artefacts for CPUs that are faster than plain float and pass the gates.

    ``cpu-int8`` is made only beside an INT8 artefact, ``int8``. One that fails the quantiser's
    gates is left out, and a note says so: the Q/DQ artefact that passed is still there.
    ``budget_s`` is about how long artefacts are timed.

    Raises:
        GateFailedError: A float rewrite is not equal to the plain graph (an error of ours).
    """
    timing = Timing(source.crops.held_out[:_TIMED_CROPS], budget_s)
    if int8 is None:
        return build_cpu_artefacts(source.network, source.fp32, None, None, timing=timing)
    integer, why = _integer(source, int8, options)
    built = build_cpu_artefacts(source.network, source.fp32, int8.quantised, integer, timing=timing)
    if integer is None:
        built = replace(built, notes=(*built.notes, f"cpu-int8 is left out: {why}"))
    return _gated(built, source, limits)


def left_out(built: CpuArtefacts, why: str) -> CpuArtefacts:
    """Return ``built`` without ``cpu-int8``, with a note of the reason."""
    models = {name: kept for name, kept in built.models.items() if name != CPU_INT8}
    speed = tuple(row for row in built.speed if row["artefact"] != CPU_INT8)
    note = f"cpu-int8 is left out, it failed its gates: {why}"
    return replace(built, models=models, speed=speed, notes=(*built.notes, note))


def _integer(
    source: Int8Source, int8: Int8Result, options: QuantiseOptions
) -> tuple[onnx.ModelProto | None, str]:
    """Return the integer graph, or None and why there is none."""
    try:
        model = quantise_integer(
            source.network,
            source.crops.ranging,
            suited(options, source.crops),
            name=source.fp32.graph.name,
            activations=int8.quantised.activations,
        )
    except ArchitectureError as exc:
        return None, str(exc)
    return model, ""


def _gated(built: CpuArtefacts, source: Int8Source, limits: GateLimits) -> CpuArtefacts:
    model = built.models.get(CPU_INT8)
    if model is None:
        return built
    rows = EmbeddingSession(model).embed(source.crops.held_out)
    figures = compare_embeddings(source.expected, rows, faces=source.crops.show_faces)
    failed = [gate.sentence for gate in quantiser_gates(figures, limits) if not gate.passed]
    measured = {
        "cpu_int8_cosine_mean": figures.cosine_mean,
        "cpu_int8_cosine_p1": figures.cosine_p1,
        "cpu_int8_pair_change_p99": figures.pair_change_p99,
    }
    built = replace(built, figures=built.figures | measured)
    return left_out(built, "; ".join(failed)) if failed else built
