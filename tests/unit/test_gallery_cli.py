"""``edgeface gallery``: keeping, moving and forgetting, as people type it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.gallery import Consent, EnrolmentRecord, ReferenceCrop, SqliteGallery
from edgeface.types import OperatingPoint, Template
from tests.builders import make_bundle

pytest.importorskip("onnx")

POINTS = np.array([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]], np.float32)
POINT = OperatingPoint(0.6, 1e-4, "fp32", "test")
CONSENT = Consent("on paper", "2026-01-01", keep_crops=True)


def crop(seed: int) -> ReferenceCrop:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return ReferenceCrop(np.kron(blocks, np.ones((8, 8, 1), np.uint8)), POINTS)


def tiny_bundle(folder: Path, size: int) -> Path:
    return make_bundle(folder, embedding_size=size, operating_points=(POINT,))


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    """The option that names a gallery of Ada and Grace, with consent and a kept crop each."""
    manifest = Bundle.open(tiny_bundle(tmp_path / "old", 16)).manifest
    gallery = tmp_path / "people.db"
    with SqliteGallery.open(
        gallery, model_id=manifest.model_id, embedding_size=manifest.embedding_size
    ) as opened:
        for k, name in enumerate(("Ada", "Grace")):
            row = Template(np.eye(16, dtype=np.float32)[k], manifest.model_id, 0.8)
            record = EnrolmentRecord(consent=CONSENT, crops=[crop(k)])
            opened.add(name, [row], record=record)
    return ["-g", str(gallery)]


def run(*arguments: object) -> tuple[int, str, str]:
    from typer.testing import CliRunner

    from edgeface.cli import app

    done = CliRunner().invoke(app, ["gallery", *map(str, arguments)])
    error = "" if done.exception is None else str(done.exception)
    return done.exit_code, done.stdout, error


def as_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json")[1])


def names(where: list[str]) -> list[str]:
    return [person["name"] for person in as_json("list", *where)]


@pytest.fixture
def passphrase(tmp_path: Path) -> list[str]:
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    return ["--passphrase-file", str(file)]


@pytest.fixture(autouse=True)
def _quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeface.gallery.key_sources.Passphrase._COST_LOG2", 4)


def test_a_person_is_shown_without_the_templates(where: list[str]) -> None:
    code, out, _ = run("show", "Ada", *where)
    assert code == 0
    assert "consent         on paper (2026-01-01)" in out.splitlines()
    value = as_json("show", "Ada", *where)
    assert value["consent"]["how"] == "on paper"
    assert (value["qualities"], value["crops"]) == ([0.8], 1)
    assert run("show", "Nobody", *where)[0] != 0


def test_a_person_is_renamed_and_deactivated_and_back(where: list[str]) -> None:
    assert run("rename", "Ada", "Ada Lovelace", *where)[0] == 0
    assert names(where) == ["Ada Lovelace", "Grace"]
    assert as_json("deactivate", "Grace", *where) == {"name": "Grace", "active": False}
    assert [person["active"] for person in as_json("list", *where)] == [True, False]
    assert "inactive" in run("list", *where)[1]
    assert run("deactivate", "Grace", "--undo", *where)[0] == 0
    assert [person["active"] for person in as_json("list", *where)] == [True, True]


def test_forgetting_gives_a_receipt_that_can_be_checked(where: list[str], tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    value = as_json("forget", "Ada", "--receipt", receipt, *where)
    assert json.loads(receipt.read_text()) == value
    assert "Ada" not in receipt.read_text()
    assert names(where) == ["Grace"]
    assert run("check", "--receipt", receipt, *where)[0] == 0
    assert [one["receipt"] for one in as_json("receipts", *where)] == [value["receipt"]]
    assert value["receipt"] in run("receipts", *where)[1]
    receipt.write_text(json.dumps({**value, "templates": 7}))
    code, out, _ = run("check", "--receipt", receipt, *where)
    assert code == 1
    assert "not a receipt of this gallery" in out
    receipt.write_text("no JSON")
    assert "cannot be read" in run("check", "--receipt", receipt, *where)[2]
    assert run("forget", "Ada", *where)[0] != 0


def test_a_check_says_what_is_not_as_it_should_be(where: list[str], tmp_path: Path) -> None:
    facts = as_json("check", *where)
    assert (facts["people"], facts["templates"], facts["problems"]) == (2, 2, [])
    assert facts["key"] == "key-file"
    with SqliteGallery.open_existing(tmp_path / "people.db") as gallery:
        gallery.add("No Consent", [Template(np.eye(16, dtype=np.float32)[5], gallery.model_id)])
    code, out, _ = run("check", *where)
    assert code == 1
    assert "1 people have no record of consent" in out


def test_a_check_says_when_an_older_copy_could_not_be_told(
    where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    code, out, _ = run("check", *where)
    assert code == 1
    assert "an older copy cannot be told" in out


def test_a_changed_gallery_is_refused_by_every_command(where: list[str], tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    content = bytearray(path.read_bytes())
    content[content.index(b"active")] ^= 1
    path.write_bytes(content)
    for command in (["list"], ["check"], ["show", "Ada"], ["forget", "Ada"], ["rekey"]):
        code, out, error = run(*command, *where)
        assert code != 0
        assert out == ""
        assert "changed" in error or "damaged" in error
    assert path.read_bytes() == bytes(content)


def test_a_person_is_exported_to_a_file_for_its_owner(where: list[str], tmp_path: Path) -> None:
    target = tmp_path / "ada.json"
    assert run("export", "Ada", "--templates", "-o", target, *where)[0] == 0
    assert target.stat().st_mode & 0o777 == 0o600
    value = json.loads(target.read_text())
    assert value["templates"][0]["vector"][0] == 1.0
    assert value == as_json("export", "Ada", "--templates", *where)
    assert run("export", "Ada", "-o", target, *where)[0] != 0
    for wrong in ([], ["Ada", "--all"], ["--all"]):
        assert run("export", *wrong, *where)[0] != 0


def test_everybody_moves_by_an_archive(
    where: list[str], tmp_path: Path, passphrase: list[str]
) -> None:
    archive, other = tmp_path / "people.archive", ["-g", str(tmp_path / "other.db")]
    assert run("export", "--all", "-o", archive, *passphrase, *where)[0] == 0
    manifest = Bundle.open(next((tmp_path / "old").glob("*.edgeface"))).manifest
    with SqliteGallery.open(
        other[1], model_id=manifest.model_id, embedding_size=manifest.embedding_size
    ) as gallery:
        gallery.add("Ada", [Template(np.eye(16, dtype=np.float32)[9], manifest.model_id)])
    code, out, _ = run("import", archive, *passphrase, *other)
    assert code == 1
    assert out == "added 1 people\nleft out, since the name is taken: Ada\n"
    assert names(other) == ["Ada", "Grace"]
    assert run("import", tmp_path / "none", *passphrase, *other)[0] != 0


def test_a_backup_comes_back_where_the_gallery_was(
    where: list[str], tmp_path: Path, passphrase: list[str]
) -> None:
    backup = tmp_path / "backup.db"
    assert run("backup", backup, *passphrase, *where)[0] == 0
    run("forget", "Ada", *where)
    assert run("restore", backup, *where)[0] != 0
    code, out, _ = run("restore", backup, "--replace", *where)
    assert code == 0
    assert "1 were left out: they were forgotten since" in out
    assert names(where) == ["Grace"]
    for key in Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.key"):
        key.unlink()
    fresh = ["-g", str(tmp_path / "fresh.db")]
    done = as_json("restore", backup, *passphrase, *fresh)
    assert done == {"people": 2, "forgotten_again": 0, "set_aside": None}


def test_the_key_moves_and_only_to_places_that_exist(
    where: list[str], passphrase: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_json("rekey", "--to", "passphrase", *passphrase, *where) == {"key": "passphrase"}
    assert "kept in passphrase" in run("list", *where)[2]
    assert run("rekey", "--to", "desktop-keyring", *where)[0] != 0
    monkeypatch.delenv("EDGEFACE_INSECURE_KEY_FILE")
    assert run("rekey", *where)[0] != 0


def test_enrolment_without_consent_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    code, _, error = run("enrol", "Ada", "photo.jpg", "-g", tmp_path / "people.db")
    assert code != 0
    assert "--consent" in error
    (tmp_path / "people" / "Ada").mkdir(parents=True)
    code, _, error = run("enrol-folder", tmp_path / "people", "-g", tmp_path / "people.db")
    assert "--consent" in error
    assert not (tmp_path / "people.db").exists()


def migrate(*arguments: object) -> tuple[int, str, str]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("mediapipe")
    return run("migrate", *arguments)


def test_a_gallery_is_migrated_and_back(where: list[str], tmp_path: Path) -> None:
    old = next((tmp_path / "old").glob("*.edgeface"))
    new = tiny_bundle(tmp_path / "new", 32)
    before = (tmp_path / "people.db").read_bytes()
    code, out, _ = migrate("--to", new, "--dry-run", *where)
    assert (code, out.splitlines()[0][:28]) == (0, "2 of 2 people can be moved; ")
    assert (tmp_path / "people.db").read_bytes() == before
    code, out, error = migrate("--to", new, "--json", *where)
    assert json.loads(out) == {"active": True, "made": 2, "lacking": [], "dropped": 0}, error
    assert run("list", "-m", old, *where)[0] != 0
    assert run("list", "-m", new, *where)[0] == 0
    assert migrate("--to", old, *where)[0] == 0
    assert run("list", "-m", old, *where)[0] == 0
    assert "has this model already" in migrate("--to", old, *where)[1]
    assert json.loads(migrate("--to", old, "--drop-old", "--json", *where)[1])["dropped"] == 2


def test_who_cannot_be_migrated_keeps_the_old_model_active(
    where: list[str], tmp_path: Path
) -> None:
    with SqliteGallery.open_existing(tmp_path / "people.db") as gallery:
        gallery.add("No Crop", [Template(np.eye(16, dtype=np.float32)[5], gallery.model_id)])
    new = tiny_bundle(tmp_path / "new", 32)
    code, out, _ = migrate("--to", new, *where)
    assert code == 1
    assert "no template of the new model: No Crop" in out
    assert "No Crop: no kept crop" in migrate("--to", new, "--dry-run", *where)[1]
    assert run("list", "-m", next((tmp_path / "old").glob("*.edgeface")), *where)[0] == 0
    assert migrate("--to", new, "--allow-missing", *where)[0] == 0
    assert run("list", "-m", new, *where)[0] == 0
