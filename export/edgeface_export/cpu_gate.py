"""The artefacts for CPUs, made from the same crops as INT8's and put through the same gates."""

from __future__ import annotations

from dataclasses import replace

import onnx

from edgeface_export.cpu_artefacts import (
    CPU_INT8,
    CpuArtefacts,
    IntegerSource,
    build_cpu_artefacts,
)
from edgeface_export.gates import GateLimits, QuantiserFigures, compare_embeddings, quantiser_gates
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.int8 import Int8Result, Int8Source
from edgeface_export.quantise import QuantiseOptions
from edgeface_export.quantise.data_free import data_free_ranges
from edgeface_export.quantise.ranges import TensorRange, collect_ranges

__all__ = ["make_cpu_artefacts"]


def make_cpu_artefacts(
    source: Int8Source,
    int8: Int8Result | None,
    *,
    options: QuantiseOptions,
    limits: GateLimits,
) -> CpuArtefacts:
    """Return the artefacts for CPUs that are faster than plain float and pass the gates.

    ``cpu-int8`` is made only beside an INT8 artefact, ``int8``. One that fails the quantiser's
    gates is left out, and a note says so: the Q/DQ artefact that passed is still there.

    Raises:
        GateFailedError: A float rewrite is not equal to the plain graph (an error of ours).
    """
    if int8 is None:
        return build_cpu_artefacts(source.network, source.fp32, None, None)
    integer = IntegerSource.of(source.network, crops=source.ranging)
    built = build_cpu_artefacts(
        source.network,
        source.fp32,
        int8.quantised,
        _ranges(integer, source, options),
        source=integer,
        crops=source.held_out[:8],
    )
    return _gated(built, source, limits)


def _ranges(
    integer: IntegerSource, source: Int8Source, options: QuantiseOptions
) -> dict[str, TensorRange]:
    if not integer.tensors:
        return {}
    if source.ranging is None:
        return data_free_ranges(integer.network, integer.tensors, deviations=options.deviations)
    return collect_ranges(
        integer.model,
        integer.tensors,
        source.ranging,
        method=options.method,
        percentile=options.percentile,
    )


def _gated(built: CpuArtefacts, source: Int8Source, limits: GateLimits) -> CpuArtefacts:
    model = built.models.get(CPU_INT8)
    if model is None:
        return built
    figures = _compare(model, source)
    failed = [gate.sentence for gate in quantiser_gates(figures, limits) if not gate.passed]
    measured = built.figures | {
        "cpu_int8_cosine_mean": figures.cosine_mean,
        "cpu_int8_cosine_p1": figures.cosine_p1,
        "cpu_int8_pair_change_p99": figures.pair_change_p99,
    }
    if not failed:
        return replace(built, figures=measured)
    note = "cpu-int8 is left out, it failed its gates: " + "; ".join(failed)
    models = {name: kept for name, kept in built.models.items() if name != CPU_INT8}
    return CpuArtefacts(models, measured, (*built.notes, note))


def _compare(model: onnx.ModelProto, source: Int8Source) -> QuantiserFigures:
    rows = [EmbeddingSession(graph).embed(source.held_out) for graph in (source.fp32, model)]
    return compare_embeddings(rows[0], rows[1], faces=source.ranging is not None)
