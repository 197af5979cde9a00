"""``edgeface discover`` and ``edgeface export --discover``: what is typed, and what is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer

from edgeface.alignment import alignment_template
from edgeface.cli.discover_command import render
from edgeface.cli.discover_faces import chosen_images, load_faces
from edgeface.cli.export_preparation import discovery_faces, preparation
from edgeface.errors import InvalidInputError
from edgeface.types import Size
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.discovery import Discovery, Tried
from edgeface_export.discovery.norm_fit import NormState
from edgeface_export.discovery.result import Outcome

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mediapipe")

PEOPLE, OF_EACH = 52, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return photos of people, one of which is damaged, and the points of their faces."""
    root = tmp_path_factory.mktemp("people")
    points = " ".join(f"{value:.2f}" for value in alignment_template("arcface-112x112").ravel())
    lines = []
    for person in range(PEOPLE):
        for k in range(OF_EACH):
            path = root / f"p{person:02d}" / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), np.full((112, 112, 3), person, np.uint8))
            lines.append(f"{path.parent.name}/{path.name} {points}")
    (root / "p00" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    (root / "landmarks.txt").write_text("\n".join(lines))
    rows = [f"p{n:02d}/{k}.png,p{n:02d}/{k + 1}.png,1" for n in range(PEOPLE) for k in range(3)]
    rows += [f"p{n:02d}/0.png,p{n + 1:02d}/0.png,0" for n in range(PEOPLE - 1)]
    (root / "pairs.csv").write_text("\n".join(["image_a,image_b,same", *rows]))
    return root


def test_people_with_many_photos_come_first_and_none_gives_more_than_four() -> None:
    subjects = {f"a/{k}": "a" for k in range(9)} | {"b/0": "b"} | {f"c/{k}": "c" for k in range(3)}
    chosen = chosen_images(subjects)
    assert list(chosen.values()) == ["a"] * 4 + ["c"] * 3 + ["b"]


def test_four_hundred_faces_are_enough() -> None:
    assert len(chosen_images({f"{k // 3}/{k}": str(k // 3) for k in range(3000)})) == 400


@pytest.mark.parametrize("photos", [".", "pairs.csv"])
def test_a_folder_and_a_list_of_pairs_name_the_same_faces(
    folder: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = load_faces(folder / photos, None, folder / "landmarks.txt")
    assert len(faces.patches) == PEOPLE * OF_EACH - 1
    assert sorted(np.bincount(faces.people)) == [3] + [4] * (PEOPLE - 1)
    assert "1 of 208 photos cannot be read" in capsys.readouterr().err
    assert "patches" not in repr(faces)


def test_a_folder_without_people_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="sub-folder"):
        load_faces(tmp_path, None, None)


def test_options_of_discovery_without_it_are_a_mistake(tmp_path: Path) -> None:
    assert discovery_faces(None, None, None) is None
    with pytest.raises(typer.BadParameter):
        discovery_faces(None, tmp_path, None)


def test_what_is_typed_reaches_the_export() -> None:
    said = preparation("bgr:127.5/128", "arcface", "sum", None)
    assert said.preprocessing is not None
    assert said.preprocessing.preprocessing == Preprocessing.uniform("BGR", 127.5, 128)
    assert (said.loss, said.flip, said.faces) == ("arcface", "sum", None)
    with pytest.raises(typer.BadParameter, match="concatenate"):
        preparation(None, None, "twice", None)
    with pytest.raises(InvalidInputError):
        preparation("rgb", None, "none", None)


def found() -> Discovery:
    def row(name: str, outcome: str, agreement: float | None) -> Tried:
        crop = "arcface-112x112"
        return Tried(name, crop, 400, 4.5, 4.0, 5.0, 0.99, 0.01, None, 2.5, outcome, agreement)

    return Discovery(
        name="rgb:127.5/128",
        preprocessing=Preprocessing.uniform("RGB", 127.5, 128),
        template="arcface-112x112",
        crop_size=Size(112, 112),
        implied="bgr:127.5/128",
        agrees=False,
        ambiguous=("rgb:127.5/127.5",),
        tried=(
            row("rgb:127.5/128", Outcome.CHOSEN, 1.0),
            row("rgb:127.5/127.5", Outcome.TIED, 0.9999),
            row("bgr:127.5/128", Outcome.WORSE, 0.8),
        ),
        crops=(row("rgb:127.5/128", Outcome.CHOSEN, 1.0),),
        faces=400,
        people=120,
        norms=NormState.KEPT,
        notes=("found it", "look at this"),
        warnings=("look at this",),
        seconds=31.4,
    )


def test_the_page_for_people_has_the_answer_the_doubts_and_the_table() -> None:
    lines = render(found()).splitlines()
    assert lines[0].split() == ["preprocessing", "rgb:127.5/128"]
    assert any(line.startswith("warning") and "look at this" in line for line in lines)
    assert sum("look at this" in line for line in lines) == 1
    assert any("which is not what fits" in line for line in lines)
    table = [line for line in lines if "4.00..5.00" in line]
    assert len(table) == 3
    assert Outcome.TIED in table[1]
