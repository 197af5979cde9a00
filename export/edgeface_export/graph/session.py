"""Runs ONNX models in memory during an export."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import MissingDependencyError
from edgeface.types import FloatArray, ImageArray
from edgeface_export.graph.emit import INPUT_NAME, OUTPUT_NAME

__all__ = ["EmbeddingSession"]


class EmbeddingSession:
    """An ONNX Runtime CPU session of a model that takes crops.

    ``outputs`` are the tensors to return; they must be graph outputs of the model.
    """

    def __init__(
        self, model: onnx.ModelProto, *, outputs: Sequence[str] = (OUTPUT_NAME,), threads: int = 0
    ) -> None:
        try:
            import onnxruntime
        except ImportError as exc:
            raise MissingDependencyError("onnxruntime", extra="export") from exc
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by spinning take a busy machine's time from those that work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        # An arena keeps what the largest batch took until the session goes; for times with
        # ``threads`` it is what devices have.
        options.enable_cpu_mem_arena = bool(threads)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = list(outputs)

    def run(self, crops: ImageArray) -> list[npt.NDArray[np.float32]]:
        """Return the outputs for (n, height, width, 3) uint8 RGB crops, in one batch."""
        return list(self._session.run(self._outputs, {INPUT_NAME: np.ascontiguousarray(crops)}))

    def embed(self, crops: ImageArray, *, batch_size: int = 8) -> FloatArray:
        """Return the first output for all crops, (n, embedding size) float32."""
        parts = [self.run(crops[k : k + batch_size])[0] for k in range(0, len(crops), batch_size)]
        return np.concatenate(parts)
