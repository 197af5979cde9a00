from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.embedding import FaceEmbedder
from edgeface.errors import ActivationSetError
from edgeface.testing import FakeBackend
from edgeface.types import AlignedFace, ImageArray, OperatingPoint, Size
from edgeface_calibration.activation_set import ActivationSetLimits, load_activation_set
from edgeface_calibration.activation_set_colour import blue_skin_share, check_skin_colour
from edgeface_calibration.activation_set_coverage import Verdict, cover, coverage_sheet
from edgeface_calibration.activation_set_duplicates import count_near_duplicates
from edgeface_calibration.activation_set_limits import even_positions
from edgeface_calibration.activation_set_manifest import CropMeasures, SourceKind
from edgeface_calibration.activation_set_people import (
    PeopleEstimate,
    estimate_people,
    group_by_score,
)
from edgeface_calibration.activation_set_spot_check import spot_check
from edgeface_calibration.activation_set_store import (
    CollectedFace,
    StoredActivationSet,
    save_activation_set,
)
from tests.unit.test_activation_set import face

pytest.importorskip("cv2")

FEW = ActivationSetLimits(minimum=2, recommended=4)
ONE_PERSON = PeopleEstimate(1, 1.0, 0.5, 1e-4, provisional=True, n_crops=6, n_unusable=0)


def measures(**changed: float) -> CropMeasures:
    usual = {
        "yaw_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0, "luminance": 0.5, "sharpness": 0.4,
        "eye_distance_px": 41.0,
    }  # fmt: skip
    return CropMeasures(**(usual | changed))


def stored_set(
    folder: Path,
    crops: list[ImageArray] | None = None,
    of: list[CropMeasures] | None = None,
    template: str = "arcface-112x112",
) -> StoredActivationSet:
    crops = [face(k) for k in range(6)] if crops is None else crops
    known = of or [measures()] * len(crops)
    faces = [
        CollectedFace(crop, each, SourceKind.PICTURE)
        for crop, each in zip(crops, known, strict=True)
    ]
    return save_activation_set(folder / "a.activations", faces, template=template, refused={})


def skin(n: int, colour: tuple[int, int, int]) -> ImageArray:
    crops = np.empty((n, 112, 112, 3), np.uint8)
    crops[:] = colour
    return crops


# --- colours


@pytest.mark.parametrize(
    ("colour", "share"),
    [
        ((200, 150, 120), 0.0),
        ((90, 60, 45), 0.0),
        ((120, 150, 200), 1.0),
        ((45, 60, 90), 1.0),
        ((128, 128, 128), 0.0),
        ((180, 150, 185), 0.0),
        ((0, 0, 0), 0.0),
    ],
)
def test_blue_skin_has_less_red_than_green_and_less_green_than_blue(
    colour: tuple[int, int, int], share: float
) -> None:
    assert blue_skin_share(skin(3, colour)) == share
    assert blue_skin_share(skin(3, colour)[:, :, 8:-8]) == share


def test_no_crop_has_no_blue_skin() -> None:
    assert blue_skin_share(skin(0, (1, 2, 3))) == 0
    assert check_skin_colour(skin(0, (1, 2, 3)), "here") == ()


def test_only_the_middle_of_the_face_is_asked() -> None:
    crops = skin(2, (20, 60, 200))
    crops[:, 60:86, 28:84] = (200, 150, 120)
    assert blue_skin_share(crops) == 0


@pytest.mark.parametrize(
    ("n_blue", "n_red", "said"),
    [(0, 60, "nothing"), (5, 55, "nothing"), (6, 54, "noted"), (29, 31, "noted"),
     (30, 30, "refused"), (60, 0, "refused"), (49, 0, "nothing")],
)  # fmt: skip
def test_a_set_is_judged_by_its_share_of_blue_skin(n_blue: int, n_red: int, said: str) -> None:
    crops = np.concatenate([skin(n_blue, (120, 150, 200)), skin(n_red, (200, 150, 120))])
    if said == "refused":
        with pytest.raises(ActivationSetError, match=r"^here: .*exchanged.*make the pictures"):
            check_skin_colour(crops, "here")
    else:
        assert bool(check_skin_colour(crops, "here")) == (said == "noted")


# --- people


@pytest.mark.parametrize(
    ("angles_deg", "threshold", "groups"),
    [
        ([], 0.5, []),
        ([10], 0.5, [0]),
        ([0, 5, 90, 95], 0.9, [0, 0, 1, 1]),
        ([0, 90, 3, 93, 180], 0.9, [0, 1, 0, 1, 2]),
        ([0, 0, 0], 0.9, [0, 0, 0]),
        # Each is like its neighbour, the ends are not: a chain, which is not one person.
        ([0, 40, 85, 126, 170], 0.7, [0, 0, 1, 1, 2]),
        ([0, 60], 0.5 - 1e-6, [0, 0]),
        ([0, 60], 0.5 + 1e-6, [0, 1]),
    ],
)
def test_groups_are_joined_by_their_mean_score(
    angles_deg: list[float], threshold: float, groups: list[int]
) -> None:
    radians = np.radians(np.array(angles_deg, np.float64))
    rows = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    assert group_by_score(rows, threshold).tolist() == groups


