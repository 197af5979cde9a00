"""Where the key of a gallery is kept, and what opens it."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgeface.errors import GalleryIntegrityError, GalleryKeyError, MissingDependencyError
from edgeface.gallery.key_sources import (
    CREDENTIAL_NAME,
    DesktopKeyring,
    JetsonKey,
    KeyFile,
    Passphrase,
    SystemdCredential,
)
from edgeface.gallery.keys import (
    INSECURE_SWITCH,
    GalleryKeys,
    KeyOptions,
    Slot,
    make_slot,
    new_gallery_slot,
    unlock,
)
from edgeface.gallery.sealing import canonical, derive, pad, seal, unpad, unseal

GALLERY = "0123456789abcdef" * 2
KEY = bytes(range(32))


def asked(*answers: str | None) -> tuple[Callable[[bool], str | None], list[bool]]:
    """Return who answers with ``answers`` in turn, and what was asked."""
    waiting, questions = list(answers), []

    def ask(new: bool) -> str | None:
        questions.append(new)
        return waiting.pop(0)

    return ask, questions


def passphrase(*answers: str | None) -> Passphrase:
    return Passphrase(asked(*answers)[0], cost_log2=4)


class FakeRing:
    priority = 5

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, name: str, text: str) -> None:
        self.kept[service, name] = text

    def get_password(self, service: str, name: str) -> str | None:
        return self.kept.get((service, name))


# ------------------------------------------------------------------------------ sealing


def test_what_is_sealed_opens_in_its_place_alone() -> None:
    sealed = seal(KEY, b"content", "place", 1)
    assert unseal(KEY, sealed, "place", 1) == b"content"
    assert b"content" not in sealed
    assert seal(KEY, b"content", "place", 1) != sealed
    for key, place in ((KEY, ("place", 2)), (KEY, ("place", "1")), (bytes(32), ("place", 1))):
        with pytest.raises(GalleryIntegrityError):
            unseal(key, sealed, *place)
    for broken in (b"", sealed[:27], sealed[:-1], sealed + b"x"):
        with pytest.raises(GalleryIntegrityError):
            unseal(KEY, broken, "place", 1)


def test_no_two_sequences_of_fields_are_the_same_bytes() -> None:
    fields: list[tuple[Any, ...]] = [
        (), ("",), (b"",), ("", ""), ("ab",), ("a", "b"), (b"ab",), (1,), ("1",), (1.0,), (12,),
        (1, 2),
    ]  # fmt: skip
    assert len({canonical(*each) for each in fields}) == len(fields)


def test_derived_keys_are_those_of_hkdf() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    wanted = HKDF(SHA256(), 32, b"edgeface gallery", canonical("rows", GALLERY)).derive(KEY)
    assert derive(KEY, "rows", GALLERY) == wanted


@pytest.mark.parametrize("content", [b"", b"a", b"x" * 251, b"x" * 252, b"x" * 253])
def test_padding_hides_the_length_and_is_undone(content: bytes) -> None:
    assert len(pad(content)) % 256 == 0
    assert unpad(pad(content)) == content
    with pytest.raises(GalleryIntegrityError):
        unpad(b"\xff\xff\xff\xff" + content)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[gallery\]"):
        seal(KEY, b"content", "place")


# ------------------------------------------------------------------------------ sources


def test_a_systemd_credential_is_taken_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SystemdCredential().make(GALLERY) is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert SystemdCredential().make(GALLERY) is None
    (tmp_path / CREDENTIAL_NAME).write_bytes(KEY)
    (tmp_path / CREDENTIAL_NAME).chmod(0o400)
    made = SystemdCredential().make(GALLERY)
    assert made is not None
    assert made.key == KEY
    keys, slot = new_gallery_slot(GALLERY, KeyOptions())
    assert (keys.source, slot.source) == ("systemd-credential", "systemd-credential")
    assert unlock(GALLERY, [slot], KeyOptions()).gallery_key == keys.gallery_key


@pytest.mark.parametrize("content", [b"", b"short", KEY + b"x", b"zz" * 32, b"\xff" * 31])
def test_a_credential_that_is_no_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / CREDENTIAL_NAME).write_bytes(content)
    (tmp_path / CREDENTIAL_NAME).chmod(0o400)
    with pytest.raises(GalleryKeyError, match="does not hold a key"):
        SystemdCredential().make(GALLERY)


def test_a_credential_that_others_may_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / CREDENTIAL_NAME).write_bytes(KEY)
    (tmp_path / CREDENTIAL_NAME).chmod(0o444)
    with pytest.raises(GalleryKeyError, match="other users may read"):
        SystemdCredential().make(GALLERY)


def jetson(folder: Path, script: str) -> JetsonKey:
    program = folder / "nvluks-srv-app"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return JetsonKey(program)


def test_a_jetson_derives_the_key_of_each_gallery(tmp_path: Path) -> None:
    source = jetson(tmp_path, '[ "$1 $3" = "--context-string --get-unique-pass" ] && echo "pass$2"')
    made = source.make(GALLERY)
    assert made is not None
    secret = hashlib.sha256(f"pass{GALLERY}".encode()).digest()
    assert made.key == derive(secret, "jetson", GALLERY)
    assert source.find(GALLERY, {}) == made.key
    assert source.find("f" * 32, {}) != made.key


@pytest.mark.parametrize("script", ["exit 1", "echo short", "true", "echo denied; exit 3"])
def test_a_jetson_that_gives_no_secret_has_no_key(tmp_path: Path, script: str) -> None:
    assert jetson(tmp_path, script).make(GALLERY) is None
    assert JetsonKey(tmp_path / "absent").make(GALLERY) is None


def test_a_jetson_that_hangs_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JetsonKey, "_TIMEOUT_S", 0.05)
    assert jetson(tmp_path, "exec sleep 5").make(GALLERY) is None


def test_a_desktop_keyring_keeps_a_key_for_each_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = FakeRing()
    monkeypatch.setattr(DesktopKeyring, "_ring", lambda _self: ring)
    keys, slot = new_gallery_slot(GALLERY, KeyOptions())
    assert slot.source == "desktop-keyring"
    assert unlock(GALLERY, [slot], KeyOptions()).gallery_key == keys.gallery_key
    ring.kept.clear()
    with pytest.raises(GalleryKeyError, match=r"not at hand.*desktop-keyring"):
        unlock(GALLERY, [slot], KeyOptions())


def test_a_keyring_that_forgets_or_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = FakeRing()
    monkeypatch.setattr(DesktopKeyring, "_ring", lambda _self: ring)
    monkeypatch.setattr(ring, "set_password", lambda *_: None)
    with pytest.raises(GalleryKeyError, match="did not keep"):
        DesktopKeyring().make(GALLERY)

    def locked(*_: object) -> None:
        raise RuntimeError("locked")

    monkeypatch.setattr(ring, "set_password", locked)
    monkeypatch.setattr(ring, "get_password", locked)
    with pytest.raises(GalleryKeyError, match="refused to keep"):
        DesktopKeyring().make(GALLERY)
    with pytest.raises(GalleryKeyError, match="cannot be read"):
        DesktopKeyring().find(GALLERY, {})


def test_keyrings_that_write_plain_files_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    backend = ModuleType("keyring.backend")
    plain = type("PlaintextKeyring", (FakeRing,), {"__module__": "keyrings.alt.file"})()
    dead = type("Keyring", (FakeRing,), {"__module__": "keyring.backends.fail", "priority": 9})()
    real = type("Keyring", (FakeRing,), {"__module__": "keyring.backends.SecretService"})()
    rings: list[Any] = [plain, dead]
    backend.get_all_keyring = lambda: rings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(backend=backend))
    monkeypatch.setitem(sys.modules, "keyring.backend", backend)
    assert DesktopKeyring()._ring() is None
    rings.append(real)
    assert DesktopKeyring()._ring() is real
    monkeypatch.setitem(sys.modules, "keyring.backend", None)
    assert DesktopKeyring()._ring() is None


def test_a_passphrase_opens_and_a_wrong_one_does_not() -> None:
    source = passphrase("correct horse", "correct horse", "wrong horse", None)
    made = source.make(GALLERY)
    assert made is not None
    assert source.find(GALLERY, made.parameters) == made.key
    assert source.find(GALLERY, made.parameters) != made.key
    assert source.find(GALLERY, made.parameters) is None


def test_passphrases_of_two_galleries_give_different_keys() -> None:
    source = passphrase("correct horse", "correct horse")
    first, second = source.make(GALLERY), source.make(GALLERY)
    assert first is not None
    assert second is not None
    assert first.key != second.key


def test_a_short_passphrase_and_an_impossible_cost_are_refused() -> None:
    with pytest.raises(GalleryKeyError, match="at least 8"):
        passphrase("seven77").make(GALLERY)
    assert passphrase(None).make(GALLERY) is None
    for cost in (0, 21, 10**9, "17", None, -1):
        with pytest.raises(GalleryKeyError, match="scrypt"):
            passphrase("correct horse").find(GALLERY, {"salt": "00" * 16, "cost_log2": cost})
    with pytest.raises(GalleryKeyError, match="salt"):
        passphrase("correct horse").find(GALLERY, {"salt": "xy", "cost_log2": 4})


def test_a_key_file_is_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    source = KeyFile(tmp_path / "keys")
    assert source.find(GALLERY, {}) is None
    made, again = source.make(GALLERY), source.make(GALLERY)
    assert made is not None
    assert again is not None
    assert made.key == again.key == source.find(GALLERY, {})
    assert stat.S_IMODE(source.path(GALLERY).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert [file.name for file in (tmp_path / "keys").iterdir()] == [f"{GALLERY}.key"]


def make_loose(path: Path) -> None:
    path.chmod(0o640)


def make_link(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize("damage", [make_loose, make_link, make_folder, make_cut])
def test_a_key_file_that_is_not_as_it_was_made_is_refused(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    source = KeyFile(tmp_path)
    source.make(GALLERY)
    damage(source.path(GALLERY))
    with pytest.raises(GalleryKeyError):
        source.find(GALLERY, {})


# ------------------------------------------------------------------------------ the order


def test_without_a_protected_place_a_plain_file_must_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(INSECURE_SWITCH)
    with pytest.raises(GalleryKeyError, match="--insecure-key-file"):
        new_gallery_slot(GALLERY, KeyOptions(folder=tmp_path / "keys"))
    assert not (tmp_path / "keys").exists()
    keys, slot = new_gallery_slot(
        GALLERY, KeyOptions(folder=tmp_path / "keys", insecure_key_file=True)
    )
    assert slot.source == "key-file"
    # Opening it again needs no switch: that was decided when it was made.
    assert unlock(GALLERY, [slot], KeyOptions(folder=tmp_path / "keys")) == keys


def test_the_switch_of_the_environment_is_1_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text in ("", "0", "yes", "true"):
        monkeypatch.setenv(INSECURE_SWITCH, text)
        with pytest.raises(GalleryKeyError):
            new_gallery_slot(GALLERY, KeyOptions())
    monkeypatch.setenv(INSECURE_SWITCH, "1")
    with pytest.raises(GalleryKeyError):
        new_gallery_slot(GALLERY, KeyOptions(insecure_key_file=False))
    assert new_gallery_slot(GALLERY, KeyOptions())[1].source == "key-file"


def test_sources_are_tried_in_the_order_of_their_protection() -> None:
    ask, _ = asked()
    names = [one.name for one in KeyOptions(ask_passphrase=ask).for_new()]
    assert names == [
        "systemd-credential", "jetson-op-tee", "desktop-keyring", "passphrase", "key-file"
    ]  # fmt: skip
    assert [one.name for one in KeyOptions(source="key-file").for_new()] == ["key-file"]


def test_a_passphrase_is_asked_for_before_a_plain_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passphrase, "_COST_LOG2", 4)
    ask, questions = asked("correct horse", "correct horse")
    options = KeyOptions(ask_passphrase=ask)
    keys, slot = new_gallery_slot(GALLERY, options)
    assert slot.source == "passphrase"
    assert unlock(GALLERY, [slot], options) == keys
    assert questions == [True, False]


# ------------------------------------------------------------------------------ slots


def test_a_wrong_key_is_told_from_a_changed_slot(tmp_path: Path) -> None:
    options = KeyOptions(folder=tmp_path)
    _, slot = new_gallery_slot(GALLERY, options)
    changed = Slot(slot.source, slot.key_id, slot.parameters, slot.wrapped[:-1] + b"x")
    with pytest.raises(GalleryIntegrityError):
        unlock(GALLERY, [changed], options)
    for parameters in ("[]", "{", '{"a": 1}'):
        with pytest.raises(GalleryIntegrityError):
            unlock(GALLERY, [Slot(slot.source, slot.key_id, parameters, slot.wrapped)], options)
    (tmp_path / f"{GALLERY}.key").write_text("11" * 32)
    with pytest.raises(GalleryKeyError, match="does not open"):
        unlock(GALLERY, [slot], options)


def test_any_slot_opens_the_gallery(tmp_path: Path) -> None:
    options = KeyOptions(folder=tmp_path)
    keys, slot = new_gallery_slot(GALLERY, options)
    second = make_slot(keys, passphrase("correct horse"))
    assert second is not None
    elsewhere = KeyOptions(folder=tmp_path / "none", ask_passphrase=asked("correct horse")[0])
    opened = unlock(GALLERY, [slot, second], elsewhere)
    assert opened.gallery_key == keys.gallery_key
    assert opened.source == "passphrase"


def test_a_slot_of_another_gallery_opens_nothing(tmp_path: Path) -> None:
    options = KeyOptions(folder=tmp_path)
    _, slot = new_gallery_slot(GALLERY, options)
    other = "f" * 32
    os.link(tmp_path / f"{GALLERY}.key", tmp_path / f"{other}.key")
    with pytest.raises(GalleryKeyError):
        unlock(other, [slot], options)
    with pytest.raises(GalleryKeyError, match="nowhere"):
        unlock(other, [], options)


def test_a_key_is_never_printed() -> None:
    keys = GalleryKeys(GALLERY, KEY, "key-file")
    keys.of("rows")
    made = passphrase("correct horse").make(GALLERY)
    assert made is not None
    for value in (keys, made):
        assert KEY.hex() not in repr(value)
        assert repr(KEY) not in repr(value)
        assert "key=" not in repr(value)
