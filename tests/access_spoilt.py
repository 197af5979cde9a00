"""Cases in which exactly one condition of a door is not met, and random ones with any number."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias

from edgeface.access import (
    AccessInputs,
    AccessPolicy,
    AccessState,
    EvidenceRule,
    FactorKind,
    FactorRule,
    FrameEvidence,
    VerifiedFactor,
    WallTime,
    decide,
)
from edgeface.camera import CameraState, FrameCondition
from tests.access_cases import (
    ATTACK,
    CAMERA,
    FACTS,
    NOON,
    NOW_S,
    POINT,
    POLICY,
    UNDECIDED,
    good_frames,
    good_inputs,
)

__all__ = [
    "EDGES",
    "MET_BY_NOTHING",
    "NOTHING",
    "SPOILT",
    "Case",
    "Spoilt",
    "fuzz",
    "good_case",
    "lacking",
    "random_case",
    "random_cases",
]

Case: TypeAlias = "tuple[AccessPolicy, AccessState, AccessInputs]"

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Spoilt:
    """A case that lacks ``lacks`` alone."""

    lacks: str
    what: str
    case: Case


def good_case() -> Case:
    return POLICY, AccessState(), good_inputs()


def _frames(**changes: Any) -> tuple[FrameEvidence, ...]:
    return tuple(replace(frame, **changes) for frame in good_frames())


def _one(k: int, **changes: Any) -> tuple[FrameEvidence, ...]:
    frames = list(good_frames())
    frames[k] = replace(frames[k], **changes)
    return tuple(frames)


def _some(count: int, **changes: Any) -> tuple[FrameEvidence, ...]:
    """``count`` frames changed, from the second on."""
    frames = good_frames()
    return tuple(replace(f, **changes) if 1 <= k <= count else f for k, f in enumerate(frames))


def _later(step_s: float, *, newest_age_s: float = 0.05) -> tuple[FrameEvidence, ...]:
    """The frames ``step_s`` apart."""
    at_s = [NOW_S - newest_age_s - step_s * (6 - k) for k in range(7)]
    return tuple(replace(f, captured_s=s) for f, s in zip(good_frames(), at_s, strict=True))


def _inputs(**changes: Any) -> Case:
    return POLICY, AccessState(), good_inputs(**changes)


def _state(**changes: Any) -> Case:
    return POLICY, AccessState(**changes), good_inputs()


def _camera(**changes: Any) -> Case:
    return _inputs(camera=replace(CAMERA, **changes))


def _facts(**changes: Any) -> Case:
    return _inputs(model=replace(FACTS, **changes))


def _point(**changes: Any) -> Case:
    return _facts(operating_point=replace(POINT, **changes))


def _factor(**changes: Any) -> Case:
    factor = VerifiedFactor(subject="Ada", kind=FactorKind.PIN, at_s=NOW_S - 3.0)
    return _inputs(factor=replace(factor, **changes))


def _bob(wall: WallTime | None) -> Case:
    return POLICY, AccessState(), good_inputs("Bob", wall=wall)


def _policy(case: Case, **changes: Any) -> Case:
    return replace(case[0], **changes), case[1], case[2]


_DENY_DURESS = replace(POLICY, factors=FactorRule(duress="deny"))

SPOILT = tuple(
    Spoilt(lacks, what, case)
    for lacks, what, case in (
        ("no fault", "a fault", _state(fault="AuditError")),
        ("clock", "an old frame of no time", _inputs(frames=(
            replace(good_frames()[0], is_compared=False, captured_s=-INF), *good_frames()))),
        ("clock", "frames out of order", _inputs(frames=(
            *(replace(good_frames()[0], is_compared=False, captured_s=NOW_S - ago_s)
              for ago_s in (0.7, 0.9)), *good_frames()))),
        ("lock-out", "a wait", _state(wait_s=0.01)),
        ("lock-out", "a wait that is no number", _state(wait_s=NAN)),
        ("face allowed", "the face is off", _state(is_face_off=True)),
        ("camera", "no camera", _inputs(camera=None)),
        ("camera", "lost", _camera(state=CameraState.LOST)),
        ("camera", "opening", _camera(state=CameraState.OPENING)),
        ("camera", "frozen", _camera(conditions=frozenset({FrameCondition.FROZEN}))),
        ("camera", "looped", _camera(conditions=frozenset({FrameCondition.LOOPED}))),
        ("camera", "too old", _camera(conditions=frozenset({FrameCondition.TOO_OLD}))),
        ("source", "a network camera", _camera(source="rtsp://10.0.0.2/stream")),
        ("source", "a stream by a pipeline", _camera(source="gstreamer rtspsrc ! decodebin")),
        ("source", "a file by a pipeline", _camera(source="gstreamer filesrc ! videoconvert")),
        ("source", "a video that a program makes", _camera(source="gstreamer v4l2src")),
        ("source", "made-up pictures", _camera(source="test source")),
        ("source", "made-up pictures on a trusted network", _policy(
            _camera(source="test source"), trusted_network=True)),
        ("source", "a name that only begins like a camera's", _camera(source="webcam 0 ! x")),
        ("source", "a name that only ends like a camera's", _camera(source="x csi 0")),
        ("source", "no name", _camera(source="")),
        ("source", "another camera", _policy(_inputs(), camera="webcam 1")),
        ("model", "the demonstration model", _facts(is_demonstration=True)),
        ("model", "another model", _policy(_inputs(), model_id="b" * 64)),
        ("gallery", "nobody enrolled", _facts(gallery_size=0)),
        ("gallery", "a gallery of another model", _facts(gallery_model_id="b" * 64)),
        ("operating point", "provisional", _point(provisional=True)),
        ("operating point", "the gallery outgrew it", _facts(gallery_size=101)),
        ("operating point", "for comparisons only", _point(target_fpir=None, gallery_size=None)),
        ("operating point", "not strict enough", _point(target_fpir=2e-4)),
        ("operating point", "a rate of 0, which nobody measured", _point(target_fpir=0.0)),
        ("fresh", "the newest frame that counts is old, a stranger is there", _inputs(frames=(
            *_later(0.1, newest_age_s=0.6)[:6], *(
                replace(good_frames()[6], subject=None, score=0.1, captured_s=NOW_S - 0.55 + k)
                for k in (0.0, 0.4))))),
        ("fresh", "the newest frame that counts is old", _inputs(frames=(
            *_later(0.1, newest_age_s=0.6),
            *(replace(good_frames()[6], is_compared=False, subject=None, captured_s=NOW_S - ago_s)
              for ago_s in (0.3, 0.01)),
        ))),
        ("frames", "four of seven", _inputs(frames=_some(3, subject=None, score=0.2))),
        ("frames", "five that were not compared", _inputs(
            frames=_some(3, is_compared=False, subject=None, score=None))),
        ("frames", "scores below the threshold", _inputs(frames=_some(3, score=0.4999))),
        ("frames", "a score that is no number", _inputs(frames=_some(3, score=NAN))),
        ("frames", "an infinite score", _inputs(frames=_some(3, score=INF))),
        ("frames", "a score that no cosine has", _inputs(frames=_some(3, score=1.5))),
        ("frames", "no score", _inputs(frames=_some(3, score=None))),
        ("span", "all within 0.39 s", _inputs(frames=_later(0.065))),
        ("span", "all at once", _inputs(frames=_later(0.0))),
        ("recent", "over more than three seconds", _inputs(frames=_later(0.495, newest_age_s=0.1))),
        ("continuous", "a gap in the middle", _inputs(frames=(
            *(replace(f, captured_s=f.captured_s - 0.45) for f in good_frames()[:3]),
            *good_frames()[3:]))),
        ("unused", "one frame used before", _state(consumed_s=NOW_S - 0.65)),
        ("unused", "the oldest used before", _state(consumed_s=good_frames()[0].captured_s)),
        ("unused", "used up to now", _state(consumed_s=NOW_S)),
        ("unused", "used up to a time that is none", _state(consumed_s=NAN)),
        ("second factor", "a duress PIN of another", _factor(subject="Bob", is_duress=True)),
        ("one face", "a second person", _inputs(frames=_one(3, faces=2))),
        ("one face", "a second person now", _inputs(frames=_one(6, faces=2))),
        ("one face", "nobody for a moment", _inputs(frames=_one(3, faces=0))),
        ("one face", "a second person in a frame that was not compared", _inputs(frames=(
            *good_frames(),
            replace(good_frames()[6], is_compared=False, faces=2, captured_s=NOW_S - 0.01)))),
        ("one track", "two tracks", _inputs(frames=_some(3, track_id=4))),
        ("one track", "no tracks", _inputs(frames=_frames(track_id=None))),
        ("one subject", "one frame names another", _inputs(frames=_one(2, subject="Eve"))),
        ("one subject", "two frames name another", _inputs(frames=_some(2, subject="Bob"))),
        ("rival", "a rival as alike", _inputs(frames=_one(3, rival=0.8))),
        ("rival", "a rival more alike", _inputs(frames=_one(3, rival=0.95))),
        ("rival", "a rival within the margin", _inputs(frames=_one(3, rival=0.76))),
        ("rival", "a rival at the margin", _policy(
            _inputs(frames=_frames(score=0.75, rival=0.5)),
            evidence=EvidenceRule(min_margin=0.25))),
        ("rival", "a rival that is no number", _inputs(frames=_one(3, rival=NAN))),
        ("eyes", "closed", _inputs(frames=_frames(eyes_open=0.0))),
        ("eyes", "not measured", _inputs(frames=_frames(eyes_open=None))),
        ("eyes", "no number", _inputs(frames=_frames(eyes_open=NAN))),
        ("eyes", "infinitely open", _inputs(frames=_frames(eyes_open=INF))),
        ("presentation attack", "an attack now", _inputs(frames=_one(6, pad=ATTACK))),
        ("presentation attack", "an attack before", _inputs(frames=_one(0, pad=ATTACK))),
        ("presentation attack", "undecided now", _inputs(frames=_one(6, pad=UNDECIDED))),
        ("presentation attack", "never judged", _inputs(frames=_frames(pad=None))),
        ("presentation attack", "not judged now", _inputs(frames=_one(6, pad=None))),
        ("presentation attack", "a track that was barred", _state(barred_tracks=frozenset({3}))),
        ("presentation attack", "an attack where PAD is not asked", _policy(
            _inputs(frames=_one(2, pad=ATTACK)), require_pad=False, risk_accepted_by="a test")),
        ("permit", "outside the permits", _policy(_inputs(), permits=POLICY.permits[1:])),
        ("schedule", "at night", _bob(WallTime(NOON + timedelta(hours=9)))),
        ("schedule", "at the weekend", _bob(WallTime(NOON + timedelta(days=3)))),
        ("schedule", "the minute it ends", _bob(WallTime(NOON + timedelta(hours=7)))),
        ("schedule", "a clock in doubt", _bob(WallTime(NOON, "the clock was set"))),
        ("schedule", "no clock", _bob(None)),
        ("second factor", "none", _inputs(factor=None)),
        ("second factor", "of another", _factor(subject="Bob")),
        ("second factor", "too old", _factor(at_s=NOW_S - 20.1)),
        ("second factor", "of the future", _factor(at_s=NOW_S + 0.1)),
        ("second factor", "of no time", _factor(at_s=NAN)),
        ("second factor", "duress, where that is denied", (
            _DENY_DURESS, AccessState(), _factor(is_duress=True)[2])),
        ("intent", "not pressed", _inputs(intent_s=None)),
        ("intent", "pressed long ago", _inputs(intent_s=NOW_S - 10.1)),
        ("intent", "pressed in the future", _inputs(intent_s=NOW_S + 0.1)),
        ("intent", "pressed at no time", _inputs(intent_s=NAN)),
        ("anti-passback", "inside already", _state(inside=frozenset({"Ada"}))),
    )
)  # fmt: skip
"""The permit's schedule is unmet without a permit, too; every other case lacks one thing alone."""


