"""Tells by the top-level fields of a protobuf message whose format it is."""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto

__all__ = ["MessageKind", "message_kind"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELDS = 100_000


class MessageKind(Enum):
    """A format that is one protobuf message."""

    ONNX = auto()
    CAFFE = auto()
    TENSORFLOW = auto()
    UNKNOWN = auto()


def message_kind(content: bytes) -> MessageKind:
    """The format of ``content``; a truncated message is judged by the fields that are whole."""
    fields = _field_counts(content)
    # onnx.proto: ir_version = 1, graph = 7, opset_import = 8.
    if fields[1, _VARINT] and fields[7, _BYTES]:
        return MessageKind.ONNX
    # caffe.proto NetParameter: name = 1, layers (V1) = 2, layer = 100.
    if fields[100, _BYTES] or (fields[1, _BYTES] <= 1 < fields[2, _BYTES]):
        return MessageKind.CAFFE
    # graph.proto: node = 1; saved_model.proto: saved_model_schema_version = 1, meta_graphs = 2.
    if fields[1, _BYTES] > 1 or (fields[1, _VARINT] and fields[2, _BYTES]):
        return MessageKind.TENSORFLOW
    return MessageKind.UNKNOWN


def _field_counts(content: bytes) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    position = 0
    for _ in range(_MAX_FIELDS):
        if position >= len(content):
            break
        key, position = _varint(content, position)
        field, wire_type = key >> 3, key & 7
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, 0)
        if wire_type in {_VARINT, _BYTES}:
            value, position = _varint(content, position)
            length = value if wire_type == _BYTES else 0
        if wire_type not in {_VARINT, _FIXED64, _BYTES, _FIXED32} or field == 0:
            return Counter()
        counts[field, wire_type] += 1
        position += length
    return counts


def _varint(content: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    return 0, position
