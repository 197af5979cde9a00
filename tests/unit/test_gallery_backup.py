"""Backups, restores, archives and exports of a gallery."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryIntegrityError,
    GalleryKeyError,
    GalleryModelError,
    InvalidInputError,
    SubjectNotFoundError,
)
from edgeface.gallery import Consent, EnrolmentRecord, KeyOptions, ReferenceCrop, SqliteGallery
from edgeface.gallery.backup import back_up, restore, set_key_source
from edgeface.gallery.forgetting import is_genuine
from edgeface.gallery.key_sources import KeyFile, Passphrase
from edgeface.gallery.transfer import person_as_dict, read_archive, write_archive
from tests.faults.galleries import MODEL, SIZE, open_gallery, template

NOW = "2026-05-06T07:08:09+00:00"
POINTS = np.array([[10, 12], [20, 12], [15, 18], [11, 23], [19, 23]], np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
CONSENT = Consent("on paper", "2026-01-01", "notice 3", "the clerk", keep_crops=True)


def passphrase(text: str = "correct horse") -> Passphrase:
    return Passphrase(lambda _new: text, cost_log2=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed gallery of Ann, with a kept crop, Bob and Cleo, who is inactive."""
    path = tmp_path / "people.db"
    with open_gallery(path) as gallery:
        crop = ReferenceCrop(PIXELS, POINTS)
        gallery.add("Ann", [template(1)], record=EnrolmentRecord(consent=CONSENT, crops=[crop]))
        gallery.add("Bob", [template(2), template(3)])
        gallery.add("Cleo", [template(4)])
        gallery.set_active("Cleo", active=False)
    return path


def names(path: Path) -> list[str]:
    with open_gallery(path, create=False) as gallery:
        return [info.name for info in gallery.subjects()]


def make_backup(path: Path, target: Path, secret: Passphrase | None = None) -> Path:
    with open_gallery(path) as gallery:
        back_up(gallery.vault, target, NOW, secret)
    return target


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Go to another machine: without the keys and without what was seen here."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))


# ------------------------------------------------------------------------------ backups


def test_a_backup_holds_everything_and_nothing_readable(path: Path, tmp_path: Path) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    content = backup.read_bytes()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not [word for word in (b"Ann", b"Cleo", b"paper", b"clerk") if word in content]
    assert template(1).vector.tobytes()[:12] not in content
    assert [file.name for file in tmp_path.glob(".gallery-*")] == []
    with open_gallery(path) as gallery:
        gallery.forget("Ann")
        gallery.add("Dora", [template(9)])
    done = restore(backup, tmp_path / "restored.db", KeyOptions())
    assert (done.people, done.forgotten_again, done.set_aside) == (3, 0, None)
    with open_gallery(tmp_path / "restored.db") as gallery:
        assert gallery.details("Ann").consent == CONSENT
        assert gallery.details("Ann").crops == 1
        assert not gallery.details("Cleo").active
    assert backup.read_bytes() == content


def test_a_backup_is_whole_while_others_write(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as writer, open_gallery(path) as other:
        writer.add("Dora", [template(9)])
        back_up(other.vault, tmp_path / "backup.db", NOW)
        writer.add("Eve", [template(10)])
    restore(tmp_path / "backup.db", tmp_path / "restored.db", KeyOptions())
    assert names(tmp_path / "restored.db") == ["Ann", "Bob", "Cleo", "Dora"]


def test_a_backup_replaces_no_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(GalleryError, match="there already"):
        make_backup(path, tmp_path / "backup.db")
    with pytest.raises(GalleryError, match="does not exist"):
        make_backup(path, tmp_path / "nowhere" / "backup.db")
    assert (tmp_path / "backup.db").read_text() == "precious"


def test_who_was_forgotten_stays_forgotten_after_a_restore(path: Path, tmp_path: Path) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    with open_gallery(path) as gallery:
        receipt = gallery.forget("Ann")
    assert any("backup.db" in place and NOW in place for place in receipt.out_of_reach)
    done = restore(backup, path, KeyOptions(), replace=True)
    assert (done.people, done.forgotten_again) == (2, 1)
    assert names(path) == ["Bob", "Cleo"]
    with open_gallery(path) as gallery:
        assert [one.receipt for one in gallery.receipts()] == [receipt.receipt]
        assert "Ann" not in [one.subject for one in gallery.search(template(1))]


def test_a_restored_gallery_is_not_taken_for_an_older_one(path: Path, tmp_path: Path) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    with open_gallery(path) as gallery:
        for seed in range(5):
            gallery.add(f"later {seed}", [template(20 + seed)])
    restore(backup, path, KeyOptions(), replace=True)
    assert names(path) == ["Ann", "Bob", "Cleo"]
    assert names(path) == ["Ann", "Bob", "Cleo"]


def test_a_restore_replaces_a_gallery_only_when_allowed(path: Path, tmp_path: Path) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="there already"):
        restore(backup, path, KeyOptions())
    with SqliteGallery.open(tmp_path / "other.db", model_id=MODEL, embedding_size=SIZE) as other:
        other.add("Zoe", [template(1)])
    with pytest.raises(GalleryError, match="another gallery"):
        restore(backup, tmp_path / "other.db", KeyOptions(), replace=True)
    assert path.read_bytes() == before
    assert names(tmp_path / "other.db") == ["Zoe"]


