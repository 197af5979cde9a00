"""Puts the pages together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from edgeface.errors import EdgefaceError
from examples.attendance.interface import AttendanceError, Office, Person
from examples.attendance.web import (
    pages_enrol,
    pages_live,
    pages_month,
    pages_operator,
    pages_people,
    pages_public,
    pages_settings,
)
from examples.attendance.web.accounts import AccountBook
from examples.attendance.web.guard import Guard
from examples.attendance.web.hub import LiveHub
from examples.attendance.web.limits import AttemptLimiter
from examples.attendance.web.sessions import AnonymousTokens, SessionStore
from examples.attendance.web.settings import WebSettings
from examples.attendance.web.views import Site, render, template_environment

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"
_PAGES = (
    pages_public,
    pages_live,
    pages_people,
    pages_enrol,
    pages_month,
    pages_settings,
    pages_operator,
)


def create_app(
    office: Office, settings: WebSettings, *, clock: Callable[[], float] = time.monotonic
) -> FastAPI:
    """Return the application that serves the pages of ``office``.

    While there is no account, ``app.state.site.accounts.set_up_token`` is the token that makes
    the first one at ``/set-up``; whoever starts the server prints it. ``clock`` gives monotonic
    seconds for logins and waits.

    Raises:
        InvalidInputError: The file of accounts is damaged.
    """
    site = Site(
        office=office,
        settings=settings,
        accounts=AccountBook(office.data_dir),
        sessions=SessionStore(settings.session_idle_s, settings.session_longest_s, clock=clock),
        tokens=AnonymousTokens(),
        limiter=AttemptLimiter(clock=clock),
        hub=LiveHub(office),
        templates=template_environment(),
    )
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.tokens = site.tokens
    for page in _PAGES:
        app.include_router(page.router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(EdgefaceError, _refused)
    app.add_middleware(Guard, settings=settings, sessions=site.sessions, tokens=site.tokens)
    office.on_forget(_logins_hold_no_name(site.accounts))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub: LiveHub = app.state.site.hub
    hub.start()
    try:
        yield
    finally:
        hub.join()


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error_page(request, status, str(getattr(error, "detail", "")))


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what the office or the SDK refuses; such messages are made to be shown."""
    return _error_page(request, 400, str(error))


def _error_page(request: Request, status: int, detail: str) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": detail}, status_code=status)
    page: HTMLResponse = render(request, "error.html", status=status, code=status, detail=detail)
    return page


def _logins_hold_no_name(accounts: AccountBook) -> Callable[[Person], None]:
    """Return the check that nobody is forgotten whose name a login still has."""

    def check(person: Person) -> None:
        if any(person.name.casefold() in name.casefold() for name in accounts.names):
            raise AttendanceError(
                "a login has the name of this person; remove the login in the settings first"
            )

    return check
