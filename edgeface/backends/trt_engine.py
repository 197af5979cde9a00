"""From a graph to a verified engine on this GPU, and from a cached engine to a running one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.backends.crop_contract import CropContract
from edgeface.backends.cuda_device import CudaDevice, require_cuda
from edgeface.backends.cuda_runtime import CudaRuntime
from edgeface.backends.engine_cache import BatchProfile, CachedEngine, EngineCache, EngineKey
from edgeface.backends.engine_gate import (
    PROBE_CROPS,
    AgreementLimits,
    Rows,
    check_agreement,
    measure_agreement,
    probe_crops,
    reference_rows,
)
from edgeface.backends.trt_build import BuildOptions, BuiltEngine, build_engine
from edgeface.backends.trt_executor import EngineIO, TrtExecutor
from edgeface.backends.trt_packages import import_cuda_runtime, import_tensorrt, log_lines
from edgeface.bundle import Artefact, Bundle
from edgeface.errors import BackendError, InvalidInputError
from edgeface.types import ImageArray, Size

__all__ = [
    "ARTEFACT_PRECISIONS",
    "TensorRtOptions",
    "TrtMachine",
    "Truth",
    "VerifiedEngine",
    "build_verified",
    "load_fastest",
    "open_machine",
    "open_plan",
    "precisions_of",
]

ARTEFACT_PRECISIONS = {"fp32": ("fp32", "fp16"), "int8": ("int8", "int8-fp16")}
"""What each artefact can be built as: first as its graph says, then with float16 for float32."""

_FLOAT32 = "fp32"
_WARM_UPS, _TIMED = 10, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtOptions:
    """How engines are built, kept and run.

    ``device`` is the GPU's index. Batches above ``profile``'s largest are cut. ``cache`` is the
    folder of engines, by default the one of :class:`~edgeface.backends.engine_cache.EngineCache`.
    """

    device: int = 0
    profile: BatchProfile = field(default_factory=BatchProfile)
    workspace_mib: int = 1024
    optimisation_level: int = 3
    cuda_graphs: bool = True
    cache: Path | None = None
    limits: AgreementLimits = field(default_factory=AgreementLimits)

    def __post_init__(self) -> None:
        if self.profile.smallest != 1:
            raise InvalidInputError(
                f"a face may come alone: the smallest batch must be 1, got {self.profile.smallest}"
            )
        self.build_options()

    def build_options(self, timing_cache: bytes = b"") -> BuildOptions:
        """Return what of this the builder is told."""
        return BuildOptions(
            profile=self.profile,
            workspace_mib=self.workspace_mib,
            optimisation_level=self.optimisation_level,
            timing_cache=timing_cache,
        )


@dataclass(frozen=True, slots=True)
class TrtMachine:
    """TensorRT and CUDA on one GPU, all of it at hand."""

    trt: Any
    cuda: CudaRuntime
    device: CudaDevice
    options: TensorRtOptions

    @property
    def cache(self) -> EngineCache:
        """The engines of this user."""
        return EngineCache(self.options.cache)

    def key(self, artefact: Artefact, precision: str) -> EngineKey:
        """Return what an engine of ``artefact`` in ``precision`` is stored under here."""
        return EngineKey.of(
            self.device,
            tensorrt=str(self.trt.__version__),
            artefact_sha256=artefact.sha256,
            precision=precision,
            profile=self.options.profile,
            settings=self.options.build_options().settings,
        )


@dataclass(frozen=True, slots=True)
class Truth:
    """What an engine is held against: its artefact's own graph, and float32 where that is INT8."""

    graph: Rows
    float32: Rows | None

    @classmethod
    def of(cls, bundle: Bundle, artefact: Artefact) -> Truth:
        """Return the graphs of ``bundle`` that an engine of ``artefact`` must agree with.

        Raises:
            BackendError: ONNX Runtime cannot load one.
            MissingDependencyError: ONNX Runtime is not installed.
        """

        def rows(name: str) -> Rows:
            where = f"{bundle.path.name}, artefact {name!r}"
            return reference_rows(bundle.read(name), where=where)

        names = {entry.name for entry in bundle.manifest.artefacts}
        anchored = artefact.name != _FLOAT32 and _FLOAT32 in names
        return cls(rows(artefact.name), rows(_FLOAT32) if anchored else None)


@dataclass(frozen=True, slots=True)
class VerifiedEngine:
    """An engine that passed gate C: running, and what was measured of it."""

    executor: TrtExecutor
    built: BuiltEngine
    cached: CachedEngine


def open_machine(options: TensorRtOptions) -> TrtMachine:
    """Return TensorRT on the GPU of ``options``.

    The driver is asked first, for TensorRT ends the process where there is no GPU.

    Raises:
        BackendError: There is no driver or GPU, or a package does not load.
        MissingDependencyError: ``tensorrt`` or ``cuda-python`` is not installed.
    """
    device = require_cuda(options.device)
    trt = import_tensorrt()
    return TrtMachine(trt, CudaRuntime(import_cuda_runtime(), device.index), device, options)


