"""Embeds the mirrored crop as well, inside of a finished graph.

Many papers report accuracy with test features made of a crop and its mirror image: the sum
(ArcFace), or both one after the other (SphereFace, CosFace). Here both embeddings are of length 1
before they are joined; the papers join them as the network gives them, whose lengths differ
little. It costs a second run of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import InvalidInputError
from edgeface.types import FloatArray, ImageArray
from edgeface_export.graph.emit import INPUT_NAME, OUTPUT_NAME

__all__ = ["CONCATENATE", "NONE", "SUM", "joined", "mirrored_crops", "with_mirror"]

NONE, SUM, CONCATENATE = "none", "sum", "concatenate"
_MIN_LENGTH = 1e-6
_BOTH, _SINGLE = "crop_and_mirror", "single_embeddings"


def with_mirror(model: onnx.ModelProto, how: str) -> onnx.ModelProto:
    """Return ``model`` with each crop's mirror image embedded too, joined as ``how`` says.

    ``sum`` keeps the size of an embedding, ``concatenate`` doubles it; rows are of length 1.

    Raises:
        InvalidInputError: ``how`` is none of ``none``, ``sum`` and ``concatenate``.
    """
    if how not in (NONE, SUM, CONCATENATE):
        raise InvalidInputError(
            f"mirrored crops are joined by {SUM} or {CONCATENATE}, or left out by {NONE}; "
            f"got {how!r}"
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if how == NONE:
        return copy
    graph = copy.graph
    nodes = [_copied(node) for node in graph.node]
    before = _casts(nodes)
    source = before[0].output[0] if before else INPUT_NAME
    behind = nodes[len(before) :]
    for node in behind:
        _rename(node, source)
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in _constants().items()
    )
    del graph.node[:]
    graph.node.extend([*before, *_mirrored(source), *behind, *_joining(how)])
    _widen(graph, how)
    onnx.checker.check_model(copy)
    return copy


def joined(rows: FloatArray, mirrored: FloatArray, how: str) -> FloatArray:
    """Return what :func:`with_mirror` computes, of the unit rows of crops and of their mirrors."""
    both = rows + mirrored if how == SUM else np.concatenate([rows, mirrored], axis=1)
    lengths = np.maximum(np.linalg.norm(both, axis=1, keepdims=True), _MIN_LENGTH)
    return np.asarray(both / lengths, np.float32)


def mirrored_crops(crops: ImageArray) -> ImageArray:
    """Return (n, height, width, 3) ``crops`` with left and right exchanged."""
    return np.ascontiguousarray(crops[:, :, ::-1])


def _casts(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the first node if it makes floats of the crops and alone reads them, else nothing.

    TensorRT has no other work on bytes than to make floats of them: the mirror comes behind it.
    """
    readers = [node for node in nodes if INPUT_NAME in node.input]
    alone = len(readers) == 1 and readers[0] is nodes[0]
    return [nodes[0]] if alone and nodes[0].op_type == "Cast" else []


def _constants() -> dict[str, npt.NDArray[np.generic]]:
    return {
        "mirror_from": np.array([-1], np.int64),
        "mirror_to": np.array([np.iinfo(np.int64).min], np.int64),
        "mirror_axis": np.array([2], np.int64),
        "mirror_step": np.array([-1], np.int64),
        "mirror_floor": np.array([_MIN_LENGTH], np.float32),
    }


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _rename(node: onnx.NodeProto, source: str) -> None:
    inputs = [_BOTH if name == source else name for name in node.input]
    outputs = [_SINGLE if name == OUTPUT_NAME else name for name in node.output]
    del node.input[:], node.output[:]
    node.input.extend(inputs)
    node.output.extend(outputs)
    if node.name == OUTPUT_NAME:
        node.name = _SINGLE


def _mirrored(source: str) -> list[onnx.NodeProto]:
    ends = ["mirror_from", "mirror_to", "mirror_axis", "mirror_step"]
    return [
        helper.make_node("Slice", [source, *ends], ["mirrored"], name="mirrored"),
        helper.make_node("Concat", [source, "mirrored"], [_BOTH], name=_BOTH, axis=0),
    ]


def _joining(how: str) -> list[onnx.NodeProto]:
    parts = ["of_crops", "of_mirrors"]
    join = (
        helper.make_node("Add", parts, ["joined"], name="joined")
        if how == SUM
        else helper.make_node("Concat", parts, ["joined"], name="joined", axis=1)
    )
    return [
        helper.make_node("Split", [_SINGLE], parts, name="of_both", axis=0),
        join,
        helper.make_node(
            "ReduceL2", ["joined"], ["joined_length"], name="joined_length", axes=[1], keepdims=1
        ),
        helper.make_node(
            "Max", ["joined_length", "mirror_floor"], ["joined_safe"], name="joined_safe"
        ),
        helper.make_node("Div", ["joined", "joined_safe"], [OUTPUT_NAME], name=OUTPUT_NAME),
    ]


def _widen(graph: onnx.GraphProto, how: str) -> None:
    """Declare the size of the joined rows; shapes known inside are no longer those."""
    size = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    del graph.output[:], graph.value_info[:]
    wide = 2 * size if how == CONCATENATE else size
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["n", wide]))
