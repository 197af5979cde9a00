"""Just enough of the FlatBuffers format to put a new head in front of an existing file.

A FlatBuffers reference is an unsigned distance forwards, so new tables placed *before* the old
bytes can point into them and everything that is not replaced stays where it is, byte for byte.
Little-endian, file format of https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edgeface.errors import AssetIntegrityError

__all__ = ["Ints", "Node", "Octets", "Old", "Refs", "Table", "View", "with_new_head"]

_ALIGNMENT = 16
"""TensorFlow Lite wants the data of constant tensors at multiples of 16."""


@dataclass(frozen=True, slots=True, eq=False)
class Old:
    """Something that lies in the old bytes, ``at`` that position."""

    at: int


@dataclass(frozen=True, slots=True, eq=False)
class Ints:
    """A vector of 32-bit integers."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Octets:
    """A vector of bytes with aligned content; with a zero at its end it is a string too."""

    content: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Refs:
    """A vector of references."""

    targets: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table: by field number, an integer in the field itself or a reference."""

    fields: Mapping[int, int | Node]


Node: TypeAlias = Old | Ints | Octets | Refs | Table


class View:
    """Reads tables and vectors of ``content`` by position."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def _number(self, kind: str, at: int) -> int:
        try:
            (value,) = struct.unpack_from("<" + kind, self._content, at)
        except struct.error as exc:
            raise AssetIntegrityError(
                f"a model file points outside itself: byte {at} of {len(self._content)}"
            ) from exc
        return int(value)

    def target(self, at: int) -> int:
        """Return the position that the reference at ``at`` points to."""
        return at + self._number("I", at)

    def field(self, table: int, number: int) -> int | None:
        """Return the position of a field of the table at ``table``; None when it is not set."""
        layout = table - self._number("i", table)
        entry = 4 + 2 * number
        if entry >= self._number("H", layout):
            return None
        offset = self._number("H", layout + entry)
        return table + offset if offset else None

    def vector(self, table: int, number: int) -> tuple[int, ...]:
        """Return the positions of the 4-byte elements of the vector that a field refers to."""
        field = self.field(table, number)
        if field is None:
            raise AssetIntegrityError(f"a model file lacks field {number} of its table at {table}")
        start = self.target(field)
        return tuple(start + 4 * (k + 1) for k in range(self._number("I", start)))

    def refs(self, table: int, number: int) -> tuple[Old, ...]:
        """Return what the references of a vector field point to."""
        return tuple(Old(self.target(at)) for at in self.vector(table, number))

    def ints(self, table: int, number: int) -> tuple[int, ...]:
        """Return the integers of a vector field."""
        return tuple(self._number("i", at) for at in self.vector(table, number))

    def copied(self, table: int, numbers: tuple[int, ...]) -> dict[int, int | Node]:
        """Return the reference fields ``numbers`` of the table, those that are set."""
        found = {number: self.field(table, number) for number in numbers}
        return {number: Old(self.target(at)) for number, at in found.items() if at is not None}


def with_new_head(old: bytes, root: Table, identifier: bytes) -> bytes:
    """Return a file whose root is ``root``, followed by ``old`` as it is."""
    places = _place(root)
    end = max(at + len(_body(node)) for node, at in places.items())
    shift = -(-end // _ALIGNMENT) * _ALIGNMENT
    head = bytearray(shift)
    struct.pack_into("<I4s", head, 0, _start(root, places, shift), identifier)
    for node in places:
        _write(head, node, places, shift)
    return bytes(head) + old


def _place(root: Table) -> dict[Node, int]:
    """Return the position of every new node; a node comes after all that refer to it."""
    places: dict[Node, int] = {}
    waiting: list[Node] = [root]
    end = 8
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, Old) or node in places:
            continue
        # The content of a vector, after its length, lies at a multiple of 16.
        places[node] = end + -(end + 4) % _ALIGNMENT
        end = places[node] + len(_body(node))
        waiting.extend(_children(node))
    return places


def _children(node: Node) -> list[Node]:
    if isinstance(node, Refs):
        return list(node.targets)
    if isinstance(node, Table):
        return [value for value in node.fields.values() if not isinstance(value, int)]
    return []


def _body(node: Node) -> bytes:
    """Return the bytes of a node, references still zero."""
    if isinstance(node, Ints):
        return struct.pack(f"<I{len(node.values)}i", len(node.values), *node.values)
    if isinstance(node, Octets):
        return struct.pack("<I", len(node.content)) + node.content + b"\0"
    if isinstance(node, Refs):
        return struct.pack("<I", len(node.targets)) + bytes(4 * len(node.targets))
    if isinstance(node, Table):
        return _layout(node) + struct.pack("<i", len(_layout(node))) + _inline(node)
    return b""


def _layout(table: Table) -> bytes:
    """Return the table of field offsets that stands before ``table``, a multiple of 4 long."""
    count = max(table.fields) + 1
    count += count % 2
    slots = {number: 4 + 4 * k for k, number in enumerate(table.fields)}
    offsets = [slots.get(number, 0) for number in range(count)]
    return struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + 4 * len(slots), *offsets)


def _inline(table: Table) -> bytes:
    numbers = [value if isinstance(value, int) else 0 for value in table.fields.values()]
    return struct.pack(f"<{len(numbers)}i", *numbers)


def _start(node: Node, places: Mapping[Node, int], shift: int) -> int:
    """Return the position in the new file that a reference to ``node`` points to."""
    if isinstance(node, Old):
        return node.at + shift
    return places[node] + (len(_layout(node)) if isinstance(node, Table) else 0)


def _write(head: bytearray, node: Node, places: Mapping[Node, int], shift: int) -> None:
    """Write one node into ``head``, with its references."""
    body, at = _body(node), places[node]
    head[at : at + len(body)] = body
    first = _start(node, places, shift) + 4
    values: tuple[int | Node, ...] = ()
    if isinstance(node, Refs):
        values = node.targets
    elif isinstance(node, Table):
        values = tuple(node.fields.values())
    for k, value in enumerate(values):
        if not isinstance(value, int):
            distance = _start(value, places, shift) - (first + 4 * k)
            struct.pack_into("<I", head, first + 4 * k, distance)
