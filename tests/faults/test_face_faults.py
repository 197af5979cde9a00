"""Faces that must not be recognised, through the whole recogniser: a reason, never a name."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import EnrolmentError, InvalidInputError, OperatingPointError
from edgeface.pipeline import RecognizerOptions
from edgeface.testing import FakeBackend, FakeDetector
from edgeface.types import (
    BoundingBox,
    EventKind,
    FaceDetection,
    FaceLandmarks,
    FloatArray,
    Frame,
    ImageArray,
    OperatingPoint,
    Outcome,
    RejectionReason,
)
from tests.unit.test_streams import LENIENT, Rig, kinds, scene, standing

pytest.importorskip("cv2")

Points = Callable[[BoundingBox], FloatArray]
FRONTAL = np.array([(0.34, 0.46), (0.66, 0.46), (0.5, 0.64), (0.37, 0.82), (0.63, 0.82)])


def placed(shares: FloatArray) -> Points:
    def points(box: BoundingBox) -> FloatArray:
        placed = shares * (box.width_px, box.height_px) + (box.left_px, box.top_px)
        return np.asarray(placed, np.float32)

    return points


def rig_with(folder: Path, points: Points) -> Rig:
    """One whose landmark finder gives these points; ann is enrolled with good ones first."""
    rig = Rig(folder, standing(1, 20))

    def find(frame: Frame, detection: FaceDetection) -> FaceLandmarks:
        return FaceLandmarks(points(detection.box))

    rig.recognizer._finder._landmark_finder._find = find  # type: ignore[attr-defined]
    return rig


@pytest.mark.parametrize(
    "shares",
    [
        np.full((5, 2), 0.5),
        np.stack([np.linspace(0.2, 0.8, 5)] * 2, 1),
        FRONTAL[[3, 4, 2, 0, 1]],
        FRONTAL * 9.0,
        FRONTAL * 0.01,
    ],
    ids=["in one place", "on a line", "upside down in the box", "far outside", "in a corner"],
)
def test_landmarks_that_cannot_be_a_face_name_nobody(tmp_path: Path, shares: FloatArray) -> None:
    rig = rig_with(tmp_path, placed(shares))
    results, events = rig.run()
    seen = {face.result.reasons for result in results for face in result.observations}
    assert seen <= {(RejectionReason.LANDMARKS_IMPLAUSIBLE,), (RejectionReason.NOT_COMPARED,)}
    assert rig.backend.batch_sizes == []
    assert kinds(events, EventKind.ARRIVED) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_landmarks_that_are_no_numbers_never_become_values(bad: float) -> None:
    points = FRONTAL.astype(np.float32)
    points[2, 0] = bad
    with pytest.raises(InvalidInputError):
        FaceLandmarks(points)


def test_no_face_is_no_result(tmp_path: Path) -> None:
    results, events = Rig(tmp_path, [[]] * 30).run()
    assert all(result.observations == () for result in results)
    assert events == []


def test_of_fifty_faces_the_largest_are_followed_and_the_others_cost_nothing(
    tmp_path: Path,
) -> None:
    # Fifty that overlap little enough to be found, in a row.
    crowd = [[(1 + k % 9, 11.0 * k) for k in range(50)]] * 10
    rig = Rig(tmp_path, crowd)
    results, _ = rig.run()
    assert max(len(result.observations) for result in results) <= 20
    assert sum(rig.backend.batch_sizes) <= 6 + 15 * 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"min_eye_distance_px": 60.0}, RejectionReason.TOO_SMALL),
        ({"min_sharpness": 0.99}, RejectionReason.TOO_BLURRED),
        ({"min_luminance": 0.99}, RejectionReason.TOO_DARK),
        ({"max_luminance": 0.01}, RejectionReason.TOO_BRIGHT),
        ({"min_detection_score": 0.95}, RejectionReason.DETECTION_UNSURE),
    ],
)
def test_a_face_below_a_gate_says_why_and_names_nobody(
    tmp_path: Path, change: dict[str, float], reason: RejectionReason
) -> None:
    rig = Rig(tmp_path, standing(1, 20))
    options = RecognizerOptions(watch_quality=replace(LENIENT, **change))  # type: ignore[arg-type]
    rig.recognizer._options = options
    results, events = rig.run()
    assert {face.result.reasons for r in results for face in r.observations} == {(reason,)}
    assert {event.subject for event in events} <= {None}


def test_a_face_half_outside_the_picture_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 1))
    pixels = scene((1, 540))[:, :580]
    rig.recognizer._options = RecognizerOptions(
        watch_quality=replace(LENIENT, min_inside_frame=0.8)
    )
    detector = FakeDetector([[FaceDetection(BoundingBox(540, 40, 80, 80), 0.9)]])
    rig.recognizer._finder._detector = detector
    (seen,) = rig.recognizer.identify(Frame(pixels))
    assert RejectionReason.OUTSIDE_FRAME in seen.result.reasons


class BrokenBackend(FakeBackend):
    """An engine that gives rows of another kind from now on."""

    def __init__(self, rows: Callable[[FloatArray], FloatArray]) -> None:
        super().__init__(64)
        self._rows = rows

    def run(self, crops: ImageArray) -> FloatArray:
        return self._rows(super().run(crops))


@pytest.mark.parametrize(
    "rows",
    [
        lambda rows: np.full_like(rows, np.nan),
        lambda rows: np.full_like(rows, np.inf),
        np.zeros_like,
        lambda rows: rows * 1e-30,
    ],
    ids=["nan", "infinite", "zero", "without length"],
)
def test_an_embedding_that_is_none_names_nobody(
    tmp_path: Path, rows: Callable[[FloatArray], FloatArray]
) -> None:
    rig = Rig(tmp_path, standing(1, 20))
    rig.recognizer._embedder.backend = BrokenBackend(rows)
    results, events = rig.run()
    compared = [face.result for result in results for face in result.observations]
    assert {result.subject for result in compared} == {None}
    assert (RejectionReason.EMBEDDING_INVALID,) in {result.reasons for result in compared}
    assert kinds(events, EventKind.ARRIVED) == []


def test_a_template_that_is_none_never_enters_a_gallery(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 1))
    rig.recognizer._embedder.backend = BrokenBackend(lambda rows: np.full_like(rows, np.nan))
    with pytest.raises(EnrolmentError):
        rig.recognizer.enrol("eve", [Frame(scene((5, 20)), 0.0, 5, "photo")])
    assert [entry.name for entry in rig.recognizer.gallery.subjects()] == ["ann", "beth"]


def test_a_person_with_another_name_is_not_enrolled_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 1))
    with pytest.raises(EnrolmentError, match="already enrolled as ann"):
        rig.recognizer.enrol("eve", [Frame(scene((1, 20)), 0.0, 1, "photo")])


def test_pictures_of_two_people_are_no_reference(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 1))
    photos = [Frame(scene((person, 20)), 0.0, person, "photo") for person in (4, 5)]
    with pytest.raises(EnrolmentError):
        rig.recognizer.enrol("eve", photos)
    assert len(rig.recognizer.gallery.subjects()) == 2


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf, 2.0, -1.5])
def test_a_threshold_that_is_no_similarity_is_refused(threshold: float) -> None:
    with pytest.raises((InvalidInputError, OperatingPointError)):
        OperatingPoint(threshold, 1e-4, "fp32", "test")


def test_an_empty_gallery_knows_nobody(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 20))
    for subject in ("ann", "beth"):
        rig.recognizer.gallery.remove(subject)
    results, _ = rig.run()
    outcomes = {
        face.track_result.outcome
        for result in results
        for face in result.observations
        if face.track_result is not None
    }
    assert outcomes == {Outcome.UNKNOWN}


def test_a_file_that_is_no_gallery_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    from edgeface.bundle import Bundle
    from edgeface.errors import GalleryError
    from edgeface.gallery import KeyOptions
    from edgeface.pipeline.opening import open_gallery
    from tests.builders import make_bundle

    path = tmp_path / "notes.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (text)")
    database.close()
    before = path.read_bytes()
    manifest = Bundle.open(make_bundle(tmp_path)).manifest
    with pytest.raises(GalleryError):
        open_gallery(path, manifest, KeyOptions())
    assert path.read_bytes() == before
