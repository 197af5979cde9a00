"""The newest frame of each of several sources; none waits for another."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from edgeface.camera import FrameSource
from edgeface.types import Frame

__all__ = ["NewestFrames"]

_JOIN_TIMEOUT_S = 2.0


class NewestFrames:
    """Reads every source in a thread of its own.

    Of a live source only the newest frame is kept; a recording waits until its frame was taken.
    """

    def __init__(self, sources: Sequence[FrameSource]) -> None:
        self._sources = tuple(sources)
        self._changed = threading.Condition()
        self._frames: dict[int, Frame] = {}
        self._running = set(range(len(self._sources)))
        self._failures: dict[int, Exception] = {}
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._read, args=(k,), name=f"edgeface-source-{k}", daemon=True)
            for k in range(len(self._sources))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def failures(self) -> dict[int, Exception]:
        """Why sources ended early, by position."""
        with self._changed:
            return dict(self._failures)

    def take(self) -> tuple[dict[int, Frame], frozenset[int]]:
        """Return the frames that are there, by position, and the sources that are still running.

        Waits until there is a frame or a source has ended. Both empty: all have ended.
        """
        with self._changed:
            running = set(self._running)
            while not self._frames and self._running == running and running:
                self._changed.wait()
            frames, self._frames = self._frames, {}
            self._changed.notify_all()
            return dict(sorted(frames.items())), frozenset(self._running)

    def close(self) -> None:
        """End the reading and close the sources; may be called twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for source in self._sources:
            source.close()
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT_S)

    def _read(self, index: int) -> None:
        source = self._sources[index]
        try:
            for frame in source:
                if not self._keep(index, frame, is_live=source.is_live):
                    break
        # A thread has nobody to raise to: what it met is told by ``failures``.
        except Exception as exc:  # noqa: BLE001
            with self._changed:
                self._failures[index] = exc
        finally:
            with self._changed:
                self._running.discard(index)
                self._changed.notify_all()

    def _keep(self, index: int, frame: Frame, *, is_live: bool) -> bool:
        """Store a frame; return False when nobody wants frames any more."""
        with self._changed:
            while not is_live and index in self._frames and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return False
            self._frames[index] = frame
            self._changed.notify_all()
            return True
