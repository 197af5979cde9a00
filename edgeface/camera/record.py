"""The running record of a live source: its state, conditions, rate and events."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from edgeface.camera.health import (
    CameraEvent,
    CameraEventKind,
    CameraHealth,
    CameraState,
    FrameCondition,
)

__all__ = ["CameraRecord", "OnEvent"]

_log = logging.getLogger("edgeface.camera")

OnEvent = Callable[[CameraEvent], None]

_FPS_WINDOW_S = 2.0
_KEPT_EVENTS = 256
_LOGGED = (CameraEventKind.LOST, CameraEventKind.BACK, CameraEventKind.FAILED)


class CameraRecord:
    """What is noted down about one source. It has no lock: its owner has."""

    def __init__(self, source: str, on_event: OnEvent | None) -> None:
        self.state = CameraState.OPENING
        self._source = source
        self._on_event = on_event
        self._conditions: frozenset[FrameCondition] = frozenset()
        self._events: deque[CameraEvent] = deque(maxlen=_KEPT_EVENTS)
        self._undelivered: deque[CameraEvent] = deque()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._reconnects = 0
        self._error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether no frame comes any more."""
        return self.state in (CameraState.CLOSED, CameraState.FAILED)

    def arrived(self, now_s: float, count: int) -> None:
        """Note that frame number ``count`` came."""
        self._arrivals.append((now_s, count))
        while now_s - self._arrivals[0][0] > _FPS_WINDOW_S:
            self._arrivals.popleft()
        if self.state in (CameraState.OPENING, CameraState.LOST):
            is_back = self.state is CameraState.LOST
            self._reconnects += is_back
            self.state, self._error = CameraState.LIVE, None
            self._emit(CameraEventKind.BACK if is_back else CameraEventKind.OPENED)

    def changed(self, changes: Sequence[tuple[str, bool, str]]) -> None:
        """Note conditions (value, whether it began, detail) that began or ended."""
        for value, began, detail in changes:
            condition = FrameCondition(value)
            if began:
                self._conditions |= {condition}
            else:
                self._conditions -= {condition}
            kind = CameraEventKind.BEGAN if began else CameraEventKind.ENDED
            self._emit(kind, detail, condition)

    def lost(self, error: str) -> None:
        """Note that frames stopped; said once for each time that they do."""
        self.changed([(condition.value, False, "") for condition in self._conditions])
        self._arrivals.clear()
        self._error = error
        if self.state is CameraState.LIVE:
            self.state = CameraState.LOST
            self._emit(CameraEventKind.LOST, error)

    def failed(self, error: str) -> None:
        """Note that the source was given up."""
        self.lost(error)
        self.state = CameraState.FAILED
        self._emit(CameraEventKind.FAILED, error)

    def closed(self) -> None:
        """Note the end, unless the source was given up before."""
        if not self.is_over:
            self.state = CameraState.CLOSED
            self._emit(CameraEventKind.CLOSED)

    def take_events(self) -> tuple[CameraEvent, ...]:
        """Return the events since the last call, oldest first."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def health(self, *, age_s: float | None, frames: int, drops: int, skipped: int) -> CameraHealth:
        """Return the health, with the numbers that its owner counts."""
        return CameraHealth(
            self._source,
            self.state,
            fps=0.0 if self.is_over else self._fps(time.monotonic()),
            age_s=age_s,
            frames=frames,
            drops=drops,
            skipped=skipped,
            reconnects=self._reconnects,
            conditions=self._conditions,
            error=self._error,
        )

    def _fps(self, now_s: float) -> float:
        if len(self._arrivals) < 2:
            return 0.0
        (first_s, first), (_, last) = self._arrivals[0], self._arrivals[-1]
        return (last - first) / max(now_s - first_s, 1e-3)

    def _emit(
        self, kind: CameraEventKind, detail: str = "", condition: FrameCondition | None = None
    ) -> None:
        event = CameraEvent(kind, self._source, time.monotonic(), condition, detail)
        self._events.append(event)
        if kind in _LOGGED:
            _log.warning("%s", detail or f"{self._source} is {kind.value}")
        if self._on_event is not None:
            self._undelivered.append(event)

    def deliver(self) -> None:
        """Tell the listener what it was not told yet; to be called without any lock."""
        while self._on_event is not None and self._undelivered:
            self._tell(self._on_event)

    def _tell(self, listener: OnEvent) -> None:
        try:
            event = self._undelivered.popleft()
        except IndexError:
            return  # another thread was quicker
        try:
            listener(event)
        except Exception:  # noqa: BLE001 (a listener's fault must not end the camera)
            _log.exception("%s: on_event raised", self._source)
