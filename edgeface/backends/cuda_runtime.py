"""Memory, streams and graphs of CUDA through ``cuda.bindings.runtime``, with checked results."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import BackendError

__all__ = ["Buffer", "CudaRuntime", "CudaStream"]


class CudaRuntime:
    """The calls that edgeface makes, each raising on an error.

    ``module`` is ``cuda.bindings.runtime``, whose functions return a tuple that begins with an
    error code.
    """

    def __init__(self, module: Any, device: int) -> None:
        self._module = module
        self.call("cudaSetDevice", device)

    def call(self, name: str, *arguments: Any) -> Any:
        """Return the result of the function ``name``: None, a value, or a list of values.

        Raises:
            BackendError: CUDA reports an error.
        """
        try:
            error, *values = getattr(self._module, name)(*arguments)
        except RuntimeError as exc:
            raise BackendError(f"CUDA cannot run {name}: {exc}") from exc
        if int(error) != 0:
            raise BackendError(f"CUDA: {name} gave {getattr(error, 'name', error)}")
        return values[0] if len(values) == 1 else (values or None)

    def constant(self, group: str, name: str) -> Any:
        """Return a member of an enumeration, or a constant where ``group`` is empty."""
        holder = getattr(self._module, group) if group else self._module
        return getattr(holder, name)


class Buffer:
    """Page-locked memory that the CPU writes or reads and the GPU sees.

    On an integrated GPU both are the same memory (``mapped``) and nothing is copied; otherwise
    there is a second block on the GPU. ``array`` is the CPU's view, flat uint8 bytes;
    ``device_address`` is what a kernel is given.
    """

    def __init__(self, runtime: CudaRuntime, size_bytes: int, *, mapped: bool) -> None:
        self._runtime = runtime
        self.size_bytes = size_bytes
        self.mapped = mapped
        self._host = self._device = 0
        flag = "cudaHostAllocMapped" if mapped else "cudaHostAllocDefault"
        self._host = int(runtime.call("cudaHostAlloc", size_bytes, runtime.constant("", flag)))
        try:
            if mapped:
                self.device_address = int(runtime.call("cudaHostGetDevicePointer", self._host, 0))
            else:
                self._device = self.device_address = int(runtime.call("cudaMalloc", size_bytes))
        except BackendError:
            self.free()
            raise
        block = (ctypes.c_uint8 * size_bytes).from_address(self._host)
        self.array: npt.NDArray[np.uint8] = np.ctypeslib.as_array(block)

    def to_device(self, size_bytes: int, stream: Any) -> None:
        """Queue the copy of the first bytes to the GPU; nothing where memory is shared."""
        self._copy(self.device_address, self._host, size_bytes, "cudaMemcpyHostToDevice", stream)

    def to_host(self, size_bytes: int, stream: Any) -> None:
        """Queue the copy of the first bytes from the GPU; nothing where memory is shared."""
        self._copy(self._host, self.device_address, size_bytes, "cudaMemcpyDeviceToHost", stream)

    def _copy(self, target: int, source: int, size_bytes: int, way: str, stream: Any) -> None:
        if self.mapped:
            return
        kind = self._runtime.constant("cudaMemcpyKind", way)
        self._runtime.call("cudaMemcpyAsync", target, source, size_bytes, kind, stream)

    def free(self) -> None:
        """Give the memory back; may be called twice. ``array`` must not be used afterwards."""
        if self._device:
            self._runtime.call("cudaFree", self._device)
        if self._host:
            self._runtime.call("cudaFreeHost", self._host)
        self._device = self._host = 0


class CudaStream:
    """A stream that does not wait for the default one, and graphs recorded on it."""

    def __init__(self, runtime: CudaRuntime) -> None:
        self._runtime = runtime
        flag = runtime.constant("", "cudaStreamNonBlocking")
        self.handle = runtime.call("cudaStreamCreateWithFlags", flag)
        self._open = True

    def wait(self) -> None:
        """Return when all that was queued is done.

        Raises:
            BackendError: Something of it failed.
        """
        self._runtime.call("cudaStreamSynchronize", self.handle)

    def begin_capture(self) -> None:
        """Record from now on instead of running."""
        group = "cudaStreamCaptureMode"
        mode = self._runtime.constant(group, "cudaStreamCaptureModeThreadLocal")
        self._runtime.call("cudaStreamBeginCapture", self.handle, mode)

    def end_capture(self) -> Any:
        """Return what was recorded, ready for :meth:`launch`.

        Raises:
            BackendError: Something that was called cannot be recorded.
        """
        graph = self._runtime.call("cudaStreamEndCapture", self.handle)
        try:
            return self._runtime.call("cudaGraphInstantiate", graph, 0)
        finally:
            self._runtime.call("cudaGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        """Queue a recorded graph."""
        self._runtime.call("cudaGraphLaunch", graph, self.handle)

    def free_graph(self, graph: Any) -> None:
        """Give a recorded graph back."""
        self._runtime.call("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        """Give the stream back; may be called twice."""
        if self._open:
            self._open = False
            self._runtime.call("cudaStreamDestroy", self.handle)
