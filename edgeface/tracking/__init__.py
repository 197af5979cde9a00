"""Tracks: which faces of one frame are those of the frame before."""

from __future__ import annotations

from edgeface.tracking.motion import MotionOptions, MovingBox
from edgeface.tracking.tracker import Tracker, TrackerOptions

__all__ = ["MotionOptions", "MovingBox", "Tracker", "TrackerOptions"]
