"""Live sources: a thread reads, the newest frame is kept, nothing waits for ever.

``read()`` of OpenCV may block without limit and cannot be interrupted. It therefore runs in a
thread of its own that owns the capture; who wants a frame waits for it with a limit. A thread
whose read hangs when the source is closed ends, and frees the capture, as soon as the read does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from edgeface.camera.base import MAX_PIXELS, SourceOptions, load_opencv
from edgeface.camera.files import positive_or_none, read_capture
from edgeface.camera.images import to_rgb
from edgeface.errors import CameraError, EdgefaceError
from edgeface.types import Frame

__all__ = ["Capture", "LiveSource", "stream_opener", "webcam_opener"]

# FFmpeg is told the same limit and ends a read by itself; only when it has not done so by half as
# much again is the read taken for hung.
_HUNG_FACTOR = 1.5
# A read that returns at all does so within a frame interval; what hangs longer is left to end
# on its own.
_JOIN_TIMEOUT_S = 2.0


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def read(self) -> tuple[bool, Any]:
        """Return (True, BGR pixels), or (False, None) when the stream failed or ended."""
        ...

    def get(self, prop: int, /) -> float:
        """Return a property."""
        ...

    def release(self) -> None:
        """Free the device."""
        ...


CaptureOpener: TypeAlias = Callable[[], Capture]


class LiveSource:
    """The newest frame of a camera or stream, whenever one is asked for.

    ``Frame.index`` counts what the camera delivered, so that a gap shows dropped frames;
    ``Frame.timestamp_s`` is the monotonic clock when the frame arrived. Close a live source:
    nothing else ends its thread.
    """

    is_live = True
    frame_count = None

    def __init__(
        self,
        name: str,
        opener: CaptureOpener,
        options: SourceOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the source and wait for its first frame.

        Raises:
            CameraError: It cannot be opened, or gives no frame within ``open_timeout_s``.
        """
        self.name = name
        self.skipped = 0
        self.fps: float | None = None
        self._opener = opener
        self._options = options
        self._clock = clock
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._newest: Frame | None = None
        self._error: CameraError | None = None
        self._captured = 0
        self._expect_within(options.open_timeout_s)
        self._thread = threading.Thread(target=self._run, name="edgeface-camera", daemon=True)
        self._thread.start()
        try:
            self._wait_for_frame()
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """End the reading; may be called twice. A read that hangs is not waited for."""
        self._end()
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
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        """Return the newest frame not yet returned, None when closed."""
        with self._changed:
            self._wait_for_frame()
            frame, self._newest = self._newest, None
            return None if self._stop.is_set() else frame

    def _wait_for_frame(self) -> None:
        """Return when there is a new frame or the source is closed."""
        with self._changed:
            while self._newest is None and not self._stop.is_set():
                if self._error is not None:
                    raise self._error
                left_s = self._deadline_s - time.monotonic()
                if left_s <= 0:
                    self._end()
                    raise CameraError(
                        f"{self.name} gave no frame for {self._limit_s:.1f} s; check the camera "
                        "and the network, and open it again"
                    )
                self._changed.wait(left_s)

    def _end(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def _expect_within(self, limit_s: float) -> None:
        with self._changed:
            self._limit_s = limit_s
            self._deadline_s = time.monotonic() + limit_s
            self._changed.notify_all()

    def _run(self) -> None:
        """Read until closed, opening the stream again after a failure. Runs in the thread."""
        failures = 0
        while not self._stop.is_set():
            before = self._captured
            error = self._read_once_opened()
            failures = 1 if self._captured > before else failures + 1
            # A source that never worked is not tried again: whoever opens it wants to know.
            if self._captured == 0 or failures > self._options.max_retries:
                self._fail(error)
                return
            self._expect_within(self._options.retry_delay_s + self._options.open_timeout_s)
            self._stop.wait(self._options.retry_delay_s)

    def _read_once_opened(self) -> CameraError:
        """Return why the reading ended."""
        try:
            capture = self._opener()
        except CameraError as exc:
            return exc
        try:
            self.fps = positive_or_none(capture.get(load_opencv().CAP_PROP_FPS))
            while not self._stop.is_set():
                ok, pixels = read_capture(capture, self.name)
                if not ok:
                    return CameraError(
                        f"{self.name} stopped giving frames; check the camera and the network"
                    )
                self._keep(pixels)
        except EdgefaceError as exc:
            return CameraError(f"{self.name} cannot be read: {exc}")
        finally:
            capture.release()
        return CameraError(f"{self.name} was closed")

    def _keep(self, pixels: Any) -> None:
        if pixels is None or not pixels.size:
            self.skipped += 1
            return
        if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
            raise CameraError(f"a frame has more than {MAX_PIXELS >> 20} Mpx")
        frame = Frame(to_rgb(pixels), self._clock(), self._captured, self.name)
        with self._changed:
            self._newest = frame
            self._captured += 1
            self._expect_within(self._options.read_timeout_s * _HUNG_FACTOR)

    def _fail(self, error: CameraError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def webcam_opener(index: int, options: SourceOptions) -> CaptureOpener:
    """Return what opens the webcam number ``index``."""

    def open_webcam() -> Capture:
        cv2 = load_opencv()
        capture = _opened(cv2.VideoCapture(index), _no_webcam(index))
        if options.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size.width_px)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size.height_px)
        # A queue inside the driver would hand out old frames; drivers may ignore this.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        webcam: Capture = capture
        return webcam

    return open_webcam


def stream_opener(address: str, name: str, options: SourceOptions) -> CaptureOpener:
    """Return what opens the stream at ``address``, which errors call ``name``."""

    def open_stream() -> Capture:
        cv2 = load_opencv()
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(options.open_timeout_s * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(options.read_timeout_s * 1000),
        ]
        capture = _opened(
            cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits),
            f"{name} cannot be opened: no answer, access refused, or not a stream; check the "
            "address, the user name and the password",
        )
        if positive_or_none(capture.get(cv2.CAP_PROP_FRAME_COUNT)) is not None:
            capture.release()
            raise CameraError(f"{name} is a recording; download it and open the file")
        stream: Capture = capture
        return stream

    return open_stream


def _opened(capture: Any, message: str) -> Any:
    if not capture.isOpened():
        capture.release()
        raise CameraError(message)
    return capture


def _no_webcam(index: int) -> str:
    found = ", ".join(sorted(path.name for path in Path("/dev").glob("video*"))) or "none"
    return (
        f"webcam {index} cannot be opened: it does not exist, is in use, or may not be used by "
        f"this account (devices found: {found})"
    )
