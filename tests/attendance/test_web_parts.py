"""The parts under the pages: tables as files, charts, texts, waits, local times."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import string
from datetime import date, datetime, timezone
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("jinja2")

from edgeface.pipeline.coach import _ASK, _DONE, _HOLD
from edgeface.quality import advice
from edgeface.types import RejectionReason
from examples.attendance.interface import AttendanceError, Method, VisitRow
from examples.attendance.spreadsheets import Table, as_csv, as_xlsx
from examples.attendance.web.charts import Bar, Span, bar_chart, day_chart
from examples.attendance.web.language import choose_language, messages_of
from examples.attendance.web.limits import AttemptLimiter, client_key
from examples.attendance.web.presenting import day_of, input_time, month_of, utc_of, visit_view
from examples.attendance.web.sessions import SessionStore
from examples.attendance.web.settings import LANGUAGES
from tests.attendance.web_site import Clock

BERLIN = ZoneInfo("Europe/Berlin")
FORMULAS = [
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-1+1",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "\uff1d1+1",
    '=HYPERLINK("http://evil","x")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_name_that_is_a_formula_is_text_in_both_files(text: str) -> None:
    table = Table("May", ("Name", "Hours"), [(text, 7.5)])
    (row,) = list(csv.reader(io.StringIO(as_csv(table).decode("utf-8-sig"))))[1:]
    assert row == [f"'{text}", "7.5"]
    openpyxl = pytest.importorskip("openpyxl")
    sheet = openpyxl.load_workbook(io.BytesIO(as_xlsx(table))).active
    assert sheet["A2"].data_type == "s"
    assert sheet["A2"].quotePrefix
    assert sheet["A2"].value.strip() == text.strip()
    assert sheet["B2"].value == 7.5


def test_ordinary_names_and_numbers_stay_as_they_are() -> None:
    table = Table(
        "[May]:*?/\\" + "x" * 50, ("Name", "Hours"), [('Zoë, "Z" O\'Neil', -1.0), ("", 0)]
    )
    rows = list(csv.reader(io.StringIO(as_csv(table).decode("utf-8-sig"))))
    assert rows[1:] == [['Zoë, "Z" O\'Neil', "-1.0"], ["", "0"]]
    openpyxl = pytest.importorskip("openpyxl")
    sheet = openpyxl.load_workbook(io.BytesIO(as_xlsx(table))).active
    assert len(sheet.title) == 31
    assert sheet["A2"].value == 'Zoë, "Z" O\'Neil'
    assert not sheet["A2"].quotePrefix


def test_a_table_without_rows_is_a_file_with_a_header() -> None:
    table = Table("May", ("Name",), [])
    assert as_csv(table).decode("utf-8-sig") == "Name\r\n"
    openpyxl = pytest.importorskip("openpyxl")
    assert openpyxl.load_workbook(io.BytesIO(as_xlsx(table))).active.max_row == 1


def rects(svg: str, kind: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [one for one in root.iter() if kind in one.get("class", "").split()]


def test_no_bars_are_no_chart() -> None:
    assert bar_chart([], title="x", unit="h") == ""
    assert day_chart([], title="x", now=0.0) == ""
    assert day_chart([("Ada", [])], title="x", now=0.0) == ""


def test_bars_are_as_long_as_their_hours_and_fit() -> None:
    bars = [Bar("1", 0.0, "a"), Bar("2", 4.0, "b"), Bar("3", 12.0, "c", is_marked=True)]
    drawn = rects(bar_chart(bars, title="x", unit=" h"), "bar")
    lengths = [float(one.get("height", "nan")) for one in drawn]
    assert lengths[0] == 0.0
    assert lengths[2] == pytest.approx(3 * lengths[1])
    assert all(float(one.get("y", "nan")) >= 0.0 for one in drawn)
    assert "marked" in drawn[2].get("class", "")


@pytest.mark.parametrize("hours", [math.nan, math.inf, -3.0, 1e9])
def test_hours_that_make_no_sense_still_draw_within_the_chart(hours: float) -> None:
    svg = bar_chart([Bar("1", hours, "a")], title="x", unit="h")
    assert 0.0 <= float(rects(svg, "bar")[0].get("height", "nan")) <= 132.0


def test_spans_lie_in_order_and_a_night_shift_goes_on_past_midnight() -> None:
    rows = [("Ada", [Span(8.0, 12.0, "a"), Span(13.0, 17.0, "b")]), ("Bo", [Span(22.0, 30.0, "c")])]
    drawn = rects(day_chart(rows, title="x", now=math.nan), "span")
    left = [float(one.get("x", "nan")) for one in drawn]
    width = [float(one.get("width", "nan")) for one in drawn]
    assert left == sorted(left)
    assert width[0] == pytest.approx(width[1], abs=0.2)
    assert width[2] == pytest.approx(2 * width[0], abs=0.2)
    assert left[2] + width[2] <= 840


def test_names_in_charts_are_escaped() -> None:
    hostile = "<script>alert(1)</script>\"'&"
    for svg in (
        bar_chart([Bar(hostile, 1.0, hostile)], title=hostile, unit=hostile),
        day_chart([(hostile, [Span(1.0, 2.0, hostile)])], title=hostile, now=1.5),
    ):
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label") == hostile
        assert not [one for one in root.iter() if one.tag.endswith("script")]


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_language_has_every_text_with_the_same_gaps() -> None:
    english = messages_of("en")
    for language in LANGUAGES:
        other = messages_of(language)
        assert other.keys == english.keys
        for key in english.keys:
            assert gaps(other._texts[key]) == gaps(english._texts[key]), key


def test_every_text_that_a_page_asks_for_exists(repository: Path) -> None:
    folder = repository / "examples/attendance/web"
    sources = [*folder.glob("templates/*.html"), *folder.glob("pages_*.py")]
    keys = messages_of("en").keys
    asked = set()
    for source in sources:
        text = source.read_text(encoding="utf-8")
        asked |= set(re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", text))
        asked |= set(re.findall(r"""(?:problem|messages\.text)[=(]["']([\w.]+)["']""", text))
    assert len(asked) > 80
    missing = {key for key in asked if key not in keys and f"{key}.one" not in keys}
    assert missing == set()


def test_no_text_is_left_that_no_page_asks_for(repository: Path) -> None:
    folder = repository / "examples/attendance/web"
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in [*folder.glob("templates/*.html"), *folder.glob("*.py")]
    )
    # Texts of which only the first part is written out, such as "camera." for a state.
    made = [*re.findall(r'["\']([a-z_]+\.(?:\w+\.)?)["\'] ~', text), "column.", "pin."]
    unused = [
        key
        for key in messages_of("en").keys
        if re.sub(r"\.(one|other)$", "", key) not in text and not key.startswith(tuple(made))
    ]
    assert unused == []


def test_every_sentence_of_the_coach_is_translated() -> None:
    german = messages_of("de")
    said = [*_ASK.values(), _HOLD, _DONE, *(advice(reason) for reason in RejectionReason)]
    assert [sentence for sentence in said if sentence not in german._sentences] == []


def test_a_sentence_without_a_translation_stays_english() -> None:
    assert messages_of("de").sentence("something new: it failed") == "Something new: it failed."
    assert messages_of("de").sentence("") == ""


@pytest.mark.parametrize(
    ("cookie", "accepted", "setting", "expected"),
    [
        (None, "", "en", "en"),
        (None, "", "de", "de"),
        (None, "", "fr", "en"),
        (None, "de-CH,de;q=0.9,en;q=0.8", "en", "de"),
        (None, "fr;q=1.0,en;q=0.2,de;q=0.7", "en", "de"),
        (None, "fr,*;q=0.1", "de", "de"),
        (None, ";;q=x,,de;q=nonsense", "en", "en"),
        ("en", "de", "de", "en"),
        ("../de", "", "en", "en"),
    ],
)
def test_the_language_is_the_chosen_or_the_browsers_or_the_offices(
    cookie: str | None, accepted: str, setting: str, expected: str
) -> None:
    assert choose_language(cookie, accepted, setting) == expected


def test_days_and_hours_are_written_as_the_language_does() -> None:
    day, english, german = date(2026, 3, 1), messages_of("en"), messages_of("de")
    assert english.day(day) == "Sunday, 1 March 2026"
    assert german.day(day) == "Sonntag, 1. März 2026"
    assert (english.hours(7.25), german.hours(7.25)) == ("7.2", "7,2")
    assert english.duration(3 * 3600 + 65) == "3 h 01 min"
    assert english.text("display.in", count=1) == "1 person is in"


def test_waits_begin_after_the_free_failures_and_double_up_to_the_longest() -> None:
    clock = Clock()
    limiter = AttemptLimiter(clock=clock)
    assert [limiter.begin("a") for _ in range(5)] == [0.0] * 5
    waits = []
    for _ in range(8):
        wait_s = limiter.begin("a")
        waits.append(wait_s)
        clock.now_s += wait_s
        assert limiter.begin("a") == 0.0
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]
    assert limiter.begin("b") == 0.0


