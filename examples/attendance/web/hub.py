"""One thread listens to the office, one to each camera that is watched; all browsers share them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from edgeface.errors import EdgefaceError
from examples.attendance.interface import ChangeKind, LiveEvent, LiveFrame, Office

__all__ = ["HubFullError", "LiveHub"]

# The display is open to everybody; who fills it up must not lock out those who signed in.
_MOST_STREAMS, _MOST_PUBLIC_STREAMS = 100, 40
_QUEUE = 64
_WAIT_S = 0.5
# A picture a person watches needs no more; recognition has its own frames.
_LEAST_GAP_S = 1.0 / 6.0


class HubFullError(Exception):
    """As many browsers are listening as are served at once."""


class LiveHub:
    """Brings what happens in the office's threads to the browsers of an event loop."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._queues: set[asyncio.Queue[LiveEvent]] = set()
        self._pumps: dict[str, _Pump] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._streams = {True: 0, False: 0}

    def start(self) -> None:
        """Begin to listen; called within the event loop that the browsers are served from."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._listen, args=(loop,), name="web-events", daemon=True
        )
        self._thread.start()

    @property
    def is_stopping(self) -> bool:
        """Whether streams are to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End every stream; may be called from any thread, and twice."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until no thread of the hub runs."""
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        for pump in list(self._pumps.values()):
            pump.join()

    async def events(self, *, beat_s: float, is_public: bool) -> AsyncIterator[LiveEvent | None]:
        """Yield what happens, and None when nothing did for ``beat_s``.

        ``is_public`` says that there is no login.

        Raises:
            HubFullError: Too many browsers.
        """
        queue: asyncio.Queue[LiveEvent] = asyncio.Queue(_QUEUE)
        self._enter(is_public)
        self._queues.add(queue)
        try:
            while not self.is_stopping:
                event = await _next(queue, beat_s, self._stopping)
                if event is not None and event.kind is ChangeKind.CLOSED:
                    return
                yield event
        finally:
            self._queues.discard(queue)
            self._streams[is_public] -= 1

    async def frames(self, camera: str, *, is_public: bool) -> AsyncIterator[LiveFrame | None]:
        """Yield each new picture of ``camera``, leaving out what is too fast; None every few s.

        Raises:
            HubFullError: Too many browsers.
        """
        self._enter(is_public)
        pump = self._pumps.get(camera)
        if pump is None or not pump.join_viewer():
            pump = self._pumps[camera] = _Pump(self._office, camera, self._stopping)
            pump.join_viewer()
        shown = -1
        try:
            while not (self.is_stopping or pump.is_over):
                frame = await pump.next(shown)
                shown = shown if frame is None else frame.number
                yield frame
        finally:
            pump.leave_viewer()
            self._streams[is_public] -= 1

    def _enter(self, is_public: bool) -> None:
        most = _MOST_PUBLIC_STREAMS if is_public else _MOST_STREAMS
        if self._streams[is_public] >= most or self.is_stopping:
            raise HubFullError
        self._streams[is_public] += 1

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._office.subscribe() as subscription:
            while not self._stopping.is_set():
                event = subscription.get(_WAIT_S)
                if event is None:
                    continue
                with suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(self._spread, event)
                if event.kind is ChangeKind.CLOSED:
                    self._stopping.set()

    def _spread(self, event: LiveEvent) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)


class _Pump:
    """Fetches the pictures of one camera while somebody looks."""

    def __init__(self, office: Office, camera: str, stopping: threading.Event) -> None:
        self._office, self._camera, self._stopping = office, camera, stopping
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._viewers = 0
        self._is_over = False
        self._newest: LiveFrame | None = None
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="web-pictures", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether no more pictures come."""
        return self._is_over

    def join_viewer(self) -> bool:
        """Count one more who looks; False when the pump has just ended."""
        with self._lock:
            if self._is_over:
                return False
            self._viewers += 1
            if self._thread.ident is None:
                self._thread.start()
            return True

    def leave_viewer(self) -> None:
        with self._lock:
            self._viewers -= 1

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout=5.0)

    async def next(self, shown: int) -> LiveFrame | None:
        """Return a picture other than number ``shown``, or None after a second."""
        newest = self._newest
        if newest is None or newest.number == shown:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 1.0)
            newest = self._newest
        return newest if newest is not None and newest.number != shown else None

    def _run(self) -> None:
        number = -1
        while self._goes_on():
            begun_s = time.monotonic()
            try:
                frame = self._office.live_frame(self._camera, after=number, timeout_s=_WAIT_S)
            except EdgefaceError:  # the camera is gone
                with self._lock:
                    self._is_over = True
                return
            if frame is not None:
                number = frame.number
                with suppress(RuntimeError):  # the loop was closed meanwhile
                    self._loop.call_soon_threadsafe(self._publish, frame)
            self._stopping.wait(max(0.01, _LEAST_GAP_S - (time.monotonic() - begun_s)))

    def _goes_on(self) -> bool:
        with self._lock:
            self._is_over = self._viewers <= 0 or self._stopping.is_set()
            return not self._is_over

    def _publish(self, frame: LiveFrame) -> None:
        self._newest = frame
        self._changed.set()
        self._changed = asyncio.Event()


async def _next(
    queue: asyncio.Queue[LiveEvent], beat_s: float, stopping: threading.Event
) -> LiveEvent | None:
    """Return the next event, None after ``beat_s`` or when the hub stops."""
    end_s = time.monotonic() + beat_s
    event = None
    while event is None and not stopping.is_set() and time.monotonic() < end_s:
        with suppress(asyncio.TimeoutError):
            event = await asyncio.wait_for(queue.get(), min(1.0, beat_s))
    return event
