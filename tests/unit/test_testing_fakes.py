"""The fakes that are shipped for users' own tests."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.alignment import alignment_template, similarity_transform
from edgeface.backends.base import Backend
from edgeface.camera import FrameSource
from edgeface.detection.base import FaceDetector, LandmarkFinder
from edgeface.errors import CameraError, InvalidInputError
from edgeface.testing import (
    FakeBackend,
    FakeCamera,
    FakeDetector,
    FakeLandmarkFinder,
    FakeSource,
    ManualClock,
)
from edgeface.types import BoundingBox, FaceDetection, Frame, ImageArray

FACE = FaceDetection(BoundingBox(100, 50, 112, 112), 0.9)
FRAME = Frame(np.zeros((240, 320, 3), np.uint8))


def crops(*seeds: int) -> ImageArray:
    return np.stack(
        [np.random.default_rng(s).integers(0, 256, (112, 96, 3), np.uint8) for s in seeds]
    )


def test_the_fakes_fit_their_seams() -> None:
    backend: Backend = FakeBackend()
    detector: FaceDetector = FakeDetector()
    finder: LandmarkFinder = FakeLandmarkFinder()
    sources: list[FrameSource] = [FakeSource([]), FakeCamera([])]
    for close in (backend.close, detector.close, finder.close, *(one.close for one in sources)):
        close()
        close()


def test_the_detector_follows_its_script() -> None:
    weaker = FaceDetection(FACE.box, 0.5)
    detector = FakeDetector([[weaker, FACE], []])
    assert [detector.detect(FRAME) for _ in range(3)] == [[FACE, weaker], [], []]
    assert len(detector.frames) == 3
    again = FakeDetector([[FACE], []], repeat=True)
    assert [len(again.detect(FRAME)) for _ in range(4)] == [1, 0, 1, 0]


def test_the_landmarks_are_those_of_an_aligned_face() -> None:
    landmarks = FakeLandmarkFinder().find(FRAME, FACE)
    assert landmarks is not None
    matrix = similarity_transform(landmarks.points_px, alignment_template("arcface-112x112"))
    np.testing.assert_allclose(matrix, [[1, 0, -100], [0, 1, -50]], atol=1.5)
    assert FakeLandmarkFinder(lambda *_: None).find(FRAME, FACE) is None


def test_the_backend_embeds_pixels_as_unit_vectors() -> None:
    rows = FakeBackend(32).run(crops(1, 2, 3, 1))
    assert rows.shape == (4, 32)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[3])
    np.testing.assert_array_equal(rows[1:2], FakeBackend(32).run(crops(2)))


def test_like_crops_have_like_embeddings() -> None:
    first = crops(1)
    near = np.clip(first.astype(int) + 3, 0, 255).astype(np.uint8)
    rows = FakeBackend(64).run(np.concatenate([first, near, crops(2)]))
    assert rows[0] @ rows[1] > 0.95
    assert rows[0] @ rows[2] < 0.6


def test_the_backend_takes_an_empty_batch_and_plain_crops() -> None:
    backend = FakeBackend(8)
    assert backend.run(np.empty((0, 112, 112, 3), np.uint8)).shape == (0, 8)
    assert np.isfinite(backend.run(np.zeros((2, 112, 112, 3), np.uint8))).all()
    assert backend.batch_sizes == [0, 2]


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 112, 112, 3), np.float32),
        np.zeros((112, 112, 3), np.uint8),
        np.zeros((1, 3, 112, 112), np.uint8),
    ],
    ids=["float", "no batch", "planar"],
)
def test_the_backend_refuses_what_a_model_refuses(bad: ImageArray) -> None:
    with pytest.raises(InvalidInputError):
        FakeBackend().run(bad)


def test_a_source_gives_its_frames_and_fails_on_cue() -> None:
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in range(3)]
    with FakeSource(pictures, fps=10.0) as source:
        assert [frame.timestamp_s for frame in source] == [0.0, 0.1, 0.2]
        assert (source.frame_count, source.is_live) == (3, False)
    assert source.closed
    failing = FakeCamera(pictures, fail_after=2)
    assert (failing.frame_count, failing.is_live) == (None, True)
    got: list[int] = []
    with pytest.raises(CameraError):
        got.extend(frame.index for frame in failing)
    assert got == [0, 1]
    assert [frame.index for frame in FakeSource([FRAME])] == [0]


def test_a_closed_source_ends() -> None:
    source = FakeSource([FRAME, FRAME], delay_s=0.001)
    seen = 0
    for _ in source:
        seen += 1
        source.close()
    assert seen == 1


def test_the_clock_moves_when_told() -> None:
    clock = ManualClock(5.0)
    assert clock() == clock() == 5.0
    clock.advance(1.5)
    assert clock() == 6.5
