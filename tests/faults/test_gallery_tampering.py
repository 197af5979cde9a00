"""Files that somebody changed: every change is refused by type, and never half believed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import (
    GalleryFormatError,
    GalleryIntegrityError,
    GalleryKeyError,
    GalleryModelError,
    GalleryRollbackError,
)
from edgeface.gallery import Consent, EnrolmentRecord, ReferenceCrop, SqliteGallery
from edgeface.gallery.tables import TABLE, TABLES
from tests.faults.galleries import MODEL, SIZE, open_gallery, template

NAMES = [f"Person Number {k}" for k in range(8)]
POINTS = np.array([[10, 12], [20, 12], [15, 18], [11, 23], [19, 23]], np.float32)


def crop(seed: int) -> ReferenceCrop:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    return ReferenceCrop(pixels, POINTS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed gallery of eight people with two templates and two crops each; one is forgotten."""
    path = tmp_path / "people.db"
    with open_gallery(path) as gallery:
        for k, name in enumerate([*NAMES, "Somebody Else"]):
            record = EnrolmentRecord(
                consent=Consent("on paper", "2026-01-01", keep_crops=True),
                crops=[crop(2 * k), crop(2 * k + 1)],
            )
            gallery.add(name, [template(2 * k), template(2 * k + 1)], record=record)
        gallery.forget("Somebody Else")
    return path


def content_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return {table.name: connection.execute(table.select).fetchall() for table in TABLES}


def everything(gallery: SqliteGallery) -> list[Any]:
    """Return what the gallery says of everybody, to be compared."""
    return [
        (info, [row.vector.tobytes() for row in gallery.templates(info.name)])
        for info in gallery.subjects()
    ]


