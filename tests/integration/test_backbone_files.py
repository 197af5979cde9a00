"""Real files that are no plain checkpoint of a MobileFaceNet, against forwards of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import CheckpointFormatError
from edgeface.types import ImageArray
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.intake.opening import Intake, open_model

torch = pytest.importorskip("torch")

CAFFE = "amsoftmax-mobilefacenet-112x96-zhanglaplace"
EDGEFACE = "cosface-edgeface-xxs-dynamic-int8.pt"


@pytest.mark.integration
def test_a_caffe_network_gives_the_embeddings_that_caffe_gives(
    checkpoints: Path, real_crops: dict[str, ImageArray]
) -> None:
    pytest.importorskip("google.protobuf")
    from tests.reference.caffe import CaffeNet

    weights = checkpoints / f"{CAFFE}.caffemodel"
    found = open_model(weights).recognition
    assert found.network.alignment_template == "arcface-112x96"
    assert found.network.preprocessing == Preprocessing.uniform("BGR", 127.5, 128)
    assert found.dropped == ()
    crops = real_crops["arcface-112x96"][:8]
    pixels = (crops[..., ::-1].astype(np.float32) - 127.5) * 0.0078125
    net = CaffeNet(checkpoints / f"{CAFFE}.prototxt", weights)
    with torch.no_grad():
        features = net(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    expected = torch.nn.functional.normalize(features).numpy()
    ours = EmbeddingSession(emit(found.network, name="caffe")).embed(crops)
    assert np.abs(ours - expected).max() <= 1e-5


@pytest.mark.integration
def test_weights_without_their_description_say_where_it_is_looked_for(
    checkpoints: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "net.caffemodel"
    weights.symlink_to(checkpoints / f"{CAFFE}.caffemodel")
    with pytest.raises(CheckpointFormatError, match=r"net\.prototxt beside it, found none"):
        open_model(weights)
    given = Intake(description=checkpoints / f"{CAFFE}.prototxt")
    assert open_model(weights, given).recognition.network.embedding_size == 128


@pytest.mark.integration
def test_the_dynamically_quantised_edgeface_gives_the_embeddings_of_torch(
    checkpoints: Path, real_crops: dict[str, ImageArray]
) -> None:
    from tests.reference.families import EdgeFaceXxs

    opened = open_model(checkpoints / EDGEFACE)
    found = opened.recognition
    assert found.layout.name == "edgeface-xxs"
    assert any("quantised" in note for note in opened.checkpoint.notes)
    state = {}
    for name, tensor in opened.checkpoint.tensors.items():
        key = name.removeprefix("model.")
        key = key.replace("._packed_params._packed_params.0", ".weight")
        key = key.replace("._packed_params._packed_params.1", ".bias")
        if not key.endswith((".scale", ".zero_point")):
            state[key] = torch.from_numpy(np.array(tensor.array))
    module = EdgeFaceXxs()
    module.load_state_dict(state, strict=True)
    crops = real_crops["arcface-112x112"][:4]
    pixels = (crops.astype(np.float32) - 127.5) / 127.5
    with torch.no_grad():
        features = module.eval()(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    expected = torch.nn.functional.normalize(features).numpy()
    ours = EmbeddingSession(emit(found.network, name="edgeface")).embed(crops)
    assert np.abs(ours - expected).max() <= 1e-5