def _edge(policy: AccessPolicy = POLICY, state: AccessState | None = None, **changes: Any) -> Case:
    return policy, state or AccessState(), good_inputs(**changes)


_LAST = good_frames()[6]
EDGES: dict[str, Case] = {
    "everything": good_case(),
    "five of seven": _edge(frames=tuple(
        replace(f, subject=None, score=0.2) if k in (1, 3) else f
        for k, f in enumerate(good_frames()))),
    "the threshold itself": _edge(frames=_frames(score=0.5)),
    "a perfect score": _edge(frames=_frames(score=1.0)),
    "a rival below the threshold": _edge(frames=_frames(score=0.51, rival=0.49)),
    "no rival": _edge(frames=_frames(rival=None)),
    "a rival that is accepted and further away": _edge(frames=_frames(score=0.8, rival=0.74)),
    "one enrolled": _edge(model=replace(FACTS, gallery_size=1)),
    "the gallery is full": _edge(model=replace(FACTS, gallery_size=100)),
    "the model of the policy": _edge(replace(POLICY, model_id=FACTS.model_id)),
    "the camera of the policy": _edge(replace(POLICY, camera=CAMERA.source)),
    "a network camera that is trusted": _edge(
        replace(POLICY, trusted_network=True), camera=replace(CAMERA, source="rtsp://cam/1")),
    "a pipeline that is trusted": _edge(
        replace(POLICY, trusted_network=True), camera=replace(CAMERA, source="gstreamer v4l2src")),
    "a CSI camera": _edge(camera=replace(CAMERA, source="csi 1")),
    "made-up pictures in a demonstration": _edge(
        replace(POLICY, demonstration=True), camera=replace(CAMERA, source="test source")),
    "a strict point": _edge(model=replace(FACTS, operating_point=replace(POINT, target_fpir=1e-6))),
    "sixty frames a second": _edge(frames=tuple(
        replace(_LAST, captured_s=NOW_S - 0.01 - (99 - k) / 60) for k in range(100))),
    "two frames at one time": _edge(frames=(
        replace(_LAST, captured_s=good_frames()[0].captured_s), *good_frames())),
    "a frame of this moment": _edge(frames=_one(6, captured_s=NOW_S)),
    "the least span": _edge(frames=_later(0.4 / 6)),
    "the oldest that may count": _edge(frames=_later(0.49, newest_age_s=0.06)),
    "the widest gap, just now": _edge(frames=_later(0.1, newest_age_s=0.5)),
    "used up to just before": _edge(state=AccessState(consumed_s=NOW_S - 0.6501)),
    "a grey picture": _edge(camera=replace(CAMERA, conditions=frozenset({FrameCondition.GREY}))),
    "frames between that were not compared": _edge(frames=(
        *good_frames()[:5],
        replace(good_frames()[5], is_compared=False, subject=None, score=None, eyes_open=None),
        *good_frames()[5:])),
    "eyes just open, once": _edge(frames=tuple(
        replace(f, eyes_open=0.01 if k == 2 else 0.0) for k, f in enumerate(good_frames()))),
    "eyes not asked": _edge(
        replace(POLICY, evidence=EvidenceRule(min_eyes_open=0.0)), frames=_frames(eyes_open=None)),
    "undecided before": _edge(frames=_one(2, pad=UNDECIDED)),
    "PAD not asked": _edge(
        replace(POLICY, require_pad=False, risk_accepted_by="a test"), frames=_frames(pad=None)),
    "another track was barred": _edge(state=AccessState(barred_tracks=frozenset({4}))),
    "a schedule": _edge(subject="Bob"),
    "the first minute": _edge(subject="Bob", wall=WallTime(NOON - timedelta(hours=5))),
    "no clock, at any time": _edge(wall=None),
    "a clock in doubt, at any time": _edge(wall=WallTime(NOON, "the clock was set")),
    "an old code": _edge(factor=VerifiedFactor(
        subject="Ada", kind=FactorKind.TOTP, at_s=NOW_S - 20.0)),
    "a code of this moment": _edge(factor=VerifiedFactor(
        subject="Ada", kind=FactorKind.TOTP, at_s=NOW_S)),
    "a duress PIN": _edge(factor=VerifiedFactor(
        subject="Ada", kind=FactorKind.PIN, at_s=NOW_S, is_duress=True)),
    "a PIN where duress is denied": _edge(replace(POLICY, factors=FactorRule(duress="deny"))),
    "no code asked": _edge(replace(
        POLICY, factors=FactorRule(second_factor="none"), risk_accepted_by="a test"), factor=None),
    "no button asked": _edge(replace(
        POLICY, factors=FactorRule(intent=False), risk_accepted_by="a test"), intent_s=None),
    "pressed long ago": _edge(intent_s=NOW_S - 10.0),
    "pressed just now": _edge(intent_s=NOW_S),
    "somebody else is inside": _edge(state=AccessState(inside=frozenset({"Bob"}))),
    "inside, and nobody asks": _edge(
        replace(POLICY, anti_passback="off"), AccessState(inside=frozenset({"Ada"}))),
    "inside, and reported": _edge(
        replace(POLICY, anti_passback="soft"), AccessState(inside=frozenset({"Ada"}))),
    "a demonstration": _edge(
        replace(POLICY, demonstration=True), camera=None,
        model=replace(FACTS, is_demonstration=True, operating_point=replace(
            POINT, provisional=True))),
}  # fmt: skip
"""Cases at the edge of what opens: every one opens."""


