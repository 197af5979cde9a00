"""Runs a TensorRT engine: page-locked buffers, one stream, one CUDA graph per batch size."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.backends.cuda_runtime import Buffer, CudaRuntime, CudaStream
from edgeface.errors import BackendError
from edgeface.types import FloatArray, ImageArray

__all__ = ["EngineIO", "TrtExecutor"]

_FLOAT_BYTES = 4
# A stream sees few sizes of batch; each costs an execution context, a few MB of a face model.
_MAX_PREPARED = 16
_log = logging.getLogger("edgeface.tensorrt")


@dataclass(frozen=True, slots=True)
class EngineIO:
    """Names and sizes of an engine's input and output; ``largest_batch`` is its profile's."""

    input_name: str
    output_name: str
    crop_shape: tuple[int, int, int]
    embedding_size: int
    largest_batch: int

    @property
    def crop_bytes(self) -> int:
        """Bytes of one crop."""
        return int(np.prod(self.crop_shape))

    @property
    def row_bytes(self) -> int:
        """Bytes of one embedding."""
        return self.embedding_size * _FLOAT_BYTES


@dataclass(slots=True)
class _Prepared:
    """What runs one size of batch: a context of its own, for a graph keeps its context's shapes."""

    context: Any
    graph: Any | None = None


class TrtExecutor:
    """Runs batches on an engine; safe to use from several threads, one batch at a time.

    Args:
        engine: The deserialised engine; kept alive here.
        io: Its input and output.
        runtime: CUDA on the engine's GPU.
        mapped: Share memory with the GPU instead of copying: right for integrated GPUs.
        graphs: Record each size of batch once and replay it, which saves the launch of each layer.
        keep_alive: What the engine needs as long as it lives: TensorRT's runtime.
    """

    def __init__(
        self,
        engine: Any,
        io: EngineIO,
        runtime: CudaRuntime,
        *,
        mapped: bool,
        graphs: bool = True,
        keep_alive: Any = None,
    ) -> None:
        self._engine, self._io, self._keep_alive = engine, io, keep_alive
        self._lock = threading.Lock()
        self._prepared: dict[int, _Prepared] = {}
        self._closed = False
        self.graph_problem = "" if graphs else "not asked for"
        with contextlib.ExitStack() as undo:
            self._stream = CudaStream(runtime)
            undo.callback(self._stream.close)
            largest = io.largest_batch
            self._input = Buffer(runtime, largest * io.crop_bytes, mapped=mapped)
            undo.callback(self._input.free)
            self._output = Buffer(runtime, largest * io.row_bytes, mapped=mapped)
            undo.pop_all()

    def run(self, crops: ImageArray) -> FloatArray:
        """Return one row for each crop; batches above the engine's largest are cut.

        Raises:
            BackendError: CUDA or TensorRT failed, or the executor was closed.
        """
        rows = np.empty((len(crops), self._io.embedding_size), np.float32)
        step = self._io.largest_batch
        with self._lock:
            if self._closed:
                raise BackendError("the TensorRT engine is closed; open it again")
            for start in range(0, len(crops), step):
                part = crops[start : start + step]
                rows[start : start + step] = self._run_batch(part)
        return rows

    def _run_batch(self, crops: ImageArray) -> npt.NDArray[np.float32]:
        count = len(crops)
        sent = count * self._io.crop_bytes
        received = count * self._io.row_bytes
        self._input.array[:sent] = crops.reshape(-1)
        prepared = self._prepared.get(count)
        if prepared is None:
            self._prepare(count)
        elif prepared.graph is None:
            self._queue(prepared.context, count)
        else:
            self._stream.launch(prepared.graph)
        self._stream.wait()
        return self._output.array[:received].view(np.float32).reshape(count, -1).copy()

    def _queue(self, context: Any, count: int) -> None:
        self._input.to_device(count * self._io.crop_bytes, self._stream.handle)
        if not context.execute_async_v3(int(self._stream.handle)):
            raise BackendError("TensorRT did not run the engine; its log says more")
        self._output.to_host(count * self._io.row_bytes, self._stream.handle)

    def _prepare(self, count: int) -> None:
        """Run the first batch of this size, then record it for the next."""
        context = self._context(count)
        self._queue(context, count)
        # The first run may allocate, which cannot be recorded; it is over before recording.
        self._stream.wait()
        while len(self._prepared) >= _MAX_PREPARED:
            self._drop(next(iter(self._prepared)))
        self._prepared[count] = _Prepared(context)
        if not self.graph_problem:
            self._prepared[count].graph = self._record(context, count)

    def _record(self, context: Any, count: int) -> Any | None:
        """Return the recorded batch, or None after a failure, which is kept in `graph_problem`."""
        self._stream.begin_capture()
        try:
            self._queue(context, count)
        except BackendError as error:
            self._no_graphs(error)
            # A failed recording must still be ended, or the stream stays unusable.
            with contextlib.suppress(BackendError):
                self._stream.free_graph(self._stream.end_capture())
            return None
        try:
            return self._stream.end_capture()
        except BackendError as error:
            self._no_graphs(error)
            return None

    def _no_graphs(self, error: BackendError) -> None:
        self.graph_problem = str(error)
        _log.warning("no CUDA graphs, each layer is launched by itself: %s", error)

    def _context(self, count: int) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise BackendError("TensorRT has no memory for another execution context")
        io = self._io
        done = (
            context.set_input_shape(io.input_name, (count, *io.crop_shape)),
            context.set_tensor_address(io.input_name, self._input.device_address),
            context.set_tensor_address(io.output_name, self._output.device_address),
        )
        if not all(done):
            raise BackendError(f"the TensorRT engine does not take a batch of {count}")
        return context

    def _drop(self, count: int) -> None:
        graph = self._prepared.pop(count).graph
        if graph is not None:
            self._stream.free_graph(graph)

    def close(self) -> None:
        """Free graphs, contexts, memory and stream; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for count in list(self._prepared):
                self._drop(count)
            self._input.free()
            self._output.free()
            self._stream.close()
            self._engine = None
            self._keep_alive = None
