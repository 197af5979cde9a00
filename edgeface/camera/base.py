"""The seam for sources of frames, and what their adapters share."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Literal, Protocol

from edgeface.camera.monitor import MonitorOptions
from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import Frame, Size

__all__ = ["FrameSource", "SourceOptions", "load_opencv", "require_opencv"]

MAX_PIXELS = 64 << 20
"""No frame above 64 Mpx is decoded: 8K video has 33 Mpx, a large phone camera 50."""


class FrameSource(Protocol):
    """Frames in their order; one pass. Also a context manager that closes itself.

    ``name`` is for people and logs and holds no credentials. ``frame_count`` is None where it is
    not known beforehand; what a video announces is an estimate. ``fps`` is None for still
    images, and for live sources that do not say.
    """

    @property
    def name(self) -> str:
        """What the source is called."""
        ...

    @property
    def frame_count(self) -> int | None:
        """How many frames there are."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether frames that are not fetched in time are dropped."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second."""
        ...

    @property
    def skipped(self) -> int:
        """How many files or frames were passed over so far because they hold no picture."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Return an iterator over the frames that are left.

        Raises:
            CameraError: While iterating, when the source cannot be read any more.
        """
        ...

    def close(self) -> None:
        """Free the source; may be called twice, and ends an iteration in another thread."""
        ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How sources are opened and watched.

    Of live sources: ``open_timeout_s`` until the first frame; 10 s, because USB cameras need up
    to 5 s and RTSP waits for a key frame. ``read_timeout_s`` between two frames; then the reader
    is killed and the source opened again, so that a camera below 1 frame per second needs more.
    ``max_retries``: how often in a row it is opened again before it is given up, None for ever;
    ``retry_delay_s`` before the first, doubled for each until ``max_retry_delay_s``.
    ``must_open``: a source that cannot be opened at first is an error; otherwise it is tried
    again like any other. ``max_pixels`` of a frame; 4K has 8.8 million. ``monitor``: when the
    conditions of its picture are said. ``transport`` of RTSP: "tcp" or "udp". ``size`` is asked
    of a webcam or CSI camera, which may answer with another. ``allow_virtual``: a camera that is
    made by a program is accepted.

    Of video files: ``real_time`` plays at the recorded speed; frames that are not fetched in time
    are dropped.
    """

    open_timeout_s: float = 10.0
    read_timeout_s: float = 1.5
    max_retries: int | None = None
    retry_delay_s: float = 0.25
    max_retry_delay_s: float = 2.0
    must_open: bool = True
    max_pixels: int = 16 << 20
    monitor: MonitorOptions = field(default_factory=MonitorOptions)
    transport: Literal["tcp", "udp"] = "tcp"
    size: Size | None = None
    allow_virtual: bool = False
    real_time: bool = False

    def __post_init__(self) -> None:
        if not (0.0 < self.open_timeout_s < 3600.0 and 0.0 < self.read_timeout_s < 3600.0):
            raise InvalidInputError(
                "timeouts must be above 0 and below an hour, got "
                f"{self.open_timeout_s} and {self.read_timeout_s} s"
            )
        if self.max_retries is not None and self.max_retries < 0:
            raise InvalidInputError(
                f"max_retries must be at least 0, or None for ever, got {self.max_retries}"
            )
        if not 0.0 <= self.retry_delay_s <= 3600.0 or not 0.0 <= self.max_retry_delay_s <= 3600.0:
            raise InvalidInputError(
                "retry_delay_s and max_retry_delay_s must be in 0..3600, got "
                f"{self.retry_delay_s} and {self.max_retry_delay_s}"
            )
        if not 0 < self.max_pixels <= MAX_PIXELS:
            raise InvalidInputError(f"max_pixels must be in 1..{MAX_PIXELS}, got {self.max_pixels}")
        if self.transport not in ("tcp", "udp"):
            raise InvalidInputError(f"transport must be tcp or udp, got {self.transport!r}")


def require_opencv() -> None:
    """Return if OpenCV is installed, without loading it.

    Raises:
        MissingDependencyError: It is not.
    """
    if importlib.util.find_spec("cv2") is None:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu")


@functools.cache
def load_opencv() -> ModuleType:
    """Return OpenCV with its own log lines off, unless the environment asks for them.

    It would print to stderr, with addresses and their passwords, what is raised as an error
    anyway. libpng and libjpeg write past this switch; damaged PNG and JPEG files are therefore
    refused before they are decoded where that is cheap.

    Raises:
        MissingDependencyError: OpenCV is not installed.
    """
    # -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as exc:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    module: ModuleType = cv2
    return module