def test_a_damaged_gallery_is_set_aside_with_its_log(path: Path, tmp_path: Path) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    path.write_bytes(b"SQLite format 3\0" + b"\xa5" * 5000)
    path.with_name("people.db-wal").write_bytes(b"an old log")
    done = restore(backup, path, KeyOptions(), replace=True)
    assert names(path) == ["Ann", "Bob", "Cleo"]
    assert done.set_aside is not None
    assert done.set_aside.name == "people.db.damaged-1"
    assert done.set_aside.with_name("people.db.damaged-1-wal").read_bytes() == b"an old log"


def test_a_changed_backup_is_refused_and_the_gallery_stays(path: Path, tmp_path: Path) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    content = bytearray(backup.read_bytes())
    content[content.index(MODEL[:20].encode())] ^= 1
    backup.write_bytes(content)
    before = path.read_bytes()
    for damaged in (bytes(content), b"", b"text" * 100):
        backup.write_bytes(damaged)
        with pytest.raises(GalleryFormatError):
            restore(backup, path, KeyOptions(), replace=True)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".gallery-*")) == []


def test_a_backup_without_a_passphrase_opens_on_its_device_alone(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = make_backup(path, tmp_path / "backup.db")
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    with pytest.raises(GalleryKeyError, match="not at hand"):
        restore(backup, tmp_path / "restored.db", KeyOptions())
    assert not (tmp_path / "restored.db").exists()


def test_a_backup_with_a_passphrase_outlives_the_device(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = make_backup(path, tmp_path / "backup.db", passphrase())
    assert names(path) == ["Ann", "Bob", "Cleo"]
    elsewhere(monkeypatch, tmp_path / "elsewhere")
    wrong = KeyOptions(ask_passphrase=lambda _new: "wrong horse")
    with pytest.raises(GalleryKeyError, match="does not open"):
        restore(backup, tmp_path / "restored.db", wrong)
    right = KeyOptions(ask_passphrase=lambda _new: "correct horse")
    assert restore(backup, tmp_path / "restored.db", right).people == 3
    with SqliteGallery.open_existing(tmp_path / "restored.db", keys=right) as gallery:
        assert gallery.search(template(2))[0].subject == "Bob"


# ------------------------------------------------------------------------------ the key


def test_the_key_moves_to_another_place(path: Path) -> None:
    with open_gallery(path) as gallery:
        set_key_source(gallery.vault, passphrase())
        gallery_id = gallery.vault.keys.gallery_id
    with pytest.raises(GalleryKeyError, match="kept in passphrase"):
        open_gallery(path)
    options = KeyOptions(ask_passphrase=lambda _new: "correct horse")
    with SqliteGallery.open_existing(path, keys=options) as gallery:
        assert [info.name for info in gallery.subjects()] == ["Ann", "Bob", "Cleo"]
        set_key_source(
            gallery.vault, KeyFile(Path(os.environ["XDG_CONFIG_HOME"]) / "edgeface" / "keys")
        )
        assert gallery.vault.keys.gallery_id == gallery_id
    assert names(path) == ["Ann", "Bob", "Cleo"]


def test_a_key_can_be_in_two_places(path: Path) -> None:
    with open_gallery(path) as gallery:
        set_key_source(gallery.vault, passphrase(), keep_others=True)
        with pytest.raises(GalleryKeyError, match="no passphrase here"):
            set_key_source(gallery.vault, Passphrase(lambda _new: None))
    assert names(path) == ["Ann", "Bob", "Cleo"]
    for key in Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.key"):
        key.unlink()
    options = KeyOptions(ask_passphrase=lambda _new: "correct horse")
    SqliteGallery.open_existing(path, keys=options).close()


# ------------------------------------------------------------------------------ archives


def test_an_archive_takes_people_to_another_gallery(path: Path, tmp_path: Path) -> None:
    archive = tmp_path / "people.archive"
    with open_gallery(path) as gallery:
        archive.write_bytes(write_archive(gallery.vault, passphrase()))
    assert not [word for word in (b"Ann", b"Cleo", b"paper") if word in archive.read_bytes()]
    with open_gallery(tmp_path / "other.db") as other:
        other.add("Bob", [template(77)])
        done = read_archive(other.vault, archive, passphrase())
        assert (done.added, done.left_out) == (("Ann", "Cleo"), ("Bob",))
        assert other.details("Ann").consent == CONSENT
        assert other.details("Ann").crops == 1
        assert not other.details("Cleo").active
        assert other.search(template(1))[0].subject == "Ann"
        again = person_as_dict(other.vault, "Ann", with_templates=True)
    with open_gallery(path) as gallery:
        assert person_as_dict(gallery.vault, "Ann", with_templates=True) == again


def cut_short(content: bytes) -> bytes:
    return content[:-5]


def without_last(content: bytes) -> bytes:
    line, _, frames = content.partition(b"\n")
    header = json.loads(line)
    length = 4 + int.from_bytes(frames[:4], "big")
    header["people"] = 1
    return json.dumps(header, sort_keys=True).encode() + b"\n" + frames[:length]


def swapped(content: bytes) -> bytes:
    line, _, frames = content.partition(b"\n")
    first = 4 + int.from_bytes(frames[:4], "big")
    second = first + 4 + int.from_bytes(frames[first : first + 4], "big")
    return line + b"\n" + frames[first:second] + frames[:first] + frames[second:]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def longer(content: bytes) -> bytes:
    return content + b"x"


def huge(content: bytes) -> bytes:
    line, _, frames = content.partition(b"\n")
    return line + b"\n\xff\xff\xff\xff" + frames[4:]


def other_format(_content: bytes) -> bytes:
    return b'{"format": "another"}\n'


@pytest.mark.parametrize(
    "damage",
    [cut_short, without_last, swapped, flipped, longer, huge, other_format, lambda _: b""],
)
def test_a_changed_archive_is_refused_and_nobody_comes_in(
    path: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    archive = tmp_path / "people.archive"
    with open_gallery(path) as gallery:
        archive.write_bytes(damage(write_archive(gallery.vault, passphrase())))
    with open_gallery(tmp_path / "other.db") as other:
        with pytest.raises(GalleryFormatError):
            read_archive(other.vault, archive, passphrase())
        assert other.subjects() == []


def test_an_archive_of_another_model_or_passphrase_is_refused(path: Path, tmp_path: Path) -> None:
    archive = tmp_path / "people.archive"
    with open_gallery(path) as gallery:
        archive.write_bytes(write_archive(gallery.vault, passphrase()))
        with pytest.raises(InvalidInputError):
            write_archive(gallery.vault, Passphrase(lambda _new: None))
        with pytest.raises(GalleryIntegrityError):
            read_archive(gallery.vault, archive, passphrase("wrong horse"))
    other = SqliteGallery.open(tmp_path / "other.db", model_id="b" * 64, embedding_size=SIZE)
    with other, pytest.raises(GalleryModelError):
        read_archive(other.vault, archive, passphrase())


def test_a_person_is_exported_with_consent_and_dates(path: Path) -> None:
    with open_gallery(path) as gallery:
        value = person_as_dict(gallery.vault, "Ann")
        with pytest.raises(SubjectNotFoundError):
            person_as_dict(gallery.vault, "Nobody")
        vectors = person_as_dict(gallery.vault, "Ann", with_templates=True)["templates"]
    json.dumps(value, allow_nan=False)
    assert value["name"] == "Ann"
    assert value["consent"] == CONSENT.as_dict()
    assert value["model_id"] == MODEL
    assert len(value["templates"]) == len(value["crops"]) == 1
    assert "vector" not in value["templates"][0]
    np.testing.assert_array_equal(vectors[0]["vector"], template(1).vector)


# ------------------------------------------------------------------------------ receipts


def test_a_receipt_names_nobody_and_can_be_checked(path: Path) -> None:
    with open_gallery(path) as gallery:
        receipt = gallery.forget("Ann")
        assert (receipt.templates, receipt.crops) == (1, 1)
        assert "searched" in receipt.proof
        value = json.loads(json.dumps(receipt.as_dict()))
        assert "Ann" not in json.dumps(value)
        assert is_genuine(gallery.vault, value)
        for changed in ({"templates": 2}, {"seal": "00"}, {"forgotten_at": NOW}, {"proof": ""}):
            assert not is_genuine(gallery.vault, {**value, **changed})
        assert not is_genuine(gallery.vault, {})
        with pytest.raises(SubjectNotFoundError):
            gallery.forget("Ann")
    with open_gallery(path) as gallery:
        assert gallery.receipts() == [receipt]


def test_an_interrupted_removal_is_finished_when_the_gallery_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeface.gallery.vault import Vault

    def killed(_self: object) -> bool:
        raise KeyboardInterrupt

    with open_gallery(path) as gallery:
        with monkeypatch.context() as patch:
            patch.setattr(Vault, "empty_log", killed)
            with pytest.raises(KeyboardInterrupt):
                gallery.forget("Ann")
        assert [one.proof for one in gallery.receipts()] == [""]
        assert [info.name for info in gallery.subjects()] == ["Bob", "Cleo"]
    with open_gallery(path) as gallery:
        (receipt,) = gallery.receipts()
        assert "written anew" in receipt.proof
        assert gallery.notices == ()
