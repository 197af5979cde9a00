"""Pictures with what was found on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgeface.errors import InvalidInputError
from edgeface.overlay import REASON_TEXT, contact_sheet, draw, drawable_text
from edgeface.types import (
    BoundingBox,
    FaceDetection,
    Frame,
    IdentificationResult,
    ImageArray,
    Observation,
    Outcome,
    RejectionReason,
)

pytest.importorskip("cv2")

RESULTS: Mapping[str, IdentificationResult] = {
    "known": IdentificationResult(Outcome.KNOWN, "José Müller", 0.71),
    "unknown": IdentificationResult(Outcome.UNKNOWN, score=0.2),
    "ambiguous": IdentificationResult(Outcome.AMBIGUOUS, score=0.5),
    "rejected": IdentificationResult(
        Outcome.REJECTED, reasons=(RejectionReason.TOO_BLURRED, RejectionReason.TILTED)
    ),
}
HUES = {
    "known": lambda r, g, b: g > r + 60 and g > b + 60,
    "unknown": lambda r, g, b: r > 200 and r > g > b + 60,
    "ambiguous": lambda r, g, b: b > r > g + 30,
    "rejected": lambda r, g, b: max(r, g, b) - min(r, g, b) < 20,
}


def frame(width_px: int = 640, height_px: int = 480) -> Frame:
    return Frame(np.full((height_px, width_px, 3), 100, np.uint8))


def seen(
    result: IdentificationResult,
    box: BoundingBox | None = None,
    track_id: int | None = None,
    track_result: IdentificationResult | None = None,
) -> Observation:
    detection = FaceDetection(box or BoundingBox(200, 200, 120, 140), 0.9)
    return Observation(detection, result, track_id=track_id, track_result=track_result)


def corner(pixels: ImageArray) -> tuple[int, ...]:
    return tuple(int(value) for value in pixels[200, 200])


def test_a_frame_without_faces_is_copied() -> None:
    source = frame()
    drawn = draw(source, [])
    np.testing.assert_array_equal(drawn, source.pixels)
    drawn[:] = 0
    assert (source.pixels == 100).all()


@pytest.mark.parametrize("outcome", RESULTS)
def test_each_outcome_has_its_colour(outcome: str) -> None:
    assert HUES[outcome](*corner(draw(frame(), [seen(RESULTS[outcome])])))


def test_the_track_is_heard_before_the_frame() -> None:
    known, unknown = RESULTS["known"], RESULTS["unknown"]
    assert HUES["known"](*corner(draw(frame(), [seen(unknown, None, 1, known)])))
    assert HUES["rejected"](*corner(draw(frame(), [seen(known, None, 1, None)])))


def test_the_same_observations_are_drawn_the_same() -> None:
    observations = [seen(result, None, 3, result) for result in RESULTS.values()]
    first = draw(frame(), observations)
    np.testing.assert_array_equal(first, draw(frame(), observations))
    assert not np.array_equal(first, draw(frame(), [seen(RESULTS["known"])]))


def test_the_inside_of_a_face_stays_visible() -> None:
    drawn = draw(frame(), [seen(RESULTS["known"])])
    assert (drawn[220:330, 210:310] == 100).all()


@pytest.mark.parametrize(("width_px", "height_px"), [(854, 480), (1920, 1080)])
def test_labels_grow_with_the_picture(width_px: int, height_px: int) -> None:
    box = BoundingBox(width_px / 2, height_px / 2, 100, 100)
    changed = (draw(frame(width_px, height_px), [seen(RESULTS["known"], box)]) != 100).any(2)
    label_rows = np.flatnonzero(changed.any(1))
    assert 0.06 < (height_px / 2 - label_rows[0]) / height_px < 0.14


BOXES = {
    "whole frame": BoundingBox(0, 0, 640, 480),
    "above": BoundingBox(100, -80, 100, 100),
    "corner": BoundingBox(630, 470, 100, 100),
    "left": BoundingBox(-90, 100, 100, 100),
    "far away": BoundingBox(5000, 5000, 100, 100),
    "huge": BoundingBox(-1e12, -1e12, 3e12, 3e12),
    "tiny": BoundingBox(50.2, 50.2, 0.1, 0.1),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("size", [(640, 480), (1, 1), (7, 300)], ids=str)
def test_nothing_outside_the_picture_breaks_it(box: BoundingBox, size: tuple[int, int]) -> None:
    for result in RESULTS.values():
        drawn = draw(frame(*size), [seen(result, box, 10**9, result)])
        assert drawn.shape == (size[1], size[0], 3)
        assert drawn.dtype == np.uint8


def test_a_face_outside_the_picture_is_not_drawn() -> None:
    drawn = draw(frame(), [seen(RESULTS["known"], BOXES["far away"])])
    assert (drawn == 100).all()


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), -1.0, 1.0])
def test_any_score_can_be_drawn(score: float | None) -> None:
    draw(frame(), [seen(IdentificationResult(Outcome.UNKNOWN, score=score))])


def test_every_reason_has_its_words() -> None:
    assert set(REASON_TEXT) == set(RejectionReason)
    ours = draw(frame(), [seen(RESULTS["rejected"])])
    theirs = draw(
        frame(),
        [seen(RESULTS["rejected"])],
        reason_text={RejectionReason.TOO_BLURRED: "bitte stillhalten"},
    )
    assert not np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("", ""),
        ("Alice", "Alice"),
        ("José Müller", "Jose Muller"),
        ("Søren Groß", "Soren Gross"),
        ("Łukasz", "Lukasz"),
        ("李小龙", "???"),
        ("O\u2019Brien", "O'Brien"),
        ("ﬁne ①", "fine 1"),
        ("a\nb", "a?b"),
        ("👩", "?"),
    ],
)
def test_names_are_spelt_in_ascii(name: str, drawn: str) -> None:
    assert drawable_text(name) == drawn


def test_a_long_name_stays_in_the_picture() -> None:
    result = IdentificationResult(Outcome.KNOWN, "x" * 200, 0.5)
    changed = draw(frame(), [seen(result)]) != 100
    assert not changed[:, 600:].any()


def test_a_contact_sheet_shows_every_crop() -> None:
    crops = [np.full((112, 96, 3), (200, 10, 10 + i), np.uint8) for i in range(5)]
    sheet = contact_sheet(crops, [f"title {i}" for i in range(5)], 3, cell_px=112)
    for i in range(5):
        assert ((sheet == (200, 10, 10 + i)).all(2)).sum() > 90 * 105
    assert sheet.shape[1] > sheet.shape[0] > 2 * 112


def test_a_contact_sheet_takes_crops_of_any_size() -> None:
    shapes = [(1, 1), (1, 500), (500, 1), (40, 50)]
    crops = [np.full((*shape, 3), 255, np.uint8) for shape in shapes]
    assert contact_sheet(crops, ["", "x" * 500, "李", "ok"], 9).dtype == np.uint8


@pytest.mark.parametrize(
    ("count", "titles", "columns", "cell_px"),
    [(0, 0, 1, 9), (1, 2, 1, 9), (1, 1, 0, 9), (1, 1, 1, 0)],
)
def test_an_impossible_contact_sheet_is_refused(
    count: int, titles: int, columns: int, cell_px: int
) -> None:
    crops = [np.zeros((8, 8, 3), np.uint8)] * count
    with pytest.raises(InvalidInputError):
        contact_sheet(crops, ["a"] * titles, columns, cell_px=cell_px)
