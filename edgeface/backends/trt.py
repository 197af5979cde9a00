"""TensorRT on an NVIDIA GPU: engines are built on the device, verified, and cached."""

from __future__ import annotations

import logging

import numpy as np

from edgeface.backends.crop_contract import CropContract
from edgeface.backends.engine_cache import EngineKey
from edgeface.backends.trt_engine import (
    TensorRtOptions,
    TrtMachine,
    Truth,
    build_verified,
    load_fastest,
    open_machine,
    open_plan,
    precisions_of,
)
from edgeface.backends.trt_executor import TrtExecutor
from edgeface.bundle import Artefact, Bundle
from edgeface.errors import BackendError, GateFailedError, InvalidInputError
from edgeface.types import FloatArray, ImageArray

__all__ = ["TensorRtBackend", "fastest_built_artefact"]

_log = logging.getLogger("edgeface.tensorrt")


class TensorRtBackend:
    """Runs one artefact of a bundle with TensorRT; see :class:`edgeface.backends.base.Backend`.

    The fastest engine that `edgeface engine build` left in the cache for this artefact, GPU, driver
    and TensorRT is taken. Without one, the artefact's own graph is built, compared with ONNX
    Runtime (gate C) and kept; that takes a minute or more, once. Engines with float16 for what is
    float32 in the graph are made by the command only, because the runtime does not rewrite graphs.

    Args:
        bundle: The opened bundle; the artefact's hash is checked over the bytes that are built.
        artefact: ``fp32`` or ``int8``.
        threads: Checked, and of no effect on a GPU.
        options: How engines are built, kept and run.

    Raises:
        BackendError: There is no driver, no GPU, TensorRT refuses the graph, or the engine it built
            computes something else than the graph (gate C).
        MissingDependencyError: ``tensorrt``, ``cuda-python`` or ``onnxruntime`` is not installed.
        InvalidInputError: ``threads`` is below 1.
    """

    def __init__(
        self,
        bundle: Bundle,
        artefact: str = "int8",
        *,
        threads: int | None = None,
        options: TensorRtOptions | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {threads}")
        entry = bundle.artefact(artefact)
        precisions_of(entry)
        machine = open_machine(options or TensorRtOptions())
        where = f"{bundle.path.name}, artefact {artefact!r}"
        self._contract = CropContract.of(bundle.manifest, where)
        self.artefact = artefact
        self.precision, self._executor = _ready(machine, bundle, entry, self._contract)
        # One crop of black shows whether CUDA graphs work, and the first face need not wait.
        try:
            self._executor.run(np.zeros((1, *self._contract.crop_shape), np.uint8))
        except BackendError:
            self._executor.close()
            raise
        problem = self._executor.graph_problem
        self.name = (
            f"tensorrt {machine.trt.__version__} {self.precision}, {machine.device.name}"
            + (f" (no CUDA graphs: {problem})" if problem else "")
        )

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, embedding size) float32 rows for (n, height, width, 3) uint8 RGB crops.

        Raises:
            InvalidInputError: The crops have another type or shape.
            BackendError: The engine failed, or was closed.
        """
        crops = self._contract.check_crops(crops)
        return self._executor.run(crops)

    def close(self) -> None:
        """Free the engine; may be called twice."""
        self._executor.close()


def fastest_built_artefact(bundle: Bundle, options: TensorRtOptions | None = None) -> str | None:
    """Return the artefact whose engine in the cache is the fastest on this GPU, None without one.

    Raises:
        BackendError, MissingDependencyError: As for :class:`TensorRtBackend`.
    """
    machine = open_machine(options or TensorRtOptions())
    best: tuple[float, str] | None = None
    for entry in bundle.manifest.artefacts:
        found = load_fastest(machine, entry) if entry.name in ("fp32", "int8") else None
        if found is not None:
            latency = found[1].figures.get("latency_ms", float("inf"))
            best = min(best or (latency, entry.name), (latency, entry.name))
    return None if best is None else best[1]


def _ready(
    machine: TrtMachine, bundle: Bundle, entry: Artefact, contract: CropContract
) -> tuple[str, TrtExecutor]:
    """Return (precision, running engine): cached, or built now."""
    cached = load_fastest(machine, entry)
    if cached is None:
        own = machine.key(entry, precisions_of(entry)[0])
        with machine.cache.building(own):
            # Another process may have built it while this one waited.
            cached = load_fastest(machine, entry)
            if cached is None:
                return own.precision, _build(machine, bundle, entry, contract, own)
    key, engine = cached
    return key.precision, open_plan(machine, engine.plan, contract, key.profile)


def _build(
    machine: TrtMachine, bundle: Bundle, entry: Artefact, contract: CropContract, key: EngineKey
) -> TrtExecutor:
    _log.warning("%s: building a TensorRT engine, once; this can take minutes", contract.where)
    truth = Truth.of(bundle, entry)
    try:
        engine = build_verified(machine, bundle.read(entry.name), key, contract, truth)
    except GateFailedError as exc:
        raise BackendError(str(exc)) from exc
    machine.cache.store(key, engine.cached)
    return engine.executor