NOTHING: Case = (POLICY, AccessState(), AccessInputs(now_s=NOW_S))
MET_BY_NOTHING = frozenset(
    {"no fault", "clock", "lock-out", "face allowed", "source", "anti-passback"}
)


def lacking(spoilt: Spoilt) -> set[str]:
    """Return every condition that the case does not meet."""
    return {"permit", "schedule"} if spoilt.lacks == "permit" else {spoilt.lacks}


# ---------------------------------------------------------------------------- random ones

_Random: TypeAlias = "Callable[[random.Random, Case], Case]"
_BAD = (NAN, INF, -INF, -0.0, -1.0, 1e308, 2.0)


def _bad_frame(rng: random.Random, frame: FrameEvidence) -> FrameEvidence:
    changes = rng.choice((
        {"captured_s": rng.choice((NAN, INF, -INF, NOW_S + rng.random() * 1e6))},
        {"captured_s": frame.captured_s - rng.choice((3.1, 60.0, 1e9))},
        {"faces": rng.choice((0, 2, 50, -1))},
        {"track_id": rng.choice((None, 99))},
        {"subject": rng.choice(("Eve", "Bob", ""))},
        {"rival": rng.choice((NAN, INF, -INF, 0.79))},
        {"pad": ATTACK},
    ))  # fmt: skip
    return replace(frame, **changes)


