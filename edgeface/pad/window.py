"""The scores of one track over a window of frames, fused into one decision.

A single frame proves little: a good photo fools the network now and then, and a face in motion
fails it. The score of the window is the mean of the frames' log-odds, each held within limits so
that no frame outweighs the others, brought back to 0..1.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from edgeface.errors import InvalidInputError
from edgeface.pad.detector import PadScore
from edgeface.pad.operating_point import PadOperatingPoint
from edgeface.pad.outcome import PadDecision, PadOutcome, PadReason

__all__ = ["PadWindow", "PadWindowOptions", "fused_score"]

# A log-odds of 4 is a score of 0.982. The published nets say 0.999 of most bona fide frames and of
# some attacks: without a limit one such frame outvotes three that say 0.1.
_MAX_LOG_ODDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PadWindowOptions:
    """How long a track is watched before anything is said.

    The window holds the frames of the last ``span_s`` seconds. It decides once it holds
    ``min_frames`` of them that were scored, the first and last ``min_span_s`` apart. A gap of more
    than ``max_gap_s`` between two frames starts it anew: somebody else may stand there now. So
    does a share of more than ``max_unscored`` of frames in which the face could not be scored.
    """

    span_s: float = 2.0
    min_frames: int = 5
    min_span_s: float = 0.5
    max_gap_s: float = 1.0
    max_unscored: float = 0.5

    def __post_init__(self) -> None:
        if not (0.0 <= self.min_span_s <= self.span_s < math.inf and self.max_gap_s > 0):
            raise InvalidInputError(
                "wanted 0 <= min_span_s <= span_s, finite, and max_gap_s above 0, got "
                f"{self.min_span_s}, {self.span_s} and {self.max_gap_s}"
            )
        if self.min_frames < 1 or not 0.0 <= self.max_unscored < 1.0:
            raise InvalidInputError(
                "min_frames must be at least 1 and max_unscored in 0..1, below 1, got "
                f"{self.min_frames} and {self.max_unscored}"
            )

    @classmethod
    def single_frame(cls) -> PadWindowOptions:
        """Return the options for still pictures: one frame decides."""
        return cls(min_frames=1, min_span_s=0.0)


def fused_score(scores: Iterable[float]) -> float:
    """Return the score in 0..1 of a window of ``scores`` in 0..1.

    Raises:
        InvalidInputError: There is none, or one is not in 0..1.
    """
    values = list(scores)
    # False for NaN.
    if not values or not all(0.0 <= value <= 1.0 for value in values):
        raise InvalidInputError(f"wanted one or more scores in 0..1, got {values[:8]}")
    mean = math.fsum(_log_odds(value) for value in values) / len(values)
    return 1 / (1 + math.exp(-mean))


def _log_odds(score: float) -> float:
    if not 0.0 < score < 1.0:
        return math.copysign(_MAX_LOG_ODDS, score - 0.5)
    return max(-_MAX_LOG_ODDS, min(_MAX_LOG_ODDS, math.log(score / (1 - score))))


class PadWindow:
    """The window of one track. Not for use from several threads.

    Args:
        operating_point: The threshold on the score of the window.
        options: How long is watched.
    """

    def __init__(
        self, operating_point: PadOperatingPoint, options: PadWindowOptions | None = None
    ) -> None:
        self._point = operating_point
        self._options = options or PadWindowOptions()
        self._frames: deque[tuple[float, float | None]] = deque()

    def update(self, score: PadScore | None, now_s: float) -> PadDecision:
        """Return the decision after one more frame; ``score`` is None if it could not be scored.

        ``now_s`` is the frame's time on a monotonic clock. A time that goes back starts the
        window anew.

        Raises:
            InvalidInputError: ``now_s`` is not finite.
        """
        if not math.isfinite(now_s):
            raise InvalidInputError(f"now_s must be a finite time in seconds, got {now_s}")
        reasons = self._start_anew(now_s)
        self._frames.append((now_s, None if score is None else score.bona_fide))
        while now_s - self._frames[0][0] > self._options.span_s:
            self._frames.popleft()
        return self._decide(reasons)

    def _start_anew(self, now_s: float) -> tuple[PadReason, ...]:
        if not self._frames:
            return ()
        gap_s = now_s - self._frames[-1][0]
        if gap_s < 0 or gap_s > self._options.max_gap_s:
            self._frames.clear()
        return (PadReason.TIME_WENT_BACK,) if gap_s < 0 else ()

    def _decide(self, reasons: tuple[PadReason, ...]) -> PadDecision:
        scored = [(time, score) for time, score in self._frames if score is not None]
        if len(scored) < len(self._frames) * (1 - self._options.max_unscored):
            reasons = (*reasons, PadReason.NOT_ASSESSABLE)
        span_s = scored[-1][0] - scored[0][0] if scored else 0.0
        if len(scored) < self._options.min_frames or span_s < self._options.min_span_s:
            reasons = (*reasons, PadReason.TOO_FEW_FRAMES)
        score = fused_score(value for _, value in scored) if scored else None
        if reasons or score is None:
            return PadDecision(PadOutcome.UNDECIDED, score, len(scored), reasons)
        if self._point.accepts(score):
            return PadDecision(PadOutcome.BONA_FIDE, score, len(scored))
        return PadDecision(PadOutcome.ATTACK, score, len(scored), (PadReason.LOOKS_LIKE_ATTACK,))
