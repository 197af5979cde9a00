"""The cameras of the office: opened by name, and how each is doing."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeface.camera import CameraState, FrameSource, LiveSource, SourceOptions, open_source
from examples.attendance.errors import AttendanceError
from examples.attendance.values import CameraStatus

__all__ = ["Camera", "close_all", "open_cameras", "parse_source"]

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,30})=(.+)", re.DOTALL)
_RATE_S = 5.0
_ENDED_S = 10.0
"""A recording that gave no frame for this long has ended, although others go on."""


@dataclass(slots=True)
class Camera:
    """One source with the name it has in the record, and the looks that were taken of it."""

    name: str
    source: FrameSource
    clock: Callable[[], float] = time.monotonic
    looks: int = 0
    is_over: bool = False
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=500))

    def looked(self) -> None:
        """Note that a frame was searched."""
        self.looks += 1
        self.recent.append(self.clock())

    @property
    def is_recording(self) -> bool:
        """Whether it is a file, which ends, and not a camera."""
        return not isinstance(self.source, LiveSource)

    @property
    def can_see(self) -> bool:
        """Whether what it shows now may be believed."""
        return not isinstance(self.source, LiveSource) or self.source.health().is_usable

    def status(self) -> CameraStatus:
        """Return how it is doing."""
        now_s = self.clock()
        searched = sum(now_s - at_s <= _RATE_S for at_s in tuple(self.recent)) / _RATE_S
        if not isinstance(self.source, LiveSource):
            return self._recording(now_s, searched)
        health = self.source.health()
        return CameraStatus(
            name=self.name,
            state=health.state,
            is_usable=health.is_usable,
            fps=health.fps,
            compared_fps=searched,
            age_s=health.age_s,
            reconnects=health.reconnects,
            conditions=tuple(sorted(one.value for one in health.conditions)),
            error=health.error,
        )

    def _recording(self, now_s: float, searched: float) -> CameraStatus:
        age_s = now_s - self.recent[-1] if self.recent else None
        if self.is_over or (age_s is not None and age_s > _ENDED_S):
            state = CameraState.CLOSED
        else:
            state = CameraState.OPENING if age_s is None else CameraState.LIVE
        is_live = state is CameraState.LIVE
        return CameraStatus(self.name, state, is_live, searched, searched, age_s, 0)


def parse_source(text: str) -> tuple[str | None, str]:
    """Return the name and the source of ``NAME=SOURCE``; the name is None for a bare source."""
    match = _NAMED.fullmatch(text)
    if match is None or Path(text).exists():
        return None, text
    return match[1], match[2]


def open_cameras(sources: Sequence[str], options: SourceOptions) -> tuple[Camera, ...]:
    """Return the cameras; none stays open when one cannot be opened.

    Raises:
        CameraError: A source cannot be opened. A live one that does not answer is tried for ever.
        AttendanceError: Two have the same name.
    """
    cameras: list[Camera] = []
    try:
        for text in sources:
            name, source = parse_source(text)
            opened = open_source(source, options=options)
            cameras.append(Camera(name or opened.name, opened))
        _require_different(camera.name for camera in cameras)
    except BaseException:
        close_all(cameras)
        raise
    return tuple(cameras)


def _require_different(names: Iterable[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise AttendanceError(
            f"{count} cameras are called {name!r}; give each a name of its own: "
            "door=rtsp://... room=0"
        )


def close_all(cameras: Sequence[Camera]) -> None:
    """Close every camera."""
    for camera in cameras:
        camera.source.close()