def precisions_of(artefact: Artefact) -> tuple[str, ...]:
    """Return what ``artefact`` can be built as.

    Raises:
        BackendError: It is made for another engine.
    """
    if artefact.name not in ARTEFACT_PRECISIONS:
        known = " and ".join(ARTEFACT_PRECISIONS)
        raise BackendError(f"TensorRT runs the artefacts {known}, not {artefact.name!r}")
    return ARTEFACT_PRECISIONS[artefact.name]


def load_fastest(machine: TrtMachine, artefact: Artefact) -> tuple[EngineKey, CachedEngine] | None:
    """Return the fastest believed engine of ``artefact`` on this GPU, None without one.

    Engines for batches of other sizes count, as `edgeface engine build` may have been told.

    Raises:
        BackendError: The key of the cache is not this user's alone, or the artefact is made for
            another inference engine.
    """
    own = machine.key(artefact, precisions_of(artefact)[0])
    found = machine.cache.find(own)
    return min(found, key=lambda pair: pair[1].figures.get("latency_ms", np.inf), default=None)


def build_verified(
    machine: TrtMachine,
    content: bytes,
    key: EngineKey,
    contract: CropContract,
    truth: Truth,
) -> VerifiedEngine:
    """Return the engine built from ``content``, after gate C against ``truth``; it is not stored.

    Raises:
        BackendError: TensorRT refuses the graph or cannot run the engine.
        GateFailedError: The engine computes something else.
    """
    cache = machine.cache
    options = machine.options.build_options(cache.load_timing(key))
    built = build_engine(machine.trt, content, options, where=contract.where)
    executor = open_plan(machine, built.plan, contract, key.profile)
    try:
        height, width, _ = contract.crop_shape
        count = max(PROBE_CROPS, machine.options.profile.largest)
        crops = probe_crops(count, Size(width, height))
        found = measure_agreement(executor.run, truth.graph, crops, anchor=truth.float32)
        check_agreement(found, machine.options.limits, where=contract.where)
        latency_ms = 1e3 * _latency_s(executor, crops[:1])
        batch_ms = 1e3 * _latency_s(executor, crops[: machine.options.profile.largest])
    except Exception:
        executor.close()
        raise
    if built.timing_cache:
        cache.store_timing(key, built.timing_cache)
    figures = {
        "cosine_mean": found.cosine_mean,
        "cosine_worst": found.cosine_worst,
        "latency_ms": latency_ms,
        "batch_latency_ms": batch_ms,
        **({"loss_ratio": found.loss_ratio} if np.isfinite(found.loss_ratio) else {}),
    }
    return VerifiedEngine(executor, built, CachedEngine(built.plan, figures))


def open_plan(
    machine: TrtMachine, plan: bytes, contract: CropContract, profile: BatchProfile
) -> TrtExecutor:
    """Return what runs ``plan``, which must come from this process or from a sealed file.

    Raises:
        BackendError: TensorRT refuses it, or it has another input or output than ``contract``.
    """
    trt = machine.trt
    lines = log_lines(trt)
    lines.take()
    runtime = trt.Runtime(lines.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        said = "; ".join(lines.take()) or "no reason given"
        raise BackendError(
            f"{contract.where}: TensorRT cannot load the engine: {said}; "
            "`edgeface engine clear` makes way for a new one"
        )
    io = _engine_io(trt, engine, contract, profile.largest)
    return TrtExecutor(
        engine,
        io,
        machine.cuda,
        mapped=machine.device.integrated,
        graphs=machine.options.cuda_graphs,
        keep_alive=runtime,
    )


def _engine_io(trt: Any, engine: Any, contract: CropContract, largest: int) -> EngineIO:
    kinds = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}
    names: dict[bool, list[str]] = {True: [], False: []}
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        names[engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT].append(name)
    sides = [
        [
            (kinds.get(engine.get_tensor_dtype(name), "another type"), _shape(engine, name))
            for name in names[side]
        ]
        for side in (True, False)
    ]
    contract.check_model(*sides)
    return EngineIO(
        names[True][0], names[False][0], contract.crop_shape, contract.embedding_size, largest
    )


def _shape(engine: Any, name: str) -> tuple[int, ...]:
    return tuple(int(size) for size in engine.get_tensor_shape(name))


def _latency_s(executor: TrtExecutor, crops: ImageArray) -> float:
    """Return the median time of these crops in one batch, copies included."""
    times = []
    for _ in range(_WARM_UPS + _TIMED):
        started = time.perf_counter()
        executor.run(crops)
        times.append(time.perf_counter() - started)
    return float(np.median(times[_WARM_UPS:]))
