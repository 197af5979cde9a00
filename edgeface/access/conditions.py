"""Every condition of a door, one small function each: what it got and wanted, and if it is so.

Comparisons are written so that NaN, infinity and a missing value never satisfy one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from edgeface._pad_words import PadOutcome
from edgeface.access.policy import AccessPolicy
from edgeface.access.schedule import any_holds
from edgeface.access.values import AccessInputs, AccessState, FrameEvidence
from edgeface.operating_points import covers
from edgeface.types import OperatingPoint

__all__ = ["CHECKS", "Case", "Condition"]

# A rate that was written by hand and one read from JSON must count as equal.
_SAME_RATE = 1 + 1e-12
# How edgeface.camera names the cameras that are plugged into this machine, and made-up pictures.
_LOCAL_CAMERA = re.compile(r"(webcam|csi) [0-9]{1,3}")
_TEST_SOURCE = "test source"
# The window covers this much more than the least span, so that its oldest frames may be bad ones.
_SPREAD = 1.5


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: ``what`` it is, what was ``got`` and ``wanted`` in words, if it is so."""

    what: str
    got: str
    wanted: str
    satisfied: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.got}, wanted {self.wanted}"


Finding: TypeAlias = "tuple[str, str, bool]"


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged, with what all conditions need of it.

    ``window`` are the newest compared frames, as many as the policy wants or as cover its span;
    ``since`` all frames from the oldest of them on; ``votes`` the frames of the window that name
    ``subject`` with a score that is accepted.
    """

    policy: AccessPolicy
    state: AccessState
    inputs: AccessInputs
    window: tuple[FrameEvidence, ...]
    since: tuple[FrameEvidence, ...]
    subject: str | None
    votes: tuple[FrameEvidence, ...]

    @classmethod
    def of(cls, policy: AccessPolicy, state: AccessState, inputs: AccessInputs) -> Case:
        """Return the case of these values."""
        chosen = _newest(policy, inputs.frames)
        window = tuple(inputs.frames[k] for k in chosen)
        since = inputs.frames[chosen[0] :] if chosen else ()
        point = inputs.model.operating_point if inputs.model is not None else None
        named = [frame for frame in window if _is_accepted(frame, point)]
        counted = Counter(frame.subject for frame in named)
        subject = max(counted, key=lambda name: counted[name]) if counted else None
        votes = tuple(frame for frame in named if frame.subject == subject)
        return cls(policy, state, inputs, window, since, subject, votes)


def _newest(policy: AccessPolicy, frames: tuple[FrameEvidence, ...]) -> list[int]:
    """Return the places of the newest compared frames, oldest first.

    As many as the policy's window has, and more where frames come fast: seven frames of a camera
    with 60 a second are over in a tenth of a second.
    """
    rule = policy.evidence
    compared = [k for k, frame in enumerate(frames) if frame.is_compared]
    start = max(0, len(compared) - rule.window)
    while start > 0:
        span_s = frames[compared[-1]].captured_s - frames[compared[start]].captured_s
        if not span_s < _SPREAD * rule.min_span_s - 1e-6:
            break
        start -= 1
    return compared[start:]


def _is_accepted(frame: FrameEvidence, point: OperatingPoint | None) -> bool:
    if point is None or frame.subject is None or frame.score is None:
        return False
    return frame.score <= 1.0 + 1e-3 and point.accepts(frame.score)


def _no_fault(case: Case) -> Finding:
    return case.state.fault or "none", "no fault", case.state.fault == ""


def _clock(case: Case) -> Finding:
    now_s = case.inputs.now_s
    times = [frame.captured_s for frame in case.inputs.frames]
    ordered = all(a <= b for a, b in itertools.pairwise(times))
    usable = math.isfinite(now_s) and all(-math.inf < at_s <= now_s for at_s in times)
    got = "in order" if ordered and usable else "out of order, or of the future"
    return got, "frames in order and none of the future", ordered and usable


def _lockout(case: Case) -> Finding:
    wait_s = case.state.wait_s
    return f"{wait_s:.0f} s to wait", "no wait after failures", wait_s <= 0.0


def _face_on(case: Case) -> Finding:
    off = case.state.is_face_off
    return ("off" if off else "on"), "the face not turned off by failures", off is False


def _camera(case: Case) -> Finding:
    health = case.inputs.camera
    if health is None:
        return "no camera", "a live camera", case.policy.demonstration is True
    bad = ", ".join(sorted(entry.value for entry in health.conditions)) or "nothing wrong"
    return f"{health.state.value}, {bad}", "live and usable", health.is_usable is True


def _source(case: Case) -> Finding:
    policy, health = case.policy, case.inputs.camera
    name = health.source if health is not None else ""
    if policy.camera and name != policy.camera:
        return "another camera", "the camera of the policy", False
    if health is None:
        return "none", "an allowed camera", True
    if name == _TEST_SOURCE:
        return "made-up pictures", "a camera, or a demonstration", policy.demonstration is True
    # An allow-list: a stream or pipeline may carry anybody's pictures, whatever it is called.
    if _LOCAL_CAMERA.fullmatch(name) is None and policy.trusted_network is not True:
        return "not a camera of this machine", "one, or trusted_network", False
    return "allowed", "an allowed camera", True


def _model(case: Case) -> Finding:
    facts, policy = case.inputs.model, case.policy
    if facts is None:
        return "none", "a model", False
    if not facts.model_id or (policy.model_id and facts.model_id != policy.model_id):
        return "another model", "the model of the policy", False
    if facts.is_demonstration is not False and not policy.demonstration:
        return "a demonstration model", "a model for doors", False
    return "allowed", "an allowed model", True


def _gallery(case: Case) -> Finding:
    facts = case.inputs.model
    if facts is None:
        return "none", "a gallery", False
    if facts.gallery_model_id != facts.model_id:
        return "of another model", "a gallery of the model", False
    return f"{facts.gallery_size} enrolled", "at least 1 enrolled", facts.gallery_size >= 1


def _operating_point(case: Case) -> Finding:
    facts, policy = case.inputs.model, case.policy
    if facts is None:
        return "none", "an operating point", False
    if policy.demonstration:
        return "any", "any, for a demonstration", True
    point = facts.operating_point
    rate = point.target_fpir
    held = point.gallery_size or 0
    got = f"FPIR {rate or math.nan:g} up to {held}{', provisional' if point.provisional else ''}"
    wanted = f"measured, FPIR {policy.max_fpir:g} or below, for {facts.gallery_size} enrolled"
    strict = rate is not None and 0.0 < rate <= policy.max_fpir * _SAME_RATE
    return (
        got,
        wanted,
        (strict and point.provisional is False and covers(point, facts.gallery_size)),
    )


def _fresh(case: Case) -> Finding:
    limit_s = case.policy.evidence.max_age_s
    if not case.votes or not case.since:
        return "nobody recognised", f"a frame of the last {limit_s:g} s", False
    # The newest frame of all and the newest that counts: neither may be old.
    age_s = max(case.inputs.now_s - frame.captured_s for frame in (case.votes[-1], case.since[-1]))
    return f"{age_s:.2f} s old", f"at most {limit_s:g} s old", 0.0 <= age_s <= limit_s


def _frames(case: Case) -> Finding:
    rule = case.policy.evidence
    needed = max(rule.frames, math.ceil(len(case.window) * rule.frames / rule.window))
    return (
        f"{len(case.votes)} of {len(case.window)}",
        f"{needed} of {max(rule.window, len(case.window))} frames that name one subject",
        len(case.votes) >= needed,
    )


def _span(case: Case) -> Finding:
    least_s = case.policy.evidence.min_span_s
    if not case.votes:
        return "no frames", f"at least {least_s:g} s", False
    span_s = case.votes[-1].captured_s - case.votes[0].captured_s
    return f"{span_s:.2f} s", f"at least {least_s:g} s", span_s >= least_s - 1e-9


def _recent(case: Case) -> Finding:
    limit_s = case.policy.evidence.max_window_s
    if not case.window:
        return "no frames", f"none older than {limit_s:g} s", False
    age_s = case.inputs.now_s - case.window[0].captured_s
    return f"{age_s:.2f} s", f"none older than {limit_s:g} s", 0.0 <= age_s <= limit_s


def _continuous(case: Case) -> Finding:
    limit_s = case.policy.evidence.max_age_s
    times = [*(frame.captured_s for frame in case.since), case.inputs.now_s]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Somebody else may have stood there in a gap: when a process was stopped, or a camera hung.
    held = bool(gaps) and all(0.0 <= gap_s <= limit_s for gap_s in gaps)
    got = f"gaps up to {max(gaps):.2f} s" if gaps else "no frames"
    return got, f"no gap above {limit_s:g} s", held


def _unused(case: Case) -> Finding:
    new = bool(case.window) and case.window[0].captured_s > case.state.consumed_s
    return ("new" if new else "used before"), "frames not used before", new


def _one_face(case: Case) -> Finding:
    counts = {frame.faces for frame in case.since}
    got = ", ".join(str(count) for count in sorted(counts)) or "none"
    return f"{got} in a frame", "exactly one face in every frame", counts == {1}


def _one_track(case: Case) -> Finding:
    tracks = {frame.track_id for frame in case.since}
    return f"{len(tracks)} tracks", "one track", len(tracks) == 1 and None not in tracks


def _one_subject(case: Case) -> Finding:
    others = sum(frame.subject not in (None, case.subject) for frame in case.window)
    got = "nobody recognised" if case.subject is None else f"{others} frames name another"
    return got, "one subject, and no frame names another", case.subject is not None and others == 0


def _rival(case: Case) -> Finding:
    wanted, margin = "nobody else nearly as alike", case.policy.evidence.min_margin
    facts = case.inputs.model
    if facts is None or not case.votes:
        return "nobody recognised", wanted, False
    for frame in case.votes:
        score, rival = frame.score, frame.rival
        if score is None or (rival is not None and not math.isfinite(rival)):
            return "unusable scores", wanted, False
        accepted = rival is not None and facts.operating_point.accepts(rival)
        if accepted and rival is not None and not score - rival > margin:
            return "another subject is nearly as alike", wanted, False
    return "nobody", wanted, True


def _eyes(case: Case) -> Finding:
    least = case.policy.evidence.min_eyes_open
    if least == 0.0:
        return "not asked", "not asked", True
    widest = max((f.eyes_open for f in case.votes if f.eyes_open is not None), default=-math.inf)
    return ("open" if widest >= least else "not seen open"), "open eyes", least <= widest < math.inf


def _pad(case: Case) -> Finding:
    decisions = [frame.pad for frame in case.since if frame.pad is not None]
    attacked = any(entry.outcome is PadOutcome.ATTACK for entry in decisions)
    if attacked or any(frame.track_id in case.state.barred_tracks for frame in case.since):
        return "an attack", "no sign of an attack", False
    if not case.policy.require_pad:
        return "not asked", "not asked", True
    newest = case.since[-1].pad if case.since else None
    if newest is None:
        return "not judged", "judged to be there in person", False
    return newest.outcome.value, "judged to be there in person", newest.passed is True


def _permitted(case: Case) -> Finding:
    known = case.subject is not None and case.policy.permit_of(case.subject) is not None
    return ("a permit" if known else "no permit"), "a permit for the subject", known


def _schedule(case: Case) -> Finding:
    wanted = "within the times of the permit"
    permit = case.policy.permit_of(case.subject) if case.subject is not None else None
    if permit is None:
        return "no permit", wanted, False
    schedules = case.policy.schedules_of(permit)
    if any(not entry.needs_clock for entry in schedules):
        return "at any time", wanted, True
    wall = case.inputs.wall
    if wall is None or wall.doubt != "":
        return "a clock that is not to be believed", wanted, False
    held = any_holds(schedules, wall.moment, case.policy.time_zone)
    return ("within" if held else "outside"), wanted, held


def _second_factor(case: Case) -> Finding:
    rule, factor = case.policy.factors, case.inputs.factor
    wanted = f"the subject's own, of the last {rule.max_age_s:g} s"
    # Said in the same words whatever is wrong with it: a duress PIN must not show.
    refused = "none that holds", wanted, False
    if factor is None:
        return ("not asked", "not asked", True) if rule.second_factor == "none" else refused
    age_s = case.inputs.now_s - factor.at_s
    if factor.subject != case.subject or not 0.0 <= age_s <= rule.max_age_s:
        return refused
    if factor.is_duress is not False and rule.duress != "open":
        return refused
    return "given", wanted, True


def _intent(case: Case) -> Finding:
    rule, pressed_s = case.policy.factors, case.inputs.intent_s
    if not rule.intent:
        return "not asked", "not asked", True
    wanted = f"the button pressed in the last {rule.intent_s:g} s"
    if pressed_s is None:
        return "not pressed", wanted, False
    age_s = case.inputs.now_s - pressed_s
    return f"{age_s:.1f} s ago", wanted, 0.0 <= age_s <= rule.intent_s


def _passback(case: Case) -> Finding:
    is_inside = case.subject in case.state.inside
    if case.policy.anti_passback != "hard":
        return "not asked", "not asked", True
    return ("inside already" if is_inside else "outside"), "not inside already", not is_inside


CHECKS: tuple[tuple[str, Callable[[Case], Finding]], ...] = (
    ("no fault", _no_fault),
    ("clock", _clock),
    ("lock-out", _lockout),
    ("face allowed", _face_on),
    ("camera", _camera),
    ("source", _source),
    ("model", _model),
    ("gallery", _gallery),
    ("operating point", _operating_point),
    ("fresh", _fresh),
    ("frames", _frames),
    ("span", _span),
    ("recent", _recent),
    ("continuous", _continuous),
    ("unused", _unused),
    ("one face", _one_face),
    ("one track", _one_track),
    ("one subject", _one_subject),
    ("rival", _rival),
    ("eyes", _eyes),
    ("presentation attack", _pad),
    ("permit", _permitted),
    ("schedule", _schedule),
    ("second factor", _second_factor),
    ("intent", _intent),
    ("anti-passback", _passback),
)
"""The conditions in their order, which is that in which people are told why a door stays closed."""
