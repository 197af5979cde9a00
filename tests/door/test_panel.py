"""The panel: for this machine alone, without names, scores or pictures, and usable in a browser."""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeface.access import LeaseVerifier
from edgeface.errors import InvalidInputError
from examples.door_unlock.app import Door
from examples.door_unlock.locks import LeasedLock
from examples.door_unlock.panel import PanelServer
from tests.door.doors import DOOR, PIN, BoltOnPaper, TestDoor

pytest.importorskip("cryptography")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

HEADER = {"X-Edgeface-Panel": "1"}
ANSWER_S = 0.2


class Rig(TestDoor):
    """A test door with its panel, which a thread turns as the loop would."""

    __test__ = False

    def __post_init__(self) -> None:
        super().__post_init__()
        verifier = LeaseVerifier(DOOR, self.keys.lease, demonstration=True, boot="lock")
        self.bolt = BoltOnPaper()
        self.lock = LeasedLock(verifier, self.bolt)
        self.door = Door(self.controller, self.lock, say=lambda _text: None)
        self.panel = PanelServer(self.door, port=0, answer_s=ANSWER_S)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self._ask(path, None, headers)

    def post(self, path: str, body: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self._ask(path, body.encode(), headers)

    def state(self) -> Any:
        return json.loads(self.get("api/state")[2])

    def keep_turning(self) -> None:
        """Show alice to the door from now on."""
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        while not self._ended.wait(0.05):
            self.look(1)
            self.door.turn()

    def _ask(
        self, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.panel.address + path, body, named)
        try:
            with urllib.request.urlopen(request, timeout=10.0) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self.panel.close()
        self.lock.close()
        self.controller.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "door")
    yield made
    made.close()


def test_the_button_and_the_code_of_the_panel_open_the_door(rig: Rig) -> None:
    rig.look()
    assert rig.post("api/press", **HEADER)[0] == 200
    accepted = rig.post("api/factor", PIN, **HEADER)
    assert json.loads(accepted[2]) == {"accepted": True, "advice": "code accepted"}
    rig.look(1)
    rig.door.turn()
    assert rig.bolt.released == [2.0]
    state = rig.state()
    assert state["open"] is True
    assert state["entries"][0]["what"] == "the door is open"


def test_a_wrong_code_is_refused_and_says_nothing_more(rig: Rig) -> None:
    rig.look()
    for body in ("000111", "", "x" * 5000, "1; DROP TABLE", "٣" * 6):
        answer = json.loads(rig.post("api/factor", body, **HEADER)[2])
        assert answer["accepted"] is False
        assert answer["advice"].startswith(("not accepted", "please wait"))


@pytest.mark.parametrize("faces", ["nobody", "alice", "stranger"])
def test_a_code_is_answered_alike_whomever_the_camera_sees(rig: Rig, faces: str) -> None:
    """In the same words, and not sooner for a face that no code belongs to."""
    if faces != "nobody":
        rig.look(7, faces)
    started = time.monotonic()
    answer = json.loads(rig.post("api/factor", "000111", **HEADER)[2])
    assert time.monotonic() - started >= ANSWER_S
    wanted = "not accepted: look into the camera, and type it again"
    assert answer == {"accepted": False, "advice": wanted}


@pytest.mark.parametrize("frames", [0, 2, 4, 5, 7])
def test_a_closed_door_shows_the_same_however_near_a_face_comes(rig: Rig, frames: int) -> None:
    rig.door.turn()
    before = rig.state()
    for number in range(7):
        rig.look(1, "alice" if number < frames else "stranger")
        rig.door.turn()
    assert rig.state() == before
    assert set(before) == {
        *("door", "lock", "open", "advice", "in_order", "demonstration", "why", "entries")
    }
    assert before["why"] == []
    assert before["advice"] == "look into the camera, press the button, type your code"


def test_why_it_opened_is_shown_while_it_is_open(rig: Rig) -> None:
    rig.look()
    rig.door.press()
    rig.door.present(PIN)
    rig.look(1)
    rig.door.turn()
    assert "second factor" in [one["what"] for one in rig.state()["why"]]
    rig.lock.lock()
    assert rig.state()["why"] == []


