"""A gallery that moves to another model, and back; interrupted anywhere, it is one or the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import GalleryError, GalleryModelError, InvalidInputError, SubjectNotFoundError
from edgeface.gallery import EnrolmentRecord, ReferenceCrop, SqliteGallery
from edgeface.gallery.model_change import ModelChange
from edgeface.types import OperatingPoint, Template
from tests.faults.galleries import MODEL, SIZE, open_gallery, template

NEW, NEW_SIZE = "c" * 64, 48
POINTS = np.array([[10, 12], [20, 12], [15, 18], [11, 23], [19, 23]], np.float32)
POINT = OperatingPoint(0.6, 1e-3, "fp32", "test")


def face(person: int, take: int) -> ReferenceCrop:
    """A picture whose first pixel says whom it shows."""
    pixels = np.random.default_rng(100 * person + take).integers(0, 256, (16, 16, 3), np.uint8)
    pixels[0, 0] = (person, take, 0)
    return ReferenceCrop(pixels, POINTS)


def embedded(person: int, take: int, model_id: str = NEW, size: int = NEW_SIZE) -> Template:
    base = np.random.default_rng(person).standard_normal(size)
    vector = base + 0.3 * np.random.default_rng(1000 + 10 * person + take).standard_normal(size)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), model_id, 0.8)


def make(crops: Sequence[ReferenceCrop]) -> list[Template | None]:
    return [embedded(int(c.pixels[0, 0, 0]), int(c.pixels[0, 0, 1])) for c in crops]


def change_of(gallery: SqliteGallery) -> ModelChange:
    return ModelChange(gallery.vault, model_id=NEW, embedding_size=NEW_SIZE)


def opened_with_new(path: Path) -> SqliteGallery:
    return SqliteGallery.open(path, model_id=NEW, embedding_size=NEW_SIZE, create=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery of four people with two templates and crops each."""
    path = tmp_path / "people.db"
    with open_gallery(path) as gallery:
        for person in range(4):
            record = EnrolmentRecord(crops=[face(person, 0), face(person, 1)])
            rows = [template(2 * person), template(2 * person + 1)]
            gallery.add(f"p{person}", rows, record=record)
    return path


def test_a_gallery_moves_to_another_model_and_back(path: Path) -> None:
    with open_gallery(path) as gallery:
        change = change_of(gallery)
        assert list(change.fill(make, artefact="int8", at="2026-01-01")) == ["p0", "p1", "p2", "p3"]
        before = change.is_done
        assert gallery.search(template(2))[0].subject == "p1"
        change.switch()
        assert [before, change.is_done] == [False, True]
        # Mixed search is impossible, also for who has the gallery open already.
        with pytest.raises(GalleryModelError):
            gallery.search(template(2))
        assert gallery.search(embedded(1, 5))[0].subject == "p1"
    with pytest.raises(GalleryModelError, match=r"migrate"):
        open_gallery(path)
    with opened_with_new(path) as gallery:
        assert [info.template_count for info in gallery.subjects()] == [2, 2, 2, 2]
        back = ModelChange(gallery.vault, model_id=MODEL, embedding_size=SIZE)
        assert list(back.fill(make)) == []
        back.switch()
    with open_gallery(path) as gallery:
        found = gallery.search(template(2))[0]
        assert found.subject == "p1"
        assert found.score == pytest.approx(1.0)


def test_another_process_sees_the_switch(path: Path) -> None:
    with open_gallery(path) as ours, open_gallery(path) as theirs:
        assert ours.search(template(2))[0].subject == "p1"
        change = change_of(theirs)
        list(change.fill(make))
        change.switch()
        with pytest.raises(GalleryModelError):
            ours.search(template(2))
        with pytest.raises(GalleryModelError):
            ours.add("late", [template(50)])
        assert ours.search(embedded(2, 1))[0].subject == "p2"


def test_nobody_is_left_behind_in_silence(path: Path) -> None:
    with open_gallery(path) as gallery:
        gallery.add("no crop", [template(60)])
        change = change_of(gallery)
        list(change.fill(make))
        assert change.lacking() == ["no crop"]
        with pytest.raises(GalleryError, match="1 people have no template"):
            change.switch()
        assert gallery.model_id == MODEL
        change.store("no crop", [embedded(9, 0)])
        assert change.lacking() == []
        change.switch()
        assert gallery.search(embedded(9, 1))[0].subject == "no crop"


def test_who_is_missing_is_left_out_only_when_asked(path: Path) -> None:
    with open_gallery(path) as gallery:
        gallery.add("no crop", [template(60)])
        change = change_of(gallery)
        list(change.fill(make))
        change.switch(allow_missing=True)
        assert "no crop" not in [one.subject for one in gallery.search(embedded(9, 0), 9)]
        assert [info.template_count for info in gallery.subjects()] == [0, 2, 2, 2, 2]


