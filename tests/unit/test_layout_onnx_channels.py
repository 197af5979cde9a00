"""Nodes of a user's ONNX graph that cut, turn or normalise channels, and hard activations."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface_export.architectures.network import Conv, Layer
from edgeface_export.architectures.operations import (
    ChannelNorm,
    Gelu,
    HardSigmoid,
    HardSwish,
    Slice,
)
from edgeface_export.intake.onnx_graph import onnx_recognition

pytest.importorskip("onnx")

from tests.builders_onnx import Graph, matrix, own_embedding, same

WIDTH = 16


def stem(graph: Graph) -> str:
    """A map of 16 channels, 7 x 7."""
    weight = graph.normal("w", WIDTH, 3, 3, 3, scale=0.4)
    return graph.node("Conv", ["x", weight], "stem", strides=[16, 16], pads=[1] * 4)


def ended(graph: Graph, x: str, width: int = WIDTH) -> bytes:
    means = graph.node("ReduceMean", [x], "means", axes=[2, 3], keepdims=0)
    return graph.bytes(matrix(graph, means, "embedding", width, 8))


def layers_of(content: bytes) -> tuple[Layer, ...]:
    network = onnx_recognition(content).network
    same(network, content, "embedding")
    return network.layers


def kinds(content: bytes) -> Counter[type]:
    return Counter(type(layer) for layer in layers_of(content))


def spans(content: bytes) -> list[tuple[int, int]]:
    return [(x.start, x.stop) for x in layers_of(content) if isinstance(x, Slice)]


def cut(graph: Graph, x: str, name: str, *span: int, axis: int = 1, step: int | None = None) -> str:
    of = [*span, axis, *([] if step is None else [step])]
    ends = [graph.fixed(f"{name}.{k}", [value], np.int64) for k, value in enumerate(of)]
    return graph.node("Slice", [x, *ends], name)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("span", "wanted"),
    [((2, 9), (2, 9)), ((-5, 1 << 62), (11, 16)), ((0, -4), (0, 12))],
)
def test_a_slice_of_channels_is_one(
    span: tuple[int, int], wanted: tuple[int, int], turned: bool
) -> None:
    graph = Graph()
    x = stem(graph)
    if turned:
        x = graph.node("Transpose", [x], "last", perm=[0, 2, 3, 1])
    x = cut(graph, x, "part", *span, axis=-1 if turned else 1, step=1)
    if turned:
        x = graph.node("Transpose", [x], "first", perm=[0, 3, 1, 2])
    assert spans(ended(graph, x, wanted[1] - wanted[0])) == [wanted]


def test_a_slice_of_everything_is_no_layer() -> None:
    graph = Graph()
    assert spans(ended(graph, cut(graph, stem(graph), "whole", 0, 100, axis=-3))) == []


def test_a_split_gives_parts_of_which_some_may_be_left_out() -> None:
    graph = Graph()
    sizes = graph.fixed("sizes", [4, 9, 3], np.int64)
    names = ["a", "b", "c"]
    graph.nodes.append(helper_node("Split", [stem(graph), sizes], names, axis=1))
    x = graph.node("Concat", ["c", "a"], "both", axis=1)
    assert spans(ended(graph, x, 7)) == [(0, 4), (13, 16)]


def test_a_split_without_sizes_is_into_equal_parts() -> None:
    graph = Graph()
    graph.nodes.append(helper_node("Split", [stem(graph)], ["a", "b"], axis=-3))
    x = graph.node("Add", ["a", "b"], "sum")
    assert spans(ended(graph, x, 8)) == [(0, 8), (8, 16)]


def helper_node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes)


def test_spans_computed_of_a_shape_are_as_good_as_constants() -> None:
    # As torch writes x.chunk(3, 1) and the first part of it.
    graph = Graph()
    x = stem(graph)
    channels = graph.node(
        "Gather", [graph.node("Shape", [x], "shape"), graph.fixed("one", 1, np.int64)], "c"
    )
    more = graph.node("Add", [channels, graph.fixed("two", [2], np.int64)], "more")
    each = graph.node("Div", [more, graph.fixed("three", [3], np.int64)], "each")
    end = graph.node("Mul", [each, graph.fixed("twice", [2], np.int64)], "end")
    axes = graph.fixed("axes", [1], np.int64)
    x = graph.node("Slice", [x, each, end, axes], "part")
    assert spans(ended(graph, x, 6)) == [(6, 12)]


def test_a_layer_norm_of_turned_channels_and_matrices_on_them() -> None:
    graph = Graph()
    x = stem(graph)
    y = graph.node("Transpose", [x], "last", perm=[0, 2, 3, 1])
    gamma, beta = graph.normal("gamma", WIDTH), graph.normal("beta", WIDTH)
    y = graph.node("LayerNormalization", [y, gamma, beta], "norm", axis=-1, epsilon=1e-6)
    y = graph.node("MatMul", [y, graph.normal("m1", WIDTH, 24, scale=0.3)], "wide")
    y = gelu_of_erf(graph, graph.node("Add", [graph.normal("b1", 24), y], "biased"))
    y = graph.node("MatMul", [y, graph.normal("m2", 24, WIDTH, scale=0.3)], "narrow")
    y = graph.node("Mul", [y, graph.normal("scale", WIDTH)], "scaled")
    y = graph.node("Transpose", [y], "first", perm=[0, 3, 1, 2])
    content = ended(graph, graph.node("Add", [x, y], "sum"))
    found = kinds(content)
    assert (found[ChannelNorm], found[Gelu]) == (1, 1)
    assert found[Conv] == 5


def test_a_layer_norm_of_an_embedding() -> None:
    graph = Graph()
    means = graph.node("ReduceMean", [stem(graph)], "means", axes=[2, 3], keepdims=0)
    x = graph.node("LayerNormalization", [means, graph.normal("gamma", WIDTH)], "norm")
    content = graph.bytes(matrix(graph, x, "embedding", WIDTH, 8))
    assert kinds(content)[ChannelNorm] == 1


def gelu_of_erf(graph: Graph, x: str, form: str = "after") -> str:
    if form == "multiplied":
        over = graph.node("Mul", [x, graph.fixed("root", math.sqrt(0.5))], "over")
    else:
        over = graph.node("Div", [x, graph.fixed("root", math.sqrt(2))], "over")
    one = graph.node("Add", [graph.node("Erf", [over], "erf"), graph.fixed("one", 1.0)], "one+")
    half = graph.fixed("half", 0.5)
    if form == "before":
        return graph.node("Mul", [graph.node("Mul", [x, half], "halved"), one], "gelu")
    if form == "between":
        return graph.node("Mul", [x, graph.node("Mul", [one, half], "share")], "gelu")
    return graph.node("Mul", [graph.node("Mul", [x, one], "twice"), half], "gelu")


@pytest.mark.parametrize("form", ["after", "before", "between", "multiplied"])
def test_gelu_by_its_definition_is_one_layer(form: str) -> None:
    graph = Graph()
    found = kinds(ended(graph, gelu_of_erf(graph, stem(graph), form)))
    assert (found[Gelu], found[Conv]) == (1, 1)


def hard_swish(graph: Graph, x: str) -> str:
    return graph.node("HardSwish", [x], "swish")


def of_hard_sigmoid(graph: Graph, x: str) -> str:
    gate = graph.node("HardSigmoid", [x], "gate", alpha=1 / 6, beta=0.5)
    return graph.node("Mul", [x, gate], "swish")


def _shifted(graph: Graph, x: str) -> str:
    three = graph.node("Add", [x, graph.fixed("three", 3.0)], "shifted")
    bounds = [graph.fixed("low", 0.0), graph.fixed("high", 6.0)]
    return graph.node("Clip", [three, *bounds], "clipped")


def of_relu6(graph: Graph, x: str) -> str:
    gate = graph.node("Div", [_shifted(graph, x), graph.fixed("six", 6.0)], "gate")
    return graph.node("Mul", [gate, x], "swish")


def of_relu6_divided_last(graph: Graph, x: str) -> str:
    product = graph.node("Mul", [x, _shifted(graph, x)], "product")
    return graph.node("Div", [product, graph.fixed("six", 6.0)], "swish")


@pytest.mark.parametrize("form", [hard_swish, of_hard_sigmoid, of_relu6, of_relu6_divided_last])
def test_hard_swish_in_every_form_is_one_layer(form: Callable[[Graph, str], str]) -> None:
    graph = Graph()
    found = kinds(ended(graph, form(graph, stem(graph))))
    assert (found[HardSwish], found[HardSigmoid], found[Conv]) == (1, 0, 1)


def test_a_gate_of_a_hard_sigmoid_keeps_its_own_slope() -> None:
    graph = Graph()
    x = stem(graph)
    means = graph.node("GlobalAveragePool", [x], "pooled")
    gate = graph.node("HardSigmoid", [means], "gate")
    content = ended(graph, graph.node("Mul", [x, gate], "gated"))
    found = next(x for x in layers_of(content) if isinstance(x, HardSigmoid))
    assert found.steepness == pytest.approx(0.2)
    assert found.middle == pytest.approx(0.5)


def test_nodes_of_an_activation_that_something_else_reads_stay_apart() -> None:
    graph = Graph()
    x = stem(graph)
    gate = graph.node("HardSigmoid", [x], "gate", alpha=1 / 6, beta=0.5)
    y = graph.node("Mul", [x, gate], "swish")
    with pytest.raises(ArchitectureError, match="a Mul of two layers"):
        onnx_recognition(ended(graph, graph.node("Add", [y, gate], "sum")))


def rows_cut(graph: Graph) -> bytes:
    return ended(graph, cut(graph, stem(graph), "part", 0, 3, axis=2))


def every_second(graph: Graph) -> bytes:
    return ended(graph, cut(graph, stem(graph), "part", 0, 16, step=2), 8)


def two_spans(graph: Graph) -> bytes:
    ends = [graph.fixed(f"e{k}", [k, k + 2], np.int64) for k in range(2)]
    return ended(graph, graph.node("Slice", [stem(graph), *ends], "part"))


def nothing_left(graph: Graph) -> bytes:
    return ended(graph, cut(graph, stem(graph), "part", 9, 9), 1)


def a_span_of_the_picture(graph: Graph) -> bytes:
    shape = graph.node("Size", ["x"], "shape")
    x = stem(graph)
    return ended(graph, graph.node("Slice", [x, shape, shape, shape], "part"))


def a_span_beyond_reason(graph: Graph) -> bytes:
    x = stem(graph)
    shape = graph.node("Shape", [x], "shape")
    none = graph.node("Div", [shape, graph.fixed("zero", [0, 0, 0, 0], np.int64)], "none")
    return ended(graph, graph.node("Slice", [x, none, none, none], "part"))


def wrong_sizes(graph: Graph) -> bytes:
    sizes = graph.fixed("sizes", [4, 9], np.int64)
    graph.nodes.append(helper_node("Split", [stem(graph), sizes], ["a", "b"], axis=1))
    return ended(graph, "a", 4)


def rows_split(graph: Graph) -> bytes:
    graph.nodes.append(helper_node("Split", [stem(graph)], ["a", "b"], axis=2))
    return ended(graph, "a")


def norm_over_maps(graph: Graph) -> bytes:
    gamma = graph.normal("gamma", 7)
    x = graph.node("LayerNormalization", [stem(graph), gamma], "norm", axis=-1)
    return ended(graph, x)


def norm_over_all(graph: Graph) -> bytes:
    gamma = graph.normal("gamma", WIDTH, 7, 7)
    return ended(graph, graph.node("LayerNormalization", [stem(graph), gamma], "n", axis=1))


def strange_turn(graph: Graph) -> bytes:
    return ended(graph, graph.node("Transpose", [stem(graph)], "t", perm=[0, 1, 3, 2]))


def turned_pool(graph: Graph) -> bytes:
    x = graph.node("Transpose", [stem(graph)], "last", perm=[0, 2, 3, 1])
    return ended(graph, graph.node("MaxPool", [x], "pool", kernel_shape=[2, 2]))


def one_turned(graph: Graph) -> bytes:
    x = stem(graph)
    return ended(
        graph, graph.node("Add", [x, graph.node("Transpose", [x], "l", perm=[0, 2, 3, 1])], "s")
    )


REFUSED = [
    (rows_cut, "not over the channels"),
    (every_second, "steps of"),
    (two_spans, "other than one constant span"),
    (nothing_left, "channels 9 to 9"),
    (a_span_of_the_picture, "'Size', which is not known"),
    (a_span_beyond_reason, "no float constant"),
    (wrong_sizes, "16 channels split into"),
    (rows_split, "not over the channels"),
    (norm_over_maps, "not over the channels"),
    (norm_over_all, "more than the channels"),
    (strange_turn, "Transpose to the order"),
    (turned_pool, "channels are the last axis"),
    (one_turned, "channels are the last axis"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_what_is_not_of_channels_is_refused_by_name(
    make: Callable[[Graph], bytes], said: str
) -> None:
    with pytest.raises(ArchitectureError, match=said):
        onnx_recognition(make(Graph()))


@pytest.mark.parametrize("opset", [13, 17])
def test_what_torch_writes_of_a_mobilenet_is_the_same_network(opset: int) -> None:
    torch = pytest.importorskip("torch")
    families = pytest.importorskip("tests.reference.families")
    mobilenets = pytest.importorskip("tests.reference.mobilenets")
    torch.set_num_threads(1)
    module = families.settled(mobilenets.YakhyoV3(mobilenets.V3_SMALL), (112, 112))
    content = exported(torch, module, opset)
    network = onnx_recognition(content).network
    assert sum(isinstance(layer, HardSwish) for layer in network.layers) == 18
    output = next(name for name in outputs(content))
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
    from edgeface_export.graph.emit import emit
    from edgeface_export.graph.session import EmbeddingSession

    ours = EmbeddingSession(emit(network, name="own")).embed(crops)
    theirs = [own_embedding(content, output, crop[None]) for crop in crops]
    assert np.abs(ours - np.concatenate(theirs)).max() <= 1e-5


def outputs(content: bytes) -> list[str]:
    import onnx

    return [entry.name for entry in onnx.load_model_from_string(content).graph.output]


def exported(torch: Any, module: Any, opset: int) -> bytes:
    """``module`` by torch's exporter that follows one call; it needs no other package."""
    into = io.BytesIO()
    picture = torch.zeros(1, 3, 112, 112)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            names = {"input_names": ["x"], "opset_version": opset, "dynamo": False}
            torch.onnx.export(module, picture, into, **names)
        except (TypeError, ValueError) as exc:
            pytest.skip(f"this torch has no such exporter: {exc}")
    return into.getvalue()