def _spoil_frame(rng: random.Random, case: Case) -> Case:
    """Spoil one frame in a way that no other frame makes up for."""
    policy, state, inputs = case
    frames = list(inputs.frames)
    if frames:
        k = rng.randrange(len(frames))
        frames[k] = _bad_frame(rng, frames[k])
    return policy, state, replace(inputs, frames=tuple(frames))


def _spoil_scores(rng: random.Random, case: Case) -> Case:
    """Spoil the scores of three frames or more: at most four are left."""
    policy, state, inputs = case
    bad = rng.sample(range(len(inputs.frames)), min(len(inputs.frames), rng.randint(3, 7)))
    value = rng.choice((NAN, INF, -INF, -0.0, 0.0, 0.499, None, 7.0, -1.0))
    frames = tuple(replace(f, score=value) if k in bad else f for k, f in enumerate(inputs.frames))
    return policy, state, replace(inputs, frames=frames)


def _fewer(rng: random.Random, case: Case) -> Case:
    policy, state, inputs = case
    return policy, state, replace(inputs, frames=inputs.frames[: rng.randint(0, 4)])


def _stale(rng: random.Random, case: Case) -> Case:
    policy, state, inputs = case
    now_s = rng.choice((inputs.now_s + rng.uniform(0.5, 1e6), NAN, INF, -INF, -1.0, 0.0))
    return policy, state, replace(inputs, now_s=now_s)