def test_a_refused_try_is_not_counted_and_makes_nothing_worse() -> None:
    clock = Clock()
    limiter = AttemptLimiter(clock=clock)
    for _ in range(5):
        limiter.begin("a")
    assert [limiter.begin("a") for _ in range(100)] == [30.0] * 100
    clock.now_s += 30.0
    assert limiter.begin("a") == 0.0


def test_a_success_takes_back_one_try_only() -> None:
    limiter = AttemptLimiter(clock=Clock())
    for _ in range(4):
        limiter.begin("a")
    limiter.begin("a")
    limiter.succeed("a")
    assert limiter.begin("a") == 0.0
    assert limiter.begin("a") > 0.0


def test_failures_are_forgiven_after_an_hour_and_a_flood_of_keys_does_not_fill_the_memory() -> None:
    clock = Clock()
    limiter = AttemptLimiter(clock=clock)
    for _ in range(5):
        limiter.begin("a")
    clock.now_s += 3601.0
    assert limiter.begin("a") == 0.0
    for number in range(10_000):
        limiter.begin(f"key{number}")
    assert len(limiter._tries) <= 4096


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str, key: str) -> None:
    assert client_key(address) == key


def test_session_ids_are_random_and_the_store_holds_none_of_them() -> None:
    store = SessionStore(10.0, 100.0, clock=Clock())
    ids = {store.begin("a") for _ in range(200)}
    assert len(ids) == 200
    assert all(len(identity) >= 43 for identity in ids)
    assert not any(identity.encode() in repr(store._entries).encode() for identity in ids)
    assert store.find(None) is None
    assert store.find("") is None
    assert store.find("é\udc80") is None


