"""Second factors: codes that hold once, PINs, and the keys and files of a door."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edgeface.access import AccessKeys, FactorKind, FactorStore, WallTime
from edgeface.errors import AccessStateError, AuditError, GalleryKeyError, InvalidInputError
from tests.access_cases import CHEAP, NOON, PIN, POLICY, Door

pyotp = pytest.importorskip("pyotp")

KEYS = AccessKeys.of_secret(hashlib.sha256(b"one").digest())
NOW = WallTime(NOON)


@pytest.fixture
def store(tmp_path: Path) -> FactorStore:
    return FactorStore(tmp_path, KEYS, cost=CHEAP)


def totp_of(uri: str) -> Any:
    found = pyotp.parse_uri(uri)
    assert isinstance(found, pyotp.TOTP)
    return found


def test_a_code_of_now_and_of_its_neighbours_is_right(store: FactorStore) -> None:
    totp = totp_of(store.add_totp("Ada"))
    for offset_s, right in ((0, True), (30, True), (-30, True), (60, False), (-61, False)):
        code = totp.at(NOON + timedelta(seconds=offset_s))
        assert (store.check("Ada", code, NOW).kind is FactorKind.TOTP) is right
    assert store.check("Bob", totp.at(NOON), NOW).kind is None


def test_a_code_is_not_taken_twice_nor_one_from_before_it(store: FactorStore) -> None:
    totp = totp_of(store.add_totp("Ada"))
    found = store.check("Ada", totp.at(NOON), NOW)
    assert found.step is not None
    assert store.check("Ada", totp.at(NOON), NOW, used_step=found.step).kind is None
    earlier = totp.at(NOON - timedelta(seconds=30))
    assert store.check("Ada", earlier, NOW, used_step=found.step).kind is None
    later = totp.at(NOON + timedelta(seconds=30))
    assert store.check("Ada", later, NOW, used_step=found.step).kind is FactorKind.TOTP


def test_with_a_clock_in_doubt_no_code_is_right_and_a_pin_is(store: FactorStore) -> None:
    totp = totp_of(store.add_totp("Ada"))
    store.set_pin("Ada", PIN)
    doubt = WallTime(NOON, "the clock was set")
    assert store.check("Ada", totp.at(NOON), doubt).kind is None
    assert store.check("Ada", PIN, doubt).kind is FactorKind.PIN


def test_pins_and_duress_pins(store: FactorStore) -> None:
    store.set_pin("Ada", PIN, duress_pin="999998")
    assert store.check("Ada", PIN, NOW) == replace(store.check("Ada", PIN, NOW), is_duress=False)
    assert store.check("Ada", "999998", NOW).is_duress
    assert store.check("Ada", "27 49 13", NOW).kind is FactorKind.PIN
    for wrong in (
        "",
        "27491",
        "2749133",
        "x",
        PIN + "0" * 50,
        "\uff12\uff17\uff14\uff19\uff11\uff13",
        None,
    ):
        assert store.check("Ada", wrong or "", NOW).kind is None
    assert store.check("Nobody", PIN, NOW).kind is None


@pytest.mark.parametrize(
    "pin",
    [
        "12345",
        "111111",
        "123456",
        "876543",
        "a12345",
        "1" * 13,
        "",
        "\uff11\uff12\uff19\uff14\uff15\uff16",
    ],
)
def test_a_pin_that_is_too_plain_is_refused(store: FactorStore, pin: str) -> None:
    with pytest.raises(InvalidInputError):
        store.set_pin("Ada", pin)
    with pytest.raises(InvalidInputError):
        store.set_pin("Ada", PIN, duress_pin=pin)
    with pytest.raises(InvalidInputError, match="differ"):
        store.set_pin("Ada", PIN, duress_pin=PIN)


def test_what_is_stored_is_found_again_and_nothing_of_it_can_be_read(
    store: FactorStore, tmp_path: Path
) -> None:
    uri = store.add_totp("Ada")
    store.set_pin("Ada", PIN)
    store.set_pin("Bob", "905516")
    again = FactorStore(tmp_path, KEYS)
    assert again.subjects() == ("Ada", "Bob")
    assert again.check("Ada", PIN, NOW).kind is FactorKind.PIN
    assert again.check("Ada", totp_of(uri).at(NOON), NOW).kind is FactorKind.TOTP
    again.remove("Bob")
    again.remove("Nobody")
    assert FactorStore(tmp_path, KEYS).subjects() == ("Ada",)
    content = again.path.read_bytes()
    assert b"Ada" not in content
    assert totp_of(uri).secret.encode() not in content


def test_a_file_that_was_changed_or_is_of_another_door_is_refused(
    store: FactorStore, tmp_path: Path
) -> None:
    store.set_pin("Ada", PIN)
    good = store.path.read_bytes()
    for k in range(0, len(good), 37):
        store.path.write_bytes(good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :])
        with pytest.raises(AccessStateError):
            FactorStore(tmp_path, KEYS)
    store.path.write_bytes(good)
    with pytest.raises(AccessStateError):
        FactorStore(tmp_path, AccessKeys.of_secret(b"x" * 32))


# ---------------------------------------------------------------------------- keys and state


def test_keys_are_made_once_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "door"
    made = AccessKeys.create(folder)
    again = AccessKeys.open(folder)
    assert (made.lease, made.state, made.audit) == (again.lease, again.state, again.audit)
    purposes = {made.lease, made.state, made.audit, made.audit_head, made.factors}
    assert len(purposes) == 5
    assert made.pseudonym("Ada") == again.pseudonym("Ada") != made.pseudonym("Bob")
    assert made.lease.hex() not in repr(made)
    with pytest.raises(AccessStateError, match="already"):
        AccessKeys.create(folder)


def test_keys_that_are_missing_damaged_or_open_to_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessStateError, match="cannot be read"):
        AccessKeys.open(tmp_path)
    folder = tmp_path / "door"
    AccessKeys.create(folder)
    path = folder / "key.json"
    good = json.loads(path.read_text())
    for bad in ("", "[]", "{}", json.dumps({**good, "wrapped": "zz"})):
        path.write_text(bad)
        with pytest.raises(AccessStateError):
            AccessKeys.open(folder)
    path.write_text(json.dumps({**good, "key_id": "00" * 16}))
    with pytest.raises(GalleryKeyError):
        AccessKeys.open(folder)
    with pytest.raises(GalleryKeyError):
        AccessKeys.of_secret(b"short")
    if os.name == "posix":
        path.write_text(json.dumps(good))
        path.chmod(0o644)
        with pytest.raises(AccessStateError, match="0600"):
            AccessKeys.open(folder)


def _older_state(door: Door, old: dict[str, bytes]) -> None:
    (door.folder / "state.sealed").write_bytes(old["state.sealed"])


def _older_log(door: Door, old: dict[str, bytes]) -> None:
    for name in ("audit.log", "audit.log.head"):
        (door.folder / name).write_bytes(old[name])
    for path in (door.folder / "anchors").iterdir():
        path.unlink()


def _older_both(door: Door, old: dict[str, bytes]) -> None:
    for name, content in old.items():
        (door.folder / name).write_bytes(content)


def _older_factors(door: Door, old: dict[str, bytes]) -> None:
    (door.folder / "factors.sealed").write_bytes(old["factors.sealed"])


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_older_state, "state of the door is an older copy"),
        (_older_log, "audit log is an older copy"),
        (_older_both, "kept elsewhere"),
        (_older_factors, "second factors of the door are an older copy"),
    ],
)
def test_an_older_copy_that_is_put_back_is_refused(
    tmp_path: Path, tamper: Callable[[Door, dict[str, bytes]], None], message: str
) -> None:
    door = Door(tmp_path / "door")
    old = {
        path.name: path.read_bytes()
        for path in door.folder.iterdir()
        if path.is_file() and path.name != "lock"
    }
    door.factors.set_pin("Ada", "480291")
    for _ in range(5):
        door.fail()
    door.restart()
    door.controller.close()
    tamper(door, old)
    with pytest.raises((AccessStateError, AuditError), match=message):
        door.restart()


@pytest.mark.parametrize("name", ["state.sealed", "audit.log", "audit.log.head"])
@pytest.mark.parametrize("what", ["gone", "empty", "folder", "bit"])
def test_a_door_that_lost_a_file_is_not_made_anew(tmp_path: Path, name: str, what: str) -> None:
    door = Door(tmp_path / "door")
    door.fail()
    door.controller.close()
    path = door.folder / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if what == "empty":
        path.write_bytes(b"")
        path.chmod(0o600)
    elif what == "folder":
        path.mkdir()
    elif what == "bit":
        content[len(content) // 2] ^= 4
        path.write_bytes(bytes(content))
        path.chmod(0o600)
    with pytest.raises((AccessStateError, AuditError)):
        Door(door.folder)  # asks to create it


@pytest.mark.skipif(os.name != "posix", reason="permissions are elsewhere on Windows")
def test_a_folder_that_others_can_use_is_refused(tmp_path: Path) -> None:
    door = Door(tmp_path / "door")
    door.controller.close()
    door.folder.chmod(0o755)
    with pytest.raises(AccessStateError, match="chmod 700"):
        door.restart()
    door.folder.chmod(0o700)
    door.restart()


def test_a_one_time_code_is_not_taken_again_after_a_restart(tmp_path: Path) -> None:
    door = Door(tmp_path / "door", replace(POLICY, anti_passback="off"))
    totp = totp_of(door.factors.add_totp("Ada"))
    code = totp.at(door.wall)
    assert door.controller.present_factor(code, "Ada").accepted
    assert not door.controller.present_factor(code, "Ada").accepted
    door.restart(reboot=True)
    assert not door.controller.present_factor(code, "Ada").accepted
