"""INT8 of backbones that are no MobileFaceNet: an IResNet's all, an EdgeFace's some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeface.errors import ActivationSetError, ArchitectureError
from edgeface.types import ImageArray, Size
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.operations import Gelu
from edgeface_export.architectures.recognition import recognise
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise import Quantised, QuantiseOptions, quantise
from edgeface_export.quantise.integer_fit import quantise_integer
from edgeface_export.synthetic_faces import load_synthetic_faces

torch = pytest.importorskip("torch")
families = pytest.importorskip("tests.reference.families")

CROPS = 12


@pytest.fixture(scope="module")
def faces() -> ImageArray:
    return load_synthetic_faces(Size(112, 112))[: CROPS + 4]


def network_of(module: Any, faces: ImageArray) -> Network:
    """The network of ``module``, whose BatchNorms have seen ``faces``."""
    module = families.settled(module, (112, 112)).train()
    pixels = (faces.astype(np.float32) - 127.5) / 127.5
    with torch.no_grad():
        module(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    return recognise({name: value.numpy() for name, value in module.state_dict().items()}).network


def int8_of(network: Network, faces: ImageArray) -> tuple[Quantised, float]:
    """INT8 of ``network`` and its mean cosine to float on faces that set no range."""
    made = quantise(network, faces[:CROPS], QuantiseOptions())
    float_rows, rows = (
        EmbeddingSession(model).embed(faces[CROPS:])
        for model in (emit(network, name="float"), made.model)
    )
    return made, float((float_rows * rows).sum(axis=1).mean())


def share(network: Network, made: Quantised) -> float:
    costs = network.multiply_adds()
    return sum(costs[name] for name in made.placement.nodes) / sum(costs.values())


@pytest.mark.integration
def test_an_iresnet_is_int8_but_for_its_norms_and_its_end(faces: ImageArray) -> None:
    network = network_of(families.ArcFaceTorch(18, widths=(16, 16, 16, 24, 32)), faces)
    made, cosine = int8_of(network, faces)
    # Random weights of 16 to 32 channels have less to average rounding out than trained ones.
    assert cosine > 0.95
    assert share(network, made) > 0.75
    reasons = {name: why for name, why in made.placement.kept_float.items() if ".bn1.in" in name}
    assert reasons
    assert any("1x1 kernel" in why for why in reasons.values())


@pytest.mark.integration
def test_an_excited_block_adds_its_projection_as_the_convolution(faces: ImageArray) -> None:
    module = families.Ir(18, widths=(16, 16, 24, 32, 40), se=True)
    made, cosine = int8_of(network_of(module, faces), faces)
    assert cosine > 0.95
    sums = {node.name: node for node in made.model.graph.node if node.op_type == "Add"}
    assert sums["body.2.add"].input[0] == "body.2.gate.dequantised"
    assert sums["body.2.add"].input[1] == "body.2.shortcut_layer.0"


@pytest.mark.integration
def test_of_an_edgeface_the_convolutions_are_int8_and_what_reads_gelu_is_not(
    faces: ImageArray,
) -> None:
    module = families.EdgeFace((2, 2, 6, 2), low_rank=False, widths=(16, 24, 32, 48))
    network = network_of(module, faces)
    made, cosine = int8_of(network, faces)
    assert cosine > 0.95
    assert 0.3 < share(network, made) < 0.7
    gelus = {layer.name for layer in network.layers if isinstance(layer, Gelu)}
    behind = {layer.name for layer in network.layers if layer.input in gelus}
    assert behind
    assert behind.isdisjoint(made.placement.nodes)
    assert {"Sum", "Erf"} <= {node.op_type for node in made.model.graph.node}


def test_attention_has_no_integer_form_and_no_ranges_without_crops(faces: ImageArray) -> None:
    network = network_of(families.EdgeFace((2, 2, 6, 2), low_rank=False), faces)
    with pytest.raises(ArchitectureError, match="CrossCovariance"):
        quantise_integer(network, faces[:4], QuantiseOptions())
    with pytest.raises(ActivationSetError, match="give an activation set"):
        quantise(network, None, QuantiseOptions())
