"""APCER and BPCER on folders of recordings, and the stream that scores them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.pad import (
    BoxConvention,
    PadOperatingPoint,
    PadOutcome,
    PadReason,
    PresentationAttackDetector,
)
from edgeface.pipeline.pad_stream import PadParts, PadStream, present
from edgeface.testing import FakeDetector, FakeLandmarkFinder
from edgeface.types import BoundingBox, FaceDetection, FaceLandmarks, Frame
from edgeface_calibration.error_rates import wilson_interval
from edgeface_calibration.pad_evaluation import PadEvaluation, evaluate_pad, fit_pad_threshold
from tests.pad_bundles import FakePadNetwork

pytest.importorskip("cv2")

SCORES = {
    "people/anna.jpg": 0.9,
    "people/more/ben.mp4": 0.6,
    "people/carl.png": 0.3,
    "people/dora.jpg": None,
    "attacks/print/one.jpg": 0.1,
    "attacks/print/two.jpg": 0.4,
    "attacks/screen/one.mp4": 0.7,
    "attacks/screen/deep/two.mp4": None,
    "attacks/loose.jpg": 0.2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in SCORES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "people" / "notes.txt").write_text("no recording")
    return tmp_path


def evaluated(folder: Path, threshold: float = 0.5) -> PadEvaluation:
    def score(path: Path) -> float | None:
        return SCORES[path.relative_to(folder).as_posix()]

    return evaluate_pad(folder / "people", folder / "attacks", score, threshold=threshold)


def test_each_species_has_its_rate_and_the_worst_is_the_headline(folder: Path) -> None:
    found = evaluated(folder)
    assert [s.species for s in found.species] == ["attack", "print", "screen"]
    assert [(s.apcer.errors, s.apcer.trials, s.no_response) for s in found.species] == [
        (0, 1, 0),
        (0, 2, 0),
        (1, 1, 1),
    ]
    assert (found.worst.species, found.worst.apcer.rate) == ("screen", 1.0)
    assert (found.bpcer.errors, found.bpcer.trials, found.bona_fide_no_response) == (1, 3, 1)
    assert found.acer == pytest.approx((1 + 1 / 3) / 2)
    assert found.bpcer.interval == wilson_interval(1, 3)


def test_of_two_species_without_errors_the_smaller_proves_less(folder: Path) -> None:
    assert evaluated(folder, threshold=0.99).worst.species in ("attack", "screen")
    assert evaluated(folder, threshold=0.99).worst.apcer.interval.high > 0.7


def test_a_threshold_of_its_own_moves_the_rates(folder: Path) -> None:
    found = evaluated(folder).at(0.75)
    assert found.worst.apcer.rate == 0.0
    assert found.bpcer.rate == pytest.approx(2 / 3)


def test_the_figures_can_be_written_as_json(folder: Path) -> None:
    data = json.loads(json.dumps(evaluated(folder).to_dict(), allow_nan=False))
    assert data["worst_species"] == "screen"
    assert data["presentations"][0] == {"file": "anna.jpg", "species": "", "score": 0.9}
    assert len(data["presentations"]) == len(SCORES)


def test_nothing_answered_is_no_rate(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "b/y.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    found = evaluate_pad(tmp_path / "a", tmp_path / "b", lambda path: None, threshold=0.5)
    assert (found.bpcer.rate, found.worst.apcer.rate, found.acer) == (None, None, None)
    assert found.bpcer.interval.high == 1.0


def test_a_folder_that_is_missing_or_empty_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    for people, attacks in (("people", "none"), ("empty", "attacks"), ("people", "empty")):
        with pytest.raises(InvalidInputError):
            evaluate_pad(folder / people, folder / attacks, lambda path: 0.5, threshold=0.5)


def test_the_fitted_threshold_is_the_lowest_that_keeps_every_species_out(tmp_path: Path) -> None:
    attacks = {"print": [k / 100 for k in range(20)], "screen": [k / 50 for k in range(20)]}
    scores: dict[Path, float] = {}
    for species, values in attacks.items():
        for k, value in enumerate(values):
            scores[tmp_path / "attacks" / species / f"{k}.jpg"] = value
    for k in range(10):
        scores[tmp_path / "people" / f"{k}.jpg"] = 0.3 + k / 20
    for path in scores:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = evaluate_pad(
        tmp_path / "people", tmp_path / "attacks", lambda path: scores[path], threshold=0.5
    )
    point = fit_pad_threshold(found, target_apcer=0.05, model_ids=["m"])
    # One of the twenty screens may pass: the one at 0.38; that at 0.36 may not.
    assert point.threshold == math.nextafter(0.36, 2)
    assert (point.apcer, point.n_attacks, point.n_bona_fide) == (0.05, 40, 10)
    assert point.bpcer == pytest.approx(0.2)
    assert not point.provisional
    with pytest.raises(OperatingPointError, match="at least 100"):
        fit_pad_threshold(found, target_apcer=0.01, model_ids=["m"])
    with pytest.raises(InvalidInputError):
        fit_pad_threshold(found, target_apcer=math.nan, model_ids=["m"])


def test_attacks_of_score_one_cannot_be_kept_out(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "b/y.jpg", "b/z.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = evaluate_pad(tmp_path / "a", tmp_path / "b", lambda path: 1.0, threshold=0.5)
    with pytest.raises(OperatingPointError, match="score 1"):
        fit_pad_threshold(found, target_apcer=0.5, model_ids=["m"])


def face(left: float = 200.0, side: float = 100.0) -> FaceDetection:
    return FaceDetection(BoundingBox(left, 150.0, side, side), 0.9)


def frames(count: int, *, fps: float = 10.0) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [
        Frame(rng.integers(0, 255, (480, 640, 3)).astype(np.uint8), k / fps, k)
        for k in range(count)
    ]


def parts(
    network: FakePadNetwork,
    detections: list[list[FaceDetection]],
    *,
    finder: FakeLandmarkFinder | None = None,
) -> PadParts:
    assessor = PresentationAttackDetector([network], boxes=BoxConvention.WHOLE_FACE)
    return PadParts(
        FakeDetector(detections),
        assessor,
        PadOperatingPoint.of_trainer(assessor.model_ids),
        finder,
    )


def test_a_stream_decides_for_each_track_by_itself() -> None:
    network = FakePadNetwork(0.9)
    stream = PadStream(parts(network, [[face(100), face(400, 80)]] * 10 + [[face(100)]] * 10))
    seen = [stream.process(frame) for frame in frames(20)]
    assert [len(faces) for faces in seen] == [2] * 10 + [1] * 10
    assert seen[0][0].decision.outcome is PadOutcome.UNDECIDED
    assert {f.decision.outcome for f in seen[9]} == {PadOutcome.BONA_FIDE}
    assert [f.track_id for f in seen[9]] == [1, 2]


def test_a_stream_starts_anew_when_the_track_is_another() -> None:
    detections = [[face()]] * 10 + [[]] * 15 + [[face()]] * 2
    stream = PadStream(parts(FakePadNetwork(0.9), detections))
    last = [stream.process(frame) for frame in frames(27)][-1][0]
    assert (last.track_id, last.decision.outcome) == (2, PadOutcome.UNDECIDED)


def test_a_face_that_was_hidden_for_a_moment_may_be_anothers_and_starts_anew() -> None:
    detections = [[face()]] * 10 + [[]] * 6 + [[face()]]
    stream = PadStream(parts(FakePadNetwork(0.9), detections))
    seen = [stream.process(frame) for frame in frames(17)]
    assert seen[9][0].decision.outcome is PadOutcome.BONA_FIDE
    assert seen[-1][0].decision.outcome is PadOutcome.UNDECIDED
    assert seen[-1][0].decision.frames == 1


def test_stills_stand_alone() -> None:
    stream = PadStream(parts(FakePadNetwork(0.2), [[face()]] * 3), stills=True)
    seen = [stream.process(frame)[0] for frame in frames(3)]
    assert {f.decision.outcome for f in seen} == {PadOutcome.ATTACK}
    assert len({f.track_id for f in seen}) == 3


def test_a_face_that_is_too_still_is_held_back_although_the_network_likes_it() -> None:
    still = [Frame(frames(1)[0].pixels, k / 10, k) for k in range(40)]
    stream = PadStream(parts(FakePadNetwork(0.9), [[face()]] * 40, finder=FakeLandmarkFinder()))
    last = [stream.process(frame) for frame in still][-1][0]
    assert last.decision.reasons == (PadReason.TOO_STILL,)
    assert last.decision.score == pytest.approx(0.9)
    assert last.stillness is not None
    assert last.stillness.change == pytest.approx(0.0, abs=1e-9)


def test_landmarks_that_cannot_be_those_of_the_face_are_not_used() -> None:
    def nowhere(frame: Frame, detection: FaceDetection) -> FaceLandmarks:
        return FaceLandmarks(np.zeros((5, 2), np.float32))

    stream = PadStream(
        parts(FakePadNetwork(0.9), [[face()]] * 40, finder=FakeLandmarkFinder(nowhere))
    )
    last = [stream.process(frame) for frame in frames(40)][-1][0]
    assert last.decision.outcome is PadOutcome.UNDECIDED


@pytest.mark.parametrize(
    ("network", "detections", "expected"),
    [
        (0.9, [[face()]] * 20, 0.9),
        (0.2, [[face()]] * 20, 0.2),
        (0.9, [[face()]] * 3, None),
        (0.9, [[]] * 20, None),
    ],
)
def test_a_presentation_has_the_best_score_of_its_windows(
    network: float, detections: list[list[FaceDetection]], expected: float | None
) -> None:
    found = present(parts(FakePadNetwork(network), detections), frames(20))
    assert found.score == (None if expected is None else pytest.approx(expected))
    assert found.frames == 20


def test_parts_are_closed_together() -> None:
    network, finder = FakePadNetwork(0.5), FakeLandmarkFinder()
    made = parts(network, [[]], finder=finder)
    made.close()
    assert network.closed
    assert finder.closed
