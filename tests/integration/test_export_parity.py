"""The emitted graphs against PyTorch forwards of the same weights, on real crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.types import ImageArray
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.architectures.recognition import Recognition, recognise
from edgeface_export.checkpoints import read_checkpoint
from edgeface_export.graph.emit import emit
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession

torch = pytest.importorskip("torch")

# file, layout, template, preprocessing that the trainer's own code used
CHECKPOINTS = [
    (
        "arcface-mobilefacenet-112x96-xiaoccer.ckpt",
        "mobilefacenet-xiaoccer",
        "arcface-112x96",
        Preprocessing.uniform("RGB", 127.5, 128),
    ),
    (
        "arcface-mobilefacenet-relu-112-foamliu.pt",
        "mobilefacenet-foamliu",
        "arcface-112x112",
        Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ),
    (
        "arcface-mobilefacenet-112-bubbliiiing.pth",
        "mobilefacenet-bubbliiiing",
        "arcface-112x112",
        Preprocessing.uniform("RGB", 127.5, 127.5),
    ),
    (
        "arcface-mobilefacenet-small-112x96-lh.ckpt",
        "mobilefacenet-xiaoccer",
        "arcface-112x96",
        Preprocessing.uniform("RGB", 127.5, 128),
    ),
]


def torch_embeddings(
    recognition: Recognition, state: dict, crops: ImageArray
) -> npt.NDArray[np.float32]:
    """Unit embeddings by PyTorch in float32, with the preprocessing written out once more."""
    from tests.reference.mobilefacenets import REFERENCES

    module = REFERENCES[recognition.layout.name](state)
    module.load_state_dict(state, strict=True)
    module.eval()
    spec = recognition.network.preprocessing
    pixels = torch.from_numpy(np.ascontiguousarray(crops)).float()
    values = (pixels - torch.tensor(spec.mean)) / torch.tensor(spec.scale)
    with torch.no_grad():
        features = module(values.permute(0, 3, 1, 2))
    rows: npt.NDArray[np.float32] = torch.nn.functional.normalize(features).numpy()
    return rows


@pytest.mark.integration
@pytest.mark.parametrize(("file", "layout", "template", "preprocessing"), CHECKPOINTS)
def test_emitted_graph_equals_the_torch_forward(
    checkpoints: Path,
    real_crops: dict[str, ImageArray],
    file: str,
    layout: str,
    template: str,
    preprocessing: Preprocessing,
) -> None:
    tensors = {name: t.array for name, t in read_checkpoint(checkpoints / file).tensors.items()}
    recognition = recognise(tensors)
    assert recognition.layout.name == layout
    network = recognition.network
    assert network.alignment_template == template
    assert network.preprocessing.colour_order == preprocessing.colour_order
    np.testing.assert_allclose(network.preprocessing.mean, preprocessing.mean, rtol=1e-6)
    np.testing.assert_allclose(network.preprocessing.scale, preprocessing.scale, rtol=1e-6)

    prefix = recognition.prefix
    state = {
        name[len(prefix) :]: torch.from_numpy(np.array(array))
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    crops = real_crops[template][:8]
    expected = torch_embeddings(recognition, state, crops)
    session = EmbeddingSession(emit(network, name="parity"))
    for batch_size in (1, 2, 8):
        got = session.embed(crops, batch_size=batch_size)
        assert np.abs(got - expected).max() <= 1e-5
    # The torch-free reference that every export is gated on agrees with torch as well.
    assert np.abs(reference_embeddings(network, crops[:2]) - expected[:2]).max() <= 1e-5
