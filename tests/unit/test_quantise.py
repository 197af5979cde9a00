"""INT8 graphs: which nodes, what structure, how weights are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import (
    InvalidInputError,
)
from edgeface_export.architectures.network import (
    INPUT,
    Network,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

helper, numpy_helper = onnx.helper, onnx.numpy_helper

from edgeface_export.graph.emit import emit  # noqa: E402
from edgeface_export.graph.session import EmbeddingSession  # noqa: E402
from edgeface_export.probes import synthetic_crops  # noqa: E402
from edgeface_export.quantise import QuantiseOptions, quantise  # noqa: E402
from edgeface_export.quantise.head import head_layers  # noqa: E402
from edgeface_export.quantise.lint import lint  # noqa: E402
from edgeface_export.quantise.placement import Placement, place  # noqa: E402
from edgeface_export.quantise.qdq import insert_qdq, quantise_weight  # noqa: E402
from edgeface_export.quantise.ranges import METHODS, TensorRange  # noqa: E402
from tests.builders_export import (  # noqa: E402
    CROP,
    LAYOUT_NAMES,
    MOBILEFACENETS,
    STANDARD,
    random_state,
    settled_network,
    small_model,
)

EVERYTHING = QuantiseOptions(float_share=0.0)
"""What TensorRT has kernels for, with nothing at the end left in float."""


def one_node(kind: str, shape: tuple[int, ...], groups: int = 1) -> Any:
    weight = numpy_helper.from_array(np.ones(shape, np.float32), "w")
    attributes = {"group": groups} if kind == "Conv" else {"transB": 1}
    node = helper.make_node(kind, ["x", "w"], ["y"], name="node", **attributes)
    return helper.make_model(helper.make_graph([node], "g", [], [], [weight]))


@pytest.mark.parametrize(
    ("kind", "shape", "groups", "reason"),
    [
        ("Conv", (64, 3, 3, 3), 1, ""),
        ("Conv", (16, 3, 3, 3), 1, ""),
        ("Conv", (8, 3, 3, 3), 1, "first layer with 8 channels"),
        ("Conv", (16, 16, 1, 1), 1, ""),
        ("Conv", (512, 128, 1, 1), 1, ""),
        ("Conv", (15, 15, 1, 1), 1, "15 to 15 channels"),
        ("Conv", (15, 32, 1, 1), 1, ""),
        ("Conv", (15, 33, 1, 1), 1, "33 to 15 channels"),
        ("Conv", (8, 8, 1, 1), 1, "8 to 8 channels"),
        ("Conv", (16, 15, 1, 1), 1, ""),
        ("Conv", (17, 15, 1, 1), 1, "15 to 17 channels"),
        ("Conv", (64, 1, 3, 3), 64, ""),
        ("Conv", (8, 1, 3, 3), 8, ""),
        ("Conv", (12, 1, 3, 3), 12, "depthwise with 12 channels, not a multiple of 8"),
        ("Conv", (512, 1, 7, 7), 512, ""),
        ("Conv", (512, 1, 7, 6), 512, ""),
        ("Conv", (64, 1, 1, 1), 64, "1x1 kernel"),
        ("Conv", (64, 1, 3, 1), 64, "3x1 kernel"),
        ("Conv", (32, 4, 3, 3), 8, ""),
        ("Conv", (12, 4, 3, 3), 3, "in 3 groups with 12 channels, not a multiple of 8"),
        ("Conv", (32, 4, 1, 1), 8, "in 8 groups with a 1x1 kernel"),
        ("Gemm", (128, 512), 1, "matrix-vector"),
    ],
)
def test_a_layer_is_quantised_where_the_compiler_has_a_kernel_for_it(
    kind: str, shape: tuple[int, ...], groups: int, reason: str
) -> None:
    placement = place(one_node(kind, shape, groups))
    assert placement.nodes == (() if reason else ("node",))
    assert placement.tensors == (() if reason else ("x",))
    assert reason in placement.kept_float.get("node", "")


def test_an_empty_graph_has_nothing_to_quantise() -> None:
    empty = helper.make_model(helper.make_graph([], "g", [], []))
    assert place(empty) == Placement((), (), (), {})
    assert lint(empty) == []


def test_inputs_and_skips_are_placed_in_the_order_of_the_graph() -> None:
    placement = place(small_model(linear=True)[1])
    assert placement.nodes == ("stem", "depthwise", "project", "down", "whole_map")
    assert placement.skips == ("sum",)
    assert placement.tensors == (INPUT, "stem_prelu", "bounded", "sum", "down_prelu")
    assert list(placement.kept_float) == ["embed"]


def test_a_node_that_shall_stay_float_does() -> None:
    network, model = small_model()
    placement = place(model, keep_float=frozenset({"stem"}))
    assert placement.kept_float["stem"] == "asked for"
    assert INPUT not in placement.tensors
    options = QuantiseOptions(keep_float=frozenset({"stem"}))
    quantised = quantise(network, None, options)
    stem = next(node for node in quantised.model.graph.node if node.name == "stem")
    assert list(stem.input) == [INPUT, "stem.weight", "stem.bias"]


def producer_kinds(model: Any, node: Any) -> list[str]:
    made_by = {output: n.op_type for n in model.graph.node for output in n.output}
    return [made_by.get(name, "constant or input") for name in node.input]


@pytest.fixture(scope="module")
def standard() -> tuple[Network, Any, Any]:
    layout = MOBILEFACENETS["mobilefacenet-xiaoccer"]
    network = layout.build(random_state(layout, widths=STANDARD))
    model = emit(network, name="g")
    return network, model, quantise(network, None, EVERYTHING)


def test_golden_structure_of_the_standard_mobilefacenet(standard: tuple[Network, Any, Any]) -> None:
    """The counts that NVIDIA's own placement code gives for this network."""
    quantised = standard[2].model
    nodes: dict[str, list[Any]] = {}
    for node in quantised.graph.node:
        nodes.setdefault(node.op_type, []).append(node)
    assert {kind: len(found) for kind, found in nodes.items()} == {
        "Cast": 1, "Transpose": 1, "Sub": 1, "Mul": 1, "Conv": 50, "PRelu": 33, "Add": 12,
        "Flatten": 1, "ReduceL2": 1, "Max": 1, "Div": 1,
        "QuantizeLinear": 50, "DequantizeLinear": 100,
    }  # fmt: skip
    for node in nodes["Conv"]:
        kinds = producer_kinds(quantised, node)
        assert kinds == ["DequantizeLinear", "DequantizeLinear", "constant or input"]
    for node in nodes["Add"]:
        assert producer_kinds(quantised, node) == ["DequantizeLinear", "Conv"]
    for node in nodes["PRelu"]:
        assert producer_kinds(quantised, node) == ["Conv", "constant or input"]


