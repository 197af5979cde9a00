"""From scores to an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.decision import DEFAULT_MARGIN, DecisionOptions, TrackDecider, decide
from edgeface.errors import InvalidInputError
from edgeface.types import (
    Candidate,
    IdentificationResult,
    OperatingPoint,
    Outcome,
    RejectionReason,
)

POINT = OperatingPoint(threshold=0.4, target_fmr=1e-4, artefact="fp32", protocol="test")
NAN, INF = math.nan, math.inf

scores = st.one_of(
    st.floats(-1, 1), st.sampled_from([NAN, INF, -INF, 0.4, math.nextafter(0.4, 0), 0.45, -0.0])
)
candidate_lists = st.lists(st.builds(Candidate, st.sampled_from("abcd"), scores), max_size=8)


def candidates(**by_name: float) -> list[Candidate]:
    return [Candidate(name, score) for name, score in by_name.items()]


@pytest.mark.parametrize(
    ("found", "outcome", "subject", "score"),
    [
        ([], Outcome.UNKNOWN, None, None),
        (candidates(a=0.39), Outcome.UNKNOWN, None, 0.39),
        (candidates(a=0.4), Outcome.KNOWN, "a", 0.4),
        (candidates(a=0.3, b=0.7), Outcome.KNOWN, "b", 0.7),
        (candidates(a=0.7, b=0.66), Outcome.AMBIGUOUS, None, 0.7),
        (candidates(a=0.7, b=0.7), Outcome.AMBIGUOUS, None, 0.7),
        (candidates(a=0.7, b=0.64), Outcome.KNOWN, "a", 0.7),
        (candidates(a=0.41, b=0.39), Outcome.KNOWN, "a", 0.41),
        (candidates(a=NAN), Outcome.UNKNOWN, None, None),
        (candidates(a=INF), Outcome.UNKNOWN, None, None),
        (candidates(a=NAN, b=0.7), Outcome.KNOWN, "b", 0.7),
        (candidates(b=0.7, a=NAN), Outcome.KNOWN, "b", 0.7),
        (candidates(a=INF, b=0.7, c=-INF), Outcome.KNOWN, "b", 0.7),
        ([Candidate("a", 0.7), Candidate("a", 0.69)], Outcome.KNOWN, "a", 0.7),
        ([Candidate("a", NAN), Candidate("a", 0.69)], Outcome.KNOWN, "a", 0.69),
    ],
)
def test_one_rule_for_a_frame(
    found: list[Candidate], outcome: Outcome, subject: str | None, score: float | None
) -> None:
    result = decide(found, POINT)
    assert (result.outcome, result.subject, result.score) == (outcome, subject, score)


def test_candidates_are_reported_once_each_best_first() -> None:
    found = [Candidate("a", 0.1), Candidate("b", 0.6), Candidate("a", 0.3), Candidate("c", NAN)]
    assert decide(found, POINT).candidates == (Candidate("b", 0.6), Candidate("a", 0.3))


@pytest.mark.parametrize("margin", [-0.1, NAN, INF])
def test_an_impossible_margin_is_refused(margin: float) -> None:
    with pytest.raises(InvalidInputError, match="margin"):
        decide([], POINT, margin=margin)
    with pytest.raises(InvalidInputError, match="margin"):
        DecisionOptions(margin=margin)


def test_a_margin_of_zero_still_refuses_a_tie() -> None:
    assert decide(candidates(a=0.7, b=0.7), POINT, margin=0).outcome is Outcome.AMBIGUOUS
    assert decide(candidates(a=0.7, b=0.69), POINT, margin=0).subject == "a"


@given(candidate_lists, st.randoms())
def test_the_order_of_candidates_does_not_matter(found: list[Candidate], rng: object) -> None:
    shuffled = sorted(found, key=lambda _: rng.random())  # type: ignore[attr-defined]
    assert decide(shuffled, POINT) == decide(found, POINT)


@given(candidate_lists)
def test_only_an_accepted_score_names_anybody(found: list[Candidate]) -> None:
    result = decide(found, POINT)
    if result.outcome is Outcome.KNOWN:
        own = [one.score for one in found if one.subject == result.subject]
        assert result.score in own
        assert result.score is not None
        assert POINT.accepts(result.score)
        assert all(math.isfinite(one.score) for one in result.candidates)
    else:
        assert result.subject is None


@given(candidate_lists, st.sampled_from([NAN, INF, -INF]))
def test_a_score_that_is_not_finite_changes_nothing(found: list[Candidate], bad: float) -> None:
    for position in range(len(found) + 1):
        with_bad = [*found[:position], Candidate("x", bad), *found[position:]]
        assert decide(with_bad, POINT) == decide(found, POINT)


@given(candidate_lists, st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_margin_never_names_more(
    found: list[Candidate], first: float, second: float
) -> None:
    narrow, wide = sorted((first, second))
    if decide(found, POINT, margin=wide).outcome is Outcome.KNOWN:
        assert decide(found, POINT, margin=narrow) == decide(found, POINT, margin=wide)


def known(name: str, score: float = 0.6) -> IdentificationResult:
    return IdentificationResult(Outcome.KNOWN, name, score, (Candidate(name, score),))


UNKNOWN = IdentificationResult(Outcome.UNKNOWN, score=0.1)
UNSURE = IdentificationResult(Outcome.AMBIGUOUS, score=0.5)
REJECTED = IdentificationResult(Outcome.REJECTED, reasons=(RejectionReason.TOO_DARK,))
BLURRED = IdentificationResult(Outcome.REJECTED, reasons=(RejectionReason.TOO_BLURRED,))
FRAMES = {"?": UNKNOWN, "!": UNSURE, ".": REJECTED}


def frames(script: str) -> list[IdentificationResult]:
    return [FRAMES.get(letter) or known(letter) for letter in script]


def run(
    results: Sequence[IdentificationResult], options: DecisionOptions | None = None
) -> IdentificationResult | None:
    decider = TrackDecider(options)
    for result in results:
        decider.update(result)
    return decider.result


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("", None),
        (".", "rejected"),
        ("a", None),
        ("aa", None),
        (".a.a.", None),
        ("aaa", "a"),
        ("a.a..a", "a"),
        ("aa?", "unknown"),
        ("???", "unknown"),
        ("..???", "unknown"),
        ("aaa????", "a"),
        ("aaa?????", "unknown"),
        ("aaa....................", "a"),
        ("aab", "ambiguous"),
        ("aabb", "ambiguous"),
        ("aabba", "a"),
        ("aaabbb", "ambiguous"),
        ("!!!", "ambiguous"),
        ("aaa!!!", "a"),
        ("aaa!!!!", "ambiguous"),
        ("?a?b?", "unknown"),
        ("aaabbbb", "ambiguous"),
        ("aaabbbbb", "b"),
        ("aaa????????bbb", "ambiguous"),
        ("aaa????????bbbbb", "b"),
        ("abcabc", "ambiguous"),
    ],
)
def test_a_track_is_decided_by_its_newest_compared_frames(script: str, says: str | None) -> None:
    result = run(frames(script))
    assert (result and (result.subject or result.outcome.value)) == says


def test_a_rejected_track_says_why_it_was_rejected_last() -> None:
    result = run([REJECTED, BLURRED])
    assert result is not None
    assert result.reasons == (RejectionReason.TOO_BLURRED,)


def test_a_track_reports_its_evidence() -> None:
    result = run([known("a", 0.5), known("a", 0.8), UNKNOWN, REJECTED, known("a", 0.6)])
    assert result == IdentificationResult(
        Outcome.KNOWN, "a", 0.8, (Candidate("a", 0.8),), frames_used=4
    )


def test_still_images_stand_alone() -> None:
    options = DecisionOptions.single_frame()
    decider = TrackDecider(options)
    for result, outcome in zip(
        frames("ab?!"),
        [Outcome.KNOWN, Outcome.KNOWN, Outcome.UNKNOWN, Outcome.AMBIGUOUS],
        strict=True,
    ):
        said = decider.update(result)
        assert said is not None
        assert (said.outcome, said.subject) == (outcome, result.subject)
    assert options.margin == DEFAULT_MARGIN


@pytest.mark.parametrize("score", [NAN, INF, None])
def test_a_name_without_a_finite_score_is_no_vote(score: float | None) -> None:
    forged = IdentificationResult(Outcome.KNOWN, "a", score)
    result = run([forged] * 7)
    assert result is not None
    assert (result.outcome, result.score) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize(
    ("min_frames", "switch_frames", "window"), [(0, 1, 1), (3, 2, 7), (3, 8, 7), (-1, -1, -1)]
)
def test_impossible_options_are_refused(min_frames: int, switch_frames: int, window: int) -> None:
    with pytest.raises(InvalidInputError, match="min_frames <= switch_frames <= window"):
        DecisionOptions(min_frames=min_frames, switch_frames=switch_frames, window=window)


scripts = st.text(alphabet="abc?!.", max_size=30)


@given(scripts)
def test_a_named_track_has_the_votes(script: str) -> None:
    result = run(frames(script))
    newest = script.replace(".", "")[-7:]
    if result is not None and result.outcome is Outcome.KNOWN:
        own = newest.count(result.subject or "-")
        assert own >= 3
        assert own >= newest.count("!")
        assert all(newest.count(other) < own for other in "abc" if other != result.subject)
    if len(newest) >= 3 and not set(newest) & set("abc!"):
        assert result is not None
        assert result.outcome is Outcome.UNKNOWN


@given(scripts)
def test_rejected_frames_are_no_evidence(script: str) -> None:
    with_rejected, without = run(frames(script)), run(frames(script.replace(".", "")))
    if script.replace(".", ""):
        assert with_rejected == without


@given(st.text(alphabet="abc?!", min_size=1, max_size=7), st.randoms())
def test_within_the_window_the_order_does_not_matter(script: str, rng: object) -> None:
    """Apart from hysteresis: with switch_frames equal to min_frames there is none."""
    options = DecisionOptions(switch_frames=3)
    shuffled = sorted(script, key=lambda _: rng.random())  # type: ignore[attr-defined]
    first, second = run(frames(script), options), run(frames("".join(shuffled)), options)
    assert (first and (first.outcome, first.subject)) == (
        second and (second.outcome, second.subject)
    )
