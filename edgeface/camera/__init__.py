"""Where frames come from. BGR, the order of OpenCV, ends here: every frame is RGB."""

from __future__ import annotations

from edgeface.camera.base import FrameSource, SourceOptions
from edgeface.camera.images import read_image, to_rgb
from edgeface.camera.opening import open_source
from edgeface.camera.writer import AnnotatedVideoWriter

__all__ = [
    "AnnotatedVideoWriter",
    "FrameSource",
    "SourceOptions",
    "open_source",
    "read_image",
    "to_rgb",
]
