"""Builds a bundle's artefacts in each precision, verifies and times them, and keeps the fastest.

INT8 is not faster by nature: layers that stay in float32 between INT8 ones, and kernels that do
not exist for a GPU, can make it slower than float16. So all are built and the device decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from edgeface.backends.crop_contract import CropContract
from edgeface.backends.trt_engine import (
    ARTEFACT_PRECISIONS,
    TensorRtOptions,
    TrtMachine,
    Truth,
    VerifiedEngine,
    build_verified,
    open_machine,
    precisions_of,
)
from edgeface.bundle import Artefact, Bundle
from edgeface.errors import BackendError, GateFailedError, InvalidInputError
from edgeface_export.graph.half import to_half
from edgeface_export.progress import Progress, no_progress

__all__ = ["Candidate", "EngineReport", "build_engines"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An artefact in one precision: what was measured of its engine, or the ``problem`` it has.

    ``figures`` are those of :class:`~edgeface.backends.engine_cache.CachedEngine`, ``layers`` the
    kinds of layer of the network as parsed, ``log`` what TensorRT warned of. ``kept`` says that it
    is the fastest of its artefact and now in the cache.
    """

    artefact: str
    precision: str
    figures: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)
    build_s: float = 0.0
    size_bytes: int = 0
    log: tuple[str, ...] = ()
    problem: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class EngineReport:
    """Every candidate, in the order they were built; ``fastest`` is the best of those kept."""

    tensorrt: str
    gpu: str
    candidates: tuple[Candidate, ...]
    fastest: Candidate


def build_engines(
    bundle: Bundle,
    options: TensorRtOptions | None = None,
    *,
    progress: Progress = no_progress,
) -> EngineReport:
    """Return what was built of ``bundle`` on this machine's GPU.

    Of each artefact, the fastest engine that passes gate C takes the place of what the cache had of
    it; the backend ``tensorrt`` finds it there.

    Raises:
        BackendError: There is no driver or GPU, or a package does not load.
        MissingDependencyError: ``tensorrt``, ``cuda-python`` or ``onnxruntime`` is not installed.
        GateFailedError: No candidate could be built and passed; the reason of each is given.
    """
    machine = open_machine(options or TensorRtOptions())
    entries = [e for e in bundle.manifest.artefacts if e.name in ARTEFACT_PRECISIONS]
    pairs = [(entry, precision) for entry in entries for precision in precisions_of(entry)]
    truths = {entry.name: Truth.of(bundle, entry) for entry in entries}
    found: list[Candidate] = []
    best: dict[str, tuple[int, VerifiedEngine]] = {}
    for entry, precision in progress("building engines", pairs):
        built = _try(machine, bundle, entry, precision, truths[entry.name])
        found.append(built if isinstance(built, Candidate) else _described(entry, precision, built))
        if isinstance(built, VerifiedEngine):
            built.executor.close()
            current = best.get(entry.name)
            if current is None or _latency(built) < _latency(current[1]):
                best[entry.name] = len(found) - 1, built
    if not best:
        reasons = "; ".join(f"{each.precision}: {each.problem}" for each in found)
        raise GateFailedError(f"{bundle.path.name}: no engine can be used: {reasons}")
    for index, engine in best.values():
        entry, precision = pairs[index]
        machine.cache.replace(machine.key(entry, precision), engine.cached)
        found[index] = _described(entry, precision, engine, kept=True)
    fastest = min(
        (each for each in found if each.kept), key=lambda each: each.figures["latency_ms"]
    )
    return EngineReport(str(machine.trt.__version__), machine.device.name, tuple(found), fastest)


def _try(
    machine: TrtMachine, bundle: Bundle, entry: Artefact, precision: str, truth: Truth
) -> VerifiedEngine | Candidate:
    """Return the engine, or the candidate with the problem it has."""
    contract = CropContract.of(bundle.manifest, f"{bundle.path.name}, {precision}")
    try:
        content = _graph(bundle.read(entry.name), precision, native=precisions_of(entry)[0])
        return build_verified(machine, content, machine.key(entry, precision), contract, truth)
    except (BackendError, GateFailedError, InvalidInputError) as error:
        return Candidate(entry.name, precision, problem=str(error))


def _graph(content: bytes, precision: str, *, native: str) -> bytes:
    """Return the graph as it is, or with float16 for its float32."""
    if precision == native:
        return content
    half = to_half(onnx.load_model_from_string(content))
    return bytes(half.SerializeToString(deterministic=True))


def _described(
    entry: Artefact, precision: str, engine: VerifiedEngine, *, kept: bool = False
) -> Candidate:
    built = engine.built
    return Candidate(
        artefact=entry.name,
        precision=precision,
        figures=engine.cached.figures,
        layers=built.layers,
        build_s=built.parse_s + built.build_s,
        size_bytes=len(built.plan),
        log=built.log,
        kept=kept,
    )


def _latency(engine: VerifiedEngine) -> float:
    return engine.cached.figures["latency_ms"]
