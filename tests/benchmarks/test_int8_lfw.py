"""INT8 beside FP32 on LFW folds 1-5: the reference checkpoints, with an activation set and without.

`pytest tests/benchmarks/test_int8_lfw.py -m slow -s` prints the table of docs/benchmarks.md. The
activation set is 500 faces of people in none of the folds; faces of the pairs are aligned by the
published landmarks, so that detection plays no part.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeface.alignment import align
from edgeface.camera import read_image
from edgeface_calibration.crops import LandmarkFileCrops, read_landmarks
from edgeface_calibration.pairs import parse_folds, read_pairs
from edgeface_calibration.report import ArtefactFigures
from edgeface_calibration.verify import verify_bundle
from edgeface_export import ExportOptions, export_checkpoint
from edgeface_export.architectures.network import Network
from edgeface_export.crop_sets import ActivationCrops, CropLoader

pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]

CHECKPOINTS = {
    "Xiaoccer": "arcface-mobilefacenet-112x96-xiaoccer.ckpt",
    "foamliu": "arcface-mobilefacenet-relu-112-foamliu.pt",
    "bubbliiiing": "arcface-mobilefacenet-112-bubbliiiing.pth",
    "LH": "arcface-mobilefacenet-small-112x96-lh.ckpt",
}
ACTIVATION_FACES = 500
# Points of accuracy and of TAR at FMR 1e-3 that INT8 may lose or win, and the share of INT8.
BARS = {"activation set": (0.10, 0.30), "no images": (0.50, 1.50)}
MIN_SHARE, MIN_COSINE_MEAN, MIN_COSINE_P1 = 0.90, 0.990, 0.980
INT8 = ("int8", "cpu-int8")


def activation_crops(lfw: Path) -> CropLoader:
    marks = read_landmarks(lfw / "landmarks.txt")
    names = [name for name in sorted(marks) if (lfw / "extra" / name).is_file()]
    names = names[:: max(1, len(names) // ACTIVATION_FACES)][:ACTIVATION_FACES]

    def load(network: Network) -> ActivationCrops:
        template = network.alignment_template
        frames = {name: read_image(lfw / "extra" / name) for name in names}
        return ActivationCrops(
            np.stack([align(frames[n], marks[n], template).pixels for n in names])
        )

    return load


def tar(figures: ArtefactFigures) -> float:
    (value,) = [entry.tar for entry in figures.tar if entry.target_fmr == 1e-3]
    assert value is not None
    return value


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_int8_still_tells_people_apart(
    name: str,
    test_data: Path,
    checkpoints: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lfw = test_data / "data" / "lfw"
    protocol = read_pairs(lfw / "pairs.txt", lfw / "pairs", parse_folds("1-5"))
    missed = []
    for how, (accuracy_bar, tar_bar) in BARS.items():
        crops = activation_crops(lfw) if how == "activation set" else None
        result = export_checkpoint(
            checkpoints / CHECKPOINTS[name],
            tmp_path / f"{how.replace(' ', '-')}.edgeface",
            options=ExportOptions(int8=True),
            activation_set=crops,
        )
        template = result.bundle.manifest.alignment_template
        source = LandmarkFileCrops(lfw / "landmarks.txt", lfw / "pairs", template)
        report = verify_bundle(result.bundle, protocol, source, artefacts=("fp32", *INT8))
        figures = {entry.artefact: entry for entry in report.artefacts}
        share = result.bundle.manifest.verdict.figures["int8_share"]
        before = figures["fp32"]
        for artefact in INT8:
            after = figures[artefact]
            assert after.drift is not None
            lost = 100 * (after.accuracy - before.accuracy), 100 * (tar(after) - tar(before))
            cosine = after.drift.cosine_mean, after.drift.cosine_p1
            with capsys.disabled():
                sys.stdout.write(
                    f"\n| {name} | {how} | {artefact} | {100 * before.accuracy:.2f} | "
                    f"{100 * after.accuracy:.2f} ({lost[0]:+.2f}) | {100 * tar(before):.2f} | "
                    f"{100 * tar(after):.2f} ({lost[1]:+.2f}) | {cosine[0]:.4f} / {cosine[1]:.4f} "
                    f"| {100 * share:.1f} % |",
                )
            # Figures that rise are no loss.
            if -lost[0] > accuracy_bar + 1e-9 or -lost[1] > tar_bar + 1e-9:
                missed.append(f"{how}, {artefact}: {lost[0]:+.2f}, {lost[1]:+.2f}")
            if crops and (cosine[0] < MIN_COSINE_MEAN or cosine[1] < MIN_COSINE_P1):
                missed.append(f"{how}, {artefact}: cosine {cosine[0]:.4f}, {cosine[1]:.4f}")
        assert share >= MIN_SHARE
    assert not missed
