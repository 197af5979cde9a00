"""What aligning on BlazeFace's four usable points costs beside the landmarker's five, on LFW."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from edgeface.alignment import ALIGNMENT_TEMPLATES, alignment_template, similarity_transform
from edgeface.bundle import Bundle
from edgeface.camera import read_image
from edgeface.types import AlignedFace
from edgeface_calibration.crops import CropSource, DetectorCrops, LandmarkFileCrops
from edgeface_calibration.pairs import parse_folds, read_pairs
from edgeface_calibration.verify import verify_bundle
from edgeface_export import export_checkpoint

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]


class FourPointCrops:
    """Crops aligned on both eyes, nose and mouth centre, as the detector alone gives them."""

    def __init__(self, template: str) -> None:
        from edgeface.detection import MediaPipeFaceDetector

        self.template = template
        self.detector = MediaPipeFaceDetector()

    def crop(self, path: Path) -> AlignedFace | None:
        from edgeface.detection import four_alignment_points

        frame = read_image(path)
        found = self.detector.detect(frame)
        if not found:
            return None
        middle = frame.size.width_px / 2, frame.size.height_px / 2
        nearest = min(found, key=lambda face: np.hypot(*np.subtract(face.box.centre_px, middle)))
        source = four_alignment_points(nearest.keypoints_px)
        target = four_alignment_points(alignment_template(self.template).astype(np.float32))
        matrix = similarity_transform(source, target)
        size = ALIGNMENT_TEMPLATES[self.template]
        crop = cv2.warpAffine(frame.pixels, matrix, (size.width_px, size.height_px))
        return AlignedFace(crop, matrix.astype(np.float32))

    def close(self) -> None:
        self.detector.close()


def test_five_points_beat_four(
    test_data: Path, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder

    source = checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt"
    bundle = Bundle.open(export_checkpoint(source, tmp_path / "m.edgeface").bundle.path)
    lfw = test_data / "data" / "lfw"
    protocol = read_pairs(lfw / "pairs.txt", lfw / "pairs", parse_folds("1-5"))
    template = bundle.manifest.alignment_template
    with ExitStack() as stack:
        detector = stack.enter_context(closing(AutoRangeDetector()))
        finder = stack.enter_context(closing(MediaPipeLandmarkFinder()))
        four = stack.enter_context(closing(FourPointCrops(template)))
        sources: dict[str, CropSource] = {
            "given landmarks": LandmarkFileCrops(lfw / "landmarks.txt", lfw / "pairs", template),
            "five points, landmarker": DetectorCrops(detector, finder, template),
            "four points, detector": four,
        }
        reports = {
            label: verify_bundle(bundle, protocol, crops) for label, crops in sources.items()
        }
    accuracy = {}
    with capsys.disabled():
        for label, report in reports.items():
            (figures,) = report.artefacts
            accuracy[label] = figures.accuracy
            tar = figures.tar[1].tar
            missing = len(report.faces_not_found)
            print(f"\n{label:<26}{figures.accuracy:.2%}  TAR@1e-3 {tar:.2%}  missing {missing}")  # noqa: T201
    assert accuracy["five points, landmarker"] >= accuracy["given landmarks"] - 0.004
    assert accuracy["five points, landmarker"] >= accuracy["four points, detector"]
