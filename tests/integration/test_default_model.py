"""The recogniser inside the package: it opens, tells people apart, and commands fall back to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import edgeface
from edgeface.backends import open_backend
from edgeface.default_model import DEFAULT_MODEL_NOTICE, default_bundle_path

pytest.importorskip("onnxruntime")


def test_it_opens_with_fitted_operating_points() -> None:
    bundle = edgeface.default_bundle()
    manifest = bundle.manifest
    assert manifest.verdict.status == "passed"
    assert not manifest.verdict.data_free
    for artefact in manifest.artefacts:
        point = bundle.operating_point(artefact.name, target_fmr=1e-3)
        assert not point.provisional
        assert point.n_non_mated > 1_000_000


def test_every_artefact_agrees_with_the_weights_of_the_recipe(repository: Path) -> None:
    pytest.importorskip("onnx")
    from edgeface_export.architectures.recognition import recognise
    from edgeface_export.checkpoints import read_checkpoint
    from edgeface_export.graph.emit import emit
    from edgeface_export.graph.session import EmbeddingSession
    from edgeface_export.synthetic_faces import load_synthetic_faces

    weights = repository / "examples" / "train_default" / "edgeface-default.safetensors"
    tensors = read_checkpoint(weights).tensors
    network = recognise({name: tensor.array for name, tensor in tensors.items()}).network
    crops = load_synthetic_faces(edgeface.Size(112, 112))[:32]
    expected = EmbeddingSession(emit(network, name="default")).embed(crops)
    bundle = edgeface.default_bundle()
    for artefact in bundle.manifest.artefacts:
        backend = open_backend(bundle, backend="ort", artefact=artefact.name, threads=1)
        cosine = (backend.run(crops) * expected).sum(axis=1)
        backend.close()
        assert cosine.mean() > 0.99, artefact.name
        assert cosine.min() > 0.97, artefact.name


def test_it_tells_real_people_apart(test_data: Path, real_crops: dict[str, np.ndarray]) -> None:
    bundle = edgeface.default_bundle()
    backend = open_backend(bundle, backend="ort", artefact="cpu-int8", threads=1)
    crops = real_crops["arcface-112x112"]
    rows = backend.run(crops)
    mirrored = backend.run(np.ascontiguousarray(crops[:, :, ::-1]))
    backend.close()
    scores = rows @ mirrored.T
    own = np.diag(scores)
    others = scores[~np.eye(len(scores), dtype=bool)]
    assert own.min() > 0.6
    assert others.max() < 0.5


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.edgeface"
    shutil.copytree(default_bundle_path(), copy)
    model = copy / "model.cpu-int8.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(edgeface.BundleIntegrityError):
        edgeface.Bundle.open(copy)


def test_a_command_without_a_model_says_which_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeface.cli import app

    monkeypatch.delenv("EDGEFACE_MODEL", raising=False)
    missing = tmp_path / "none.jpg"
    result = CliRunner().invoke(app, ["identify", str(missing), "-g", str(tmp_path / "people.db")])
    assert result.exit_code != 0
    assert DEFAULT_MODEL_NOTICE in result.stderr.replace("\n", " ") or "model:" in result.stderr


def test_the_card_gives_the_figures_of_the_report(repository: Path) -> None:
    report = json.loads((default_bundle_path() / "report.json").read_text())
    card = (repository / "docs" / "models" / "default.md").read_text()
    for artefact, figures in report["verification"].items():
        assert f"{100 * figures['accuracy']:.2f}" in card, artefact
