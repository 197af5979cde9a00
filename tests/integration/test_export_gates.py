"""The gates of an export on real checkpoints: what is right passes, what is ruined is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import GateFailedError
from edgeface.types import ImageArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
safetensors = pytest.importorskip("safetensors.numpy")

from edgeface_export import ExportOptions, export_checkpoint  # noqa: E402
from edgeface_export.architectures.network import Network  # noqa: E402
from edgeface_export.architectures.recognition import recognise  # noqa: E402
from edgeface_export.checkpoints import read_checkpoint  # noqa: E402
from edgeface_export.crop_sets import ActivationCrops, CropLoader  # noqa: E402
from edgeface_export.gate_limits import GateLimits  # noqa: E402
from edgeface_export.graph.emit import emit  # noqa: E402
from edgeface_export.statistics_gate import (  # noqa: E402
    StatisticsFit,
    measure_statistics,
    statistics_gates,
)

pytestmark = pytest.mark.integration
XIAOCCER = "arcface-mobilefacenet-112x96-xiaoccer.ckpt"
CHECKPOINTS = [
    XIAOCCER,
    "arcface-mobilefacenet-relu-112-foamliu.pt",
    "arcface-mobilefacenet-112-bubbliiiing.pth",
    "arcface-mobilefacenet-small-112x96-lh.ckpt",
]
Crops = dict[str, ImageArray]
Ruin = Callable[[ImageArray], ImageArray]


def fit_of(file: Path, real_crops: Crops, ruin: Ruin) -> StatisticsFit:
    network = recognise({n: t.array for n, t in read_checkpoint(file).tensors.items()}).network
    crops = ruin(real_crops[network.alignment_template])
    fit = measure_statistics(network, emit(network, name="g"), crops)
    assert fit is not None
    return fit


def failed(fit: StatisticsFit) -> list[str]:
    return [gate.gate for gate in statistics_gates(fit, GateLimits()) if not gate.passed]


def as_it_is(crops: ImageArray) -> ImageArray:
    return crops


def exchanged(crops: ImageArray) -> ImageArray:
    return np.ascontiguousarray(crops[..., ::-1])


def noise(crops: ImageArray) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, crops.shape).astype(np.uint8)


def blank(crops: ImageArray) -> ImageArray:
    return np.broadcast_to(crops.mean(axis=(1, 2), keepdims=True), crops.shape).astype(np.uint8)


def shuffled(crops: ImageArray) -> ImageArray:
    rng = np.random.default_rng(0)
    flat = crops.reshape(len(crops), -1, 3)
    return np.stack([rng.permutation(crop) for crop in flat]).reshape(crops.shape)


def loader(real_crops: Crops, ruin: Ruin) -> CropLoader:
    def load(network: Network) -> ActivationCrops:
        return ActivationCrops(ruin(real_crops[network.alignment_template]))

    return load


@pytest.mark.parametrize("file", CHECKPOINTS)
def test_faces_fit_what_the_checkpoint_was_trained_on_with_room(
    checkpoints: Path, real_crops: Crops, file: str
) -> None:
    fit = fit_of(checkpoints / file, real_crops, as_it_is)
    assert failed(fit) == []
    limits = GateLimits()
    assert fit.all_layers < limits.max_statistics_distance / 3
    assert fit.first_layer < limits.max_first_layer_distance / 5
    assert fit.colour_ratio < limits.max_colour_ratio / 5


@pytest.mark.parametrize("file", CHECKPOINTS)
def test_faces_with_red_and_blue_exchanged_are_caught_with_room(
    checkpoints: Path, real_crops: Crops, file: str
) -> None:
    fit = fit_of(checkpoints / file, real_crops, exchanged)
    assert failed(fit) == ["colours as declared over colours exchanged"]
    assert fit.colour_ratio > 3 * GateLimits().max_colour_ratio


@pytest.mark.parametrize("ruin", [noise, blank, shuffled])
def test_an_export_with_a_ruined_activation_set_fails_and_says_why(
    checkpoints: Path, real_crops: Crops, tmp_path: Path, ruin: Ruin
) -> None:
    with pytest.raises(GateFailedError, match="does not show what the model was trained on"):
        export_checkpoint(
            checkpoints / XIAOCCER,
            tmp_path / "x.edgeface",
            options=ExportOptions(int8=True),
            activation_set=loader(real_crops, ruin),
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x.failed-report.html",
        "x.failed-report.json",
    ]


def test_an_export_with_exchanged_colours_fails_and_says_why(
    checkpoints: Path, real_crops: Crops, tmp_path: Path
) -> None:
    with pytest.raises(GateFailedError, match="the activation set is in the wrong colour order"):
        export_checkpoint(
            checkpoints / XIAOCCER,
            tmp_path / "x.edgeface",
            options=ExportOptions(int8=True),
            activation_set=loader(real_crops, exchanged),
        )
    assert not (tmp_path / "x.edgeface").exists()


def test_a_checkpoint_that_gives_one_embedding_for_every_face_fails(
    checkpoints: Path, tmp_path: Path
) -> None:
    tensors = {n: t.array for n, t in read_checkpoint(checkpoints / XIAOCCER).tensors.items()}
    gamma = "linear1.bn.weight"
    (name,) = (key for key in tensors if key.endswith(gamma))
    tensors[name] = np.zeros_like(tensors[name])
    file = tmp_path / "flat.safetensors"
    safetensors.save_file({key: np.array(array) for key, array in tensors.items()}, file)
    with pytest.raises(GateFailedError, match="mean score of different faces, float 1 "):
        export_checkpoint(file, tmp_path / "x.edgeface", options=ExportOptions(int8=True))
    assert not (tmp_path / "x.edgeface").exists()
