"""``edgeface gallery sync`` and ``fleet-key``, and consent at ``edgeface enrol``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import FleetUnavailableError, GalleryKeyError, InvalidInputError
from edgeface.gallery import SqliteGallery
from edgeface.gallery.fleet import read_key_file
from edgeface.testing.fleet import FakeFleetServer
from edgeface.types import Template

MODEL, SIZE = "a" * 64, 32


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeFleetServer:
    """Stands in for every Milvus."""
    found = FakeFleetServer()
    monkeypatch.setattr("edgeface.cli.gallery_fleet_command.MilvusServer", lambda *_: found)
    return found


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    from typer.testing import CliRunner

    from edgeface.cli import app

    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.stdout, done.exception


def enrol(path: Path, name: str, seed: int) -> list[object]:
    vector = np.random.default_rng(seed).standard_normal(SIZE)
    row = Template((vector / np.linalg.norm(vector)).astype(np.float32), MODEL)
    with SqliteGallery.open(path, model_id=MODEL, embedding_size=SIZE) as gallery:
        gallery.add(name, [row])
    return ["-g", path, "--fleet", "https://fleet:19530"]


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "fleet.key"
    code, out, _ = run("gallery", "fleet-key", file, "--json")
    assert code == 0
    assert json.loads(out)["fleet"] == read_key_file(file).fleet_id
    assert file.stat().st_mode & 0o777 == 0o600
    assert isinstance(run("gallery", "fleet-key", file)[2], GalleryKeyError)
    file.chmod(0o644)
    with pytest.raises(GalleryKeyError, match="chmod 600"):
        read_key_file(file)


@pytest.mark.parametrize("content", ["", "hello", "edgeface-fleet-key-1 00", "x " + "0" * 64])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "fleet.key"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(GalleryKeyError, match="fleet-key"):
        read_key_file(file)
    with pytest.raises(GalleryKeyError):
        read_key_file(tmp_path / "none")


def test_two_galleries_are_exchanged(tmp_path: Path, server: FakeFleetServer) -> None:
    key = tmp_path / "fleet.key"
    run("gallery", "fleet-key", key)
    one = enrol(tmp_path / "one.db", "ann", 1)
    two = enrol(tmp_path / "two.db", "ann", 2)
    assert run("gallery", "sync", *one, "--fleet-key", key)[0] == 0
    code, out, _ = run("gallery", "sync", *two, "--fleet-key", key, "--json")
    report: dict[str, Any] = json.loads(out)
    assert (code, report["added"]) == (0, 1)
    # Of the two Anns either is renamed: who was enrolled in one second is ordered by a random uid.
    assert report["sent"] in (1, 2)
    assert len(report["renamed"]) == 1
    # The key is in the gallery by now.
    code, out, _ = run("gallery", "sync", *one)
    assert code == 0
    assert "1 new people" in out
    with SqliteGallery.open(tmp_path / "one.db", model_id=MODEL, embedding_size=SIZE) as gallery:
        assert len(gallery.subjects()) == 2


def test_a_gallery_of_no_fleet_needs_the_key(tmp_path: Path, server: FakeFleetServer) -> None:
    error = run("gallery", "sync", *enrol(tmp_path / "one.db", "ann", 1))[2]
    assert isinstance(error, GalleryKeyError)
    assert "--fleet-key" in str(error)


def test_a_server_out_of_reach_is_exit_code_1(tmp_path: Path, server: FakeFleetServer) -> None:
    key = tmp_path / "fleet.key"
    run("gallery", "fleet-key", key)
    server.fail = lambda _step: True
    arguments = [*enrol(tmp_path / "one.db", "ann", 1), "--fleet-key", key]
    error = run("gallery", "sync", *arguments)[2]
    assert isinstance(error, FleetUnavailableError)
    assert error.exit_code == 1


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    arguments = [*enrol(tmp_path / "one.db", "ann", 1), "--fleet", "nowhere"]
    assert isinstance(run("gallery", "sync", *arguments)[2], InvalidInputError)


def test_what_belongs_to_a_consent_needs_one(tmp_path: Path) -> None:
    error = run("enrol", "Ada", "a.jpg", "-g", tmp_path / "p.db", "--consent-text", "v2")[2]
    assert isinstance(error, InvalidInputError)
    assert "--consent" in str(error)
    assert not (tmp_path / "p.db").exists()
