"""``edgeface assets``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgeface.assets import ASSETS, Asset
from edgeface.cli.assets import assets_app
from edgeface.errors import InvalidInputError

CONTENT = bytes(1000)
ASSET = Asset(
    name="blaze_face_short_range.tflite",
    purpose="a test",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EDGEFACE_ASSETS", "EDGEFACE_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGEFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ASSETS, ASSET.name, ASSET)
    return tmp_path / "cache"


def test_list_names_every_asset_and_its_state() -> None:
    result = CliRunner().invoke(assets_app, ["list", "--json"])
    assert result.exit_code == 0
    listed = json.loads(result.stdout)["assets"]
    assert {each["name"]: each["state"] for each in listed} == dict.fromkeys(ASSETS, "missing")


def test_verify_says_no_when_something_is_missing() -> None:
    assert CliRunner().invoke(assets_app, ["verify"]).exit_code == 1


def test_verify_is_content_with_a_stand_in_and_not_with_damage(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    for name, asset in list(ASSETS.items()):
        monkeypatch.setitem(ASSETS, name, replace(ASSET, name=name, stand_in=asset.stand_in))
        if name != "face_landmarker.task":
            (cache / name).write_bytes(CONTENT)
    assert CliRunner().invoke(assets_app, ["verify"]).exit_code == 0
    (cache / "face_landmarker.task").write_bytes(b"damaged")
    result = CliRunner().invoke(assets_app, ["verify"])
    assert result.exit_code == 1
    assert "damaged" in result.stdout


def test_fetch_takes_names_and_reports_them(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEFACE_ASSETS", str(tmp_path))
    (tmp_path / ASSET.name).write_bytes(CONTENT)
    result = CliRunner().invoke(assets_app, ["fetch", ASSET.name, "--source", "offline", "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["assets"]
    assert (row["state"], row["path"]) == ("cached", str(cache / ASSET.name))


def test_fetch_of_an_unknown_name_is_the_users_mistake() -> None:
    result = CliRunner().invoke(assets_app, ["fetch", "nothing"])
    assert isinstance(result.exception, InvalidInputError)
    assert result.exception.exit_code == 2
