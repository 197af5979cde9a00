"""``edgeface calibrate`` from pictures, from a list, from a protocol and from a gallery."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from edgeface.bundle import Bundle
from edgeface.cli.calibrate_command import calibrate
from edgeface.errors import EdgefaceError, GalleryError, InvalidInputError
from edgeface.operating_points import chosen_for_gallery
from edgeface.types import Template
from tests.builders import make_bundle, tiny_onnx
from tests.people import draw_people

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytestmark = pytest.mark.integration

app = typer.Typer()
app.command()(calibrate)
PEOPLE = 30


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate") / "images"
    draw_people(folder, people=PEOPLE, images=3, noise=30.0)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    artefacts = {"fp32": tiny_onnx(), "int8": tiny_onnx(noise=0.05)}
    return make_bundle(tmp_path, artefacts=artefacts)


def run(bundle: Path, *options: object) -> Result:
    done = CliRunner().invoke(app, [str(bundle), *map(str, options)], catch_exceptions=True)
    if isinstance(done.exception, EdgefaceError):
        raise done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def from_images(images: Path, *more: object) -> tuple[object, ...]:
    marks = images.parent / "images-landmarks.txt"
    wanted = ("--target-fpir", 0.2, "--target-fmr", 0.05, "--gallery-size", 10, "--resamples", 40)
    return ("--images", images, "--landmarks", marks, *wanted, *more)


def test_thresholds_of_every_artefact_are_found_and_written(bundle: Path, images: Path) -> None:
    done = run(bundle, *from_images(images, "--json"))
    assert done.exit_code == 0, done.output
    printed: dict[str, Any] = json.loads(done.stdout)
    assert [entry["artefact"] for entry in printed["artefacts"]] == ["fp32", "int8"]
    assert printed["artefacts"][0]["n_people"] == PEOPLE
    opened = Bundle.open(bundle)
    for entry in printed["artefacts"]:
        [search] = entry["searches"]
        point = chosen_for_gallery(
            opened.manifest.operating_points, entry["artefact"], target_fpir=0.2, gallery_size=10
        )
        assert point.threshold == search["threshold"]
        assert point.fpir_high == search["fpir_interval"]["high"]
        assert not point.extrapolated


def test_a_dry_run_writes_nothing_and_prints_a_table(bundle: Path, images: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    done = run(bundle, *from_images(images, "--dry-run", "--artefact", "fp32"))
    assert done.exit_code == 0
    assert "10 enrolled FPIR 20 %" in done.stdout
    assert "measured" in done.stdout
    assert (bundle / "manifest.json").read_bytes() == before


def test_too_little_data_is_said_and_is_the_outcome_no(bundle: Path, images: Path) -> None:
    options = ("--target-fpir", 0.001, "--artefact", "fp32", "--json")
    done = run(bundle, *from_images(images, *options))
    assert done.exit_code == 1
    searches = json.loads(done.stdout)["artefacts"][0]["searches"]
    assert [p["evidence"] for p in searches] == ["measured", "not enough data"]
    assert f"there are {PEOPLE}" in searches[1]["note"]


def test_points_for_searches_leave_points_for_comparisons_alone(bundle: Path, images: Path) -> None:
    run(bundle, *from_images(images, "--artefact", "fp32"))
    first = Bundle.open(bundle).manifest.operating_points
    run(bundle, *from_images(images, "--artefact", "fp32", "--gallery-size", 20))
    second = Bundle.open(bundle).manifest.operating_points
    sizes = [p.gallery_size for p in second if p.artefact == "fp32" and p.gallery_size]
    assert sorted(sizes) == [10, 20]
    assert {p.target_fmr for p in first if p.gallery_size is None} <= {
        p.target_fmr for p in second if p.gallery_size is None
    }


def test_a_protocol_names_images_and_targets_and_options_win(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    protocol = tmp_path / "office.toml"
    protocol.write_text(
        f'name = "office"\nimages = ["{images.as_posix()}"]\n'
        f'landmarks = "{images.parent.as_posix()}/images-landmarks.txt"\n'
        "[points]\ntarget_fpirs = [0.3]\ngallery_sizes = [5]\ntarget_fmrs = [0.05]\n"
        "n_resamples = 30\n",
        encoding="utf-8",
    )
    page = tmp_path / "page.html"
    options = ("--protocol", protocol, "--gallery-size", 8, "--html", page, "--artefact", "fp32")
    done = run(bundle, *options, "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["protocol"] == "office"
    assert printed["options"]["gallery_sizes"] == [8]
    assert printed["options"]["target_fpirs"] == [0.3]
    assert "office" in page.read_text(encoding="utf-8")


def test_a_list_of_pairs_that_does_not_say_who_is_who_is_refused(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.jpg"))[:4]
    pairs.write_text(f"image_a,image_b,same\n{names[0]},{names[1]},1\n{names[0]},{names[3]},0\n")
    with pytest.raises(InvalidInputError, match="who everyone is"):
        run(bundle, *from_images(images, "--pairs", pairs))


def test_pictures_that_an_lfw_list_names_are_used_alone(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    people = [f"Person_{k:03d}" for k in range(12)]
    mated = [f"{name}\t1\t2" for name in people]
    others = [f"{a}\t1\t{b}\t2" for a, b in zip(people, people[1:] + people[:1], strict=True)]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(["1\t12", *mated, *others]) + "\n")
    options = ("--pairs", pairs, "--json", "--artefact", "fp32", "--target-fmr", 0.05)
    done = run(bundle, *from_images(images, *options))
    assert json.loads(done.stdout)["artefacts"][0]["n_people"] == 12


def test_the_gallery_itself_gives_thresholds(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgeface.gallery import KeyOptions, SqliteGallery

    manifest = Bundle.open(bundle).manifest
    rng = np.random.default_rng(0)
    path = tmp_path / "people.db"
    keys = KeyOptions(insecure_key_file=True)
    with SqliteGallery.open(
        path, model_id=manifest.model_id, embedding_size=manifest.embedding_size, keys=keys
    ) as gallery:
        for k in range(20):
            person = rng.standard_normal(manifest.embedding_size)
            rows = person + 0.3 * rng.standard_normal((2, len(person)))
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            gallery.add(
                f"p{k}", [Template(row.astype(np.float32), manifest.model_id) for row in rows]
            )
    wanted = ("--gallery", path, "--target-fpir", 0.2, "--gallery-size", 10, "--target-fmr", 0.05)
    with pytest.raises(InvalidInputError, match="the one --artefact"):
        run(bundle, *wanted)
    done = run(bundle, *wanted, "--artefact", "fp32", "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["artefacts"][0]["n_people"] == 20
    assert "p1" not in done.stdout.replace("fp1", "")


def test_nothing_to_compare_is_the_users_mistake(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="give --images"):
        run(bundle)
    with pytest.raises(GalleryError):
        run(bundle, "--gallery", tmp_path / "none.db", "--artefact", "fp32")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="sub-folder"):
        run(bundle, "--images", tmp_path / "empty")
    lonely = tmp_path / "lonely"
    shutil.copytree(images / "Person_000", lonely / "Person_000")
    with pytest.raises(EdgefaceError, match="at least three people"):
        run(bundle, "--images", lonely, "--landmarks", images.parent / "images-landmarks.txt")
