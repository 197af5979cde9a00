"""Whether five points can be a face, and what is derived from points."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.alignment import alignment_template
from edgeface.detection import (
    MediaPipeLandmarkFinder,
    detector_points,
    four_alignment_points,
    head_angles_deg,
    head_pose,
    landmarks_are_plausible,
)
from edgeface.errors import InvalidInputError
from edgeface.types import BoundingBox, FaceDetection, FloatArray, Frame

BOX = BoundingBox(16, 26, 80, 80)
FACE = np.asarray(alignment_template("arcface-112x112"), np.float32)
CENTRE = np.array(BOX.centre_px)


def turned(degrees: float) -> FloatArray:
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray((FACE - CENTRE) @ matrix.T + CENTRE, np.float32)


def narrowed(share: float) -> FloatArray:
    return np.asarray((FACE - CENTRE) * [share, 1] + CENTRE, np.float32)


def with_value(value: float) -> FloatArray:
    points = FACE.copy()
    points[2, 0] = value
    return points


@pytest.mark.parametrize(
    ("points", "plausible"),
    [
        pytest.param(FACE, True, id="upright"),
        pytest.param(turned(90), True, id="lying"),
        pytest.param(turned(180), True, id="upside down"),
        pytest.param(narrowed(0.35), True, id="profile"),
        pytest.param(FACE[[1, 0, 2, 4, 3]], False, id="eyes swapped"),
        pytest.param(FACE[[3, 4, 2, 0, 1]], False, id="mouth above eyes"),
        pytest.param(narrowed(0.0), False, id="on a line"),
        pytest.param(np.repeat(FACE[:1], 5, 0), False, id="identical"),
        pytest.param(FACE + 60, False, id="beside the box"),
        pytest.param(FACE * 0.05 + CENTRE.astype(np.float32), False, id="tiny"),
        pytest.param(with_value(math.nan), False, id="nan"),
        pytest.param(with_value(math.inf), False, id="infinite"),
        pytest.param(np.zeros((5, 2), np.float32), False, id="zeros"),
        pytest.param(FACE[:4], False, id="four points"),
    ],
)
def test_only_points_of_a_face_inside_its_box_are_plausible(
    points: FloatArray, plausible: bool
) -> None:
    assert landmarks_are_plausible(points, BOX) is plausible


def rotation(axis: str, angle_deg: float) -> npt.NDArray[np.float64]:
    a = math.radians(angle_deg)
    cos, sin = math.cos(a), math.sin(a)
    # x right, y up, z to the viewer: right, up and clockwise are positive for us.
    rotations: dict[str, list[list[float]]] = {
        "yaw": [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]],
        "pitch": [[1, 0, 0], [0, cos, sin], [0, -sin, cos]],
        "roll": [[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]],
    }
    return np.array(rotations[axis])


def head(turn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean head as MediaPipe would give it: x right, y down, z away and overstated."""
    scale = (1.0, -1.0, -1.0 / head_pose._DEPTH_SCALE)
    return (head_pose._MEAN_HEAD @ turn.T) * scale


@pytest.mark.parametrize("axis", ["yaw", "pitch", "roll"])
@pytest.mark.parametrize("angle", [-40.0, 0.0, 25.0])
def test_the_angles_of_a_turned_head_are_given_back(axis: str, angle: float) -> None:
    expected = {"yaw": (angle, 0, 0), "pitch": (0, angle, 0), "roll": (0, 0, angle)}[axis]
    points = head(rotation(axis, angle))
    assert head_angles_deg(points) == pytest.approx(expected, abs=1e-6)
    assert head_angles_deg(points * 150 + [400, 90, -7]) == pytest.approx(expected, abs=1e-6)


def test_turning_the_picture_changes_roll_alone() -> None:
    turned_head = rotation("yaw", 20) @ rotation("pitch", -15)
    yaw, pitch, roll = head_angles_deg(head(turned_head))
    again = head_angles_deg(head(rotation("roll", 30) @ turned_head))
    assert again == pytest.approx((yaw, pitch, roll + 30))
    assert (yaw, pitch) == pytest.approx((20, -15), abs=3)


def test_a_mirrored_head_has_mirrored_angles() -> None:
    points = head(rotation("yaw", 20) @ rotation("pitch", -15) @ rotation("roll", 10))
    points += np.random.default_rng(0).normal(0, 0.03, points.shape)
    yaw, pitch, roll = head_angles_deg(points)
    pairs = 2 * len(head_pose._PAIRS)
    order = [k ^ 1 if k < pairs else k for k in range(len(points))]
    assert head_angles_deg(points[order] * [-1, 1, 1]) == pytest.approx((-yaw, pitch, -roll))


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(np.zeros((0, 3)), id="none"),
        pytest.param(np.zeros((478, 3)), id="the whole mesh"),
        pytest.param(np.zeros((24, 2)), id="flat"),
        pytest.param(np.full((24, 3), math.nan), id="nan"),
    ],
)
def test_points_that_are_no_head_are_refused(points: npt.NDArray[np.float64]) -> None:
    with pytest.raises(InvalidInputError):
        head_angles_deg(points)


def test_four_points_are_eyes_nose_and_the_centre_of_the_mouth() -> None:
    four = four_alignment_points(FACE)
    np.testing.assert_array_equal(four[:3], FACE[:3])
    np.testing.assert_allclose(four[3], (FACE[3] + FACE[4]) / 2)
    six = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(four_alignment_points(six), six[:4])
    with pytest.raises(InvalidInputError):
        four_alignment_points(FACE[:3])


def test_key_points_of_another_detector_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="has 0"):
        detector_points(FaceDetection(BOX, 0.9))


def test_landmarks_that_are_not_finite_count_as_not_found() -> None:
    class Landmark:
        x = y = 0.5
        z = math.nan

    class Task:
        def run(self, crop: object) -> object:
            return type("Result", (), {"face_landmarks": [[Landmark()] * 478]})()

    finder = object.__new__(MediaPipeLandmarkFinder)
    finder._task = Task()  # type: ignore[assignment]
    frame = Frame(np.zeros((120, 120, 3), np.uint8))
    assert finder.find(frame, FaceDetection(BOX, 0.9)) is None
