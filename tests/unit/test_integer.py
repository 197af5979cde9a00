from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.errors import ArchitectureError, InvalidInputError
from edgeface.onnx_file import refuse_foreign_content
from edgeface.types import FloatArray, ImageArray, Size
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    Flatten,
    Linear,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)
from edgeface_export.graph.emit import emit
from edgeface_export.graph.flip import flip_network
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise import QuantiseOptions, quantise
from edgeface_export.quantise.data_free import data_free_ranges
from edgeface_export.quantise.head import head_layers
from edgeface_export.quantise.integer import integer_model, integer_tensors
from edgeface_export.quantise.integer_fit import quantise_integer
from edgeface_export.quantise.integer_graph import Encoding
from edgeface_export.quantise.ranges import METHODS, TensorRange, collect_ranges
from tests.builders_export import (
    LAYOUT_NAMES,
    forward_layer,
    normal,
    random_conv,
    random_crops,
    settled_network,
    small_network,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
numpy_helper = onnx.numpy_helper
RGB = Preprocessing.uniform("RGB", 127.5, 64.0)


def integer_of(network: Network, crops: ImageArray) -> Any:
    network = flip_network(network)
    tensors = integer_tensors(network.layers)
    ranges = collect_ranges(emit(network, name="m"), tensors, crops, method="minmax")
    return integer_model(network, ranges, name="m")


def cosines(network: Network, model: Any, crops: ImageArray) -> FloatArray:
    expected = EmbeddingSession(emit(network, name="m")).embed(crops)
    rows = EmbeddingSession(model).embed(crops)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
    return np.asarray((expected * rows).sum(axis=1))


def kinds(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_mobilefacenets_are_integer_from_the_picture_to_the_matrix(layout: str) -> None:
    network = settled_network(layout)
    crops = random_crops(16, network.crop_size)
    model = integer_of(network, crops)
    found = kinds(model)
    # The stem of the large one is also a skip, whose sign cannot be turned: slopes above 1 stay.
    steep = layout == "mobilefacenet-large-arcface-torch"
    assert not {"Conv", "Add", "Gemm"} & set(found)
    assert found["PRelu"] == found["DequantizeLinear"] == steep
    assert found["QuantizeLinear"] == steep + (len(set(network.preprocessing.mean)) > 1)
    assert cosines(network, model, crops).mean() > 0.98
    refuse_foreign_content(model.SerializeToString(), where="model")


@pytest.mark.parametrize("ceiling", [None, 6.0, 0.7])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_small_networks_agree_with_float(ceiling: float | None, linear: bool, groups: int) -> None:
    network = small_network(ceiling=ceiling, linear=linear, groups=groups)
    crops = random_crops(32, network.crop_size)
    assert cosines(network, integer_of(network, crops), crops).min() > 0.995


@pytest.mark.parametrize(
    "preprocessing",
    [
        RGB,
        Preprocessing.uniform("BGR", 127.5, 128.0),
        Preprocessing.uniform("RGB", 0.0, 255.0),
        Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        Preprocessing("BGR", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
        Preprocessing("BGR", (127.5, 127.5, 127.5), (50.0, 100.0, 200.0)),
    ],
    ids=str,
)
def test_every_preprocessing_agrees_with_float(preprocessing: Preprocessing) -> None:
    network = small_network(preprocessing=preprocessing)
    crops = random_crops(32, network.crop_size)
    model = integer_of(network, crops)
    assert cosines(network, model, crops).min() > 0.995
    folded = "Cast" not in kinds(model)
    assert folded == (len(set(preprocessing.mean)) == 1)


def test_the_ranges_of_a_network_that_saw_no_picture_are_all_there() -> None:
    for layout in LAYOUT_NAMES:
        network = flip_network(settled_network(layout))
        ranges = data_free_ranges(network, integer_tensors(network.layers))
        model = integer_model(network, ranges, name="m")
        assert cosines(network, model, random_crops(4, network.crop_size)).mean() > 0.9


def test_rows_do_not_depend_on_the_batch() -> None:
    network = settled_network(LAYOUT_NAMES[0])
    crops = random_crops(8, network.crop_size)
    session = EmbeddingSession(integer_of(network, crops))
    whole = session.embed(crops, batch_size=8)
    for size in (1, 2):
        assert session.embed(crops, batch_size=size) == pytest.approx(whole, abs=1e-5)


def test_crops_of_odd_sides_and_odd_widths_are_taken() -> None:
    rng = np.random.default_rng(0)
    layers = (
        random_conv(rng, "stem", INPUT, (3, 5), (3, 3), stride=2, padding=1, bias=True),
        PRelu("bend", "stem", np.array([-0.4, 0.0, 0.3, 1.0, 2.5], np.float32)),
        random_conv(rng, "depthwise", "bend", (5, 5), (3, 3), padding=1, groups=5),
        PRelu("bend2", "depthwise", np.array([0.2, 0.9, 1.7, -1.2, 0.1], np.float32)),
        random_conv(rng, "map", "bend2", (5, 7), (5, 4)),
        Flatten("flat", "map"),
    )
    network = Network(layers, Size(7, 9), "arcface-112x112", RGB)
    crops = random_crops(20, network.crop_size)
    assert cosines(network, integer_of(network, crops), crops).min() > 0.995


def test_matrix_over_a_whole_map_reads_it_in_its_own_order() -> None:
    rng = np.random.default_rng(0)
    layers = (
        random_conv(rng, "stem", INPUT, (3, 6), (3, 3), padding=1, bias=True),
        Relu("bend", "stem"),
        Flatten("flat", "bend"),
        Linear("embed", "flat", normal(rng, 8, 6 * 5 * 4)),
    )
    network = Network(layers, Size(4, 5), "arcface-112x112", RGB)
    crops = random_crops(20, network.crop_size)
    model = integer_of(network, crops)
    assert cosines(network, model, crops).min() > 0.999
    assert kinds(model)["QGemm"] == 1


def test_relu_costs_no_node_where_it_alone_reads_a_convolution_or_a_sum() -> None:
    model = integer_of(small_network(), random_crops(8, Size(12, 16)))
    assert kinds(model)["Clip"] == 0
    zero = next(t for t in model.graph.initializer if t.name == "bounded.zero_point")
    assert int(numpy_helper.to_array(zero)) == 0


@pytest.mark.parametrize("ceiling", [None, 0.5])
def test_relu_of_a_tensor_that_others_read_too_is_a_clip(ceiling: float | None) -> None:
    rng = np.random.default_rng(0)
    layers = (
        random_conv(rng, "stem", INPUT, (3, 8), (3, 3), padding=1, bias=True),
        Relu("bend", "stem", ceiling),
        random_conv(rng, "next", "bend", (8, 8), bias=True),
        Add("sum", "next", "stem"),
        Relu("end", "sum"),
        random_conv(rng, "embed", "end", (8, 4), (5, 4)),
        Flatten("flat", "embed"),
    )
    network = Network(layers, Size(4, 5), "arcface-112x112", RGB)
    assert integer_tensors(network.layers) == ["stem", "next", "end"]
    crops = random_crops(20, network.crop_size)
    model = integer_of(network, crops)
    assert kinds(model)["Clip"] == 1
    assert cosines(network, model, crops).min() > 0.995


def test_slopes_above_one_that_could_not_be_repaired_stay_in_float() -> None:
    model = integer_of(small_network(), random_crops(8, Size(12, 16)))
    assert kinds(model)["PRelu"] == 1
    assert kinds(model)["DequantizeLinear"] == 1


def test_integer_arithmetic_is_what_the_engine_computes() -> None:
    for network in (settled_network(LAYOUT_NAMES[0]), small_network(linear=True)):
        crops = random_crops(2, network.crop_size)
        model = integer_of(network, crops)
        rows = EmbeddingSession(model).embed(crops)
        # A value that lies between two steps may be rounded either way, and that is carried on.
        assert (rows * simulated(model, crops)).sum(axis=1).min() > 0.9995


# --- balanced and fitted ---


@pytest.mark.parametrize("share", [0.0, 0.08])
@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_fitted_integer_graph_is_closer_to_float_than_a_plain_one(
    layout: str, share: float
) -> None:
    network = settled_network(layout)
    crops = random_crops(48, network.crop_size)
    plain = cosines(network, integer_of(network, crops), crops)
    options = QuantiseOptions(float_share=share)
    fitted = cosines(network, quantise_integer(network, crops, options), crops)
    assert 1 - fitted.mean() < 0.8 * (1 - plain.mean())


def test_the_end_of_an_integer_graph_may_stay_float() -> None:
    network = settled_network(LAYOUT_NAMES[0])
    crops = random_crops(16, network.crop_size)
    model = quantise_integer(network, crops, QuantiseOptions(float_share=0.08))
    found = kinds(model)
    tail = head_layers(network, 0.08)
    assert found["Conv"] + found["Gemm"] == len(tail)
    # The tensor that the end begins with, and the skip of a sum that it cuts through.
    assert found["DequantizeLinear"] in (1, 2)
    assert not found["QGemm"]
    refuse_foreign_content(model.SerializeToString(), where="model")
    session = EmbeddingSession(model)
    whole = session.embed(crops, batch_size=16)
    assert session.embed(crops, batch_size=1) == pytest.approx(whole, abs=1e-5)


def test_without_pictures_the_integer_graph_has_ranges_of_batchnorm() -> None:
    network = settled_network(LAYOUT_NAMES[0])
    model = quantise_integer(network, None, QuantiseOptions())
    assert cosines(network, model, random_crops(4, network.crop_size)).mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_an_integer_graph(method: str) -> None:
    network = small_network()
    crops = random_crops(32, network.crop_size)
    options = QuantiseOptions(method=method, float_share=0.0)
    assert cosines(network, quantise_integer(network, crops, options), crops).min() > 0.98


def test_both_int8_graphs_can_share_what_was_measured() -> None:
    network = small_network()
    crops = random_crops(24, network.crop_size)
    alone = quantise_integer(network, crops, QuantiseOptions())
    activations = quantise(network, crops, QuantiseOptions()).activations
    shared = quantise_integer(network, crops, QuantiseOptions(), activations=activations)
    assert alone.SerializeToString() == shared.SerializeToString()


def test_missing_and_empty_ranges_are_refused_with_the_tensor() -> None:
    network = flip_network(small_network())
    tensors = integer_tensors(network.layers)
    ranges = {name: TensorRange(-1.0, 2.0, "test") for name in tensors}
    for bad in (None, TensorRange(0.0, 0.0, "test"), TensorRange(-np.inf, 1.0, "test")):
        broken = {k: v for k, v in ranges.items() if k != "sum"} | ({"sum": bad} if bad else {})
        with pytest.raises(InvalidInputError, match="tensor 'sum' has no usable range"):
            integer_model(network, broken, name="m")


def test_network_that_is_not_convolutions_and_one_matrix_is_refused() -> None:
    network = small_network(linear=True)
    second = Linear("again", "embed_norm", normal(np.random.default_rng(0), 4, 8))
    longer = replace(network, layers=(*network.layers, second))
    with pytest.raises(ArchitectureError, match="no integer form"):
        integer_tensors(longer.layers)


@pytest.mark.parametrize(
    ("low", "high", "zero_point"),
    [(0.0, 2.55, 0), (-2.55, 0.0, 255), (-1.0, 0.99, 128), (-1.0, 0.5, 170), (0.5, 1.0, 0)],
)
def test_zero_is_met_exactly_and_the_ends_are_covered(
    low: float, high: float, zero_point: int
) -> None:
    encoding = Encoding.of(low, high)
    assert encoding.zero_point == zero_point
    assert encoding.quantise(0.0) == zero_point
    ends = [(q - zero_point) * encoding.scale for q in (0, 255)]
    assert ends[0] <= low + encoding.scale
    assert ends[1] >= high - encoding.scale


# --- the same arithmetic in numpy ---

Array = npt.NDArray[np.float64]


def simulated(model: Any, crops: ImageArray) -> FloatArray:
    """Embeddings by the definition of each operator; sums are exact integers in float64."""
    at: dict[str, Array] = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in model.graph.initializer
    }
    at["crops"] = crops.astype(np.float64)
    for node in model.graph.node:
        inputs = [at[name] for name in node.input]
        if node.op_type == "QLinearConv":
            at[node.output[0]] = _steps(_conv(node, inputs), inputs[6], inputs[7])
        else:
            at[node.output[0]] = OPERATORS[node.op_type](*inputs)
    return at["embeddings"].astype(np.float32)


def _real(steps: Array, scale: Array, zero: Array) -> Array:
    return np.asarray((steps - zero) * scale)


def _steps(values: Array, scale: Array, zero: Array) -> Array:
    return np.asarray(np.clip(np.rint(values / scale) + zero, 0, 255))


OPERATORS: dict[str, Callable[..., Array]] = {
    "QLinearAdd": lambda *x: _steps(_real(*x[0:3]) + _real(*x[3:6]), x[6], x[7]),
    "QGemm": lambda a, sa, za, b, sb, zb, c: ((a - za) @ (b - zb) + c) * sa * sb,
    "QuantizeLinear": _steps,
    "DequantizeLinear": _real,
    "Max": np.maximum,
    "Clip": np.clip,
    "Cast": lambda x: x,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "PRelu": lambda x, slope: np.where(x > 0, x, x * slope),
    "Flatten": lambda x: x.reshape(len(x), -1),
    "ReduceL2": lambda x: np.linalg.norm(x, axis=1, keepdims=True),
}


def _conv(node: Any, x: list[Array]) -> Array:
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    layer = Conv(
        "conv",
        "x",
        x[3].astype(np.float32),
        stride=attributes["strides"][0],
        padding=attributes["pads"][0],
        groups=attributes["group"],
    )
    sums = forward_layer(layer, {"x": (x[0] - x[2]).transpose(0, 3, 1, 2)}).transpose(0, 2, 3, 1)
    bias = x[8] if len(x) > 8 else 0.0
    return np.asarray((sums + bias) * x[1] * x[4])
