"""Writing a bundle: all of it or nothing; and the identity of a model."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from edgeface.bundle import (
    MANIFEST_NAME,
)
from edgeface.errors import (
    BundleError,
    InvalidInputError,
)

onnx = pytest.importorskip("onnx")

from edgeface_export.bundle_writer import model_identity, write_bundle  # noqa: E402
from tests.builders import tiny_onnx  # noqa: E402
from tests.builders_export import MANIFEST, names_in, write_tiny_bundle  # noqa: E402

MODEL = tiny_onnx()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path).path


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_there_already_is_not_replaced_unasked(folder: Path) -> None:
    before = everything(folder)
    with pytest.raises(InvalidInputError, match="--force"):
        write_tiny_bundle(folder.parent, name="other")
    assert everything(folder) == before
    assert names_in(folder.parent) == [folder.name]


def test_a_bundle_is_replaced_as_a_whole_when_asked(folder: Path) -> None:
    (folder / "left over").write_text("from an older release")
    write_tiny_bundle(folder.parent, overwrite=True, models={"int8": MODEL})
    assert sorted(everything(folder)) == [MANIFEST_NAME, "model.int8.onnx", "report.json"]
    assert names_in(folder.parent) == [folder.name]


@pytest.mark.parametrize("kind", ["empty folder", "folder", "file", "link", "dangling link"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "tiny.edgeface"
    elsewhere = tmp_path / "elsewhere"
    if kind == "link":
        target.symlink_to(write_tiny_bundle(elsewhere).path)
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nothing")
    elif kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        if kind == "folder":
            (target / "thesis.tex").write_text("mine")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(InvalidInputError, match="not a bundle"):
        write_tiny_bundle(tmp_path, overwrite=True)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("models", "report"),
    [
        ({}, {}),
        ({"fp32": b"no model"}, {}),
        ({"fp32": MODEL}, {"value": math.nan}),
        ({"fp32": MODEL}, {"value": object()}),
    ],
)
def test_a_failure_leaves_everything_as_it_was(
    tmp_path: Path, models: dict[str, bytes], report: dict[str, Any], overwrite: bool
) -> None:
    if overwrite:
        write_tiny_bundle(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises((BundleError, ValueError, TypeError)):
        write_bundle(tmp_path / "tiny.edgeface", MANIFEST, models, report, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert names_in(tmp_path) == (["tiny.edgeface"] if overwrite else [])


def test_a_full_disk_leaves_the_old_bundle_and_no_rubbish(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(folder)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_tiny_bundle(folder.parent, overwrite=True, name="other")
    assert everything(folder) == before
    assert names_in(folder.parent) == [folder.name]


def test_a_failed_last_step_leaves_the_old_bundle_in_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(folder)
    rename = Path.rename

    def refuse(source: Path, target: Path) -> Path:
        if target == folder and not source.name.endswith(".old"):
            raise OSError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Permission"):
        write_tiny_bundle(folder.parent, overwrite=True, name="other")
    assert names_in(folder.parent) == [folder.name]
    assert everything(folder) == before


def test_missing_parents_are_made(tmp_path: Path) -> None:
    assert write_tiny_bundle(tmp_path / "a" / "b").path.is_dir()


def test_others_may_read_a_bundle(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


CONTRACT = {"crop_size": "112x112", "embedding_size": 128, "metric": "cosine"}


@pytest.mark.parametrize(
    ("fp32", "contract"),
    [
        (b"", CONTRACT),
        (b"weights'", CONTRACT),
        (b"weights", {}),
        (b"weights", {**CONTRACT, "crop_size": "96x112"}),
        (b"weights", {**CONTRACT, "embedding_size": 256}),
        (b"weights", {**CONTRACT, "extra": None}),
    ],
)
def test_identity_changes_with_weights_and_with_the_contract(
    fp32: bytes, contract: dict[str, Any]
) -> None:
    assert model_identity(fp32, contract) != model_identity(b"weights", CONTRACT)


def test_identity_does_not_depend_on_the_order_of_the_contract() -> None:
    backwards = dict(reversed(CONTRACT.items()))
    identity = model_identity(b"weights", CONTRACT)
    assert identity == model_identity(b"weights", backwards)
    assert len(identity) == 64
    assert int(identity, 16) >= 0
