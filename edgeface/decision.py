"""From scores to an answer: one rule for a frame, one for a track.

Everything here is pure: no clock, no image, no gallery.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edgeface.errors import InvalidInputError
from edgeface.types import Candidate, Evidence, IdentificationResult, OperatingPoint, Outcome

__all__ = ["DEFAULT_MARGIN", "DecisionOptions", "TrackDecider", "decide"]

DEFAULT_MARGIN = 0.05
"""How far a score must be above the next subject's for the two to be told apart.

The export gate lets quantisation move a mated score by 0.02 (99th percentile). Two scores that
each moved that much may have changed places when they are 0.04 apart; rounded up.
"""


def decide(
    candidates: Sequence[Candidate],
    operating_point: OperatingPoint,
    *,
    margin: float = DEFAULT_MARGIN,
) -> IdentificationResult:
    """Return who one face is, from the candidates of one search in any order.

    A score is accepted by the operating point or not at all; one that is not finite is no
    evidence, for or against. ``KNOWN`` when the best subject is accepted, ``AMBIGUOUS`` when
    another accepted subject is within ``margin`` of it, else ``UNKNOWN``.

    Raises:
        InvalidInputError: ``margin`` is negative or not finite.
    """
    _check_margin(margin)
    ranked = _rank(candidates)
    accepted = [entry for entry in ranked if operating_point.accepts(entry.score)]
    score = ranked[0].score if ranked else None
    if not accepted:
        return IdentificationResult(Outcome.UNKNOWN, score=score, candidates=ranked)
    if len(accepted) > 1 and accepted[0].score - accepted[1].score <= margin:
        return IdentificationResult(Outcome.AMBIGUOUS, score=score, candidates=ranked)
    return IdentificationResult(Outcome.KNOWN, accepted[0].subject, score, ranked)


def _rank(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Return the best finite candidate of each subject, best first, ties by name."""
    finite = [entry for entry in candidates if math.isfinite(entry.score)]
    best: dict[str, Candidate] = {}
    for entry in sorted(finite, key=lambda entry: (-entry.score, entry.subject)):
        best.setdefault(entry.subject, entry)
    return tuple(best.values())


