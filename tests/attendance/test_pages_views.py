"""What the pages show and do, over an office in memory."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
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
    NameDisplay,
    Person,
)
from tests.attendance.web_site import LOGIN, Served, add, noon_today, served, submit, visit

HOSTILE = "<script>alert(1)</script>\"' onload=x {{7*7}} =cmd"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        found.make_account()
        yield found


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
