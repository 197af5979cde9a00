"""Reads the initialisers of an ONNX model as tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeface.errors import (
    BundleIntegrityError,
    CheckpointFormatError,
    MissingDependencyError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from edgeface.onnx_file import refuse_external_data
from edgeface_export.checkpoints.contents import Contents
from edgeface_export.checkpoints.dtypes import as_float32, supported
from edgeface_export.checkpoints.materialise import Decoded
from edgeface_export.checkpoints.text import clip, printable

__all__ = ["read_onnx"]

_TEXT = 8  # TensorProto.STRING


def read_onnx(content: bytes, contents: Contents) -> None:
    """Add the initialisers of the main graph to ``contents``.

    Raises:
        UnsafeCheckpointError: A tensor lies in another file.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", extra="export") from error
    try:
        # Parsing opens no other file; reading a tensor would, so the check stands between.
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has several error classes, by implementation
        raise CheckpointFormatError("is a damaged or truncated ONNX model") from error
    try:
        refuse_external_data(content, where="the ONNX model")
    except BundleIntegrityError as error:
        raise UnsafeCheckpointError(f"{error}; save the model in one file") from error
    graph = model.graph
    if graph.sparse_initializer:
        raise UnsupportedCheckpointError("holds sparse initialisers; save dense ones")
    for index, tensor in enumerate(graph.initializer):
        name = printable(tensor.name) or f"initializer.{index}"
        if tensor.data_type != _TEXT:
            contents.add_tensor(name, _decode(tensor, name, contents))


def _decode(tensor: Any, name: str, contents: Contents) -> Decoded:
    import onnx
    from onnx import numpy_helper

    dtype = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
    stored_dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    supported(stored_dtype, tensor=name)
    dims = tuple(tensor.dims)
    if len(dims) > 32 or min(dims, default=0) < 0:
        raise CheckpointFormatError(f"damaged: initialiser {clip(name)} has an unusable shape")
    contents.budget.bytes(8 * math.prod(max(1, length) for length in dims))
    try:
        values = numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises ValueError, TypeError and others on bad tensors
        raise CheckpointFormatError(
            f"damaged: initialiser {clip(name)} does not fit its shape {dims}"
        ) from error
    if values.dtype.kind not in "fiub":  # bfloat16 of ml_dtypes
        values = values.astype(np.float32)
    array = as_float32(values, values.dtype.name)
    array.setflags(write=False)
    return Decoded(array, stored_dtype, None)
