"""ONNX Runtime on an NVIDIA GPU through its own CUDA provider, and what all GPU sessions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeface.backends.crop_contract import CropContract
from edgeface.backends.cuda_device import CudaDevice, require_cuda
from edgeface.bundle import Bundle
from edgeface.errors import BackendError, InvalidInputError, MissingDependencyError
from edgeface.types import FloatArray, ImageArray

__all__ = ["CudaBackend", "GpuSession", "gpu_session_options", "import_onnxruntime"]

_PROVIDER = "CUDAExecutionProvider"
_LOG_ERROR = 3
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class GpuSession:
    """An ONNX Runtime session on a GPU; see :class:`edgeface.backends.base.Backend`.

    Args:
        bundle: The opened bundle.
        artefact: Name of the artefact.
        threads: Checked, and of no effect on a GPU.
        open_session: Given the model and its name for errors, returns (session, name for people).
        largest_batch: Larger batches are cut.
    """

    def __init__(
        self,
        bundle: Bundle,
        artefact: str,
        threads: int | None,
        open_session: Callable[[bytes, str], tuple[Any, str]],
        *,
        largest_batch: int = 1 << 30,
    ) -> None:
        if threads is not None and threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {threads}")
        where = f"{bundle.path.name}, artefact {artefact!r}"
        self.artefact = artefact
        self._contract = CropContract.of(bundle.manifest, where)
        self._session, self.name = open_session(bundle.read(artefact), where)
        sides = (self._session.get_inputs(), self._session.get_outputs())
        self._contract.check_model(
            *([(_TYPES.get(each.type, each.type), each.shape) for each in side] for side in sides)
        )
        self._input_name = sides[0][0].name
        self._largest_batch = largest_batch

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, embedding size) float32 rows for (n, height, width, 3) uint8 RGB crops.

        Raises:
            InvalidInputError: The crops have another type or shape.
            BackendError: The engine failed, or was closed.
        """
        where = self._contract.where
        if self._session is None:
            raise BackendError(f"{where}: the backend is closed; open it again")
        crops = self._contract.check_crops(crops)
        step = self._largest_batch
        parts = [crops[k : k + step] for k in range(0, len(crops), step)]
        try:
            rows = [self._session.run(None, {self._input_name: part})[0] for part in parts]
        except Exception as exc:
            raise BackendError(f"{where}: {self.name} failed: {_one_line(exc)}") from exc
        return np.concatenate([self._contract.no_rows(), *rows])

    def close(self) -> None:
        """Free the session; may be called twice."""
        self._session = None


class CudaBackend(GpuSession):
    """ONNX Runtime's CUDA provider: FP32 on any NVIDIA GPU; Q/DQ pairs run as float there.

    Wants the package ``onnxruntime-gpu`` in place of ``onnxruntime``.

    Raises:
        BackendError: There is no GPU, this ONNX Runtime has no CUDA provider, or it does not load.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(
        self, bundle: Bundle, artefact: str = "fp32", *, threads: int | None = None
    ) -> None:
        device = require_cuda()
        runtime = import_onnxruntime()
        if _PROVIDER not in runtime.get_available_providers():
            raise BackendError(
                f"onnxruntime {runtime.__version__} was built without CUDA; replace it: "
                "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
            )
        super().__init__(
            bundle,
            artefact,
            threads,
            lambda content, where: _open_cuda(runtime, device, content, where),
        )


def _open_cuda(runtime: Any, device: CudaDevice, content: bytes, where: str) -> tuple[Any, str]:
    options = gpu_session_options(runtime)
    provider = (_PROVIDER, {"device_id": str(device.index)})
    try:
        session = runtime.InferenceSession(content, options, providers=[provider])
    except Exception as exc:
        raise BackendError(f"{where}: the CUDA provider refuses it: {_one_line(exc)}") from exc
    # Where cuDNN or CUDA's libraries are missing, ONNX Runtime takes the CPU and only logs it.
    if _PROVIDER not in session.get_providers():
        raise BackendError(
            f"{where}: the CUDA provider does not load; the CUDA and cuDNN libraries that "
            f"onnxruntime-gpu {runtime.__version__} wants are missing"
        )
    return session, f"onnxruntime {runtime.__version__} CUDA, {device.name}"


def import_onnxruntime() -> Any:
    """Return the module ``onnxruntime``.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependencyError("onnxruntime", extra="cpu") from exc
    return onnxruntime


def gpu_session_options(runtime: Any) -> Any:
    """Return session options under which a graph runs on the GPU as a whole, or not at all."""
    options = runtime.SessionOptions()
    options.log_severity_level = _LOG_ERROR
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
