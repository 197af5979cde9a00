"""The element types that torch writes, and how their bytes become numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeface.errors import UnsupportedCheckpointError
from edgeface_export.checkpoints.values import Array

__all__ = ["DTYPES", "STORAGE_DTYPES", "UNTYPED", "Dtype", "as_float32", "supported"]

UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class Dtype:
    """One element type: the numpy type of its bytes (little-endian) and its size in the file."""

    name: str
    numpy: str
    item_bytes: int
    is_supported: bool = True


DTYPES: dict[str, Dtype] = {
    dtype.name: dtype
    for dtype in (
        Dtype("float64", "<f8", 8),
        Dtype("float32", "<f4", 4),
        Dtype("float16", "<f2", 2),
        Dtype("bfloat16", "<u2", 2),
        Dtype("int64", "<i8", 8),
        Dtype("int32", "<i4", 4),
        Dtype("int16", "<i2", 2),
        Dtype("int8", "i1", 1),
        Dtype("uint64", "<u8", 8),
        Dtype("uint32", "<u4", 4),
        Dtype("uint16", "<u2", 2),
        Dtype("uint8", "u1", 1),
        Dtype("bool", "u1", 1),
        Dtype("qint8", "i1", 1),
        Dtype("quint8", "u1", 1),
        Dtype("qint32", "<i4", 4),
        # Known only to say their names and to step over their bytes.
        Dtype(UNTYPED, "u1", 1, is_supported=False),
        Dtype("quint4x2", "u1", 1, is_supported=False),
        Dtype("quint2x4", "u1", 1, is_supported=False),
        Dtype("bits8", "u1", 1, is_supported=False),
        Dtype("complex32", "<u4", 4, is_supported=False),
        Dtype("complex64", "<c8", 8, is_supported=False),
        Dtype("complex128", "<c16", 16, is_supported=False),
        Dtype("float8_e4m3fn", "u1", 1, is_supported=False),
        Dtype("float8_e4m3fnuz", "u1", 1, is_supported=False),
        Dtype("float8_e5m2", "u1", 1, is_supported=False),
        Dtype("float8_e5m2fnuz", "u1", 1, is_supported=False),
        Dtype("float8_e8m0fnu", "u1", 1, is_supported=False),
        Dtype("float4_e2m1fn_x2", "u1", 1, is_supported=False),
    )
}

# Class names in torch, torch.cuda and torch.storage.
STORAGE_DTYPES: dict[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": UNTYPED,
    "_UntypedStorage": UNTYPED,
}


def supported(name: str, *, tensor: str) -> Dtype:
    """The element type ``name``.

    Raises:
        UnsupportedCheckpointError: It is complex, 8-bit float or packed; ``tensor`` has it.
    """
    dtype = DTYPES.get(name)
    if dtype is None or not dtype.is_supported:
        raise UnsupportedCheckpointError(
            f"tensor {tensor!r} has the element type {name}, which is not supported; "
            "save the weights as float32 or float16"
        )
    return dtype


def as_float32(stored: Array, name: str) -> Array:
    """A new C-contiguous array of ``stored`` elements of type ``name``, floats as float32.

    A finite float64 beyond the range of float32 becomes infinite.
    """
    if name == "bfloat16":
        wide = stored.astype(np.uint32, order="C")
        wide <<= np.uint32(16)
        return wide.view(np.float32)
    if name == "bool":
        return np.array(stored != 0, order="C")
    if name.startswith("float"):
        with np.errstate(over="ignore", invalid="ignore"):
            return stored.astype(np.float32, order="C")
    return stored.astype(stored.dtype.newbyteorder("="), order="C")
