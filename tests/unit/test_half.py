from __future__ import annotations

import numpy as np
import onnx  # noqa: TID253 - the graphs are what is tested
import pytest

from edgeface.backends.engine_gate import reference_rows
from edgeface.errors import InvalidInputError
from edgeface.types import FloatArray, ImageArray
from edgeface_export.graph.emit import emit
from edgeface_export.graph.half import HALF_OPSET, to_half
from edgeface_export.probes import synthetic_crops
from tests.builders_export import LAYOUT_NAMES, settled_network, small_network
from tests.tensorrt_cpu.graphs import graphs_of


def embeddings(model: onnx.ModelProto, crops: ImageArray) -> FloatArray:
    return reference_rows(model.SerializeToString(), where="test")(crops)


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {entry.name: entry.type.tensor_type.elem_type for entry in graph.value_info}


def array(model: onnx.ModelProto, name: str) -> np.ndarray:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    return np.array(onnx.numpy_helper.to_array(tensor))


def put(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))


def test_a_graph_without_weights_is_refused() -> None:
    model = emit(small_network(), name="x")
    del model.graph.node[4:]
    with pytest.raises(InvalidInputError, match="no layer with weights"):
        to_half(model)


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_float16_of_a_float_graph_gives_the_same_embeddings(layout: str) -> None:
    network = settled_network(layout)
    crops = synthetic_crops(6, network.crop_size)
    model = emit(network, name="x")
    before, after = embeddings(model, crops), embeddings(to_half(model), crops)
    assert after.dtype == np.float32
    assert np.sum(before * after, axis=1).min() > 0.9998
    assert np.linalg.norm(after, axis=1) == pytest.approx(np.ones(6), abs=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_weighted_layers_are_float16_and_both_ends_float32(*, linear: bool) -> None:
    model = to_half(emit(small_network(linear=linear), name="x"))
    kinds = types(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "PRelu", "Add", "Clip"):
            assert {kinds[name] for name in node.output} == {onnx.TensorProto.FLOAT16}
        if node.op_type in ("Sub", "Mul", "ReduceL2", "Max"):
            assert {kinds[name] for name in node.output} == {onnx.TensorProto.FLOAT}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))
    weights = [t for t in model.graph.initializer if ".weight" in t.name]
    assert weights
    assert all(t.data_type == onnx.TensorProto.FLOAT16 for t in weights)


def test_a_small_network_with_every_layer_gives_the_same_embeddings() -> None:
    network = small_network(linear=True)
    crops = synthetic_crops(5, network.crop_size)
    model = emit(network, name="x")
    cosines = np.sum(embeddings(model, crops) * embeddings(to_half(model), crops), axis=1)
    assert cosines.min() > 0.9999


def test_int8_stays_int8_and_the_rest_becomes_float16() -> None:
    graphs = graphs_of(settled_network(LAYOUT_NAMES[0]), "x")
    before, after = graphs["x.int8"], graphs["x.int8-fp16"]
    count = [
        [sum(n.op_type == kind for n in model.graph.node) for model in (before, after)]
        for kind in ("QuantizeLinear", "DequantizeLinear", "Conv")
    ]
    assert all(old == new for old, new in count)
    (version,) = (entry.version for entry in after.opset_import if entry.domain == "")
    assert version == HALF_OPSET
    kinds = types(after)
    for node in after.graph.node:
        if node.op_type == "DequantizeLinear":
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT16
        if node.op_type == "QuantizeLinear":
            assert kinds[node.output[0]] == onnx.TensorProto.INT8


def test_int8_in_float16_loses_no_more_than_int8() -> None:
    graphs = graphs_of(settled_network(LAYOUT_NAMES[0]), "x")
    network = settled_network(LAYOUT_NAMES[0])
    crops = synthetic_crops(24, network.crop_size)
    exact, int8, half = (
        embeddings(graphs[f"x.{kind}"], crops) for kind in ("fp32", "int8", "int8-fp16")
    )
    loss = [1 - np.sum(exact * rows, axis=1).mean() for rows in (int8, half)]
    assert loss[1] < 1.5 * loss[0]


@pytest.mark.parametrize("factor", [1e-2, 1e-3, 1e-4])
def test_channels_with_tiny_scales_keep_their_weights(factor: float) -> None:
    model = graphs_of(settled_network(LAYOUT_NAMES[0]), "x")["x.int8"]
    node = next(
        n
        for n in model.graph.node
        if n.op_type == "DequantizeLinear"
        and n.input[0] in {t.name for t in model.graph.initializer}
    )
    values, scales = array(model, node.input[0]), array(model, node.input[1])
    put(model, node.input[1], (scales * np.float32(factor)))
    half = to_half(model)
    shape = (-1, *(1,) * (values.ndim - 1))
    wanted = values * (scales * factor).reshape(shape)
    again = array(half, node.input[0]) * array(half, f"{node.input[1]}.half").astype(
        np.float64
    ).reshape(shape)
    step = np.maximum(scales * factor, 2.0**-18).reshape(shape)
    # Half a step of rounding, and what float16 itself rounds of a scale.
    assert (np.abs(again - wanted) <= step * 0.6 + np.abs(wanted) * 2.0**-11).all()


def test_weights_beyond_float16_are_refused() -> None:
    model = emit(small_network(), name="x")
    name = next(t.name for t in model.graph.initializer if t.name.endswith(".weight"))
    put(model, name, array(model, name) * np.float32(1e7))
    with pytest.raises(InvalidInputError, match="too large for float16"):
        to_half(model)


def test_an_activation_scale_that_float16_cannot_hold_is_refused() -> None:
    model = graphs_of(settled_network(LAYOUT_NAMES[0]), "x")["x.int8"]
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    put(model, node.input[1], np.array(1e-6, np.float32))
    with pytest.raises(InvalidInputError, match="too small for float16"):
        to_half(model)


def test_the_given_graph_is_left_as_it_was() -> None:
    for model in graphs_of(settled_network(LAYOUT_NAMES[0]), "x").values():
        if model.opset_import[0].version < HALF_OPSET:
            before = model.SerializeToString()
            if not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer):
                to_half(model)
            assert model.SerializeToString() == before
