"""The gallery under faults: wrong files, full disks, killed writers."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryModelError,
    InvalidInputError,
)
from edgeface.gallery import SqliteGallery
from edgeface.types import Template

MODEL = "a" * 64
SIZE = 64


def template(seed: int) -> Template:
    vector = np.random.default_rng(seed).standard_normal(SIZE)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), MODEL)


def open_gallery(path: Path, *, model_id: str = MODEL, create: bool = True) -> SqliteGallery:
    return SqliteGallery.open(path, model_id=model_id, embedding_size=SIZE, create=create)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery of 40 subjects."""
    path = tmp_path / "people.db"
    with open_gallery(path) as gallery:
        for seed in range(40):
            gallery.add(f"s{seed}", [template(seed)])
    return path


def make_text(path: Path) -> None:
    path.write_text("alice,bob\n" * 100)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_header_only(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def make_cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def make_foreign(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE subject (name TEXT)")
    path.chmod(0o600)


def make_newer(path: Path) -> None:
    change(path, "PRAGMA user_version = 3")


def make_corrupt(path: Path) -> None:
    """Overwrite the middle of every page but the first."""
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 16] = b"\xa5" * 16
    path.write_bytes(content)


def make_corrupt_schema(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:200] = b"\xff" * 100
    path.write_bytes(content)


def make_trapped(path: Path) -> None:
    change(path, "CREATE TRIGGER trap AFTER INSERT ON subject BEGIN DELETE FROM template; END")


def make_view(path: Path) -> None:
    change(path, "DROP TABLE template", "CREATE VIEW template AS SELECT 1 AS vector")


def make_nameless(path: Path) -> None:
    change(path, "DELETE FROM meta WHERE key = 'gallery_id'")


def make_orphans(path: Path) -> None:
    change(path, "DELETE FROM subject WHERE id = 3")


DAMAGES = [
    make_text, make_empty, make_header_only, make_cut_short, make_foreign, make_newer,
    make_corrupt, make_corrupt_schema, make_trapped, make_view, make_nameless, make_orphans,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__[5:])
def test_a_file_that_is_no_sound_gallery_is_refused_and_kept(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = path.read_bytes()
    with pytest.raises(GalleryFormatError, match=r"people\.db"):
        open_gallery(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["people.db"]


def test_a_newer_gallery_asks_for_a_newer_release(path: Path) -> None:
    make_newer(path)
    with pytest.raises(GalleryFormatError, match=r"schema 3, this release reads 2.*install"):
        open_gallery(path)


def test_a_link_a_folder_and_a_pipe_are_refused(tmp_path: Path, path: Path) -> None:
    before = path.read_bytes()
    link, dangling, pipe, folder = (tmp_path / name for name in ("link", "lost", "pipe", "folder"))
    link.symlink_to(path)
    dangling.symlink_to(tmp_path / "nowhere")
    os.mkfifo(pipe)
    folder.mkdir()
    for place in (link, dangling, pipe, folder):
        with pytest.raises(GalleryFormatError, match="a gallery is a plain file"):
            open_gallery(place)
    assert path.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


def test_a_gallery_of_another_model_names_both_and_the_way_out(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(GalleryModelError, match=r"aaaaaaaaaaaa .*bbbbbbbbbbbb .*enrol") as caught:
        open_gallery(path, model_id="b" * 64)
    assert MODEL not in str(caught.value)
    assert path.read_bytes() == before
    with pytest.raises(GalleryModelError, match=r"embedding size 64.*embedding size 32"):
        SqliteGallery.open(path, model_id=MODEL, embedding_size=32)


def test_a_gallery_that_others_may_read_is_refused(path: Path) -> None:
    path.chmod(0o644)
    with pytest.raises(GalleryError, match="chmod 600"):
        open_gallery(path)


def test_a_missing_gallery_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no gallery at"):
        open_gallery(tmp_path / "people.db", create=False)
    with pytest.raises(GalleryError, match="mkdir -m 700"):
        open_gallery(tmp_path / "no" / "people.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("model_id", "size"), [("", 64), (MODEL, 0)])
def test_a_gallery_needs_a_model(tmp_path: Path, model_id: str, size: int) -> None:
    with pytest.raises(InvalidInputError):
        SqliteGallery.open(tmp_path / "people.db", model_id=model_id, embedding_size=size)


def test_two_connections_share_one_gallery(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    first, second = open_gallery(path), open_gallery(path)
    first.add("alice", [template(1)])
    second.add("bob", [template(2)])
    assert [info.name for info in first.subjects()] == ["alice", "bob"]
    first.close()
    second.close()


def test_a_locked_gallery_is_an_error_and_not_a_hang(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeface.gallery.schema._BUSY_TIMEOUT_S", 0.05)
    with open_gallery(path) as gallery, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="locked"):
            gallery.add("alice", [template(99)])
        assert gallery.search(template(3))[0].subject == "s3"
        other.execute("ROLLBACK")
        gallery.add("alice", [template(99)])


def test_a_full_disk_loses_nothing_that_was_stored(path: Path) -> None:
    with open_gallery(path) as gallery:
        connection = gallery.vault._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(GalleryError, match="full"):
            gallery.add("alice", [template(seed) for seed in range(100, 200)])
        assert len(gallery.subjects()) == 40
        assert gallery.search(template(7))[0].subject == "s7"
        connection.execute("PRAGMA max_page_count = 100000")
        gallery.add("alice", [template(99)])
        assert gallery.search(template(99))[0].subject == "alice"


def test_no_changed_byte_makes_anything_but_a_gallery_error(tmp_path: Path, path: Path) -> None:
    content, randomness = path.read_bytes(), random.Random(7)
    victim = tmp_path / "victim.db"
    for _ in range(200):
        changed = bytearray(content)
        for _ in range(randomness.choice([1, 1, 4])):
            changed[randomness.randrange(len(changed))] = randomness.randrange(256)
        victim.write_bytes(changed)
        victim.chmod(0o600)
        try:
            with open_gallery(victim) as gallery:
                for candidate in gallery.search(template(3)):
                    assert np.isfinite(candidate.score)
                gallery.subjects()
        except GalleryError:
            pass
        for rest in tmp_path.glob("victim.db-*"):
            rest.unlink()
