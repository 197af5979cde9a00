"""Several sources watched together by one recogniser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from edgeface.camera import FrameSource
from edgeface.errors import CameraError, InvalidInputError
from edgeface.pipeline.comparing import Comparer
from edgeface.pipeline.finding import StageTimer
from edgeface.pipeline.newest import NewestFrames
from edgeface.pipeline.stream import FrameResult, Pending, Stream
from edgeface.types import Event

__all__ = ["StreamGroup"]


class StreamGroup:
    """Iterates over the frames of all sources as they come; made by ``Recognizer.group``.

    In each round the newest frame of every source that has one is searched, and the faces of all
    go through the engine in one batch. A slow source is not waited for; one that fails ends
    alone, and ``failures`` says why.
    """

    def __init__(
        self, sources: Sequence[FrameSource], streams: Sequence[Stream], comparer: Comparer
    ) -> None:
        if not sources or len(sources) != len(streams):
            raise InvalidInputError(
                f"a group needs sources and a stream for each, got {len(sources)} and "
                f"{len(streams)}"
            )
        self.sources = tuple(sources)
        self._streams = tuple(streams)
        self._comparer = comparer
        self._newest = NewestFrames(sources)

    @property
    def failures(self) -> Mapping[str, CameraError]:
        """Why sources ended early, by name."""
        return {
            self.sources[k].name: exc
            for k, exc in self._newest.failures.items()
            if isinstance(exc, CameraError)
        }

    def __iter__(self) -> Iterator[FrameResult]:
        """Yield the result of every frame that was searched.

        Raises:
            CameraError: Every source has failed.
        """
        while True:
            frames, running = self._newest.take()
            yield from self._round([(k, self._streams[k].prepare(f)) for k, f in frames.items()])
            if not frames and not running:
                break
        self._raise_failures()

    def finish(self) -> tuple[Event, ...]:
        """Return the events of the tracks and visits that end with the sources."""
        *others, last = self._streams
        events = [event for stream in others for event in stream.finish(end_visits=False)]
        return (*events, *last.finish())

    def close(self) -> None:
        """Close the sources; may be called twice, and ends an iteration in another thread."""
        self._newest.close()

    def __enter__(self) -> StreamGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _round(self, prepared: Sequence[tuple[int, Pending]]) -> Iterator[FrameResult]:
        """Yield the results of frames of one moment, compared in one batch."""
        faces = [face for _, pending in prepared for face in pending.faces]
        timer = StageTimer()
        comparisons = iter(self._comparer.compare(faces, timer))
        for index, pending in prepared:
            own = [next(comparisons) for _ in pending.faces]
            result = self._streams[index].complete(pending, own)
            shared = {stage: ms / len(prepared) for stage, ms in timer.total_ms.items()}
            yield replace(result, stream=index, times_ms={**result.times_ms, **shared})

    def _raise_failures(self) -> None:
        failures = self._newest.failures
        for exc in failures.values():
            if not isinstance(exc, CameraError):
                raise exc
        if len(failures) == len(self.sources):
            raise next(iter(failures.values()))
