"""A demonstration with no camera and no network: faces from ordinary packages."""

from __future__ import annotations

from edgeface.demo.clip import SCENES, Scene, clip_frames, write_clip
from edgeface.demo.photos import ENROLLED, STRANGER, photo
from edgeface.demo.run import DemoResult, run_demo

__all__ = [
    "ENROLLED",
    "SCENES",
    "STRANGER",
    "DemoResult",
    "Scene",
    "clip_frames",
    "photo",
    "run_demo",
    "write_clip",
]
