"""The whole thing in a real browser: set up, enrol, appear, be listed, correct, export, forget."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("argon2")
pytest.importorskip("openpyxl")
pytest.importorskip("mediapipe")
pytest.importorskip("cv2")
pytest.importorskip("playwright.sync_api")

from examples.attendance.interface import ChangeKind
from examples.attendance.web.server import WebServer
from examples.attendance.web.settings import WebSettings
from tests.attendance.browser_office import Program, film, office
from tests.attendance.real_clip import real_clip
from tests.attendance.web_site import Served, served

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg: apt-get install ffmpeg"),
]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
NAME, LOGIN, PASSWORD = "Nora <b>Nod</b>", "front desk", "correct horse battery"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def clip(test_data: Path) -> Path:
    return real_clip(test_data)


@pytest.fixture(scope="module")
def enrolment_film(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as what the browser takes for its camera."""
    target = tmp_path_factory.mktemp("film") / "camera.y4m"
    return film(clip, target, "-vf", "scale=640:-2,fps=10", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def empty_room(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that nobody is in."""
    target = tmp_path_factory.mktemp("room") / "room.mp4"
    source = test_data / "data" / "video" / "HyperInspire__810_1684206192.mp4"
    return film(source, target, "-t", "1", "-vf", "scale=640:-2")


@pytest.fixture(scope="module")
def browser(enrolment_film: Path) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as starter:
        started = starter.chromium.launch(
            executable_path=BROWSER,
            args=[
                *("--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream"),
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={enrolment_film}",
            ],
        )
        yield started
        started.close()


def long_clip(clip: Path, target: Path) -> Path:
    """The clip five times: long enough for a browser to see the person there."""
    return film(clip, target, "-c", "copy", repeats=4)


def new_page(browser: Any) -> tuple[Any, list[str]]:
    """A page, and the list of what goes wrong on it."""
    page = browser.new_context(locale="en-GB", accept_downloads=True).new_page()
    page.set_default_timeout(WAIT_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type == "error" else None,
    )
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    return page, wrong


def set_up(page: Any, program: Program) -> None:
    page.goto(f"{program.address}/live")
    page.wait_for_url("**/set-up")
    page.fill("[name=token]", program.token)
    page.fill("[name=name]", LOGIN)
    page.fill("[name=password]", PASSWORD)
    page.fill("[name=again]", PASSWORD)
    page.click("main button.primary")
    page.wait_for_url("**/live")


def enrol(page: Any, program: Program) -> None:
    page.goto(f"{program.address}/enrol")
    page.fill("[name=name]", NAME)
    page.click("main button.primary")
    page.wait_for_selector("text=Without consent no face is enrolled")
    assert page.input_value("[name=name]") == NAME
    page.check("[name=consent]")
    page.click("main button.primary")
    page.wait_for_selector("#start")
    assert page.is_disabled("#finish-button")
    page.click("#start")
    page.wait_for_selector("#finish-button:not([disabled])")
    page.click("#finish-button")
    page.wait_for_selector("text=The face is enrolled and the consent recorded.")
    assert page.inner_text("h1") == NAME


def enrol_from_file(page: Any, program: Program, photo: Path) -> None:
    page.goto(f"{program.address}/enrol")
    page.fill("[name=name]", "Otto")
    page.check("[name=consent]")
    page.click("main button.primary")
    page.set_input_files("#file", str(photo))
    page.wait_for_selector("#finish-button:not([disabled])")
    page.click("#finish-button")
    page.wait_for_selector("text=The face is enrolled and the consent recorded.")


def sign_in(page: Any, program: Program) -> None:
    page.goto(f"{program.address}/login")
    page.fill("[name=name]", LOGIN)
    page.fill("[name=password]", PASSWORD)
    page.click("main button.primary")
    page.wait_for_url("**/live")


def correct(page: Any, program: Program) -> None:
    """Move the only visit back by one hour, and end it."""
    page.goto(f"{program.address}/people")
    page.click(".tiles a")
    page.click("text=Correct")
    field = page.locator(".visits [name=arrived]").first
    now = datetime.fromisoformat(field.input_value())
    earlier = (now - timedelta(minutes=61)).isoformat(timespec="minutes")
    ended = (now - timedelta(minutes=1)).isoformat(timespec="minutes")
    field.fill(earlier)
    page.locator(".visits [name=departed]").first.fill(ended)
    page.locator(".visits [name=reason]").first.fill("Came by the <i>back</i> door")
    page.click("text=Save the times")
    page.wait_for_selector("text=The correction is recorded.")
    assert page.inner_text(".correction q") == "Came by the <i>back</i> door"
    assert LOGIN in page.inner_text(".correction")
    assert page.inner_text(".visit .length") == "1 h 00 min"


def downloads(page: Any, program: Program) -> dict[str, bytes]:
    """Return the files that the month and the person give."""
    found = {}
    for where, link in (("/month", "CSV"), ("/month", "XLSX"), ("/people", "JSON")):
        page.goto(f"{program.address}{where}")
        if link == "JSON":
            page.click(".tiles a")
            page.wait_for_selector("text=Export as JSON")
        with page.expect_download() as waiting:
            page.click(f"main >> text={link}")
        found[link] = Path(waiting.value.path()).read_bytes()
    return found


def test_a_person_is_enrolled_appears_is_listed_corrected_exported_and_forgotten(
    browser: Any, test_data: Path, clip: Path, empty_room: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    page, wrong = new_page(browser)
    with office(data, empty_room) as program:
        set_up(page, program)
        enrol(page, program)
        enrol_from_file(page, program, test_data / "data" / "photo" / "ageitgey__obama.jpg")
        page.goto(f"{program.address}/")
        assert page.inner_text("#people h1") == "0 people are in"
        page.goto("about:blank")
    with office(data, long_clip(clip, tmp_path / "long.mp4")) as program:
        page.goto(f"{program.address}/")
        page.wait_for_selector("#people >> text=1 person is in")
        # First names only, and the markup in the name is text.
        assert page.inner_text(".faces li").split() == ["N", "Nora"]
        sign_in(page, program)
        # The recording ends, and with it the visit.
        page.wait_for_selector(".feed .went")
        assert page.locator(".feed li").count() == 2
        assert page.locator(f".feed .came >> text={NAME}").count() == 1
        page.goto(f"{program.address}/today")
        assert NAME in page.inner_text("tbody th")
        correct(page, program)
        files = downloads(page, program)
        (row,) = list(csv.DictReader(io.StringIO(files["CSV"].decode("utf-8-sig"))))
        assert (row["Name"], row["Hours"], row["Corrections"]) == (NAME, "1.0", "1")
        assert files["XLSX"].startswith(b"PK")
        assert NAME in json.dumps(json.loads(files["JSON"]))
        forget(page, program)
        page.goto("about:blank")
    # Two forms were refused on purpose, and the browser notes each.
    assert [text for text in wrong if "status of 400" not in text] == []
    written = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert not any(b"Nora" in content for content in written)


def forget(page: Any, program: Program) -> None:
    page.goto(f"{program.address}/people")
    page.click(".tiles a")
    page.click("a:has-text('Forget this person')")
    page.fill("[name=name]", "Nora")
    page.click("text=Forget for good")
    page.wait_for_selector("text=nothing was deleted")
    page.fill("[name=name]", NAME)
    page.click("text=Forget for good")
    page.wait_for_selector("text=The person is forgotten")
    assert "Nora" not in page.inner_text("pre")
    page.goto(f"{program.address}/people")
    assert "Nora" not in page.inner_text("main")


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[Served, str]]:
    """An office in memory whose people have awkward names, at a real address."""
    with served(tmp_path) as site:
        site.make_account()
        for name in (HOSTILE, "Bartholomew Okonkwo-Featherstonehaugh", "x" * 100):
            person = site.office.add_person(name, author=LOGIN)
            site.office.come(person.id, datetime.now(timezone.utc))
        server = WebServer(site.app, WebSettings(port=0))
        server.start()
        yield site, server.address
        server.stop()


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 800), (390, 844), (320, 640)])
def test_every_page_fits_the_screen_and_nothing_on_it_is_stopped_by_the_policy(
    browser: Any, pages: tuple[Served, str], width_px: int, height_px: int
) -> None:
    site, address = pages
    page, wrong = new_page(browser)
    page.set_viewport_size({"width": width_px, "height": height_px})
    session = {"name": "session", "value": site.site.sessions.begin(LOGIN), "url": address}
    page.context.add_cookies([session])
    person = site.office.people()[0].id
    enrolment = site.office.start_enrolment().id
    for where in (
        *("/", "/pin", "/live", "/today", "/people", f"/people/{person}", "/month", "/settings"),
        *(f"/people/{person}/forget", "/roll-call", "/enrol", "/login"),
        f"/enrol/camera?person={person}&session={enrolment}",
    ):
        page.goto(address + where)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= width_px, where
    page.goto("about:blank")
    assert wrong == []


def test_the_keyboard_reaches_the_content_first_and_then_every_page(
    browser: Any, pages: tuple[Served, str]
) -> None:
    site, address = pages
    page, _ = new_page(browser)
    session = {"name": "session", "value": site.site.sessions.begin(LOGIN), "url": address}
    page.context.add_cookies([session])
    page.goto(f"{address}/people")
    focused = "document.activeElement.textContent.trim()"
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused))
    assert reached[0] == "Skip to the content"
    assert reached[2:] == [
        *("Live", "Today", "People", "Month", "Roll call", "Enrol", "Settings"),
    ]
    page.goto(f"{address}/people")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_the_live_page_follows_what_happens_without_being_loaded_again(
    browser: Any, pages: tuple[Served, str]
) -> None:
    site, address = pages
    page, _ = new_page(browser)
    session = {"name": "session", "value": site.site.sessions.begin(LOGIN), "url": address}
    page.context.add_cookies([session])
    page.goto(f"{address}/live")
    page.wait_for_selector(".state.on")
    page.evaluate("window.loaded = 1")
    late = site.office.add_person("Lena Late", author=LOGIN)
    site.office.come(late.id, datetime.now(timezone.utc))
    page.wait_for_selector(".feed >> text=Lena Late")
    page.wait_for_selector(".rows >> text=Lena Late")
    assert page.evaluate("window.loaded") == 1
    site.site.sessions.end_all_of(LOGIN)
    site.office.tell(ChangeKind.ARRIVED, late.id)
    page.wait_for_url("**/login")
