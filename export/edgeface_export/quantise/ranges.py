"""Ranges of activations from pictures, in two passes with fixed memory.

The first pass keeps the smallest and largest value of each tensor; the second fills a histogram
of absolute values of each between zero and its largest. No activation outlives its batch, so
memory does not grow with the number of pictures.
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

__all__ = ["BINS", "RangeMethod", "TensorRange", "collect_ranges"]

BINS = 8192
BATCH = 8
RangeMethod = str
_METHODS = ("minmax", "percentile")


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The magnitude that INT8's 127 stands for, and what set it."""

    magnitude: float
    method: str

    @property
    def scale(self) -> float:
        """The step between two INT8 values."""
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

    ``minmax`` takes the largest magnitude, ``percentile`` the magnitude that ``percentile`` % of
    all values stay below (clipping a few outliers makes the steps for all others finer).
    ``progress`` wraps the batches of both passes, to draw a bar.

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
    largest = _largest_magnitudes(session, tensors, progress(list(_batches(crops))))
    if method == "minmax":
        return {name: TensorRange(value, method) for name, value in largest.items()}
    counts = _histograms(session, largest, progress(list(_batches(crops))))
    return {
        name: TensorRange(_magnitude_at(counts[name], largest[name], percentile), method)
        for name in tensors
    }


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


def _largest_magnitudes(
    session: EmbeddingSession, tensors: Sequence[str], batches: Iterable[ImageArray]
) -> dict[str, float]:
    largest = dict.fromkeys(tensors, 0.0)
    for batch in batches:
        for name, values in zip(tensors, session.run(batch), strict=True):
            # max and min keep NaN, so a NaN anywhere arrives here.
            magnitude = float(max(values.max(), -values.min()))
            if not np.isfinite(magnitude):
                raise ActivationSetError(
                    f"tensor {name!r} is NaN or infinite on the pictures given"
                )
            largest[name] = max(largest[name], magnitude)
    for name, magnitude in largest.items():
        if magnitude <= 0.0:
            raise ActivationSetError(f"tensor {name!r} is zero on every picture given")
    return largest


def _histograms(
    session: EmbeddingSession, largest: Mapping[str, float], batches: Iterable[ImageArray]
) -> dict[str, npt.NDArray[np.int64]]:
    counts = {name: np.zeros(BINS, np.int64) for name in largest}
    for batch in batches:
        for name, values in zip(largest, session.run(batch), strict=True):
            bins = np.abs(values).ravel() * np.float32(BINS / largest[name])
            indices = np.minimum(bins.astype(np.int32), BINS - 1)
            counts[name] += np.bincount(indices, minlength=BINS)
    return counts


def _magnitude_at(counts: npt.NDArray[np.int64], largest: float, percentile: float) -> float:
    share = np.cumsum(counts) / counts.sum()
    edge = int(np.searchsorted(share, percentile / 100.0)) + 1
    return largest * min(edge, BINS) / BINS
