"""OpenVINO on the CPU: often the fastest engine for INT8 on Intel processors."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

from edgeface.backends.ort import default_threads
from edgeface.bundle import Bundle, Manifest
from edgeface.errors import BackendError, InvalidInputError, MissingDependencyError
from edgeface.types import FloatArray, ImageArray

__all__ = ["OpenVinoBackend", "import_openvino"]

# A model is compiled for each of these batch sizes when it is first needed, and a batch is cut
# into them: fixed shapes run 15 to 20 % faster than a free one, and compiling takes up to a second.
_BATCH_SIZES = (8, 4, 2, 1)
_TELEMETRY = "openvino_telemetry"
_import_lock = threading.Lock()


class OpenVinoBackend:
    """Runs one artefact of a bundle with OpenVINO; see :class:`edgeface.backends.base.Backend`.

    Not for use by several threads at once. Float is computed in float32: where the processor has
    bfloat16, OpenVINO's own default is that.

    Args:
        bundle: The opened bundle; the artefact's hash is checked over the bytes that are loaded.
        artefact: Name of the artefact.
        threads: Threads for one batch; None takes :func:`edgeface.backends.ort.default_threads`.

    Raises:
        BackendError: The engine refuses the artefact, or its input and output are not what the
            manifest says.
        InvalidInputError: ``threads`` is below 1.
        MissingDependencyError: OpenVINO is not installed.
    """

    def __init__(
        self, bundle: Bundle, artefact: str = "fp32", *, threads: int | None = None
    ) -> None:
        threads = default_threads() if threads is None else threads
        if threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {threads}")
        self._where = f"{bundle.path.name}, artefact {artefact!r}"
        self.artefact = artefact
        self._openvino = import_openvino()
        self.name = f"openvino {_version(self._openvino)} CPU"
        self._content: bytes | None = bundle.read(artefact)
        self._threads = threads
        size = bundle.manifest.crop_size
        self._crop_shape = (size.height_px, size.width_px, 3)
        self._embedding_size = bundle.manifest.embedding_size
        self._requests: dict[int, tuple[Any, Any]] = {}
        _check_contract(self._read_model(), bundle.manifest, self._where)
        self._request(1)

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, embedding size) float32 rows for (n, height, width, 3) uint8 RGB crops.

        Rows are what the model gives: neither finite nor of unit length is promised here;
        :class:`edgeface.embedding.FaceEmbedder` judges them. No crops give no rows.

        Raises:
            InvalidInputError: The crops have another type or shape.
            BackendError: The engine failed, or was closed.
        """
        if self._content is None:
            raise BackendError(f"{self._where}: the backend is closed; open it again")
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != self._crop_shape:
            raise InvalidInputError(
                f"{self._where}: crops must be uint8 of shape (n, {self._crop_shape[0]}, "
                f"{self._crop_shape[1]}, 3), got {crops.dtype} {crops.shape}; align faces to the "
                "bundle's alignment template first"
            )
        rows = np.empty((len(crops), self._embedding_size), np.float32)
        start = 0
        while start < len(crops):
            size = next(size for size in _BATCH_SIZES if size <= len(crops) - start)
            rows[start : start + size] = self._run(crops[start : start + size])
            start += size
        return rows

    def close(self) -> None:
        """Free the engine; may be called twice."""
        self._requests.clear()
        self._content = None

    def _run(self, crops: ImageArray) -> FloatArray:
        """Return the rows of one batch; they are overwritten by the next."""
        request, pixels = self._request(len(crops))
        pixels[:] = crops
        try:
            request.infer()
            rows: FloatArray = request.get_output_tensor(0).data
        except Exception as exc:
            raise BackendError(f"{self._where}: {self.name} failed: {exc}") from exc
        return rows

    def _request(self, batch: int) -> tuple[Any, Any]:
        """Return the request for batches of ``batch`` crops, and the array that it reads."""
        if batch not in self._requests:
            model = self._read_model()
            settings = {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": self._threads,
                "PERFORMANCE_HINT": "LATENCY",
                # Pinned to one core, a stream waits for whatever else runs on that core.
                "ENABLE_CPU_PINNING": "NO",
            }
            try:
                model.reshape({0: [batch, *self._crop_shape]})
                compiled = self._openvino.Core().compile_model(model, "CPU", settings)
                request = compiled.create_infer_request()
                tensor = request.get_input_tensor(0)
            except Exception as exc:
                raise BackendError(
                    f"{self._where}: {self.name} cannot compile it: {exc}; update openvino, or "
                    "export the model again"
                ) from exc
            self._requests[batch] = (request, tensor.data)
        return self._requests[batch]

    def _read_model(self) -> Any:
        try:
            return self._openvino.Core().read_model(self._content)
        except Exception as exc:
            raise BackendError(
                f"{self._where}: {self.name} cannot load it: {exc}; use the backend 'ort', update "
                "openvino, or export the model again"
            ) from exc


def import_openvino() -> Any:
    """Return the module ``openvino``, imported without its telemetry.

    ``import openvino`` reports itself to its maker over the network unless the user has opted
    out. Where the telemetry package is absent OpenVINO does without, so it is made to seem absent
    for the time of the import. A program that imported OpenVINO before has its own way with it.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    with _import_lock:
        if "openvino" in sys.modules:
            return _imported()
        hidden = {name: module for name, module in sys.modules.items() if name == _TELEMETRY}
        # None in sys.modules makes an import of that name an ImportError.
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            return _imported()
        finally:
            del sys.modules[_TELEMETRY]
            sys.modules.update(hidden)


def _imported() -> Any:
    try:
        import openvino
    except ImportError as exc:
        raise MissingDependencyError("openvino", extra="openvino") from exc
    return openvino


def _version(openvino: Any) -> str:
    """Return the version without OpenVINO's build number: "2026.4.1-22982-…" is "2026.4.1"."""
    return str(openvino.get_version()).partition("-")[0]


def _check_contract(model: Any, manifest: Manifest, where: str) -> None:
    """Refuse a model whose input and output are not what ``manifest`` says."""
    size = manifest.crop_size
    wanted = (f"u8 [?,{size.height_px},{size.width_px},3]", f"f32 [?,{manifest.embedding_size}]")
    got = tuple(
        "; ".join(
            f"{port.get_element_type().get_type_name()} {port.partial_shape}" for port in side
        )
        for side in (model.inputs, model.outputs)
    )
    if got != wanted:
        raise BackendError(
            f"{where}: the model's inputs are {got[0]} and its outputs {got[1]}, wanted "
            f"{wanted[0]} and {wanted[1]} with a free batch size; export the model again"
        )
