"""Goes through the fields of a protobuf message without a schema, every bound checked.

Wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface.errors import CheckpointFormatError
from edgeface_export.checkpoints.budget import Budget

__all__ = ["Field", "fields", "floats", "text", "whole_numbers"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10

Value: TypeAlias = int | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field: its number, and its value: a whole number, or the bytes it takes."""

    number: int
    value: Value
    wire_type: int

    @property
    def content(self) -> memoryview:
        """The bytes of a string, a message or a packed list.

        Raises:
            CheckpointFormatError: It is a number.
        """
        if not isinstance(self.value, memoryview):
            raise CheckpointFormatError(f"damaged: field {self.number} holds a number, not bytes")
        return self.value


def fields(content: memoryview, budget: Budget) -> Iterator[Field]:
    """Yield the fields of a message in their order.

    Raises:
        CheckpointFormatError: The message is damaged or truncated.
        UnsafeCheckpointError: There are more fields than the budget has steps.
    """
    position = 0
    while position < len(content):
        budget.visit()
        key, position = _varint(content, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise CheckpointFormatError("damaged: a protobuf field has the number 0")
        if wire_type == _VARINT:
            value, position = _varint(content, position)
            yield Field(number, value, wire_type)
            continue
        if wire_type == _BYTES:
            length, position = _varint(content, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise CheckpointFormatError(f"damaged: protobuf has no wire type {wire_type}")
        if length > len(content) - position:
            raise CheckpointFormatError(
                f"truncated: a field of {length:,} bytes has {len(content) - position:,}; "
                "get the file again"
            )
        yield Field(number, content[position : position + length], wire_type)
        position += length


def text(field: Field) -> str:
    """Return a string field; bytes that are no UTF-8 are replaced."""
    return bytes(field.content).decode("utf-8", "replace")


def whole_numbers(field: Field) -> list[int]:
    """Return the numbers of an integer field, packed or not."""
    if isinstance(field.value, int):
        return [field.value]
    found, position = [], 0
    while position < len(field.content):
        value, position = _varint(field.content, position)
        found.append(value)
    return found


def floats(field: Field, dtype: str) -> npt.NDArray[np.floating]:
    """Return the numbers of a field of ``<f4`` or ``<f8``, packed or not.

    Raises:
        CheckpointFormatError: Its bytes are no whole count of numbers.
    """
    if len(field.content) % np.dtype(dtype).itemsize:
        raise CheckpointFormatError("damaged: a list of floats ends inside a number")
    values: npt.NDArray[np.floating] = np.frombuffer(field.content, dtype)
    return values


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for count in range(_LONGEST_VARINT):
        if position >= len(content):
            raise CheckpointFormatError("truncated: it ends inside a number; get the file again")
        byte = content[position]
        position += 1
        result |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return result, position
    raise CheckpointFormatError("damaged: a protobuf number has more than 10 bytes")
