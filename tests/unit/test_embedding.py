from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeface.backends import open_backend
from edgeface.bundle import Bundle, Manifest
from edgeface.embedding import FaceEmbedder, unit_rows
from edgeface.errors import InvalidInputError
from edgeface.types import AlignedFace, FloatArray, ImageArray
from tests.builders import Behaviour, make_bundle, tiny_onnx

MATRIX = np.eye(2, 3, dtype=np.float32)


class ScriptedBackend:
    """Returns the rows given, and keeps the sizes of the batches it got."""

    name, artefact = "scripted", "fp32"

    def __init__(self, rows: FloatArray) -> None:
        self.rows = rows
        self.batches: list[int] = []

    def run(self, crops: ImageArray) -> FloatArray:
        start = sum(self.batches)
        self.batches.append(len(crops))
        return self.rows[start : start + len(crops)]

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Bundle.open(make_bundle(tmp_path, embedding_size=4)).manifest


def faces(n: int) -> list[AlignedFace]:
    return [AlignedFace(np.full((112, 112, 3), k, np.uint8), MATRIX) for k in range(n)]


def unit(n: int, size: int = 4) -> FloatArray:
    rows = np.random.default_rng(0).standard_normal((n, size))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_no_faces_give_no_templates(manifest: Manifest) -> None:
    backend = ScriptedBackend(unit(0))
    embedder = FaceEmbedder(backend, manifest)
    assert embedder.embed([]) == []
    assert embedder.embed_arrays([]).shape == (0, 4)
    assert backend.batches == []


def test_templates_come_in_order_with_model_and_quality(manifest: Manifest) -> None:
    rows = unit(5)
    templates = FaceEmbedder(ScriptedBackend(rows), manifest).embed(
        faces(5), [0.1, 0.2, 0.3, 0.4, 0.5]
    )
    for template, row, quality in zip(templates, rows, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
        assert template is not None
        assert template.vector == pytest.approx(row, abs=1e-7)
        assert (template.model_id, template.quality) == (manifest.model_id, quality)


def test_engine_gets_batches_of_the_size_asked_for(manifest: Manifest) -> None:
    backend = ScriptedBackend(unit(10))
    FaceEmbedder(backend, manifest, batch_size=4).embed(faces(10))
    assert backend.batches == [4, 4, 2]


@pytest.mark.parametrize(
    "bad", [[np.nan, 0, 0, 1], [np.inf, 0, 0, 0], [0, 0, 0, 0], [1.01, 0, 0, 0], [3e38] * 4]
)
def test_unusable_row_is_none_and_its_neighbours_are_not(
    manifest: Manifest, bad: list[float]
) -> None:
    rows = unit(3)
    rows[1] = bad
    first, second, third = FaceEmbedder(ScriptedBackend(rows), manifest).embed(faces(3))
    assert first is not None
    assert second is None
    assert third is not None
    arrays = FaceEmbedder(ScriptedBackend(rows), manifest).embed_arrays(
        np.zeros((3, 112, 112, 3), np.uint8)
    )
    assert np.isnan(arrays).all(axis=1).tolist() == [False, True, False]


def test_row_that_is_a_little_long_is_brought_to_length_one() -> None:
    rows = unit_rows(unit(20, 512) * np.float32(1.0009))
    assert np.linalg.norm(rows.astype(np.float64), axis=1) == pytest.approx(np.ones(20), abs=1e-7)


def test_crop_of_another_size_is_refused(manifest: Manifest) -> None:
    face = AlignedFace(np.zeros((112, 96, 3), np.uint8), MATRIX)
    with pytest.raises(InvalidInputError, match="align it to 'arcface-112x112'"):
        FaceEmbedder(ScriptedBackend(unit(1)), manifest).embed([face])


def test_wrong_use_is_refused(manifest: Manifest) -> None:
    embedder = FaceEmbedder(ScriptedBackend(unit(1)), manifest)
    with pytest.raises(InvalidInputError, match="2 qualities for 1 faces"):
        embedder.embed(faces(1), [0.5, 0.5])
    with pytest.raises(InvalidInputError, match="batch_size"):
        FaceEmbedder(ScriptedBackend(unit(1)), manifest, batch_size=0)


@pytest.mark.parametrize(
    ("behaviour", "usable"), [("random", True), ("constant", True), ("nan", False), ("long", False)]
)
def test_real_engine_and_embedder_agree_on_what_is_usable(
    tmp_path: Path, behaviour: Behaviour, usable: bool
) -> None:
    pytest.importorskip("onnxruntime")
    content = tiny_onnx(behaviour=behaviour)
    bundle = Bundle.open(make_bundle(tmp_path, artefacts={"fp32": content}))
    embedder = FaceEmbedder(open_backend(bundle, threads=1), bundle.manifest)
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    (template,) = embedder.embed([AlignedFace(pixels, MATRIX)])
    assert (template is not None) is usable
