"""Ranges of activations from pictures, in two passes with fixed memory.

The first pass keeps the smallest and largest value of each tensor; the second fills a histogram
of each between the two. No activation outlives its batch, so memory does not grow with the
number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeface.errors import ActivationSetError, InvalidInputError
from edgeface.types import ImageArray
from edgeface_export.graph.session import EmbeddingSession

__all__ = ["BINS", "RangeMethod", "TensorRange", "collect_channel_magnitudes", "collect_ranges"]

BINS = 8192
BATCH = 8
RangeMethod = str
_METHODS = ("minmax", "percentile")


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


def collect_ranges(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    crops: ImageArray,
    *,
    method: RangeMethod = "percentile",
    percentile: float = 99.999,
    progress: Callable[[Iterable[ImageArray]], Iterable[ImageArray]] = iter,
) -> dict[str, TensorRange]:
    """Return the range of each of ``tensors`` over (n, height, width, 3) uint8 ``crops``.

    ``minmax`` takes the smallest and the largest value, ``percentile`` the two ends between which
    ``percentile`` % of the values lie, half of the rest beyond each (clipping a few outliers makes
    the steps for all others finer). Zero is always within. ``progress`` wraps the batches of each
    pass, to draw a bar.

    Raises:
        InvalidInputError: The method is unknown or the percentile not in 50..100.
        ActivationSetError: There is no crop, or a tensor comes out NaN, infinite or all zero.
    """
    if method not in _METHODS:
        raise InvalidInputError(f"unknown range method {method!r}, choose one of {_METHODS}")
    if not 50.0 < percentile <= 100.0:
        raise InvalidInputError(f"percentile must be in 50..100, got {percentile}")
    if len(crops) == 0:
        raise ActivationSetError("no picture to measure ranges on")
    session = EmbeddingSession(_with_outputs(model, tensors), outputs=tensors)
    extremes = _extremes(session, tensors, progress(list(_batches(crops))))
    if method == "minmax":
        return {name: TensorRange(*ends, method) for name, ends in extremes.items()}
    counts = _histograms(session, extremes, progress(list(_batches(crops))))
    return {
        name: TensorRange(*_ends_at(counts[name], extremes[name], percentile), method)
        for name in tensors
    }


def collect_channel_magnitudes(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    crops: ImageArray,
    *,
    progress: Callable[[Iterable[ImageArray]], Iterable[ImageArray]] = iter,
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the largest magnitude of each channel (axis 1) of each of ``tensors`` over ``crops``.

    Raises:
        ActivationSetError: There is no crop.
    """
    if len(crops) == 0:
        raise ActivationSetError("no picture to measure ranges on")
    session = EmbeddingSession(_with_outputs(model, tensors), outputs=tensors)
    largest: dict[str, npt.NDArray[np.float32]] = {}
    for batch in progress(list(_batches(crops))):
        for name, values in zip(tensors, session.run(batch), strict=True):
            axes = (0, *range(2, values.ndim))
            found = np.abs(values).max(axis=axes)
            largest[name] = np.maximum(largest.get(name, found), found)
    return largest


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors
    )
    return copy


def _batches(crops: ImageArray) -> Iterator[ImageArray]:
    for start in range(0, len(crops), BATCH):
        yield crops[start : start + BATCH]


def _extremes(
    session: EmbeddingSession, tensors: Sequence[str], batches: Iterable[ImageArray]
) -> dict[str, tuple[float, float]]:
    ends = dict.fromkeys(tensors, (0.0, 0.0))
    for batch in batches:
        for name, values in zip(tensors, session.run(batch), strict=True):
            # max and min keep NaN, so a NaN anywhere arrives here.
            low, high = float(values.min()), float(values.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ActivationSetError(
                    f"tensor {name!r} is NaN or infinite on the pictures given"
                )
            ends[name] = min(ends[name][0], low), max(ends[name][1], high)
    for name, (low, high) in ends.items():
        if low == high:
            raise ActivationSetError(f"tensor {name!r} is zero on every picture given")
    return ends


def _histograms(
    session: EmbeddingSession,
    extremes: Mapping[str, tuple[float, float]],
    batches: Iterable[ImageArray],
) -> dict[str, npt.NDArray[np.int64]]:
    counts = {name: np.zeros(BINS, np.int64) for name in extremes}
    for batch in batches:
        for (name, (low, high)), values in zip(extremes.items(), session.run(batch), strict=True):
            bins = (values.ravel() - np.float32(low)) * np.float32(BINS / (high - low))
            indices = np.minimum(bins.astype(np.int32), BINS - 1)
            counts[name] += np.bincount(indices, minlength=BINS)
    return counts


def _ends_at(
    counts: npt.NDArray[np.int64], extremes: tuple[float, float], percentile: float
) -> tuple[float, float]:
    """Return the ends between which ``percentile`` % of the values lie.

    Half of the rest lies below, half above. Zero is always within: padding is zero and must stay
    exact.
    """
    low, high = extremes
    share = np.cumsum(counts) / counts.sum()
    outside = (1.0 - percentile / 100.0) / 2
    first = int(np.searchsorted(share, outside, side="right"))
    last = int(np.searchsorted(share, 1.0 - outside)) + 1
    step = (high - low) / BINS
    return min(0.0, low + first * step), max(0.0, low + min(last, BINS) * step)
