"""INT8 of backbones that are no MobileFaceNet: of an IResNet all, of an EdgeFace a part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeface.errors import ActivationSetError, ArchitectureError
from edgeface.types import ImageArray, Size
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.operations import Gelu, HardSwish
from edgeface_export.architectures.recognition import recognise
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise import Quantised, QuantiseOptions, quantise
from edgeface_export.quantise.integer_fit import quantise_integer
from edgeface_export.synthetic_faces import load_synthetic_faces

torch = pytest.importorskip("torch")
families = pytest.importorskip("tests.reference.families")
ghostnets = pytest.importorskip("tests.reference.ghostnets")
mobilenets = pytest.importorskip("tests.reference.mobilenets")

CROPS = 12


@pytest.fixture(scope="module")
def faces() -> ImageArray:
    return load_synthetic_faces(Size(112, 112))[: CROPS + 4]


def network_of(module: Any, faces: ImageArray, *, calm: float = 0.0) -> Network:
    """The network of ``module``, whose BatchNorms have seen ``faces``."""
    module = families.settled(module, (112, 112), calm=calm).train()
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


@pytest.mark.integration
def test_a_mobilenet_is_int8_but_for_its_excitation_and_its_end(faces: ImageArray) -> None:
    torch.manual_seed(0)
    module = mobilenets.YakhyoV3(mobilenets.V3_SMALL, width=1.0)
    network = network_of(module, faces, calm=1.5)
    assert any(isinstance(layer, HardSwish) for layer in network.layers)
    made, cosine = int8_of(network, faces)
    assert cosine > 0.99
    assert share(network, made) > 0.8
    reasons = made.placement.kept_float
    assert sum("reads a hard swish" in why for why in reasons.values()) == 9
    excitation = [name for name in network.multiply_adds() if name.endswith((".fc1", ".fc2"))]
    assert len(excitation) == 18
    assert all("one position" in reasons[name] for name in excitation)
    data_free = EmbeddingSession(quantise(network, None, QuantiseOptions()).model).embed(faces)
    rows = EmbeddingSession(emit(network, name="float")).embed(faces)
    assert float((data_free * rows).sum(axis=1).mean()) > 0.95


@pytest.mark.integration
def test_a_ghostnet_is_int8_but_where_channels_are_put_together(faces: ImageArray) -> None:
    torch.manual_seed(0)
    module = ghostnets.GhostFaceNetV1(width=1.0)
    made, cosine = int8_of(network := network_of(module, faces, calm=1.5), faces)
    assert cosine > 0.99
    assert share(network, made) > 0.8
    kinds = {node.op_type for node in made.model.graph.node}
    assert {"Concat", "Sum", "HardSigmoid"} <= kinds
    assert "Add" not in kinds


def test_attention_has_no_integer_form_and_no_ranges_without_crops(faces: ImageArray) -> None:
    network = network_of(families.EdgeFace((2, 2, 6, 2), low_rank=False), faces)
    with pytest.raises(ArchitectureError, match="CrossCovariance"):
        quantise_integer(network, faces[:4], QuantiseOptions())
    with pytest.raises(ActivationSetError, match="give an activation set"):
        quantise(network, None, QuantiseOptions())
