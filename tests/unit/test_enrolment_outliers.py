"""One stray picture among several does not cost the enrolment; two people never become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import EnrolmentError
from edgeface.pipeline.enrolment import require_one_person
from edgeface.types import OperatingPoint, RejectionReason, Template
from tests.unit.test_pipeline import Setup, face, scene

POINT = OperatingPoint(0.6, 1e-4, "fp32", "test")


def templates(people: str, qualities: Sequence[float] = ()) -> list[Template]:
    """Return one template for each letter; those of one letter agree, no others do."""
    found = []
    for k, letter in enumerate(people):
        vector = np.zeros(64, np.float32)
        vector[ord(letter) - ord("a")], vector[32 + k] = 0.9, 0.19**0.5
        found.append(Template(vector, "m", qualities[k] if qualities else 0.5))
    return found


def left_out(people: str, qualities: Sequence[float] = ()) -> tuple[int, ...]:
    names = [f"image {k + 1}" for k in range(len(people))]
    return require_one_person(names, templates(people, qualities), POINT)


@pytest.mark.parametrize("people", ["a", "aa", "aaaaaaa"])
def test_images_of_one_person_all_stay(people: str) -> None:
    assert left_out(people) == ()


@pytest.mark.parametrize(
    ("people", "odd"),
    [("aaab", (3,)), ("baaa", (0,)), ("aabaa", (2,)), ("abaacaa", (1, 4)), ("bbaaaaa", (0, 1))],
)
def test_a_stray_image_is_left_out_where_enough_agree(people: str, odd: tuple[int, ...]) -> None:
    assert left_out(people) == odd


def test_a_stray_image_of_the_best_quality_is_left_out_too(tmp_path: Path) -> None:
    assert left_out("baaa", (0.9, 0.2, 0.3, 0.4)) == (0,)


@pytest.mark.parametrize("people", ["ab", "aab", "aabb", "aaabb", "abc", "aaabbb", "abcd"])
def test_where_it_is_not_clear_who_is_meant_nobody_is_enrolled(people: str) -> None:
    with pytest.raises(EnrolmentError, match="one person at a time"):
        left_out(people)


def test_the_report_names_what_was_left_out_and_the_rest_is_stored(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]] * 5)
    images = [scene(1), scene(1), scene(2), scene(1), scene(1)]
    report = setup.recognizer.enrol("ann", images)
    assert report.accepted == ("image 1", "image 2", "image 4", "image 5")
    (odd,) = report.rejected
    assert (odd.image, odd.reasons) == ("image 3", (RejectionReason.NOT_LIKE_THE_OTHERS,))
    assert "image 3" in odd.sentence
    assert len(setup.gallery.templates("ann")) == 4
