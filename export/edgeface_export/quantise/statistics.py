"""What the channels of activations look like over pictures, in two passes with fixed memory.

The first pass keeps the smallest, the largest and the mean value of each channel of each tensor;
the second fills a histogram of each channel between the two ends. No activation outlives its
batch, so memory does not grow with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeface.errors import ActivationSetError
from edgeface.types import ImageArray
from edgeface_export.graph.session import EmbeddingSession

__all__ = ["BATCH", "BINS", "ChannelStatistics", "batches", "collect_statistics", "with_outputs"]

BATCH = 4
BINS = 512
"""Of a channel's histogram: the ends of a range that it tells are right to half an INT8 step."""

# Of a map with more positions every k-th is counted, from a place that changes from batch to
# batch: neighbours are alike. Crops are not, and all are counted (with a third of them the cosine
# of the worst hundredth fell by 0.001). The smallest, the largest and the mean are of everything.
_MAX_POSITIONS = 128
# BINS / width must be a float32.
_LEAST_WIDTH = 1e-30

_Row: TypeAlias = npt.NDArray[np.float64]
_Wrap: TypeAlias = Callable[[Iterable[ImageArray]], Iterable[ImageArray]]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """The values of each channel of a tensor.

    ``low``, ``high`` and ``mean`` are (channels,), the true ones; ``counts`` is (channels, bins)
    of a histogram whose bins part the way from ``low`` to ``high`` evenly.
    """

    low: _Row
    high: _Row
    mean: _Row
    counts: npt.NDArray[np.int32]

    @property
    def centres(self) -> _Row:
        """The middle of each bin, (channels, bins)."""
        bins = self.counts.shape[1]
        width = (self.high - self.low) / bins
        return np.asarray(self.low[:, None] + width[:, None] * (np.arange(bins) + 0.5))

    @property
    def shares(self) -> _Row:
        """The share of a channel's values in each bin, (channels, bins)."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1))

    @property
    def variance(self) -> _Row:
        """Of each channel, (channels,)."""
        shares, centres = self.shares, self.centres
        mean = (shares * centres).sum(axis=1, keepdims=True)
        return np.asarray((shares * (centres - mean) ** 2).sum(axis=1))

    @property
    def magnitudes(self) -> _Row:
        """The largest magnitude of each channel, (channels,)."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))

    def moved(self, shift: _Row, factors: _Row) -> ChannelStatistics:
        """Return the statistics of (x - shift) * factors, with positive factors."""
        low, high, mean = ((x - shift) * factors for x in (self.low, self.high, self.mean))
        return ChannelStatistics(low, high, mean, self.counts)

    def after(self, function: Callable[[_Row], _Row]) -> ChannelStatistics:
        """Return the statistics of ``function(x)``, which takes (channels, n) values.

        It must bend at 0 at most, as PReLU does, and not otherwise turn round.
        """
        ends = np.stack([self.low, self.high, np.clip(0.0, self.low, self.high)], axis=1)
        bent, centres = function(ends), function(self.centres)
        low, high = bent.min(axis=1), bent.max(axis=1)
        mean = (self.shares * centres).sum(axis=1)
        counts = _histogram(centres, low, high, weights=self.counts)
        return ChannelStatistics(low, high, mean, counts)


def collect_statistics(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    crops: ImageArray,
    *,
    progress: _Wrap = iter,
) -> dict[str, ChannelStatistics]:
    """Return the statistics of each of ``tensors`` over (n, height, width, 3) uint8 ``crops``.

    Channels are axis 1. ``progress`` wraps the batches of each pass, to draw a bar.

    Raises:
        ActivationSetError: There is no crop, or a tensor comes out NaN, infinite or all zero.
    """
    if len(crops) == 0:
        raise ActivationSetError("no picture to measure ranges on")
    session = EmbeddingSession(with_outputs(model, tensors), outputs=tensors)
    ends = _ends(session, tensors, progress(batches(crops)))
    counts = _counts(session, ends, progress(batches(crops)))
    return {name: ChannelStatistics(*ends[name], counts[name]) for name in tensors}


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of ``model`` whose outputs are the float ``tensors``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors
    )
    return copy


def batches(crops: ImageArray) -> list[ImageArray]:
    """Return ``crops`` in views of a few."""
    return [crops[start : start + BATCH] for start in range(0, len(crops), BATCH)]


def _flat(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.reshape(*values.shape[:2], -1)


def _ends(
    session: EmbeddingSession, tensors: Sequence[str], wrapped: Iterable[ImageArray]
) -> dict[str, tuple[_Row, _Row, _Row]]:
    """Return (low, high, mean) of each channel, over all values."""
    low: dict[str, _Row] = {}
    high: dict[str, _Row] = {}
    total: dict[str, _Row] = {}
    rows = 0
    for batch in wrapped:
        rows += len(batch)
        for name, values in zip(tensors, map(_flat, session.run(batch)), strict=True):
            # max and min keep NaN, so a NaN anywhere arrives here.
            lowest, highest = values.min(axis=(0, 2)), values.max(axis=(0, 2))
            if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
                raise ActivationSetError(
                    f"tensor {name!r} is NaN or infinite on the pictures given"
                )
            low[name] = np.minimum(low.get(name, np.inf), lowest)
            high[name] = np.maximum(high.get(name, -np.inf), highest)
            sums = values.mean(axis=2, dtype=np.float64).sum(axis=0)
            total[name] = total.get(name, np.zeros_like(sums)) + sums
    for name in tensors:
        if not (low[name].any() or high[name].any()):
            raise ActivationSetError(f"tensor {name!r} is zero on every picture given")
    return {
        name: (low[name].astype(np.float64), high[name].astype(np.float64), total[name] / rows)
        for name in tensors
    }


def _counts(
    session: EmbeddingSession,
    ends: Mapping[str, tuple[_Row, _Row, _Row]],
    wrapped: Iterable[ImageArray],
) -> dict[str, npt.NDArray[np.int32]]:
    counts = {name: np.zeros((len(low), BINS), np.int32) for name, (low, _, _) in ends.items()}
    places = np.random.default_rng(0)
    for batch in wrapped:
        for (name, (low, high, _)), values in zip(ends.items(), session.run(batch), strict=True):
            flat = _flat(values)
            step = -(-flat.shape[2] // _MAX_POSITIONS)
            part = flat[:, :, places.integers(step) :: step]
            counts[name] += _histogram(part.transpose(1, 0, 2).reshape(len(low), -1), low, high)
    return counts


def _histogram(
    values: npt.NDArray[np.floating],
    low: _Row,
    high: _Row,
    *,
    weights: npt.NDArray[np.int32] | None = None,
) -> npt.NDArray[np.int32]:
    """Return the (channels, bins) histogram of (channels, n) values from ``low`` to ``high``."""
    width = high - low
    # A channel that is always one number has a width of 0: all of it is in the first bin.
    density = BINS / np.where(width > _LEAST_WIDTH, width, np.inf)
    places = (values - low[:, None].astype(values.dtype)) * density[:, None].astype(values.dtype)
    index = np.clip(places, 0, BINS - 1).astype(np.int32)
    index += (np.arange(len(low), dtype=np.int32) * BINS)[:, None]
    flat = None if weights is None else weights.ravel()
    found = np.bincount(index.ravel(), weights=flat, minlength=len(low) * BINS)
    return found.astype(np.int32).reshape(len(low), BINS)
