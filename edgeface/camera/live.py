"""Live sources: a process reads, the newest frame is kept, nothing waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from edgeface.camera.base import SourceOptions
from edgeface.camera.captures import CaptureSpec
from edgeface.camera.health import CameraEvent, CameraHealth, CameraState
from edgeface.camera.reader_process import ReaderProcess
from edgeface.camera.record import CameraRecord, OnEvent
from edgeface.camera.ring import FrameRing
from edgeface.errors import CameraError
from edgeface.types import Frame, Size

__all__ = ["LiveSource"]

# Until a reader says that it runs: an interpreter and its imports, on a slow and busy board.
_START_TIMEOUT_S = 30.0
# A reader shows every 0.25 s that it runs.
_HEARTBEAT_LIMIT_S = 3.0
_JOIN_TIMEOUT_S = 5.0
# A run that lasted less does not make the next delay short again: no storm of reopenings.
_STABLE_S = 5.0


class LiveSource:
    """The newest frame of a camera or stream, whenever one is asked for.

    ``Frame.index`` counts what the camera delivered, so that a gap shows dropped frames;
    ``Frame.timestamp_s`` is the monotonic clock when the frame was taken, as far as the camera
    tells, and otherwise when it arrived. Close a live source: nothing else ends its process but
    the end of this one.

    A source that is lost is opened again, for ever or ``max_retries`` times. Meanwhile iteration
    waits; ``health`` and ``take_events`` tell, from any thread.
    """

    is_live = True
    frame_count = None

    def __init__(
        self,
        name: str,
        spec: CaptureSpec,
        options: SourceOptions,
        *,
        on_event: OnEvent | None = None,
    ) -> None:
        """Open the source and, with ``must_open``, wait for its first frame.

        ``on_event`` is called from a thread of the source, which waits for it.

        Raises:
            CameraError: It cannot be opened, or gives no frame within ``open_timeout_s``.
        """
        self.name = name
        self.fps: float | None = None
        self._spec = spec
        self._options = options
        self._ring: FrameRing | None = FrameRing.create(options.max_pixels)
        self._reading = threading.Lock()
        self._changed = threading.Condition(threading.RLock())
        self._stop = threading.Event()
        self._record = CameraRecord(name, on_event)
        self._error: CameraError | None = None
        self._last_health: CameraHealth | None = None
        self._taken = self._handed_out = 0
        self._size: Size | None = None
        self._listeners: list[threading.Event] = []
        self._process: ReaderProcess | None = None
        self._message: dict[str, Any] | None = {}
        self._deadline_s = 0.0
        self._thread = threading.Thread(target=self._run, name="edgeface-camera", daemon=True)
        self._thread.start()
        try:
            self._wait_until_open()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ for who wants frames

    @property
    def skipped(self) -> int:
        """How many frames had no pixels."""
        return self.health().skipped

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """Return the newest frame not yet returned; None after ``timeout_s``, or when closed.

        A frame that has become too old waits for the next.

        Raises:
            CameraError: The source was given up.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._wait_for_frame(until_s):
            frame = self._newest()
            if frame is not None:
                return frame
        return None

    def health(self) -> CameraHealth:
        """Return how the source is doing now."""
        with self._changed:
            return self._last_health or self._current_health()

    @property
    def is_closed(self) -> bool:
        """Whether no frame comes any more: closed or given up."""
        return self._record.is_over

    def notify(self, arrived: threading.Event) -> None:
        """Set ``arrived`` whenever there is a new frame, an event, or the end."""
        with self._changed:
            self._listeners.append(arrived)
        arrived.set()

    def take_events(self) -> tuple[CameraEvent, ...]:
        """Return what happened since the last call, oldest first; at most the last 256."""
        with self._changed:
            return self._record.take_events()

    def close(self) -> None:
        """End the reading; may be called twice. A read that hangs is killed."""
        self._stop.set()
        with self._changed:
            self._wake()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_TIMEOUT_S)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    def _wait_until_open(self) -> None:
        with self._changed:
            while self._options.must_open and self._record.state is CameraState.OPENING:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def _wait_for_frame(self, until_s: float | None) -> bool:
        """Return True when there is a new frame, False when closed or the time is over."""
        with self._changed:
            while not self._stop.is_set():
                if self._count() > self._taken:
                    return True
                if self._error is not None:
                    raise self._error
                left_s = None if until_s is None else until_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return False

    def _newest(self) -> Frame | None:
        """Return the newest frame, None when it is too old or the source was closed."""
        with self._reading:
            if self._ring is None:
                return None
            found = self._ring.newest()
            if found is None or found.index < self._taken:
                return None
            self._taken = found.index + 1
            limit_s = self._options.monitor.max_age_s
            if limit_s is not None and time.monotonic() - found.captured_s > limit_s:
                return None
            self._handed_out += 1
        self._size = Size(int(found.pixels.shape[1]), int(found.pixels.shape[0]))
        return Frame(found.pixels, found.captured_s, found.index, self.name)

    # ------------------------------------------------------------------ the source's own thread

    def _run(self) -> None:
        try:
            self._read_for_ever()
        finally:
            self._shut_down()

    def _read_for_ever(self) -> None:
        """Read until closed or given up, opening the source again after a failure."""
        failures = short_runs = 0
        while not self._stop.is_set():
            before, started_s = self._count(), time.monotonic()
            error = self._read_once_opened()
            if self._stop.is_set():
                return
            failures = 1 if self._count() > before else failures + 1
            if self._is_given_up(failures):
                self._fail(error)
                return
            self._lose(error)
            was_stable = failures == 1 and time.monotonic() - started_s > _STABLE_S
            short_runs = 0 if was_stable else short_runs + 1
            self._wait_before_retry(short_runs)

    def _wait_before_retry(self, short_runs: int) -> None:
        delay_s = self._options.retry_delay_s * 2.0 ** min(short_runs, 20)
        self._stop.wait(min(delay_s, self._options.max_retry_delay_s))

    def _is_given_up(self, failures: int) -> bool:
        # A source that never worked is not tried again: whoever opens it wants to know.
        if self._options.must_open and self._count() == 0:
            return True
        most = self._options.max_retries
        return most is not None and failures > most

    def _read_once_opened(self) -> CameraError:
        """Return why the reading ended."""
        try:
            process = self._open()
        except CameraError as exc:
            return exc
        with self._changed:
            while not (error := self._why_over()):
                self._changed.wait(min(max(self._deadline_s - time.monotonic(), 0.0), 1.0))
        if self._process is None:
            # Said first: the end of a process that hangs may take a while.
            self._lose(CameraError(error))
            process.end(at_once=True)
        return CameraError(error)

    def _why_over(self) -> str | None:
        """Return why the reading is over, None while it goes on; gives up a reader that hangs."""
        now_s = time.monotonic()
        if self._stop.is_set():
            return f"{self.name} was closed"
        if self._message is not None and "error" in self._message:
            text: str = self._message["error"]
            return text if self.name in text else f"{self.name} cannot be read: {text}"
        if self._message is None:
            self._process = None
            return f"{self.name}: the process that reads it ended"
        if now_s < self._deadline_s and not self._is_silent(now_s):
            return None
        self._process = None
        limit_s = self._options.read_timeout_s
        if self._record.state is not CameraState.LIVE:
            limit_s = self._options.open_timeout_s
        return f"{self.name} gave no frame for {limit_s:.1f} s; check the camera and the network"

    def _open(self) -> ReaderProcess:
        """Return the reader, started where there is none, told to open the source."""
        with self._changed:
            self._message = {}
            process = self._process
            if process is not None:
                self._deadline_s = time.monotonic() + self._options.open_timeout_s
            else:
                self._deadline_s = time.monotonic() + _START_TIMEOUT_S
                ring = self._ring
                if ring is None:
                    raise CameraError(f"{self.name} was closed")
                ring.beat(time.monotonic() + _START_TIMEOUT_S)
                process = self._process = ReaderProcess(
                    self._spec, ring, self._options.monitor, self._heard
                )
        size = self._size
        process.send({"size": [size.width_px, size.height_px] if size else None})
        return process

    def _heard(self, process: ReaderProcess, message: dict[str, Any] | None) -> None:
        """Take a message of the reader; called in the reader's thread."""
        with self._changed:
            if process is not self._process or self._message is None:
                return
            if message is None:
                self._message = None
            elif not message:
                now_s = time.monotonic()
                self._deadline_s = now_s + self._options.read_timeout_s
                self._record.arrived(now_s, self._count())
            elif message["type"] == "conditions":
                self._record.changed(message["changes"])
            elif message["type"] == "error":
                self._message = {"error": message["message"]}
            elif message["type"] == "refused":
                self._deadline_s = time.monotonic() + self._options.read_timeout_s
            elif message["type"] == "ready":
                self._deadline_s = time.monotonic() + self._options.open_timeout_s
            else:
                self.fps = message["fps"] or self.fps
            self._wake()
        self._record.deliver()

    def _lose(self, error: CameraError) -> None:
        with self._changed:
            self._record.lost(str(error))
            self._wake()
        self._record.deliver()

    def _fail(self, error: CameraError) -> None:
        with self._changed:
            self._record.failed(str(error))
            self._error = error
            self._wake()
        self._record.deliver()

    def _shut_down(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()
        if not self._stop.is_set() and not self._record.is_over:
            self._fail(CameraError(f"{self.name}: its thread ended"))
        with self._reading, self._changed:
            self._record.closed()
            self._last_health = self._current_health()
            if self._ring is not None:
                self._ring.close()
            self._ring = None
            self._wake()
        self._record.deliver()

    def _wake(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener.set()

    # ------------------------------------------------------------------ small questions

    def _count(self) -> int:
        return self._ring.count if self._ring is not None else 0

    def _is_silent(self, now_s: float) -> bool:
        return self._ring is None or now_s - self._ring.heartbeat_s > _HEARTBEAT_LIMIT_S

    def _current_health(self) -> CameraHealth:
        ring = self._ring
        if ring is None:
            return self._record.health(age_s=None, frames=0, drops=0, skipped=0)
        frames = ring.count + ring.refused
        pending = int(ring.count > self._taken)
        return self._record.health(
            age_s=time.monotonic() - ring.newest_captured_s if ring.count else None,
            frames=frames,
            drops=frames - self._handed_out - pending,
            skipped=ring.skipped,
        )
