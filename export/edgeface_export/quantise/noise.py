"""How much noise INT8 adds to a tensor: rounding within its range and cutting beyond it.

Rounding adds step**2 / 12. A value beyond the range is off by the distance to it; that error has
one sign and hits the same faces again and again, so it does not average out over positions as
rounding does, and counts more. Errors are per channel, from a channel's histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface_export.quantise.statistics import ChannelStatistics

__all__ = [
    "CUT_WEIGHT",
    "Coding",
    "SymmetricCoding",
    "UnsignedCoding",
    "best_range",
    "middles",
    "ranges_error",
    "sum_of_errors",
]

_Row: TypeAlias = npt.NDArray[np.float64]
_Ends: TypeAlias = tuple[float, float]

CUT_WEIGHT = 4.0
"""How much more the square of a cut counts than that of a rounding."""

_SYMMETRIC_LEVELS, _UNSIGNED_LEVELS = 254, 255
# Ends of a range that are tried, as shares of the widest: ratios of 1.07, finer than matters.
_TRIED = np.geomspace(0.06, 1.0, 42)
_ROUNDS = 3


class Coding(Protocol):
    """One tensor in INT8, as its error depends on the range."""

    def error(self, low: _Row, high: _Row) -> _Row:
        """Return the mean square error of each channel, (channels, k), for k ranges of each."""

    def widest(self) -> tuple[_Row, _Row]:
        """Return the ends of each channel, 0 among them."""

    def coded(self, low: float, high: float) -> _Ends:
        """Return what INT8 covers when it must cover ``low`` to ``high``."""

    def tried(self, factors: _Row, gains: _Row) -> _Ends:
        """Return the range of the tensor, its channels times ``factors``, with the least error."""


class _Tails:
    """Sums of a histogram's outer parts, so that a cut at any place costs one look-up."""

    def __init__(self, statistics: ChannelStatistics) -> None:
        self._low, self._high = statistics.low, statistics.high
        shares, centres = statistics.shares, statistics.centres
        moments = [shares, shares * centres, shares * centres**2]
        nothing = np.zeros((len(shares), 1))
        self._below = [np.hstack([nothing, np.cumsum(m, axis=1)]) for m in moments]
        self._bins = shares.shape[1]

    def share_below(self, place: _Row) -> _Row:
        """Return the share of values below (channels, k) places."""
        return self._at(self._below[0], place)

    def above(self, place: _Row) -> _Row:
        """Return the mean square distance of what lies above (channels, k) places."""
        zeroth, first, second = (m[:, -1:] - self._at(m, place) for m in self._below)
        return np.maximum(second - 2 * place * first + place**2 * zeroth, 0.0)

    def below(self, place: _Row) -> _Row:
        """Return the mean square distance of what lies below (channels, k) places."""
        zeroth, first, second = (self._at(m, place) for m in self._below)
        return np.maximum(second - 2 * place * first + place**2 * zeroth, 0.0)

    def _at(self, sums: _Row, place: _Row) -> _Row:
        width = np.maximum(self._high - self._low, np.finfo(np.float32).tiny)[:, None]
        index = np.clip((place - self._low[:, None]) * self._bins / width, 0, self._bins)
        return np.take_along_axis(sums, np.rint(index).astype(np.int64), axis=1)


class SymmetricCoding:
    """A tensor in INT8 with zero point 0: the range is as wide below 0 as above."""

    def __init__(self, statistics: ChannelStatistics) -> None:
        self._tails = _Tails(statistics)
        self._magnitudes = statistics.magnitudes

    def error(self, low: _Row, high: _Row) -> _Row:
        """Return the mean square error of each channel, (channels, k)."""
        cut = self._tails.above(high) + self._tails.below(low)
        return ((high - low) / _SYMMETRIC_LEVELS) ** 2 / 12 + CUT_WEIGHT * cut

    def widest(self) -> tuple[_Row, _Row]:
        """Return the ends of each channel."""
        return -self._magnitudes, self._magnitudes

    def coded(self, low: float, high: float) -> _Ends:
        """Return the range, as wide below 0 as above."""
        magnitude = max(-low, high)
        return -magnitude, magnitude

    def tried(self, factors: _Row, gains: _Row) -> _Ends:
        """Return the range with the least error, weighted by ``gains``."""
        high = float((self._magnitudes * factors).max()) * _TRIED
        best = float(high[_total(self, -high, high, factors, gains).argmin()])
        return -best, best


@dataclass(frozen=True, slots=True)
class _Bend:
    """What an activation that shares the tensor's range does to values below 0."""

    square: _Row
    back: _Row
    """The least magnitude below 0 whose image, above 0, is 1; infinite for slopes above 0."""


