"""What somebody gains by trying again: artefacts, codes, and codes of people who were removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edgeface.access import (
    AccessEvent,
    AccessEventKind,
    FactorRule,
    FactorStore,
    edit_factors,
    read_records,
)
from edgeface.errors import AccessStateError, AuditError
from tests.access_cases import ATTACK, CHEAP, NOW_S, PIN, POLICY, Door, seen

K = AccessEventKind
DURESS_PIN, BOBS_PIN, NEW_PIN = "274914", "905516", "558812"


@pytest.fixture
def door(quick_folder: Path) -> Door:
    return Door(quick_folder / "door", replace(POLICY, anti_passback="off"))


def kinds(door: Door) -> list[AccessEventKind]:
    return [event.kind for event in door.controller.take_events()]


def full_disk(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object, **_named: object) -> None:
        raise AuditError("no room")

    monkeypatch.setattr(door.controller._memory._log, "append", full)


# ---------------------------------------------------------------------------- artefacts


@pytest.mark.parametrize("is_pressed", [False, True])
@pytest.mark.parametrize("others", [0, 1])
def test_every_artefact_counts_whoever_asked_and_whoever_else_is_there(
    door: Door, is_pressed: bool, others: int
) -> None:
    more = tuple(seen(None, track_id=900 + k, left_px=40.0) for k in range(others))
    for number in range(1, 21):
        if is_pressed:
            door.controller.press()
        door.track_id += 1
        door.look(seen(track_id=door.track_id, pad=ATTACK), *more, frames=2)
        assert not door.controller.decide(door.verifier.challenge).is_open
        assert door.controller.status().failures == number
        assert door.controller.status().wait_s > 9.8
    assert door.controller.status().is_face_off
    door.track_id += 1
    assert not door.try_to_open(), "one that passes, after twenty that did not"


def test_an_artefact_counts_once_for_as_long_as_its_track_is_seen(door: Door) -> None:
    for _ in range(30):
        door.look(seen(pad=ATTACK), frames=1)
        door.controller.decide(door.verifier.challenge)
    assert door.controller.status().failures == 1
    assert kinds(door).count(K.ATTACK) == 1
    door.look(frames=120)
    assert not door.try_to_open(), "the track stays barred while it is in view"


def test_with_a_full_disk_every_attack_is_told_and_counted(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.look(frames=1)
    full_disk(door, monkeypatch)
    kinds(door)
    for k in range(15):
        door.look(seen(track_id=100 + k, pad=ATTACK), frames=1)
    told = kinds(door)
    assert (told.count(K.ATTACK), told.count(K.FAILED)) == (15, 15)
    assert door.controller.status().failures == 15
    assert K.CAMERA not in told, "a fault of the disk is none of the camera"


def test_what_a_full_disk_drops_is_counted_in_the_log(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeface.access.memory._MAX_PENDING", 20)
    with monkeypatch.context() as patch:
        full_disk(door, patch)
        for k in range(10):
            door.look(seen(track_id=100 + k, pad=ATTACK), frames=1)
    door.controller.decide(door.verifier.challenge)
    records = read_records(door.folder / "audit.log", door.keys)
    (dropped,) = [r for r in records if r["kind"] == "dropped"]
    assert len(records) == 1 + 20 + 1  # the start, what was kept, and this
    # Each attack, its failed attempt and its wait; the fault and the camera, once.
    assert dropped["x_records"] == 3 * 10 + 2 - 20
    door.restart()
    assert not door.controller.status().fault


# ---------------------------------------------------------------------------- codes


def guess(door: Door, number: int) -> str:
    door.look()
    answer = door.controller.present_factor(f"{number:06d}")
    assert not answer.accepted
    return answer.reason


def bob_comes_in(door: Door) -> bool:
    return door.try_to_open(seen("Bob", track_id=9), pin=BOBS_PIN)


def test_a_friend_who_opens_the_door_gives_nobody_more_guesses(door: Door) -> None:
    looked_at = 0
    for number in range(60):
        looked_at += guess(door, number) == "not accepted"
        if number % 4 == 3:
            assert bob_comes_in(door)
    # 42 s of guessing and openings: five, and one after each wait that went by.
    assert looked_at <= 7
    assert door.controller.status().wait_s == 0.0, "Bob is not held up"
    door.look()
    assert door.controller.present_factor(PIN).reason == "please wait"


def test_wrong_codes_of_a_person_outlast_a_restart_and_end_with_the_right_one(door: Door) -> None:
    for number in range(4):
        guess(door, number)
    assert bob_comes_in(door)
    door.restart(reboot=True)
    guess(door, 4)
    door.advance(1.0)
    assert guess(door, 5) == "please wait"
    door.advance(30.0)
    door.look()
    assert door.controller.present_factor(PIN).accepted
    assert guess(door, 6) == "not accepted"
    told = [e for e in door.controller.take_events() if e.kind is K.LOCKED_OUT]
    assert [e.detail for e in told] == [{"wait_s": 30.0, "codes": True}]


def test_names_that_nobody_has_do_not_fill_the_state(door: Door) -> None:
    for k in range(4):
        door.controller.present_factor("000000", f"nobody {k}")
    assert door.controller._memory.state.wrong_codes == {}
    assert door.controller.status().failures == 4


# ---------------------------------------------------------------------------- duress


def calls_for_help(door: Door, subject: str | None = None) -> int:
    kinds(door)
    door.controller.present_factor(DURESS_PIN, subject)
    return kinds(door).count(K.DURESS)


def test_a_call_for_help_is_told_while_everything_waits(door: Door) -> None:
    for _ in range(5):
        door.fail()
    door.look()
    assert calls_for_help(door) == 1
    assert not door.controller.status().fault, "nothing shows at the door"
    assert door.controller.present_factor(DURESS_PIN) == door.controller.present_factor("000001")
    door.controller.decide(door.verifier.challenge)
    door.controller.present_factor(DURESS_PIN, "Ada")
    door.controller.close()
    records = read_records(door.folder / "audit.log", door.keys)
    assert [r["kind"] for r in records].count("duress") == 3


def test_a_call_for_help_is_told_with_a_full_disk(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.look()
    full_disk(door, monkeypatch)
    assert calls_for_help(door) == 1


def test_a_call_for_help_is_told_before_anything_is_written(door: Door) -> None:
    length = [0]

    def told(event: AccessEvent) -> None:
        if event.kind is K.DURESS:
            length.append(door.controller._memory.head.count)

    door.look()
    door.on_event = told
    before = door.controller._memory.head.count
    door.controller.present_factor(DURESS_PIN)
    assert length[1:] == [before]


@pytest.mark.parametrize("what", ["gone", "damaged", "older"])
def test_a_call_for_help_is_told_where_the_file_of_factors_is_broken(door: Door, what: str) -> None:
    old = door.factors.path.read_bytes()
    FactorStore(door.folder, door.keys).set_pin("Bob", NEW_PIN)
    assert bob_comes_in(door) is False  # the old PIN; the new file is known from here on
    if what == "gone":
        door.factors.path.unlink()
    else:
        door.factors.path.write_bytes(old if what == "older" else b"x" * 300)
    door.look()
    assert calls_for_help(door) == 1
    assert not door.try_to_open(), "and nothing opens"


def test_a_call_for_help_costs_as_many_writes_and_shows_in_no_event_but_its_own(
    quick_folder: Path,
) -> None:
    for duress in ("open", "deny"):
        policy = replace(POLICY, factors=FactorRule(duress=duress), anti_passback="off")
        door = Door(quick_folder / duress, policy)
        door.look()
        counts, told = [], []
        for pin in (PIN if duress == "open" else "000009", DURESS_PIN):
            kinds(door)
            before = door.controller._memory.head.count
            door.controller.present_factor(pin)
            counts.append(door.controller._memory.head.count - before)
            told.append([e for e in door.controller.take_events() if e.kind is not K.DURESS])
        assert counts[0] == counts[1] == 1
        assert [e.kind for e in told[0]] == [e.kind for e in told[1]]
        assert all("duress" not in e.detail for events in told for e in events)
        last = read_records(door.folder / "audit.log", door.keys)[-2:]
        assert [r["x_duress"] for r in last] == [False, True]


# ---------------------------------------------------------------------------- changed factors


def elsewhere(door: Door) -> FactorStore:
    """The store as another process opens it."""
    return FactorStore(door.folder, door.keys)


CHANGES: dict[str, Callable[[FactorStore], object]] = {
    "another PIN": lambda store: store.set_pin("Ada", NEW_PIN),
    "removed": lambda store: store.remove("Ada"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_pin_that_was_changed_or_removed_is_refused_at_once(door: Door, change: str) -> None:
    CHANGES[change](elsewhere(door))
    door.look()
    assert not door.controller.present_factor(PIN).accepted
    assert door.controller.present_factor(NEW_PIN).accepted is (change == "another PIN")
    assert K.FACTORS in kinds(door)


def test_a_pin_that_is_removed_after_it_was_typed_opens_nothing(door: Door) -> None:
    door.controller.press()
    door.look()
    assert door.controller.present_factor(PIN).accepted
    elsewhere(door).remove("Ada")
    assert not door.controller.decide(door.verifier.challenge).is_open


@pytest.mark.parametrize("stops", ["runs on", "restarts", "is closed before it decides"])
def test_an_older_file_of_factors_is_refused_whenever_it_is_put_back(
    door: Door, stops: str
) -> None:
    old = door.factors.path.read_bytes()
    elsewhere(door).set_pin("Ada", NEW_PIN)
    if stops != "is closed before it decides":
        door.controller.decide(door.verifier.challenge)
        assert kinds(door).count(K.FACTORS) == 1
    if stops != "runs on":
        door.controller.close()
    door.factors.path.write_bytes(old)
    if stops == "runs on":
        for _ in range(3):
            reason = door.controller.decide(door.verifier.challenge).decision.reason
            assert reason == "no fault: AccessStateError, wanted no fault"
        assert not door.try_to_open()
        assert door.controller.status().fault == "AccessStateError"
    else:
        with pytest.raises(AccessStateError, match="older copy"):
            door.restart()


def records_of(door: Door, kind: str) -> list[int]:
    log = read_records(door.folder / "audit.log", door.keys)
    return [int(r["x_version"]) for r in log if r["kind"] == kind]


def test_factors_are_changed_with_a_record_while_the_door_does_not_run(door: Door) -> None:
    door.controller.close()
    old, anchors = door.factors.path.read_bytes(), door.folder / "anchors"
    with edit_factors(door.folder, door.keys, anchor_folder=anchors, cost=CHEAP) as store:
        assert store.subjects() == ("Ada", "Bob")
        store.remove("Bob")
        with pytest.raises(AccessStateError, match="in use"):
            door.restart()
    assert records_of(door, "factors") == [3]
    new = door.factors.path.read_bytes()
    door.factors.path.write_bytes(old)
    with pytest.raises(AccessStateError, match="older copy"):
        door.restart()
    with (
        pytest.raises(AccessStateError, match="older copy"),
        edit_factors(door.folder, door.keys, anchor_folder=anchors),
    ):
        pass
    door.factors.path.write_bytes(new)
    door.restart()
    assert door.try_to_open()
    assert records_of(door, "factors") == [3], "told once"


def test_factors_are_changed_with_a_record_while_the_door_runs(door: Door) -> None:
    with edit_factors(door.folder, door.keys) as store:
        store.set_pin("Ada", NEW_PIN)
    assert door.try_to_open(pin=NEW_PIN)
    assert records_of(door, "factors") == [3]


def test_two_who_change_factors_at_once_lose_nothing(door: Door) -> None:
    stores = [elsewhere(door) for _ in range(4)]

    def changed(store: FactorStore, name: str) -> bool:
        with suppress(AccessStateError):  # another one has the lock
            store.set_pin(name, NEW_PIN)
            return True
        return False

    def change(number: int) -> None:
        for k in range(5):
            while not changed(stores[number], f"P{number}{k}"):
                time.sleep(0.001)

    threads = [threading.Thread(target=change, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(elsewhere(door).subjects()) == 2 + 20
    assert elsewhere(door).version == 2 + 20


def test_a_look_that_nobody_is_in_asks_for_one(door: Door) -> None:
    assert door.controller.present_factor(PIN).reason == "look into the camera first"
    assert door.clock.now_s == NOW_S
