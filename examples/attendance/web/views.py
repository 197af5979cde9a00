"""From values to pages: the templates, and what every page of them knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from examples.attendance.interface import Office
from examples.attendance.web.accounts import AccountBook
from examples.attendance.web.forms import csrf_token
from examples.attendance.web.hub import LiveHub
from examples.attendance.web.language import Messages, choose_language, messages_of
from examples.attendance.web.limits import AttemptLimiter
from examples.attendance.web.sessions import AnonymousTokens, Session, SessionStore
from examples.attendance.web.settings import LANGUAGES, WebSettings

__all__ = ["LANGUAGE_COOKIE", "Site", "author_of", "language_of", "redirect", "render", "site_of"]

_FOLDER = Path(__file__).parent / "templates"
LANGUAGE_COOKIE = "language"
# Notes that a page may show after a change; anything else in the address is passed over.
_NOTES = frozenset(
    {
        *("saved", "corrected", "enrolled", "signed_out"),
        *("added", "pin_set", "face_removed"),
    }
)


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages share."""

    office: Office
    settings: WebSettings
    accounts: AccountBook
    sessions: SessionStore
    tokens: AnonymousTokens
    limiter: AttemptLimiter
    hub: LiveHub
    templates: Environment


def template_environment() -> Environment:
    """Return the templates; every value is escaped, and a missing one is an error."""
    templates = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["ui"] = templates.get_template("macros.html").module
    return templates


def site_of(request: Request) -> Site:
    """Return what the pages share."""
    site: Site = request.app.state.site
    return site


def author_of(request: Request) -> str:
    """Return the account that is signed in."""
    session: Session = request.state.session
    return session.account


def language_of(request: Request, *, is_display: bool = False) -> Messages:
    """Return the texts for whoever asks; the display on the wall goes by the setting."""
    chosen = choose_language(
        request.cookies.get(LANGUAGE_COOKIE),
        "" if is_display else request.headers.get("accept-language", ""),
        site_of(request).office.settings().language,
    )
    return messages_of(chosen)


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    is_display: bool = False,
    **values: Any,
) -> HTMLResponse:
    """Return the page made of ``template``."""
    site = site_of(request)
    messages = language_of(request, is_display=is_display)
    note = request.query_params.get("note", "")
    content = site.templates.get_template(template).render(
        t=messages.text,
        messages=messages,
        languages=LANGUAGES,
        session=request.state.session,
        csrf=csrf_token(request),
        office=site.office.settings(),
        path=request.url.path,
        note=note if note in _NOTES else "",
        **values,
    )
    return HTMLResponse(content, status_code=status)


def redirect(address: str) -> RedirectResponse:
    """Return the answer to a POST: show ``address``, a path of this site, next."""
    return RedirectResponse(address, status_code=303)
