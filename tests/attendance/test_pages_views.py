"""What the pages show and do, over an office in memory."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, time, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("jinja2")

from edgeface.camera import CameraState
from examples.attendance.interface import (
    CameraStatus,
    CorrectionAction,
    Method,
    NameDisplay,
    Person,
    VisitRow,
)
from tests.attendance.web_site import LOGIN, PASSWORD, Browser, Served, csrf_of, served, submit

HOSTILE = "<script>alert(1)</script>\"' onload=x {{7*7}} =cmd"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        found.make_account()
        yield found


def add(site: Served, name: str = "Ada Lovelace") -> Person:
    return site.office.add_person(name, author=LOGIN)


def noon_today(site: Served) -> datetime:
    office = site.office
    return datetime.combine(office.today(), time(12), office.settings().zone).astimezone(
        timezone.utc
    )


def visit(site: Served, person: Person, *, hours: float = 2.0, days_ago: int = 1) -> VisitRow:
    arrived = noon_today(site) - timedelta(days=days_ago)
    return site.office.come(person.id, arrived, arrived + timedelta(hours=hours))


def pages(site: Served, person: Person) -> list[str]:
    browser = site.signed_in()
    enrolment = site.office.start_enrolment().id
    everywhere = [
        *("/", "/pin", "/live", "/today", "/people", f"/people/{person.id}", "/month"),
        *(f"/people/{person.id}/forget", "/roll-call", "/enrol", "/settings", "/not/there"),
        f"/enrol/camera?person={person.id}&session={enrolment}",
    ]
    found = [browser.get(address).text for address in everywhere]
    return [*found, site.browser().get("/login").text]


class Outline(HTMLParser):
    """Collects what a reader with a screen reader depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.unlabelled: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        needs_label = tag in ("input", "select", "video", "progress", "svg", "nav")
        is_named = "label" in self._open or {"aria-label", "aria-labelledby"} & set(values)
        is_hidden = values.get("type") == "hidden" or values.get("aria-hidden") == "true"
        if needs_label and not (is_named or is_hidden):
            self.unlabelled.append(self.get_starttag_text() or tag)
        if tag not in ("input", "meta", "link", "img", "br", "hr"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def outlines(site: Served) -> list[Outline]:
    person = add(site)
    visit(site, person, days_ago=0)
    found = []
    for page in pages(site, person):
        outline = Outline()
        outline.feed(page)
        found.append(outline)
    return found


def test_a_hostile_name_is_text_on_every_page(site: Served) -> None:
    person = add(site, HOSTILE)
    site.office.come(person.id, noon_today(site) - timedelta(days=1), noon_today(site))
    site.office.come(person.id, datetime.now(timezone.utc))
    row = visit(site, person, days_ago=0)
    site.office.remove_visit(row.visit_id, author=HOSTILE, reason=HOSTILE)
    site.office.change_settings(
        replace(site.office.settings(), office_name=HOSTILE[:60], display_names=NameDisplay.FULL),
        author=LOGIN,
    )
    shown = 0
    for page in pages(site, person):
        assert "<script>alert" not in page
        assert "49" not in re.findall(r"onload=x (\S+)", page)
        shown += page.count("&lt;script&gt;alert")
        outline = Outline()
        outline.feed(page)
        scripts = [values for tag, values in outline.tags if tag == "script"]
        assert all((values.get("src") or "").startswith("/static/") for values in scripts)
        assert not [values for _, values in outline.tags if "onload" in values]
    assert shown > 15


def test_every_page_has_a_language_a_heading_landmarks_and_labels(site: Served) -> None:
    for outline in outlines(site):
        assert ("html", {"lang": "en"}) in outline.tags
        assert outline.count("h1") == 1
        assert outline.count("main") == 1
        assert outline.unlabelled == []
        assert all("alt" in values for tag, values in outline.tags if tag == "img")
        ids = [values["id"] for _, values in outline.tags if "id" in values]
        assert len(ids) == len(set(ids))


def test_every_heading_of_a_table_says_what_it_heads(site: Served) -> None:
    headings = [values for outline in outlines(site) for tag, values in outline.tags if tag == "th"]
    assert len(headings) > 30
    assert all(values.get("scope") in ("col", "row") for values in headings)


def test_what_changes_by_itself_is_read_out(site: Served) -> None:
    for address, part in (("/live", "feed"), ("/", "people")):
        text = site.signed_in().get(address).text
        assert re.search(rf'<div id="{part}"[^>]*aria-live="polite"', text)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(repository: Path, scheme: str) -> None:
    style = (repository / "examples/attendance/web/static/style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", dark if scheme == "dark" else light))
    pairs = [
        *((text, ground) for text in ("ink", "muted") for ground in ("paper", "surface", "sunken")),
        *(("accent", ground) for ground in ("paper", "surface", "accent-soft")),
        *((kind, f"{kind}-soft") for kind in ("in", "warn", "bad")),
        *(("accent-ink", "accent"), ("bad", "surface"), ("ink", "accent-soft")),
    ]
    ratios = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}
    assert contrast(colours["edge"], colours["surface"]) >= 3.0
    for tint in re.findall(r"\.tint-\d \{ background: (#\w{6}); \}", style):
        assert contrast("#ffffff", tint) >= 4.5
    assert "prefers-reduced-motion" in style


