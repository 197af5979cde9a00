"""Emitted graphs against a float64 forward, and the folding of BatchNorm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import ArchitectureError
from edgeface.onnx_file import refuse_foreign_content
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgeface_export.graph.emit import INPUT_NAME, OUTPUT_NAME, emit, fold  # noqa: E402
from edgeface_export.graph.reference import reference_embeddings  # noqa: E402
from edgeface_export.graph.session import EmbeddingSession  # noqa: E402
from edgeface_export.parity import measure_parity  # noqa: E402
from tests.builders_export import (  # noqa: E402
    CROP,
    activations,
    random_conv,
    random_crops,
    random_norm,
    small_network,
)

RGB = Preprocessing.uniform("RGB", 127.5, 64.0)
# float32 of unit rows of a net of eight layers; 1e-6 is 17 rounding steps at 1.
TOLERANCE = 1e-6


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def net(*layers: Layer, crop: Size = CROP, spec: Preprocessing = RGB) -> Network:
    return Network(layers, crop, "arcface-112x112", spec)


def run(network: Network, crops: Any) -> FloatArray:
    return EmbeddingSession(emit(network, name="g")).embed(crops)


IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    "spec",
    [
        Preprocessing.uniform("RGB", 0.0, 255.0),
        Preprocessing.uniform("RGB", 127.5, 128.0),
        Preprocessing.uniform("BGR", 127.5, 127.5),
        Preprocessing("RGB", *IMAGENET),
        Preprocessing("BGR", *IMAGENET),
        Preprocessing("BGR", (10.0, 100.0, 200.0), (20.0, 60.0, 180.0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("linear", [False, True], ids=["conv head", "linear head"])
def test_the_graph_computes_what_the_layers_do(spec: Preprocessing, linear: bool) -> None:
    network = small_network(3, preprocessing=spec, linear=linear)
    crops = random_crops(5, CROP)
    expected = unit(activations(network, crops)[network.layers[-1].name])
    np.testing.assert_allclose(run(network, crops), expected, atol=TOLERANCE)
    np.testing.assert_allclose(reference_embeddings(network, crops), expected, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.sampled_from([None, 6.0, 0.5]),
)
def test_graph_and_reference_agree_on_any_weights(
    seed: int, linear: bool, groups: int, ceiling: float | None
) -> None:
    network = small_network(seed, linear=linear, groups=groups, ceiling=ceiling)
    crops = random_crops(2, CROP, seed=seed)
    np.testing.assert_allclose(
        run(network, crops), reference_embeddings(network, crops), atol=TOLERANCE
    )


def test_colour_order_matters_to_the_embedding() -> None:
    """Guards the test above: with a symmetric network it could not see swapped channels."""
    crops = random_crops(2, CROP)
    rgb, bgr = (
        reference_embeddings(small_network(preprocessing=Preprocessing(order, *IMAGENET)), crops)
        for order in ("RGB", "BGR")
    )
    assert np.abs(rgb - bgr).max() > 1e-2
    turned = small_network(preprocessing=Preprocessing("BGR", *IMAGENET))
    swapped = replace_preprocessing(turned, Preprocessing("RGB", *IMAGENET))
    np.testing.assert_allclose(
        run(turned, crops), run(swapped, np.ascontiguousarray(crops[..., ::-1])), atol=TOLERANCE
    )


def replace_preprocessing(network: Network, spec: Preprocessing) -> Network:
    return Network(network.layers, network.crop_size, network.alignment_template, spec)


@pytest.mark.parametrize("first", ["bgr", "two readers"])
def test_bgr_reaches_every_layer_that_reads_the_picture(first: str) -> None:
    rng = np.random.default_rng(1)
    left = random_conv(rng, "left", INPUT, (3, 8), (3, 3), stride=2, padding=1)
    right = random_conv(rng, "right", INPUT, (3, 8), (3, 3), stride=2, padding=1)
    layers: list[Layer] = [left]
    if first == "two readers":
        layers += [right, Add("sum", input="right", skip="left")]
    layers += [Flatten("flatten", layers[-1].name)]
    network = net(*layers, spec=Preprocessing("BGR", *IMAGENET))
    crops = random_crops(2, CROP)
    np.testing.assert_allclose(
        run(network, crops), reference_embeddings(network, crops), atol=TOLERANCE
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"),
    [
        ((1, 1), 1, 0, 1),
        ((1, 1), 2, 0, 1),
        ((3, 3), 1, 1, 1),
        ((3, 3), 2, 1, 1),
        ((3, 3), 2, 0, 1),
        ((5, 3), 3, 2, 1),
        ((16, 12), 1, 0, 1),
        ((3, 3), 1, 1, 3),
        ((16, 12), 1, 0, 3),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_lone_convolution_computes_what_it_says(
    kernel: tuple[int, int], stride: int, padding: int, groups: int, bias: bool
) -> None:
    conv = random_conv(
        np.random.default_rng(0), "c", INPUT, (3, 6), kernel,
        stride=stride, padding=padding, groups=groups, bias=bias,
    )  # fmt: skip
    network = net(conv, Flatten("flatten", "c"))
    crops = random_crops(3, CROP)
    np.testing.assert_allclose(
        run(network, crops), unit(activations(network, crops)["flatten"]), atol=TOLERANCE
    )


@pytest.mark.parametrize("slope", [-2.0, -0.25, 0.0, 0.25, 1.0, 3.0])
def test_prelu_keeps_its_slope_whatever_it_is(slope: float) -> None:
    conv = random_conv(np.random.default_rng(0), "c", INPUT, (3, 4), (3, 3))
    prelu = PRelu("p", "c", np.array([slope, 0.5, -slope, 1.5], np.float32))
    network = net(conv, prelu, Flatten("flatten", "p"))
    crops = random_crops(2, CROP)
    values = activations(network, crops)
    assert (values["c"] < 0).any()
    np.testing.assert_allclose(run(network, crops), unit(values["flatten"]), atol=TOLERANCE)


@pytest.mark.parametrize("ceiling", [None, 6.0, 0.1])
def test_relu_stops_at_its_ceiling_and_nowhere_else(ceiling: float | None) -> None:
    conv = random_conv(np.random.default_rng(0), "c", INPUT, (3, 4), (3, 3))
    network = net(
        replace(conv, weight=conv.weight * 10), Relu("r", "c", ceiling), Flatten("flatten", "r")
    )
    crops = random_crops(2, CROP)
    values = activations(network, crops)
    assert values["c"].max() > 6.5
    assert values["r"].max() == (ceiling or values["c"].max())
    np.testing.assert_allclose(run(network, crops), unit(values["flatten"]), atol=TOLERANCE)


def test_a_row_does_not_depend_on_its_batch() -> None:
    network = small_network()
    session = EmbeddingSession(emit(network, name="g"))
    crops = random_crops(5, CROP)
    alone = session.embed(crops, batch_size=1)
    for batch_size in (1, 2, 5):
        rows = session.embed(crops, batch_size=batch_size)
        assert rows.shape == (5, network.embedding_size)
        np.testing.assert_allclose(rows, alone, atol=TOLERANCE)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=TOLERANCE)


def test_a_zero_embedding_stays_zero_and_never_becomes_nan() -> None:
    conv = random_conv(np.random.default_rng(0), "c", INPUT, (3, 4), (3, 3))
    network = net(replace(conv, weight=conv.weight * 0), Flatten("flatten", "c"))
    np.testing.assert_array_equal(run(network, random_crops(2, CROP)), 0.0)


def test_parity_is_small_for_the_own_graph_and_large_for_another() -> None:
    crops = random_crops(8, CROP)
    network = small_network(0)
    own = measure_parity(network, emit(network, name="g"), crops)
    assert own.difference <= TOLERANCE
    assert own.batch_difference <= TOLERANCE
    assert own.crops == 4
    other = measure_parity(network, emit(small_network(1), name="g"), crops)
    assert other.difference > 0.1


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_parity_of_a_nan_is_infinite() -> None:
    network = small_network()
    model = emit(network, name="g")
    mean = next(t for t in model.graph.initializer if t.name == "mean")
    mean.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), np.nan, np.float32), "mean"))
    assert measure_parity(network, model, random_crops(2, CROP)).difference == float("inf")


def test_the_contract_is_in_the_graph() -> None:
    network = small_network(embedding=8)
    model = emit(network, name="my model")
    assert model.graph.name == "my model"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    (crops,), (rows,) = model.graph.input, model.graph.output
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (crops, rows)
    ]
    assert (crops.name, rows.name) == (INPUT_NAME, OUTPUT_NAME)
    assert shapes == [["n", 16, 12, 3], ["n", 8]]
    types = [value.type.tensor_type.elem_type for value in (crops, rows)]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    refuse_foreign_content(model.SerializeToString(), where="graph")


def test_nodes_are_named_after_their_layers_and_no_name_comes_twice() -> None:
    network = small_network(linear=True)
    model = emit(network, name="g")
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(list(node.output) == [node.name] for node in model.graph.node)
    kept = {layer.name for layer in network.layers if not isinstance(layer, BatchNorm)}
    assert kept < set(names)
    assert not {layer.name for layer in network.layers if isinstance(layer, BatchNorm)} & set(names)
    initialisers = [tensor.name for tensor in model.graph.initializer]
    assert len(set(initialisers)) == len(initialisers)


def test_only_standard_operators_are_used_and_no_batchnorm_is_left() -> None:
    kinds = {node.op_type for node in emit(small_network(linear=True), name="g").graph.node}
    assert kinds == {
        "Add", "Cast", "Clip", "Conv", "Div", "Flatten", "Gemm", "Max", "Mul", "PRelu",
        "ReduceL2", "Sub", "Transpose",
    }  # fmt: skip


def test_emitting_twice_gives_the_same_bytes() -> None:
    first, second = (emit(small_network(), name="g").SerializeToString() for _ in range(2))
    assert first == second


def test_folding_nothing_gives_nothing() -> None:
    assert fold(()) == ()


def test_a_folded_batchnorm_is_gone_and_its_numbers_are_in_the_convolution() -> None:
    conv = Conv("c", INPUT, np.full((2, 3, 1, 1), 2.0, np.float32), np.ones(2, np.float32))
    norm = BatchNorm(
        "n",
        "c",
        gamma=np.array([3, 1], np.float32),
        beta=np.array([5, 0], np.float32),
        mean=np.array([1, 0], np.float32),
        variance=np.array([4, 1], np.float32),
        epsilon=0.0,
    )
    (folded,) = fold((conv, norm))
    assert isinstance(folded, Conv)
    assert folded.bias is not None
    assert folded.name == "c"
    np.testing.assert_allclose(folded.weight[:, 0, 0, 0], [3.0, 2.0])
    np.testing.assert_allclose(folded.bias, [5.0, 1.0])
    np.testing.assert_array_equal(conv.weight, 2.0)


def after_a_sum(rng: np.random.Generator) -> list[Layer]:
    return [
        random_conv(rng, "a", INPUT, (3, 4), (3, 3)),
        random_conv(rng, "b", INPUT, (3, 4), (3, 3)),
        Add("sum", input="a", skip="b"),
        random_norm(rng, "n", "sum", 4),
        Flatten("flatten", "n"),
    ]


def read_twice(rng: np.random.Generator) -> list[Layer]:
    return [
        random_conv(rng, "a", INPUT, (3, 4), (3, 3)),
        random_norm(rng, "n", "a", 4),
        Add("sum", input="n", skip="a"),
        Flatten("flatten", "sum"),
    ]


def after_a_norm(rng: np.random.Generator) -> list[Layer]:
    return [
        random_conv(rng, "a", INPUT, (3, 4), (3, 3)),
        random_norm(rng, "first", "a", 4),
        random_norm(rng, "n", "first", 4),
        Flatten("flatten", "n"),
    ]


@pytest.mark.parametrize("layers", [after_a_sum, read_twice, after_a_norm])
def test_a_batchnorm_without_a_convolution_of_its_own_is_refused(
    layers: Callable[[np.random.Generator], list[Layer]],
) -> None:
    network = net(*layers(np.random.default_rng(0)))
    with pytest.raises(ArchitectureError, match="n: no convolution of its own"):
        emit(network, name="g")
