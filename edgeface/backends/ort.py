"""ONNX Runtime on the CPU: the engine that runs everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.bundle import Bundle, Manifest
from edgeface.errors import BackendError, InvalidInputError, MissingDependencyError
from edgeface.types import FloatArray, ImageArray

__all__ = ["OrtBackend", "default_threads", "open_session"]

# More than four threads make a batch of one slower: a layer of a face model is too small to share.
_MAX_DEFAULT_THREADS = 4
_LOG_ERROR = 3
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


class OrtBackend:
    """Runs one artefact of a bundle with ONNX Runtime; see :class:`edgeface.backends.base.Backend`.

    Args:
        bundle: The opened bundle; the artefact's hash is checked over the bytes that are loaded.
        artefact: Name of the artefact.
        threads: Threads for one batch; None takes :func:`default_threads`.

    Raises:
        BackendError: The engine refuses the artefact, or its input and output are not what the
            manifest says.
        InvalidInputError: ``threads`` is below 1.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(
        self, bundle: Bundle, artefact: str = "fp32", *, threads: int | None = None
    ) -> None:
        threads = default_threads() if threads is None else threads
        if threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {threads}")
        where = f"{bundle.path.name}, artefact {artefact!r}"
        self.artefact = artefact
        self.name, self._session = open_session(bundle.read(artefact), threads, where)
        self._input_name = _check_input(self._session, bundle.manifest, where)
        _check_output(self._session, bundle.manifest, where)
        self._where = where
        size = bundle.manifest.crop_size
        self._crop_shape = (size.height_px, size.width_px, 3)
        self._embedding_size = bundle.manifest.embedding_size

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, embedding size) float32 rows for (n, height, width, 3) uint8 RGB crops.

        Rows are what the model gives: neither finite nor of unit length is promised here;
        :class:`edgeface.embedding.FaceEmbedder` judges them. No crops give no rows.

        Raises:
            InvalidInputError: The crops have another type or shape.
            BackendError: The engine failed, or was closed.
        """
        if self._session is None:
            raise BackendError(f"{self._where}: the backend is closed; open it again")
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != self._crop_shape:
            raise InvalidInputError(
                f"{self._where}: crops must be uint8 of shape (n, {self._crop_shape[0]}, "
                f"{self._crop_shape[1]}, 3), got {crops.dtype} {crops.shape}; align faces to the "
                "bundle's alignment template first"
            )
        if len(crops) == 0:
            return np.empty((0, self._embedding_size), np.float32)
        try:
            rows = self._session.run(None, {self._input_name: np.ascontiguousarray(crops)})[0]
        except Exception as exc:
            raise BackendError(f"{self._where}: {self.name} failed: {exc}") from exc
        if rows.shape != (len(crops), self._embedding_size):
            raise BackendError(
                f"{self._where}: the model gave rows of shape {rows.shape}, wanted "
                f"{(len(crops), self._embedding_size)}; export the model again"
            )
        return np.asarray(rows, np.float32)

    def close(self) -> None:
        """Free the engine; may be called twice."""
        self._session = None


def default_threads() -> int:
    """Return how many threads to use: the cores this process may use, at most four."""
    return max(1, min(_MAX_DEFAULT_THREADS, _usable_cores()))


def _usable_cores() -> int:
    """Return the number of physical cores that this process may use, where the system says so."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    logical = os.sched_getaffinity(0)
    try:
        # Two hyper-threads of a core name the same siblings: they count once.
        return len({Path(_SIBLINGS.format(cpu)).read_text(encoding="ascii") for cpu in logical})
    except OSError:
        return len(logical)


def open_session(content: bytes, threads: int, where: str) -> tuple[str, Any]:
    """Return the engine's name and an ONNX Runtime CPU session of the model ``content``.

    Raises:
        BackendError: ONNX Runtime refuses it; ``where`` names it.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependencyError("onnxruntime", extra="cpu") from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERROR
    # A spinning thread pool keeps a core busy between the frames of an idle stream.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise BackendError(
            f"{where}: ONNX Runtime {onnxruntime.__version__} cannot load it: {exc}; "
            "update onnxruntime, or export the model again"
        ) from exc
    return f"onnxruntime {onnxruntime.__version__} CPU", session


def _check_input(session: Any, manifest: Manifest, where: str) -> str:
    """Return the name of the one input, if it takes batches of the manifest's crops."""
    inputs = session.get_inputs()
    size = manifest.crop_size
    wanted = ["n", size.height_px, size.width_px, 3]
    got = [(entry.type, list(entry.shape)) for entry in inputs]
    fits = (
        len(got) == 1
        and got[0][0] == "tensor(uint8)"
        and got[0][1][1:] == wanted[1:]
        and not isinstance(got[0][1][0], int)
    )
    if not fits:
        raise BackendError(
            f"{where}: the model's inputs are {_tensors(got)}, wanted tensor(uint8) {wanted} with "
            "a free batch size; export the model again"
        )
    return str(inputs[0].name)


def _check_output(session: Any, manifest: Manifest, where: str) -> None:
    got = [(entry.type, list(entry.shape)) for entry in session.get_outputs()]
    wanted = ["n", manifest.embedding_size]
    fits = (
        len(got) == 1
        and got[0][0] == "tensor(float)"
        and len(got[0][1]) == 2
        and got[0][1][1] == manifest.embedding_size
    )
    if not fits:
        raise BackendError(
            f"{where}: the model's outputs are {_tensors(got)}, wanted tensor(float) {wanted}; "
            "export the model again"
        )


def _tensors(entries: list[tuple[str, list[Any]]]) -> str:
    return "; ".join(f"{kind} {shape}" for kind, shape in entries) or "none"
