"""A camera that fails in the middle of a visit: nobody stays in a picture that stands still."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgeface.bundle import Bundle
from edgeface.camera import LiveSource, SourceOptions
from edgeface.embedding import FaceEmbedder
from edgeface.gallery import InMemoryGallery
from edgeface.pipeline import (
    FaceFinder,
    FrameResult,
    Recognizer,
    RecognizerOptions,
    Stream,
    StreamOptions,
    VisitOptions,
)
from edgeface.quality import QualityGateOptions
from edgeface.testing import (
    CameraFault,
    FakeBackend,
    FakeDetector,
    FakeLandmarkFinder,
    FaultyCamera,
)
from edgeface.types import BoundingBox, EventKind, FaceDetection, OperatingPoint, Size
from tests.builders import make_bundle

pytest.importorskip("cv2")

LIMIT_S = 15.0
ANY_FACE = QualityGateOptions(
    min_detection_score=0.1, min_eye_distance_px=1, min_sharpness=0, min_luminance=0,
    max_luminance=1,
)  # fmt: skip


def recognizer(folder: Path) -> Recognizer:
    """One who sees the same face in every picture of the camera."""
    manifest = Bundle.open(make_bundle(folder, embedding_size=64)).manifest
    face = FaceDetection(BoundingBox(60, 40, 80, 80), 0.95)
    return Recognizer(
        manifest=manifest,
        finder=FaceFinder(
            FakeDetector([[face]], repeat=True),
            FakeLandmarkFinder(),
            template=manifest.alignment_template,
        ),
        embedder=FaceEmbedder(FakeBackend(64), manifest),
        gallery=InMemoryGallery(model_id=manifest.model_id, embedding_size=64),
        operating_point=OperatingPoint(0.6, 1e-4, "fp32", "test"),
        options=RecognizerOptions(
            watch_quality=ANY_FACE, stream=StreamOptions(visits=VisitOptions(absence_s=0.5))
        ),
    )


def watch_until(kind: EventKind, source: LiveSource, stream: Stream) -> FrameResult:
    """Return the frame in which it happened."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        frame = source.read(timeout_s=1.0)
        if frame is not None:
            result = stream.process(frame)
            if kind in {event.kind for event in result.events}:
                return result
    pytest.fail(f"{kind.value} did not happen within {LIMIT_S} s")


@pytest.mark.parametrize("fault", [CameraFault.FREEZE, CameraFault.BLACK])
def test_a_picture_without_life_ends_the_track_and_a_living_one_begins_another(
    tmp_path: Path, fault: CameraFault
) -> None:
    with (
        recognizer(tmp_path) as person,
        FaultyCamera(Size(320, 240), fps=20.0) as camera,
        camera.open(SourceOptions()) as source,
    ):
        stream = person.stream(source)
        appeared = watch_until(EventKind.APPEARED, source, stream)
        assert appeared.usable
        camera.fault = fault
        left = watch_until(EventKind.LEFT, source, stream)
        assert not left.usable
        assert left.observations == ()
        camera.fault = CameraFault.NONE
        again = watch_until(EventKind.APPEARED, source, stream)
        assert again.usable
        assert again.observations[0].track_id != appeared.observations[0].track_id
