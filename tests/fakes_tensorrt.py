"""TensorRT without TensorRT: strict about names, real about data.

The fakes know only names that the bindings of TensorRT 10.16 and 11.4 share; any other is an
error. A fake engine runs its ONNX graph on the CPU, on the memory whose addresses it was given, so
that what comes out has gone all the way that it would go on a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx  # noqa: TID253 - in tests only

from tests.fakes_cuda import NAMES, FakeCuda

_MAGIC = b"FAKEPLAN"


class Strict:
    """Has only those public names that both versions of the class ``_class`` have."""

    _class = ""

    def __getattribute__(self, name: str) -> Any:
        _require(type(self)._class, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        _require(type(self)._class, name)
        super().__setattr__(name, value)


def _require(kind: str, name: str) -> None:
    if not name.startswith("_") and name not in NAMES["tensorrt"]["common"][kind]:
        raise AssertionError(f"{kind or 'tensorrt'}.{name} is not in both TensorRT 10.16 and 11.4")


class Member(int):
    """A member of an enumeration; equal and hashed by its full name."""

    full: str

    def __new__(cls, value: int, full: str) -> Member:
        member = super().__new__(cls, value)
        member.full = full
        return member

    def __str__(self) -> str:
        return self.full

    def __hash__(self) -> int:
        return hash(self.full)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and other.full == self.full


def enumeration(kind: str) -> Any:
    names = NAMES["tensorrt"]["common"][kind]
    members = {name: Member(k, f"{kind}.{name}") for k, name in enumerate(names)}
    return type(kind, (Strict,), {"_class": kind, **members})()


class Logger(Strict):
    """Base of the logger, which TensorRT calls with lines."""

    _class = "ILogger"
    VERBOSE, INFO, WARNING, ERROR, INTERNAL_ERROR = range(5)

    def log(self, severity: Any, text: str) -> None: ...


class Tensor(Strict):
    _class = "ITensor"

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape


class Layer(Strict):
    _class = "ILayer"

    def __init__(self, kind: str) -> None:
        self.type = f"LayerType.{kind}"


class Network(Strict):
    _class = "INetworkDefinition"

    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._content = b""
        self._inputs: list[Tensor] = []
        self._layers: list[Layer] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("num_inputs", "num_layers"):
            _require("INetworkDefinition", name)
            return len(self._inputs if name == "num_inputs" else self._layers)
        return super().__getattribute__(name)

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_layer(self, index: int) -> Layer:
        return self._layers[index]


class ParserError(Strict):
    _class = "ParserError"

    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return "conv1"

    def node_operator(self) -> str:
        return "Conv"


class Config(Strict):
    _class = "IBuilderConfig"

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self._pools: dict[Member, int] = {}
        self._profiles: list[Profile] = []
        self._timing: Timing | None = None

    def set_memory_pool_limit(self, pool: Member, size: int) -> None:
        self._pools[pool] = size

    def create_timing_cache(self, content: bytes) -> Timing:
        return Timing(content)

    def set_timing_cache(self, cache: Timing, ignore_mismatch: bool) -> bool:
        if cache._content and not cache._content.startswith(b"timing"):
            return False
        self._timing = cache
        return True

    def get_timing_cache(self) -> Timing | None:
        return self._timing

    def add_optimization_profile(self, profile: Profile) -> int:
        self._profiles.append(profile)
        return 0


class Timing(Strict):
    _class = "ITimingCache"

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return b"timing" + self._content


class Profile(Strict):
    _class = "IOptimizationProfile"

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self._name, self._shapes = name, shapes


class Builder(Strict):
    _class = "Builder"

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt

    def create_network(self, flags: int) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config(self._trt)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        self._trt._builds.append((network, config))
        shapes = config._profiles[0]._shapes
        if self._trt._builds_nothing:
            return None
        return _MAGIC + bytes([shapes[0][0], shapes[2][0]]) + network._content


class Parser(Strict):
    _class = "OnnxParser"

    def __init__(self, network: Network) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    def __getattribute__(self, name: str) -> Any:
        return len(self._errors) if name == "num_errors" else super().__getattribute__(name)

    def parse(self, content: bytes) -> bool:
        try:
            model = onnx.load_model_from_string(content)
        except Exception as error:  # noqa: BLE001 - what protobuf raises is its own affair
            self._errors = [ParserError(f"no\n model: {error}"), ParserError("a second reason")]
            return False
        self._network._content = content
        for entry in model.graph.input:
            dims = [d.dim_value or -1 for d in entry.type.tensor_type.shape.dim]
            self._network._inputs.append(Tensor(entry.name, tuple(dims)))
        self._network._layers += [Layer(node.op_type.upper()) for node in model.graph.node]
        return True

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class Engine(Strict):
    _class = "ICudaEngine"

    def __init__(self, trt: FakeTensorRt, plan: bytes) -> None:
        import onnxruntime

        self._trt = trt
        self._smallest, self._largest = plan[len(_MAGIC)], plan[len(_MAGIC) + 1]
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        content = plan[len(_MAGIC) + 2 :]
        self._session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        self._sides = {
            **{x.name: ("INPUT", x) for x in self._session.get_inputs()},
            **{x.name: ("OUTPUT", x) for x in self._session.get_outputs()},
        }

    def __getattribute__(self, name: str) -> Any:
        return len(self._sides) if name == "num_io_tensors" else super().__getattribute__(name)

    def get_tensor_name(self, index: int) -> Any:
        return list(self._sides)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return getattr(self._trt.TensorIOMode, self._sides[name][0])

    def get_tensor_dtype(self, name: str) -> Any:
        kinds = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT"}
        return getattr(self._trt.DataType, kinds[self._sides[name][1].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else -1 for d in self._sides[name][1].shape)

    def create_execution_context(self) -> Context:
        return Context(self)


class Context(Strict):
    _class = "IExecutionContext"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return self._engine._smallest <= shape[0] <= self._engine._largest

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        trt, shape = self._engine._trt, self._shape
        trt._cuda.queue(stream, lambda: self._compute(shape))
        return not trt._refuses_to_run

    def _compute(self, shape: tuple[int, ...]) -> None:
        assert shape == self._shape, "a recorded graph runs with the shapes of its recording"
        source, target = self._engine._sides
        crops = _memory(self._addresses[source], int(np.prod(shape))).reshape(shape)
        rows = self._engine._session.run(None, {source: crops.copy()})[0]
        rows = self._engine._trt._spoil(rows).astype(np.float32)
        _memory(self._addresses[target], rows.nbytes)[:] = rows.view(np.uint8).reshape(-1)


class Runtime(Strict):
    _class = "Runtime"

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        self._trt._deserialised.append(plan)
        return Engine(self._trt, plan) if plan.startswith(_MAGIC) else None


class FakeTensorRt(Strict):
    """Stands for the module ``tensorrt``; ``spoil`` changes the rows that its engines give."""

    _class = ""
    __version__ = "11.4.0.106"
    ILogger = Logger

    def __init__(self, cuda: FakeCuda, *, spoil: Callable[[Any], Any] = lambda rows: rows) -> None:
        self._cuda, self._spoil = cuda, spoil
        self._builds: list[tuple[Network, Config]] = []
        self._deserialised: list[bytes] = []
        self._builds_nothing = self._refuses_to_run = False
        for kind in (
            "NetworkDefinitionCreationFlag",
            "MemoryPoolType",
            "ProfilingVerbosity",
            "DataType",
            "TensorIOMode",
            "BuilderFlag",
        ):
            setattr(self, kind, enumeration(kind))

    def Builder(self, logger: Logger) -> Builder:  # noqa: N802 - TensorRT's name
        return Builder(self)

    def OnnxParser(self, network: Network, logger: Logger) -> Parser:  # noqa: N802
        return Parser(network)

    def Runtime(self, logger: Logger) -> Runtime:  # noqa: N802
        return Runtime(self)


def _memory(address: int, size: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
