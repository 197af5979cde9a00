"""The reference forward of the layers in :mod:`edgeface_export.architectures.operations`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgeface_export.architectures.operations import (
    ChannelNorm,
    Concat,
    CrossCovariance,
    Gelu,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Operation,
    Shift,
    Slice,
    Sum,
)

__all__ = ["operation_forward"]

_Array = npt.NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def operation_forward(layer: Operation, x: _Array, at: Mapping[str, _Array]) -> _Array:
    """Return what ``layer`` makes of ``x``; ``at`` holds all that was computed so far."""
    match layer:
        case MaxPool():
            return _max_pool(x, layer)
        case ChannelNorm():
            shape = (-1,) + (1,) * (x.ndim - 1)
            unit = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + layer.epsilon)
            return np.asarray(unit * layer.gamma.reshape(shape) + layer.beta.reshape(shape))
        case Gelu():
            return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))
        case HardSigmoid():
            return np.clip(layer.steepness * x + layer.middle, 0.0, 1.0)
        case HardSwish():
            return np.asarray(x * np.clip(x + 3, 0.0, 6.0) / 6)
        case CrossCovariance():
            return _cross_covariance(x, layer)
        case _:
            return _rearranged(layer, x, at)


def _rearranged(layer: Slice | Concat | Sum | Shift, x: _Array, at: Mapping[str, _Array]) -> _Array:
    match layer:
        case Slice():
            return x[layer.start : layer.stop]
        case Concat():
            return np.concatenate([x, *(at[name] for name in layer.others)])
        case Sum():
            return np.asarray(x + np.sum([at[name] for name in layer.others], axis=0))
        case Shift():
            return np.asarray(x + layer.values)


def _max_pool(x: _Array, layer: MaxPool) -> _Array:
    pad, step = layer.padding, layer.stride
    _, rows, columns = layer.output_shape(x.shape)
    over = [(n - 1) * step + layer.kernel - side - pad for n, side in _sides(rows, columns, x)]
    ends = [(pad, max(0, more)) for more in over]
    padded = np.pad(x, ((0, 0), *ends), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (layer.kernel,) * 2, (1, 2))
    return np.asarray(windows[:, ::step, ::step][:, :rows, :columns].max(axis=(3, 4)))


def _sides(rows: int, columns: int, x: _Array) -> list[tuple[int, int]]:
    return [(rows, x.shape[1]), (columns, x.shape[2])]


def _cross_covariance(x: _Array, layer: CrossCovariance) -> _Array:
    queries, keys, values = x.reshape(3, layer.heads, -1, x.shape[1] * x.shape[2])
    products = _unit(queries) @ _unit(keys).transpose(0, 2, 1)
    warm = products * layer.temperature.astype(np.float64).reshape(-1, 1, 1)
    shares = np.exp(warm - warm.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    return np.asarray((shares @ values).reshape(-1, *x.shape[1:]))


def _unit(rows: _Array) -> _Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12))
