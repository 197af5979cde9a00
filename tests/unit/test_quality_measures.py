"""Measures of pixels and of landmarks: known values, and inputs that must not crash them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeface.alignment import alignment_template
from edgeface.errors import InvalidInputError
from edgeface.quality import pixels
from edgeface.quality.geometry import (
    landmark_disagreement,
    mesh_measures,
    single_face,
)
from edgeface.types import (
    AlignedFace,
    BoundingBox,
    FaceDetection,
    FaceLandmarks,
    FloatArray,
    ImageArray,
    QualityMeasure,
    Size,
)

M = QualityMeasure
SIDE = 112
POINTS = np.asarray(alignment_template("arcface-112x112"), np.float32)
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
SKIN = (200, 150, 120)


def crop(colour: tuple[int, int, int]) -> ImageArray:
    return np.broadcast_to(np.array(colour, np.uint8), (SIDE, SIDE, 3)).copy()


@pytest.mark.parametrize(
    ("colour", "expected"),
    # 188 is half of full light in sRGB; the weights are those of ITU-R BT.709.
    [
        ((0, 0, 0), 0),
        ((255, 255, 255), 255),
        ((188, 188, 188), 128),
        ((255, 0, 0), 54),
        ((0, 255, 0), 182),
        ((0, 0, 255), 18),
    ],
)
def test_luminance_is_that_of_linear_light(colour: tuple[int, int, int], expected: int) -> None:
    assert pixels.linear_luminance(crop(colour)[:1, :1]).item() == expected


def test_light_of_one_grey_has_no_range() -> None:
    found = pixels.light_measures(crop((188, 188, 188)))
    assert found[M.LUMINANCE_MEAN] == pytest.approx(0.5, abs=0.003)
    assert found[M.LUMINANCE_VARIANCE] == pytest.approx(0)
    assert found[M.DYNAMIC_RANGE] == 0
    assert found[M.OVER_EXPOSURE] == found[M.UNDER_EXPOSURE] == 0


def test_half_black_half_white_has_one_bit_and_is_over_and_under_exposed() -> None:
    both = crop((0, 0, 0))
    both[:, SIDE // 2 :] = 255
    found = pixels.light_measures(both)
    assert found[M.DYNAMIC_RANGE] == pytest.approx(1, abs=0.01)
    assert found[M.OVER_EXPOSURE] == pytest.approx(0.5, abs=0.02)
    assert found[M.UNDER_EXPOSURE] == pytest.approx(0.5, abs=0.02)
    assert found[M.LUMINANCE_VARIANCE] == pytest.approx(0.25, abs=0.01)


def test_every_value_once_has_eight_bits() -> None:
    assert pixels.dynamic_range(np.full(256, 1 / 256)) == pytest.approx(8)


def skin(left: tuple[int, int, int], right: tuple[int, int, int]) -> dict[QualityMeasure, float]:
    face = crop(left)
    face[:, SIDE // 2 :] = right
    return pixels.skin_measures(FaceLandmarks(POINTS), AlignedFace(face, IDENTITY))


def test_cheeks_lit_alike_are_uniform_and_lit_differently_are_not() -> None:
    assert skin(SKIN, SKIN)[M.ILLUMINATION_UNIFORMITY] == pytest.approx(1)
    assert skin(SKIN, (100, 75, 60))[M.ILLUMINATION_UNIFORMITY] == 0


@pytest.mark.parametrize(
    ("colour", "low", "high"),
    [
        pytest.param(SKIN, 0, 0, id="light skin"),
        pytest.param((84, 57, 45), 0, 0, id="dark skin"),
        pytest.param((128, 128, 128), 0, 0, id="no colour is another camera"),
        pytest.param((40, 200, 60), 100, 100, id="green"),
        pytest.param((60, 80, 220), 100, 100, id="blue"),
        pytest.param((255, 60, 30), 20, 100, id="red light"),
    ],
)
def test_natural_colour_knows_skin(colour: tuple[int, int, int], low: float, high: float) -> None:
    assert low <= skin(colour, colour)[M.NATURAL_COLOUR] <= high


@pytest.mark.parametrize("shift_px", [-200.0, 200.0, 1e9])
def test_cheeks_outside_the_crop_are_not_measured(shift_px: float) -> None:
    moved = AlignedFace(crop(SKIN), np.array([[1, 0, shift_px], [0, 1, 0]], np.float32))
    found = pixels.skin_measures(FaceLandmarks(POINTS), moved)
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 2, 3), (3, 1, 3), (1, 400, 3)])
def test_tiny_crops_crash_nothing(shape: tuple[int, int, int]) -> None:
    tiny = np.full(shape, 90, np.uint8)
    assert pixels.sharpness(tiny) == 0
    assert all(math.isfinite(value) for value in pixels.light_measures(tiny).values())
    found = pixels.skin_measures(FaceLandmarks(POINTS), AlignedFace(tiny, IDENTITY))
    assert set(found) == {M.ILLUMINATION_UNIFORMITY, M.NATURAL_COLOUR}


def mesh(*, lids_px: float = 6.0, lips_px: float = 3.0) -> FloatArray:
    """A drawn face 100 px wide, its eyes 60 px apart, 120 px from between the eyes to the chin."""
    points = np.full((478, 2), 50.0)
    places = {33: (10, 40), 133: (30, 40), 362: (70, 40), 263: (90, 40), 152: (50, 160)}
    for k, place in places.items():
        points[k] = place
    pairs = ((160, 144), (159, 145), (158, 153), (385, 380), (386, 374), (387, 373))
    for upper, lower in pairs:
        points[upper], points[lower] = (20, 40 - lids_px / 2), (20, 40 + lids_px / 2)
    for upper, lower in ((82, 87), (13, 14), (312, 317)):
        points[upper], points[lower] = (50, 120 - lips_px / 2), (50, 120 + lips_px / 2)
    return points.astype(np.float32)


def measured(points: FloatArray, *, yaw_deg: float = 0.0) -> dict[QualityMeasure, float]:
    return mesh_measures(FaceLandmarks(POINTS, yaw_deg=yaw_deg, mesh_px=points), Size(200, 240))


def test_measures_of_a_drawn_face_have_known_values() -> None:
    assert measured(mesh()) == pytest.approx(
        {
            M.INTER_EYE_DISTANCE: 60,
            M.HEAD_SIZE: 120 / 240,
            M.LEFTWARD_CROP: 20 / 60,
            M.RIGHTWARD_CROP: (200 - 80) / 60,
            M.MARGIN_ABOVE: 40 / 120,
            M.MARGIN_BELOW: (240 - 40) / 120,
            M.EYES_OPEN: 6 / 120,
            M.MOUTH_CLOSED: 3 / 120,
        }
    )


def test_turning_the_head_makes_up_for_eyes_that_look_nearer() -> None:
    assert measured(mesh(), yaw_deg=60)[M.INTER_EYE_DISTANCE] == pytest.approx(120)
    assert math.isnan(measured(mesh(), yaw_deg=90)[M.INTER_EYE_DISTANCE])


def test_one_closed_eye_is_closed_eyes() -> None:
    points = mesh()
    points[[385, 386, 387]] = points[[380, 374, 373]]
    assert measured(points)[M.EYES_OPEN] == 0


def test_a_mesh_on_one_spot_is_not_measured() -> None:
    found = measured(np.full((478, 2), 7, np.float32))
    assert all(math.isnan(found[each]) for each in (M.EYES_OPEN, M.LEFTWARD_CROP, M.MARGIN_ABOVE))


def test_five_points_alone_give_no_mesh_measures() -> None:
    assert mesh_measures(FaceLandmarks(POINTS), Size(200, 240)) == {}


@pytest.mark.parametrize("shape", [(477, 2), (478, 3), (68, 2)])
def test_a_mesh_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="mesh_px"):
        FaceLandmarks(POINTS, mesh_px=np.zeros(shape, np.float32))


def test_a_mesh_with_nan_is_refused() -> None:
    points = mesh()
    points[200] = np.nan
    with pytest.raises(InvalidInputError, match="mesh_px"):
        FaceLandmarks(POINTS, mesh_px=points)


def box(side_px: float) -> FaceDetection:
    return FaceDetection(BoundingBox(0, 0, side_px, side_px), 0.9)


@pytest.mark.parametrize(
    ("others", "expected"),
    [((), 0), ((0.0,), 0), ((40.0,), 0.5), ((40.0, 60.0), 0.75), ((80.0,), 1), ((300.0,), 1)],
)
def test_single_face_is_the_size_of_the_largest_other(
    others: tuple[float, ...], expected: float
) -> None:
    face = box(80)
    found = single_face(face, [face, *(box(side) for side in others if side)])
    assert found == pytest.approx(expected)


def keypoints(points: FloatArray) -> FaceDetection:
    return FaceDetection(BoundingBox(0, 0, 80, 80), 0.9, points)


def test_detector_and_landmarks_that_agree_do_not_disagree() -> None:
    landmarks = FaceLandmarks(POINTS)
    six = np.vstack([POINTS[:3], POINTS[3:].mean(0), np.zeros((2, 2), np.float32)])
    assert landmark_disagreement(keypoints(POINTS), landmarks) == pytest.approx(0, abs=1e-6)
    assert landmark_disagreement(keypoints(six), landmarks) == pytest.approx(0, abs=1e-6)
    away = POINTS + np.float32(landmarks.eye_distance_px / math.sqrt(2))
    assert landmark_disagreement(keypoints(away), landmarks) == pytest.approx(1, rel=1e-4)
    assert landmark_disagreement(FaceDetection(BoundingBox(0, 0, 9, 9), 0.9), landmarks) is None
    assert landmark_disagreement(keypoints(POINTS[:4]), landmarks) is None
