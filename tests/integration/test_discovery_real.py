"""Discovery on checkpoints that other people trained, whose preprocessing is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeface.bundle import Bundle
from edgeface.cli import app
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.discovery import DiscoveryOptions, LabelledFaces, discover
from edgeface_export.intake.opening import open_model

pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.integration

EDGEFACE = "cosface-edgeface-xxs-dynamic-int8.pt"
AMBIGUOUS = {"rgb:127.5/128": "rgb:127.5/127.5", "rgb:127.5/127.5": "rgb:127.5/128"}
AMBIGUOUS |= {"bgr:127.5/128": "bgr:127.5/127.5"}
TRUTH = {
    "arcface-mobilefacenet-112x96-xiaoccer.ckpt": "rgb:127.5/128",
    "arcface-mobilefacenet-relu-112-foamliu.pt": "rgb:imagenet",
    "arcface-mobilefacenet-112-bubbliiiing.pth": "rgb:127.5/127.5",
    "arcface-mobilefacenet-small-112x96-lh.ckpt": "rgb:127.5/128",
    EDGEFACE: "rgb:127.5/127.5",
    "amsoftmax-mobilefacenet-112x96-zhanglaplace.caffemodel": "bgr:127.5/128",
}
"""What their trainers state."""


@pytest.fixture(scope="module")
def lfw(test_data: Path) -> Path:
    return test_data / "data" / "lfw"


@pytest.fixture(scope="module")
def faces(lfw: Path) -> LabelledFaces:
    from edgeface.cli.discover_faces import load_faces

    return load_faces(lfw / "extra", None, lfw / "landmarks.txt")


def against_a_wrong_trainer(path: Path, labelled: LabelledFaces, **options: Any) -> Any:
    network = open_model(path).recognition.network
    wrong = Preprocessing.uniform("BGR", 0.0, 255.0)
    return discover(
        replace(network, preprocessing=wrong), labelled, options=DiscoveryOptions(**options)
    )


def test_the_truth_is_found_against_a_wrong_trainer(
    checkpoints: Path, faces: LabelledFaces
) -> None:
    found = against_a_wrong_trainer(
        checkpoints / EDGEFACE, faces, faces=200, crops=False, threads=1
    )
    assert TRUTH[EDGEFACE] in (found.name, *found.ambiguous)
    assert set(found.ambiguous) | {found.name} == {"rgb:127.5/127.5", "rgb:127.5/128"}
    assert not found.agrees
    assert any("make sure who trained" in text for text in found.warnings)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", TRUTH)
def test_the_truth_of_every_checkpoint_is_found_and_the_ambiguous_named(
    checkpoints: Path, faces: LabelledFaces, file: str
) -> None:
    opened = open_model(checkpoints / file)
    tensors = {name: tensor.array for name, tensor in opened.checkpoint.tensors.items()}
    found = discover(opened.recognition.network, faces, tensors=tensors)
    truth = TRUTH[file]
    assert found.name == truth
    assert found.agrees
    assert list(found.ambiguous) == ([AMBIGUOUS[truth]] if truth in AMBIGUOUS else [])
    assert not any("crop separates people better" in text for text in found.warnings)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", TRUTH)
def test_the_truth_is_found_whatever_the_trainer_is_taken_for(
    checkpoints: Path, faces: LabelledFaces, file: str
) -> None:
    found = against_a_wrong_trainer(checkpoints / file, faces, crops=False)
    assert TRUTH[file] in (found.name, *found.ambiguous)
    assert not found.agrees


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_export_takes_what_discovery_finds_and_says_so(
    checkpoints: Path, lfw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.edgeface"
    discovered = ["--discover", str(lfw / "extra")]
    discovered += ["--discover-landmarks", str(lfw / "landmarks.txt")]
    arguments = ["export", str(checkpoints / EDGEFACE), *discovered, "-o", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["discovery"]["name"] == "rgb:127.5/127.5"
    assert len(report["discovery"]["tried"]) == 10
    notes = Bundle.open(out).manifest.verdict.notes
    assert any("cannot tell rgb:127.5/127.5 from rgb:127.5/128" in note for note in notes)

    by_hand = [*arguments, "--force", "--preprocessing", "bgr:127.5/127.5"]
    result = CliRunner().invoke(app, by_hand)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["preprocessing"].startswith("BGR")
    notes = Bundle.open(out).manifest.verdict.notes
    assert any("given by hand; the recognised trainer" in note for note in notes)
    assert any("kept, against what discovery found" in note for note in notes)
