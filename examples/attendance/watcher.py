"""The thread that watches: frames in, sightings out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from edgeface.errors import EdgefaceError
from edgeface.pipeline import FrameResult, Recognizer, StreamGroup
from edgeface.types import Event, EventKind, Outcome
from examples.attendance.book import Book
from examples.attendance.cameras import Camera, close_all
from examples.attendance.errors import AttendanceError
from examples.attendance.pictures import Pictures
from examples.attendance.values import CameraStatus

__all__ = ["Watcher"]

_LOG = logging.getLogger("attendance.watcher")
_STANDSTILL_S = 60.0
"""A look takes a second on the slowest board; this long without one is a standstill."""


class Watcher:
    """Runs the recogniser over all cameras together and tells the book who is seen.

    A sighting is a face that the recogniser has settled on: its visit has begun, and the track
    still says the person in this frame. ``is_counted`` says whom the office knows.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        cameras: Sequence[Camera],
        book: Book,
        pictures: Pictures,
        is_counted: Callable[[str], bool],
    ) -> None:
        self._recognizer = recognizer
        self.cameras = tuple(cameras)
        self._book = book
        self._pictures = pictures
        self._is_counted = is_counted
        self._settled: set[str] = set()
        self._group: StreamGroup | None = None
        self._ended = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="attendance-watcher", daemon=True)
        self._last_look_s = time.monotonic()
        self.failure: Exception | None = None
        self.refusal: AttendanceError | None = None
        self.look_ms = 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._group = self._recognizer.group([camera.source for camera in self.cameras])
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to watch."""
        return self._ended.is_set()

    @property
    def stands_still(self) -> bool:
        """Whether a camera gives frames and none is searched."""
        gives = any(camera.status().is_usable for camera in self.cameras)
        idle_s = time.monotonic() - self._last_look_s
        return gives and not self.has_ended and idle_s > _STANDSTILL_S

    def statuses(self) -> tuple[CameraStatus, ...]:
        """Return how each camera is doing."""
        return tuple(camera.status() for camera in self.cameras)

    def wait(self, timeout_s: float) -> bool:
        """Return whether the watching ended within ``timeout_s``."""
        return self._ended.wait(timeout_s)

    def close(self) -> None:
        """Stop watching and free the recogniser; may be called twice."""
        self._is_closing = True
        if self._group is not None:
            self._group.close()
        else:
            close_all(self.cameras)
        if self._thread.is_alive():
            self._thread.join()
        self._recognizer.close()

    def _run(self) -> None:
        group = self._group
        if group is None:
            return
        try:
            for result in group:
                self._take(result)
            self._end(group)
        # A thread has nobody to raise to: ``failure`` ends the program.
        except Exception as exc:  # noqa: BLE001
            own = isinstance(exc, EdgefaceError)
            self.failure = exc if own else AttendanceError(f"{type(exc).__name__} in the watcher")
            _LOG.exception("watching failed")
        finally:
            self._ended.set()

    def _take(self, result: FrameResult) -> None:
        camera = self.cameras[result.stream]
        camera.looked()
        self._last_look_s = time.monotonic()
        self.look_ms = sum(result.times_ms.values())
        self._pictures.offer(camera.name, result)
        try:
            self._tell(camera, result)
            self.refusal = None
        # The disk may have room again with the next frame; until then health says so.
        except AttendanceError as exc:
            if self.refusal is None:
                _LOG.error("the record refuses: %s", exc)
            self.refusal = exc

    def _tell(self, camera: Camera, result: FrameResult) -> None:
        for event in result.events:
            self._settle(event)
        said = {one.track_result.subject for one in result.observations if one.track_result}
        seen = {who for who in said if who is not None and who in self._settled}
        # A picture that is frozen, looped or broken says nothing about who is there now.
        counted = sorted(filter(self._is_counted, seen)) if camera.can_see else []
        self._book.see(camera.name, counted)
        for event in result.events:
            self._count_stranger(event, camera.name)

    def _settle(self, event: Event) -> None:
        subject = event.subject
        if event.kind is EventKind.ARRIVED and subject is not None:
            self._settled.add(subject)
        elif event.kind is EventKind.DEPARTED and subject is not None:
            self._settled.discard(subject)

    def _count_stranger(self, event: Event, camera: str) -> None:
        if event.kind is EventKind.LEFT and event.outcome is Outcome.UNKNOWN:
            self._book.unknown(camera)

    def _end(self, group: StreamGroup) -> None:
        """Note that every source ended; after recordings alone, everybody has left."""
        if self._is_closing:  # who is in view now is still there
            return
        names = {camera.source.name: camera.name for camera in self.cameras}
        for event in group.finish():
            self._count_stranger(event, names.get(event.source, ""))
        for camera in self.cameras:
            camera.is_over = True
        if all(camera.is_recording for camera in self.cameras):
            self._book.end_all()
