"""The residual network of examples/train_default: recognised, and computed as its trainer does."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface.types import Size
from edgeface_export.architectures.layouts.residual_edgeface import LAYOUT
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.recognition import recognise
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession

torch = pytest.importorskip("torch")


def student_state() -> dict[str, np.ndarray]:
    from examples.train_default.student import Stage, Student

    torch.manual_seed(5)
    stages = (Stage(8, 2), Stage(12, 4), Stage(16, 2))
    model = Student(stages, stem=6, last=24, size=16)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 112, 112))
    return {name: value.numpy() for name, value in model.state_dict().items()}


def test_the_network_is_recognised_by_its_names() -> None:
    found = recognise({f"state_dict.{name}": array for name, array in student_state().items()})
    assert found.layout is LAYOUT
    assert found.network.crop_size == Size(112, 112)
    assert found.network.embedding_size == 16
    assert sum(layer.name.endswith("add") for layer in found.network.layers) == 5


def test_the_exported_graph_gives_the_trainers_embeddings() -> None:
    from examples.train_default.student import Stage, Student
    from examples.train_default.train import embed

    state = student_state()
    stages = (Stage(8, 2), Stage(12, 4), Stage(16, 2))
    model = Student(stages, stem=6, last=24, size=16).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    crops = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), np.uint8)
    network: Network = recognise(state).network
    ours = EmbeddingSession(emit(network, name="student")).embed(crops)
    np.testing.assert_allclose(ours, embed(model, crops), atol=1e-5)


def test_a_kernel_of_another_crop_size_is_refused() -> None:
    state = student_state()
    state["gdc.conv.weight"] = state["gdc.conv.weight"][:, :, :5, :5]
    with pytest.raises(ArchitectureError, match="7x7"):
        recognise(state)
