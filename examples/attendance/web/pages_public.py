"""Pages without a login: the display on the wall, the PIN pad, signing in."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from edgeface.errors import InvalidInputError
from examples.attendance.interface import PinAction, PinAnswer, PinOutcome
from examples.attendance.web.forms import Form, read_form
from examples.attendance.web.guard import session_cookie_name
from examples.attendance.web.limits import client_key
from examples.attendance.web.presenting import (
    PersonCard,
    now_utc,
    person_or_none,
    public_card,
)
from examples.attendance.web.settings import LANGUAGES
from examples.attendance.web.streams import event_stream, picture_stream
from examples.attendance.web.views import LANGUAGE_COOKIE, redirect, render, site_of

__all__ = ["router"]

router = APIRouter()
_YEAR_S = 31_536_000
# Long enough to make guessing dear, short enough for a slip of the finger.
_WRONG_DELAY_S = (0.4, 0.9)


@router.get("/")
def display(request: Request) -> HTMLResponse:
    """Return who is in, as far as the settings show it to everybody."""
    return render(request, "display.html", is_display=True, **_display_values(request))


@router.get("/display/people")
def display_people(request: Request) -> HTMLResponse:
    """Return the part of the display that changes."""
    return render(request, "part_display.html", is_display=True, **_display_values(request))


@router.get("/display/events")
def display_events(request: Request) -> StreamingResponse:
    """Return a stream that says that something changed, and nothing of what."""
    return event_stream(request, is_public=True)


@router.get("/display/picture")
def display_picture(request: Request) -> StreamingResponse:
    """Return the live picture, where the settings show it to everybody."""
    site = site_of(request)
    if not site.office.settings().overlay_public:
        raise HTTPException(404, "the picture is not public")
    return picture_stream(request, "", is_public=True)


@router.get("/login")
def login_page(request: Request) -> Response:
    """Return the form to sign in."""
    if site_of(request).accounts.set_up_token is not None:
        return redirect("/set-up")
    return render(request, "login.html", name="", problem="")


@router.post("/login")
async def login(request: Request, form: Annotated[Form, Depends(read_form)]) -> Response:
    """Sign in, or say that it was wrong; slower and slower."""
    site = site_of(request)
    name, password = form.text("name"), form.secret("password")
    client, account = f"login:{_client(request)}", f"account:{name.casefold()}"
    wait_s = site.limiter.begin(client, account)
    if wait_s > 0.0:
        return _waiting(request, "login.html", wait_s, name=name)
    if not await asyncio.to_thread(site.accounts.is_right, name, password):
        await _delay()
        return render(request, "login.html", status=401, name=name, problem="login.wrong")
    site.limiter.succeed(client)
    site.limiter.forget(account)
    return _signed_in(request, name)


@router.post("/logout")
def logout(request: Request, _form: Annotated[Form, Depends(read_form)]) -> Response:
    """Sign out."""
    site = site_of(request)
    site.sessions.end(request.state.session_id)
    answer = redirect("/login?note=signed_out")
    answer.delete_cookie(
        session_cookie_name(site.settings),
        secure=site.settings.is_https,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.get("/set-up")
def set_up_page(request: Request) -> Response:
    """Return the form that makes the first account."""
    if site_of(request).accounts.set_up_token is None:
        return redirect("/login")
    return render(request, "set_up.html", name="", problem="")


@router.post("/set-up")
async def set_up(request: Request, form: Annotated[Form, Depends(read_form)]) -> Response:
    """Make the first account with the token that the server printed."""
    site = site_of(request)
    name, password = form.text("name"), form.secret("password")
    client = f"set-up:{_client(request)}"
    wait_s = site.limiter.begin(client)
    if wait_s > 0.0:
        return _waiting(request, "set_up.html", wait_s, name=name)
    if password != form.secret("again"):
        site.limiter.succeed(client)
        return render(request, "set_up.html", status=400, name=name, problem="password.differs")
    try:
        is_made = await asyncio.to_thread(site.accounts.set_up, form.text("token"), name, password)
    except InvalidInputError:
        site.limiter.succeed(client)
        return render(request, "set_up.html", status=400, name=name, problem="password.weak")
    if not is_made:
        await _delay()
        return render(request, "set_up.html", status=401, name=name, problem="set_up.wrong")
    return _signed_in(request, name)


@router.get("/pin")
def pin_page(request: Request) -> HTMLResponse:
    """Return the pad to come and go without a face."""
    return render(request, "pin.html", answer=None, card=None, now=_local_now(request), wait=0)


@router.post("/pin")
async def pin(request: Request, form: Annotated[Form, Depends(read_form)]) -> HTMLResponse:
    """Record an arrival or a departure by personal number and PIN."""
    site = site_of(request)
    if form.text("action") not in {action.value for action in PinAction}:
        raise HTTPException(400, "the action is arrive or depart")
    client = f"pin:{_client(request)}"
    wait_s = site.limiter.begin(client)
    answer = PinAnswer(PinOutcome.WAIT, wait_s=wait_s)
    if wait_s <= 0.0:
        action = PinAction(form.text("action"))
        number, given = form.text("number", most=12), form.text("pin", most=32)
        answer = await asyncio.to_thread(
            site.office.pin_entry, number, given, action, client=client
        )
        if answer.outcome in (PinOutcome.DONE, PinOutcome.ALREADY):
            site.limiter.succeed(client)
        else:
            await _delay()
    person = person_or_none(site.office, answer.person_id)
    return render(
        request,
        "pin.html",
        status={PinOutcome.WRONG: 401, PinOutcome.WAIT: 429}.get(answer.outcome, 200),
        answer=answer,
        card=public_card(person, site.office.settings().display_names) if person else None,
        action=form.text("action"),
        now=_local_now(request),
        wait=round(answer.wait_s) + 1,
    )


@router.post("/language")
def choose(request: Request, form: Annotated[Form, Depends(read_form)]) -> Response:
    """Keep the language that was chosen, and show the page again."""
    back = form.text("back")
    is_inside = back.startswith("/") and not back.startswith("//") and "\\" not in back
    answer = redirect(back if is_inside else "/")
    if form.text("language") in LANGUAGES:
        answer.set_cookie(
            LANGUAGE_COOKIE,
            form.text("language"),
            max_age=_YEAR_S,
            secure=site_of(request).settings.is_https,
            httponly=True,
            samesite="strict",
        )
    return answer


def _display_values(request: Request) -> dict[str, Any]:
    office = site_of(request).office
    settings = office.settings()
    people = {person.id: person for person in office.people()}
    shown: list[PersonCard] = [
        public_card(people[one.person_id], settings.display_names)
        for one in office.present()
        if one.person_id in people
    ]
    return {"people": shown, "enrolled": len(people), "now": _local_now(request)}


def _local_now(request: Request) -> object:
    return now_utc().astimezone(site_of(request).office.settings().zone)


def _client(request: Request) -> str:
    return client_key(request.client.host if request.client else "")


def _signed_in(request: Request, name: str) -> Response:
    """Return the answer that carries a new session; the one before, if any, is over."""
    site = site_of(request)
    site.sessions.end(request.state.session_id)
    answer = redirect("/live")
    answer.set_cookie(
        session_cookie_name(site.settings),
        site.sessions.begin(name),
        secure=site.settings.is_https,
        httponly=True,
        samesite="strict",
    )
    return answer


def _waiting(request: Request, template: str, wait_s: float, *, name: str) -> HTMLResponse:
    page = render(
        request, template, status=429, name=name, problem="login.wait", wait=round(wait_s) + 1
    )
    page.headers["Retry-After"] = str(round(wait_s) + 1)
    return page


async def _delay() -> None:
    low, high = _WRONG_DELAY_S
    await asyncio.sleep(low + (high - low) * secrets.randbelow(1000) / 1000)
