"""Faces that are too constant, or flat: drawn heads that move, and drawn sheets."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.alignment import alignment_template
from edgeface.errors import InvalidInputError
from edgeface.pad import PadDecision, PadOutcome, PadReason, StillnessCheck, StillnessOptions
from edgeface.pad.stillness import face_pattern
from edgeface.types import FaceLandmarks, Frame

cv2 = pytest.importorskip("cv2")

Points = npt.NDArray[np.float64]
SIDE_PX, FPS = 240, 10
# A face of 160 px; the third number is depth, towards the camera: the nose sticks out.
FACE = np.hstack([alignment_template("arcface-112x112") * 1.43 + 40, np.zeros((5, 1))])
FACE[2, 2] = 30.0
MIDDLE = np.array([SIDE_PX / 2, SIDE_PX / 2, 0.0])


def picture() -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 215, (12, 12, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.uint8)


PICTURE = picture()
TEMPLATE_POINTS = FACE[:, :2].astype(np.float32)


def turned(points: Points, *, yaw_deg: float = 0.0, pitch_deg: float = 0.0) -> Points:
    """The points of a body turned about the middle, seen from far away."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    about_y = [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    about_x = [
        [1, 0, 0],
        [0, math.cos(pitch), math.sin(pitch)],
        [0, -math.sin(pitch), math.cos(pitch)],
    ]
    moved = (points - MIDDLE) @ np.array(about_y).T @ np.array(about_x).T + MIDDLE
    return np.asarray(moved[:, :2])


def sheet_of(points: Points) -> Points:
    """The same face printed on paper."""
    return np.asarray(points * [1, 1, 0])


def frame_of(points: Points, noise: float, seed: int) -> tuple[Frame, FaceLandmarks]:
    """The picture warped so that its points lie at ``points``, as a camera sees it."""
    matrix, _ = cv2.estimateAffine2D(TEMPLATE_POINTS, points.astype(np.float32))
    warped = cv2.warpAffine(PICTURE, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REFLECT)
    rng = np.random.default_rng(seed)
    noisy = np.clip(warped + rng.normal(0, noise, warped.shape), 0, 255).astype(np.uint8)
    jitter = rng.normal(0, 0.1, points.shape)
    return Frame(noisy, seed / FPS, seed), FaceLandmarks((points + jitter).astype(np.float32))


def run(
    pose: Callable[[float], Points],
    *,
    seconds: float = 3.0,
    options: StillnessOptions | None = None,
) -> tuple[PadDecision, StillnessCheck]:
    check = StillnessCheck(options)
    decision: PadDecision | None = None
    for k in range(round(seconds * FPS)):
        frame, landmarks = frame_of(pose(k / FPS), 2.0, k)
        decision = check.update(frame, landmarks, frame.timestamp_s)
    assert decision is not None
    return decision, check


def still(_: float) -> Points:
    return FACE[:, :2]


def swaying(time_s: float) -> Points:
    """A photo that is moved, turned and brought nearer in its own plane."""
    angle, size = 0.2 * math.sin(3 * time_s), 1 + 0.1 * math.sin(2 * time_s)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = MIDDLE[:2]
    return np.asarray((FACE[:, :2] - middle) @ turn.T * size + middle + 8 * math.sin(time_s))


def tilting_sheet(time_s: float) -> Points:
    return turned(sheet_of(FACE), yaw_deg=35 * math.sin(2.5 * time_s))


def turning_head(time_s: float) -> Points:
    return turned(FACE, yaw_deg=25 * math.sin(2.5 * time_s))


@pytest.mark.parametrize("pose", [still, swaying])
def test_a_photo_that_stands_or_sways_is_too_still(pose: Callable[[float], Points]) -> None:
    decision, check = run(pose)
    assert decision.outcome is PadOutcome.UNDECIDED
    assert decision.reasons == (PadReason.TOO_STILL,)
    assert check.report is not None
    assert check.report.change < StillnessOptions().min_change / 2


