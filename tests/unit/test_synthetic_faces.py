"""The built-in synthetic faces: the file, its reader, and its writer."""

from __future__ import annotations

import hashlib
import importlib.util
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeface.errors import AssetIntegrityError, InvalidInputError
from edgeface.types import Size
from edgeface_export import synthetic_faces
from edgeface_export.synthetic_faces import (
    PROVENANCE,
    SYNTHETIC_FACES_SHA256,
    decode,
    load_synthetic_faces,
)

RECIPE = Path("calibration/recipes/synthetic_faces")
WHOLE, NARROW = Size(112, 112), Size(96, 112)
MOST_BYTES = 1_500_000
COUNT = 256
PIXELS_SHA256 = "7fefecdf672cdf95ba52f1d3fa44d6a9f6c5cd4dc16c53ea66a8f6f1d4ea0797"


def content() -> bytes:
    return (resources.files("edgeface_export") / "data" / "synthetic_faces.bin").read_bytes()


@pytest.fixture(scope="module")
def pack(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pack", repository / RECIPE / "pack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_small_and_the_one_that_was_published() -> None:
    assert len(content()) <= MOST_BYTES
    assert hashlib.sha256(content()).hexdigest() == SYNTHETIC_FACES_SHA256


@pytest.mark.parametrize(("size", "shape"), [(WHOLE, (112, 112, 3)), (NARROW, (112, 96, 3))])
def test_faces_fit_the_crops_of_a_template(size: Size, shape: tuple[int, ...]) -> None:
    faces = load_synthetic_faces(size)
    assert faces.shape == (COUNT, *shape)
    assert faces.dtype == np.uint8
    assert not faces.flags.writeable


def test_the_narrow_faces_are_the_middle_of_the_whole_ones() -> None:
    whole, narrow = load_synthetic_faces(WHOLE), load_synthetic_faces(NARROW)
    np.testing.assert_array_equal(narrow, whole[:, :, 8:104])


@pytest.mark.parametrize("size", [Size(112, 96), Size(160, 160), Size(100, 112)])
def test_a_size_without_a_template_is_refused(size: Size) -> None:
    with pytest.raises(InvalidInputError, match=str(size)):
        load_synthetic_faces(size)


def test_faces_are_decoded_to_the_same_pixels_everywhere() -> None:
    pixels = load_synthetic_faces(WHOLE).tobytes()
    assert hashlib.sha256(pixels).hexdigest() == PIXELS_SHA256


def test_no_two_faces_are_alike() -> None:
    faces = load_synthetic_faces(WHOLE)[:, ::4, ::4].astype(np.float64).reshape(COUNT, -1)
    faces -= faces.mean(1, keepdims=True)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    likeness = faces @ faces.T - np.eye(COUNT)
    assert likeness.max() < 0.97


def test_faces_have_contrast_and_are_not_saturated() -> None:
    faces = load_synthetic_faces(WHOLE)
    assert faces.std((1, 2, 3)).min() > 15
    assert ((faces == 0) | (faces == 255)).mean() < 0.05


def test_eyes_are_darker_than_the_cheeks_below_them() -> None:
    mean = load_synthetic_faces(WHOLE).mean((0, 3))
    for x_px in (38, 73):
        assert mean[48:56, x_px - 5 : x_px + 5].mean() < mean[64:74, x_px - 5 : x_px + 5].mean()


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_faces, "SYNTHETIC_FACES_SHA256", "0" * 64)
    synthetic_faces._all_faces.cache_clear()
    with pytest.raises(AssetIntegrityError, match="install edgeface again"):
        load_synthetic_faces(WHOLE)


@pytest.mark.parametrize("damaged", [b"", b"EFSYNTH1", content()[:-1], b"X" + content()[1:]])
def test_what_is_no_such_file_is_refused(damaged: bytes) -> None:
    with pytest.raises(AssetIntegrityError):
        decode(damaged)


@pytest.mark.parametrize(("luma_step", "chroma_step", "most"), [(1, 1, 2.0), (8, 12, 6.0)])
def test_packing_keeps_smooth_pictures(
    pack: ModuleType, luma_step: int, chroma_step: int, most: float
) -> None:
    y, x = np.mgrid[:112, :112]
    ramp = np.stack([x * 2, y * 2, (x + y)], 2).astype(np.uint8)
    pictures = np.stack([ramp, ramp[::-1], ramp[:, ::-1]])
    unpacked = decode(pack.pack(pictures, luma_step, chroma_step))
    assert np.abs(unpacked.astype(int) - pictures).mean() < most


def test_no_picture_packs_to_no_picture(pack: ModuleType) -> None:
    nothing = np.zeros((0, 112, 112, 3), np.uint8)
    assert decode(pack.pack(nothing, 8, 12)).shape == nothing.shape


def test_the_provenance_names_weights_licence_and_seed() -> None:
    for word in ("Apache-2.0", "SHA-256", "seed", "calibration/recipes/synthetic_faces"):
        assert word in PROVENANCE


def test_the_wheel_takes_the_folder_of_the_file(repository: Path) -> None:
    settings = (repository / "pyproject.toml").read_text()
    wheel = settings.split("[tool.hatch.build.targets.wheel]")[1].split("[tool.")[0]
    assert '"export/edgeface_export"' in wheel
    assert "exclude" not in wheel
