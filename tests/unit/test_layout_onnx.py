"""A user's own ONNX graph: taken apart, its head cut, and equal to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError, InvalidInputError
from edgeface.types import Size
from edgeface_export.architectures.network import Gate, Linear
from edgeface_export.dispatch import export_model
from edgeface_export.inspection import inspect_checkpoint
from edgeface_export.intake.onnx_graph import onnx_recognition
from edgeface_export.intake.opening import Intake, open_model

pytest.importorskip("onnx")

from tests.builders_onnx import Graph, matrix, same


def trunk(graph: Graph) -> str:
    """Every form of layer that exporters write, up to 24 values of a map's means."""
    x = graph.node("Sub", ["x", graph.fixed("mean", [0.1])], "centred")
    x = graph.node("Mul", [x, graph.fixed("by", np.full((1, 3, 1, 1), 1.5))], "pixels")
    weight = graph.normal("w1", 16, 3, 3, 3, scale=0.3)
    x = graph.node("Conv", [x, weight], "c1", strides=[8, 8], pads=[1] * 4, kernel_shape=[3, 3])
    x = graph.node("PRelu", [graph.norm(x, "n1", 16), graph.fixed("a", [[[0.2]]] * 16)], "p1")
    weight = graph.normal("w2", 16, 16, 1, 3, scale=0.2)
    y = graph.node("Conv", [graph.norm(x, "n2", 16), weight], "c2", pads=[0, 1, 0, 1])
    low, high = graph.fixed("low", 0.0), graph.fixed("high", 6.0)
    y = graph.node("Clip", [y, low, high], "r2")
    x = graph.node("Add", [y, x], "sum")
    pooled = graph.node("GlobalAveragePool", [x], "pooled")
    gate = graph.node("Sigmoid", [pooled], "gate")
    x = graph.node("Mul", [gate, x], "gated")
    x = graph.node("Concat", [x, y], "both", axis=1)
    x = graph.node("MaxPool", [x], "largest", kernel_shape=[2, 2], strides=[2, 2])
    x = graph.node("LeakyRelu", [x], "leaky", alpha=0.1)
    return graph.node("ReduceMean", [x], "means", axes=[2, 3], keepdims=0)


def test_a_graph_of_every_known_kind_is_the_same_network() -> None:
    graph = Graph()
    content = graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8))
    found = onnx_recognition(content)
    assert found.assumed
    assert found.network.alignment_template == "arcface-112x112"
    assert found.dropped == ()
    assert any(isinstance(layer, Gate) for layer in found.network.layers)
    same(found.network, content, "embedding")


def _head(graph: Graph, x: str) -> str:
    return graph.node("Softmax", [matrix(graph, x, "classes", 8, 100)], "shares", axis=1)


def _length(graph: Graph, x: str) -> str:
    length = graph.node("ReduceL2", [x], "length", axes=[1], keepdims=1)
    safe = graph.node("Clip", [length, graph.fixed("floor", 1e-12)], "safe")
    return graph.node("Div", [x, safe], "unit")


def test_what_only_scales_the_end_is_cut() -> None:
    graph = Graph()
    content = graph.bytes(_length(graph, matrix(graph, trunk(graph), "embedding", 32, 8)))
    found = onnx_recognition(content)
    assert [entry.names for entry in found.dropped] == [("unit",)]
    same(found.network, content, "embedding")


@pytest.mark.parametrize("unit", [False, True])
def test_a_classification_head_is_cut(unit: bool) -> None:
    graph = Graph()
    x = matrix(graph, trunk(graph), "embedding", 32, 8)
    content = graph.bytes(_head(graph, _length(graph, x) if unit else x))
    found = onnx_recognition(content)
    assert found.network.embedding_size == 8
    assert [entry.names for entry in found.dropped] == [("shares", "classes")]
    same(found.network, content, "embedding")


@pytest.mark.parametrize(("outputs", "cut"), [(2049, True), (64, False)])
def test_a_second_matrix_without_shares_is_a_head_where_it_has_as_many_rows_as_people(
    outputs: int, cut: bool
) -> None:
    graph = Graph()
    x = matrix(graph, trunk(graph), "first", 32, 8)
    content = graph.bytes(matrix(graph, x, "second", 8, outputs))
    found = onnx_recognition(content)
    assert found.network.embedding_size == (8 if cut else outputs)
    same(found.network, content, "first" if cut else "second")


