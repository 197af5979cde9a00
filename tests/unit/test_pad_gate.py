"""PAD in front of recognition: nobody is named, and no visit begins, before a face passed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.pad import PadDecision, PadOperatingPoint, PadOutcome, PadReason
from edgeface.pad.detector import PresentationAttackDetector
from edgeface.pipeline import PadOptions
from edgeface.pipeline.pad_gate import PadGate, gated
from edgeface.testing import FakeLandmarkFinder
from edgeface.types import (
    Candidate,
    EventKind,
    FloatArray,
    Frame,
    IdentificationResult,
    ImageArray,
    Outcome,
    RejectionReason,
)
from tests.pad_bundles import FakePadNetwork
from tests.unit.test_streams import FPS, Rig, kinds, scene, standing

pytest.importorskip("cv2")

KNOWN = IdentificationResult(Outcome.KNOWN, "ann", 0.9, (Candidate("ann", 0.9),))
BONA_FIDE = PadDecision(PadOutcome.BONA_FIDE, 0.9, 5)
ATTACK = PadDecision(PadOutcome.ATTACK, 0.1, 5, (PadReason.LOOKS_LIKE_ATTACK,))
UNDECIDED = PadDecision(PadOutcome.UNDECIDED, None, 1, (PadReason.TOO_FEW_FRAMES,))
NEVER_STILL = {"stillness": False}


class ScriptedNetwork(FakePadNetwork):
    """Gives the scores of a script, one a call, and the last one from then on."""

    def __init__(self, *scores: float) -> None:
        super().__init__(scores[0])
        self._script = list(scores)
        self.calls = 0

    def run(self, crops: ImageArray) -> FloatArray:
        self.bona_fide = self._script[min(self.calls, len(self._script) - 1)]
        self.calls += 1
        return super().run(crops)


def gate(network: FakePadNetwork, **options: object) -> PadGate:
    return PadGate(
        PresentationAttackDetector([network]),
        FakeLandmarkFinder(),
        PadOptions(bundles=("pad",), **(NEVER_STILL | options)),  # type: ignore[arg-type]
    )


def with_pad(rig: Rig, network: FakePadNetwork, **options: object) -> Rig:
    rig.recognizer._pad = gate(network, **options)
    return rig


def test_a_living_face_is_named_once_its_window_is_full(tmp_path: Path) -> None:
    rig = with_pad(Rig(tmp_path, standing(1, 50)), ScriptedNetwork(0.95))
    results, events = rig.run()
    said = [face.track_result for result in results for face in result.observations]
    named = [k for k, result in enumerate(said) if result is not None and result.subject == "ann"]
    # Five scores, 0.1 s apart, that span half a second.
    assert 0.5 * FPS <= named[0] <= 0.7 * FPS
    early = [result for result in said[: named[0]] if result is not None]
    assert {result.reasons for result in early} == {(RejectionReason.LIVENESS_UNDECIDED,)}
    assert [name for _, name in kinds(events, EventKind.ARRIVED)] == ["ann"]
    assert results[-1].observations[0].pad is not None
    assert results[-1].observations[0].pad.passed


def test_a_photo_of_an_enrolled_person_is_never_named_and_makes_no_visit(tmp_path: Path) -> None:
    rig = with_pad(Rig(tmp_path, standing(1, 100)), ScriptedNetwork(0.05))
    results, events = rig.run()
    for result in results:
        for face in result.observations:
            assert face.result.subject is None
            assert face.result.candidates == ()
            assert face.track_result is None or face.track_result.subject is None
    assert kinds(events, EventKind.ARRIVED, EventKind.DEPARTED) == []
    last = results[-1].observations[0].track_result
    assert last is not None
    assert last.reasons == (RejectionReason.PRESENTATION_ATTACK,)


def test_who_passed_stays_named_when_turning_away_and_not_when_an_attack_follows(
    tmp_path: Path,
) -> None:
    network = ScriptedNetwork(*[0.95] * 8, *[0.02] * 40)
    rig = with_pad(Rig(tmp_path, standing(1, 150)), network)
    results, _ = rig.run()
    said = [result.observations[0].track_result for result in results[2:]]
    subjects = [None if result is None else result.subject for result in said]
    first = subjects.index("ann")
    assert None in subjects[first:]
    assert subjects[-1] is None
    assert said[-1] is not None
    assert said[-1].reasons == (RejectionReason.PRESENTATION_ATTACK,)


def test_another_person_on_the_track_must_pass_anew(tmp_path: Path) -> None:
    network = ScriptedNetwork(*[0.95] * 10, *[0.02] * 60)
    script = [*standing(1, 30), *standing(2, 60)]
    results, _ = with_pad(Rig(tmp_path, script), network).run()
    named = {
        face.track_result.subject
        for result in results
        for face in result.observations
        if face.track_result is not None
    }
    assert named == {None, "ann"}


def test_strangers_are_not_scored_once_they_are_known_to_be_strangers(tmp_path: Path) -> None:
    network = ScriptedNetwork(0.95)
    with_pad(Rig(tmp_path, standing(7, 100)), network).run()
    assert 1 <= network.calls <= 3


def test_scores_keep_to_their_budget_and_all_pass_in_the_end(tmp_path: Path) -> None:
    network = ScriptedNetwork(0.95)
    script = [[(1, 20.0), (2, 320.0)]] * 100
    results, events = with_pad(Rig(tmp_path, script), network, per_second=8.0).run()
    assert network.calls <= 8 * len(results) / FPS + 3
    assert sorted(name or "" for _, name in kinds(events, EventKind.ARRIVED)) == ["ann", "beth"]


def test_a_face_that_never_moves_is_held_back_when_movement_is_asked_for(tmp_path: Path) -> None:
    rig = with_pad(Rig(tmp_path, standing(1, 100)), ScriptedNetwork(0.95), stillness=True)
    _, events = rig.run()
    assert kinds(events, EventKind.ARRIVED) == []


@pytest.mark.parametrize(("score", "outcome"), [(0.9, Outcome.KNOWN), (0.1, Outcome.REJECTED)])
def test_a_picture_that_stands_alone_is_judged_alone(
    tmp_path: Path, score: float, outcome: Outcome
) -> None:
    rig = with_pad(Rig(tmp_path, standing(1, 1)), ScriptedNetwork(score), stillness=True)
    (seen,) = rig.recognizer.identify(Frame(scene((1, 20)), 0.0, 0, "camera 0"))
    assert seen.result.outcome is outcome
    assert seen.pad is not None
    assert seen.pad.passed == (outcome is Outcome.KNOWN)


def test_without_pad_nothing_is_said_of_it(tmp_path: Path) -> None:
    results, _ = Rig(tmp_path, standing(1, 10)).run()
    assert {face.pad for result in results for face in result.observations} == {None}


def test_a_decision_gates_names_and_nothing_else() -> None:
    assert gated(KNOWN, BONA_FIDE) is KNOWN
    assert gated(KNOWN, ATTACK).reasons == (RejectionReason.PRESENTATION_ATTACK,)
    assert gated(KNOWN, UNDECIDED).reasons == (RejectionReason.LIVENESS_UNDECIDED,)
    assert gated(KNOWN, None).reasons == (RejectionReason.LIVENESS_UNDECIDED,)
    ambiguous = IdentificationResult(Outcome.AMBIGUOUS, candidates=KNOWN.candidates)
    assert gated(ambiguous, ATTACK).candidates == ()
    unknown = IdentificationResult(Outcome.UNKNOWN, score=0.1)
    assert gated(unknown, ATTACK) is unknown


def test_an_engine_that_fails_names_nobody(tmp_path: Path) -> None:
    class Broken(FakePadNetwork):
        def run(self, crops: ImageArray) -> FloatArray:
            return np.full((len(crops), 3), math.nan, np.float32)

    rig = with_pad(Rig(tmp_path, standing(1, 10)), Broken(0.9))
    with pytest.raises(InvalidInputError):
        rig.run()


@pytest.mark.parametrize(
    "change",
    [
        {"bundles": ()},
        {"interval_s": -0.1},
        {"interval_s": math.nan},
        {"recheck_s": 1.0},
        {"recheck_s": 0.05},
        {"per_second": 0.0},
    ],
)
def test_impossible_options_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        PadOptions(**{"bundles": ("pad",), **change})  # type: ignore[arg-type]


def test_an_operating_point_of_other_models_is_refused() -> None:
    other = PadOperatingPoint.of_trainer(("0" * 64,))
    with pytest.raises(OperatingPointError):
        gate(FakePadNetwork(0.9), operating_point=other)