def test_a_photo_that_is_tilted_moves_like_a_sheet() -> None:
    decision, check = run(tilting_sheet, options=StillnessOptions(min_change=0.0))
    assert decision.reasons == (PadReason.MOVES_LIKE_A_SHEET,)
    assert check.report is not None
    assert check.report.foreshortening > 0.1
    assert check.report.bend < 0.01


def test_a_head_that_turns_is_alive() -> None:
    decision, check = run(turning_head, options=StillnessOptions(min_foreshortening=0.05))
    assert decision.outcome is PadOutcome.BONA_FIDE
    assert check.report is not None
    assert check.report.bend > 0.05


def test_a_blink_is_enough_change() -> None:
    check = StillnessCheck()
    decision = None
    for k in range(25):
        frame, landmarks = frame_of(FACE[:, :2], 2.0, k)
        pixels = frame.pixels.copy()
        if k in (12, 13, 14):
            pixels[100:125, 80:160] = 128  # lids over the eyes
        decision = check.update(Frame(pixels, k / FPS, k), landmarks, k / FPS)
    assert decision is not None
    assert decision.outcome is PadOutcome.BONA_FIDE


def test_before_the_window_is_full_nothing_is_said() -> None:
    decision, check = run(still, seconds=1.0)
    assert decision.reasons == (PadReason.TOO_FEW_FRAMES,)
    assert check.report is None


def test_patience_ends() -> None:
    decision, _ = run(still, seconds=6.0, options=StillnessOptions(patience_s=3.0))
    assert decision.outcome is PadOutcome.ATTACK
    assert decision.reasons == (PadReason.TOO_STILL,)


def test_too_few_frames_are_never_an_attack() -> None:
    check = StillnessCheck(StillnessOptions(patience_s=1.0))
    frame, _ = frame_of(FACE[:, :2], 2.0, 0)
    decisions = [check.update(frame, None, float(k)) for k in range(20)]
    assert {d.outcome for d in decisions} == {PadOutcome.UNDECIDED}


@pytest.mark.parametrize("jump_s", [5.0, -1.0])
def test_a_gap_and_a_clock_that_goes_back_start_anew(jump_s: float) -> None:
    _, check = run(turning_head)
    frame, landmarks = frame_of(FACE[:, :2], 2.0, 99)
    decision = check.update(frame, landmarks, 2.9 + jump_s)
    assert decision.reasons == (PadReason.TOO_FEW_FRAMES,)
    with pytest.raises(InvalidInputError, match="now_s"):
        check.update(frame, landmarks, math.nan)


def test_a_face_without_contrast_is_still() -> None:
    flat = Frame(np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8))
    landmarks = FaceLandmarks(TEMPLATE_POINTS)
    assert not face_pattern(flat, landmarks).any()
    check = StillnessCheck()
    decisions = [check.update(flat, landmarks, k / FPS) for k in range(25)]
    assert decisions[-1].reasons == (PadReason.TOO_STILL,)


def test_the_pattern_does_not_see_brightness_contrast_or_place() -> None:
    frame, _ = frame_of(FACE[:, :2], 0.0, 0)
    dim = Frame((frame.pixels * 0.6 + 30).astype(np.uint8))
    landmarks = FaceLandmarks(TEMPLATE_POINTS)
    pattern = face_pattern(frame, landmarks)
    assert np.linalg.norm(pattern) == pytest.approx(1)
    assert pattern @ face_pattern(dim, landmarks) > 0.999
    shifted = Frame(np.roll(frame.pixels, (7, -5), (0, 1)))
    moved = FaceLandmarks(TEMPLATE_POINTS + np.array([-5, 7], np.float32))
    assert pattern @ face_pattern(shifted, moved) > 0.999


@pytest.mark.parametrize(
    "options",
    [
        {"span_s": 0.0},
        {"patience_s": math.inf},
        {"max_gap_s": math.nan},
        {"min_frames": 1},
        {"min_change": math.nan},
        {"max_sheet_bend": -1.0},
    ],
)
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        StillnessOptions(**options)  # type: ignore[arg-type]
