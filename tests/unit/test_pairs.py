from __future__ import annotations

from pathlib import Path

import pytest

import edgeface_calibration
from edgeface.errors import InvalidInputError
from edgeface_calibration.pairs import Pair, parse_folds, read_folder, read_pairs

ADA, BOB, EVE = "Ada", "Bob", "Eve"


def make_images(folder: Path, counts: dict[str, int]) -> Path:
    for person, count in counts.items():
        (folder / person).mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / person / f"{person}_{number:04d}.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "images", {ADA: 3, BOB: 3, EVE: 2})


def write(folder: Path, *lines: str, name: str = "pairs.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


FOLD_1 = ("Ada\t1\t2", "Ada\t1\tBob\t1")
FOLD_2 = ("Bob\t1\t3", "Bob\t2\tEve\t1")


def test_lfw_list_gives_pairs_folds_and_subjects(tmp_path: Path, images: Path) -> None:
    protocol = read_pairs(write(tmp_path, "2\t1", *FOLD_1, *FOLD_2), images)
    assert protocol.pairs[0] == Pair("Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg", same=True)
    assert protocol.pairs[3] == Pair("Bob/Bob_0002.jpg", "Eve/Eve_0001.jpg", same=False)
    assert protocol.folds == (1, 1, 2, 2)
    assert protocol.subjects is not None
    assert protocol.subjects["Eve/Eve_0001.jpg"] == EVE
    assert protocol.image_names[0] == "Ada/Ada_0001.jpg"
    assert len(protocol.image_names) == 6


def test_lfw_header_may_hold_the_number_of_pairs_alone(tmp_path: Path, images: Path) -> None:
    lines = ("2", FOLD_1[0], FOLD_2[0], FOLD_1[1], FOLD_2[1])
    protocol = read_pairs(write(tmp_path, *lines), images)
    assert [pair.same for pair in protocol.pairs] == [True, True, False, False]
    assert len(set(protocol.folds)) > 1


def test_chosen_folds_keep_their_numbers(tmp_path: Path, images: Path) -> None:
    lines = ("3\t1", *FOLD_1, *FOLD_2, "Eve\t1\t2", "Ada\t3\tEve\t2")
    protocol = read_pairs(write(tmp_path, *lines), images, folds=(1, 3))
    assert protocol.folds == (1, 1, 3, 3)
    assert protocol.pairs[2].image_a == "Eve/Eve_0001.jpg"
    assert "folds 1,3 of 3" in protocol.name


def test_images_of_folds_left_out_need_not_exist(tmp_path: Path, images: Path) -> None:
    lines = ("2\t1", *FOLD_1, "Zoe\t1\t2", "Zoe\t1\tBob\t2")
    assert len(read_pairs(write(tmp_path, *lines), images, folds=(1,)).pairs) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "line 1.*an empty file"),
        (("faces",), "line 1"),
        (("0\t3",), "line 1"),
        (("1\t1", FOLD_1[0]), "promises 2 pairs, got 1"),
        (("1\t1", *FOLD_1, *FOLD_2), "promises 2 pairs, got 4"),
        (("1\t1", FOLD_1[0], "Ada\t1"), "line 3"),
        (("1\t1", FOLD_1[0], "Ada\t1\tBob\t1\t7"), "line 3"),
        (("1\t1", FOLD_1[0], "Ada\t1\tAda\t2"), "line 3"),
        (("1\t1", "Ada\t1\tx", FOLD_1[1]), "line 2.*names no image"),
        (("1\t1", "..\t1\t2", FOLD_1[1]), "line 2.*names no image"),
        (("1\t1", "a/b\t1\t2", FOLD_1[1]), "line 2.*names no image"),
        (("1\t1", "Ada\t2\t2", FOLD_1[1]), "line 2.*with itself"),
    ],
)
def test_malformed_lfw_list_is_refused_with_its_line(
    tmp_path: Path, images: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_pairs(write(tmp_path, *lines), images)


@pytest.mark.parametrize("folds", [(0,), (3,), ()])
def test_fold_that_does_not_exist_is_refused(
    tmp_path: Path, images: Path, folds: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInputError, match="folds 1 to 2"):
        read_pairs(write(tmp_path, "2\t1", *FOLD_1, *FOLD_2), images, folds=folds)


def test_missing_images_are_counted_and_three_are_named(tmp_path: Path, images: Path) -> None:
    lines = ("1\t2", "Zoe\t1\t2", "Zoe\t3\t4", "Ada\t1\tBob\t1", "Zoe\t5\tBob\t2")
    with pytest.raises(InvalidInputError, match=r"5 of 8 images.*Zoe_0001.*Zoe_0003\.jpg, …"):
        read_pairs(write(tmp_path, *lines), images)


def test_repeats_in_an_official_list_are_kept_and_counted(tmp_path: Path, images: Path) -> None:
    lines = ("1\t2", "Ada\t1\t2", "Ada\t2\t1", FOLD_1[1], FOLD_2[1])
    protocol = read_pairs(write(tmp_path, *lines), images)
    assert (len(protocol.pairs), protocol.n_repeated) == (4, 1)


def csv_lines(*rows: str) -> tuple[str, ...]:
    return ("image_a,image_b,same", *rows)


A1, A2, A3 = (f"Ada/Ada_000{k}.jpg" for k in (1, 2, 3))
B1 = "Bob/Bob_0001.jpg"


def test_csv_list_joins_images_into_people_by_its_mated_pairs(tmp_path: Path, images: Path) -> None:
    rows = (f"{A1},{A2},1", f"{A2},{A3},yes", f"{A1},{B1},0")
    protocol = read_pairs(write(tmp_path, *csv_lines(*rows)), images)
    assert [pair.same for pair in protocol.pairs] == [True, True, False]
    assert protocol.subjects is None
    people = protocol.subject_of()
    assert people[A1] == people[A3] != people[B1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "lists no pairs"),
        ((f"{A1},{A2}",), "line 2"),
        ((f"{A1},{A2},maybe",), "line 2"),
        ((f"{A1},{B1},0", f"{A1},{A1},1"), "line 3.*with itself"),
        ((f"{A1},../x.jpg,0",), "line 2.*relative"),
        ((f"{A1},/x.jpg,0",), "line 2.*relative"),
        ((f"{A1},{B1},0", f"{B1},{A1},0"), "line 3.*on line 2 already"),
        ((f"{A1},{A2},1", f"{A2},{A3},1", f"{A3},{A1},0"), "line 4.*one person"),
    ],
)
def test_malformed_csv_list_is_refused_with_its_line(
    tmp_path: Path, images: Path, rows: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_pairs(write(tmp_path, *csv_lines(*rows)), images)


def test_unreadable_list_is_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_pairs(tmp_path / "none.txt", images)


def test_labelled_folder_gives_every_pair(images: Path) -> None:
    protocol = read_folder(images)
    n_mated = sum(pair.same for pair in protocol.pairs)
    assert n_mated == 3 + 3 + 1
    assert len(protocol.pairs) - n_mated == 3 * 3 + 3 * 2 + 3 * 2
    assert protocol.subjects is not None
    assert set(protocol.subjects.values()) == {ADA, BOB, EVE}


def test_labelled_folder_draws_the_same_non_mated_pairs_for_a_seed(images: Path) -> None:
    drawn, again, other = (
        read_folder(images, max_non_mated=10, seed=seed).pairs for seed in (1, 1, 2)
    )
    assert drawn == again != other
    assert sum(not pair.same for pair in drawn) == 10
    assert len(set(drawn)) == len(drawn)


def test_dealt_folds_hold_both_kinds(tmp_path: Path) -> None:
    protocol = read_folder(make_images(tmp_path / "many", {f"p{k}": 3 for k in range(10)}))
    kinds = {(fold, p.same) for fold, p in zip(protocol.folds, protocol.pairs, strict=True)}
    assert len(kinds) == 20


@pytest.mark.parametrize("counts", [{}, {ADA: 5}, {ADA: 1, BOB: 1}])
def test_folder_without_both_kinds_of_pairs_is_refused(
    tmp_path: Path, counts: dict[str, int]
) -> None:
    folder = make_images(tmp_path / "few", counts)
    folder.mkdir(exist_ok=True)
    with pytest.raises(InvalidInputError, match="at least two people"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("text", "folds"), [("3", (3,)), ("1-5", (1, 2, 3, 4, 5)), ("1, 4-5", (1, 4, 5))]
)
def test_folds_are_parsed(text: str, folds: tuple[int, ...]) -> None:
    assert parse_folds(text) == folds


@pytest.mark.parametrize("text", ["", "a", "5-1", "1-", "-3", "1,1", "1-2-3"])
def test_folds_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="folds are written"):
        parse_folds(text)


def test_described_lfw_protocol_is_the_one_that_is_read(tmp_path: Path, images: Path) -> None:
    tomllib = pytest.importorskip("tomllib")
    path = Path(edgeface_calibration.__file__).parent / "protocols" / "lfw.toml"
    described = tomllib.loads(path.read_text(encoding="utf-8"))
    protocol = read_pairs(write(tmp_path, "2\t1", *FOLD_1, *FOLD_2), images)
    name = described["pairs"]["image"].format(name="Ada", number=1)
    assert protocol.pairs[0].image_a == name


def test_real_lfw_list_is_read(test_data: Path) -> None:
    folder = test_data / "data" / "lfw"
    protocol = read_pairs(folder / "pairs.txt", folder / "pairs", folds=parse_folds("1-2"))
    assert len(protocol.pairs) == 1200
    assert sum(pair.same for pair in protocol.pairs) == 600
    assert protocol.n_repeated == 0
