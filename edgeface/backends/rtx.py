"""TensorRT-RTX for desktop cards: a provider that pip brings and ONNX Runtime loads.

No engine is built ahead or kept: TensorRT-RTX compiles for the card when the session is opened.
"""

from __future__ import annotations

import importlib
from functools import cache, partial
from typing import Any

from edgeface.backends.cuda_device import CudaDevice, require_cuda
from edgeface.backends.ort_gpu import GpuSession, gpu_session_options, import_onnxruntime
from edgeface.bundle import Bundle, Manifest
from edgeface.errors import BackendError, MissingDependencyError

__all__ = ["RtxBackend"]

_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
_EXTRA = "rtx"
_OLDEST_ORT = (1, 24)
_LARGEST_BATCH = 8


class RtxBackend(GpuSession):
    """ONNX Runtime with TensorRT-RTX; INT8 runs as INT8. Batches above 8 are cut.

    Raises:
        BackendError: There is no GPU, ONNX Runtime is older than 1.24, or the provider does not
            load or takes no GPU of this machine.
        MissingDependencyError: ONNX Runtime or the provider's package is not installed.
    """

    def __init__(
        self, bundle: Bundle, artefact: str = "int8", *, threads: int | None = None
    ) -> None:
        device = require_cuda()
        runtime = import_onnxruntime()
        devices = _devices(runtime)
        opener = partial(_open, runtime, devices, device, bundle.manifest)
        super().__init__(bundle, artefact, threads, opener, largest_batch=_LARGEST_BATCH)


@cache
def _provider_name(runtime: Any) -> str:
    """Return the provider's name after its library was registered, once per process."""
    numbers = runtime.__version__.split(".")[:2]
    if tuple(int(part) for part in numbers) < _OLDEST_ORT:
        raise BackendError(
            f"onnxruntime {runtime.__version__} cannot load TensorRT-RTX, 1.24 or newer can; "
            "pip install --upgrade onnxruntime"
        )
    try:
        package = importlib.import_module(_MODULE)
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(_PACKAGE, extra=_EXTRA) from exc
    name = str(package.get_ep_name())
    try:
        runtime.register_execution_provider_library(name, package.get_library_path())
    except Exception as exc:
        said = " ".join(str(exc).split())
        raise BackendError(f"ONNX Runtime cannot load TensorRT-RTX: {said}") from exc
    return name


def _devices(runtime: Any) -> list[Any]:
    name = _provider_name(runtime)
    found = [each for each in runtime.get_ep_devices() if each.ep_name == name]
    if not found:
        raise BackendError(
            "TensorRT-RTX takes no GPU of this machine; it wants a GeForce RTX or RTX PRO card "
            "of the 30 series or newer and a driver for CUDA 13; use the backend tensorrt or cuda"
        )
    return found[:1]


def _open(
    runtime: Any,
    devices: list[Any],
    device: CudaDevice,
    manifest: Manifest,
    content: bytes,
    where: str,
) -> tuple[Any, str]:
    options = gpu_session_options(runtime)
    try:
        options.add_provider_for_devices(devices, _profile(manifest))
        session = runtime.InferenceSession(content, options)
    except Exception as exc:
        said = " ".join(str(exc).split())
        raise BackendError(f"{where}: TensorRT-RTX refuses it: {said}") from exc
    return session, f"onnxruntime {runtime.__version__} TensorRT-RTX, {device.name}"


def _profile(manifest: Manifest) -> dict[str, str]:
    """Return the sizes of batch to compile for, in the provider's words."""
    size = manifest.crop_size
    crop = f"{size.height_px}x{size.width_px}x3"
    batches = {"min": 1, "opt": 1, "max": _LARGEST_BATCH}
    return {f"nv_profile_{end}_shapes": f"crops:{n}x{crop}" for end, n in batches.items()}
