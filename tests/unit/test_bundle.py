"""Opening a bundle: every kind of tampering is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.bundle import (
    MANIFEST_NAME,
    Bundle,
    manifest_from_json,
    manifest_to_json,
)
from edgeface.errors import (
    BundleError,
    BundleFormatError,
    BundleIntegrityError,
    OperatingPointError,
)

onnx = pytest.importorskip("onnx")

from tests.builders import tiny_onnx  # noqa: E402
from tests.builders_export import MANIFEST, write_tiny_bundle  # noqa: E402

MODEL = tiny_onnx()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path).path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    change(data)
    (folder / MANIFEST_NAME).write_text(json.dumps(data))


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_written_bundle_reads_back_equal(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    digest = hashlib.sha256(MODEL).hexdigest()
    again = Bundle.open(str(bundle.path)).manifest
    assert again == bundle.manifest
    assert replace(again, artefacts=(), files={}) == MANIFEST
    entry = bundle.artefact("fp32")
    assert (entry.file, entry.sha256, entry.size_bytes) == ("model.fp32.onnx", digest, len(MODEL))
    assert bundle.read("fp32") == MODEL
    assert sorted(everything(bundle.path)) == [MANIFEST_NAME, "model.fp32.onnx", "report.json"]
    assert json.loads((bundle.path / "report.json").read_text()) == {"gates": ["parity"]}


def test_a_manifest_survives_json_in_both_directions() -> None:
    manifest = replace(MANIFEST, artefacts=(artefact := write_entry(),))
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    assert artefact in manifest.artefacts


def write_entry() -> Any:
    from edgeface.bundle import Artefact

    return Artefact("int8", "model.int8.onnx", "0" * 64, 12, "int8")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_bundle_is_refused_with_a_reason(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "x")
    with pytest.raises(BundleFormatError, match="bundle"):
        Bundle.open(tmp_path / "x")


@pytest.mark.parametrize("file", ["model.fp32.onnx", "report.json"])
def test_a_missing_file_is_noticed(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(BundleIntegrityError, match=file):
        Bundle.open(folder)


@pytest.mark.parametrize("file", ["model.fp32.onnx", "report.json"])
@pytest.mark.parametrize("position", [0, -1])
def test_one_changed_byte_is_noticed(folder: Path, file: str, position: int) -> None:
    content = bytearray((folder / file).read_bytes())
    content[position] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(BundleIntegrityError, match="was changed"):
        Bundle.open(folder)


def test_an_added_byte_is_noticed(folder: Path) -> None:
    with (folder / "model.fp32.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleIntegrityError, match="was changed"):
        Bundle.open(folder)


def test_a_change_after_opening_is_noticed_when_the_file_is_read(folder: Path) -> None:
    bundle = Bundle.open(folder)
    (folder / "model.fp32.onnx").write_bytes(tiny_onnx(seed=1))
    with pytest.raises(BundleIntegrityError, match="was changed"):
        bundle.read("fp32")
    with pytest.raises(BundleIntegrityError, match="was changed"):
        bundle.verify()


@pytest.mark.parametrize("file", ["model.fp32.onnx", "report.json", MANIFEST_NAME])
def test_a_link_is_refused_although_it_leads_to_the_right_content(
    folder: Path, tmp_path: Path, file: str
) -> None:
    (folder / file).rename(tmp_path / "elsewhere")
    (folder / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link"):
        Bundle.open(folder)


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "report.json").unlink()
    (folder / "report.json").mkdir()
    with pytest.raises(BundleIntegrityError, match="plain file"):
        Bundle.open(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    (folder / "report.json").unlink()
    os.mkfifo(folder / "report.json")
    with pytest.raises(BundleIntegrityError, match="plain file"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret",
        "/etc/hostname",
        "sub/model.onnx",
        "sub\\model.onnx",
        ".hidden",
        "a..b",
        "a\0b",
        "a\nb",
        "modèle.onnx",
        "C:model",
        "x" * 129,
    ],
)
@pytest.mark.parametrize("place", ["artefacts", "files"])
def test_a_name_that_could_leave_the_folder_is_refused(
    folder: Path, tmp_path: Path, name: str, place: str
) -> None:
    (tmp_path / "secret").write_bytes(MODEL)
    digest = hashlib.sha256(MODEL).hexdigest()

    def change(data: dict[str, Any]) -> None:
        if place == "files":
            data["files"][name] = digest
        else:
            data["artefacts"][0] |= {"file": name, "sha256": digest}

    rewrite(folder, change)
    with pytest.raises(BundleIntegrityError, match="not allowed"):
        Bundle.open(folder)


def test_an_artefact_that_loads_a_second_file_is_refused_although_its_hash_is_right(
    folder: Path,
) -> None:
    model = onnx.load_from_string(MODEL)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"
    content = model.SerializeToString()
    (folder / "model.fp32.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite(folder, lambda data: data["artefacts"][0].update(sha256=digest))
    with pytest.raises(BundleIntegrityError, match="another file"):
        Bundle.open(folder)


def test_an_artefact_that_is_no_onnx_file_is_refused(folder: Path) -> None:
    (folder / "model.fp32.onnx").write_bytes(b"\x08")
    digest = hashlib.sha256(b"\x08").hexdigest()
    rewrite(folder, lambda data: data["artefacts"][0].update(sha256=digest))
    with pytest.raises(BundleIntegrityError, match="not an ONNX file"):
        Bundle.open(folder)


@pytest.mark.parametrize("file", ["model.fp32.onnx", "report.json", MANIFEST_NAME])
def test_a_file_that_has_a_second_name_elsewhere_is_a_plain_file(
    folder: Path, tmp_path: Path, file: str
) -> None:
    """Package installers make hard links of every file (ADR 14)."""
    (tmp_path / "elsewhere").hardlink_to(folder / file)
    assert Bundle.open(folder).read("fp32") == MODEL


def test_a_file_that_is_listed_twice_must_have_both_of_its_hashes(folder: Path) -> None:
    rewrite(folder, lambda data: data["files"].update({"model.fp32.onnx": "0" * 64}))
    with pytest.raises(BundleIntegrityError, match="was changed"):
        Bundle.open(folder)


def test_an_artefact_that_is_not_there_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path, models={"fp32": MODEL, "int8": MODEL})
    assert [bundle.artefact(name).precision for name in ("fp32", "int8")] == ["float32", "int8"]
    for call in (bundle.artefact, bundle.read):
        with pytest.raises(BundleFormatError, match="fp32, int8"):
            call("fp16")


@pytest.mark.parametrize(
    ("target_fmr", "threshold"),
    [
        (1e-4, 0.5),
        (5e-4, 0.5),
        (1e-3, 0.4),
        (float(np.nextafter(1e-3, 0)), 0.4),
        (2e-3, 0.4),
        (0.01, 0.3),
        (0.5, 0.3),
    ],
)
def test_the_point_taken_is_the_loosest_that_is_strict_enough(
    folder: Path, target_fmr: float, threshold: float
) -> None:
    assert Bundle.open(folder).operating_point("fp32", target_fmr=target_fmr).threshold == threshold


@pytest.mark.parametrize(
    ("artefact", "target_fmr", "said"),
    [("fp32", 5e-5, "0.01, 0.001, 0.0001"), ("int8", 1e-2, "it has: none"), ("", 1e-2, "none")],
)
def test_no_point_is_made_up_where_none_is_strict_enough(
    folder: Path, artefact: str, target_fmr: float, said: str
) -> None:
    with pytest.raises(OperatingPointError, match=said):
        Bundle.open(folder).operating_point(artefact, target_fmr=target_fmr)
