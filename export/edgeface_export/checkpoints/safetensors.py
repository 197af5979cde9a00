"""Reads ``.safetensors``: 8 bytes of header length, a JSON header, then the bytes of the tensors.

Format: the README of huggingface/safetensors. Stricter than it on nothing, laxer on nothing.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from edgeface.errors import CheckpointFormatError, UnsafeCheckpointError
from edgeface_export.checkpoints.contents import Contents
from edgeface_export.checkpoints.dtypes import as_float32, supported
from edgeface_export.checkpoints.materialise import Decoded
from edgeface_export.checkpoints.text import clip, printable

__all__ = ["looks_like_safetensors", "read_safetensors"]

MAX_HEADER_BYTES = 100_000_000  # of the reference implementation
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_MAX_DIMENSIONS = 32
_DTYPES: dict[str, str] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def looks_like_safetensors(content: bytes) -> bool:
    """Whether the file begins with a plausible header length and an opening brace."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    return content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and 2 <= length <= MAX_HEADER_BYTES


def read_safetensors(content: bytes, contents: Contents) -> None:
    """Add the tensors and the metadata of the file to ``contents``."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    data_start = _LENGTH_BYTES + length
    if data_start > len(content):
        raise CheckpointFormatError(
            f"truncated: the header has {length:,} bytes, the file {len(content):,}; "
            "get the file again"
        )
    header = _parse(content[_LENGTH_BYTES:data_start])
    _add_metadata(header.pop(_METADATA, {}), contents)
    if len(header) > contents.budget.limits.max_tensors:
        raise UnsafeCheckpointError(f"holds {len(header):,} tensors; raise ReadLimits.max_tensors")
    entries = [_entry(name, fields) for name, fields in header.items()]
    data = memoryview(content)[data_start:]
    _check_layout(entries, len(data))
    for entry in entries:
        contents.add_tensor(printable(entry.name), _decode(entry, data, contents))


def _parse(header: bytes) -> dict[str, object]:
    try:
        parsed: object = json.loads(
            header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointFormatError(
            f"damaged: the safetensors header is not JSON ({clip(error)})"
        ) from error
    if not isinstance(parsed, dict):
        raise CheckpointFormatError("damaged: the safetensors header is not a JSON object")
    return parsed


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise CheckpointFormatError("damaged: the safetensors header has a name twice")
    return unique


def _no_constant(name: str) -> NoReturn:
    raise CheckpointFormatError(f"damaged: the safetensors header has the value {name}")


def _add_metadata(metadata: object, contents: Contents) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointFormatError(f"damaged: {_METADATA} is not a mapping of text to text")
    for key, value in metadata.items():
        contents.add_scalar(f"{_METADATA}.{printable(key)}", value)


def _entry(name: str, fields: object) -> _Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointFormatError(
            f"damaged: tensor {clip(name)} has not just dtype, shape and data_offsets"
        )
    shape, offsets, code = fields["shape"], fields["data_offsets"], fields["dtype"]
    if not _is_lengths(shape) or not _is_lengths(offsets) or len(offsets) != 2:
        raise CheckpointFormatError(f"damaged: tensor {clip(name)} has an unusable shape or offset")
    if not isinstance(code, str):
        raise CheckpointFormatError(f"damaged: tensor {clip(name)} has an unusable dtype")
    dtype = _DTYPES.get(code, clip(code))
    item_bytes = supported(dtype, tensor=clip(name)).item_bytes
    begin, end = offsets
    if end - begin != math.prod(shape) * item_bytes:
        raise CheckpointFormatError(
            f"damaged: tensor {clip(name)} of shape {shape} and {dtype} has {end - begin:,} bytes"
        )
    return _Entry(name, dtype, tuple(shape), begin, end)


def _is_lengths(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_DIMENSIONS
        and all(type(part) is int and 0 <= part < 1 << 62 for part in value)
    )


def _check_layout(entries: list[_Entry], data_bytes: int) -> None:
    position = 0
    for entry in sorted(entries, key=lambda one: (one.begin, one.end)):
        if entry.begin != position:
            raise CheckpointFormatError(
                f"damaged: tensor {clip(entry.name)} begins at byte {entry.begin:,} of the data; "
                f"wanted {position:,}, where the one before it ends"
            )
        position = entry.end
    if position != data_bytes:
        raise CheckpointFormatError(
            f"truncated or damaged: the tensors need {position:,} bytes, the file has "
            f"{data_bytes:,}; get the file again"
        )


def _decode(entry: _Entry, data: memoryview, contents: Contents) -> Decoded:
    dtype = supported(entry.dtype, tensor=clip(entry.name))
    contents.budget.bytes(8 * math.prod(max(1, length) for length in entry.shape))
    flat = np.frombuffer(data[entry.begin : entry.end], dtype.numpy)
    stored = flat.reshape(entry.shape)
    array = as_float32(stored, entry.dtype)
    array.setflags(write=False)
    return Decoded(array, entry.dtype, None)