def _spoil_state(rng: random.Random, case: Case) -> Case:
    changes = rng.choice((
        {"fault": rng.choice(("x", "AuditError", " "))},
        {"wait_s": rng.choice((NAN, INF, 1e-9, 30.0, 1e9))},
        {"is_face_off": True},
        {"barred_tracks": frozenset({3, 4})},
        {"consumed_s": rng.choice((NOW_S, INF, NAN, NOW_S - 0.65))},
        {"inside": frozenset({"Ada", "Bob"})},
    ))  # fmt: skip
    return case[0], replace(case[1], **changes), case[2]


def _spoil_facts(rng: random.Random, case: Case) -> Case:
    facts = rng.choice((
        None,
        replace(FACTS, is_demonstration=True),
        replace(FACTS, model_id=""),
        replace(FACTS, gallery_model_id="c" * 64),
        replace(FACTS, gallery_size=rng.choice((0, -1, 101, 10**9))),
        replace(FACTS, operating_point=replace(POINT, provisional=True)),
        replace(FACTS, operating_point=replace(POINT, target_fpir=None, gallery_size=None)),
        replace(FACTS, operating_point=replace(POINT, target_fpir=rng.choice((0.0, 1e-3, 1.0)))),
        replace(FACTS, operating_point=replace(POINT, threshold=rng.uniform(0.81, 1.0))),
    ))  # fmt: skip
    return case[0], case[1], replace(case[2], model=facts)


