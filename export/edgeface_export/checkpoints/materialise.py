"""Turns the description of a tensor into an array, with every bound checked first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeface.errors import CheckpointFormatError, UnsupportedCheckpointError
from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.dtypes import as_float32, supported
from edgeface_export.checkpoints.nodes import (
    NumpyArray,
    Quantiser,
    StorageRef,
    TensorView,
    UnsupportedTensor,
)
from edgeface_export.checkpoints.text import clip
from edgeface_export.checkpoints.values import Array

__all__ = ["Decoded", "Materialiser", "Storages"]

Storages = Callable[[StorageRef], memoryview]
"""Gives the bytes of a whole storage; their number already fits ``numel`` and the element type."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Decoded:
    """An array, its type in the file, and the key of its storage if it has one."""

    array: Array
    stored_dtype: str
    storage_key: str | None
    overflowed: bool = False


class Materialiser:
    """Makes the arrays of one pickle; the same description gives the same array."""

    def __init__(self, storages: Storages, budget: Budget) -> None:
        self._storages = storages
        self._budget = budget
        self._made: dict[int, Decoded] = {}

    def decode(self, node: object, name: str) -> Decoded | None:
        """The tensor ``name``, or None for a numpy array of objects, which stays inert.

        ``node`` must stay alive as long as this object: it is remembered by identity.

        Raises:
            CheckpointFormatError: It reaches outside its storage, or is inconsistent.
            UnsupportedCheckpointError: A kind of tensor that is not read.
            UnsafeCheckpointError: The arrays together pass the limit.
        """
        if id(node) not in self._made:
            decoded = self._decode(node, name)
            if decoded is None:
                return None
            decoded.array.setflags(write=False)
            self._made[id(node)] = decoded
        return self._made[id(node)]

    def _decode(self, node: object, name: str) -> Decoded | None:
        if isinstance(node, UnsupportedTensor):
            raise UnsupportedCheckpointError(
                f"tensor {name!r} is a {node.kind}; save the weights as ordinary dense tensors"
            )
        if isinstance(node, NumpyArray):
            return self._numpy(node, name)
        if isinstance(node, TensorView):
            return self._view(node, name)
        raise CheckpointFormatError(f"damaged: {name!r} is not a tensor")

    def _view(self, view: TensorView, name: str) -> Decoded:
        stored = self._strided(view, name)
        array = as_float32(stored, view.dtype)
        if view.dtype.startswith("q") != (view.quantiser is not None):
            raise CheckpointFormatError(f"damaged: {name!r} of {view.dtype} does not fit its scale")
        if view.quantiser is not None:
            array = self._dequantised(array, view.quantiser, name)
        overflowed = view.dtype == "float64" and _overflowed(stored, array)
        return Decoded(array, view.dtype, view.storage.key, overflowed)

    def _strided(self, view: TensorView, name: str) -> Array:
        dtype = supported(view.dtype, tensor=name)
        if view.storage.location == "meta":
            raise UnsupportedCheckpointError(
                f"tensor {name!r} was saved on the meta device and has no values"
            )
        self._budget.bytes(_largest_bytes(view.size))
        raw = self._window(view.storage, dtype.item_bytes, name)
        _check_bounds(view, len(raw) // dtype.item_bytes, name)
        strides = [
            stride * dtype.item_bytes if length > 1 else 0
            for length, stride in zip(view.size, view.stride, strict=True)
        ]
        if 0 in view.size:
            return np.empty(view.size, dtype.numpy)
        offset = view.offset * dtype.item_bytes
        return np.ndarray(view.size, dtype.numpy, raw, offset, strides)

    def _window(self, storage: StorageRef, item_bytes: int, name: str) -> memoryview:
        raw = self._storages(storage)
        if storage.window is None:
            return raw
        first, length = storage.window
        if first < 0 or length < 0 or (first + length) * item_bytes > len(raw):
            raise CheckpointFormatError(
                f"damaged: the view {first}…{first + length} of {name!r} reaches outside its "
                f"storage of {len(raw) // item_bytes} elements"
            )
        return raw[first * item_bytes : (first + length) * item_bytes]

    def _dequantised(self, stored: Array, quantiser: Quantiser, name: str) -> Array:
        scale = self._parameter(quantiser.scale, quantiser.axis, stored.shape, name)
        zero_point = self._parameter(quantiser.zero_point, quantiser.axis, stored.shape, name)
        with np.errstate(all="ignore"):
            shifted = stored.astype(np.float32) - zero_point
            return np.asarray(shifted * scale, np.float32)

    def _parameter(
        self, value: object, axis: int | None, shape: tuple[int, ...], name: str
    ) -> Array:
        """float32, of a shape that broadcasts over ``shape``."""
        if axis is None and isinstance(value, (int, float)):
            with np.errstate(over="ignore"):
                return np.asarray(value, np.float32)
        if axis is not None and 0 <= axis < len(shape) and isinstance(value, TensorView):
            values = self._view(value, name).array
            if values.shape == (shape[axis],):
                outer = [1] * len(shape)
                outer[axis] = shape[axis]
                return values.astype(np.float32).reshape(outer)
        raise CheckpointFormatError(
            f"damaged: scale or zero point of {name!r} do not fit its shape"
        )

    def _numpy(self, node: NumpyArray, name: str) -> Decoded | None:
        if node.dtype is None:
            return None
        dtype = np.dtype(node.dtype.order + node.dtype.code)
        self._budget.bytes(_largest_bytes(node.shape))
        if min(node.shape, default=0) < 0 or math.prod(node.shape) * dtype.itemsize != len(
            node.content
        ):
            raise CheckpointFormatError(
                f"damaged: numpy array {name!r} has {len(node.content):,} bytes for the shape "
                f"{node.shape} of {dtype.name}"
            )
        flat = np.frombuffer(_as_bytes(node.content, name), dtype)
        stored = flat.reshape(node.shape, order="F" if node.fortran_order else "C")
        array = as_float32(stored, dtype.name)
        return Decoded(array, dtype.name, None, overflowed=_overflowed(stored, array))


def _as_bytes(content: bytes | bytearray | str, name: str) -> bytes | bytearray:
    if not isinstance(content, str):
        return content
    try:
        return content.encode("latin-1")
    except UnicodeEncodeError as error:
        raise CheckpointFormatError(
            f"damaged: numpy array {name!r} has text for bytes ({clip(error)})"
        ) from error


def _largest_bytes(size: tuple[int, ...]) -> int:
    # Also for an empty array: numpy refuses shapes whose other lengths are too large together.
    return 8 * math.prod(max(1, length) for length in size)


def _overflowed(stored: Array, array: Array) -> bool:
    if stored.dtype.kind != "f" or stored.dtype.itemsize <= 4:
        return False
    return bool(np.any(np.isinf(array) & np.isfinite(stored)))


def _check_bounds(view: TensorView, numel: int, name: str) -> None:
    size, stride = view.size, view.stride
    if len(size) != len(stride) or min((view.offset, *size, *stride)) < 0:
        raise CheckpointFormatError(
            f"damaged: tensor {name!r} has the shape {size}, strides {stride} and offset "
            f"{view.offset}, which no tensor has"
        )
    if 0 in size:
        return
    last = view.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= numel:
        raise CheckpointFormatError(
            f"damaged: tensor {name!r} needs {last + 1:,} elements of storage "
            f"{clip(view.storage.key)}, which has {numel:,}; get the file again"
        )
