"""With a target FPIR the threshold follows the number enrolled, and no gallery outgrows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeface.errors import OperatingPointError
from edgeface.gallery import Gallery
from edgeface.pipeline import Recognizer
from edgeface.types import Frame, OperatingPoint
from tests.unit.test_streams import Rig, scene, standing

pytest.importorskip("cv2")

FPIR = 0.01


def point(threshold: float, gallery_size: int) -> OperatingPoint:
    return OperatingPoint(
        threshold,
        FPIR / gallery_size,
        "fp32",
        "test",
        target_fpir=FPIR,
        gallery_size=gallery_size,
    )


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    """Two are enrolled; points hold for two and for three."""
    made = Rig(tmp_path, standing(1, 1)).recognizer
    made.manifest = replace(made.manifest, operating_points=(point(0.5, 2), point(0.7, 3)))
    made._options = replace(made._options, target_fpir=FPIR)
    return made


def enrol(recognizer: Recognizer, person: int, *, extend: bool = False) -> None:
    photo = Frame(scene((person, 20)), 0.0, person, "photo")
    recognizer.enrol(f"person {person}", [photo], extend=extend)


def names(gallery: Gallery) -> list[str]:
    return [entry.name for entry in gallery.subjects()]


def test_the_threshold_rises_with_the_number_enrolled(recognizer: Recognizer) -> None:
    recognizer.identify(Frame(scene((1, 20)), 0.0, 1, "photo"))
    assert recognizer.operating_point.threshold == 0.5
    enrol(recognizer, 3)
    assert recognizer.operating_point.threshold == 0.7
    assert recognizer.operating_point_limits is None


def test_nobody_is_enrolled_whom_no_point_covers(recognizer: Recognizer) -> None:
    enrol(recognizer, 3)
    before = names(recognizer.gallery)
    with pytest.raises(OperatingPointError, match="4 subjects"):
        enrol(recognizer, 4)
    assert names(recognizer.gallery) == before


def test_more_photos_of_somebody_enrolled_need_no_other_point(recognizer: Recognizer) -> None:
    enrol(recognizer, 3)
    enrol(recognizer, 3, extend=True)
    assert len(recognizer.gallery.templates("person 3")) == 2


def test_a_gallery_that_another_program_let_grow_is_not_searched(recognizer: Recognizer) -> None:
    template = recognizer.gallery.templates("ann")[0]
    for name in ("c", "d"):
        recognizer.gallery.add(name, [template])
    with pytest.raises(OperatingPointError):
        recognizer.identify(Frame(scene((1, 20)), 0.0, 1, "photo"))


def test_without_a_target_the_point_stays_and_its_limits_are_said(tmp_path: Path) -> None:
    made = Rig(tmp_path, standing(1, 1)).recognizer
    before = made.operating_point
    enrol(made, 3)
    assert made.operating_point is before
    assert made.operating_point_limits is not None
