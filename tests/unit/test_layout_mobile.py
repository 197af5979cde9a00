"""GhostNets and MobileNets for faces: what their ends tell, published sizes, hard activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface.types import Size
from edgeface_export.architectures.network import (
    INPUT,
    BatchNorm,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
)
from edgeface_export.architectures.operations import HardSigmoid, HardSwish
from edgeface_export.architectures.recognition import recognise
from edgeface_export.graph.emit import emit
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise.data_free import data_free_ranges
from tests.builders_export import normal, random_conv, random_crops, random_norm

torch = pytest.importorskip("torch")
ghostnets = pytest.importorskip("tests.reference.ghostnets")
mobilenets = pytest.importorskip("tests.reference.mobilenets")

CROP = Size(16, 16)


def state_of(module: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("side", "template"),
    [((4, 4), "arcface-112x112"), ((4, 3), "arcface-112x96"), ((5, 5), "arcface-160x160")],
)
def test_the_last_kernel_tells_the_crops(side: tuple[int, int], template: str) -> None:
    found = recognise(state_of(ghostnets.GhostFaceNetV1(width=0.1, side=side)))
    assert found.network.alignment_template == template


def test_the_columns_of_the_last_matrix_tell_the_crops() -> None:
    found = recognise(state_of(ghostnets.EvolveGhostNet(width=0.1, positions=42)))
    assert found.network.alignment_template == "arcface-112x96"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ghostnets.GhostFaceNetV1(width=0.1, side=1),
        lambda: ghostnets.GhostFaceNetV1(width=0.1, side=8),
        lambda: ghostnets.EvolveGhostNet(width=0.1, positions=16),
    ],
)
def test_a_map_of_no_known_crops_is_refused_with_those_that_are(make: Any) -> None:
    with pytest.raises(ArchitectureError, match=r"no known crops; known are .*arcface-112x96"):
        recognise(state_of(make()))


def test_one_slope_for_all_channels_is_that_of_each() -> None:
    state = state_of(ghostnets.GhostFaceNetV1(width=0.1))
    state["act1.weight"] = np.array([0.3], np.float32)
    first = next(x for x in recognise(state).network.layers if isinstance(x, PRelu))
    np.testing.assert_array_equal(first.slope, np.full(4, 0.3, np.float32))


def test_a_second_version_of_ghostfacenet_is_not_taken_for_the_first() -> None:
    state = state_of(ghostnets.GhostFaceNetV1(width=0.1))
    state["blocks.3.0.ghost1.short_conv.0.weight"] = np.ones((8, 4, 1, 1), np.float32)
    with pytest.raises(ArchitectureError, match=r"another network.*\n?.*leaving them out"):
        recognise(state)


@pytest.mark.parametrize(
    ("name", "millions", "options"),
    [
        ("mobilenet-v1-yakhyo", 0.36, {"width": 0.25}),
        ("mobilenet-v2-yakhyo", 2.29, {"width": 1.0, "last": 512}),
        ("mobilenet-v3-small-yakhyo", 1.25, {"width": 1.0}),
        ("mobilenet-v3-large-yakhyo", 3.52, {"width": 1.0}),
    ],
)
def test_the_published_networks_have_their_published_sizes(
    name: str, millions: float, options: dict[str, Any]
) -> None:
    state = state_of(mobilenets.MOBILENETS[name](size=512, **options))
    found = recognise(state)
    assert found.layout.name == name
    # Of the trainer's table, cut to two places; without biases V2 has 2.28, large V3 3.51.
    assert int(found.network.parameters / 1e4) == round(millions * 100)


def hard_network() -> Network:
    """A hard swish between two convolutions, and a hard sigmoid of another slope."""
    rng = np.random.default_rng(3)
    layers: list[Layer] = [
        random_conv(rng, "stem", INPUT, (3, 16), (3, 3), stride=2, padding=1),
        random_norm(rng, "norm", "stem", 16),
        HardSwish("swish", "norm"),
        random_conv(rng, "next", "swish", (16, 16)),
        random_norm(rng, "next_norm", "next", 16),
        HardSigmoid("sigmoid", "next_norm", steepness=0.2, middle=0.4),
        GlobalAveragePool("pool", "sigmoid"),
        Flatten("flat", "pool"),
        Linear("embed", "flat", normal(rng, 8, 16)),
    ]
    spec = Preprocessing.uniform("RGB", 127.5, 64.0)
    return Network(tuple(layers), CROP, "arcface-112x112", spec)


def test_hard_activations_are_emitted_as_they_are_defined() -> None:
    network, crops = hard_network(), random_crops(3, CROP)
    model = emit(network, name="hard")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("HardSigmoid") == 2
    assert "HardSwish" not in kinds
    rows = EmbeddingSession(model).embed(crops)
    np.testing.assert_allclose(reference_embeddings(network, crops), rows, atol=1e-5)


def test_the_moments_behind_a_hard_swish_are_those_of_samples() -> None:
    network = hard_network()
    norm = network.layers[1]
    assert isinstance(norm, BatchNorm)
    x = norm.beta + np.random.default_rng(0).standard_normal((200_000, 16)) * norm.gamma
    y = x * np.clip(x + 3, 0, 6) / 6
    found = data_free_ranges(network, ["swish"], deviations=3.0)["swish"]
    high = (y.mean(axis=0) + 3 * y.std(axis=0)).max()
    assert found.high == pytest.approx(high, rel=0.01)
    assert found.low == pytest.approx(-0.375)
