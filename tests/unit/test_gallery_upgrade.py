"""Galleries of schema 1, which were not encrypted, become encrypted, whole or not at all."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryKeyError,
    GalleryModelError,
)
from edgeface.gallery import SqliteGallery, upgrade
from edgeface.gallery.keys import INSECURE_SWITCH
from tests.faults.galleries import MODEL, SIZE, open_gallery, template

# As the release that wrote schema 1 made it.
STATEMENTS = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)",
    """CREATE TABLE subject (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL)""",
    """CREATE TABLE template (id INTEGER PRIMARY KEY,
    subject_id INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    vector BLOB NOT NULL, quality REAL NOT NULL, source TEXT NOT NULL, created_at TEXT NOT NULL)""",
    "PRAGMA application_id = 0x45474631",
    "PRAGMA user_version = 1",
)
CREATED = "2026-01-02T03:04:05+00:00"
NAMES = ["Ann Example", "Bob Example", "Cleo Example"]


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery of schema 1 with three people of two templates each."""
    path = tmp_path / "gallery" / "people.db"
    path.parent.mkdir()
    run(path, *STATEMENTS)
    with closing(sqlite3.connect(path)) as connection, connection:
        meta = {"model_id": MODEL, "embedding_size": str(SIZE), "created_at": CREATED}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        for number, name in enumerate(NAMES, start=1):
            connection.execute("INSERT INTO subject VALUES (?, ?, ?)", (number, name, CREATED))
            for seed in (2 * number, 2 * number + 1):
                blob = template(seed).vector.astype("<f4").tobytes()
                row = (number, blob, 0.5, "image", CREATED)
                connection.execute(
                    "INSERT INTO template (subject_id, vector, quality, source, created_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    row,
                )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    path.chmod(0o600)
    return path


def unencrypted(folder: Path) -> list[bytes]:
    needles = [name.encode() for name in NAMES]
    needles += [template(seed).vector.tobytes() for seed in range(2, 8)]
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    return [needle for needle in needles if needle in content]


def test_an_unencrypted_gallery_is_encrypted_with_a_message(path: Path) -> None:
    assert len(unencrypted(path.parent)) == 9
    with open_gallery(path) as gallery:
        assert any("was not encrypted" in notice for notice in gallery.notices)
        assert [(info.name, info.created_at) for info in gallery.subjects()] == [
            (name, CREATED) for name in NAMES
        ]
        for number, name in enumerate(NAMES, start=1):
            for seed, found in zip(
                (2 * number, 2 * number + 1), gallery.templates(name), strict=True
            ):
                np.testing.assert_array_equal(found.vector, template(seed).vector)
                assert found.quality == 0.5
        assert unencrypted(path.parent) == []
    assert [file.name for file in path.parent.iterdir()] == ["people.db"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_gallery(path) as gallery:
        assert gallery.notices == ()


def test_the_old_content_is_overwritten_where_it_lay(path: Path) -> None:
    with path.open("rb") as old:
        open_gallery(path).close()
        content = old.read()
    assert content
    assert content.count(0) == len(content)


def test_a_gallery_of_another_model_is_not_encrypted(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(GalleryModelError):
        SqliteGallery.open(path, model_id="b" * 64, embedding_size=SIZE)
    assert path.read_bytes() == before
    with SqliteGallery.open_existing(path) as gallery:
        assert gallery.model_id == MODEL


def test_without_a_place_for_a_key_it_stays_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    monkeypatch.delenv(INSECURE_SWITCH)
    with pytest.raises(GalleryKeyError):
        open_gallery(path)
    assert path.read_bytes() == before


def test_while_others_use_it_it_stays_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeface.gallery.schema._BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM subject").fetchall()
        with pytest.raises(GalleryError, match="locked"):
            open_gallery(path)
    assert len(unencrypted(path.parent)) == 9
    open_gallery(path).close()
    assert unencrypted(path.parent) == []


def test_an_unusable_template_is_left_behind(path: Path) -> None:
    run(path, "UPDATE template SET vector = x'0000' WHERE id = 1")
    with open_gallery(path) as gallery:
        assert [info.template_count for info in gallery.subjects()] == [1, 2, 2]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE template",
        "DELETE FROM meta",
        "UPDATE meta SET value = 'many' WHERE key = 'embedding_size'",
        "UPDATE subject SET name = x'00' WHERE id = 1",
        "UPDATE template SET source = 'dream' WHERE id = 1",
        "UPDATE template SET subject_id = 99 WHERE id = 1",
    ],
)
def test_a_damaged_one_is_refused_and_kept(path: Path, statement: str) -> None:
    run(path, statement)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with pytest.raises(GalleryFormatError):
        open_gallery(path)
    assert len(unencrypted(path.parent)) >= 3
    assert not list(path.parent.glob(".gallery-*"))


class Cut(BaseException):
    """Stands for the power going."""


def cut(*_: object, **__: object) -> None:
    raise Cut


@pytest.mark.parametrize(
    "step", ["new_gallery_slot", "write_beside", "_fill", "_compare", "sync_folder", "_overwrite"]
)
def test_interrupted_at_any_step_it_is_the_old_one_or_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(upgrade, step, cut)
        with pytest.raises(Cut):
            open_gallery(path)
    with open_gallery(path) as gallery:
        assert [info.template_count for info in gallery.subjects()] == [2, 2, 2]
        assert gallery.search(template(2))[0].subject == NAMES[0]
    assert unencrypted(path.parent) == []


def test_what_reads_back_otherwise_is_not_put_in_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = upgrade._fill

    def forgetful(*arguments: object) -> None:
        arguments[3].templates.pop()  # type: ignore[attr-defined]
        fill(*arguments)  # type: ignore[arg-type]
        arguments[3].templates.append(arguments[3].templates[0])  # type: ignore[attr-defined]

    monkeypatch.setattr(upgrade, "_fill", forgetful)
    with pytest.raises(GalleryError, match="reads back otherwise"):
        open_gallery(path)
    assert len(unencrypted(path.parent)) == 9
