"""The whole path: frames in, identifications and events out."""

from __future__ import annotations

from edgeface.pipeline.enrolment import EnrolmentReport, RejectedImage
from edgeface.pipeline.finding import FaceFinder, FoundFace
from edgeface.pipeline.recognizer import Image, Recognizer, RecognizerOptions
from edgeface.pipeline.stream import FrameResult

__all__ = [
    "EnrolmentReport",
    "FaceFinder",
    "FoundFace",
    "FrameResult",
    "Image",
    "Recognizer",
    "RecognizerOptions",
    "RejectedImage",
]
