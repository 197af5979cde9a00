"""What is refused: paths, pictures, lengths, figures for other machines, unsafe settings."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("jinja2")

from edgeface.errors import InvalidInputError
from examples.attendance.web.guard import MAX_UPLOAD_BYTES, OPERATOR_PATHS
from examples.attendance.web.settings import WebSettings
from tests.attendance.web_site import LOGIN, Served, csrf_of, served, submit


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    "address",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static//etc/passwd",
        "/static/....//app.py",
        "/static/%00",
        "/static/",
    ],
)
def test_nothing_outside_the_static_folder_is_served(site: Served, address: str) -> None:
    answer = site.signed_in().get(address)
    assert answer.status_code in (404, 400)
    assert "import" not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("hostile", ["../../accounts.json", "..%2f..%2faccounts.json", "%00", "'"])
def test_a_person_that_is_a_path_is_nobody(site: Served, hostile: str) -> None:
    site.make_account()
    browser = site.signed_in()
    for address in (f"/people/{hostile}", f"/people/{hostile}/export.json"):
        answer = browser.get(address)
        assert answer.status_code in (303, 404)
        assert "argon2" not in answer.text


@pytest.mark.parametrize("where", ["//elsewhere.example", "https://elsewhere.example", "/\\evil"])
def test_choosing_a_language_leads_nowhere_else(site: Served, where: str) -> None:
    answer = submit(site.browser(), "/language", {"language": "de", "back": where}, page="/pin")
    assert answer.headers["location"] == "/"


def picture_bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is ``width`` by ``height``."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a not ours",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xff\xd8\xff" + b"\0" * 1000,
        picture_bomb(60000, 60000),
        picture_bomb(2**31 - 1, 2**31 - 1),
    ],
)
def test_an_upload_that_is_no_sound_picture_is_refused(site: Served, content: bytes) -> None:
    pytest.importorskip("cv2")
    browser = site.signed_in()
    session = site.office.start_enrolment()
    headers = {
        "content-type": "image/png",
        "x-csrf-token": csrf_of(browser.get("/enrol")),
        "accept": "application/json",
    }
    address = f"/enrol/picture?session={session.id}"
    answer = browser.post(address, content=content, headers=headers)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(site: Served) -> None:
    browser = site.signed_in()
    headers = {"content-type": "image/png", "x-csrf-token": csrf_of(browser.get("/enrol"))}
    content = b"\0" * (MAX_UPLOAD_BYTES + 1)
    assert browser.post("/enrol/picture", content=content, headers=headers).status_code == 413

    async def in_pieces() -> AsyncIterator[bytes]:  # without a length
        for _ in range(10):
            yield b"\0" * (MAX_UPLOAD_BYTES // 8)

    assert browser.post("/enrol/picture", content=in_pieces(), headers=headers).status_code == 413
    large = {"csrf": "x", "name": "a" * 70_000}
    assert browser.post("/people/new", data=large).status_code == 413


def test_a_wrong_length_is_refused(site: Served) -> None:
    browser = site.signed_in()
    headers = {"content-length": "-1"}
    assert browser.post("/people/new", content=b"", headers=headers).status_code == 400


def test_health_and_figures_are_for_this_machine_or_the_token(tmp_path: Path) -> None:
    token = "0123456789abcdef0123"
    with served(tmp_path, metrics_token=token) as site:
        site.office.add_person("Ada Lovelace", author=LOGIN)
        for address in sorted(OPERATOR_PATHS):
            local = site.browser().get(address)
            assert local.status_code == 200
            assert "Lovelace" not in local.text
            far = site.browser(client="192.0.2.7")
            assert far.get(address).status_code == 403
            bearer = {"authorization": f"Bearer {token}"}
            assert far.get(address, headers=bearer).status_code == 200
            assert far.get(address, headers={"authorization": "Bearer x"}).status_code == 403
            # What a proxy on this machine passes on is not local.
            forwarded = {"x-forwarded-for": "192.0.2.7"}
            assert site.browser().get(address, headers=forwarded).status_code == 403


def test_without_a_token_no_other_machine_gets_figures(site: Served) -> None:
    far = site.browser(client="192.0.2.7")
    assert far.get("/metrics", headers={"authorization": "Bearer None"}).status_code == 403


def test_a_failure_tells_the_browser_and_the_log_nothing_of_what_was_in_it(
    site: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("Ada Lovelace")

    monkeypatch.setattr(site.office, "cameras", fail)
    answer = site.signed_in().get("/live")
    assert answer.status_code == 500
    assert "Lovelace" not in answer.text
    assert "content-security-policy" in answer.headers
    assert "RuntimeError" in caplog.text
    assert "Lovelace" not in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "office.example"},
        {"certificate": Path("a.pem")},
        {"metrics_token": "short"},
        {"port": 70000},
        {"session_idle_s": 0.0},
    ],
)
def test_settings_that_are_not_safe_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        WebSettings(**settings)  # type: ignore[arg-type]
