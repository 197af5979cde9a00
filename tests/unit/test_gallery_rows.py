"""What a gallery keeps in memory: tags of rows, the few people asked for, and the index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.gallery import SqliteGallery, forgetting
from edgeface.gallery import people as people_module
from edgeface.gallery.index_of_people import PeopleIndex
from edgeface.gallery.row_tags import RowTags
from edgeface.gallery.search import SearchOptions
from edgeface.types import Template

MODEL, SIZE = "a" * 64, 32


def template(seed: int) -> Template:
    vector = np.random.default_rng(seed).standard_normal(SIZE)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), MODEL)


def open_gallery(path: Path, search: SearchOptions | None = None) -> SqliteGallery:
    return SqliteGallery.open(path, model_id=MODEL, embedding_size=SIZE, search=search)


def tag(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_no_rows_have_no_owners() -> None:
    rows = RowTags()
    assert len(rows) == 0
    assert 1 not in rows
    assert rows.owner(1) is None
    rows.drop(1)
    assert rows.owners_of_changed(RowTags()) == set()


def test_rows_are_kept_like_a_dictionary_would() -> None:
    random, rows, expected = np.random.default_rng(0), RowTags(), {}
    for number in range(1, 40_000, 2):
        rows.append(number, number % 7, tag(number))
        expected[number] = number % 7
    for step in range(1000):
        # Among the rows, and at their end, where rows are added without a look at the others.
        row_id = int(random.integers(0, 300)) + 40_000 * int(random.integers(0, 2))
        if random.random() < 0.4:
            rows.drop(row_id)
            expected.pop(row_id, None)
        else:
            rows.put(row_id, step, tag(step))
            expected[row_id] = step
        assert len(rows) == len(expected)
    assert rows.ids.tolist() == sorted(expected)
    assert all(rows.owner(row_id) == owner for row_id, owner in list(expected.items())[:400])
    assert all(rows.owner(row_id) == owner for row_id, owner in list(expected.items())[-400:])


def test_owners_of_rows_that_are_new_gone_or_other_are_found() -> None:
    before, after = RowTags(), RowTags()
    for number in range(1, 9):
        before.append(number, 10 * number, tag(number))
    for number in (1, 2, 3, 5, 6, 7, 9):
        after.append(number, 10 * number if number != 6 else 66, tag(number * (number != 3)))
    # 3 has another tag, 6 another owner, 4 and 8 are gone, 9 is new.
    assert after.owners_of_changed(before) == {30, 60, 66, 40, 80, 90}
    assert after.owners_of_changed(after) == set()


def test_changes_of_another_process_do_not_build_the_index_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "people.db"
    with open_gallery(path) as ours, open_gallery(path) as theirs:
        for seed in range(20):
            ours.add(f"p{seed}", [template(seed)])
        ours.search(template(0))
        theirs.rename("p3", "renamed")
        theirs.add("new", [template(50)])
        theirs.forget("p4")
        theirs.set_active("p5", active=False)
        monkeypatch.setattr(PeopleIndex, "_options_for", lambda *_: pytest.fail("built anew"))
        assert ours.search(template(3))[0].subject == "renamed"
        assert ours.search(template(50))[0].subject == "new"
        for gone in (4, 5):
            found = ours.search(template(gone), k=50)
            assert f"p{gone}" not in [one.subject for one in found]
            assert len(found) == 19
        assert ours.search(template(7))[0].score == pytest.approx(1.0)


def test_more_people_than_stay_open_are_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_module, "_MOST_OPEN", 4)
    monkeypatch.setattr(people_module, "_ROWS_AT_ONCE", 3)
    with open_gallery(tmp_path / "people.db") as gallery:
        for seed in range(11):
            gallery.add(f"p{seed:02}", [template(seed), template(100 + seed)])
        assert [one.name for one in gallery.subjects()] == [f"p{seed:02}" for seed in range(11)]
        assert [one.template_count for one in gallery.subjects()] == [2] * 11
        for seed in range(11):
            assert gallery.search(template(100 + seed))[0].subject == f"p{seed:02}"
    with open_gallery(tmp_path / "people.db") as gallery:
        assert gallery.search(template(10))[0].subject == "p10"


@pytest.mark.parametrize("kind", ["auto", "float32", "float16", "int8", "graph"])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_gallery_is_searched_as_it_was_opened(
    tmp_path: Path, kind: str, *, in_file: bool
) -> None:
    options = SearchOptions(kind=kind, rows_folder=tmp_path if in_file else None)
    try:
        gallery = open_gallery(tmp_path / "people.db", options)
    except MissingDependencyError as exc:
        pytest.skip(str(exc))
    with gallery:
        for seed in range(9):
            gallery.add(f"p{seed}", [template(seed)])
        gallery.forget("p8")
        assert gallery.search(template(3))[0].subject == "p3"
        assert len(gallery.search(template(3), k=20)) == 8
        description = gallery.search_description
        assert {"graph": "graph", "auto": "float32"}.get(kind, kind) in description


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="choose one of"):
        SearchOptions(kind="quick")


@pytest.mark.parametrize("at", [0, 5, 63, 64, 100, 127, 128 - 3, 190])
def test_removed_bytes_are_found_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(forgetting, "_BLOCK_BYTES", 64)
    path, needle = tmp_path / "people.db", bytes(range(100, 124))
    content = bytearray(256)
    path.write_bytes(content)
    assert not forgetting._found(path, [needle])
    content[at : at + len(needle)] = needle
    path.write_bytes(content)
    assert forgetting._found(path, [needle])
    path.write_bytes(b"")
    path.with_name("people.db-wal").write_bytes(content)
    assert forgetting._found(path, [needle])
