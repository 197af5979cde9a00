"""What is wrong with the frames of a source, told from their pixels and times alone."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from edgeface.camera.capture_time import CaptureClock
from edgeface.camera.health import FrameCondition
from edgeface.camera.picture_statistics import PictureStatistics, fingerprint, statistics_of
from edgeface.errors import InvalidInputError
from edgeface.types import ImageArray, Size

__all__ = ["ConditionChange", "FrameCheck", "FrameMonitor", "MonitorOptions"]

# Pictures of one kind, in a row, before that kind is said and before it is over: decoders slip for
# a frame or two.
_TO_BEGIN = 3
_TO_END = 3
# Frames seen before, in a row: less may be chance in a still scene.
_LOOP_RUN = 10
_FROZEN_REPEATS = 3
_KEY_FRAME_INTERVAL = 16
_MAX_REPEATS = 64
_SLOW_INTERVALS = 2
# How long what happens in one moment is kept as a condition.
_HOLD_S = 1.0
# 8 bits; video range puts black at 16 and white at 235, which decoders stretch or leave.
_BLACK_MEAN, _WHITE_MEAN = 20.0, 232.0
# A covered lens has noise of 2 to 3; a dim room has far more.
_PLAIN_DEVIATION = 4.0
_GREY_DEVIATION = 1.5
# Photographs have 0.8 and more; compressed noise about 0.3.
_NOISE_CORRELATION, _NOISE_DEVIATION = 0.2, 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """When a condition is said.

    ``frozen_s``: how long the very same picture may stay. ``loop_frames``: how many different
    pictures are remembered; longer loops are not noticed. ``min_fps``: below it, ``SLOW``; 0 for
    never. ``max_age_s``: older frames are dropped; None for never.
    """

    frozen_s: float = 0.9
    loop_frames: int = 2048
    min_fps: float = 2.0
    max_age_s: float | None = 0.5

    def __post_init__(self) -> None:
        numbers = (self.frozen_s, self.min_fps, self.max_age_s or 0.0)
        if not all(math.isfinite(number) and number >= 0.0 for number in numbers):
            raise InvalidInputError(
                f"frozen_s, min_fps and max_age_s must be finite and at least 0, got {numbers}"
            )
        if not 0 <= self.loop_frames <= 1 << 20:
            raise InvalidInputError(f"loop_frames must be in 0..2**20, got {self.loop_frames}")


@dataclass(frozen=True, slots=True)
class ConditionChange:
    """A condition that began, or one that is over."""

    condition: FrameCondition
    began: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrameCheck:
    """What was found about one frame.

    ``captured_s`` is when it was taken, on the monotonic clock. ``is_kept`` is False for a frame
    to be dropped: without pixels, too old, or out of order.
    """

    captured_s: float
    is_kept: bool
    changes: tuple[ConditionChange, ...]


@dataclass(slots=True)
class _Run:
    """How long something has been so, or not so."""

    frames: int = 0
    others: int = 0

    def add(self, holds: bool) -> None:
        if holds:
            self.frames, self.others = self.frames + 1, 0
        else:
            self.others += 1
            if self.others >= _TO_END:
                self.frames = 0


class FrameMonitor:
    """Follows one source; ``update`` takes its frames in their order.

    Takes about 0.2 ms for a frame of 640x480 and remembers no picture, only 64-bit fingerprints.
    """

    def __init__(self, options: MonitorOptions | None = None, *, size: Size | None = None) -> None:
        """Start with no history; ``size`` is what frames had before, for ``RESIZED``."""
        self._options = options or MonitorOptions()
        self._clock = CaptureClock()
        self._size = size
        self._active: set[FrameCondition] = set()
        self._until_s: dict[FrameCondition, float] = {}
        self._runs = {kind: _Run() for kind in _KINDS}
        self._still = _Still()
        self._seen = _Seen(self._options.loop_frames)
        self._pace = _Pace(self._options.min_fps)

    @property
    def conditions(self) -> frozenset[FrameCondition]:
        """What holds after the last frame."""
        return frozenset(self._active)

    def update(
        self, pixels: ImageArray | None, arrived_s: float, position_s: float | None = None
    ) -> FrameCheck:
        """Return what is found about a frame and what changes with it.

        ``pixels`` is (height, width, 3) uint8; None or no pixel is ``ZERO_SIZE``. ``arrived_s`` is
        on the monotonic clock; ``position_s`` is the source's own time, where it has one.
        """
        captured_s, in_order = self._clock.captured_s(arrived_s, position_s)
        limit_s = self._options.max_age_s
        moments: dict[FrameCondition, str] = {}
        holding: set[FrameCondition] | None = None
        if not in_order:
            moments[FrameCondition.CLOCK_BACK] = "the source's time went back or jumped"
        elif limit_s is not None and arrived_s - captured_s > limit_s:
            moments[FrameCondition.TOO_OLD] = f"frames are {arrived_s - captured_s:.1f} s late"
        if pixels is None or not pixels.size:
            moments[FrameCondition.ZERO_SIZE] = "frames without pixels"
        is_kept = not moments
        if pixels is not None and pixels.size:
            holding = self._of_picture(pixels, arrived_s, moments)
        return FrameCheck(captured_s, is_kept, self._settle(holding, moments, arrived_s))

    def _of_picture(
        self, pixels: ImageArray, arrived_s: float, moments: dict[FrameCondition, str]
    ) -> set[FrameCondition]:
        """Return which lasting conditions hold."""
        size = Size(int(pixels.shape[1]), int(pixels.shape[0]))
        if self._size is not None and size != self._size:
            moments[FrameCondition.RESIZED] = f"from {self._size} to {size}"
        self._size = size
        mark = fingerprint(pixels)
        self._still.add(mark, arrived_s)
        self._seen.add(mark)
        self._pace.add(arrived_s)
        kind = _kind_of(statistics_of(pixels))
        for name, run in self._runs.items():
            run.add(name is kind)
        return self._lasting()

    def _lasting(self) -> set[FrameCondition]:
        holding = {kind for kind, run in self._runs.items() if run.frames >= _TO_BEGIN}
        if self._still.is_frozen(self._options.frozen_s):
            holding.add(FrameCondition.FROZEN)
        if self._seen.run.frames >= _LOOP_RUN:
            holding.add(FrameCondition.LOOPED)
        if self._pace.is_slow:
            holding.add(FrameCondition.SLOW)
        return holding

    def _settle(
        self,
        lasting: set[FrameCondition] | None,
        moments: dict[FrameCondition, str],
        now_s: float,
    ) -> tuple[ConditionChange, ...]:
        if lasting is None:
            lasting = self._active - _MOMENTARY
        for condition in moments:
            self._until_s[condition] = now_s + _HOLD_S
        held = {condition for condition, until_s in self._until_s.items() if now_s < until_s}
        before, self._active = self._active, lasting | held
        ended = sorted(before - self._active, key=lambda one: one.value)
        began = sorted(self._active - before, key=lambda one: one.value)
        return (
            *(ConditionChange(condition, began=False) for condition in ended),
            *(
                ConditionChange(condition, began=True, detail=moments.get(condition, ""))
                for condition in began
            ),
        )


_KINDS = (
    FrameCondition.BLACK,
    FrameCondition.WHITE,
    FrameCondition.BLANK,
    FrameCondition.NOISE,
    FrameCondition.CUT,
    FrameCondition.GREY,
)
_MOMENTARY = {
    FrameCondition.RESIZED,
    FrameCondition.ZERO_SIZE,
    FrameCondition.CLOCK_BACK,
    FrameCondition.TOO_OLD,
}


def _kind_of(picture: PictureStatistics) -> FrameCondition | None:
    if picture.deviation < _PLAIN_DEVIATION:
        if picture.mean <= _BLACK_MEAN:
            return FrameCondition.BLACK
        return FrameCondition.WHITE if picture.mean >= _WHITE_MEAN else FrameCondition.BLANK
    if picture.is_cut:
        return FrameCondition.CUT
    if picture.correlation < _NOISE_CORRELATION and picture.detail > _NOISE_DEVIATION:
        return FrameCondition.NOISE
    return FrameCondition.GREY if picture.colour < _GREY_DEVIATION else None


class _Still:
    """How long the picture has not changed, but for a key frame now and then.

    A key frame codes the same still picture a little differently, once in some twenty frames; a
    driver that fills a dark room's exposures with copies changes the picture more often.
    """

    def __init__(self) -> None:
        self._mark: int | None = None
        self._since_s = self._now_s = 0.0
        self._repeats = self._changes = self._in_a_row = 0

    def add(self, mark: int, now_s: float) -> None:
        self._now_s = now_s
        if mark == self._mark:
            self._repeats = min(self._repeats + 1, _MAX_REPEATS)
            self._in_a_row = 0
            return
        self._mark = mark
        self._changes += 1
        self._in_a_row += 1
        if self._changes * _KEY_FRAME_INTERVAL > self._repeats or self._in_a_row >= _TO_END:
            self._repeats = self._changes = 0
            self._since_s = now_s

    def is_frozen(self, limit_s: float) -> bool:
        return self._repeats >= _FROZEN_REPEATS and self._now_s - self._since_s >= limit_s


class _Seen:
    """How many frames in a row were seen before; a picture that stays counts once."""

    def __init__(self, capacity: int) -> None:
        self.run = _Run()
        self._capacity = capacity
        self._order: deque[int] = deque()
        self._counts: dict[int, int] = {}
        self._last: int | None = None

    def add(self, mark: int) -> None:
        if mark == self._last or not self._capacity:
            return
        self._last = mark
        self.run.add(mark in self._counts)
        self._order.append(mark)
        self._counts[mark] = self._counts.get(mark, 0) + 1
        if len(self._order) > self._capacity:
            old = self._order.popleft()
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]


class _Pace:
    """Whether frames come too slowly: two long intervals, until three in a row are not."""

    def __init__(self, min_fps: float) -> None:
        self._limit_s = 1.0 / min_fps if min_fps > 0.0 else math.inf
        self._last_s: float | None = None
        self._run = _Run()

    def add(self, now_s: float) -> None:
        if self._last_s is not None:
            self._run.add(now_s - self._last_s > self._limit_s)
        self._last_s = now_s

    @property
    def is_slow(self) -> bool:
        return self._run.frames >= _SLOW_INTERVALS
