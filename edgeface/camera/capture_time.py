"""When a frame was taken, from when it arrived and what the source says about its time."""

from __future__ import annotations

import math

__all__ = ["CaptureClock"]

# Cheap clocks of cameras are wrong by up to some 100 parts per million.
_MAX_DRIFT = 2e-4
_MAX_JUMP_S = 3600.0


class CaptureClock:
    """Brings positions of a stream to the monotonic clock.

    The frame that took the shortest way from the camera sets the difference of the two clocks;
    what arrives later than that was held up on the way, and is that much older.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._last_position_s = 0.0
        self._last_arrival_s = -math.inf

    def captured_s(self, arrived_s: float, position_s: float | None) -> tuple[float, bool]:
        """Return the monotonic time of the picture, and whether the time is in order.

        ``position_s`` is the time of the frame in the stream, None where it is not known: then
        the time of arrival is the best guess. The time is not in order when it goes back or jumps
        by an hour; the clock starts anew from that frame.
        """
        if position_s is None or not math.isfinite(position_s):
            return arrived_s, self._arrive(arrived_s)
        offset_s = arrived_s - position_s
        step_s = position_s - self._last_position_s
        first, self._last_position_s = self._offset_s is None, position_s
        waited_s = max(0.0, arrived_s - self._last_arrival_s)
        in_order = self._arrive(arrived_s) and (first or 0.0 <= step_s <= _MAX_JUMP_S)
        if self._offset_s is None or not in_order:
            self._offset_s = offset_s
        else:
            self._offset_s = min(offset_s, self._offset_s + _MAX_DRIFT * waited_s)
        # Not position + offset: of a position far from 0, that keeps no fraction of a second.
        return arrived_s - (offset_s - self._offset_s), in_order

    def _arrive(self, arrived_s: float) -> bool:
        in_order = arrived_s >= self._last_arrival_s
        self._last_arrival_s = arrived_s
        return in_order
