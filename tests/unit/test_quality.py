"""Quality gates: each measure, each limit, each reason."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.alignment import align, alignment_template
from edgeface.errors import InvalidInputError
from edgeface.quality import (
    PROFILES,
    QualityGateOptions,
    advice,
    assess,
    luminance,
    pixels,
    sharpness,
)
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
    assert good.score > 0.75, "better than the median face of LFW"
    assert {QualityMeasure.SHARPNESS, QualityMeasure.OVER_EXPOSURE} <= set(good.values)


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
    assert faulty.score <= report().score


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
    monkeypatch.setattr(pixels, name, lambda crop: value)
    broken = report()
    assert reason in broken.reasons
    assert broken.score == 0
    assert all(math.isfinite(each) for each in broken.values.values())


@pytest.mark.parametrize("name", ["enrol", "door"])
def test_enrol_and_door_are_at_least_as_strict_as_watch_in_every_gate(name: str) -> None:
    strict, lax = PROFILES[name](), PROFILES["watch"]()
    for limit in QualityGateOptions.__dataclass_fields__:
        if limit == "refuse_unmeasured" or getattr(lax, limit) is None:
            continue
        sign = 1 if limit.startswith("min_") else -1
        assert sign * getattr(strict, limit) >= sign * getattr(lax, limit), limit


def test_watch_gates_only_what_keeps_a_face_from_being_compared() -> None:
    gated = {
        limit
        for limit in QualityGateOptions.__dataclass_fields__
        if getattr(QualityGateOptions.watch(), limit) not in (None, False)
    }
    assert gated == {
        "min_detection_score",
        "min_eye_distance_px",
        "min_sharpness",
        "min_luminance",
        "max_luminance",
        "max_yaw_deg",
        "max_pitch_deg",
        "max_roll_deg",
        "min_inside_frame",
    }


def open_eyed(**options: float | bool) -> QualityReport:
    return report(options=QualityGateOptions(**options))  # type: ignore[arg-type]


def test_a_measure_that_nobody_can_take_is_not_gated_unless_that_is_asked() -> None:
    assert open_eyed(min_eyes_open=0.01).passed, "five points have no eyelids"
    assert open_eyed(min_eyes_open=0.01, refuse_unmeasured=True).reasons == (R.EYES_CLOSED,)
    assert open_eyed(refuse_unmeasured=True).passed, "nothing else is gated that is not measured"


def test_a_door_refuses_a_face_of_which_it_cannot_see_the_eyes() -> None:
    unmeasured = report(options=QualityGateOptions.door())
    assert unmeasured.reasons == (R.SEVERAL_FACES, R.EYES_CLOSED)


def test_a_low_score_is_a_reason_of_its_own() -> None:
    score = report().score
    assert open_eyed(min_score=score).passed
    assert open_eyed(min_score=score + 0.01).reasons == (R.LOW_QUALITY,)


def test_another_face_as_large_is_named() -> None:
    options = QualityGateOptions(max_other_face=0.7)
    other = FaceDetection(BoundingBox(200, 16, 80, 80), 0.9)
    small = FaceDetection(BoundingBox(200, 16, 20, 20), 0.9)

    def with_others(*others: FaceDetection) -> QualityReport:
        frame = Frame(picture())
        return assess(frame, DETECTION, LANDMARKS, GOOD, options, others=others)

    assert with_others(DETECTION).passed, "the face itself is not another one"
    assert with_others(DETECTION, small).passed
    assert with_others(DETECTION, other).reasons == (R.SEVERAL_FACES,)


def test_a_face_pitched_too_far_to_be_compared_is_kept_out_even_of_watch() -> None:
    watch, enrolment = QualityGateOptions.watch(), QualityGateOptions.enrolment()
    assert watch.max_pitch_deg == 25
    assert enrolment.max_pitch_deg < watch.max_pitch_deg
    assert report(landmarks=at(pitch_deg=24), options=watch).passed
    assert report(landmarks=at(pitch_deg=26), options=watch).reasons == (R.TURNED_AWAY,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_sharpness": math.nan},
        {"max_yaw_deg": -1.0},
        {"min_luminance": 0.9},
        {"min_eyes_open": math.inf},
        {"min_score": -0.1},
    ],
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        QualityGateOptions(**wrong)  # type: ignore[arg-type]


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


def test_the_page_on_quality_lists_every_measure_reason_and_sentence(repository: Path) -> None:
    page = (repository / "docs" / "quality.md").read_text(encoding="utf-8")
    assert [m.value for m in QualityMeasure if f"`{m.value}`" not in page] == []
    for reason in RejectionReason:
        assert f"| `{reason.value}` | {advice(reason)} |" in page, reason


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
