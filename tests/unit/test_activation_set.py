from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ActivationSetError, CameraError, InvalidInputError
from edgeface.types import AlignedFace, ImageArray
from edgeface_calibration.activation_set import ActivationSetLimits, load_activation_set

MATRIX = np.eye(2, 3, dtype=np.float32)
FEW = ActivationSetLimits(minimum=1, recommended=3, maximum=1000)


def face(seed: int) -> ImageArray:
    """A picture that no other seed comes near."""
    cells = np.random.default_rng(seed).integers(0, 200, (8, 9, 3))
    return np.kron(cells, np.ones((14, 13, 1))).astype(np.uint8)[:, :112]


class NamedCrops:
    """Makes of ``12.jpg`` the face 12; the name may say otherwise."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def crop(self, path: Path) -> AlignedFace | None:
        self.asked.append(path.name)
        word, _, rest = path.stem.partition("-")
        if word == "empty":
            return None
        if word == "damaged":
            raise CameraError(f"{path} is damaged")
        pixels = face(int(rest or word))
        return AlignedFace(pixels + 3 if word == "brighter" else pixels, MATRIX)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def numbered(n: int) -> list[str]:
    return [f"{k:04d}.jpg" for k in range(n)]


def test_images_of_all_sub_folders_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.JPG", "a/3.png", "1.jpeg", "c/d/4.jpg", "notes.txt", "5.gif")
    found = load_activation_set(tmp_path, NamedCrops(), limits=FEW)
    assert found.names == ("1.jpeg", "a/3.png", "b/2.JPG", "c/d/4.jpg")
    assert found.crops.shape == (4, 112, 112, 3)
    assert found.crops.dtype == np.uint8
    assert (found.crops[1] == face(3)).all()
    assert len(found) == 4


def test_refused_images_are_counted_by_reason(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "2.jpg", "3.jpg", "empty-1.jpg", "empty-2.jpg", "damaged.jpg",
         "copy-3.jpg", "brighter-2.jpg")  # fmt: skip
    found = load_activation_set(tmp_path, NamedCrops(), limits=FEW)
    assert len(found) == 3
    assert found.refused == {"no_face": 2, "unusable": 1, "duplicate": 2}
    assert found.notes == ()


def test_crops_can_be_gone_through_again_in_batches(tmp_path: Path) -> None:
    found = load_activation_set(fill(tmp_path, *numbered(7)), NamedCrops(), limits=FEW)
    for _ in range(2):
        assert [len(batch) for batch in found.batches(3)] == [3, 3, 1]
    with pytest.raises(ValueError, match="read-only"):
        found.crops[0] = 0


@pytest.mark.parametrize("n", [0, 9])
def test_too_few_faces_are_refused_with_what_was_found(tmp_path: Path, n: int) -> None:
    fill(tmp_path, "empty-1.jpg", "damaged.jpg", *numbered(n))
    with pytest.raises(ActivationSetError) as caught:
        load_activation_set(tmp_path, NamedCrops(), limits=ActivationSetLimits(minimum=10))
    text = str(caught.value)
    assert f"gives {n} faces" in text
    assert "1 no_face, 1 unusable" in text
    assert "at least 10" in text
    assert "damaged.jpg is damaged" in text


def test_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ActivationSetError, match="no folder"):
        load_activation_set(tmp_path / "none", NamedCrops())


def test_fewer_faces_than_advised_are_noted(tmp_path: Path) -> None:
    found = load_activation_set(fill(tmp_path, "1.jpg", "2.jpg"), NamedCrops(), limits=FEW)
    assert found.notes == ("2 faces are few: 3 or more give steadier ranges",)


def test_too_many_images_give_an_even_sample_of_the_size_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, *numbered(400))
    limits = ActivationSetLimits(minimum=1, recommended=1, maximum=40)
    source = NamedCrops()
    found = load_activation_set(tmp_path, source, limits=limits)
    numbers = sorted(int(Path(name).stem) for name in found.names)
    gaps = np.diff([0, *numbers, 400])
    assert len(found) == len(source.asked) == 40
    assert gaps.max() <= 30
    assert list(found.names) == sorted(found.names)


def test_sample_is_filled_up_where_images_have_no_face(tmp_path: Path) -> None:
    fill(tmp_path, *numbered(60), *(f"empty-{k}.jpg" for k in range(60)))
    limits = ActivationSetLimits(minimum=1, recommended=1, maximum=50)
    assert len(load_activation_set(tmp_path, NamedCrops(), limits=limits)) == 50


def test_sample_depends_on_the_seed_alone(tmp_path: Path) -> None:
    fill(tmp_path, *numbered(100))
    limits = ActivationSetLimits(minimum=1, recommended=1, maximum=10)
    first, again, other = (
        load_activation_set(tmp_path, NamedCrops(), limits=limits, seed=seed).names
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []

    def progress(label: str, items: Iterable[Any]) -> Iterable[Any]:
        told.append(label)
        return items

    fill(tmp_path, *numbered(3))
    load_activation_set(tmp_path, NamedCrops(), limits=FEW, progress=progress)
    assert told == ["reading faces"]


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="minimum <= maximum"):
        ActivationSetLimits(minimum=10, maximum=5)
