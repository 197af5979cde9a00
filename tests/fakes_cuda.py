"""CUDA's runtime without a GPU: strict about names, real about memory."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgeface.backends.cuda_device import CudaDevice

NAMES = json.loads(
    (Path(__file__).parent / "contracts" / "data" / "tensorrt_names.json").read_text("utf-8")
)
GPU = CudaDevice(0, "Fake GPU", "ab" * 16, "8.7", integrated=False, driver="13.0 580.1")
JETSON = CudaDevice(0, "Fake Orin", "cd" * 16, "8.7", integrated=True, driver="12.6")


class FakeCuda:
    """Stands for ``cuda.bindings.runtime``. Its GPU memory is memory of this process.

    Work is queued and runs when the stream is waited for, so that what is not waited for is not
    there. ``calls`` are the names called; ``fails`` gives error codes by name.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: dict[str, int] = {}
        self.live: dict[int, Any] = {}
        self._queue: list[Callable[[], None]] = []
        self._recording: list[Callable[[], None]] | None = None
        common = NAMES["cuda_runtime"]["common"]
        for group in {name.partition(".")[0] for name in common if "." in name}:
            names = [n.partition(".")[2] for n in common if n.startswith(f"{group}.")]
            setattr(self, group, SimpleNamespace(**{name: name for name in names}))
        self.cudaHostAllocDefault, self.cudaHostAllocMapped, self.cudaStreamNonBlocking = 0, 2, 1

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES["cuda_runtime"]["common"]:
            raise AssertionError(f"{name} is not in both CUDA 12.8 and 13.5")
        return lambda *arguments: self._call(name, arguments)

    def queue(self, stream: int, work: Callable[[], None]) -> None:
        (self._queue if self._recording is None else self._recording).append(work)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self.calls.append(name)
        if self.fails.get(name):
            # A recording that cannot be ended well is ended all the same.
            self._recording = None if name == "cudaStreamEndCapture" else self._recording
            return (self.fails[name], None)
        action = getattr(type(self), f"_{name}", None)
        result = action(self, *arguments) if action else None
        return (0,) if result is None else (0, result)

    def _allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(b"\xaa" * size, size)
        address = ctypes.addressof(block)
        self.live[address] = block
        return address

    def _cudaHostAlloc(self, size: int, flags: int) -> int:  # noqa: N802 - CUDA's names
        return self._allocate(size)

    def _cudaMalloc(self, size: int) -> int:  # noqa: N802
        return self._allocate(size)

    def _cudaHostGetDevicePointer(self, address: int, flags: int) -> int:  # noqa: N802
        return address

    def _cudaFree(self, address: int) -> None:  # noqa: N802
        del self.live[address]

    def _cudaFreeHost(self, address: int) -> None:  # noqa: N802
        del self.live[address]

    def _cudaStreamCreateWithFlags(self, flags: int) -> int:  # noqa: N802
        return 7

    def _cudaMemcpyAsync(self, *arguments: Any) -> None:  # noqa: N802
        target, source, size, _, stream = arguments

        def copy() -> None:
            ctypes.memmove(target, source, size)

        self.queue(stream, copy)

    def _cudaStreamSynchronize(self, stream: int) -> None:  # noqa: N802
        work, self._queue = self._queue, []
        for step in work:
            step()

    def _cudaStreamBeginCapture(self, stream: int, mode: Any) -> None:  # noqa: N802
        self._recording = []

    def _cudaStreamEndCapture(self, stream: int) -> Any:  # noqa: N802
        recorded, self._recording = self._recording, None
        return recorded

    def _cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:  # noqa: N802
        return graph

    def _cudaGraphLaunch(self, graph: Any, stream: int) -> None:  # noqa: N802
        self._queue += graph