def test_people_are_counted_at_the_threshold_of_an_operating_point() -> None:
    pytest.importorskip("onnx")
    from dataclasses import replace

    from tests.builders_export import MANIFEST

    manifest = replace(
        MANIFEST, embedding_size=64, crop_size=Size(112, 112), alignment_template="arcface-112x112"
    )
    crops = np.stack([face(1), face(2), face(1) + 3, face(3), face(1) + 5])
    point = OperatingPoint(0.9, 1e-4, "fp32", "made up", provisional=True)
    found = estimate_people(crops, FaceEmbedder(FakeBackend(), manifest), point)
    assert (found.count, found.largest_share, found.n_crops) == (3, 0.6, 5)
    assert (found.threshold, found.target_fmr, found.provisional) == (0.9, 1e-4, True)


# --- coverage


def test_measures_are_summed_up(tmp_path: Path) -> None:
    of = [measures(yaw_deg=float(yaw)) for yaw in (-40, -20, 0, 10, 20, 30)]
    found = cover(stored_set(tmp_path, of=of), limits=FEW)
    yaw = found.measures["yaw_deg"]
    assert (yaw.minimum, yaw.median, yaw.maximum) == (-40, 5, 30)
    assert yaw.p10 == pytest.approx(-30)
    assert yaw.p90 == pytest.approx(25)
    assert found.source_kinds == {"picture": 6}
    assert (found.count, found.near_duplicates) == (6, 0)


def test_what_there_is_little_of_is_said(tmp_path: Path) -> None:
    crops = [face(k) for k in range(40)]
    of = [measures(yaw_deg=20.0), *[measures(roll_deg=15.0)] * 20, *[measures()] * 19]
    found = cover(stored_set(tmp_path, crops, of), limits=FEW)
    assert "only 2.5% turned more than 15 degrees" in found.thin
    assert "none raised or lowered more than 10 degrees" in found.thin
    assert not any("tilted" in sentence for sentence in found.thin)


@pytest.mark.parametrize(
    ("limits", "people", "verdict", "said"),
    [
        (FEW, None, Verdict.GOOD, "good"),
        (ActivationSetLimits(minimum=7), None, Verdict.REFUSED, "6 faces are too few"),
        (ActivationSetLimits(minimum=2, recommended=7), None, Verdict.WARNED, "few"),
        (FEW, ONE_PERSON, Verdict.WARNED, "one person"),
    ],
)
def test_the_verdict_is_a_sentence(
    tmp_path: Path,
    limits: ActivationSetLimits,
    people: PeopleEstimate | None,
    verdict: Verdict,
    said: str,
) -> None:
    found = cover(stored_set(tmp_path), people=people, limits=limits)
    assert found.verdict is verdict
    assert said in found.sentence
    assert json.loads(json.dumps(found.to_dict()))["verdict"] == verdict.value


def test_blue_skin_is_refused_by_the_report(tmp_path: Path) -> None:
    tint = np.array([0.3, 0.6, 1.0])
    crops = [(face(k).mean(2, keepdims=True) * tint).astype(np.uint8) for k in range(60)]
    found = cover(stored_set(tmp_path, crops), limits=FEW)
    assert found.verdict is Verdict.REFUSED
    assert "exchanged" in found.sentence


def test_an_empty_set_is_covered_and_refused(tmp_path: Path) -> None:
    stored = stored_set(tmp_path, [])
    found = cover(stored)
    assert (found.verdict, found.measures, found.thin) == (Verdict.REFUSED, {}, ())
    with pytest.raises(ActivationSetError, match="no crop to show"):
        coverage_sheet(stored)


def test_near_duplicates_are_counted() -> None:
    assert count_near_duplicates([face(1), face(2), face(1) + 2, face(1)]) == 2
    assert count_near_duplicates([]) == 0


def test_the_sheet_shows_an_even_sample(tmp_path: Path) -> None:
    stored = stored_set(tmp_path)
    small, large = coverage_sheet(stored, wanted=3), coverage_sheet(stored, wanted=60, columns=3)
    assert small.dtype == np.uint8
    assert large.shape[0] > 1.8 * small.shape[0]
    assert large.shape[1] == small.shape[1]


@pytest.mark.parametrize(
    ("n", "wanted", "positions"),
    [(0, 5, []), (1, 5, [0]), (3, 5, [0, 1, 2]), (10, 2, [2, 7]), (10, 5, [1, 3, 5, 7, 9])],
)
def test_positions_are_equally_far_apart(n: int, wanted: int, positions: list[int]) -> None:
    assert even_positions(n, wanted) == positions