def test_a_lock_that_nobody_knows_about_is_out_of_order_and_not_called_locked(rig: Rig) -> None:
    rig.bolt.is_locked, rig.bolt.problem = False, "the process that holds the pin died"
    state = rig.state()
    assert (state["in_order"], state["open"], state["advice"]) == (False, False, "use the key")


@pytest.mark.parametrize("path", ["api/press", "api/factor"])
def test_a_form_or_script_of_another_page_changes_nothing(rig: Rig, path: str) -> None:
    assert rig.post(path, PIN)[0] == 403
    assert rig.post(path, PIN, X_Edgeface_Panel="2")[0] == 403
    rig.look()
    rig.door.turn()
    assert "intent" in {one.what for one in rig.controller.explain().unmet}


@pytest.mark.parametrize("host", ["door.example", "door.example:80", "192.168.1.2", "", "[::2]"])
def test_a_name_that_only_points_here_is_refused(rig: Rig, host: str) -> None:
    assert rig.get("api/state", Host=host)[0] in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "[::1]"])
def test_this_machine_is_served(rig: Rig, host: str) -> None:
    assert rig.get("api/state", Host=host)[0] == 200


def test_the_panel_listens_on_this_machine_alone(rig: Rig) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "door.example"):
        with pytest.raises(InvalidInputError, match="this machine alone"):
            PanelServer(rig.door, host=host)


def test_a_port_that_is_taken_is_said(rig: Rig) -> None:
    port = int(rig.panel.address.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(InvalidInputError, match="another --panel-port"):
        PanelServer(rig.door, port=port)


def test_no_page_may_load_anything_from_elsewhere(rig: Rig) -> None:
    for path in ("", "panel.css", "panel.js", "api/state"):
        code, headers, body = rig.get(path)
        assert code == 200, path
        policy = {name.lower(): value for name, value in headers.items()}["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert b"http://" not in body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in body
    for path in ("docs", "openapi.json", "../app.py", "%2e%2e/app.py", "__init__.py"):
        assert rig.get(path)[0] == 404, path


def test_the_state_holds_no_name_no_score_and_no_picture(rig: Rig) -> None:
    rig.look()
    rig.door.press()
    rig.door.present(PIN)
    rig.look(1)
    rig.door.turn()
    text = rig.get("api/state")[2].decode()
    assert "alice" not in text
    assert "score" not in text
    assert 'subject":' not in text
    assert len(text) < 20_000


# ---------------------------------------------------------------------------- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page(rig: Rig) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_page(viewport={"width": 1180, "height": 800})
        problems: list[str] = []
        made.on("pageerror", lambda error: problems.append(str(error)))
        made.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        made.on(
            "request",
            lambda r: None if r.url.startswith(rig.panel.address) else problems.append(r.url),
        )
        made.goto(rig.panel.address)
        yield made
        browser.close()
    assert problems == []


@pytest.mark.integration
def test_somebody_comes_in_by_the_panel(rig: Rig, page: Any, tmp_path: Path) -> None:
    rig.keep_turning()
    page.get_by_text("press the button, type your code").wait_for()
    assert page.inner_text("#word") == "locked"
    assert page.locator("#why").is_hidden()
    page.get_by_role("button", name="I want to come in").click()
    for digit in PIN:
        page.get_by_role("button", name=digit, exact=True).click()
    assert page.input_value("#code") == PIN
    page.get_by_role("button", name="OK").click()
    page.locator("#state.open").wait_for(timeout=10_000)
    assert rig.bolt.released
    page.screenshot(path=tmp_path / "open.png")
    assert "alice" not in page.content()


@pytest.mark.integration
def test_a_program_that_is_gone_shows_as_locked_and_out_of_order(rig: Rig, page: Any) -> None:
    rig.keep_turning()
    page.get_by_text("press the button, type your code").wait_for()
    page.route("**/api/state", lambda route: route.fulfill(body="not JSON"))
    page.get_by_text("does not answer").wait_for(timeout=10_000)
    assert page.inner_text("#word") == "out of order"


@pytest.mark.integration
@pytest.mark.parametrize(("width", "height"), [(380, 740), (1180, 800)])
def test_nothing_runs_out_of_the_page(rig: Rig, page: Any, width: int, height: int) -> None:
    rig.keep_turning()
    page.set_viewport_size({"width": width, "height": height})
    page.get_by_text("press the button, type your code").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.offsetHeight < 44).length"
    )
    assert small == 0