class UnsignedCoding:
    """A tensor in uint8 with any zero point, read through a PReLU of slopes ``slope`` or none.

    The PReLU takes the tensor's own range. An error below 0 comes out times the slope, and its
    multiplication rounds once more; a negative slope turns values up, where they may be cut.
    """

    def __init__(self, statistics: ChannelStatistics, slope: _Row | None = None) -> None:
        self._tails = _Tails(statistics)
        self._low = np.minimum(statistics.low, 0.0)
        self._high = np.maximum(statistics.high, 0.0)
        self._bend: _Bend | None = None
        self._negative = np.zeros((len(self._low), 1))
        if slope is not None:
            back = np.where(slope < 0, 1 / np.maximum(-slope, 1e-9), np.inf)
            self._bend = _Bend(slope[:, None] ** 2, back[:, None])
            self._negative = self._tails.share_below(np.zeros((len(slope), 1)))

    def error(self, low: _Row, high: _Row) -> _Row:
        """Return the mean square error of each channel, (channels, k)."""
        rounding = ((high - low) / _UNSIGNED_LEVELS) ** 2 / 12
        if self._bend is None:
            return rounding + CUT_WEIGHT * (self._tails.above(high) + self._tails.below(low))
        square = self._bend.square
        floor = np.maximum(low, -high * self._bend.back)
        cut = self._tails.above(high) + square * self._tails.below(floor)
        return rounding * (1 + square * self._negative) + CUT_WEIGHT * cut

    def widest(self) -> tuple[_Row, _Row]:
        """Return the ends of each channel."""
        return self._low, self._high

    def coded(self, low: float, high: float) -> _Ends:
        """Return the range as it is."""
        return low, high

    def tried(self, factors: _Row, gains: _Row) -> _Ends:
        """Return the range with the least error, weighted by ``gains``."""
        low, high = float((self._low * factors).min()), float((self._high * factors).max())
        lows, highs = np.append(low * _TRIED, 0.0), high * _TRIED
        for _ in range(_ROUNDS):
            if high > 0:
                errors = _total(self, np.full_like(highs, low), highs, factors, gains)
                high = float(highs[errors.argmin()])
            if low < 0:
                errors = _total(self, lows, np.full_like(lows, high), factors, gains)
                low = float(lows[errors.argmin()])
        return low, high


def middles(statistics: ChannelStatistics) -> _Row:
    """Return the middle of the range at which INT8 of its own would hurt each channel least."""
    coding = UnsignedCoding(statistics)
    low, high = coding.widest()
    lows, highs = low[:, None] * np.append(_TRIED, 0.0), high[:, None] * np.append(_TRIED, 0.0)
    for _ in range(_ROUNDS):
        best = coding.error(np.broadcast_to(low[:, None], highs.shape), highs).argmin(axis=1)
        high = np.take_along_axis(highs, best[:, None], axis=1)[:, 0]
        best = coding.error(lows, np.broadcast_to(high[:, None], lows.shape)).argmin(axis=1)
        low = np.take_along_axis(lows, best[:, None], axis=1)[:, 0]
    return np.asarray((low + high) / 2)


def _total(coding: Coding, low: _Row, high: _Row, factors: _Row, gains: _Row) -> _Row:
    """Return the error of (k,) ranges, in what leaves the tensor's readers."""
    each = coding.error(low[None] / factors[:, None], high[None] / factors[:, None])
    return np.asarray((gains[:, None] * each).sum(axis=0))


def ranges_error(coding: Coding, ends: _Row, gains: _Row) -> _Row:
    """Return the error of each of (k, 2) ranges of a tensor, (k,)."""
    return _total(coding, ends[:, 0], ends[:, 1], np.ones(len(gains)), gains)


def best_range(coding: Coding, factors: _Row, gains: _Row) -> tuple[_Ends, float]:
    """Return the best range of a tensor whose channels are scaled by ``factors``, and its error."""
    low, high = coding.tried(factors, gains)
    error = _total(coding, np.array([low]), np.array([high]), factors, gains)
    return (low, high), float(error[0])


def sum_of_errors(
    codings: Sequence[Coding], gains: Sequence[_Row], ends: Sequence[_Ends], factors: _Row
) -> _Row:
    """Return each channel's error over several tensors, (channels, k), for such ``factors``."""
    total = np.zeros_like(factors)
    for coding, gain, (low, high) in zip(codings, gains, ends, strict=True):
        total += gain[:, None] * coding.error(low / factors, high / factors)
    return total