def test_the_number_of_logins_is_bounded() -> None:
    store = SessionStore(10.0, 100.0, clock=Clock())
    first = store.begin("a")
    for _ in range(1000):
        store.begin("a")
    assert store.find(first) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05T08:30", datetime(2026, 1, 5, 7, 30, tzinfo=timezone.utc)),
        ("2026-07-05T08:30", datetime(2026, 7, 5, 6, 30, tzinfo=timezone.utc)),
        # The hour that comes twice is taken the first time.
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=timezone.utc)),
    ],
)
def test_local_times_become_utc(text: str, expected: datetime) -> None:
    assert utc_of(text, BERLIN) == expected


@pytest.mark.parametrize("text", ["", "today", "2026-02-30T08:00", "2026-03-29T02:30", "9" * 40])
def test_a_time_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(AttendanceError):
        utc_of(text, BERLIN)


def test_visits_are_shown_in_the_zone_of_the_office() -> None:
    arrived = datetime(2026, 7, 5, 22, 30, tzinfo=timezone.utc)
    row = VisitRow("v", "p", arrived, None, "", Method.FACE)
    view = visit_view(row, BERLIN, datetime(2026, 7, 6, 0, 0, tzinfo=timezone.utc))
    assert (view.arrived.day, view.arrived.hour, view.departed) == (6, 0, None)
    assert view.seconds == 5400.0
    assert input_time(arrived, BERLIN) == "2026-07-06T00:30"
    assert input_time(None, BERLIN) == ""


@pytest.mark.parametrize(
    "text", ["", "x", "2026-13", "1066-10", "9999-12", "2026-1-1-1", "٢٠٢٦-01"]
)
def test_a_month_that_makes_no_sense_is_this_one(text: str) -> None:
    assert month_of(text, date(2026, 5, 17)) in (date(2026, 5, 1), date(2026, 1, 1))
    assert day_of(text, date(2026, 5, 17)) == date(2026, 5, 17)


def test_the_message_files_hold_texts_alone(repository: Path) -> None:
    for file in (repository / "examples/attendance/web/messages").glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        assert len(content["months"]) == 12
        assert len(content["weekdays"]) == 7
        assert not any("<" in text for text in content["texts"].values())
