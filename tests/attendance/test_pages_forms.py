"""What is changed by the forms of the pages: corrections, people, enrolments, PINs, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("jinja2")

from examples.attendance.interface import CorrectionAction, Method
from tests.attendance.web_site import (
    LOGIN,
    PASSWORD,
    Browser,
    Served,
    add,
    csrf_of,
    served,
    submit,
    visit,
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        found.make_account()
        yield found


def test_a_correction_needs_a_reason_and_keeps_its_author(site: Served) -> None:
    person = add(site)
    row = visit(site, person)
    browser = site.signed_in()
    page, address = f"/people/{person.id}", f"/people/{person.id}/visits/{row.visit_id}"
    zone = site.office.settings().zone
    arrived = row.arrived_utc.astimezone(zone)
    fields = {
        "action": "move",
        "arrived": (arrived - timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M"),
        "departed": "",
        "reason": "",
    }
    refused = submit(browser, address, fields, page=page)
    assert refused.status_code == 400
    assert "A correction needs a reason." in refused.text
    assert site.office.visit(row.visit_id) == row
    fields["reason"] = "came earlier"
    assert submit(browser, address, fields, page=page).status_code == 303
    changed = site.office.visit(row.visit_id)
    assert changed.arrived_utc == row.arrived_utc - timedelta(minutes=30)
    assert changed.departed_utc == row.departed_utc
    (correction,) = changed.corrections
    assert (correction.author, correction.reason) == (LOGIN, "came earlier")
    assert "came earlier" in browser.get(page).text


def test_a_time_that_was_not_changed_keeps_its_seconds_and_its_hour(site: Served) -> None:
    person = add(site)
    # 02:30 for the second time: the clocks in Berlin were put back at 01:00 UTC.
    arrived = datetime(2025, 10, 26, 1, 30, 17, tzinfo=timezone.utc)
    row = site.office.come(person.id, arrived, arrived + timedelta(hours=4))
    fields = {
        "action": "move",
        "arrived": "2025-10-26T02:30",
        "departed": "2025-10-26T06:00",
        "reason": "left later",
    }
    address = f"/people/{person.id}/visits/{row.visit_id}"
    assert submit(site.signed_in(), address, fields, page=f"/people/{person.id}").status_code == 303
    changed = site.office.visit(row.visit_id)
    assert changed.arrived_utc == arrived
    assert changed.departed_utc == datetime(2025, 10, 26, 5, 0, tzinfo=timezone.utc)


def test_a_visit_is_added_and_removed_and_both_are_recorded(site: Served) -> None:
    person = add(site)
    browser, page = site.signed_in(), f"/people/{person.id}"
    fields = {"arrived": "2025-05-05T08:00", "departed": "2025-05-05T16:00", "reason": "forgotten"}
    done = submit(browser, f"{page}/visits/new", fields, page=page)
    assert done.headers["location"].endswith("month=2025-05")
    (row,) = site.office.rows.values()
    assert row.method is Method.MANUAL
    assert row.length_s(row.arrived_utc) == 8 * 3600
    fields = {"action": "remove", "reason": "a photo", "arrived": "", "departed": ""}
    submit(browser, f"{page}/visits/{row.visit_id}", fields, page=page)
    removed = site.office.visit(row.visit_id)
    assert removed.is_removed
    assert [one.action for one in removed.corrections] == [
        CorrectionAction.ADD,
        CorrectionAction.REMOVE,
    ]
    assert "removed" in browser.get(f"{page}?month=2025-05").text


def test_nobody_corrects_the_visit_of_another_person(site: Served) -> None:
    ada, bob = add(site), add(site, "Bob")
    row = visit(site, bob)
    fields = {"action": "remove", "reason": "x"}
    address = f"/people/{ada.id}/visits/{row.visit_id}"
    answer = submit(site.signed_in(), address, fields, page=f"/people/{ada.id}")
    assert answer.status_code == 400
    assert not site.office.visit(row.visit_id).is_removed


def test_a_person_is_changed_exported_and_forgotten_only_when_the_name_is_typed(
    site: Served,
) -> None:
    person = add(site)
    visit(site, person)
    browser, page = site.signed_in(), f"/people/{person.id}"
    fields = {"name": "Ada King", "first_name": "Ada"}
    assert submit(browser, f"{page}/details", fields, page=page).status_code == 303
    assert not site.office.person(person.id).is_active
    export = browser.get(f"{page}/export.json")
    assert export.json()["person"]["name"] == "Ada King"
    assert export.headers["content-disposition"] == 'attachment; filename="person-1.json"'
    wrong = submit(browser, f"{page}/forget", {"name": "ada king"}, page=f"{page}/forget")
    assert wrong.status_code == 400
    done = submit(browser, f"{page}/forget", {"name": "Ada King"}, page=f"{page}/forget")
    assert "Ada" not in done.text
    assert person.id in done.text
    assert site.office.rows == {}
    assert browser.get(page).status_code == 404


def test_nobody_is_forgotten_whose_name_a_login_has(site: Served) -> None:
    person = add(site, LOGIN.title())
    address = f"/people/{person.id}/forget"
    answer = submit(site.signed_in(), address, {"name": person.name})
    assert answer.status_code == 400
    assert "remove the login" in answer.text
    assert site.office.person(person.id) == person


def jpeg() -> bytes:
    cv2 = pytest.importorskip("cv2")
    numpy = pytest.importorskip("numpy")
    content: bytes = cv2.imencode(".jpg", numpy.zeros((48, 64, 3), "uint8"))[1].tobytes()
    return content


def look(browser: Browser, session: str, language: str) -> dict[str, object]:
    headers = {
        "content-type": "image/jpeg",
        "x-csrf-token": csrf_of(browser.get("/enrol")),
        "accept-language": language,
    }
    address = f"/enrol/picture?session={session}"
    answer: dict[str, object] = browser.post(address, content=jpeg(), headers=headers).json()
    return answer


def test_enrolment_wants_consent_takes_pictures_and_records_the_text_agreed_to(
    site: Served,
) -> None:
    browser = site.signed_in()
    refused = submit(browser, "/enrol", {"name": "Ada"})
    assert refused.status_code == 400
    assert site.office.people() == ()
    begun = submit(browser, "/enrol", {"name": "Ada", "consent": "on"})
    address = begun.headers["location"]
    session = address.split("session=")[1]
    assert browser.get(address).status_code == 200
    assert look(browser, session, "en")["advice"] == "Hold still."
    assert look(browser, session, "de")["advice"] == "Stillhalten."
    done = look(browser, session, "en")
    assert (done["done"], done["taken"], done["wanted"]) == (True, 3, 3)
    (person,) = site.office.people()
    fields = {"person": person.id, "session": session}
    assert submit(browser, "/enrol/finish", fields, page=address).status_code == 303
    consent = site.office.person(person.id).consent
    assert consent is not None
    assert "I agree that my face is measured" in consent.how
    assert consent.recorded_by == LOGIN
    assert re.fullmatch(r"en sha256:[0-9a-f]{16}", consent.text_version)
    assert site.office.enrolments == {}


def test_an_enrolment_without_a_good_picture_says_so_and_can_be_left(site: Served) -> None:
    browser, person = site.signed_in(), add(site)
    begun = submit(browser, "/enrol", {"person": person.id, "consent": "on"})
    address = begun.headers["location"]
    fields = {"person": person.id, "session": address.split("session=")[1]}
    answer = submit(browser, "/enrol/finish", fields, page=address)
    assert (answer.status_code, "No picture is good enough." in answer.text) == (400, True)
    assert not site.office.person(person.id).has_face
    assert submit(browser, "/enrol/cancel", fields, page=address).status_code == 303
    assert browser.get(address).status_code == 400


def test_a_name_that_is_refused_leaves_no_person_and_no_enrolment(site: Served) -> None:
    answer = submit(site.signed_in(), "/enrol", {"name": " ", "consent": "on"})
    assert answer.status_code == 400
    assert "A name must not be empty." in answer.text
    assert site.office.people() == ()
    assert site.office.enrolments == {}


def test_by_pin_one_comes_and_goes_and_a_wrong_one_does_not_tell_what_was_wrong(
    site: Served,
) -> None:
    person = add(site)
    site.office.set_pin(person.id, "4711", author=LOGIN)
    browser = site.browser()
    right = {"number": "1", "pin": "4711"}
    assert "Hello, Ada" in submit(browser, "/pin", {**right, "action": "arrive"}).text
    assert "You are in already" in submit(browser, "/pin", {**right, "action": "arrive"}).text
    assert "Goodbye, Ada" in submit(browser, "/pin", {**right, "action": "depart"}).text
    texts = {
        re.sub(r'name="csrf" value="[^"]*"', "", submit(browser, "/pin", fields).text)
        for fields in (
            {**right, "pin": "0815", "action": "arrive"},
            {**right, "number": "99", "action": "arrive"},
        )
    }
    assert len(texts) == 1
    assert submit(browser, "/pin", {**right, "action": "dance"}).status_code == 400


def test_settings_are_changed_and_those_that_make_no_sense_are_refused(site: Served) -> None:
    browser = site.signed_in()
    fields = {
        "office_name": "Elm Street",
        "zone_name": "Europe/Lisbon",
        "day_starts_at": "04:00",
        "absence_min": "2.5",
        "blind_min": "20",
        "longest_pin_h": "12",
        "retention_days": "90",
        "display_names": "number",
        "language": "de",
        "overlay_public": "on",
    }
    assert submit(browser, "/settings", fields).status_code == 303
    settings = site.office.settings()
    assert (settings.office_name, settings.zone_name) == ("Elm Street", "Europe/Lisbon")
    assert (settings.day_starts_at, settings.absence_s) == (time(4), 150.0)
    assert (settings.blind_s, settings.longest_pin_visit_s) == (1200.0, 43200.0)
    assert settings.overlay_public
    assert not settings.count_unknown
    for field, value in (
        ("zone_name", "Mars/Base"),
        ("absence_min", "nan"),
        ("retention_days", "0"),
        ("day_starts_at", "late"),
        ("office_name", ""),
    ):
        answer = submit(browser, "/settings", {**fields, field: value})
        assert answer.status_code == 400, field
    assert site.office.settings() == settings


def test_logins_are_added_and_removed_but_not_the_last_one(site: Served) -> None:
    browser = site.signed_in()
    fields = {"name": "night desk", "password": "some other random words"}
    assert submit(browser, "/settings/logins", fields, page="/settings").status_code == 303
    assert submit(browser, "/settings/logins", fields, page="/settings").status_code == 400
    other = site.signed_in("night desk")
    gone = {"name": "night desk"}
    remove = "/settings/logins/remove"
    assert submit(browser, remove, gone, page="/settings").status_code == 303
    assert other.get("/live").status_code == 303
    assert submit(browser, remove, {"name": LOGIN}, page="/settings").status_code == 400
    assert site.site.accounts.is_right(LOGIN, PASSWORD)
