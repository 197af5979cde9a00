"""Builds a TensorRT engine from an ONNX graph: one way for TensorRT 10.3 to 11.

The network is strongly typed: what runs in INT8 or FP16 is what the graph says (Q/DQ pairs, float16
tensors), never a flag of the builder. TensorRT 11 knows no other way, TensorRT 10 knows this one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeface.backends.engine_cache import BatchProfile
from edgeface.backends.trt_packages import LogLines, log_lines
from edgeface.errors import BackendError, InvalidInputError

__all__ = ["BuildOptions", "BuiltEngine", "build_engine"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How an engine is built.

    ``workspace_mib`` bounds the scratch memory of its layers; a face model needs a tenth of the
    default. ``optimisation_level`` is TensorRT's, 0 to 5: higher tries more and builds longer; 3 is
    its default. ``timing_cache`` are TensorRT's notes of an earlier build on this GPU.
    """

    profile: BatchProfile = field(default_factory=BatchProfile)
    workspace_mib: int = 1024
    optimisation_level: int = 3
    timing_cache: bytes = b""

    def __post_init__(self) -> None:
        profile = self.profile
        if not 1 <= profile.smallest <= profile.tuned <= profile.largest:
            raise InvalidInputError(
                f"a batch profile must rise from 1, got {profile.smallest}, {profile.tuned}, "
                f"{profile.largest}"
            )
        if self.workspace_mib < 1 or not 0 <= self.optimisation_level <= 5:
            raise InvalidInputError(
                "workspace_mib must be at least 1 and optimisation_level in 0..5, got "
                f"{self.workspace_mib} and {self.optimisation_level}"
            )

    @property
    def settings(self) -> str:
        """What of this is part of an engine's key beside the profile."""
        return f"workspace {self.workspace_mib} MiB, level {self.optimisation_level}"


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialised engine and how it was made.

    ``layers`` counts the layers of the parsed network by kind, before fusion. ``log`` are the
    warnings of parser and builder. ``timing_cache`` makes the next build faster.
    """

    plan: bytes
    layers: Mapping[str, int]
    parse_s: float
    build_s: float
    timing_cache: bytes
    log: tuple[str, ...]


def build_engine(
    trt: Any, content: bytes, options: BuildOptions | None = None, *, where: str = "the model"
) -> BuiltEngine:
    """Return the engine that the module ``trt`` (``tensorrt``) builds from the ONNX ``content``.

    The caller has made sure that there is a GPU; TensorRT needs one to build. ``where`` names the
    model in errors.

    Raises:
        BackendError: TensorRT's parser or builder refuses the graph; every reason it gives is in
            the message.
    """
    options = options or BuildOptions()
    lines = log_lines(trt)
    lines.take()
    try:
        return _build(trt, content, options, lines, where)
    except BackendError:
        raise
    except Exception as exc:
        raise _refused(where, "cannot build an engine", [str(exc), *lines.take()]) from exc


def _build(
    trt: Any, content: bytes, options: BuildOptions, lines: LogLines, where: str
) -> BuiltEngine:
    started = time.monotonic()
    builder = trt.Builder(lines.logger)
    network = builder.create_network(_strongly_typed(trt))
    # The parser must outlive the build: it owns the weights that the network points to.
    parser = trt.OnnxParser(network, lines.logger)
    if not parser.parse(content):
        errors = [_parser_error(parser.get_error(k)) for k in range(parser.num_errors)]
        raise _refused(where, "cannot read the graph", errors)
    parsed = time.monotonic()
    config = _config(trt, builder, network, options, where)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(where, "built nothing", list(lines.take()))
    timing = config.get_timing_cache()
    return BuiltEngine(
        plan=bytes(plan),
        layers=_count_layers(network),
        parse_s=parsed - started,
        build_s=time.monotonic() - parsed,
        timing_cache=b"" if timing is None else bytes(timing.serialize()),
        log=lines.take(),
    )


def _strongly_typed(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    # A later TensorRT may drop the name, because every network is strongly typed by then.
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _config(trt: Any, builder: Any, network: Any, options: BuildOptions, where: str) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    config.builder_optimization_level = options.optimisation_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # Notes of another TensorRT or GPU are refused by TensorRT itself; then it starts with none.
    timing = config.create_timing_cache(options.timing_cache)
    if timing is None or not config.set_timing_cache(timing, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    config.add_optimization_profile(_profile(builder, network, options.profile, where))
    return config


def _profile(builder: Any, network: Any, batches: BatchProfile, where: str) -> Any:
    if network.num_inputs != 1:
        raise _refused(where, "has other than one input", [f"it has {network.num_inputs}"])
    tensor = network.get_input(0)
    batch, *crop = tuple(tensor.shape)
    if batch != -1 or -1 in crop:
        raise _refused(where, "has no free batch size", [f"its input is {(batch, *crop)}"])
    profile = builder.create_optimization_profile()
    sizes = (batches.smallest, batches.tuned, batches.largest)
    profile.set_shape(tensor.name, *((size, *crop) for size in sizes))
    return profile


def _count_layers(network: Any) -> dict[str, int]:
    kinds = (str(network.get_layer(k).type) for k in range(network.num_layers))
    return dict(Counter(kind.rpartition(".")[2].lower() for kind in kinds))


def _parser_error(error: Any) -> str:
    return f"node {error.node_name()!r} ({error.node_operator()}): {error.desc()}"


def _refused(where: str, what: str, reasons: list[str]) -> BackendError:
    said = "; ".join(" ".join(reason.split()) for reason in reasons if reason) or "no reason given"
    return BackendError(f"{where}: TensorRT {what}: {said}")