def _spoil_camera(rng: random.Random, case: Case) -> Case:
    camera = rng.choice((
        None,
        replace(CAMERA, state=rng.choice([s for s in CameraState if s is not CameraState.LIVE])),
        replace(CAMERA, conditions=frozenset({rng.choice((
            FrameCondition.FROZEN, FrameCondition.LOOPED, FrameCondition.BLACK, FrameCondition.CUT,
            FrameCondition.CLOCK_BACK, FrameCondition.TOO_OLD, FrameCondition.ZERO_SIZE))})),
        replace(CAMERA, source=rng.choice((
            "rtsp://x/1", "http://x", "a://", "", "gstreamer rtspsrc ! decodebin", "test source"))),
    ))  # fmt: skip
    return case[0], case[1], replace(case[2], camera=camera)


def _spoil_person(rng: random.Random, case: Case) -> Case:
    policy, state, inputs = case
    right = inputs.factor or VerifiedFactor(subject="Ada", kind=FactorKind.TOTP, at_s=NOW_S)
    changes = rng.choice((
        {"factor": None},
        {"factor": replace(right, subject=rng.choice(("Eve", "", "ada")))},
        {"factor": replace(right, at_s=rng.choice((NAN, INF, -INF, NOW_S + 1, NOW_S - 20.5)))},
        {"intent_s": rng.choice((None, NAN, INF, -INF, NOW_S + 1, NOW_S - 10.5, 0.0))},
    ))  # fmt: skip
    return policy, state, replace(inputs, **changes)


def _spoil_permit(rng: random.Random, case: Case) -> Case:
    policy, state, inputs = case
    kind = rng.randrange(3)
    if kind == 0:
        return replace(policy, permits=()), state, inputs
    moment = NOON + timedelta(days=rng.choice((3, 4)), hours=rng.uniform(-11, 11))
    wall = WallTime(moment) if kind == 1 else WallTime(NOON, "in doubt")
    return policy, state, good_inputs("Bob", wall=wall)


def _other_rule(rng: random.Random, case: Case) -> Case:
    """Ask for more than there is."""
    policy, state, inputs = case
    rule = rng.choice((
        EvidenceRule(frames=8, window=9),
        EvidenceRule(min_span_s=0.7),
        EvidenceRule(max_age_s=0.05, max_window_s=0.55),
        EvidenceRule(min_eyes_open=0.06),
    ))  # fmt: skip
    return replace(policy, evidence=rule), state, inputs


_SPOILERS: tuple[_Random, ...] = (
    _spoil_frame, _spoil_scores, _fewer, _stale, _spoil_state, _spoil_facts, _spoil_camera,
    _spoil_person, _spoil_permit, _other_rule,
)  # fmt: skip


def random_case(rng: random.Random) -> Case:
    """Return a good case that was spoilt once or several times: no such case may open."""
    case = good_case()
    # A permit replaces the inputs, so that it comes first.
    spoilers = sorted(
        rng.sample(_SPOILERS, rng.choice((1, 1, 1, 2, 3))), key=lambda one: one is not _spoil_permit
    )
    for spoil in spoilers:
        case = spoil(rng, case)
    return case


def random_cases(seed: int, count: int) -> Iterator[Case]:
    """Return ``count`` of them."""
    rng = random.Random(seed)
    return (random_case(rng) for _ in range(count))


def fuzz(count: int, seed: int) -> Counter[str]:
    """Return how often each condition was unmet, none of ``count`` cases having opened."""
    unmet: Counter[str] = Counter()
    for case in random_cases(seed, count):
        decision = decide(*case)
        assert not decision.is_open, case
        unmet.update(condition.what for condition in decision.unmet)
    return unmet