# --- the spot check, and loading a set


class FoundAgain:
    """Finds every crop again, ``shift_px`` from its place, and aligns it ``width_px`` wide."""

    def __init__(self, shift_px: float = 0.0, width_px: int = 112, n_found: int = 10_000) -> None:
        self.asked: list[Path] = []
        self._matrix = np.array([[1, 0, shift_px - (112 - width_px) / 2], [0, 1, 0]], np.float32)
        self._width_px = width_px
        self._left = n_found

    def crop(self, path: Path) -> AlignedFace | None:
        self.asked.append(path)
        self._left -= 1
        if self._left < 0:
            return None
        return AlignedFace(np.zeros((112, self._width_px, 3), np.uint8), self._matrix)


def test_sixteen_crops_are_found_again(tmp_path: Path) -> None:
    stored = stored_set(tmp_path, [face(k) for k in range(40)])
    source = FoundAgain()
    assert spot_check(stored, source) == "arcface-112x112"
    assert len(set(source.asked)) == 16


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        (FoundAgain(), True),
        (FoundAgain(shift_px=4.9), True),
        (FoundAgain(shift_px=-5.1), False),
        (FoundAgain(n_found=0), False),
        (FoundAgain(n_found=9), False),
        (FoundAgain(n_found=10), True),
        (FoundAgain(width_px=96), True),
        (FoundAgain(width_px=96, shift_px=8.0), False),
    ],
)
def test_crops_that_are_no_aligned_faces_are_refused(
    tmp_path: Path, source: FoundAgain, passes: bool
) -> None:
    stored = stored_set(tmp_path, [face(k) for k in range(16)])
    if passes:
        spot_check(stored, source)
    else:
        with pytest.raises(ActivationSetError, match="give the original photos"):
            spot_check(stored, source)


@pytest.mark.parametrize("scale", [0.1, 0.0])
def test_crops_that_the_gates_would_not_pass_are_refused(tmp_path: Path, scale: float) -> None:
    crops = [(face(k) * scale).astype(np.uint8) + k for k in range(16)]
    with pytest.raises(ActivationSetError, match="0 a clear one"):
        spot_check(stored_set(tmp_path, crops), FoundAgain())


@pytest.mark.parametrize("width_px", [112, 96])
def test_a_set_is_loaded_as_the_crops_of_the_model(tmp_path: Path, width_px: int) -> None:
    stored = stored_set(tmp_path)
    source = FoundAgain(width_px=width_px)
    found = load_activation_set(stored.path, source, limits=FEW)
    margin = (112 - width_px) // 2
    assert (found.crops == stored.crops()[:, :, margin : 112 - margin]).all()
    assert found.names == tuple(record.file for record in stored.manifest.crops)
    assert found.notes == ()
    assert len(source.asked) == 6


def test_an_even_sample_is_taken_of_a_set_that_is_too_large(tmp_path: Path) -> None:
    stored = stored_set(tmp_path, [face(k) for k in range(40)])
    limits = ActivationSetLimits(minimum=1, recommended=1, maximum=10)
    found = load_activation_set(stored.path, FoundAgain(), limits=limits)
    where = [name.file for name in stored.manifest.crops]
    gaps = np.diff([0, *(where.index(name) for name in found.names), 40])
    assert len(found) == 10
    assert gaps.max() <= 4


def test_a_set_for_narrower_models_is_refused_by_a_wider_one(tmp_path: Path) -> None:
    crops = [face(k)[:, 8:-8] for k in range(16)]
    stored = stored_set(tmp_path, crops, template="arcface-112x96")
    wider = FoundAgain(shift_px=8.0)
    with pytest.raises(ActivationSetError, match="collect it again with --template"):
        load_activation_set(stored.path, wider, limits=FEW)


def test_a_set_of_too_few_faces_is_refused_whatever_it_says(tmp_path: Path) -> None:
    source = FoundAgain()
    with pytest.raises(ActivationSetError, match="gives 6 faces"):
        load_activation_set(stored_set(tmp_path).path, source)
    assert source.asked == []


def test_few_faces_and_doubtful_colours_are_noted(tmp_path: Path) -> None:
    tint: Any = np.array([0.3, 0.6, 1.0])
    grey = [face(k).mean(2, keepdims=True) for k in range(60)]
    crops = [
        (each * (tint if k % 4 == 0 else tint[::-1])).astype(np.uint8)
        for k, each in enumerate(grey)
    ]
    limits = ActivationSetLimits(minimum=2)
    found = load_activation_set(stored_set(tmp_path, crops).path, FoundAgain(), limits=limits)
    assert found.notes[0].startswith("60 faces are few")
    assert found.notes[1].startswith("25% of 60 faces have blue skin")
