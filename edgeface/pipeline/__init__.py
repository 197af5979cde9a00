"""The whole path: frames in, identifications and events out."""

from __future__ import annotations

from edgeface.pipeline.coach import Coaching, CoachOptions, EnrolmentCoach
from edgeface.pipeline.enrolment import EnrolmentReport, RejectedImage
from edgeface.pipeline.finding import FaceFinder, FoundFace
from edgeface.pipeline.group import StreamGroup
from edgeface.pipeline.interest import ComparisonOptions
from edgeface.pipeline.opening import Image, RecognizerOptions
from edgeface.pipeline.pad_gate import PadOptions
from edgeface.pipeline.recognizer import Recognizer
from edgeface.pipeline.replay import ReplayedTrack, ReplayOptions, replay
from edgeface.pipeline.run_record import Look, RunHead, RunRecorder, read_run
from edgeface.pipeline.stream import FrameResult, Stream, StreamOptions
from edgeface.pipeline.visits import VisitOptions

__all__ = [
    "CoachOptions",
    "Coaching",
    "ComparisonOptions",
    "EnrolmentCoach",
    "EnrolmentReport",
    "FaceFinder",
    "FoundFace",
    "FrameResult",
    "Image",
    "Look",
    "PadOptions",
    "Recognizer",
    "RecognizerOptions",
    "RejectedImage",
    "ReplayOptions",
    "ReplayedTrack",
    "RunHead",
    "RunRecorder",
    "Stream",
    "StreamGroup",
    "StreamOptions",
    "VisitOptions",
    "read_run",
    "replay",
]
