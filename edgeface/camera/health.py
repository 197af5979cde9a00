"""How a camera is doing, as values: state, conditions of its picture, health, events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "CameraEvent",
    "CameraEventKind",
    "CameraHealth",
    "CameraState",
    "FrameCondition",
]


class CameraState(Enum):
    """What a live source is doing."""

    OPENING = "opening"
    """Never gave a frame so far."""
    LIVE = "live"
    """Frames arrive."""
    LOST = "lost"
    """Frames stopped; it is being opened again."""
    FAILED = "failed"
    """Given up."""
    CLOSED = "closed"


class FrameCondition(Enum):
    """What is wrong with the picture, or the time, of a source that gives frames."""

    FROZEN = "frozen"
    """The very same pixels again and again."""
    LOOPED = "looped"
    """Pictures that were seen before, one after the other: a recording, or a stuck buffer."""
    BLACK = "black"
    WHITE = "white"
    BLANK = "blank"
    """One colour all over that is neither black nor white."""
    NOISE = "noise"
    """Neighbouring pixels have nothing in common."""
    CUT = "cut"
    """The lower part did not arrive, and the decoder left it empty. Decoders also fill it with an
    older picture; that is not seen."""
    GREY = "grey"
    """No colour: infrared light at night, or a camera without colour."""
    RESIZED = "resized"
    """Frames of another size than before."""
    ZERO_SIZE = "zero-size"
    """Frames without pixels; they are dropped."""
    CLOCK_BACK = "clock-back"
    """The time of the source went back, or jumped by an hour; that frame is dropped."""
    TOO_OLD = "too-old"
    """Frames that were taken too long ago; they are dropped."""
    SLOW = "slow"
    """Fewer frames per second than are wanted."""


# A picture under these says nothing about who is in front of the camera now. GREY and SLOW leave
# it usable; RESIZED is over with the next frame.
_UNUSABLE = frozenset(FrameCondition) - {
    FrameCondition.GREY,
    FrameCondition.SLOW,
    FrameCondition.RESIZED,
}


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """What is known of a live source at one moment.

    ``fps`` is what arrived in the last two seconds. ``age_s`` is the age of the newest frame, None
    before the first. ``frames`` arrived with a picture; ``drops`` of them were never handed out,
    because newer ones came or they were too old; ``skipped`` had no pixels. ``reconnects`` counts
    how often the source came back. ``error`` says why frames stopped, without credentials.
    """

    source: str
    state: CameraState
    fps: float = 0.0
    age_s: float | None = None
    frames: int = 0
    drops: int = 0
    skipped: int = 0
    reconnects: int = 0
    conditions: frozenset[FrameCondition] = frozenset()
    error: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether frames arrive and nothing speaks against deciding on them."""
        return self.state is CameraState.LIVE and not self.conditions & _UNUSABLE


class CameraEventKind(Enum):
    """What changed about a live source."""

    OPENED = "opened"
    LOST = "lost"
    BACK = "back"
    FAILED = "failed"
    CLOSED = "closed"
    BEGAN = "began"
    """A condition of the picture began."""
    ENDED = "ended"
    """A condition of the picture is over."""


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """A change of a live source.

    ``time_s`` is on the monotonic clock. ``condition`` is set for ``BEGAN`` and ``ENDED``.
    ``detail`` is for people, and holds no credentials.
    """

    kind: CameraEventKind
    source: str
    time_s: float
    condition: FrameCondition | None = None
    detail: str = ""
