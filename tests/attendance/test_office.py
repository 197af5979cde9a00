"""The office as the pages see it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from examples.attendance.broadcast import Broadcast
from examples.attendance.csv_sink import CsvSink
from examples.attendance.errors import AttendanceError
from examples.attendance.export import visit_table
from examples.attendance.interface import (
    ChangeKind,
    CorrectionAction,
    LiveEvent,
    Method,
    NameDisplay,
    Office,
    Person,
    PinAction,
    PinOutcome,
    Settings,
)
from examples.attendance.office import LocalOffice
from examples.attendance.pins import PinGuard
from examples.attendance.spreadsheets import as_csv, as_xlsx, inert
from examples.attendance.telling import overlay_label
from tests.attendance.parts import START_MS, Clocks, enrol, open_parts

pytest.importorskip("cryptography")

DAY = date(2026, 1, 5)
NAME = "Zoë Quxwöthington"
START = datetime.fromtimestamp(START_MS / 1000, timezone.utc)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def office(tmp_path: Path, clocks: Clocks) -> Iterator[LocalOffice]:
    with open_parts(tmp_path, clocks=clocks) as opened:
        yield opened


def stay(office: LocalOffice, clocks: Clocks, person_id: str, minutes: float = 60) -> str:
    office.book.camera("door", usable=True)
    office.book.see("door", [person_id])
    visit_id = office.present()[0].visit_id
    clocks.now_s += minutes * 60
    office.book.see("door", [])
    clocks.now_s += 400
    office.book.tick()
    return visit_id


def test_the_office_is_one(office: LocalOffice) -> None:
    whole: Office = office
    assert whole.people() == ()
    assert whole.present() == ()
    assert whole.cameras() == ()
    assert whole.day(DAY).rows == ()
    assert whole.today() == DAY


def test_people_are_numbered_and_no_number_is_given_twice(office: LocalOffice) -> None:
    ann = office.add_person("Ann Archer", author="admin")
    bob = office.add_person("  Bob\u0301 Baker ", first_name="Bobby", author="admin")
    assert [(p.number, p.first_name) for p in (ann, bob)] == [(1, "Ann"), (2, "Bobby")]
    office.forget_person(bob.id, author="admin")
    assert office.add_person("Cy", author="admin").number == 3


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\nb", "a\u202eb", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(office: LocalOffice, name: str) -> None:
    with pytest.raises(AttendanceError):
        office.add_person(name, author="admin")
    assert office.people() == ()


def test_an_inactive_person_is_not_listed(office: LocalOffice) -> None:
    ann = office.add_person("Ann", author="admin")
    enrol(office, ann.id)
    changed = office.change_person(
        ann.id, name="Ann B", first_name="A", is_active=False, author="admin"
    )
    assert not changed.is_active
    assert office.people() == ()
    assert office.people(with_inactive=True) == (changed,)
    assert not office.faces.gallery.details(ann.id).active


def test_consent_is_shown_with_the_person(office: LocalOffice) -> None:
    ann = office.add_person("Ann", author="admin")
    assert office.person(ann.id).consent is None
    enrol(office, ann.id, how="paper form 7")
    person = office.person(ann.id)
    assert person.has_face
    assert person.consent is not None
    assert person.consent.how == "paper form 7"
    office.remove_face(ann.id, author="admin")
    assert not office.person(ann.id).has_face


def test_a_day_lists_visits_and_totals(office: LocalOffice, clocks: Clocks) -> None:
    ann = office.add_person("Ann", author="admin")
    stay(office, clocks, ann.id, 60)
    office.book.see("door", [ann.id])
    clocks.now_s += 120
    office.book.unknown("door")
    table = office.day(DAY)
    (row,) = table.rows
    assert [visit.departed_utc is None for visit in row.visits] == [False, True]
    assert row.is_in
    assert row.last_departed_utc is None
    assert row.total_s == 120
    assert table.unknown_visitors == 1
    (month,) = office.month(2026, 1).rows
    assert month.seconds_by_day == {5: 120.0}


def test_a_correction_is_kept_beside_what_it_corrects(office: LocalOffice, clocks: Clocks) -> None:
    ann = office.add_person("Ann", author="admin")
    visit_id = stay(office, clocks, ann.id)
    moved = office.move_visit(
        visit_id, departed_utc=START + timedelta(minutes=30), author="boss", reason="saw her leave"
    )
    assert moved.departed_utc == START + timedelta(minutes=30)
    (correction,) = moved.corrections
    assert (correction.author, correction.reason) == ("boss", "saw her leave")
    assert correction.action is CorrectionAction.MOVE
    first = [event for event in office.book.store.events() if event.visit_id == visit_id]
    assert [event.kind.value for event in first] == ["arrived", "departed", "correction"]
    removed = office.remove_visit(visit_id, author="boss", reason="it was her sister")
    assert removed.is_removed
    assert office.day(DAY).rows == ()
    assert office.visits(DAY, DAY, with_removed=True) == (removed,)
    added = office.add_visit(
        ann.id, START, START + timedelta(hours=1), author="boss", reason="was here"
    )
    assert added.method is Method.MANUAL
    assert office.day(DAY).rows[0].total_s == 3600


def test_a_correction_that_ends_an_open_visit_is_its_one_departure(
    office: LocalOffice, clocks: Clocks
) -> None:
    ann = office.add_person("Ann", author="admin")
    office.book.camera("door", usable=True)
    office.book.see("door", [ann.id])
    visit_id = office.present()[0].visit_id
    clocks.now_s += 600
    office.move_visit(
        visit_id, departed_utc=START + timedelta(minutes=5), author="boss", reason="left early"
    )
    assert office.present() == ()
    clocks.now_s += 3600
    office.book.tick()
    kinds = [event.kind.value for event in office.book.store.events(f"visit_id = '{visit_id}'")]
    assert kinds == ["arrived", "departed", "correction"]


@pytest.mark.parametrize(
    ("arrived_min", "departed_min", "match"),
    [(60, 30, "before"), (0, 100_000, "future"), (10, 20, "another visit"), (-10, 30, "another")],
)
def test_a_visit_that_cannot_have_been_is_refused(
    office: LocalOffice, clocks: Clocks, arrived_min: float, departed_min: float, match: str
) -> None:
    ann = office.add_person("Ann", author="admin")
    office.add_visit(ann.id, START - timedelta(minutes=60), START, author="b", reason="r")
    clocks.now_s += 7200
    stay(office, clocks, ann.id)
    office.add_visit(ann.id, START, START + timedelta(minutes=40), author="b", reason="r")
    with pytest.raises(AttendanceError, match=match):
        office.add_visit(
            ann.id, START + timedelta(minutes=arrived_min),
            START + timedelta(minutes=departed_min), author="b", reason="r",
        )  # fmt: skip


@pytest.mark.parametrize(("author", "reason"), [("", "r"), ("b", ""), ("b", "x" * 501)])
def test_a_correction_says_who_and_why(office: LocalOffice, author: str, reason: str) -> None:
    ann = office.add_person("Ann", author="admin")
    with pytest.raises(AttendanceError):
        office.add_visit(ann.id, START, START, author=author, reason=reason)


def test_a_time_without_a_zone_is_refused(office: LocalOffice) -> None:
    ann = office.add_person("Ann", author="admin")
    with pytest.raises(AttendanceError, match="zone"):
        office.add_visit(ann.id, datetime(2026, 1, 5), START, author="b", reason="r")


def test_exports_hold_every_visit_and_run_no_formula(office: LocalOffice, clocks: Clocks) -> None:
    pytest.importorskip("openpyxl")
    evil = office.add_person('=HYPERLINK("http://x")', author="admin")
    stay(office, clocks, evil.id)
    rows = office.export_rows(DAY, DAY)
    assert len(rows) == 1
    assert rows[0].arrived == "2026-01-05T08:00:00+00:00"
    table = visit_table(rows)
    assert "'=HYPERLINK" in as_csv(table).decode("utf-8-sig")
    assert as_xlsx(table).startswith(b"PK")
    assert inert(-5) == -5


def test_pin_signs_in_and_out(office: LocalOffice) -> None:
    pytest.importorskip("argon2")
    ann = office.add_person("Ann", author="admin")
    office.set_pin(ann.id, "4711", author="admin")
    assert office.person(ann.id).has_pin
    done = office.pin_entry("1", "4711", PinAction.ARRIVE, client="pad")
    assert (done.outcome, done.person_id) == (PinOutcome.DONE, ann.id)
    again = office.pin_entry("1", "4711", PinAction.ARRIVE, client="pad")
    assert again.outcome is PinOutcome.ALREADY
    assert [one.method for one in office.present()] == [Method.PIN]
    assert office.pin_entry("2", "4711", PinAction.ARRIVE, client="pad").outcome is PinOutcome.WRONG
    office.set_pin(ann.id, None, author="admin")
    wrong = office.pin_entry("1", "4711", PinAction.DEPART, client="pad")
    assert wrong.outcome is PinOutcome.WRONG
    with office.book.store.reading() as connection:
        dump = "\n".join(connection.iterdump())
    assert "4711" not in dump


@pytest.mark.parametrize("pin", ["", "123", "1" * 13, "12a4", "1111", "\u0661\u0662\u0663\u0664"])
def test_a_weak_pin_is_refused_and_not_repeated(office: LocalOffice, pin: str) -> None:
    ann = office.add_person("Ann", author="admin")
    with pytest.raises(AttendanceError) as caught:
        office.set_pin(ann.id, pin, author="admin")
    assert not pin or pin not in str(caught.value)


def test_who_guesses_waits_ever_longer() -> None:
    clocks = Clocks()
    guard = PinGuard(lambda: clocks.now_s)
    waits: list[float] = []
    for _ in range(14):
        clocks.now_s += waits[-1] if waits else 0.0
        assert guard.attempt("pad", "number") == 0.0
        waits.append(guard.attempt("pad") if len(waits) >= 2 else 0.0)
    assert waits[:5] == [0.0, 0.0, 1.0, 2.0, 4.0]
    assert waits[-1] == 300.0
    assert guard.attempt("elsewhere", "number") > 0
    guard.was_right("pad", "number")
    assert guard.attempt("pad", "number") == 0.0


def test_events_reach_every_listener(office: LocalOffice) -> None:
    with office.subscribe() as one, office.subscribe() as other:
        ann = office.add_person("Ann", author="admin")
        for queue in (one, other):
            event = queue.get(0.0)
            assert event is not None
            assert (event.kind, event.person_id) == (ChangeKind.PEOPLE, ann.id)
            assert queue.get(0.0) is None


def test_a_slow_listener_loses_the_oldest_and_holds_up_nobody() -> None:
    broadcast = Broadcast()
    slow = broadcast.subscribe()
    for number in range(600):
        broadcast.tell(LiveEvent(str(number), ChangeKind.UNKNOWN, START))
    assert slow.missed == 100
    first = slow.get(0.0)
    assert first is not None
    assert first.id == "100"
    slow.close()
    assert broadcast.listeners == 0


@pytest.mark.parametrize(
    ("public", "display", "label"),
    [
        (False, NameDisplay.NUMBER, "Ann Archer"),
        (True, NameDisplay.FULL, "Ann Archer"),
        (True, NameDisplay.FIRST, "Ann"),
        (True, NameDisplay.NUMBER, "No. 7"),
    ],
)
def test_a_public_picture_says_no_more_than_the_public_display(
    public: bool, display: NameDisplay, label: str
) -> None:
    settings = Settings(overlay_public=public, display_names=display)
    person = Person("id", 7, "Ann Archer", "Ann")
    assert overlay_label(person, settings) == label
    assert overlay_label(None, settings) == "..."


def test_a_listener_hears_when_the_office_closes(tmp_path: Path) -> None:
    office = open_parts(tmp_path)
    queue, heard = office.subscribe(), []
    thread = threading.Thread(target=lambda: heard.append(queue.get(10.0)))
    thread.start()
    office.close()
    thread.join()
    assert [event.kind for event in heard if event] == [ChangeKind.CLOSED]


def test_settings_outlive_the_program(tmp_path: Path) -> None:
    wanted = Settings(zone_name="Asia/Tokyo", retention_days=30, names_in_sinks=True)
    with open_parts(tmp_path) as office:
        office.change_settings(wanted, author="admin")
    with open_parts(tmp_path) as office:
        assert office.settings() == wanted


def test_what_is_older_than_the_retention_is_deleted(office: LocalOffice, clocks: Clocks) -> None:
    ann = office.add_person("Ann", author="admin")
    office.change_settings(replace(office.settings(), retention_days=10), author="admin")
    old = stay(office, clocks, ann.id)
    clocks.now_s += 9 * 86400
    recent = stay(office, clocks, ann.id)
    office.book.see("door", [ann.id])
    still_in = office.present()[0].visit_id
    assert office.housekeeping.delete_old() == 0
    clocks.now_s += 1.1 * 86400
    assert office.housekeeping.delete_old() > 0
    left = {event.visit_id for event in office.book.store.events() if event.visit_id}
    assert left == {recent, still_in}
    with pytest.raises(AttendanceError):
        office.visit(old)


def test_everything_kept_about_a_person_is_exported(office: LocalOffice, clocks: Clocks) -> None:
    ann = office.add_person(NAME, author="admin")
    enrol(office, ann.id)
    visit_id = stay(office, clocks, ann.id)
    text = json.dumps(office.export_person(ann.id), default=str)
    for part in (visit_id, "paper form 1", "Quxw", "arrived", "departed"):
        assert part in text
    assert "vector" not in text


def test_a_forgotten_person_leaves_no_byte_of_the_name(tmp_path: Path, clocks: Clocks) -> None:
    with open_parts(tmp_path, clocks=clocks) as office:
        forgotten = office.add_person(NAME, first_name="Zoë", author="admin")
        other = office.add_person("Bob", author="admin")
        enrol(office, forgotten.id)
        stay(office, clocks, forgotten.id)
        stay(office, clocks, other.id, minutes=30)
        office.move_visit(
            office.visits(DAY, DAY, person_id=other.id)[0].visit_id,
            arrived_utc=START + timedelta(minutes=65),
            author="boss", reason=f"came with {NAME.upper()}",
        )  # fmt: skip
        asked = []
        office.on_forget(lambda person: asked.append(person.name))
        assert name_is_in_files(tmp_path)
        receipt = office.forget_person(forgotten.id, author="boss")
        assert asked == [NAME]
        assert receipt.events_deleted >= 3
        assert receipt.texts_redacted == 1
        assert receipt.gallery_receipt is not None
        assert "attendance.db" in receipt.searched
        assert "Qux" not in json.dumps(asdict(receipt), default=str)
        assert not name_is_in_files(tmp_path)
        with pytest.raises(AttendanceError):
            office.person(forgotten.id)
        assert office.visits(DAY, DAY, person_id=forgotten.id) == ()
        corrected = office.visits(DAY, DAY, person_id=other.id)[0]
        assert corrected.corrections[0].reason == "came with [forgotten]"
    assert not name_is_in_files(tmp_path)


def test_a_forgotten_person_leaves_the_csv_file_too(tmp_path: Path, clocks: Clocks) -> None:
    sink = CsvSink(tmp_path / "events.csv")
    named = Settings(names_in_sinks=True)
    with open_parts(tmp_path, clocks=clocks, settings=named, sinks=[sink]) as office:
        person = office.add_person(NAME, author="admin")
        stay(office, clocks, person.id)
        office.start()
        wait_until_delivered(office)
        assert name_is_in_files(tmp_path)
        line = {"id": "late", "kind": "arrived", "person_id": person.id, "name": NAME}
        office.forget_person(person.id, author="boss")
        sink.deliver([line])  # it was on its way
        wait_until_delivered(office)
        assert not name_is_in_files(tmp_path)
        assert "forgotten" in (tmp_path / "events.csv").read_text()


def wait_until_delivered(office: LocalOffice) -> None:
    end_s = time.monotonic() + 30
    while office.health().sinks[0].waiting and time.monotonic() < end_s:
        time.sleep(0.02)
    assert office.health().sinks[0].waiting == 0


def test_a_file_that_still_holds_the_name_is_told(tmp_path: Path, clocks: Clocks) -> None:
    with open_parts(tmp_path, clocks=clocks) as office:
        person = office.add_person(NAME, author="admin")
        (tmp_path / "notes.txt").write_text(f"call {NAME}", encoding="utf-8")
        with pytest.raises(AttendanceError, match=r"notes\.txt"):
            office.forget_person(person.id, author="boss")


def name_is_in_files(folder: Path) -> bool:
    needle = b"Quxw"
    return any(
        needle in file.read_bytes() or needle.upper() in file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    )
