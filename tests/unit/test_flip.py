from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeface.types import Size
from edgeface_export.architectures.network import (
    INPUT,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
)
from edgeface_export.graph.emit import emit, fold
from edgeface_export.graph.flip import flip, flip_network
from edgeface_export.graph.reference import reference_embeddings
from tests.builders_export import (
    LAYOUT_NAMES,
    normal,
    random_conv,
    random_crops,
    settled_network,
    small_network,
)


def slopes_above_one(layers: tuple[Layer, ...]) -> dict[str, int]:
    return {
        layer.name: int((layer.slope > 1).sum())
        for layer in layers
        if isinstance(layer, PRelu) and (layer.slope > 1).any()
    }


def difference(before: Network, after: Network, count: int = 3) -> float:
    crops = random_crops(count, before.crop_size)
    rows = reference_embeddings(before, crops), reference_embeddings(after, crops)
    return float(np.abs(rows[0] - rows[1]).max())


def chain(reader: Layer, *rest: Layer, groups: int = 1) -> Network:
    """A stem with slopes up to 3, what reads it, and a matrix at the end."""
    rng = np.random.default_rng(3)
    stem = random_conv(rng, "stem", INPUT, (3, 8), (3, 3), padding=1, bias=True)
    slope = np.linspace(-1.0, 3.0, 8, dtype=np.float32)
    layers = (stem, PRelu("bend", "stem", slope), reader, *rest)
    return Network(layers, Size(6, 5), "arcface-112x112", small_network().preprocessing)


def matrix(x: str, width: int) -> Linear:
    return Linear("embed", x, normal(np.random.default_rng(4), 6, width))


RNG = np.random.default_rng(5)
CHAINS = {
    "depthwise": chain(
        random_conv(RNG, "next", "bend", (8, 8), (3, 3), padding=1, groups=8),
        Flatten("flat", "next"),
        matrix("flat", 8 * 30),
    ),
    "depthwise with two filters a channel": chain(
        Conv("next", "bend", normal(RNG, 16, 1, 3, 3), groups=8),
        Flatten("flat", "next"),
        matrix("flat", 16 * 12),
    ),
    "grouped": chain(
        random_conv(RNG, "next", "bend", (8, 12), (1, 1), groups=4),
        Flatten("flat", "next"),
        matrix("flat", 12 * 30),
    ),
    "matrix after flattening": chain(Flatten("flat", "bend"), matrix("flat", 8 * 30)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_every_kind_of_reader_is_repaired_exactly(name: str) -> None:
    network = CHAINS[name]
    flipped = flip_network(network)
    assert slopes_above_one(network.layers)
    assert not slopes_above_one(flipped.layers)
    assert difference(network, flipped) < 1e-6


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
@pytest.mark.parametrize("folded", [False, True])
def test_flipped_mobilefacenet_gives_the_same_embeddings(layout: str, folded: bool) -> None:
    network = settled_network(layout)
    if folded:
        network = replace(network, layers=fold(network.layers))
    flipped = flip_network(network)
    # The only PReLU of these layouts that a sum reads.
    summed = {"layers.0.layers.2"} if layout == "mobilefacenet-large-arcface-torch" else set()
    assert set(slopes_above_one(flipped.layers)) == summed
    assert difference(network, flipped, 2) < 1e-6


def test_flipping_before_and_after_folding_is_the_same() -> None:
    network = settled_network(next(name for name in LAYOUT_NAMES if "xiaoccer" in name))
    one, other = fold(flip(network.layers)), flip(fold(network.layers))
    for a, b in zip(one, other, strict=True):
        if isinstance(a, Conv) and isinstance(b, Conv):
            assert a.weight == pytest.approx(b.weight, rel=1e-5, abs=1e-7)


def test_prelu_that_a_sum_reads_is_left_alone() -> None:
    network = small_network()
    before, after = slopes_above_one(network.layers), slopes_above_one(flip(network.layers))
    assert set(before) == {"stem_prelu", "down_prelu"}
    assert set(after) == {"stem_prelu"}
    assert difference(network, flip_network(network)) < 1e-6


def test_network_without_such_slopes_is_returned_as_it_is() -> None:
    layers = tuple(
        replace(layer, slope=np.minimum(layer.slope, 1.0)) if isinstance(layer, PRelu) else layer
        for layer in small_network().layers
    )
    assert flip(layers) == layers
    assert flip(()) == ()


def test_a_flipped_network_can_be_emitted() -> None:
    assert emit(flip_network(small_network()), name="flipped").graph.name == "flipped"
