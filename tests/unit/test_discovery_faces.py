"""The faces of a discovery: cut by any plan as the runtime cuts, and a fair order of people."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.alignment import align, alignment_template
from edgeface.errors import InvalidInputError
from edgeface.types import Frame, ImageArray, Size
from edgeface_export.discovery.faces import (
    FacePatch,
    LabelledFaces,
    crop_plans,
    numbered,
    patch_of,
)
from edgeface_export.probes import synthetic_crops

cv2 = pytest.importorskip("cv2")
POINTS = alignment_template("arcface-112x112")


def patch(pixels: ImageArray | None = None) -> FacePatch:
    blank = np.zeros((112, 112, 3), np.uint8)
    return FacePatch(blank if pixels is None else pixels, POINTS.astype(np.float32))


def faces(people: list[int]) -> LabelledFaces:
    return LabelledFaces(tuple(patch() for _ in people), np.array(people, np.int64))


def photo(size: Size, seed: int = 3) -> Frame:
    return Frame(synthetic_crops(1, size, seed=seed)[0])


@pytest.mark.parametrize("template", ["arcface-112x112", "arcface-112x96"])
@pytest.mark.parametrize(("scale", "turn"), [(0.6, 0.1), (1.3, -0.4), (2.0, 0.0)])
def test_a_patch_is_cut_as_the_runtime_aligns_the_photo(
    template: str, scale: float, turn: float
) -> None:
    frame = photo(Size(640, 480))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (POINTS - POINTS.mean(0)) @ turned.T * scale + (300, 220)
    plan = next(
        plan
        for size in (Size(112, 112), Size(96, 112))
        for plan in crop_plans(size)
        if plan.name == template
    )
    cut = LabelledFaces.crops(_one(patch_of(frame, points)), plan)[0]
    wanted = align(frame, points, template).pixels
    # The corner of the patch is a whole pixel, but the warp rounds to a thirty-second of one.
    assert np.abs(cut.astype(int) - wanted).max() <= 2
    assert plan.template == template


def _one(found: FacePatch) -> LabelledFaces:
    people = np.repeat(np.arange(100), 2)
    return LabelledFaces((found,) * 200, people)


def test_a_huge_face_is_shrunk_and_still_lies_where_it_should() -> None:
    # Without detail finer than a pixel of the crop, which the two sample in different ways.
    frame = Frame(cv2.GaussianBlur(photo(Size(1600, 1600)).pixels, (0, 0), 12))
    found = patch_of(frame, POINTS * 12 + 100)
    assert max(found.pixels.shape) <= 640
    size = Size(112, 112)
    plan = crop_plans(size)[0]
    small = LabelledFaces.crops(_one(found), plan, [0])[0].astype(float)
    whole = align(frame, POINTS * 12 + 100, "arcface-112x112").pixels.astype(float)
    assert np.corrcoef(small.ravel(), whole.ravel())[0, 1] > 0.999


def test_a_face_at_the_edge_of_its_photo_has_black_beside_it() -> None:
    frame = Frame(np.full((200, 200, 3), 255, np.uint8))
    found = patch_of(frame, POINTS - (40, 0))
    crop = _one(found).crops(crop_plans(Size(112, 112))[0], [0])[0]
    assert crop[:, 0].max() == 0
    assert crop[56, 110].min() == 255


@pytest.mark.parametrize(
    "points", [np.full((5, 2), np.nan), np.zeros((4, 2)), POINTS + 5000, np.full((5, 2), np.inf)]
)
def test_points_that_are_no_face_of_the_photo_are_refused(points: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        patch_of(photo(Size(100, 100)), points)


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ([], "200 faces"),
        (list(range(300)), "0 such people"),
        ([0] * 150 + [1] * 150, "2 such people"),
        ([k // 2 for k in range(198)], "got 198 faces"),
    ],
)
def test_too_few_faces_or_people_are_refused_with_what_is_needed(
    people: list[int], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        faces(people)


def test_numbers_of_people_must_fit_the_faces() -> None:
    with pytest.raises(InvalidInputError, match="every face"):
        LabelledFaces((patch(),) * 200, np.zeros(199, np.int64))


def test_a_fair_order_keeps_people_together_and_those_with_one_face_last() -> None:
    people = [k % 70 for k in range(210)] + [100, 101, 102]
    ordered = faces(people).in_order(seed=1).people
    assert (np.diff(ordered) >= 0).all()
    assert np.bincount(ordered)[-3:].tolist() == [1, 1, 1]
    assert np.bincount(ordered)[:70].tolist() == [3] * 70
    again = faces(people).in_order(seed=1).people
    np.testing.assert_array_equal(ordered, again)


def test_a_size_without_a_template_gets_the_scaled_one_and_says_so() -> None:
    first, *others = crop_plans(Size(128, 128))
    np.testing.assert_allclose(first.points_px, POINTS * 128 / 112)
    assert all(plan.size == Size(128, 128) for plan in (first, *others))
    assert all(plan.template == "" for plan in others)
    assert len({plan.name for plan in (first, *others)}) == 7


def test_names_become_numbers() -> None:
    assert numbered(["b", "a", "b"]).tolist() == [1, 0, 1]