def every_file(folder: Path) -> bytes:
    """Return the content of every file of the gallery, its keys and its anchor."""
    places = (folder, *(Path(os.environ[name]) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")))
    return b"".join(
        file.read_bytes() for place in places for file in place.rglob("*") if file.is_file()
    )


def refusal(path: Path) -> type[Exception] | None:
    try:
        open_gallery(path, create=False).close()
    except (GalleryFormatError, GalleryKeyError, GalleryModelError) as error:
        return type(error)
    return None


def write(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement, values)


def changed(value: Any, rng: random.Random) -> Any:
    """Return another value of the same kind: a bit flipped, a part gone, something added."""
    if isinstance(value, int):
        return value + rng.choice([-1, 1, 2, 1000])
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    kind = rng.choice(["flip", "cut", "add"]) if raw else "add"
    if kind == "flip":
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(7)
    elif kind == "cut":
        del raw[rng.randrange(len(raw)) :]
    else:
        raw += b"x"
    return bytes(raw) if isinstance(value, bytes) else raw.decode("latin-1")


def mutations(path: Path, rng: random.Random) -> tuple[str, str, tuple[Any, ...]]:
    """Return the kind of a change to one stored value or row, and its statement."""
    tables = content_of(path)
    name = rng.choice([name for name, rows in tables.items() if rows])
    rows = tables[name]
    table = next(table for table in TABLES if table.name == name)
    row = rng.choice(rows)
    kind = rng.choice(["value", "value", "value", "swap", "remove", "head"])
    if kind == "head":
        part = rng.choice(["counter", "digest", "mac"])
        with closing(sqlite3.connect(path)) as connection:
            old = connection.execute("SELECT counter, digest, mac FROM head").fetchone()
        value = changed(old[["counter", "digest", "mac"].index(part)], rng)
        return kind, f"UPDATE head SET {part} = ?", (value,)
    if kind == "remove":
        return kind, table.delete, (row[0],)
    column = rng.randrange(1, len(row))
    value = changed(row[column], rng)
    if kind == "swap" and len(rows) > 1:
        value = rng.choice([other for other in rows if other is not row])[column]
        if value == row[column]:
            value = changed(value, rng)
    return kind, f"UPDATE {name} SET {table.names[column]} = ? WHERE id = ?", (value, row[0])


def check_mutations(path: Path, count: int) -> Counter:
    rng = random.Random(3)
    original = path.read_bytes()
    seen: Counter = Counter()
    tried = 0
    while tried < count:
        path.write_bytes(original)
        kind, statement, values = mutations(path, rng)
        try:
            write(path, statement, *values)
        except sqlite3.IntegrityError:  # a duplicate, which no file can hold
            continue
        tried += 1
        error = refusal(path)
        assert error is not None, (kind, statement, values)
        seen[kind] += 1
        seen[error.__name__] += 1
    path.write_bytes(original)
    assert refusal(path) is None
    return seen


def test_every_change_of_a_stored_value_is_refused(path: Path) -> None:
    seen = check_mutations(path, 150)
    assert min(seen[kind] for kind in ("value", "swap", "remove", "head")) > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_5000_changes_of_stored_values_are_refused(path: Path) -> None:
    check_mutations(path, 5000)


def check_flipped_bytes(path: Path, count: int) -> Counter:
    """Flip bits anywhere in the file: refused, or not a value of the gallery was touched."""
    rng = random.Random(5)
    with open_gallery(path) as gallery:
        wanted = everything(gallery)
    original = path.read_bytes()
    victim = path.with_name("victim.db")
    seen: Counter = Counter()
    for _ in range(count):
        content = bytearray(original)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        victim.write_bytes(content)
        victim.chmod(0o600)
        try:
            with open_gallery(victim, create=False) as gallery:
                assert everything(gallery) == wanted
            seen["harmless"] += 1
        except (GalleryFormatError, GalleryKeyError) as error:
            seen[type(error).__name__] += 1
        for file in path.parent.glob("victim.db*"):
            file.unlink()
    return seen


def test_a_flipped_bit_is_refused_or_touched_no_value(path: Path) -> None:
    seen = check_flipped_bytes(path, 100)
    assert sum(seen.values()) - seen["harmless"] > 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_2000_flipped_bits_are_refused_or_touched_no_value(path: Path) -> None:
    check_flipped_bytes(path, 2000)


def put_older_row_back(path: Path, older: Path) -> None:
    """The person's record before the rename, as it was."""
    row = content_of(older)["subject"][0]
    table = next(table for table in TABLES if table.name == "subject")
    write(path, table.update, *row[1:], row[0])


def put_older_row_and_head_back(path: Path, older: Path) -> None:
    put_older_row_back(path, older)
    with closing(sqlite3.connect(older)) as connection:
        head = connection.execute("SELECT counter, digest, mac FROM head").fetchone()
    write(path, "UPDATE head SET counter = ?, digest = ?, mac = ?", *head)


def put_whole_file_back(path: Path, older: Path) -> None:
    shutil.copyfile(older, path)


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (put_older_row_back, GalleryIntegrityError),
        (put_older_row_and_head_back, GalleryRollbackError),
        (put_whole_file_back, GalleryRollbackError),
    ],
)
def test_what_was_put_back_is_refused(
    tmp_path: Path, path: Path, attack: Callable[[Path, Path], None], error: type[Exception]
) -> None:
    older = tmp_path / "older.db"
    shutil.copyfile(path, older)
    with open_gallery(path) as gallery:
        gallery.rename(NAMES[0], "Another Name")
    attack(path, older)
    assert refusal(path) is error


def test_a_copy_that_went_its_own_way_is_refused(tmp_path: Path, path: Path) -> None:
    older = tmp_path / "older.db"
    shutil.copyfile(path, older)
    with open_gallery(path) as gallery:
        gallery.rename(NAMES[0], "Another Name")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
        older.chmod(0o600)
        with open_gallery(older) as gallery:
            gallery.rename(NAMES[1], "Another Name")
    shutil.copyfile(older, path)
    assert refusal(path) is GalleryRollbackError


