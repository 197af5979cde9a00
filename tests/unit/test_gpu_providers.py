"""ONNX Runtime's GPU providers against a stand-in for ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from edgeface.backends import cuda_device, ort_gpu, rtx
from edgeface.backends.cuda_device import CudaProbe, CudaState
from edgeface.backends.ort_gpu import CudaBackend
from edgeface.backends.rtx import RtxBackend
from edgeface.bundle import Bundle
from edgeface.errors import BackendError, InvalidInputError
from edgeface.types import ImageArray
from tests.builders import make_bundle
from tests.fakes_cuda import GPU


class Session:
    def __init__(self, content: bytes, options: Any, providers: Any = None) -> None:
        self.options, self.providers = options, providers or []
        self.batches: list[int] = []

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="crops", type="tensor(uint8)", shape=["n", 112, 112, 3])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="embeddings", type="tensor(float)", shape=["n", 16])]

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.providers] + ["CPUExecutionProvider"]

    def run(self, outputs: Any, feed: dict[str, ImageArray]) -> list[Any]:
        crops = feed["crops"]
        self.batches.append(len(crops))
        return [crops.reshape(len(crops), -1)[:, :16].astype(np.float32)]


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.devices: list[Any] = []

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self.devices, self.provider_options = devices, options


class Runtime:
    """Stands for the module ``onnxruntime`` on a machine with one GPU."""

    InferenceSession, SessionOptions = Session, Options

    def __init__(self, version: str = "1.31.1", *, takes_gpu: bool = True) -> None:
        self.__version__ = version
        self.registered: list[tuple[str, str]] = []
        self.takes_gpu = takes_gpu

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        names = ["CPUExecutionProvider"] + ["Rtx"] * self.takes_gpu
        return [SimpleNamespace(ep_name=name) for name in names]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_bundle(tmp_path))


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "probe_cuda", lambda: CudaProbe(CudaState.READY, (GPU,)))
    package = SimpleNamespace(get_ep_name=lambda: "Rtx", get_library_path=lambda: "lib.so")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", package)


def put(monkeypatch: pytest.MonkeyPatch, runtime: Any) -> Any:
    for module in (ort_gpu, rtx):
        monkeypatch.setattr(module, "import_onnxruntime", lambda: runtime)
    return runtime


def crops(n: int) -> ImageArray:
    return np.random.default_rng(n).integers(0, 256, (n, 112, 112, 3)).astype(np.uint8)


def test_rtx_registers_once_and_takes_the_gpu_only(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = put(monkeypatch, Runtime())
    RtxBackend(bundle, "fp32")
    backend = RtxBackend(bundle, "fp32")
    assert runtime.registered == [("Rtx", "lib.so")]
    options = backend._session.options
    assert [device.ep_name for device in options.devices] == ["Rtx"]
    assert options.entries["session.disable_cpu_ep_fallback"] == "1"
    assert options.provider_options == {
        "nv_profile_min_shapes": "crops:1x112x112x3",
        "nv_profile_opt_shapes": "crops:1x112x112x3",
        "nv_profile_max_shapes": "crops:8x112x112x3",
    }
    assert backend.name == "onnxruntime 1.31.1 TensorRT-RTX, Fake GPU"


def test_rtx_cuts_large_batches(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Runtime())
    backend = RtxBackend(bundle, "fp32")
    faces = crops(19)
    assert np.array_equal(backend.run(faces), faces.reshape(19, -1)[:, :16])
    assert backend.run(crops(0)).shape == (0, 16)
    assert backend._session.batches == [8, 8, 3]


def test_rtx_says_when_no_card_suits(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Runtime(takes_gpu=False))
    with pytest.raises(BackendError, match="takes no GPU of this machine"):
        RtxBackend(bundle, "fp32")


def test_rtx_wants_an_onnx_runtime_with_plug_ins(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, Runtime("1.23.2"))
    with pytest.raises(BackendError, match=r"1\.23\.2 cannot load TensorRT-RTX, 1\.24"):
        RtxBackend(bundle, "fp32")


def test_a_library_that_does_not_load_is_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = put(monkeypatch, Runtime())

    def fail(name: str, path: str) -> None:
        raise RuntimeError("Failed to load\nlibrary")

    runtime.register_execution_provider_library = fail
    with pytest.raises(BackendError, match="cannot load TensorRT-RTX: Failed to load library"):
        RtxBackend(bundle, "fp32")


def test_cuda_runs_on_the_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, Runtime())
    backend = CudaBackend(bundle, "fp32")
    assert backend._session.providers == [("CUDAExecutionProvider", {"device_id": "0"})]
    assert backend.name == "onnxruntime 1.31.1 CUDA, Fake GPU"
    assert backend.run(crops(9)).shape == (9, 16)
    assert backend._session.batches == [9]
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(crops(1))


def test_a_cuda_provider_that_gave_way_to_the_cpu_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, Runtime())
    monkeypatch.setattr(Session, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="does not load; the CUDA and cuDNN libraries"):
        CudaBackend(bundle, "fp32")


@pytest.mark.parametrize("kind", [RtxBackend, CudaBackend])
def test_wrong_crops_threads_and_models_are_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    put(monkeypatch, Runtime())
    with pytest.raises(InvalidInputError, match="at least 1, got 0"):
        kind(bundle, "fp32", threads=0)
    with pytest.raises(InvalidInputError, match="crops must be uint8"):
        kind(bundle, "fp32").run(crops(1)[..., :2])
    monkeypatch.setattr(Session, "get_outputs", lambda self: [])
    with pytest.raises(BackendError, match=r"outputs are none, wanted float32 \['n', 16\]"):
        kind(bundle, "fp32")
