"""Whether crops look to a network like what its BatchNorms saw in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeface.errors import GateFailedError
from edgeface.types import ImageArray, Size

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgeface_export.architectures.network import BatchNorm, Network, Preprocessing
from edgeface_export.gate_limits import GateLimits
from edgeface_export.gates import require_passed
from edgeface_export.graph.emit import emit, fold
from edgeface_export.probes import synthetic_crops
from edgeface_export.statistics_gate import StatisticsFit, measure_statistics, statistics_gates
from tests.builders_export import State, settle, small_network

SIZE = Size(32, 48)
ORDERS = ("RGB", "BGR")
Ruin = Callable[[ImageArray], ImageArray]


def reddish(count: int, *, seed: int = 0) -> ImageArray:
    """Crops with the balance of skin: more red than green, more green than blue."""
    tint = np.array([1.15, 0.85, 0.65])
    tinted = synthetic_crops(count, SIZE, seed=seed) * tint
    return np.asarray(np.clip(tinted, 0, 255), np.uint8)


def trained(order: str) -> Network:
    """A network whose BatchNorms keep the statistics of reddish crops."""
    spec = Preprocessing.uniform(order, 127.5, 64.0)
    network = small_network(preprocessing=spec, crop=SIZE)
    state: State = {}
    settle(network, reddish(32, seed=9), state)
    layers = tuple(
        replace(
            layer,
            mean=state[f"{layer.name}.running_mean"],
            variance=state[f"{layer.name}.running_var"],
        )
        if isinstance(layer, BatchNorm)
        else layer
        for layer in network.layers
    )
    return replace(network, layers=layers)


def fit_of(network: Network, crops: ImageArray) -> StatisticsFit:
    fit = measure_statistics(network, emit(network, name="g"), crops)
    assert fit is not None
    return fit


def failed(fit: StatisticsFit) -> list[str]:
    return [gate.gate for gate in statistics_gates(fit, GateLimits()) if not gate.passed]


@pytest.mark.parametrize("order", ORDERS)
def test_crops_like_those_of_the_training_pass_with_room(order: str) -> None:
    fit = fit_of(trained(order), reddish(64))
    assert failed(fit) == []
    assert fit.first_layer < 0.1
    assert fit.all_layers < 0.1
    assert fit.colour_ratio < 0.5
    assert fit.crops == 64


@pytest.mark.parametrize("order", ORDERS)
def test_exchanged_colours_are_named_as_such(order: str) -> None:
    fit = fit_of(trained(order), np.ascontiguousarray(reddish(64)[..., ::-1]))
    assert "colours as declared over colours exchanged" in failed(fit)
    with pytest.raises(GateFailedError, match="in the wrong colour order, or the preprocessing"):
        require_passed(statistics_gates(fit, GateLimits()))


@pytest.mark.parametrize("order", ORDERS)
def test_a_network_that_declares_the_wrong_order_is_caught_as_well(order: str) -> None:
    network = trained(order)
    other = Preprocessing.uniform("BGR" if order == "RGB" else "RGB", 127.5, 64.0)
    fit = fit_of(replace(network, preprocessing=other), reddish(64))
    assert "colours as declared over colours exchanged" in failed(fit)


def test_another_scale_is_caught_in_the_first_layer() -> None:
    network = replace(trained("RGB"), preprocessing=Preprocessing.uniform("RGB", 0.0, 255.0))
    assert "distance of the first layer" in failed(fit_of(network, reddish(64)))


def noise(crops: ImageArray) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, crops.shape).astype(np.uint8)


def blank(crops: ImageArray) -> ImageArray:
    return np.broadcast_to(crops.mean(axis=(1, 2), keepdims=True), crops.shape).astype(np.uint8)


def shuffled(crops: ImageArray) -> ImageArray:
    rng = np.random.default_rng(0)
    flat = crops.reshape(len(crops), -1, 3)
    return np.stack([rng.permutation(crop) for crop in flat]).reshape(crops.shape)


@pytest.mark.parametrize("ruin", [noise, blank])
def test_ruined_crops_are_not_what_the_model_was_trained_on(ruin: Ruin) -> None:
    assert "distance of the crops to the training" in failed(
        fit_of(trained("RGB"), ruin(reddish(64)))
    )


def test_shuffled_pixels_are_further_from_the_training_than_crops() -> None:
    # Random filters care less for what lies side by side than trained ones, which fail the gate.
    network = trained("RGB")
    whole, ruined = (fit_of(network, crops) for crops in (reddish(64), shuffled(reddish(64))))
    assert ruined.all_layers > 5 * whole.all_layers


def test_grey_crops_are_not_taken_for_exchanged_ones() -> None:
    grey = np.repeat(reddish(64).mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    assert fit_of(trained("RGB"), grey).colour_ratio == pytest.approx(1.0)


def test_one_crop_is_enough_to_measure() -> None:
    assert np.isfinite(fit_of(trained("RGB"), reddish(1)).all_layers)


def test_a_channel_that_is_switched_off_does_not_count() -> None:
    network = trained("RGB")
    first = next(layer for layer in network.layers if isinstance(layer, BatchNorm))
    gamma = first.gamma.copy()
    gamma[0] = 0.0
    layers = tuple(replace(each, gamma=gamma) if each is first else each for each in network.layers)
    assert fit_of(replace(network, layers=layers), reddish(64)).first_layer < 0.1


def test_a_network_without_batchnorm_tells_nothing() -> None:
    network = small_network(crop=SIZE)
    folded = replace(network, layers=fold(network.layers))
    assert measure_statistics(folded, emit(folded, name="g"), reddish(4)) is None