def test_golden_constants_of_the_standard_mobilefacenet(standard: tuple[Network, Any, Any]) -> None:
    quantised = standard[2].model
    constants = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    pairs = [n for n in quantised.graph.node if n.op_type.endswith("quantizeLinear")]
    pairs += [n for n in quantised.graph.node if n.op_type == "QuantizeLinear"]
    for node in pairs:
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert scale.dtype == np.float32
        assert zero.dtype == np.int8
        assert not zero.any()
    assert not [name for name, array in constants.items() if array.dtype == np.int32]
    weights = [a for name, a in constants.items() if name.endswith(".weight.quantised")]
    assert len(weights) == 50
    assert all(a.dtype == np.int8 and a.min() >= -127 for a in weights)
    assert not [name for name in constants if name.endswith(".weight")], "float copies left over"
    assert lint(quantised) == []


def test_an_int8_file_is_less_than_a_third_of_the_float_file(
    standard: tuple[Network, Any, Any],
) -> None:
    assert standard[2].model.ByteSize() < standard[1].ByteSize() / 3


def test_quantising_leaves_the_float_graph_alone(standard: tuple[Network, Any, Any]) -> None:
    network, model, _ = standard
    assert model.SerializeToString() == emit(network, name="g").SerializeToString()
    assert lint(model) == []


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_every_layout_gives_a_clean_graph_that_still_recognises(name: str) -> None:
    network = settled_network(name)
    model = emit(network, name="g")
    crops = synthetic_crops(12, network.crop_size, seed=7)
    before = EmbeddingSession(model).embed(crops)
    quantised = quantise(network, None, QuantiseOptions())
    after = EmbeddingSession(quantised.model).embed(crops)
    assert quantised.data_free
    assert lint(quantised.model) == []
    assert (before * after).sum(axis=1).mean() > 0.97


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_the_end_stays_in_float_as_far_as_its_share_goes(name: str) -> None:
    network = settled_network(name)
    costs = network.multiply_adds()
    for share in (0.0, 0.001, 0.02, 0.08):
        head = head_layers(network, share)
        assert list(head) == list(reversed(costs))[: len(head)]
        assert sum(costs[layer] for layer in head) <= share * sum(costs.values())
        made = quantise(network, None, QuantiseOptions(float_share=share))
        assert set(head) <= set(made.placement.kept_float)
        assert not set(head) & set(made.placement.nodes)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_int8_stays_close_to_float(seed: int, linear: bool) -> None:
    network, model = small_model(seed, linear=linear, embedding=16)
    crops = synthetic_crops(24, CROP, seed=seed)
    before = EmbeddingSession(model).embed(crops)
    for method in METHODS:
        quantised = quantise(network, crops, QuantiseOptions(method=method))
        after = EmbeddingSession(quantised.model).embed(crops)
        assert (before * after).sum(axis=1).mean() > 0.98
        assert not np.array_equal(before, after)


