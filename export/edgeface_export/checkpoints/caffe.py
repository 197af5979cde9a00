"""Reads the weights of a ``.caffemodel``, both the layers of today and those before 2014 (V1).

Fields are those of caffe.proto. Tensors are called after layer and place: ``conv1.0`` is the first
blob of layer ``conv1``. What stands between the layers is in the ``.prototxt``
(:mod:`edgeface_export.intake.caffe`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgeface.errors import CheckpointFormatError
from edgeface_export.checkpoints.contents import Contents
from edgeface_export.checkpoints.materialise import Decoded
from edgeface_export.checkpoints.protobuf_fields import (
    Field,
    fields,
    floats,
    text,
    whole_numbers,
)
from edgeface_export.checkpoints.text import clip, printable
from edgeface_export.checkpoints.values import Array

__all__ = ["read_caffe"]

# NetParameter: name, V1 layers, layers.
_NET_NAME, _V1_LAYERS, _LAYERS = 1, 2, 100
# (name, blobs) of LayerParameter and of V1LayerParameter.
_PARTS = {_LAYERS: (1, 7), _V1_LAYERS: (4, 6)}
# BlobProto: num, channels, height, width; data, shape, double_data. BlobShape: dim.
_OLD_SIDES = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLE_DATA, _DIM = 5, 7, 8, 1
_MAX_DIMENSIONS = 32


def read_caffe(content: bytes, contents: Contents) -> None:
    """Add the blobs of every layer to ``contents``.

    Raises:
        CheckpointFormatError: The file is damaged or truncated.
        UnsafeCheckpointError: It passes a limit.
    """
    for field in fields(memoryview(content), contents.budget):
        if field.number == _NET_NAME:
            contents.add_scalar("name", printable(text(field)))
        if field.number in _PARTS:
            _add_layer(field, *_PARTS[field.number], contents)


def _add_layer(layer: Field, name_number: int, blobs_number: int, contents: Contents) -> None:
    name, blobs = "", []
    for field in fields(layer.content, contents.budget):
        if field.number == name_number:
            name = printable(text(field))
        elif field.number == blobs_number:
            blobs.append(field)
    longest = contents.budget.limits.max_name_length
    if len(name) > longest:
        raise CheckpointFormatError(f"has a layer name of more than {longest:,} characters")
    for index, blob in enumerate(blobs):
        array = _blob(blob, f"{name}.{index}", contents)
        contents.add_tensor(f"{name}.{index}", Decoded(array, "float32", None))


def _blob(blob: Field, name: str, contents: Contents) -> Array:
    shape: list[int] = []
    old = dict.fromkeys(_OLD_SIDES, 1)
    has_old, parts = False, []
    for field in fields(blob.content, contents.budget):
        if field.number == _SHAPE:
            shape = list(_dimensions(field, contents))
        elif field.number in old and isinstance(field.value, int):
            old[field.number], has_old = field.value, True
        elif field.number in (_DATA, _DOUBLE_DATA):
            contents.budget.bytes(len(field.content))
            parts.append(floats(field, "<f4" if field.number == _DATA else "<f8"))
    sides = tuple(shape) if shape or not has_old else tuple(old.values())
    values = np.concatenate(parts) if parts else np.zeros(0)
    if len(sides) > _MAX_DIMENSIONS or math.prod(sides) != values.size:
        raise CheckpointFormatError(
            f"damaged: {clip(name)} has {values.size:,} values for the shape {sides[:8]}"
        )
    with np.errstate(over="ignore"):
        array: Array = values.astype(np.float32).reshape(sides)
    array.setflags(write=False)
    return array


def _dimensions(shape: Field, contents: Contents) -> Iterator[int]:
    for field in fields(shape.content, contents.budget):
        if field.number == _DIM:
            yield from whole_numbers(field)
