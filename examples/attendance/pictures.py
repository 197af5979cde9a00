"""The newest picture of each camera with the overlay, in memory only, made while somebody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeface.errors import MissingDependencyError
from edgeface.overlay import draw
from edgeface.pipeline import FrameResult
from edgeface.types import IdentificationResult, Observation
from examples.attendance.values import LiveFrame

__all__ = ["Pictures"]

_WANTED_S = 5.0
"""A picture is made for this long after somebody asked."""
_LEAST_GAP_S = 0.1
_WIDEST_PX = 960
_JPEG_QUALITY = 80


@dataclass(slots=True)
class _Slot:
    asked_s: float = float("-inf")
    given_s: float = float("-inf")
    waiting: FrameResult | None = None
    picture: LiveFrame | None = None


class Pictures:
    """Draws and encodes in a thread of its own, so that recognition waits for nobody who looks.

    ``name_of`` gives what the overlay calls a person; pictures are for who is signed in.
    """

    def __init__(
        self, name_of: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name_of = name_of
        self._clock = clock
        self._changed = threading.Condition()
        self._slots: dict[str, _Slot] = {}
        self._is_closed = False
        self.encoded = 0
        self._thread = threading.Thread(target=self._run, name="attendance-pictures", daemon=True)
        self._thread.start()

    def offer(self, camera: str, result: FrameResult) -> None:
        """Take a frame if somebody looks and the last picture is old enough."""
        with self._changed:
            slot, now_s = self._slots.setdefault(camera, _Slot()), self._clock()
            if now_s - slot.asked_s <= _WANTED_S and now_s - slot.given_s >= _LEAST_GAP_S:
                slot.waiting, slot.given_s = result, now_s
                self._changed.notify_all()

    def newest(self, camera: str, *, after: int, timeout_s: float) -> LiveFrame | None:
        """Return the newest picture with a number above ``after``, None when none came in time."""

        def is_there() -> bool:
            return self._is_closed or (slot.picture is not None and slot.picture.number > after)

        with self._changed:
            slot = self._slots.setdefault(camera, _Slot())
            slot.asked_s = self._clock()
            if not self._changed.wait_for(is_there, timeout_s) or self._is_closed:
                return None
            return slot.picture

    def close(self) -> None:
        """Drop every picture and stop; may be called twice."""
        with self._changed:
            self._is_closed = True
            self._slots.clear()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            camera, result = taken
            jpeg = self._encode(result)
            with self._changed:
                slot = self._slots.get(camera)
                if slot is not None and not self._is_closed:
                    self.encoded += 1
                    slot.picture = LiveFrame(camera, jpeg, self.encoded)
                    self._changed.notify_all()

    def _take(self) -> tuple[str, FrameResult] | None:
        with self._changed:
            while not self._is_closed:
                for camera, slot in self._slots.items():
                    if slot.waiting is not None:
                        result, slot.waiting = slot.waiting, None
                        return camera, result
                self._changed.wait()
        return None

    def _encode(self, result: FrameResult) -> bytes:
        try:
            import cv2
        except ImportError as exc:
            raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
        named = [_named(one, self._name_of) for one in result.observations]
        picture = draw(result.frame, named)
        height, width = picture.shape[:2]
        if width > _WIDEST_PX:
            size = (_WIDEST_PX, round(height * _WIDEST_PX / width))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return bytes(jpeg)


def _named(observation: Observation, name_of: Callable[[str], str]) -> Observation:
    """Return the observation with names in place of the ids that the gallery knows."""
    track = observation.track_result
    return replace(
        observation,
        result=_with_name(observation.result, name_of),
        track_result=None if track is None else _with_name(track, name_of),
    )


def _with_name(result: IdentificationResult, name_of: Callable[[str], str]) -> IdentificationResult:
    if result.subject is None:
        return result
    return replace(result, subject=name_of(result.subject))
