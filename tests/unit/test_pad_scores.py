"""From a frame to a PAD score: box, crop, model, fusion of models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.errors import (
    BackendError,
    BundleFormatError,
    BundleIntegrityError,
    InvalidInputError,
)
from edgeface.manifest import MANIFEST_NAME, manifest_to_json, pad_manifest_from_json
from edgeface.pad import (
    BoxConvention,
    PadBundle,
    PadModel,
    PadScore,
    PresentationAttackDetector,
    face_box,
    pad_crop,
)
from edgeface.types import BoundingBox, FaceDetection, Frame, Size
from tests.builders import make_bundle
from tests.pad_bundles import FakePadNetwork, make_pad_bundle, pad_manifest, pad_onnx

SIZE = Size(80, 80)


def gradient(width: int = 640, height: int = 480) -> Frame:
    """Red grows to the right, green downwards."""
    rows, columns = np.mgrid[:height, :width]
    red, green = columns * 255 // (width - 1), rows * 255 // (height - 1)
    return Frame(np.stack([red, green, np.zeros_like(red)], 2).astype(np.uint8))


def detection(left: float, top: float, width: float, height: float) -> FaceDetection:
    return FaceDetection(BoundingBox(left, top, width, height), 0.9)


def test_a_whole_face_box_stays_and_a_blazeface_box_grows_upwards() -> None:
    box = BoundingBox(100, 200, 100, 100)
    assert face_box(box, BoxConvention.WHOLE_FACE) == box
    grown = face_box(box, BoxConvention.BLAZEFACE)
    assert grown.centre_px == pytest.approx((150, 238.3))
    assert (grown.width_px, grown.height_px) == pytest.approx((89, 124))
    assert grown.bottom_px == pytest.approx(300.3)


# Worked out by hand by the rule of the published cropping program.
@pytest.mark.parametrize(
    ("box", "scale", "reached", "region"),
    [
        ((270, 190, 100, 100), 2.7, 2.7, (185, 105, 455, 375)),
        ((0, 0, 100, 100), 2.7, 2.7, (0, 0, 270, 270)),
        ((540, 380, 100, 100), 2.7, 2.7, (369, 209, 639, 479)),
        ((200, 100, 200, 250), 2.7, 479 / 250, (108, 0, 491, 479)),
        ((200, 100, 639, 100), 4.0, 1.0, (0, 100, 639, 200)),
    ],
)
def test_the_crop_is_pushed_into_the_frame_and_made_smaller_where_that_is_too_small(
    box: tuple[float, ...], scale: float, reached: float, region: tuple[int, ...]
) -> None:
    pytest.importorskip("cv2")
    frame = gradient()
    crop = pad_crop(frame, BoundingBox(*box), scale=scale, size=SIZE)
    assert crop is not None
    assert crop.scale == pytest.approx(reached)
    left, top, right, bottom = region
    # The corners of the crop show the corners of the region, give or take the interpolation.
    corner = frame.pixels[[top, bottom]][:, [left, right]]
    np.testing.assert_allclose(crop.pixels[::79, ::79].astype(int), corner.astype(int), atol=3)
    assert crop.pixels.shape == (80, 80, 3)
    assert crop.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    "box",
    [(-200, 10, 100, 100), (10, 900, 50, 50), (640, 10, 1, 100), (100, 100, 0.5, 50)],
)
def test_a_face_outside_of_the_frame_or_without_size_has_no_crop(box: tuple[float, ...]) -> None:
    assert pad_crop(gradient(), BoundingBox(*box), scale=2.7, size=SIZE) is None


@pytest.mark.parametrize("pixels", [(1, 1), (1, 640), (480, 1), (2, 2)])
def test_the_smallest_frames_are_cropped_or_not_but_never_crash(pixels: tuple[int, int]) -> None:
    pytest.importorskip("cv2")
    frame = Frame(np.full((*pixels, 3), 7, np.uint8))
    crop = pad_crop(frame, BoundingBox(-5, -5, 11, 11), scale=2.7, size=SIZE)
    assert crop is None or (crop.pixels == 7).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_senseless_scale_is_refused(scale: float) -> None:
    with pytest.raises(InvalidInputError, match="scale"):
        pad_crop(gradient(), BoundingBox(0, 0, 10, 10), scale=scale, size=SIZE)


def test_the_score_is_the_mean_of_the_models_each_with_its_own_crop() -> None:
    pytest.importorskip("cv2")
    near = FakePadNetwork(0.9, box_scale=2.7, name="near")
    far = FakePadNetwork(0.2, box_scale=4.0, name="far")
    detector = PresentationAttackDetector([near, far], boxes=BoxConvention.WHOLE_FACE)
    score = detector.assess(gradient(), detection(290, 210, 60, 60))
    assert score is not None
    assert score.bona_fide == pytest.approx(0.55)
    assert score.by_model == pytest.approx((0.9, 0.2))
    assert score.scales == (2.7, 4.0)
    spread = [int(np.ptp(network.crops[0][..., 0])) for network in (near, far)]
    assert spread[1] / spread[0] == pytest.approx(4.0 / 2.7, rel=0.05)
    detector.close()
    detector.close()
    assert (near.closed, far.closed) == (2, 2)


def test_a_face_outside_of_the_frame_has_no_score() -> None:
    detector = PresentationAttackDetector([FakePadNetwork(0.9)])
    assert detector.assess(gradient(), detection(5000, 10, 60, 60)) is None


def test_one_or_more_different_models_are_wanted() -> None:
    with pytest.raises(InvalidInputError, match="got 0"):
        PresentationAttackDetector([])
    with pytest.raises(InvalidInputError, match="differ"):
        PresentationAttackDetector([FakePadNetwork(0.9), FakePadNetwork(0.1)])


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1, math.inf])
def test_a_score_outside_of_its_range_cannot_be_made(value: float) -> None:
    with pytest.raises(InvalidInputError):
        PadScore(value, (0.5,), (2.7,))
    with pytest.raises(InvalidInputError):
        PadScore(0.5, (value,), (2.7,))


def test_a_bundle_is_opened_and_its_model_gives_probabilities(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = make_pad_bundle(tmp_path)
    model = PadModel.open(path, threads=1)
    crops = np.stack([np.full((80, 80, 3), value, np.uint8) for value in (0, 128, 255)])
    rows = model.run(crops)
    assert rows.shape == (3, 3)
    assert rows.sum(1) == pytest.approx([1, 1, 1])
    assert rows[0, 1] < 0.01
    assert rows[1, 1] == pytest.approx(1 / 3)
    assert rows[2, 1] > 0.99
    assert model.run(crops[:0]).shape == (0, 3)
    with pytest.raises(InvalidInputError, match="uint8"):
        model.run(crops.astype(np.float32))
    with pytest.raises(InvalidInputError, match="80"):
        model.run(np.zeros((1, 112, 112, 3), np.uint8))
    model.close()
    model.close()
    with pytest.raises(BackendError, match="closed"):
        model.run(crops)


@pytest.mark.parametrize("behaviour", ["nan", "no-softmax"])
def test_numbers_that_are_no_probabilities_are_refused(tmp_path: Path, behaviour: Any) -> None:
    pytest.importorskip("onnxruntime")
    model = PadModel.open(
        make_pad_bundle(tmp_path, content=pad_onnx(behaviour=behaviour)), threads=1
    )
    with pytest.raises(BackendError, match="no probabilities"):
        model.run(np.full((2, 80, 80, 3), 200, np.uint8))


def test_a_model_of_another_crop_size_than_its_manifest_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = make_pad_bundle(tmp_path, content=pad_onnx(size=Size(64, 64)))
    with pytest.raises(BackendError, match="wanted uint8"):
        PadModel.open(path)


def test_threads_are_one_or_more(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="threads"):
        PadModel.open(make_pad_bundle(tmp_path), threads=0)


def test_a_recogniser_and_a_pad_bundle_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(BundleFormatError, match=r"presentation-attack-detection.*edgeface pad"):
        Bundle.open(make_pad_bundle(tmp_path))
    with pytest.raises(BundleFormatError, match=r"recognition.*Recognizer"):
        PadBundle.open(make_bundle(tmp_path))


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    path = make_pad_bundle(tmp_path)
    (path / "model.fp32.onnx").write_bytes(pad_onnx(behaviour="nan"))
    with pytest.raises(BundleIntegrityError, match="changed"):
        PadBundle.open(path)


def test_the_manifest_survives_writing_and_reading() -> None:
    manifest = pad_manifest(box_scale=4.0)
    assert pad_manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "something"},
        {"task": None},
        {"task": ["presentation-attack-detection"]},
        {"box_scale": 0},
        {"box_scale": "2.7"},
        {"box_scale": math.nan},
        {"classes": []},
        {"classes": ["one"]},
        {"classes": ["a", "a"]},
        {"bona_fide_class": 3},
        {"bona_fide_class": -1},
        {"bona_fide_class": True},
        {"crop_size": {"width_px": 10**9, "height_px": 80}},
        {"artefacts": []},
        {"surprise": 1},
        {"schema_version": 99},
    ],
)
def test_a_manifest_with_a_senseless_value_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = make_pad_bundle(tmp_path)
    data = json.loads((path / MANIFEST_NAME).read_text()) | changes
    (path / MANIFEST_NAME).write_text(json.dumps(data))
    with pytest.raises(BundleFormatError):
        PadBundle.open(path)
