"""Fakes at the seams, for tests of what is built on edgeface.

Each takes the place of one outside thing, does what a script or a cue says, and keeps what it was
asked.
"""

from __future__ import annotations

from edgeface.testing.cameras import CameraFault, FaultyCamera
from edgeface.testing.fakes import (
    FakeBackend,
    FakeCamera,
    FakeDetector,
    FakeLandmarkFinder,
    FakeSource,
    ManualClock,
)

__all__ = [
    "CameraFault",
    "FakeBackend",
    "FakeCamera",
    "FakeDetector",
    "FakeLandmarkFinder",
    "FakeSource",
    "FaultyCamera",
    "ManualClock",
]
