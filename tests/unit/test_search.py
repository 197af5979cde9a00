"""Search: every exact kind gives the answers of comparing everything, to the last bit."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import GalleryError, InvalidInputError, MissingDependencyError
from edgeface.gallery.search import Hit, SearchIndex, SearchOptions, open_search
from edgeface.gallery.search.coding import Coding, Float16Coding, Float32Coding, Int8Coding
from edgeface.gallery.search.graph import GraphSearch
from edgeface.gallery.search.rows import FileRows, MemoryRows
from edgeface.gallery.search.table import RowTable
from edgeface.types import FloatArray

SIZE = 24
NEEDS_EXTRA = {"float16": "numkong", "int8": "numkong", "graph": "usearch"}
EXACT = ["float32", "float16", "int8"]


def options(kind: str, folder: Path | None = None) -> SearchOptions:
    if kind in NEEDS_EXTRA:
        pytest.importorskip(NEEDS_EXTRA[kind])
    return SearchOptions(kind=kind, rows_folder=folder)


@pytest.fixture(params=[*EXACT, "graph"])
def index(request: pytest.FixtureRequest) -> Iterator[SearchIndex]:
    opened = open_search(SIZE, options(request.param))
    yield opened
    opened.close()


def unit(rows: np.ndarray) -> FloatArray:
    scaled: FloatArray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


def faces(n_people: int, per_person: int, *, size: int = SIZE, seed: int = 0) -> FloatArray:
    """Rows that gather around their person, people around a common direction."""
    rng = np.random.default_rng(seed)
    people = rng.standard_normal((n_people, 1, size)) + 0.5
    rows = people + 0.7 * rng.standard_normal((n_people, per_person, size))
    return unit(rows.reshape(-1, size))


def compared_with_all(
    rows: FloatArray, subjects: np.ndarray, probe: FloatArray, k: int
) -> list[Hit]:
    scores = (rows * probe.astype(np.float64)).sum(axis=1).astype(np.float32).clip(-1, 1)
    best = {int(s): float(scores[subjects == s].max()) for s in np.unique(subjects)}
    ranked = sorted(best.items(), key=lambda one: (-one[1], one[0]))
    return [Hit(*one) for one in ranked if one[1] >= ranked[min(k, len(ranked)) - 1][1]]


def test_an_empty_index_finds_nobody(index: SearchIndex) -> None:
    assert len(index) == 0
    assert index.search_many(faces(2, 1), 3) == [[], []]
    assert index.search_many(faces(0, 1), 3) == []
    assert index.remove(5) == 0


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(("n_people", "per_person"), [(1, 1), (3, 5), (300, 1), (200, 7)])
@pytest.mark.parametrize("k", [1, 5])
def test_exact_kinds_answer_as_if_all_were_compared(
    kind: str, n_people: int, per_person: int, k: int
) -> None:
    rows = faces(n_people, per_person)
    subjects = np.repeat(np.arange(n_people), per_person)
    probes = np.concatenate([faces(20, 1, seed=1), rows[:3], -rows[:1]])
    with_all = [compared_with_all(rows, subjects, probe, k) for probe in probes]
    found = open_search(SIZE, options(kind))
    found.add(subjects, rows)
    assert found.search_many(probes, k) == with_all
    assert [found.search_many(probe[None], k)[0] for probe in probes] == with_all


@pytest.mark.parametrize("kind", EXACT)
def test_rows_over_several_segments_are_all_searched(kind: str) -> None:
    rng = np.random.default_rng(2)
    rows = unit(rng.standard_normal((70_000, 8)))
    index = open_search(8, options(kind))
    index.add(np.arange(70_000), rows)
    probes = rows[[0, 5, 8191, 8192, 65_535, 65_536, 69_999]]
    found = index.search_many(probes, 1)
    assert [hits[0].subject for hits in found] == [0, 5, 8191, 8192, 65_535, 65_536, 69_999]
    truth = compared_with_all(rows, np.arange(70_000), probes[2], 3)
    assert index.search_many(probes[2:3], 3)[0] == truth


@pytest.mark.parametrize("kind", EXACT)
def test_near_ties_that_short_forms_cannot_tell_apart_are_told_apart(kind: str) -> None:
    probe = faces(1, 1)
    rng = np.random.default_rng(3)
    rows = unit(probe + 1e-5 * rng.standard_normal((500, SIZE)))
    index = open_search(SIZE, options(kind))
    index.add(np.arange(500), rows)
    assert index.search_many(probe, 4)[0] == compared_with_all(rows, np.arange(500), probe[0], 4)


@pytest.mark.parametrize("kind", EXACT)
def test_all_that_tie_with_the_last_are_given_by_number(kind: str) -> None:
    row = faces(1, 1)
    index = open_search(SIZE, options(kind))
    index.add([9, 4, 7, 4], np.repeat(row, 4, axis=0))
    assert [hit.subject for hit in index.search_many(row, 1)[0]] == [4, 7, 9]


def test_the_best_row_of_a_subject_counts_and_it_is_named_once(index: SearchIndex) -> None:
    rows = faces(4, 6)
    index.add(np.repeat([10, 20, 30, 40], 6), rows)
    for k in range(24):
        [hits] = index.search_many(rows[k : k + 1], 4)
        assert hits[0].subject == (k // 6 + 1) * 10
        assert hits[0].score == pytest.approx(1.0, abs=1e-6)
        assert len({hit.subject for hit in hits}) == len(hits)


def test_what_is_removed_is_not_found_and_the_rest_is(index: SearchIndex) -> None:
    rows = faces(40, 3)
    subjects = np.repeat(np.arange(40), 3)
    index.add(subjects, rows)
    for subject in range(0, 40, 2):
        assert index.remove(subject) == 3
        assert index.remove(subject) == 0
    assert len(index) == 60
    found = index.search_many(rows, 40)
    assert {hit.subject for hits in found for hit in hits} <= set(range(1, 40, 2))
    assert [found[3 * k][0].subject for k in range(1, 40, 2)] == list(range(1, 40, 2))
    index.add([0], rows[:1])
    assert index.search_many(rows[:1], 1)[0][0] == Hit(0, 1.0)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_order_of_adding_and_removing_leaves_the_same_answers(data: st.DataObject) -> None:
    pytest.importorskip("numkong")
    index = open_search(SIZE, SearchOptions(kind="int8"))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    rows, subjects = np.empty((0, SIZE), np.float32), np.empty(0, np.int64)
    for _ in range(data.draw(st.integers(1, 12))):
        if len(subjects) and data.draw(st.booleans()):
            gone = int(rng.choice(subjects))
            assert index.remove(gone) == int((subjects == gone).sum())
            rows, subjects = rows[subjects != gone], subjects[subjects != gone]
        else:
            n = data.draw(st.integers(0, 40))
            more, of = unit(rng.standard_normal((n, SIZE))), rng.integers(0, 15, n)
            index.add(of, more)
            rows, subjects = np.concatenate([rows, more]), np.concatenate([subjects, of])
    probes = unit(rng.standard_normal((3, SIZE)))
    wanted = [compared_with_all(rows, subjects, p, 3) if len(rows) else [] for p in probes]
    assert len(index) == len(rows)
    assert index.search_many(probes, 3) == wanted


def spoiled(value: float) -> FloatArray:
    rows = faces(3, 1)
    rows[1, 4] = value
    return rows


@pytest.mark.parametrize(
    "bad",
    [
        spoiled(np.nan),
        spoiled(np.inf),
        spoiled(3e38),
        np.zeros((2, SIZE), np.float32),
        faces(2, 1, size=SIZE + 1),
        faces(2, 1)[0],
        np.ones((2, SIZE), np.int64),
        [[1.0] * SIZE],
    ],
    ids=["nan", "inf", "huge", "zero", "size", "shape", "whole numbers", "list"],
)
def test_unusable_rows_and_probes_are_refused_and_lose_nothing(
    index: SearchIndex, bad: FloatArray
) -> None:
    rows = faces(5, 1)
    index.add(np.arange(5), rows)
    with pytest.raises(InvalidInputError):
        index.add(np.arange(len(bad)) + 10, bad)
    with pytest.raises(InvalidInputError):
        index.search_many(bad, 1)
    assert len(index) == 5
    assert [hits[0].subject for hits in index.search_many(rows, 1)] == list(range(5))


@pytest.mark.parametrize("subjects", [[1, 2], [1.0, 2.0, 3.0], ["a", "b", "c"]])
def test_subjects_must_be_a_whole_number_for_each_row(
    index: SearchIndex, subjects: list[int]
) -> None:
    with pytest.raises(InvalidInputError, match="whole number"):
        index.add(subjects, faces(3, 1))
    assert len(index) == 0


def test_k_below_one_is_refused(index: SearchIndex) -> None:
    with pytest.raises(InvalidInputError, match="k must be"):
        index.search_many(faces(1, 1), 0)


@pytest.mark.parametrize("kind", ["float16", "int8", "graph"])
def test_originals_in_a_file_give_the_same_answers_and_leave_no_trace(
    kind: str, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    rows, probes = faces(60, 2), faces(10, 1, seed=4)
    subjects = np.repeat(np.arange(60), 2)
    in_memory, in_file = (open_search(SIZE, options(kind, f)) for f in (None, tmp_path))
    for index in (in_memory, in_file):
        index.add(subjects[:50], rows[:50])
        index.add(subjects[50:], rows[50:])
        index.remove(7)
    assert in_file.search_many(probes, 5) == in_memory.search_many(probes, 5)
    if sys.platform != "win32":
        assert list(tmp_path.iterdir()) == []
    in_file.close()
    in_file.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("encrypt", [True, False])
def test_no_row_is_in_the_file_in_the_clear_unless_asked_for(tmp_path: Path, encrypt: bool) -> None:
    pytest.importorskip("cryptography")
    rows = faces(50, 1)
    store = FileRows(tmp_path, SIZE, encrypt=encrypt)
    slots = store.append(rows)
    handle = store._file.fileno()
    content = Path(f"/proc/self/fd/{handle}").read_bytes()
    assert stat.S_IMODE(os.fstat(handle).st_mode) == 0o600
    assert all((row.tobytes() in content) != encrypt for row in rows)
    np.testing.assert_array_equal(store.read(slots[::-1]), rows[::-1])
    store.forget(slots[:1])
    after = Path(f"/proc/self/fd/{handle}").read_bytes()
    assert after[: SIZE * 4] == bytes(SIZE * 4)
    np.testing.assert_array_equal(store.read(slots[1:]), rows[1:])
    store.close()


def test_rows_of_a_length_that_no_block_fits_come_back(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    store = FileRows(tmp_path, 7)
    rows = faces(9, 1, size=7)
    slots = np.concatenate([store.append(rows[:4]), store.append(rows[4:])])
    np.testing.assert_array_equal(store.read(slots), rows)
    store.close()


def test_a_file_that_is_cut_short_or_closed_is_an_error_of_ours(tmp_path: Path) -> None:
    store = FileRows(tmp_path, SIZE, encrypt=False)
    slots = store.append(faces(3, 1))
    store._file.truncate(100)
    with pytest.raises(GalleryError, match="cannot be read"):
        store.read(slots)
    store.close()
    with pytest.raises(GalleryError, match="cannot be written"):
        store.append(faces(1, 1))


def test_a_folder_that_does_not_exist_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="name a folder that exists"):
        FileRows(tmp_path / "none", SIZE, encrypt=False)


def test_memory_of_forgotten_rows_is_overwritten_and_used_again() -> None:
    store = MemoryRows(SIZE)
    rows = faces(4, 1)
    slots = store.append(rows)
    store.forget(slots[1:3])
    assert not store.read(slots[1:3]).any()
    again = store.append(rows[:3])
    assert set(again.tolist()) == {1, 2, 4}
    np.testing.assert_array_equal(store.read(again), rows[:3])


def test_the_table_overwrites_what_it_removes() -> None:
    table = RowTable({"code": (np.int8, 3), "subject": (np.int64, 0)})
    codes = np.arange(1, 16, dtype=np.int8).reshape(5, 3)
    table.append(code=codes, subject=np.array([1, 2, 1, 3, 1]))
    table.remove(table.positions("subject", 1))
    assert sorted(table.gather("subject", np.arange(2)).tolist()) == [2, 3]
    [segment] = table._segments
    assert not segment["code"][2:].any()


@pytest.mark.parametrize("coding", [Float32Coding, Float16Coding, Int8Coding])
@pytest.mark.parametrize("size", [1, 3, 128, 512])
def test_coarse_scores_are_within_their_bound(coding: type, size: int) -> None:
    pytest.importorskip("numkong")
    made: Coding = coding() if coding is Float32Coding else coding(size)
    rng = np.random.default_rng(5)
    # Rows with one large number have the coarsest steps; rows of one sign the largest sums.
    drawn = rng.standard_normal((400, size))
    drawn[:100, 0] *= 50
    drawn[100:200] = np.abs(drawn[100:200])
    rows, probes = unit(drawn), unit(np.concatenate([drawn[::50], rng.standard_normal((8, size))]))
    encoded, prepared = made.encode(rows), made.prepare(probes)
    coarse = prepared.product(encoded.codes) * encoded.scale[:, None] * prepared.scale
    exact = rows.astype(np.float64) @ probes.astype(np.float64).T
    bound = prepared.constant + prepared.slope * encoded.error[:, None]
    assert (np.abs(coarse - exact) <= bound).all()
    # A bound that is never nearly reached would keep rows for nothing.
    assert bound.max() < {"float32": 1e-4, "float16": 2e-3, "int8": 0.1}[made.name]


def test_a_wrong_product_is_refused_when_the_index_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numkong = pytest.importorskip("numkong")
    right = numkong.dots_packed
    monkeypatch.setattr(numkong, "dots_packed", lambda a, b: np.asarray(right(a, b)) + 1)
    for kind in ("float16", "int8"):
        with pytest.raises(GalleryError, match="wrong on this machine"):
            open_search(SIZE, SearchOptions(kind=kind))


@pytest.mark.parametrize("kind", ["float16", "int8", "graph"])
def test_a_missing_package_names_the_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numkong", None)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[search\]"):
        open_search(SIZE, SearchOptions(kind=kind))


def test_auto_is_exact_and_takes_short_forms_for_many_rows() -> None:
    pytest.importorskip("numkong")
    small, large = (open_search(SIZE, SearchOptions(expected_rows=n)) for n in (10, 1_000_000))
    assert small.is_exact
    assert large.is_exact
    assert "float32" in small.description
    assert "int8" in large.description


def test_auto_changes_to_short_forms_on_the_way_and_loses_nothing() -> None:
    pytest.importorskip("numkong")
    rows = unit(np.random.default_rng(7).standard_normal((12_000, 8)))
    subjects = np.arange(12_000) // 2
    growing = open_search(8)
    growing.add(subjects[:9_999], rows[:9_999])
    growing.remove(3)
    assert "float32" in growing.description
    growing.add(subjects[9_999:], rows[9_999:])
    assert "int8" in growing.description
    assert len(growing) == 11_998
    assert growing.remove(4) == 2
    kept = ~np.isin(subjects, [3, 4])
    truth = compared_with_all(rows[kept], subjects[kept], rows[6], 3)
    assert growing.search_many(rows[6:7], 3) == [truth]
    growing.close()


def test_auto_without_numkong_stays_with_the_rows_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeface.gallery.search.selection.find_spec", lambda name: None)
    assert "float32" in open_search(SIZE, SearchOptions(expected_rows=10**6)).description


@pytest.mark.parametrize(
    "wrong", [{"kind": "faiss"}, {"expected_rows": -1}, {"graph_recall_effort": 0}]
)
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InvalidInputError):
        SearchOptions(**wrong)


def test_an_embedding_size_below_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="embedding_size"):
        open_search(0)


def test_the_graph_finds_nearly_all_that_comparing_all_finds() -> None:
    pytest.importorskip("usearch")
    rows = faces(3000, 2, size=64)
    subjects = np.repeat(np.arange(3000), 2)
    probes = unit(rows[::10] + 0.05 * np.random.default_rng(6).standard_normal((600, 64)))
    exact, graph = open_search(64), open_search(64, SearchOptions(kind="graph"))
    for index in (exact, graph):
        index.add(subjects, rows)
    pairs = zip(exact.search_many(probes, 1), graph.search_many(probes, 1), strict=True)
    assert np.mean([a == b for a, b in pairs]) >= 0.99
    assert not graph.is_exact


def test_a_graph_takes_more_effort_among_more_rows() -> None:
    pytest.importorskip("usearch")
    from edgeface.gallery.search.graph import effort_for

    assert [effort_for(n) for n in (0, 1, 100_000, 1_000_000)] == [128, 128, 128, 510]
    graph = open_search(4, SearchOptions(kind="graph"))
    assert "effort 128" in graph.description
    fixed = open_search(4, SearchOptions(kind="graph", graph_recall_effort=16))
    assert "effort 16," in fixed.description


def test_more_effort_finds_no_fewer() -> None:
    pytest.importorskip("usearch")
    rows = faces(4000, 1, size=64)
    probes = faces(300, 1, size=64, seed=8)
    graph = open_search(64, SearchOptions(kind="graph", graph_recall_effort=16))
    assert isinstance(graph, GraphSearch)
    graph.add(np.arange(4000), rows)
    truth = (probes @ rows.T).argmax(axis=1)
    share = {}
    for effort in (16, 512):
        graph.effort = effort
        found = [hits[0].subject for hits in graph.search_many(probes, 1)]
        share[effort] = np.mean(found == truth)
    assert share[16] < share[512]
    assert share[512] >= 0.99
    with pytest.raises(InvalidInputError, match="effort"):
        graph.effort = 0
