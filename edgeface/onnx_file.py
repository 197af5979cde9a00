"""Refuses an ONNX file that would make the inference library open, or run, something else.

ONNX lets a tensor live in another file, named by the model. ONNX Runtime up to 1.23 follows such
names out of the model's folder, and versions up to 1.31 follow hard links, so a model could read
any file of the user. edgeface models never need it. The check walks the protobuf wire format
itself (onnx.proto3 field numbers), because the runtime does not depend on the onnx package.

A node may also hold a finished engine, or the path of one (``EPContext``): machine code that an
execution provider runs as it is, past every check of a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgeface.errors import BundleIntegrityError

__all__ = ["refuse_external_data", "refuse_foreign_content"]

# Length-delimited fields to descend into, by message: field number -> message it holds.
_NESTED: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_STANDARD_DOMAINS = frozenset({b"", b"ai.onnx"})
# What ONNX Runtime has beyond the standard and an exported graph may use; EPContext is one more.
_RUNTIME_DOMAIN = b"com.microsoft"
_RUNTIME_OPERATORS = frozenset({b"QGemm", b"QLinearAdd", b"QLinearConv"})
_ENGINE_OPERATOR = b"EPContext"
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14
_MAX_DEPTH = 64
# A key is a 32-bit number, so at most five bytes. Protobuf reads the low 32 bits of a longer one:
# a key with a bit above them would be one field here and another there.
_MAX_KEY, _MAX_KEY_BYTES = 2**32 - 1, 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def refuse_external_data(content: bytes, *, where: str) -> None:
    """Return if the ONNX model ``content`` keeps all of its tensors inside itself.

    Raises:
        BundleIntegrityError: It names another file, or is not an ONNX file; ``where`` names it.
    """
    _check(memoryview(content), "Model", where, 0)


def refuse_foreign_content(content: bytes, *, where: str) -> None:
    """Return if ``content`` keeps its tensors inside itself and is made of known operators alone.

    Known are those of the ONNX standard and the few of ONNX Runtime that exported graphs use.

    Raises:
        BundleIntegrityError: It names another file, holds an engine or an operator of somebody
            else, or is not an ONNX file; ``where`` names it.
    """
    _check(memoryview(content), "Model", where, 0, check_node=_check_node)


def _check_node(node: memoryview, where: str) -> None:
    # A field may come twice, and readers take the last: each one that is there must do.
    values: dict[int, set[bytes]] = {_NODE_OPERATOR: set(), _NODE_DOMAIN: set()}
    for field, wire_type, value in _fields(node, where):
        if field in values and wire_type == _BYTES and isinstance(value, memoryview):
            values[field].add(bytes(value))
    operators, domains = values[_NODE_OPERATOR], values[_NODE_DOMAIN] - _STANDARD_DOMAINS
    is_known = not domains or (domains == {_RUNTIME_DOMAIN} and operators <= _RUNTIME_OPERATORS)
    if not is_known or _ENGINE_OPERATOR in operators:
        names = b", ".join(sorted(operators)).decode("ascii", "replace")[:60]
        raise BundleIntegrityError(
            f"{where}: the operator {names!r} is none of the ONNX standard or of an export, which "
            "a bundle does not allow; export the model again"
        )


def _check(
    message: memoryview,
    kind: str,
    where: str,
    depth: int,
    check_node: Callable[[memoryview, str], None] | None = None,
) -> None:
    if kind == "Node" and check_node is not None:
        check_node(message, where)
    if depth > _MAX_DEPTH:
        raise BundleIntegrityError(f"{where}: graphs nested deeper than {_MAX_DEPTH}")
    nested = _NESTED[kind]
    for field, wire_type, value in _fields(message, where):
        external = field == _TENSOR_EXTERNAL_DATA or (field == _TENSOR_DATA_LOCATION and value != 0)
        if kind == "Tensor" and external:
            raise BundleIntegrityError(
                f"{where}: a tensor is stored in another file, which a bundle does not allow"
            )
        if field in nested and wire_type == _BYTES and isinstance(value, memoryview):
            _check(value, nested[field], where, depth + 1, check_node)


def _fields(message: memoryview, where: str) -> Iterator[tuple[int, int, int | memoryview]]:
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position, where)
        field, wire_type = key >> 3, key & 7
        if key > _MAX_KEY or position - start > _MAX_KEY_BYTES or field == 0:
            raise BundleIntegrityError(f"{where} is not an ONNX file, or is damaged")
        if wire_type == _VARINT:
            value, position = _varint(message, position, where)
            yield field, wire_type, value
            continue
        if wire_type == _BYTES:
            length, position = _varint(message, position, where)
        else:
            # Groups (3 and 4) are no part of ONNX, 6 and 7 of nothing.
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, -1)
        if length < 0 or position + length > len(message):
            raise BundleIntegrityError(f"{where} is not an ONNX file, or is damaged")
        yield field, wire_type, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int, where: str) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise BundleIntegrityError(f"{where} is not an ONNX file, or is damaged")
