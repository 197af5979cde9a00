"""Recorded sources: a picture, a folder of pictures, a video file."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeface.camera.base import MAX_PIXELS, load_opencv
from edgeface.camera.images import is_image_file, read_image, to_rgb
from edgeface.camera.video_header import VIDEO_FORMATS, VIDEO_MAGIC_SIZE, is_video
from edgeface.errors import CameraError
from edgeface.types import Frame

__all__ = ["ImageSource", "VideoFileSource", "positive_or_none", "read_capture"]

# Where a video does not say its frame rate: only used for timestamps of such a video.
_ASSUMED_FPS = 25.0


class _FileSource:
    """What recorded sources share."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_live = False
        self.skipped = 0
        self._closed = False

    def close(self) -> None:
        """Free the source; may be called twice."""
        self._closed = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ImageSource(_FileSource):
    """Still pictures; the timestamp of a frame is its index, in seconds."""

    fps = None

    def __init__(self, name: str, paths: list[Path], *, skip_damaged: bool = False) -> None:
        super().__init__(name)
        self.frame_count: int | None = len(paths)
        self._paths = paths
        self._skip_damaged = skip_damaged
        self._position = 0
        self._index = 0

    @classmethod
    def of_file(cls, path: Path) -> ImageSource:
        """Return the source of the one picture at ``path``."""
        return cls(path.name, [path])

    @classmethod
    def of_folder(cls, folder: Path) -> ImageSource:
        """Return the source of the PNG and JPEG files directly in ``folder``, by name.

        Other files are counted in ``skipped``, and so is, when its turn comes, a damaged picture.

        Raises:
            CameraError: The folder cannot be read or holds no picture.
        """
        try:
            files = sorted(path for path in folder.iterdir() if path.is_file())
        except OSError as exc:
            raise CameraError(f"{folder} cannot be read: {exc}") from exc
        pictures = [path for path in files if is_image_file(path)]
        if not pictures:
            raise CameraError(
                f"no picture in {folder}: {len(files)} files, none of them PNG or JPEG; "
                "name the folder that holds the pictures themselves"
            )
        source = cls(folder.name, pictures, skip_damaged=True)
        source.skipped = len(files) - len(pictures)
        return source

    def __enter__(self) -> ImageSource:
        return self

    def __iter__(self) -> Iterator[Frame]:
        while self._position < len(self._paths) and not self._closed:
            path = self._paths[self._position]
            self._position += 1
            try:
                frame = read_image(path)
            except CameraError:
                if not self._skip_damaged:
                    raise
                self.skipped += 1
                continue
            yield Frame(frame.pixels, float(self._index), self._index, path.name)
            self._index += 1


class VideoFileSource(_FileSource):
    """The frames of a video file; a file that was cut short ends with what can be read.

    In ``real_time`` a frame comes when it is due, and one whose successor is due is dropped: the
    file behaves as a camera does. Otherwise every frame comes, as fast as it is fetched.
    """

    def __init__(
        self,
        path: Path,
        *,
        real_time: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(path.name)
        self.is_live = real_time
        self._clock = clock
        self._ended = threading.Event()
        self._started_s: float | None = None
        self._path = path
        self._lock = threading.Lock()
        self._capture = _open_video(path)
        cv2 = load_opencv()
        self.fps = positive_or_none(self._capture.get(cv2.CAP_PROP_FPS))
        count = positive_or_none(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = None if count is None else int(count)
        self._index = 0
        self._last_s = 0.0

    def close(self) -> None:
        """Free the source; may be called twice."""
        super().close()
        self._ended.set()
        with self._lock:
            self._capture.release()

    def __enter__(self) -> VideoFileSource:
        return self

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._read()) is not None:
            if not self.is_live or self._is_due(frame):
                yield frame
        if self._index == 0 and not self._closed:
            raise CameraError(
                f"{self._path} holds no frame that can be decoded; play it, or convert it to MP4"
            )

    def _is_due(self, frame: Frame) -> bool:
        """Wait until ``frame`` is due; return False when its successor is due already."""
        if self._started_s is None:
            self._started_s = self._clock() - frame.timestamp_s
        left_s = self._started_s + frame.timestamp_s - self._clock()
        if left_s > 0 and self._ended.wait(left_s):
            return False
        return left_s > -1.0 / (self.fps or _ASSUMED_FPS)

    def _read(self) -> Frame | None:
        cv2 = load_opencv()
        while True:
            with self._lock:
                if self._closed:
                    return None
                ok, pixels = read_capture(self._capture, str(self._path))
                position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC) if ok else 0.0
            if not ok:
                return None
            if pixels is not None and pixels.size:
                return self._frame(pixels, position_ms / 1000)
            self.skipped += 1

    def _frame(self, pixels: Any, position_s: float) -> Frame:
        """Return the frame; where the file has no usable position, that is made from the rate."""
        if self._index and not (math.isfinite(position_s) and position_s > self._last_s):
            position_s = self._last_s + 1 / (self.fps or _ASSUMED_FPS)
        self._last_s = position_s if math.isfinite(position_s) else 0.0
        frame = Frame(to_rgb(pixels), self._last_s, self._index, self.name)
        self._index += 1
        return frame


def _open_video(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(VIDEO_MAGIC_SIZE)
    except OSError as exc:
        raise CameraError(f"{path} cannot be read: {exc}") from exc
    if not is_video(head):
        raise CameraError(
            f"{path} is neither a picture (PNG, JPEG) nor a video ({VIDEO_FORMATS}), whatever "
            "its name says; convert it to one of these"
        )
    cv2 = load_opencv()
    try:
        capture = cv2.VideoCapture(str(path))
    except cv2.error as exc:
        raise CameraError(f"{path} cannot be opened as a video: {exc}") from exc
    try:
        _check_video(capture, path)
    except CameraError:
        capture.release()
        raise
    return capture


def _check_video(capture: Any, path: Path) -> None:
    cv2 = load_opencv()
    if not capture.isOpened():
        raise CameraError(
            f"{path} is a video that OpenCV cannot open: it is damaged, cut short, or in a codec "
            "unknown here; copy it again, or convert it to MP4"
        )
    width, height = (
        capture.get(prop) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if width * height > MAX_PIXELS:
        raise CameraError(
            f"{path} has {width:.0f}x{height:.0f} pixels, more than {MAX_PIXELS >> 20} Mpx"
        )


def read_capture(capture: Any, where: str) -> tuple[bool, Any]:
    """Return what ``capture.read()`` returns.

    Raises:
        CameraError: OpenCV raised. ``where`` names the source.
    """
    cv2 = load_opencv()
    try:
        ok, pixels = capture.read()
    except cv2.error as exc:
        raise CameraError(f"{where} cannot be read any further: {exc}") from exc
    return bool(ok), pixels


def positive_or_none(value: float) -> float | None:
    """Return ``value``, None where OpenCV says 0, NaN or less for "not known"."""
    return value if math.isfinite(value) and value > 0 else None
