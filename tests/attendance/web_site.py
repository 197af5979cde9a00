"""The pages over an office in memory, and a browser that is signed in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from examples.attendance.interface import Person, VisitRow
from examples.attendance.web import accounts, pages_public
from examples.attendance.web.app import create_app
from examples.attendance.web.settings import WebSettings
from examples.attendance.web.views import Site
from tests.attendance.memory_office import MemoryOffice

LOGIN, PASSWORD = "front desk", "correct horse battery"
ADDRESS = "http://127.0.0.1:8765"
HTML = {"accept": "text/html"}


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Browser:
    """Asks an application without a network, one thing at a time, and keeps its cookies."""

    def __init__(self, app: FastAPI, client: str) -> None:
        self._app, self._client = app, client
        self.cookies = httpx.Cookies()

    def get(self, address: str, **options: Any) -> httpx.Response:
        """Return the answer to a GET; redirects are not followed."""
        return self.ask("GET", address, **options)

    def post(self, address: str, **options: Any) -> httpx.Response:
        """Return the answer to a POST."""
        return self.ask("POST", address, **options)

    def ask(self, method: str, address: str, **options: Any) -> httpx.Response:
        """Return the answer to a request."""
        return asyncio.run(self._ask(method, address, options))

    async def _ask(self, method: str, address: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app, client=(self._client, 50000))
        async with httpx.AsyncClient(
            transport=transport, base_url=ADDRESS, headers=HTML, cookies=self.cookies
        ) as client:
            answer = await client.request(method, address, **options)
            self.cookies = client.cookies
            return answer


@dataclass(frozen=True)
class Served:
    """An application over an office in memory."""

    app: FastAPI
    office: MemoryOffice
    site: Site
    clock: Clock

    def browser(self, *, client: str = "127.0.0.1") -> Browser:
        """Return a browser without cookies."""
        return Browser(self.app, client)

    def signed_in(self, login: str = LOGIN) -> Browser:
        """Return a browser that is signed in."""
        browser = self.browser()
        browser.cookies.set("session", self.site.sessions.begin(login), domain="127.0.0.1")
        return browser

    def make_account(self) -> None:
        """Make the first account."""
        token = self.site.accounts.set_up_token
        assert token is not None
        assert self.site.accounts.set_up(token, LOGIN, PASSWORD)


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Served]:
    """Yield the pages over a new office with its data in ``folder``; passwords hash fast."""
    from argon2 import PasswordHasher

    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_password_hasher", lambda: quick)
        patch.setattr(accounts, "_NOBODY", quick.hash("nobody"))
        patch.setattr(pages_public, "_WRONG_DELAY_S", (0.0, 0.0))
        office, clock = MemoryOffice(folder), Clock()
        app = create_app(office, WebSettings(**settings), clock=clock)
        yield Served(app, office, app.state.site, clock)
        app.state.site.hub.join()


def csrf_of(page: httpx.Response) -> str:
    """Return the token in the forms of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found.group(1)


def submit(
    browser: Browser, address: str, fields: dict[str, str], *, page: str | None = None
) -> httpx.Response:
    """Send a form as the browser would, with the token of ``page``, by default of ``address``."""
    token = csrf_of(browser.get(page or address))
    return browser.post(address, data={**fields, "csrf": token})


def add(site: Served, name: str = "Ada Lovelace") -> Person:
    """Add a person."""
    return site.office.add_person(name, author=LOGIN)


def noon_today(site: Served) -> datetime:
    """Return noon of today where the office is."""
    office = site.office
    return datetime.combine(office.today(), time(12), office.settings().zone).astimezone(
        timezone.utc
    )


def visit(site: Served, person: Person, *, hours: float = 2.0, days_ago: int = 1) -> VisitRow:
    """Record a visit that began at noon."""
    arrived = noon_today(site) - timedelta(days=days_ago)
    return site.office.come(person.id, arrived, arrived + timedelta(hours=hours))