@pytest.mark.parametrize(
    ("display", "shown", "hidden"),
    [
        (NameDisplay.FULL, "Ada Lovelace", "#1"),
        (NameDisplay.FIRST, "Ada", "Lovelace"),
        (NameDisplay.NUMBER, "#1", "Ada"),
    ],
)
def test_the_display_shows_what_the_settings_allow(
    site: Served, display: NameDisplay, shown: str, hidden: str
) -> None:
    person = add(site)
    site.office.come(person.id, datetime.now(timezone.utc))
    settings = replace(site.office.settings(), display_names=display)
    site.office.change_settings(settings, author=LOGIN)
    for address in ("/", "/display/people"):
        page = site.browser().get(address).text
        assert shown in page
        assert hidden not in page
        assert person.id not in page
        assert "1 person is in" in page


def test_the_picture_is_on_the_display_only_where_it_was_allowed(site: Served) -> None:
    browser = site.browser()
    assert "/display/picture" not in browser.get("/").text
    assert browser.get("/display/picture").status_code == 404
    settings = replace(site.office.settings(), overlay_public=True)
    site.office.change_settings(settings, author=LOGIN)
    assert "/display/picture" in browser.get("/").text


def test_the_live_page_shows_who_is_in_what_happened_and_how_cameras_are(site: Served) -> None:
    person = add(site)
    site.office.come(person.id, datetime.now(timezone.utc))
    lost = CameraStatus("yard", CameraState.LOST, False, 0.0, 0.0, None, 3, ("black",), "timed out")
    site.office.camera_list = (*site.office.camera_list, lost)
    page = site.signed_in().get("/live").text
    for text in ("Ada Lovelace", "yard", "lost, trying again", "came back 3 times", "timed out"):
        assert text in page
    assert page.count('class="came"') == 1
    assert site.signed_in().get("/live/picture?camera=none").status_code == 404


def test_an_office_without_cameras_or_people_has_pages_too(site: Served) -> None:
    site.office.camera_list = ()
    browser = site.signed_in()
    assert "No camera is connected." in browser.get("/live").text
    assert browser.get("/live/picture").status_code == 404
    assert "Nobody is known yet" in browser.get("/people").text
    for address in ("/today", "/month", "/roll-call", "/month.csv", "/month.xlsx"):
        assert browser.get(address).status_code == 200


def test_the_day_shows_hours_status_and_corrections(site: Served) -> None:
    person = add(site)
    row = visit(site, person, hours=2.5)
    site.office.move_visit(
        row.visit_id,
        departed_utc=row.arrived_utc + timedelta(hours=3),
        author=LOGIN,
        reason="was late",
    )
    day = site.office.today() - timedelta(days=1)
    page = site.signed_in().get(f"/today?day={day}").text
    assert "3 h 00 min" in page
    assert "corrected" in page
    assert "<svg" in page
    assert "Nobody came on this day." in site.signed_in().get("/today?day=2001-01-01").text


@pytest.mark.parametrize("query", ["?day=x", "?day=9999-99-99", "?month=0", "?month=-1", "?day="])
def test_a_date_that_makes_no_sense_is_today(site: Served, query: str) -> None:
    for address in ("/today", "/month", "/month.csv"):
        assert site.signed_in().get(address + query).status_code == 200


def test_the_month_lists_hours_by_day_and_its_files_name_the_columns(site: Served) -> None:
    person = add(site, "=cmd")
    arrived = noon_today(site)
    site.office.come(person.id, arrived, arrived + timedelta(hours=7, minutes=30))
    browser = site.signed_in()
    assert ">7.5<" in browser.get("/month").text
    answer = browser.get("/month.csv", headers={"accept-language": "de"})
    assert "attachment" in answer.headers["content-disposition"]
    (row,) = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert (row["Name"], row["Stunden"]) == ("'=cmd", "7.5")


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


def test_the_language_that_was_chosen_is_kept(site: Served) -> None:
    browser = site.browser()
    submit(browser, "/language", {"language": "de", "back": "/pin"}, page="/pin")
    assert "Mit PIN kommen und gehen" in browser.get("/pin").text
    submit(browser, "/language", {"language": "xx", "back": "/pin"}, page="/pin")
    assert "Mit PIN kommen und gehen" in browser.get("/pin").text


def test_health_is_503_when_attendance_is_not_taken(site: Served) -> None:
    assert site.browser().get("/healthz").json()["ok"] is True
    site.office.camera_list = ()
    answer = site.browser().get("/healthz")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["no camera gives a picture"])
    assert "attendance_up 0.0" in site.browser().get("/metrics").text


def test_every_figure_is_given_once_and_counters_are_counters(site: Served) -> None:
    text = site.browser().get("/metrics").text
    kinds = re.findall(r"^# TYPE (\S+) (\w+)$", text, flags=re.MULTILINE)
    assert len(dict(kinds)) == len(kinds)
    assert dict(kinds)["attendance_frames_searched_total"] == "counter"
    assert dict(kinds)["attendance_camera_fps"] == "gauge"
