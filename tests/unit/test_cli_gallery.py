"""``edgeface gallery``: what it prints, what it removes, what it exits with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.gallery import SqliteGallery
from edgeface.types import Template
from tests.builders import make_bundle

pytest.importorskip("onnx")


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    """Options that name a bundle and a gallery with two people in it."""
    bundle, gallery = make_bundle(tmp_path), tmp_path / "people.db"
    manifest = Bundle.open(bundle).manifest
    with SqliteGallery.open(
        gallery, model_id=manifest.model_id, embedding_size=manifest.embedding_size
    ) as opened:
        for k, name in enumerate(("ada", "grace")):
            opened.add(name, [Template(np.eye(16, dtype=np.float32)[k], manifest.model_id)])
    return ["-m", str(bundle), "-g", str(gallery)]


def run(*arguments: str) -> tuple[int, str]:
    from typer.testing import CliRunner

    from edgeface.cli import app

    done = CliRunner().invoke(app, ["gallery", *arguments])
    return done.exit_code, done.stdout


def people(where: list[str]) -> list[str]:
    return [person["name"] for person in json.loads(run("list", *where, "--json")[1])]


def test_the_people_are_listed(where: list[str]) -> None:
    assert people(where) == ["ada", "grace"]
    code, out = run("list", *where)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["name", "ada", "grace"]


@pytest.mark.parametrize(
    ("options", "printed"), [([], "removed ada\n"), (["--json"], '{\n  "removed": "ada"\n}\n')]
)
def test_a_person_is_removed_and_that_is_said(
    where: list[str], options: list[str], printed: str
) -> None:
    assert run("remove", "ada", *where, *options) == (0, printed)
    assert people(where) == ["grace"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_removing_nobody_prints_no_result(where: list[str], options: list[str]) -> None:
    code, out = run("remove", "nobody", *where, *options)
    assert code != 0
    assert out == ""
    assert people(where) == ["ada", "grace"]
