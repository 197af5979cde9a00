"""Labelled faces for discovery: each photo is read once, and cut by as many templates as asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.alignment import ALIGNMENT_TEMPLATES, alignment_template, similarity_transform
from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.types import FloatArray, Frame, ImageArray, Size

__all__ = ["CropPlan", "FacePatch", "LabelledFaces", "crop_plans", "patch_of"]

# Around the middle of the points, in units of their spread: what the widest crop shows, and more.
_REACH = 5.0
# A larger face is shrunk to this; a crop of 112 px has no use for more.
_MAX_SIDE_PX = 640
_MIN_FACES, _MIN_PEOPLE = 200, 20
_SHIFT_PX = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class CropPlan:
    """Where the five points of a face go in a crop of ``size``: (5, 2) float64 ``points_px``.

    ``template`` names the alignment template of the runtime that does this, empty where there is
    none: then the plan is a measurement only.
    """

    name: str
    size: Size
    points_px: npt.NDArray[np.float64]
    template: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FacePatch:
    """The piece of a photo around one face: uint8 RGB pixels, and (5, 2) points in them."""

    pixels: ImageArray
    points_px: FloatArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LabelledFaces:
    """Faces and who they show: ``people`` has one number for each patch, equal for one person.

    Raises:
        InvalidInputError: Fewer than 200 faces, fewer than 20 people with two faces, or another
            number of people than of patches.
    """

    patches: tuple[FacePatch, ...]
    people: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        people = np.asarray(self.people, np.int64)
        object.__setattr__(self, "people", people)
        if people.shape != (len(self.patches),):
            raise InvalidInputError(
                f"every face needs the number of its person, got {people.shape} numbers for "
                f"{len(self.patches)} faces"
            )
        pairs = int((np.unique(people, return_counts=True)[1] > 1).sum())
        if len(people) < _MIN_FACES or pairs < _MIN_PEOPLE:
            raise InvalidInputError(
                f"discovery needs {_MIN_FACES} faces or more, and two or more of each of "
                f"{_MIN_PEOPLE} people; got {len(people)} faces and {pairs} such people: give a "
                "folder with more photos"
            )

    def crops(self, plan: CropPlan, chosen: Iterable[int] | None = None) -> ImageArray:
        """Return (n, height, width, 3) uint8 RGB crops by ``plan``, of all faces or those chosen.

        Bilinear, black outside of the photo, as the runtime aligns.

        Raises:
            MissingDependencyError: OpenCV is not installed.
        """
        numbers = range(len(self.patches)) if chosen is None else chosen
        return np.stack([_cut(self.patches[number], plan) for number in numbers])

    def in_order(self, seed: int = 0) -> LabelledFaces:
        """Return the same faces with the people shuffled and each one's faces together.

        The first n of them are then a fair and smaller set with as many pairs as can be.
        """
        numbers, counts = np.unique(self.people, return_counts=True)
        order = np.random.default_rng(seed).permutation(len(numbers))
        # People with one face give no mated pair: they come last.
        order = order[np.argsort(counts[order] < 2, kind="stable")]
        rank = np.empty(len(numbers), np.int64)
        rank[order] = np.arange(len(numbers))
        people = rank[np.searchsorted(numbers, self.people)]
        sorting = np.argsort(people, kind="stable")
        return LabelledFaces(tuple(self.patches[k] for k in sorting), people[sorting])


def patch_of(frame: Frame, points_px: npt.NDArray[np.floating]) -> FacePatch:
    """Return the piece of ``frame`` around the face with the (5, 2) points.

    Raises:
        InvalidInputError: The points are not finite, or the face lies outside of the frame.
        MissingDependencyError: OpenCV is not installed.
    """
    points = np.asarray(points_px, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise InvalidInputError(f"a face has five finite points, got {points.shape}")
    middle, spread = points.mean(0), float(np.abs(points - points.mean(0)).max())
    low = np.floor(np.maximum(middle - _REACH * spread, 0)).astype(int)
    high = np.ceil(middle + _REACH * spread).astype(int)
    pixels = frame.pixels[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if 0 in pixels.shape:
        raise InvalidInputError("the points of the face lie outside of its photo")
    points = points - low
    side = max(pixels.shape[:2])
    if side > _MAX_SIDE_PX:
        pixels, points = _shrunk(pixels, points, _MAX_SIDE_PX / side)
    return FacePatch(np.ascontiguousarray(pixels), points.astype(np.float32))


def crop_plans(size: Size) -> tuple[CropPlan, ...]:
    """Return the ways to cut crops of ``size``: the runtime's template first, then others near it.

    Sizes that the runtime has no template for take ArcFace's points, scaled to the height and
    centred in the width.
    """
    templates = [name for name, known in ALIGNMENT_TEMPLATES.items() if known == size]
    plans = [CropPlan(name, size, alignment_template(name), name) for name in templates]
    scaled = _scaled(size)
    if not plans:
        plans.append(CropPlan(f"arcface scaled to {size.height_px}", size, scaled))
    return (*plans, *_moved(plans[0]))


def _moved(plan: CropPlan) -> list[CropPlan]:
    """Return ``plan`` moved by 8 of 112 px each way, and showing more or less of the head."""
    unit = _SHIFT_PX * plan.size.height_px / 112
    shown = f"{unit:g} px"
    ways = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
    moved = [
        _variant(plan, f"{shown} {way}", plan.points_px + unit * np.array(step, np.float64))
        for way, step in ways.items()
    ]
    middle = np.array([plan.size.width_px, plan.size.height_px]) / 2
    for factor, said in ((0.85, "looser by 15 %"), (1.15, "tighter by 15 %")):
        moved.append(_variant(plan, said, middle + factor * (plan.points_px - middle)))
    return moved


def _variant(plan: CropPlan, said: str, points_px: npt.NDArray[np.float64]) -> CropPlan:
    return CropPlan(f"{plan.name}, {said}", plan.size, points_px)


def _scaled(size: Size) -> npt.NDArray[np.float64]:
    points = alignment_template("arcface-112x112")
    scale = size.height_px / 112
    shift = np.array([(size.width_px - 112 * scale) / 2, 0.0])
    return np.asarray(points * scale + shift)


def _cut(patch: FacePatch, plan: CropPlan) -> ImageArray:
    cv2 = _opencv()
    matrix = similarity_transform(patch.points_px, plan.points_px)
    crop: ImageArray = cv2.warpAffine(
        patch.pixels, matrix, (plan.size.width_px, plan.size.height_px)
    )
    return crop


def _shrunk(
    pixels: ImageArray, points: npt.NDArray[np.float64], factor: float
) -> tuple[ImageArray, npt.NDArray[np.float64]]:
    cv2 = _opencv()
    small: ImageArray = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    scales = np.array(small.shape[1::-1]) / np.array(pixels.shape[1::-1])
    # Pixel centres, not corners, are what points refer to.
    return small, (points + 0.5) * scales - 0.5


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as exc:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
    return cv2


def numbered(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return one number for each of ``names``, equal where the names are."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