def test_a_forged_anchor_neither_locks_nor_opens(path: Path, tmp_path: Path) -> None:
    anchor = next(Path(os.environ["XDG_STATE_HOME"]).rglob("*.head"))
    for forged in (b"", b"[]", b"{}", b'{"counter": 99999, "seal": "00", "mac": "00"}', b"\xff"):
        anchor.write_bytes(forged)
        assert refusal(path) is None
    anchor.unlink()
    assert refusal(path) is None


def test_rows_of_one_person_cannot_be_given_to_another(path: Path) -> None:
    """Not even with a head that fits: the record itself is bound to the person."""
    with open_gallery(path) as gallery, gallery.vault.changing() as change:
        rows = change.connection.execute(TABLE["template"].select).fetchall()
        victim = rows[0]
        thief = next(row for row in rows if row[2] != victim[2])
        change.update("template", thief[0], *thief[1:5], victim[5])
        change.done.clear()
    assert refusal(path) is GalleryIntegrityError


def test_the_gallery_of_another_key_is_refused(path: Path, tmp_path: Path) -> None:
    key = next(Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.key"))
    before = path.read_bytes()
    key.write_text("00" * 32)
    assert refusal(path) is GalleryKeyError
    key.unlink()
    assert refusal(path) is GalleryKeyError
    assert path.read_bytes() == before


def test_the_gallery_of_another_model_is_refused(path: Path) -> None:
    with pytest.raises(GalleryModelError):
        SqliteGallery.open(path, model_id="b" * 64, embedding_size=SIZE)
    write(path, "UPDATE model SET model_id = ?", "b" * 64)
    with pytest.raises(GalleryIntegrityError):
        SqliteGallery.open(path, model_id="b" * 64, embedding_size=SIZE)
    assert MODEL not in str(content_of(path)["model"])


def test_no_file_holds_a_name_a_template_a_crop_or_a_consent(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery:
        gallery.rename(NAMES[0], "Renamed Person")
        content = every_file(tmp_path)
    needles = [b"Person Number", b"Renamed", b"Somebody Else", b"on paper"]
    needles += [template(k).vector.tobytes()[4:12] for k in range(2 * len(NAMES) + 2)]
    needles += [crop(k).pixels.tobytes()[16:28] for k in range(2 * len(NAMES) + 2)]
    assert len(content) > 100_000
    assert [needle for needle in needles if needle in content] == []


def test_100_people_are_forgotten_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "people.db"
    with open_gallery(path) as gallery:
        for k in range(110):
            record = EnrolmentRecord(crops=[crop(k)]) if k % 10 == 0 else None
            gallery.add(f"Person Number {k}", [template(k)], record=record)
        rows = content_of(path)
        kept = {
            entry.row_id
            for entry in gallery.vault.people.subjects.values()
            if int(entry.person.name.split()[-1]) >= 100
        }
        gone = {
            "subject": [row for row in rows["subject"] if row[0] not in kept],
            "template": [row for row in rows["template"] if row[2] not in kept],
            "crop": [row for row in rows["crop"] if row[2] not in kept],
        }
        needles = [
            value[start : start + 16]
            for table in gone.values()
            for row in table
            for value in row
            if isinstance(value, bytes)
            for start in range(0, max(len(value) - 15, 1), 64)
        ]
        receipts = [gallery.forget(f"Person Number {k}") for k in range(100)]
        content = every_file(tmp_path)
        assert len(needles) > 1000
        assert [needle for needle in needles if needle in content] == []
        assert len({receipt.receipt for receipt in receipts}) == 100
        assert not any("Person" in str(receipt.as_dict()) for receipt in receipts)
        for k in range(100):
            found = gallery.search(template(k))[0]
            assert int(found.subject.split()[-1]) >= 100
            assert found.score < 0.99
        assert len(gallery.subjects()) == 10
