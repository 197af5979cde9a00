"""Quality gates: each measure, each limit, each reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import edgeface.quality as quality_module
from edgeface.alignment import align, alignment_template
from edgeface.errors import InvalidInputError
from edgeface.quality import QualityGateOptions, advice, assess, luminance, sharpness
from edgeface.types import (
    AlignedFace,
    BoundingBox,
    FaceDetection,
    FaceLandmarks,
    Frame,
    ImageArray,
    QualityMeasure,
    QualityReport,
    RejectionReason,
)

SIDE = 112
DETECTION = FaceDetection(BoundingBox(16, 16, 80, 80), 0.95)
LANDMARKS = FaceLandmarks(np.asarray(alignment_template("arcface-112x112"), np.float32))
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def picture(low: int = 90, high: int = 150) -> ImageArray:
    """Squares of 4 px, which are neither blurred nor noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    grey = np.where((y // 4 + x // 4) % 2 == 0, low, high).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


GOOD = AlignedFace(picture(), IDENTITY)


def report(
    detection: FaceDetection = DETECTION,
    landmarks: FaceLandmarks = LANDMARKS,
    aligned: AlignedFace = GOOD,
    options: QualityGateOptions | None = None,
) -> QualityReport:
    options = options or QualityGateOptions.enrolment()
    return assess(Frame(picture()), detection, landmarks, aligned, options)


def test_a_good_face_passes_even_for_enrolment() -> None:
    good = report()
    assert good.passed
    assert set(good.values) == set(QualityMeasure)
    assert good.score > 0.9


def at(**angles: float) -> FaceLandmarks:
    return replace(LANDMARKS, **angles)  # type: ignore[arg-type]


OUTSIDE = AlignedFace(picture(), np.array([[1, 0, 60], [0, 1, 0]], np.float32))
SINGULAR = AlignedFace(picture(), np.zeros((2, 3), np.float32))
R = RejectionReason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"detection": replace(DETECTION, score=0.3)}, R.DETECTION_UNSURE, id="unsure"),
        pytest.param(
            {"landmarks": FaceLandmarks(LANDMARKS.points_px * 0.4)}, R.TOO_SMALL, id="small"
        ),
        pytest.param({"landmarks": at(yaw_deg=-60)}, R.TURNED_AWAY, id="left"),
        pytest.param({"landmarks": at(yaw_deg=60)}, R.TURNED_AWAY, id="right"),
        pytest.param({"landmarks": at(pitch_deg=-60)}, R.TURNED_AWAY, id="down"),
        pytest.param({"landmarks": at(roll_deg=80)}, R.TILTED, id="tilted"),
        pytest.param({"aligned": AlignedFace(picture(0, 6), IDENTITY)}, R.TOO_DARK, id="dark"),
        pytest.param(
            {"aligned": AlignedFace(picture(249, 255), IDENTITY)}, R.TOO_BRIGHT, id="bright"
        ),
        pytest.param({"aligned": OUTSIDE}, R.OUTSIDE_FRAME, id="outside"),
        pytest.param({"aligned": SINGULAR}, R.OUTSIDE_FRAME, id="no way back to the frame"),
        pytest.param(
            {"aligned": AlignedFace(picture(120, 120), IDENTITY)}, R.TOO_BLURRED, id="flat"
        ),
    ],
)
@pytest.mark.parametrize("options", [QualityGateOptions.enrolment(), QualityGateOptions.watch()])
def test_each_fault_is_named(
    change: dict[str, object], reason: RejectionReason, options: QualityGateOptions
) -> None:
    faulty = report(**change, options=options)  # type: ignore[arg-type]
    assert faulty.reasons == (reason,)
    assert faulty.score < report().score


def test_two_turned_angles_are_one_reason() -> None:
    assert report(landmarks=at(yaw_deg=80, pitch_deg=80)).reasons == (R.TURNED_AWAY,)


