"""The training recipe from its first step to a bundle, in small and in minutes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeface
from edgeface_export import ExportOptions, export_checkpoint
from edgeface_export.synthetic_faces import load_synthetic_faces

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

PICTURES = 8_192


def run(module: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    from importlib import import_module

    main = import_module(f"examples.train_default.{module}").main
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    main()


def wide_faces(path: Path) -> Path:
    """Write synthetic faces as wide crops; the margin is a reflection."""
    faces = load_synthetic_faces(edgeface.Size(112, 112))
    crops = np.pad(faces, ((0, 0), (24, 24), (24, 24), (0, 0)), mode="reflect")
    np.savez(path, crops=crops, people=np.arange(len(crops)).astype(str))
    return path


def log(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_recipe_learns_stops_goes_on_and_can_be_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("examples.train_default.pool.SHARD_PICTURES", PICTURES // 4)
    faces, pool, folder = wide_faces(tmp_path / "faces.npz"), tmp_path / "pool", tmp_path / "run"
    teacher = edgeface.default_bundle().path
    run("pool", monkeypatch, faces, teacher, pool, "--shards", "0-0", "--backend", "ort")
    run("train", monkeypatch, pool, folder, "--images", PICTURES // 2, "--threads", 1)
    run("train", monkeypatch, pool, folder, "--images", PICTURES, "--threads", 1)

    rows = log(folder)
    assert [row["images"] for row in rows] == sorted({row["images"] for row in rows})
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["cosine"] > rows[0]["cosine"] + 0.03
    assert (folder / "curves.png").stat().st_size > 5_000

    # One minute of training tells few faces apart yet: 3.4 dimensions, where a product has 4 to 50.
    options = ExportOptions(limits={"min_effective_dimension": 1.5})
    export_checkpoint(folder / "student.pt", tmp_path / "student.edgeface", options=options)
    assert edgeface.Bundle.open(tmp_path / "student.edgeface").manifest.embedding_size == 128
