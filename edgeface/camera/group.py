"""Several live sources as one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

from edgeface.camera.health import CameraEvent, CameraHealth
from edgeface.camera.live import LiveSource
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import Frame

__all__ = ["CameraGroup"]


class CameraGroup:
    """The newest frames of several cameras, each in its turn.

    A camera that is quick does not push out one that is slow, and one that is lost holds up none.
    The group owns its sources and closes them.
    """

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        names = [source.name for source in sources]
        if not sources or len(set(names)) < len(names):
            raise InvalidInputError(f"a group has one source or more, each once, got {names}")
        self.sources = tuple(sources)
        self._arrived = threading.Event()
        self._next = 0
        for source in self.sources:
            source.notify(self._arrived)

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """Return the next frame; its ``source`` says of which camera. None after ``timeout_s``.

        None also when every source is closed.

        Raises:
            CameraError: Every source was given up.
        """
        while True:
            self._arrived.clear()
            frame = self._look_around()
            if frame is not None or all(source.is_closed for source in self.sources):
                return frame
            if not self._arrived.wait(timeout_s):
                return None

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    def health(self) -> tuple[CameraHealth, ...]:
        """Return how each source is doing, in their order."""
        return tuple(source.health() for source in self.sources)

    def take_events(self) -> tuple[CameraEvent, ...]:
        """Return what happened since the last call, oldest first."""
        events = [event for source in self.sources for event in source.take_events()]
        return tuple(sorted(events, key=lambda event: event.time_s))

    def close(self) -> None:
        """Close every source; may be called twice."""
        for source in self.sources:
            source.close()
        self._arrived.set()

    def __enter__(self) -> CameraGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _look_around(self) -> Frame | None:
        """Return a new frame, beginning with the source after the one that gave the last."""
        failed: list[CameraError] = []
        for step in range(len(self.sources)):
            number = (self._next + step) % len(self.sources)
            try:
                frame = self.sources[number].read(0.0)
            except CameraError as exc:
                failed.append(exc)
                continue
            if frame is not None:
                self._next = number + 1
                return frame
        if len(failed) == len(self.sources):
            raise failed[0]
        return None