def test_the_report_of_a_quantised_graph_names_every_node_and_range() -> None:
    network, model = small_model(linear=True)
    report = quantise(network, None, EVERYTHING).to_dict()
    assert report["data_free"] is True
    assert report["int8_nodes"] == ["stem", "depthwise", "project", "down", "whole_map"]
    assert list(report["kept_float"]) == ["embed"]
    assert sorted(report["ranges"]) == sorted(place(model).tensors)
    assert report["ranges"][INPUT]["method"] == "exact"


@pytest.mark.parametrize(
    "ends", [(0.0, 0.0), (np.nan, np.nan), (0.0, np.inf), (-np.inf, 0.0), (-np.inf, np.inf)]
)
def test_a_tensor_without_a_usable_range_is_refused_by_name(ends: tuple[float, float]) -> None:
    _, model = small_model()
    placement = place(model)
    known = dict.fromkeys(placement.tensors, TensorRange(-1.0, 0.5, "minmax"))
    for broken in ({}, known | {"sum": TensorRange(*ends, "minmax")}):
        with pytest.raises(InvalidInputError, match="has no usable range"):
            insert_qdq(model, placement, broken)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (16, 3, 3, 3), (8, 1, 7, 6), (5, 24)])
def test_weights_have_one_step_for_each_output_channel(shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight *= 10.0 ** np.linspace(-3, 3, shape[0], dtype=np.float32).reshape(
        -1, *(1,) * (len(shape) - 1)
    )
    values, scales = quantise_weight(weight)
    assert values.dtype == np.int8
    assert scales.dtype == np.float32
    assert (values.shape, scales.shape) == (shape, shape[:1])
    largest = np.abs(weight.reshape(shape[0], -1)).max(1)
    np.testing.assert_allclose(scales, largest / 127, rtol=1e-6)
    assert (np.abs(values.reshape(shape[0], -1)).max(1) == 127).all()
    back = values * scales.reshape(-1, *(1,) * (len(shape) - 1))
    error = np.abs(back - weight).reshape(shape[0], -1).max(1)
    assert (error <= scales / 2 * (1 + 1e-5)).all()


def test_a_channel_of_zeros_stays_zero_and_its_scale_finite() -> None:
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[1] = 0.5
    values, scales = quantise_weight(weight)
    np.testing.assert_array_equal(values[0], 0)
    assert np.isfinite(scales).all()
    assert scales[0] > 0
    np.testing.assert_allclose(values[1] * scales[1], 0.5, rtol=1e-6)


def test_opposite_weights_are_opposite_numbers() -> None:
    weight = np.array([[-1.0, 1.0, -0.5, 0.5]], np.float32)
    values, _ = quantise_weight(weight)
    np.testing.assert_array_equal(values, [[-127, 127, -64, 64]])


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-37])
def test_a_channel_too_small_for_a_step_is_a_channel_of_zeros(size: float) -> None:
    weight = np.full((2, 4), 0.5, np.float32)
    weight[0] = size
    values, scales = quantise_weight(weight)
    np.testing.assert_array_equal(values, [[0] * 4, [127] * 4])
    np.testing.assert_allclose(scales, [1.0, 0.5 / 127])


def test_a_channel_just_large_enough_for_a_step_keeps_it() -> None:
    values, scales = quantise_weight(np.array([[2e-36, -1e-36]], np.float32))
    np.testing.assert_array_equal(values, [[127, -64]])
    assert scales[0] >= np.finfo(np.float32).tiny
