"""Ranges of activations: the ways to set them, and the choice between them for each tensor.

========== =====================================================================================
method     range
========== =====================================================================================
minmax     from the smallest to the largest value
percentile between the two ends that a given percentage of the values lies in
mse        with the least mean square of what rounding and cutting do to the values
entropy    whose INT8 histogram tells least apart from the float one (Kullback-Leibler; Migacz,
           "8-bit inference with TensorRT", GTC 2017)
auto       of these four, for each tensor, the one that does least to what its readers make of it
========== =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import InvalidInputError
from edgeface.types import ImageArray
from edgeface_export.quantise.noise import Coding, SymmetricCoding, ranges_error
from edgeface_export.quantise.statistics import ChannelStatistics, collect_statistics

__all__ = [
    "METHODS",
    "RangeMethod",
    "TensorRange",
    "choose_range",
    "collect_ranges",
    "require_method",
]

RangeMethod = str
METHODS = ("auto", "minmax", "percentile", "mse", "entropy")
_Row: TypeAlias = npt.NDArray[np.float64]
_Ends: TypeAlias = tuple[float, float]

_FINE_BINS = 8192
_ENTROPY_BINS, _ENTROPY_LEVELS, _ENTROPY_STRIDE = 2048, 128, 16


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The values from ``low`` to ``high`` that integers must cover, and what set them."""

    low: float
    high: float
    method: str

    @property
    def magnitude(self) -> float:
        """The magnitude that symmetric INT8's 127 stands for."""
        return max(abs(self.low), abs(self.high))

    @property
    def scale(self) -> float:
        """The step between two values of symmetric INT8."""
        return self.magnitude / 127.0


def require_method(method: RangeMethod, percentile: float) -> None:
    """Raise InvalidInputError where the method is unknown or the percentile not in 50..100."""
    if method not in METHODS:
        raise InvalidInputError(f"unknown range method {method!r}, choose one of {METHODS}")
    if not 50.0 < percentile <= 100.0:
        raise InvalidInputError(f"percentile must be in 50..100, got {percentile}")


def collect_ranges(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    crops: ImageArray,
    *,
    method: RangeMethod = "auto",
    percentile: float = 99.999,
    progress: Callable[[Iterable[ImageArray]], Iterable[ImageArray]] = iter,
) -> dict[str, TensorRange]:
    """Return the range of each of ``tensors`` over (n, height, width, 3) uint8 ``crops``.

    Half of what ``percentile`` leaves out lies beyond each end. Zero is always within.
    ``progress`` wraps the batches of each of the two passes, to draw a bar.

    Raises:
        InvalidInputError: The method is unknown or the percentile not in 50..100.
        ActivationSetError: There is no crop, or a tensor comes out NaN, infinite or all zero.
    """
    require_method(method, percentile)
    found = collect_statistics(model, tensors, crops, progress=progress)
    return {
        name: choose_range(entry, method=method, percentile=percentile)
        for name, entry in found.items()
    }


def choose_range(
    statistics: ChannelStatistics,
    *,
    method: RangeMethod = "auto",
    percentile: float = 99.999,
    gains: _Row | None = None,
    coding: Coding | None = None,
) -> TensorRange:
    """Return the range of one tensor by ``method``.

    ``gains`` weigh the error of each channel, evenly by default. ``coding`` is by default that of
    symmetric INT8.
    """
    coding = coding or SymmetricCoding(statistics)
    if method != "auto":
        return _range_by(method, statistics, percentile, coding)
    tried = [_range_by(name, statistics, percentile, coding) for name in METHODS[1:]]
    ends = np.array([coding.coded(entry.low, entry.high) for entry in tried])
    gains = np.ones(len(statistics.low)) if gains is None else gains
    return tried[int(ranges_error(coding, ends, gains).argmin())]


def _range_by(
    method: str, statistics: ChannelStatistics, percentile: float, coding: Coding
) -> TensorRange:
    widest = min(0.0, float(statistics.low.min())), max(0.0, float(statistics.high.max()))
    low, high = widest
    if method == "percentile":
        low, high = _percentile_ends(statistics, widest, percentile)
    elif method == "mse":
        even = np.ones(len(statistics.low))
        low, high = coding.tried(even, even)
    elif method == "entropy":
        magnitude = _entropy_magnitude(statistics, widest)
        low, high = -magnitude, magnitude
    return TensorRange(max(low, widest[0]), min(high, widest[1]), method)


def _merged(statistics: ChannelStatistics, ends: _Ends, bins: int) -> npt.NDArray[np.float64]:
    """Return the histogram of all channels from one end to the other."""
    low, high = ends
    places = (statistics.centres - low) * (bins / (high - low))
    index = np.clip(places, 0, bins - 1).astype(np.int64)
    weights = statistics.counts.ravel().astype(np.float64)
    return np.asarray(np.bincount(index.ravel(), weights=weights, minlength=bins), np.float64)


def _percentile_ends(statistics: ChannelStatistics, widest: _Ends, percentile: float) -> _Ends:
    low, high = widest
    counts = _merged(statistics, widest, _FINE_BINS)
    share = np.cumsum(counts) / counts.sum()
    outside = (1.0 - percentile / 100.0) / 2
    first = int(np.searchsorted(share, outside, side="right"))
    last = int(np.searchsorted(share, 1.0 - outside)) + 1
    step = (high - low) / _FINE_BINS
    # Zero is always within: padding is zero and must stay exact.
    return min(0.0, low + first * step), max(0.0, low + min(last, _FINE_BINS) * step)


def _entropy_magnitude(statistics: ChannelStatistics, widest: _Ends) -> float:
    largest = max(-widest[0], widest[1])
    both = _merged(statistics, (-largest, largest), 2 * _ENTROPY_BINS)
    counts = both[_ENTROPY_BINS:] + both[:_ENTROPY_BINS][::-1]
    # Values that are exactly 0 cost no steps, and a ReLU's would drown all others.
    counts[0] = counts[1]
    tried = range(_ENTROPY_LEVELS, _ENTROPY_BINS + 1, _ENTROPY_STRIDE)
    best = min(tried, key=lambda bins: _divergence(counts, bins))
    return largest * best / _ENTROPY_BINS


def _divergence(counts: npt.NDArray[np.float64], bins: int) -> float:
    """Return the divergence of ``counts`` from their form in 128 levels over the first ``bins``."""
    inside = counts[:bins]
    reference = inside.copy()
    reference[-1] += counts[bins:].sum()
    level = np.arange(bins) * _ENTROPY_LEVELS // bins
    filled = inside > 0
    sums = np.bincount(level, weights=inside, minlength=_ENTROPY_LEVELS)
    members = np.bincount(level, weights=filled, minlength=_ENTROPY_LEVELS)
    coded = np.where(filled, (sums / np.maximum(members, 1))[level], 0.0)
    p, q = reference / reference.sum(), coded / max(coded.sum(), 1.0)
    known = p > 0
    # Where the levels have nothing and the values have something: a share too small to matter.
    ratio = p[known] / np.maximum(q[known], 1e-12)
    return float((p[known] * np.log(ratio)).sum())
