"""Whole exports with a preprocessing, a loss and mirrored crops that the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface.errors import InvalidInputError
from edgeface.manifest import Training

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors.numpy")

from edgeface_export import ExportOptions, crop_sets, export_checkpoint, inspect_checkpoint  # noqa: E402
from edgeface_export.discovery import parse_preprocessing  # noqa: E402
from edgeface_export.graph.mirror import joined, mirrored_crops  # noqa: E402
from edgeface_export.mirror_gate import SECOND_RUN  # noqa: E402
from edgeface_export.preparation import Preparation  # noqa: E402
from edgeface_export.synthetic_faces import load_synthetic_faces  # noqa: E402
from tests.builders_export import settled_state  # noqa: E402

LIMITS = {
    "min_cosine_mean": 0.9, "min_cosine_p1": 0.8, "max_pair_change_p99": 0.5,
    "max_mean_score": 1.0, "min_effective_dimension": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    state = {f"ema.{key}": array for key, array in settled_state("mobilefacenet-xiaoccer").items()}
    raw = {key.replace("ema.", "net.", 1): array + 0.01 for key, array in state.items()}
    head = {"head.weight": np.ones((9, 32), np.float32), "centers": np.ones((9, 32), np.float32)}
    safetensors.save_file(state | raw | head, path)
    return path


def export(weights: Path, folder: Path, *, int8: bool = False, **said: Any) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            crop_sets, "load_synthetic_faces", lambda size: load_synthetic_faces(size)[::8]
        )
        options = ExportOptions(
            int8=int8, limits=LIMITS, speed_budget_s=0.0, preparation=Preparation(**said)
        )
        return export_checkpoint(weights, folder / "net.edgeface", options=options).bundle


def rows_of(bundle: Bundle, crops: Any, artefact: str = "fp32") -> Any:
    backend = open_backend(bundle, backend="ort", artefact=artefact, threads=1)
    try:
        return backend.run(crops)
    finally:
        backend.close()


@pytest.fixture(scope="module")
def plain(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(weights, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(("flip", "times", "int8"), [("sum", 1, True), ("concatenate", 2, False)])
def test_mirrored_crops_are_in_every_artefact_and_in_the_manifest(
    weights: Path, plain: Bundle, tmp_path: Path, flip: str, times: int, int8: bool
) -> None:
    both = export(weights, tmp_path, int8=int8, flip=flip)
    crops = load_synthetic_faces(plain.manifest.crop_size)[:3]
    wanted = joined(rows_of(plain, crops), rows_of(plain, mirrored_crops(crops)), flip)
    np.testing.assert_allclose(rows_of(both, crops), wanted, atol=1e-5)
    manifest = both.manifest
    assert manifest.embedding_size == times * plain.manifest.embedding_size
    assert manifest.training.flip_in_graph == flip
    assert manifest.model_id != plain.manifest.model_id
    assert manifest.verdict.figures["flip_max_difference"] <= 1e-5
    assert SECOND_RUN in manifest.verdict.notes
    if int8:
        assert (rows_of(both, crops, "int8") * wanted).sum(axis=1).min() > 0.8


def test_what_the_checkpoint_holds_beside_is_in_report_and_manifest(
    plain: Bundle,
) -> None:
    bundle = plain
    report = json.loads((bundle.path / "report.json").read_text())
    assert report["dropped"]["class centres"] == 1
    assert report["dropped"]["classification head"] == 1
    assert report["dropped"]["weights before averaging"] > 100
    assert any("moving average" in reason for reason in report["reasons"])
    assert report["training"]["loss"] == bundle.manifest.training.loss == "softmax + center loss"


def test_the_loss_that_the_user_names_is_carried_with_its_facts(
    weights: Path, tmp_path: Path
) -> None:
    manifest = export(weights, tmp_path / "m", loss="magface").manifest
    assert manifest.training == Training("MagFace", "said by the user", length_is_quality=True)
    assert any("quality of the picture" in note for note in manifest.verdict.notes)
    with pytest.raises(InvalidInputError, match="choose of"):
        export(weights, tmp_path / "n", loss="hinge")


def test_the_preprocessing_that_the_user_names_is_in_the_graph(
    weights: Path, plain: Bundle, tmp_path: Path
) -> None:
    turned = export(weights, tmp_path, preprocessing=parse_preprocessing("bgr:127.5/128"))
    crops = load_synthetic_faces(plain.manifest.crop_size)[:3]
    np.testing.assert_allclose(rows_of(turned, crops[..., ::-1]), rows_of(plain, crops), atol=1e-5)
    assert any("was given by hand" in note for note in turned.manifest.verdict.notes)
    assert not any("was given by hand" in note for note in plain.manifest.verdict.notes)


def test_inspect_tells_the_same_without_an_export(weights: Path) -> None:
    found = inspect_checkpoint(weights)
    assert found.averaged
    assert found.prefix == "ema."
    assert found.batch_norm == "kept"
    assert found.training["loss"] == "softmax + center loss"
    assert found.to_dict()["training"]["metric"] == "cosine"