def _check_margin(margin: float) -> None:
    if not (math.isfinite(margin) and margin >= 0.0):
        raise InvalidInputError(f"margin must be finite and at least 0, got {margin}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionOptions:
    """How much evidence a track needs.

    ``min_frames``: a subject is named after this many agreeing frames. 3: one bad frame, or two,
    name nobody; at 10 compared frames a second the answer still comes within half a second.
    ``window``: only this many compared frames count, the newest. 7: less than half of them
    decide, so that turning away for a moment costs nothing.
    ``switch_frames``: a track that has been named needs this many agreeing frames for another
    name. 5 of 7: a majority that leaves the first name less than ``min_frames``.
    ``margin``: see :data:`DEFAULT_MARGIN`; handed to :func:`decide`.

    The frames of one face are far from independent: more frames protect against bad frames, not
    against a look-alike. Only the operating point does that.
    """

    min_frames: int = 3
    window: int = 7
    switch_frames: int = 5
    margin: float = DEFAULT_MARGIN

    def __post_init__(self) -> None:
        _check_margin(self.margin)
        if not 1 <= self.min_frames <= self.switch_frames <= self.window:
            raise InvalidInputError(
                "wanted 1 <= min_frames <= switch_frames <= window, got "
                f"{self.min_frames}, {self.switch_frames}, {self.window}"
            )

    @classmethod
    def single_frame(cls, *, margin: float = DEFAULT_MARGIN) -> DecisionOptions:
        """Return the options for still images, where every frame stands alone."""
        return cls(min_frames=1, window=1, switch_frames=1, margin=margin)


class TrackDecider:
    """Decides who one track is, from the results of its frames.

    Use one for each track. A rejected frame is no evidence: it neither names anybody nor takes
    the place of a compared frame.
    """

    def __init__(self, options: DecisionOptions | None = None) -> None:
        self._options = options or DecisionOptions()
        self._compared: deque[IdentificationResult] = deque(maxlen=self._options.window)
        self._named: str | None = None
        self._result: IdentificationResult | None = None
        self._rejected = 0

    @property
    def result(self) -> IdentificationResult | None:
        """What :meth:`update` returned last; None before the first frame."""
        return self._result

    def update(self, frame_result: IdentificationResult) -> IdentificationResult | None:
        """Return what the track says now, given the result of its next frame.

        ``REJECTED``, with the reasons of the newest frame, while no frame could be compared;
        None while some were, but too few to say anything. Then ``KNOWN`` when enough frames
        name one subject, more than name any other and no fewer than cannot tell; ``AMBIGUOUS``
        when enough frames name somebody without such a subject; else ``UNKNOWN``.
        ``frames_used`` counts the compared frames, ``evidence`` says more.
        """
        if frame_result.outcome is not Outcome.REJECTED:
            self._compared.append(frame_result)
            self._rejected = 0
            self._result = self._decide()
            return self._result
        self._rejected += 1
        if not self._compared:
            self._result = replace(frame_result, evidence=Evidence(0, self._rejected))
        elif self._result is not None:
            self._result = replace(self._result, evidence=self._evidence(self._result))
        return self._result

    def reset(self) -> None:
        """Forget everything: the track shows somebody else now."""
        self._compared.clear()
        self._named = None
        self._result = None
        self._rejected = 0

    def _decide(self) -> IdentificationResult | None:
        if len(self._compared) < self._options.min_frames:
            return None
        votes = Counter(
            subject for entry in self._compared if (subject := _vote(entry)) is not None
        )
        unsure = sum(entry.outcome is Outcome.AMBIGUOUS for entry in self._compared)
        subject = self._leader(votes, unsure)
        if subject is not None:
            self._named = subject
            return self._build(Outcome.KNOWN, subject)
        conflict = votes.total() + unsure >= self._options.min_frames
        return self._build(Outcome.AMBIGUOUS if conflict else Outcome.UNKNOWN)

    def _leader(self, votes: Counter[str], unsure: int) -> str | None:
        """Return the subject that has enough votes, and more than every other."""
        if not votes:
            return None
        (subject, count), *others = votes.most_common(2)
        is_switch = self._named is not None and subject != self._named
        needed = self._options.switch_frames if is_switch else self._options.min_frames
        beaten = count < unsure or any(count <= other for _, other in others)
        return None if count < needed or beaten else subject

    def _build(self, outcome: Outcome, subject: str | None = None) -> IdentificationResult:
        frames = [entry for entry in self._compared if subject is None or _vote(entry) == subject]
        best = max(frames, key=_finite_score)
        score = _finite_score(best)
        result = IdentificationResult(
            outcome,
            subject,
            score if math.isfinite(score) else None,
            best.candidates,
            frames_used=len(self._compared),
        )
        return replace(result, evidence=self._evidence(result))

    def _evidence(self, result: IdentificationResult) -> Evidence:
        votes = Counter(name for entry in self._compared if (name := _vote(entry)) is not None)
        ranked = _rank(result.candidates)
        return Evidence(
            compared=len(self._compared),
            rejected=self._rejected,
            votes=tuple(sorted(votes.items(), key=lambda item: (-item[1], item[0]))),
            unsure=sum(entry.outcome is Outcome.AMBIGUOUS for entry in self._compared),
            margin=ranked[0].score - ranked[1].score if len(ranked) > 1 else None,
        )


def _vote(result: IdentificationResult) -> str | None:
    """Return the subject that a frame names, None when it names nobody on finite evidence."""
    return result.subject if math.isfinite(_finite_score(result)) else None


def _finite_score(result: IdentificationResult) -> float:
    score = result.score
    return score if score is not None and math.isfinite(score) else -math.inf