def test_people_enrolled_after_the_switch_are_moved_back_too(path: Path) -> None:
    with open_gallery(path) as gallery:
        change = change_of(gallery)
        list(change.fill(make))
        change.switch()
    with opened_with_new(path) as gallery:
        record = EnrolmentRecord(crops=[face(7, 0)])
        gallery.add("later", [embedded(7, 0)], record=record)
        back = ModelChange(gallery.vault, model_id=MODEL, embedding_size=SIZE)
        assert back.lacking() == ["later"]
        assert list(back.fill(lambda _crops: [template(70)])) == ["later"]
        back.switch()
    with open_gallery(path) as gallery:
        assert gallery.search(template(70))[0].subject == "later"


def test_forgetting_removes_the_templates_of_every_model(path: Path) -> None:
    with open_gallery(path) as gallery:
        change = change_of(gallery)
        list(change.fill(make))
        assert gallery.forget("p1").templates == 4
        change.switch()
        assert "p1" not in [one.subject for one in gallery.search(embedded(1, 0), 9)]


def test_the_old_templates_are_dropped_when_asked_and_not_before(path: Path) -> None:
    with open_gallery(path) as gallery:
        change = change_of(gallery)
        list(change.fill(make))
        with pytest.raises(GalleryError, match="not active yet"):
            change.drop_others()
        change.switch()
        assert change.drop_others() == 8
        assert [model.model_id for model in gallery.vault.people.models.values()] == [NEW]
        assert gallery.search(embedded(1, 0))[0].subject == "p1"
    with opened_with_new(path) as gallery:
        assert len(gallery.subjects()) == 4


def test_a_model_of_another_size_or_without_a_name_is_refused(path: Path) -> None:
    with open_gallery(path) as gallery:
        with pytest.raises(GalleryModelError, match="embedding size"):
            ModelChange(gallery.vault, model_id=MODEL, embedding_size=SIZE + 1)
        with pytest.raises(InvalidInputError):
            ModelChange(gallery.vault, model_id="", embedding_size=SIZE)
        change = change_of(gallery)
        with pytest.raises(GalleryModelError):
            change.store("p1", [template(1)])
        with pytest.raises(SubjectNotFoundError):
            change.store("nobody", [embedded(1, 1)])
        with pytest.raises(GalleryModelError):
            list(change.fill(lambda crops: [template(1)] * len(crops)))


class Cut(BaseException):
    """Stands for the power going."""


@pytest.mark.parametrize("after", range(5))
def test_an_interrupted_move_goes_on_where_it_stopped(path: Path, after: int) -> None:
    calls = 0

    def breaking(crops: Sequence[ReferenceCrop]) -> list[Template | None]:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Cut
        return make(crops)

    with open_gallery(path) as gallery:
        try:
            list(change_of(gallery).fill(breaking))
        except Cut:
            assert after < 4
    with open_gallery(path) as gallery:
        assert gallery.search(template(6))[0].subject == "p3"
        change = change_of(gallery)
        assert list(change.fill(make)) == [f"p{person}" for person in range(after, 4)]
        change.switch()
    with opened_with_new(path) as gallery:
        assert [info.template_count for info in gallery.subjects()] == [2, 2, 2, 2]


def test_the_outlook_stores_nothing_and_names_who_fares_badly(path: Path) -> None:
    def confusing(crops: Sequence[ReferenceCrop]) -> list[Template | None]:
        """Take person 1 for person 0, and lose one crop of person 2."""
        numbers = [(int(c.pixels[0, 0, 0]), int(c.pixels[0, 0, 1])) for c in crops]
        made: list[Template | None] = [embedded(0 if p == 1 else p, t) for p, t in numbers]
        return [
            None if number == (2, 0) else one for number, one in zip(numbers, made, strict=True)
        ]

    with open_gallery(path) as gallery:
        gallery.add("no crop", [template(60)])
        outlook = {one.name: one for one in change_of(gallery).outlook(confusing, POINT)}
        assert len(gallery.vault.people.models) == 1
    assert outlook["p0"].confused_with == ("p1",)
    assert outlook["p1"].confused_with == ("p0",)
    assert outlook["p2"].templates == 1
    assert outlook["p2"].margin_after is None
    assert [name for name, one in outlook.items() if one.is_worse] == ["no crop", "p0", "p1"]
    assert outlook["p3"].margin_after is not None
    assert outlook["p3"].margin_before is not None
    assert outlook["p3"].margin_after > outlook["p3"].margin_before
    assert outlook["p3"].own_score == pytest.approx(
        float(embedded(3, 0).vector @ embedded(3, 1).vector), abs=1e-6
    )


def test_the_outlook_says_when_one_person_is_not_like_himself(path: Path) -> None:
    strict = OperatingPoint(0.99, 1e-3, "fp32", "test")
    with open_gallery(path) as gallery:
        outlook = change_of(gallery).outlook(make, strict)
    assert [one.own_is_accepted for one in outlook] == [False] * 4
    assert all(one.is_worse for one in outlook)


def test_the_outlook_of_an_empty_gallery_is_empty(tmp_path: Path) -> None:
    with open_gallery(tmp_path / "people.db") as gallery:
        change = change_of(gallery)
        assert change.outlook(make, POINT) == []
        assert list(change.fill(make)) == []
        change.switch()
        assert gallery.model_id == NEW
