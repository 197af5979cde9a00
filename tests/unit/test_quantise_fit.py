"""Weights and biases of an INT8 graph, fitted to what its layers read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface_export.architectures.network import Conv, Linear
from tests.builders_export import CROP, random_crops, settled_network, small_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
numpy_helper = onnx.numpy_helper

from edgeface_export.graph.session import EmbeddingSession  # noqa: E402
from edgeface_export.quantise import QuantiseOptions, quantise  # noqa: E402
from edgeface_export.quantise.fit import mean_outputs, some_crops  # noqa: E402
from edgeface_export.quantise.integer_fit import quantise_integer  # noqa: E402
from edgeface_export.quantise.qdq import quantise_weight  # noqa: E402
from edgeface_export.quantise.rounding import fit_weight  # noqa: E402
from edgeface_export.quantise.walk import GraphWalk, Patches  # noqa: E402

Array = npt.NDArray[np.float64]
FORMS = [(12, 16, 1, 1, 1), (8, 1, 3, 3, 8), (6, 4, 2, 2, 3)]
"""Shapes of weights, and the number of groups."""


def correlated(rng: np.random.Generator, groups: int, size: int) -> Array:
    """Covariances of inputs that have much in common."""
    mixed = rng.normal(size=(groups, size, size)) / size
    return np.asarray(mixed @ mixed.transpose(0, 2, 1) + 0.3 * rng.uniform(0.5, 2, (groups, 1, 1)))


def output_error(weight: Any, steps: Any, scales: Any, covariance: Array) -> float:
    groups, size, _ = covariance.shape
    shape = (-1,) + (1,) * (weight.ndim - 1)
    lost = (steps * scales.reshape(shape) - weight).reshape(groups, -1, size).astype(np.float64)
    return float(np.einsum("gok,gkl,gol->", lost, covariance, lost))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from([(12, 16, 1, 1, 1), (8, 1, 3, 3, 8), (6, 4, 2, 2, 3)])
)
def test_fitted_weights_change_the_output_less_than_rounded_ones(
    seed: int, form: tuple[int, int, int, int, int]
) -> None:
    *shape, groups = form
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=shape).astype(np.float32)
    covariance = correlated(rng, groups, int(np.prod(shape[1:])))
    rounded, scales = quantise_weight(weight)
    fitted = fit_weight(weight, scales, covariance)
    assert fitted.dtype == np.int8
    assert fitted.shape == weight.shape
    assert np.abs(fitted.astype(int)).max() <= 127
    assert output_error(weight, fitted, scales, covariance) < output_error(
        weight, rounded, scales, covariance
    )


def test_inputs_that_have_nothing_in_common_leave_rounding_as_it_is() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 16, 1, 1)).astype(np.float32)
    rounded, scales = quantise_weight(weight)
    covariance = np.diag(rng.uniform(0.1, 9, 16))[None]
    np.testing.assert_array_equal(fit_weight(weight, scales, covariance), rounded)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e12])
def test_dead_and_huge_inputs_are_no_trouble(scale: float) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    weight[1] = 0
    rounded, scales = quantise_weight(weight)
    fitted = fit_weight(weight, scales, np.full((1, 3, 3), scale))
    assert np.abs(fitted.astype(int) - rounded).max() <= 127
    np.testing.assert_array_equal(fitted[1], 0)


# ------------------------------------------------------------------------- patches


def every_patch(patches: Patches) -> Array:
    """(patches, channels, kernel places), by the definition of a convolution."""
    real = (patches.steps.astype(np.float64) - patches.zero) * patches.scale
    p = patches.padding
    real = np.pad(real, ((0, 0), (0, 0), (p, p), (p, p)))
    height, width = patches.kernel
    found = [
        real[n, :, y : y + height, x : x + width].reshape(real.shape[1], -1)
        for n in range(len(real))
        for y in range(0, real.shape[2] - height + 1, patches.stride)
        for x in range(0, real.shape[3] - width + 1, patches.stride)
    ]
    return np.array(found)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (7, 6)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("zero", [0, 100])
def test_mean_and_covariance_of_patches_are_the_true_ones(
    kernel: tuple[int, int], stride: int, padding: int, zero: int
) -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 127, (40, 4, 9, 8)).astype(np.uint8 if zero else np.int8)
    patches = Patches(steps, 0.25, zero, kernel, stride, padding, groups=4)
    every = every_patch(patches)
    assert patches.positions == len(every)
    np.testing.assert_allclose(patches.mean(), every.mean(axis=0), rtol=1e-9, atol=1e-9)
    found = patches.covariance()
    assert (found is None) == (len(every) < 4 * kernel[0] * kernel[1])
    if found is not None:
        centred = every - every.mean(axis=0)
        expected = np.einsum("ncj,nck->cjk", centred, centred) / len(every)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_too_few_patches_tell_no_covariance() -> None:
    steps = np.zeros((3, 16, 1, 1), np.int8)
    assert Patches(steps, 1.0, 0, (1, 1), 1, 0, groups=1).covariance() is None


# ------------------------------------------------------------------------- the walk


@pytest.mark.parametrize("linear", [False, True])
def test_what_a_walk_stores_is_what_the_graph_computes(linear: bool) -> None:
    network = small_network(linear=linear)
    crops = random_crops(20, CROP)
    model = quantise(network, crops, QuantiseOptions(float_share=0.0)).model
    layers = [x.name for x in network.layers if isinstance(x, Conv | Linear)]
    walk = GraphWalk(model, crops, layers)
    seen = []
    for node in walk.layers():
        seen.append(node.name)
        patches = walk.patches(node)
        source = node.input[0].removesuffix(".dequantised")
        name = f"{source}.quantised" if source != node.input[0] else source
        expected = whole_graph(model, name, crops)
        np.testing.assert_array_equal(
            patches.steps.reshape(expected.shape), expected, err_msg=node.name
        )
    assert seen == layers


def whole_graph(model: Any, tensor: str, crops: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kind = onnx.TensorProto.INT8 if tensor.endswith(".quantised") else onnx.TensorProto.FLOAT
    del copy.graph.output[:]
    copy.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
    session = EmbeddingSession(copy, outputs=[tensor])
    return np.concatenate([session.run(crops[k : k + 16])[0] for k in range(0, len(crops), 16)])


def test_layers_to_fit_are_few_crops_taken_evenly() -> None:
    crops = np.arange(1000, dtype=np.uint8).reshape(1000, 1, 1, 1)
    some = some_crops(crops)
    assert len(some) < 100
    assert some[0] == crops[0]
    assert some[-1] == crops[-1]
    assert len(some_crops(crops[:3])) == 3


# ------------------------------------------------------------------------- fitted graphs


def means(model: Any, layers: list[str], crops: Any) -> dict[str, Array]:
    return mean_outputs(model, layers, crops)


def mean_error(made: Any, crops: Any) -> float:
    layers = [x.name for x in made.layers if isinstance(x, Conv | Linear)]
    before, after = means(made.float_model, layers, crops), means(made.model, layers, crops)
    return float(
        np.mean([np.abs(after[n] - before[n]).mean() / np.abs(before[n]).mean() for n in layers])
    )


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_mean_of_every_channel_is_that_of_float(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = settled_network("mobilefacenet-xiaoccer")
    crops = random_crops(24, network.crop_size)
    fitted = mean_error(quantise(network, crops, QuantiseOptions(float_share=share)), crops)
    monkeypatch.setattr("edgeface_export.quantise.fit_layers", lambda *_, **__: None)
    plain = mean_error(quantise(network, crops, QuantiseOptions(float_share=share)), crops)
    assert fitted < 2e-3
    assert fitted < 0.3 * plain


def test_fitting_brings_int8_closer_to_float_on_other_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = settled_network("mobilefacenet-xiaoccer")
    crops, others = (random_crops(48, network.crop_size, seed=s) for s in (0, 1))
    options = QuantiseOptions(float_share=0.0)
    fitted = quantise(network, crops, options)
    monkeypatch.setattr("edgeface_export.quantise.fit_layers", lambda *_, **__: None)
    plain = quantise(network, crops, options)
    expected = EmbeddingSession(fitted.float_model).embed(others)
    lost = [
        1 - (EmbeddingSession(made.model).embed(others) * expected).sum(axis=1).mean()
        for made in (plain, fitted)
    ]
    assert lost[1] < 0.9 * lost[0]


def test_making_a_graph_twice_gives_the_same_bytes() -> None:
    network = small_network()
    crops = random_crops(24, CROP)
    for integer in (False, True):
        first, second = (made_bytes(network, crops, integer=integer) for _ in range(2))
        assert first == second


def made_bytes(network: Any, crops: Any, *, integer: bool) -> bytes:
    options = QuantiseOptions()
    if integer:
        model = quantise_integer(network, crops, options)
    else:
        model = quantise(network, crops, options).model
    return bytes(model.SerializeToString(deterministic=True))
