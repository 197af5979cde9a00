"""Every loss of the literature, saved as its community saves: the right network is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.types import Size
from edgeface_export.synthetic_faces import load_synthetic_faces

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

from edgeface_export.architectures.beside import RAW_COPY
from edgeface_export.architectures.recognition import recognise
from edgeface_export.checkpoints import read_checkpoint
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.loss_facts import known_training
from examples.train_default.train import embed
from examples.train_with_any_loss.faces import Faces, read_faces
from examples.train_with_any_loss.recipes import RECIPES
from examples.train_with_any_loss.train import Options, save, train

PREFIXES = {
    "softmax": "state_dict.module.",
    "center": "net_state_dict.",
    "contrastive": "backbone.",
    "triplet": "model_state_dict.",
    "triplet-batch-hard": "ema_state_dict.",
    "margin-based": "state_dict.model.",
    "l-softmax": "model.",
    "sphereface": "backbone.",
    "normface": "backbone.",
    "cosface": "",
    "am-softmax": "ema.shadow.",
    "arcface": "state_dict_backbone.module.",
    "sub-center-arcface": "avg_model.module.",
    "adaface": "state_dict.model.",
    "magface": "state_dict.features.module.",
}
# Which of them the checkpoint itself tells; the others are told with `--loss`.
TOLD = {
    "center": "softmax + center loss",
    "triplet": "triplet",
    "triplet-batch-hard": "triplet",
    "margin-based": "margin-based",
    "l-softmax": "L-Softmax",
    "normface": "NormFace",
    "am-softmax": "CosFace",
    "arcface": "ArcFace",
    "sub-center-arcface": "sub-center ArcFace",
    "adaface": "AdaFace",
    "magface": "MagFace",
}
WITH_A_HEAD = set(RECIPES) - {
    "triplet", "triplet-batch-hard", "margin-based", "cosface",
}  # fmt: skip
WITH_AN_OPTIMISER = {"softmax", "triplet", "margin-based", "arcface", "adaface", "magface"}


@pytest.fixture(scope="module")
def synthetic() -> Faces:
    crops = load_synthetic_faces(Size(112, 112))[:24]
    return Faces(crops.copy(), np.repeat(np.arange(6), 4))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_loss_has_a_row() -> None:
    assert set(PREFIXES) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_network_is_found_whatever_is_saved_around_it(
    name: str, synthetic: Faces, tmp_path: Path
) -> None:
    trained = train(name, synthetic, options=Options(steps=2, batch=8, learning_rate=0.01))
    recipe = RECIPES[name]
    checkpoint = read_checkpoint(save(trained, tmp_path / f"{name}{recipe.suffix}"))
    found = recognise({key: tensor.array for key, tensor in checkpoint.tensors.items()})

    assert found.prefix == PREFIXES[name]
    kinds = {entry.kind for entry in found.dropped}
    assert ("classification head" in kinds) == (name in WITH_A_HEAD)
    assert ("class centres" in kinds) == (name == "center")
    assert ("optimiser state" in kinds) == (name in WITH_AN_OPTIMISER)
    assert (RAW_COPY in kinds) == recipe.averaged
    assert recipe.averaged == any("moving average" in reason for reason in found.reasons)
    assert "other tensors" not in kinds
    assert known_training(checkpoint, found).loss == TOLD.get(name, "")

    wanted, other = (trained.average, trained.model) if recipe.averaged else (trained.model, None)
    graph = emit(found.network, name=name)
    rows = EmbeddingSession(graph).embed(synthetic.crops[:4])
    np.testing.assert_allclose(rows, embed(wanted, synthetic.crops[:4]), atol=1e-4)
    if other is not None:
        assert np.abs(rows - embed(other, synthetic.crops[:4])).max() > 1e-3


def test_the_same_seed_trains_the_same_network_twice(synthetic: Faces) -> None:
    options = Options(steps=2, batch=8, seed=4)
    first, second = (train("margin-based", synthetic, options=options) for _ in range(2))
    assert first.history == second.history
    third = train("margin-based", synthetic, options=replace(options, seed=5))
    assert third.history != first.history


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RECIPES)
def test_a_loss_trained_on_people_verifies_the_same_before_and_after_int8(
    name: str, test_data: Path, repository: Path, tmp_path: Path
) -> None:
    from examples.train_with_any_loss.conformance import Judge, conform

    lfw = test_data / "data" / "lfw"
    marks = lfw / "landmarks.txt"
    faces = read_faces(lfw / "extra", marks, most=800)
    judge = Judge(lfw / "pairs.txt", lfw / "pairs", marks, (1,))
    start = repository / "examples" / "train_default" / "edgeface-default.safetensors"
    options = Options(steps=60, learning_rate=3e-4)
    row = conform(name, faces, judge, tmp_path, start=start, options=options)
    assert row.problems == ()
    assert row.auc["fp32"] > 0.97
    assert abs(row.auc["fp32"] - row.auc["int8"]) < 0.005
    assert abs(row.tar["fp32"] - row.tar["int8"]) <= 0.02
    assert row.known_as == TOLD.get(name, "")
