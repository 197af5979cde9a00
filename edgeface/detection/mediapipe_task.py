"""One MediaPipe task: created quietly and without network, run on pictures, closed once."""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeface.detection.native_stderr import caught_stderr
from edgeface.detection.no_network import run_without_network
from edgeface.errors import BackendError, MissingDependencyError
from edgeface.types import ImageArray

__all__ = ["MediaPipeTask"]

_WARM_UP = np.zeros((64, 64, 3), np.uint8)


class MediaPipeTask:
    """A vision task in IMAGE mode.

    ``create`` is given the module ``mediapipe.tasks.python.vision``; ``what`` names the model in
    errors. Calls from several threads are serialised by MediaPipe itself. A task that nobody closed
    is closed when nothing refers to it any more, or abandoned when Python ends; both are quiet.

    Raises:
        MissingDependencyError: MediaPipe is not installed.
        BackendError: MediaPipe does not take the model; holds what it wrote to stderr.
    """

    def __init__(self, create: Callable[[Any], Any], *, what: str) -> None:
        self._task: Any = None
        try:
            import mediapipe
            from mediapipe.tasks.python import vision
        except ImportError as exc:
            raise MissingDependencyError("mediapipe", extra="cpu") from exc
        self._mediapipe = mediapipe
        self._what = what
        caught = None
        try:
            with caught_stderr() as caught:
                self._task = run_without_network(lambda: create(vision))
                self.run(_WARM_UP)
        except Exception as exc:
            written = " ".join(caught.text.split()) if caught else ""
            raise BackendError(f"MediaPipe cannot load {what}: {exc}; it wrote: {written}") from exc
        _open_tasks.add(self)

    def run(self, pixels: ImageArray) -> Any:
        """Return MediaPipe's result for one (height, width, 3) uint8 RGB picture.

        Raises:
            BackendError: The task was closed, or MediaPipe failed; it is then of no more use.
        """
        if self._task is None:
            raise BackendError(f"{self._what} was closed; make a new one")
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels)
        )
        try:
            return self._task.detect(image)
        except Exception as exc:
            self.abandon()
            raise BackendError(f"MediaPipe failed to run {self._what}: {exc}") from exc

    def close(self) -> None:
        """Free the model; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            with caught_stderr():
                task.close()

    def __del__(self) -> None:
        # MediaPipe's own finaliser would write to stderr.
        if sys.is_finalizing():
            self.abandon()
        else:
            self.close()

    def abandon(self) -> None:
        """Let go of the model without closing it.

        Closing waits for ever once a graph has failed, and raises from ``__del__`` once the
        interpreter is shutting down; the memory goes with the process.
        """
        if self._task is not None:
            self._task._handle = None
        self._task = None


_open_tasks: weakref.WeakSet[MediaPipeTask] = weakref.WeakSet()


@atexit.register
def _abandon_open_tasks() -> None:
    for task in list(_open_tasks):
        task.abandon()