def test_a_value_at_its_limit_passes() -> None:
    limit = QualityGateOptions.enrolment().max_yaw_deg
    assert report(landmarks=at(yaw_deg=limit)).passed
    assert not report(landmarks=at(yaw_deg=limit + 0.01)).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "reason"), [("sharpness", R.TOO_BLURRED), ("luminance", R.TOO_DARK)]
)
def test_a_measure_that_is_not_finite_fails_its_gate(
    monkeypatch: pytest.MonkeyPatch, name: str, reason: RejectionReason, value: float
) -> None:
    monkeypatch.setattr(quality_module, name, lambda crop: value)
    broken = report()
    assert reason in broken.reasons
    assert broken.score == 0
    assert all(math.isfinite(each) for each in broken.values.values())


def test_enrolment_is_at_least_as_strict_as_watch_in_every_gate() -> None:
    strict, lax = QualityGateOptions.enrolment(), QualityGateOptions.watch()
    for name in QualityGateOptions.__dataclass_fields__:
        sign = 1 if name.startswith("min_") else -1
        assert sign * getattr(strict, name) >= sign * getattr(lax, name), name


def test_a_face_pitched_too_far_to_be_compared_is_kept_out_even_of_watch() -> None:
    watch, enrolment = QualityGateOptions.watch(), QualityGateOptions.enrolment()
    assert watch.max_pitch_deg == 25
    assert enrolment.max_pitch_deg < watch.max_pitch_deg
    assert report(landmarks=at(pitch_deg=24), options=watch).passed
    assert report(landmarks=at(pitch_deg=26), options=watch).reasons == (R.TURNED_AWAY,)


@pytest.mark.parametrize(
    "wrong",
    [{"min_sharpness": math.nan}, {"max_yaw_deg": -1.0}, {"min_luminance": 0.9}],
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        QualityGateOptions(**wrong)


def grey(values: np.ndarray) -> ImageArray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, 2)


Y, X = np.mgrid[:SIDE, :SIDE]


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        pytest.param(grey(np.full((SIDE, SIDE), 128)), 0.0, id="flat"),
        pytest.param(grey(X * 2), 0.0, id="ramp: no second derivative"),
        # A chessboard of single pixels at +a and -a: its Laplacian is -8 times itself.
        pytest.param(grey(100 + 40 * ((X + Y) % 2)), 8.0, id="chessboard"),
        pytest.param(grey(10 + 4 * ((X + Y) % 2)), 8.0, id="the same in the dark"),
        pytest.param(grey(np.full((2, 2), 7)), 0.0, id="too small to have any"),
    ],
)
def test_sharpness_has_known_values(crop: ImageArray, expected: float) -> None:
    assert sharpness(crop) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((0, 0, 0), 0.0), ((255, 255, 255), 1.0), ((255, 0, 0), 0.299), ((0, 255, 0), 0.587)],
)
def test_luminance_has_known_values(colour: tuple[int, int, int], expected: float) -> None:
    crop = np.broadcast_to(np.array(colour, np.uint8), (SIDE, SIDE, 3))
    assert luminance(crop) == pytest.approx(expected)


def test_every_reason_has_advice() -> None:
    sentences = [advice(reason) for reason in RejectionReason]
    assert all(sentence.endswith(".") and len(sentence) <= 60 for sentence in sentences)


@pytest.mark.parametrize("template", ["arcface-112x112", "arcface-112x96"])
def test_real_faces_pass_and_the_same_faces_blurred_do_not(
    real_crops: dict[str, ImageArray], template: str
) -> None:
    cv2 = pytest.importorskip("cv2")
    limit = QualityGateOptions.watch().min_sharpness
    crops = real_crops[template]
    assert min(sharpness(crop) for crop in crops) >= limit
    assert max(sharpness(cv2.GaussianBlur(crop, (0, 0), 4)) for crop in crops) < limit


def test_the_size_of_the_face_in_the_frame_hardly_changes_its_sharpness(
    real_crops: dict[str, ImageArray],
) -> None:
    cv2 = pytest.importorskip("cv2")
    points = alignment_template("arcface-112x112")
    for crop in real_crops["arcface-112x112"]:
        large = Frame(cv2.resize(crop, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))
        again = align(large, points * 3 + 1, "arcface-112x112")
        assert sharpness(again.pixels) == pytest.approx(sharpness(crop), rel=0.3)
