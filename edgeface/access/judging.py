"""What a decision that does not open means for the count of failed attempts. Pure."""

from __future__ import annotations

from enum import Enum

from edgeface.access.conditions import Case
from edgeface.access.decide import AccessDecision
from edgeface.access.policy import AccessPolicy
from edgeface.access.values import AccessInputs, AccessState

__all__ = ["Verdict", "judge", "named_subject"]

# What refuses somebody whom the door knows; a person out of hours has not failed to be recognised.
_REFUSALS = frozenset({"permit", "schedule", "anti-passback"})
# Not failures, but reasons to say nothing yet: the attempt is not judged while one is unmet.
_NOT_NOW = frozenset(
    {
        "no fault", "clock", "lock-out", "face allowed", "camera", "source", "model", "gallery",
        "operating point", "one face", "one track",
    }
)  # fmt: skip


class Verdict(Enum):
    """What an attempt came to."""

    PENDING = "pending"
    """Nothing yet, or nobody asked."""
    NOT_RECOGNISED = "not recognised"
    """A full window that names nobody, or not one person."""
    REFUSED = "refused"
    """Recognised, and not allowed: no failure."""


def judge(
    policy: AccessPolicy, decision: AccessDecision, inputs: AccessInputs, judged_s: float
) -> Verdict:
    """Return what the attempt came to that ``decision`` is about.

    Only somebody who asked is judged: who pressed the button or, where there is none, who has
    stood there; then at most once in ``intent_s``, counted from ``judged_s``. A face that could
    not be compared, being too dark, too small or turned away, is no attempt. Attacks are counted
    when they are seen, whoever asked, and not here.
    """
    unmet = {condition.what for condition in decision.unmet}
    rule = policy.factors
    asked = "intent" not in unmet
    if not rule.intent:
        asked = not 0.0 <= inputs.now_s - judged_s < rule.intent_s
    if decision.is_open or not asked or unmet & _NOT_NOW:
        return Verdict.PENDING
    case = Case.of(policy, AccessState(), inputs)
    if unmet & {"recent", "continuous", "unused"} or not _is_full(case):
        return Verdict.PENDING
    if unmet & {"frames", "one subject"}:
        return Verdict.NOT_RECOGNISED
    # Without a permit there is no schedule and no factor to speak of.
    waits_only_for_factor = unmet - _REFUSALS - {"second factor"}
    return Verdict.REFUSED if unmet & _REFUSALS and not waits_only_for_factor else Verdict.PENDING


def named_subject(policy: AccessPolicy, inputs: AccessInputs) -> str | None:
    """Return whom the newest frames name clearly enough to ask them for a second factor."""
    case = Case.of(policy, AccessState(), inputs)
    rule = policy.evidence
    if not case.votes or {frame.faces for frame in case.since} != {1}:
        return None
    age_s = inputs.now_s - case.votes[-1].captured_s
    known = 0.0 <= age_s <= rule.max_window_s and 2 * len(case.votes) > len(case.window)
    return case.subject if known and len(case.votes) >= rule.frames else None


def _is_full(case: Case) -> bool:
    """Return whether there are as many frames as are looked at, over long enough, up to now."""
    rule = case.policy.evidence
    if len(case.window) < rule.window:
        return False
    span_s = case.window[-1].captured_s - case.window[0].captured_s
    age_s = case.inputs.now_s - case.window[-1].captured_s
    return span_s >= rule.min_span_s - 1e-9 and 0.0 <= age_s <= rule.max_age_s
