"""Who gets in, and what is refused: logins, hosts, origins, tokens, sizes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("argon2")
pytest.importorskip("jinja2")

from fastapi.routing import APIRoute

from edgeface.errors import InvalidInputError
from examples.attendance.web import accounts, pages_public
from examples.attendance.web.guard import OPERATOR_PATHS, PUBLIC_PATHS
from tests.attendance.web_site import HTML, LOGIN, PASSWORD, Served, csrf_of, served, submit

FILLED_IN = {"person_id": "p0001", "visit_id": "v0002"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        yield found


def addresses(site: Served, method: str) -> list[str]:
    """Every address of the application, its gaps filled in."""
    found: list[str] = []
    routers = [site.app.router.routes]
    while routers:
        for route in routers.pop():
            if isinstance(route, APIRoute) and method in (route.methods or ()):
                found.append(route.path.format(**FILLED_IN))
            inner = getattr(getattr(route, "original_router", None), "routes", None)
            if inner:
                routers.append(inner)
    assert len(found) > 5
    return found


def login(site: Served, password: str, *, name: str = LOGIN, client: str = "127.0.0.1") -> int:
    browser = site.browser(client=client)
    return submit(browser, "/login", {"name": name, "password": password}).status_code


def test_no_page_but_the_public_ones_answers_without_a_login(site: Served) -> None:
    browser = site.browser()
    for address in addresses(site, "GET"):
        if address in PUBLIC_PATHS | OPERATOR_PATHS:
            continue
        answer = browser.get(address)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), address
        assert browser.get(address, headers={"accept": "*/*"}).status_code == 401, address


def test_no_form_but_the_public_ones_is_taken_without_a_login(site: Served) -> None:
    browser = site.browser()
    token = csrf_of(browser.get("/pin"))
    for address in addresses(site, "POST"):
        if address not in PUBLIC_PATHS:
            assert browser.post(address, data={"csrf": token}).status_code == 401, address


def test_an_address_that_nobody_wrote_wants_a_login_too(site: Served) -> None:
    assert site.browser().get("/not/there").status_code == 303
    assert site.signed_in().get("/not/there").status_code == 404
    assert site.browser().get("/openapi.json").status_code == 303


@pytest.mark.parametrize("token", ["", "x", "0" * 64, "é"])
def test_every_form_wants_its_csrf_token(site: Served, token: str) -> None:
    site.office.add_person("Ada", author=LOGIN)
    for browser, public in ((site.signed_in(), False), (site.browser(), True)):
        for address in addresses(site, "POST"):
            if public and address not in PUBLIC_PATHS:
                continue
            if address == "/enrol/picture":
                headers = {"x-csrf-token": token} if token.isascii() else {}
                answer = browser.post(address, content=b"x", headers=headers)
            else:
                answer = browser.post(address, data={"csrf": token})
            assert answer.status_code == 403, address
    assert [person.name for person in site.office.people()] == ["Ada"]


def test_the_token_of_one_login_is_of_no_use_to_another(site: Served) -> None:
    other = csrf_of(site.signed_in("back office").get("/settings"))
    answer = site.signed_in().post("/people/new", data={"csrf": other, "name": "Ada"})
    assert answer.status_code == 403
    assert site.office.people() == ()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://[bad"},
        {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_form_of_another_site_is_refused_even_with_the_token(
    site: Served, headers: dict[str, str]
) -> None:
    browser = site.signed_in()
    data = {"csrf": csrf_of(browser.get("/people")), "name": "Ada"}
    assert browser.post("/people/new", data=data, headers=headers).status_code == 403
    assert browser.post("/people/new", data=data).status_code == 303


def test_behind_a_proxy_that_rewrites_the_host_forms_of_the_configured_name_are_taken(
    tmp_path: Path,
) -> None:
    with served(tmp_path, names=("office.example",), is_behind_tls_proxy=True) as site:
        browser = site.browser()
        headers = {"origin": "https://office.example"}
        page = browser.get("/pin")
        browser.cookies.set("__Host-visitor", page.headers["set-cookie"][15:58])
        data = {"csrf": csrf_of(page), "number": "1", "pin": "1", "action": "arrive"}
        assert browser.post("/pin", data=data, headers=headers).status_code == 401
        headers = {"origin": "https://127.0.0.1.evil.example"}
        assert browser.post("/pin", data=data, headers=headers).status_code == 403


def test_a_form_that_is_out_of_date_leads_back_to_its_page(site: Served) -> None:
    answer = site.browser().post("/pin", data={"csrf": "of a program that ended"})
    assert answer.status_code == 403
    assert '<a class="button primary" href="/pin">' in answer.text


def test_forms_of_other_kinds_are_refused(site: Served) -> None:
    browser = site.signed_in()
    token = csrf_of(browser.get("/people"))
    assert browser.post("/people/new", json={"csrf": token, "name": "A"}).status_code == 415
    files = {"name": ("a.txt", io.BytesIO(b"x"))}
    assert browser.post("/people/new", data={"csrf": token}, files=files).status_code == 415
    many = {f"field{number}": "x" for number in range(100)}
    assert browser.post("/people/new", data={"csrf": token, **many}).status_code == 400
    assert browser.ask("PUT", "/people/new").status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil"])
def test_another_host_name_is_refused(site: Served, host: str) -> None:
    assert site.browser().get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1", "[::1]:8765"])
def test_the_names_of_loopback_are_served(site: Served, host: str) -> None:
    assert site.browser().get("/", headers={"host": host}).status_code == 200


def test_a_configured_name_is_served(tmp_path: Path) -> None:
    with served(tmp_path, names=("office.example",), is_behind_tls_proxy=True) as site:
        assert site.browser().get("/", headers={"host": "office.example"}).status_code == 200


def test_every_answer_has_the_security_headers(site: Served) -> None:
    browser = site.signed_in()
    for address in ("/", "/live", "/not/there", "/static/style.css", "/people/nobody"):
        headers = browser.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
    refused = site.browser().get("/live").headers
    assert "content-security-policy" in refused
    assert browser.get("/live").headers["cache-control"] == "no-store"


def test_templates_hold_no_script_or_style_that_the_policy_would_stop(repository: Path) -> None:
    templates = list((repository / "examples/attendance/web/templates").glob("*.html"))
    assert len(templates) > 10
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert "<style" not in text
        assert ' style="' not in text
        assert "javascript:" not in text
        assert text.count("<script ") == text.count("<script")
        assert not any(f" on{event}=" in text for event in ("click", "load", "error", "submit"))
        assert "|safe" not in text
        assert "http://" not in text
        assert "https://" not in text


def test_the_right_password_signs_in_and_the_cookie_is_kept_from_scripts(site: Served) -> None:
    site.make_account()
    browser = site.browser()
    answer = submit(browser, "/login", {"name": LOGIN, "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/live")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    # 256 bits in Base64.
    assert len(cookie.split("=")[1].split(";")[0]) >= 43
    assert browser.get("/live").status_code == 200


def test_with_https_cookies_are_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    with served(tmp_path, is_behind_tls_proxy=True) as site:
        site.make_account()
        browser = site.browser()
        page = browser.get("/login")
        visitor = page.headers["set-cookie"]
        assert visitor.startswith("__Host-visitor=")
        assert "Secure" in visitor
        assert "max-age" in page.headers["strict-transport-security"]


def test_a_login_ends_on_the_server_when_somebody_signs_out(site: Served) -> None:
    browser = site.signed_in()
    stolen = browser.cookies
    assert submit(browser, "/logout", {}, page="/settings").status_code == 303
    thief = site.browser()
    thief.cookies.update(stolen)
    assert thief.get("/live").status_code == 303


def test_an_idle_login_ends_and_a_page_that_refreshes_itself_does_not_keep_it(
    site: Served,
) -> None:
    browser = site.signed_in()
    for _ in range(3):
        site.clock.now_s += 1000.0
        assert browser.get("/live").status_code == 200
    site.clock.now_s += 1000.0
    assert browser.get("/live/now").status_code == 200
    site.clock.now_s += 1000.0
    assert browser.get("/live/now").status_code == 303


def test_a_login_ends_after_its_longest_time_however_busy(site: Served) -> None:
    browser = site.signed_in()
    for _ in range(43):
        site.clock.now_s += 1000.0
        assert browser.get("/live").status_code == 200
    site.clock.now_s += 1000.0
    assert browser.get("/live").status_code == 303


def test_signing_in_gives_a_new_session_id(site: Served) -> None:
    site.make_account()
    browser = site.browser()
    browser.cookies.set("session", "chosen-by-somebody-else", domain="127.0.0.1")
    submit(browser, "/login", {"name": LOGIN, "password": PASSWORD})
    assert site.site.sessions.find("chosen-by-somebody-else") is None


def test_brute_force_is_slowed_and_the_right_password_does_not_help_while_waiting(
    site: Served,
) -> None:
    site.make_account()
    assert [login(site, "wrong password") for _ in range(7)] == [401] * 5 + [429] * 2
    assert login(site, PASSWORD) == 429
    site.clock.now_s += 31.0
    assert login(site, "wrong password") == 401
    # The wait doubles with each failure.
    site.clock.now_s += 31.0
    assert login(site, PASSWORD) == 429
    site.clock.now_s += 30.0
    assert login(site, PASSWORD) == 303


def test_one_account_is_guarded_against_many_addresses(site: Served) -> None:
    site.make_account()
    codes = [login(site, "wrong password", client=f"10.0.0.{number}") for number in range(8)]
    assert codes == [401] * 5 + [429] * 3


def test_the_answer_does_not_tell_whether_the_name_exists(site: Served) -> None:
    site.make_account()
    pages = [
        submit(site.browser(), "/login", {"name": name, "password": "wrong password"})
        for name in (LOGIN, "nobody")
    ]
    assert pages[0].status_code == pages[1].status_code == 401
    texts = [page.text.replace(LOGIN, "nobody").split('name="csrf"') for page in pages]
    assert texts[0][0] == texts[1][0]


def test_the_first_account_wants_the_token_which_works_once(site: Served) -> None:
    token = site.site.accounts.set_up_token
    assert token is not None
    fields = {"name": LOGIN, "password": PASSWORD, "again": PASSWORD}
    browser = site.browser()
    assert browser.get("/login").headers["location"] == "/set-up"
    assert submit(browser, "/set-up", {**fields, "token": "guess"}).status_code == 401
    assert site.site.accounts.set_up_token == token
    csrf = csrf_of(browser.get("/set-up"))
    assert browser.post("/set-up", data={**fields, "token": token, "csrf": csrf}).status_code == 303
    other = site.browser()
    csrf = csrf_of(other.get("/login"))
    again = other.post("/set-up", data={**fields, "token": token, "csrf": csrf})
    assert again.status_code == 401
    assert site.site.accounts.names == (LOGIN,)


def test_guesses_at_the_set_up_token_are_slowed(site: Served) -> None:
    fields = {"name": LOGIN, "password": PASSWORD, "again": PASSWORD, "token": "guess"}
    codes = [submit(site.browser(), "/set-up", fields).status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2


@pytest.mark.parametrize("password", ["short", "a" * 20, "front desk 2026", "x" * 200])
def test_a_password_that_is_easy_to_guess_is_refused(site: Served, password: str) -> None:
    token = site.site.accounts.set_up_token or ""
    fields = {"name": LOGIN, "password": password, "again": password, "token": token}
    assert submit(site.browser(), "/set-up", fields).status_code == 400
    assert site.site.accounts.set_up_token == token


def test_passwords_are_kept_as_argon2id_hashes_in_a_file_of_the_owner(
    site: Served, tmp_path: Path
) -> None:
    site.make_account()
    file = tmp_path / "accounts.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text()
    assert json.loads(file.read_text())[LOGIN].startswith("$argon2id$")


def test_hashing_is_as_dear_as_the_standard_wants_for_names_without_an_account_too() -> None:
    hasher = accounts._password_hasher()
    # RFC 9106, section 4: the second recommended option.
    assert (hasher.memory_cost, hasher.time_cost) == (65536, 3)
    assert not hasher.check_needs_rehash(accounts._NOBODY)


def test_a_wrong_login_is_answered_late() -> None:
    least_s, most_s = pages_public._WRONG_DELAY_S
    assert 0.3 <= least_s < most_s <= 2.0


def test_a_damaged_file_of_accounts_is_an_error_and_no_new_set_up(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text('{"front desk": "plain text"}')
    with pytest.raises(InvalidInputError, match="put back a copy"), served(tmp_path):
        pass
    assert (tmp_path / "accounts.json").read_text() == '{"front desk": "plain text"}'


def test_a_changed_password_ends_the_other_logins_of_the_account(site: Served) -> None:
    site.make_account()
    here, elsewhere = site.signed_in(), site.signed_in()
    fields = {"old": PASSWORD, "password": "four other random words", "again": ""}
    assert submit(here, "/settings/password", fields, page="/settings").status_code == 400
    fields["again"] = fields["password"]
    assert submit(here, "/settings/password", fields, page="/settings").status_code == 303
    assert here.get("/live").status_code == 200
    assert elsewhere.get("/live").status_code == 303
    assert login(site, PASSWORD) == 401


def test_pin_guesses_are_slowed_and_ones_own_pin_does_not_reset_the_count(site: Served) -> None:
    person = site.office.add_person("Ada", author=LOGIN)
    site.office.set_pin(person.id, "4711", author=LOGIN)
    right = {"number": "1", "pin": "4711", "action": "arrive"}
    wrong = {**right, "pin": "0815"}
    tries = (wrong, wrong, right, wrong, wrong, wrong, wrong, right)
    codes = [submit(site.browser(), "/pin", fields).status_code for fields in tries]
    assert codes == [401, 401, 200, 401, 401, 401, 429, 429]


def test_pages_ask_for_a_login_in_the_language_of_the_browser(site: Served) -> None:
    site.make_account()
    page = site.browser().get("/login", headers={**HTML, "accept-language": "de-AT,en;q=0.5"})
    assert '<html lang="de">' in page.text