def test_of_two_outputs_the_one_that_the_other_is_made_of_is_the_embedding() -> None:
    graph = Graph()
    x = matrix(graph, trunk(graph), "embedding", 32, 8)
    content = graph.bytes(_head(graph, x), x)
    same(onnx_recognition(content).network, content, "embedding")


def test_a_scale_behind_a_matrix_becomes_part_of_it() -> None:
    graph = Graph()
    x = matrix(graph, trunk(graph), "fc", 32, 8)
    x = graph.node("Mul", [x, graph.normal("scale", 8)], "scaled")
    content = graph.bytes(graph.node("Add", [graph.normal("shift", 8), x], "embedding"))
    found = onnx_recognition(content)
    assert sum(isinstance(layer, Linear) for layer in found.network.layers) == 1
    same(found.network, content, "embedding")


def test_the_size_is_taken_from_the_graph_or_must_be_told() -> None:
    graph = Graph(("h", "w"))
    content = graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8))
    with pytest.raises(ArchitectureError, match="--size"):
        onnx_recognition(content)
    assert onnx_recognition(content, size=Size(96, 112)).network.crop_size == Size(96, 112)
    graph = Graph()
    content = graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8))
    with pytest.raises(ArchitectureError, match="not 112x96"):
        onnx_recognition(content, size=Size(96, 112))


def unknown_node(graph: Graph) -> bytes:
    x = graph.node("Elu", [trunk(graph)], "elu")
    return graph.bytes(matrix(graph, x, "embedding", 32, 8))


def bytes_in(graph: Graph) -> bytes:
    return graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8), element=2)


def two_embeddings(graph: Graph) -> bytes:
    x = trunk(graph)
    return graph.bytes(matrix(graph, x, "first", 32, 8), matrix(graph, x, "second", 32, 8))


def uneven_padding(graph: Graph) -> bytes:
    x = graph.node("Conv", ["x", graph.normal("w", 8, 3, 3, 3)], "c", pads=[0, 0, 1, 1])
    return graph.bytes(graph.node("ReduceMean", [x], "embedding", axes=[2, 3], keepdims=0))


def another_crop(graph: Graph) -> bytes:
    graph.sides = (128, 128)
    return graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8))


def in_a_circle(graph: Graph) -> bytes:
    graph.node("Identity", ["b"], "a1")
    graph.node("Identity", ["a1"], "b")
    return graph.bytes("a1")


def stride_zero(graph: Graph) -> bytes:
    x = graph.node("Conv", ["x", graph.normal("w", 8, 3, 3, 3)], "c", strides=[0, 0])
    return graph.bytes(graph.node("ReduceMean", [x], "embedding", axes=[2, 3], keepdims=0))


def padding_without_end(graph: Graph) -> bytes:
    x = graph.node("Conv", ["x", graph.normal("w", 8, 3, 3, 3)], "c", pads=[1 << 30] * 4)
    return graph.bytes(graph.node("ReduceMean", [x], "embedding", axes=[2, 3], keepdims=0))


REFUSED = [
    (in_a_circle, "damaged"),
    (stride_zero, "damaged"),
    (padding_without_end, "padding"),
    (unknown_node, "of kind 'Elu', which is not known"),
    (bytes_in, "wanted float"),
    (two_embeddings, "wanted one embedding"),
    (uneven_padding, "more padding on one side"),
    (another_crop, "no alignment template"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_what_is_not_understood_is_refused_by_name(make: Any, said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        onnx_recognition(make(Graph()))


def test_nothing_is_exported_until_somebody_says_how_crops_are_prepared(tmp_path: Path) -> None:
    graph = Graph()
    path = tmp_path / "own.onnx"
    path.write_bytes(graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8)))
    with pytest.raises(InvalidInputError, match="--preprocessing"):
        export_model(path, tmp_path / "own.edgeface")
    found = inspect_checkpoint(path)
    assert found.exportable
    assert "not told by the file" in found.preprocessing


def test_a_graph_from_a_file_is_opened(tmp_path: Path) -> None:
    graph = Graph(("h", "w"))
    path = tmp_path / "own.onnx"
    path.write_bytes(graph.bytes(matrix(graph, trunk(graph), "embedding", 32, 8)))
    opened = open_model(path, Intake(size=Size(112, 112)))
    assert opened.recognition.layout.architecture == "own network"
    assert opened.recognition.layout.tensor_names()[0] == "net.centred"
