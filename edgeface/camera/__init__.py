"""Where frames come from. BGR, the order of OpenCV, ends here: every frame is RGB."""

from __future__ import annotations

from edgeface.camera.base import FrameSource, SourceOptions
from edgeface.camera.group import CameraGroup
from edgeface.camera.health import (
    CameraEvent,
    CameraEventKind,
    CameraHealth,
    CameraState,
    FrameCondition,
)
from edgeface.camera.images import decode_image, read_image, to_rgb
from edgeface.camera.live import LiveSource
from edgeface.camera.monitor import FrameMonitor, MonitorOptions
from edgeface.camera.opening import open_source
from edgeface.camera.writer import AnnotatedVideoWriter

__all__ = [
    "AnnotatedVideoWriter",
    "CameraEvent",
    "CameraEventKind",
    "CameraGroup",
    "CameraHealth",
    "CameraState",
    "FrameCondition",
    "FrameMonitor",
    "FrameSource",
    "LiveSource",
    "MonitorOptions",
    "SourceOptions",
    "decode_image",
    "open_source",
    "read_image",
    "to_rgb",
]
