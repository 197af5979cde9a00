"""The values of the runtime: what they accept, what they refuse, that they cannot be changed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import EdgefaceError, InvalidInputError
from edgeface.types import (
    AlignedFace,
    BoundingBox,
    Event,
    EventKind,
    FaceDetection,
    FaceLandmarks,
    Frame,
    IdentificationResult,
    OperatingPoint,
    Outcome,
    QualityReport,
    RejectionReason,
    Size,
    Template,
)

NAN, INF = math.nan, math.inf
PIXELS = np.zeros((4, 6, 3), np.uint8)
BOX = BoundingBox(0, 0, 10, 10)
POINTS = np.zeros((5, 2), np.float32)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 1), (1, 0), (-1, 5), (5, -1)])
def test_a_size_without_an_area_is_refused(width: int, height: int) -> None:
    with pytest.raises(InvalidInputError, match="positive"):
        Size(width, height)


@pytest.mark.parametrize("side", [NAN, INF, 2.5, 3.0, "3", None, True])
def test_a_size_is_counted_in_whole_pixels(side: Any) -> None:
    for sides in ((side, 3), (3, side)):
        with pytest.raises(InvalidInputError, match="whole pixels"):
            Size(*sides)


def test_a_size_of_numpy_integers_is_one_of_plain_integers() -> None:
    size = Size(np.int64(96), np.uint16(112))  # type: ignore[arg-type]
    assert size == Size(96, 112)
    assert {type(size.width_px), type(size.height_px)} == {int}


def test_a_size_reads_as_width_times_height() -> None:
    assert str(Size(96, 112)) == "96x112"


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.empty((0, 0, 3), np.uint8), "empty"),
        (np.empty((4, 0, 3), np.uint8), "empty"),
        (None, "NoneType"),
        ([[[0, 0, 0]]], "list"),
        (np.zeros((4, 6, 3), np.float32), "float32"),
        (np.zeros((4, 6, 3), np.int8), "int8"),
        (np.zeros((4, 6), np.uint8), r"\(4, 6\)"),
        (np.zeros((4, 6, 1), np.uint8), r"\(4, 6, 1\)"),
        (np.zeros((4, 6, 4), np.uint8), "BGRA"),
        (np.zeros((1, 4, 6, 3), np.uint8), r"\(1, 4, 6, 3\)"),
    ],
)
def test_a_frame_takes_only_rgb_pictures_of_bytes(pixels: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Frame(pixels)


@pytest.mark.parametrize("timestamp_s", [NAN, INF, -INF])
def test_a_frame_has_a_finite_timestamp(timestamp_s: float) -> None:
    with pytest.raises(InvalidInputError, match="timestamp_s"):
        Frame(PIXELS, timestamp_s)


def test_a_frame_tells_width_from_height() -> None:
    assert Frame(PIXELS).size == Size(width_px=6, height_px=4)


def test_pixels_of_a_frame_cannot_be_written_and_the_callers_array_still_can() -> None:
    mine = PIXELS.copy()
    frame = Frame(mine)
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1
    mine[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        ((0, 0, 0, 0), "area"),
        ((0, 0, 5, 0), "area"),
        ((0, 0, -5, 5), "area"),
        ((NAN, 0, 5, 5), "finite"),
        ((0, INF, 5, 5), "finite"),
        ((0, 0, NAN, 5), "finite"),
        ((0, 0, 5, INF), "finite"),
    ],
)
def test_a_box_without_an_area_or_a_place_is_refused(sides: tuple[float, ...], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        BoundingBox(*sides)


def test_a_box_knows_its_edges_its_area_and_its_centre() -> None:
    box = BoundingBox(-2, 3, 10, 4)
    assert (box.right_px, box.bottom_px, box.area_px, box.centre_px) == (8, 7, 40, (3, 5))


@pytest.mark.parametrize(
    ("other", "share"),
    [
        (BoundingBox(100, 100, 5, 5), 0.0),
        (BoundingBox(10, 0, 10, 10), 0.0),
        (BoundingBox(10, 10, 10, 10), 0.0),
        (BoundingBox(0, 0, 10, 10), 1.0),
        (BoundingBox(5, 0, 10, 10), 1 / 3),
        (BoundingBox(0, 5, 10, 10), 1 / 3),
        (BoundingBox(5, 5, 10, 10), 1 / 7),
        (BoundingBox(0, 0, 5, 5), 1 / 4),
        (BoundingBox(-10, -10, 40, 40), 1 / 16),
    ],
)
def test_overlap_is_the_shared_part_of_both_boxes(other: BoundingBox, share: float) -> None:
    assert BOX.iou(other) == pytest.approx(share)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        (BoundingBox(0, 0, 1e200, 1e200), BoundingBox(0, 0, 1e200, 1e200), 1.0),
        (BoundingBox(0, 0, 1e200, 1e200), BoundingBox(0, 0, 5e199, 1e200), 0.5),
        (BoundingBox(0, 0, 1e200, 1e200), BOX, 0.0),
        (BoundingBox(1.7e308, 0, 1.7e308, 1), BoundingBox(1.7e308, 0, 1.7e308, 1), 1.0),
        (BoundingBox(-1.7e308, 0, 1, 1), BoundingBox(1.7e308, 0, 1, 1), 0.0),
        (BoundingBox(0, 0, 1e-200, 1e-200), BoundingBox(0, 0, 1e-200, 1e-200), 1.0),
        (BoundingBox(0, 0, 1e308, 1e-308), BoundingBox(0, 0, 1e-308, 1e308), 0.0),
    ],
)
def test_overlap_of_boxes_of_any_size_is_a_share(
    one: BoundingBox, other: BoundingBox, share: float
) -> None:
    assert one.iou(other) == pytest.approx(share)
    assert other.iou(one) == pytest.approx(share)


sides = st.floats(-1e4, 1e4)
lengths = st.floats(1e-2, 1e4)
boxes = st.builds(BoundingBox, sides, sides, lengths, lengths)


@given(boxes, boxes)
def test_overlap_is_a_share_and_does_not_depend_on_the_order(
    one: BoundingBox, other: BoundingBox
) -> None:
    assert 0.0 <= one.iou(other) <= 1.0 + 1e-9
    assert one.iou(other) == pytest.approx(other.iou(one))
    assert one.iou(one) == pytest.approx(1.0)


@pytest.mark.parametrize("score", [-0.01, 1.01, NAN, INF, -INF])
def test_the_score_of_a_detection_is_a_share(score: float) -> None:
    with pytest.raises(InvalidInputError, match="score"):
        FaceDetection(BOX, score)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (np.empty((0,), np.float32), "shape"),
        (np.zeros((5, 3), np.float32), "shape"),
        (np.zeros((2, 5, 2), np.float32), "shape"),
        (np.full((5, 2), NAN, np.float32), "NaN"),
        (np.array([[0, INF]], np.float32), "infinity"),
        (np.array([[0.0, 1e300]]), "too large"),
        ([[0, -1e300]], "too large"),
        ("abc", "array of numbers, got str"),
        (None, "array of numbers, got NoneType"),
        ([[1, 2], [3]], "array of numbers"),
        ([["1", "2"]], "array of numbers, got list"),
        (np.zeros((2, 2), complex), "array of numbers"),
    ],
)
def test_keypoints_of_a_detection_are_finite_pairs(points: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        FaceDetection(BOX, 0.5, points)


def test_a_detection_may_come_without_keypoints() -> None:
    assert FaceDetection(BOX, 0.5).keypoints_px.shape == (0, 2)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (np.empty((0, 2), np.float32), "shape"),
        (np.zeros((4, 2), np.float32), "shape"),
        (np.zeros((2, 5), np.float32), "shape"),
        (np.full((5, 2), NAN, np.float32), "NaN"),
        (np.full((5, 2), 1e300), "too large"),
        ("abc", "array of numbers"),
    ],
)
def test_landmarks_are_five_finite_points(points: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        FaceLandmarks(points)


@pytest.mark.parametrize("angle", ["yaw_deg", "pitch_deg", "roll_deg"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_the_pose_of_a_face_is_finite(angle: str, value: float) -> None:
    pose: Any = {angle: value}
    with pytest.raises(InvalidInputError, match="angles"):
        FaceLandmarks(POINTS, **pose)


def test_eye_distance_is_the_length_between_the_first_two_points() -> None:
    points = POINTS.copy()
    points[:2] = (1, 1), (4, 5)
    assert FaceLandmarks(points).eye_distance_px == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (np.empty((0,)), "shape"),
        (np.eye(3), "shape"),
        (np.full((2, 3), NAN), "NaN"),
    ],
)
def test_an_aligned_face_carries_a_finite_affine_matrix(matrix: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        AlignedFace(PIXELS, matrix)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.empty(0, np.float32), "length 1"),
        (np.zeros(4, np.float32), "length 1"),
        (np.ones(4, np.float32), "length 1"),
        (np.array([1.002, 0], np.float32), "length 1"),
        (np.array([[1.0, 0.0]], np.float32), "shape"),
        (np.array([1.0, NAN], np.float32), "NaN"),
        (np.array([INF, 0.0], np.float32), "infinity"),
    ],
)
def test_a_template_is_a_finite_vector_of_length_one(vector: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Template(vector, "model")


def test_a_template_names_its_model() -> None:
    with pytest.raises(InvalidInputError, match="model_id"):
        Template(np.array([1.0], np.float32), "")


def test_a_template_survives_storage_in_half_precision() -> None:
    vector = np.random.default_rng(0).standard_normal(512)
    vector /= np.linalg.norm(vector)
    stored = Template(vector.astype(np.float16).astype(np.float32), "model").vector
    assert stored.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        stored[0] = 0


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": Outcome.KNOWN},
        {"outcome": Outcome.UNKNOWN, "subject": "ada"},
        {"outcome": Outcome.AMBIGUOUS, "subject": "ada"},
        {"outcome": Outcome.REJECTED},
        {
            "outcome": Outcome.REJECTED,
            "subject": "ada",
            "reasons": (RejectionReason.TOO_SMALL,),
        },
    ],
)
def test_a_result_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        IdentificationResult(**fields)


def test_an_event_shows_what_its_result_says() -> None:
    result = IdentificationResult(Outcome.KNOWN, "ada", 0.75)
    event = Event(EventKind.IDENTIFIED, 3, result, 1.5, 37)
    assert (event.subject, event.score, event.outcome) == ("ada", 0.75, Outcome.KNOWN)


def test_quality_passes_exactly_when_it_gives_no_reason() -> None:
    assert QualityReport({}).passed
    assert not QualityReport({}, (RejectionReason.TOO_DARK,)).passed


@pytest.mark.parametrize(
    ("threshold", "target_fmr"),
    [(NAN, 1e-3), (1.01, 1e-3), (-1.01, 1e-3), (0.3, 0.0), (0.3, 1.0), (0.3, NAN), (0.3, -1e-3)],
)
def test_an_operating_point_outside_of_its_scale_is_refused(
    threshold: float, target_fmr: float
) -> None:
    with pytest.raises(InvalidInputError):
        OperatingPoint(threshold, target_fmr, "fp32", "pairs")


@pytest.mark.parametrize(
    "evidence", [{"fnmr": NAN}, {"fnmr": -0.1}, {"fnmr": 1.1}, {"n_mated": -1}, {"n_non_mated": -1}]
)
def test_evidence_that_cannot_be_is_refused(evidence: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        OperatingPoint(0.3, 1e-3, "fp32", "pairs", **evidence)


@pytest.mark.parametrize(
    ("score", "accepted"),
    [
        (NAN, False),
        (INF, False),
        (-INF, False),
        (math.nextafter(0.3, 0), False),
        (0.3, True),
        (1.0, True),
    ],
)
def test_a_score_is_accepted_from_the_threshold_on(score: float, accepted: bool) -> None:
    assert OperatingPoint(0.3, 1e-3, "fp32", "pairs").accepts(score) is accepted


@pytest.mark.parametrize(
    "value",
    [
        Size(1, 1),
        Frame(PIXELS),
        BOX,
        FaceDetection(BOX, 0.5),
        FaceLandmarks(POINTS),
        AlignedFace(PIXELS, np.eye(2, 3, dtype=np.float32)),
        Template(np.array([1.0], np.float32), "model"),
        IdentificationResult(Outcome.UNKNOWN),
        OperatingPoint(0.3, 1e-3, "fp32", "pairs"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen_and_their_arrays_read_only(value: Any) -> None:
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, held)
        assert not isinstance(held, np.ndarray) or not held.flags.writeable


def test_invalid_input_is_caught_as_a_value_error_and_as_ours() -> None:
    for kind in (ValueError, EdgefaceError):
        with pytest.raises(kind):
            Size(0, 0)
