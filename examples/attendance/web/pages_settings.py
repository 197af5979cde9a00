"""The settings of the office, the logins, and how everything is doing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import time
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from edgeface.errors import InvalidInputError
from examples.attendance.interface import AttendanceError, NameDisplay, Settings
from examples.attendance.web.forms import Form, read_form
from examples.attendance.web.guard import session_cookie_name
from examples.attendance.web.limits import client_key
from examples.attendance.web.settings import LANGUAGES
from examples.attendance.web.views import author_of, redirect, render, site_of

__all__ = ["router"]

router = APIRouter()
CheckedForm = Annotated[Form, Depends(read_form)]


@router.get("/settings")
def settings_page(request: Request) -> HTMLResponse:
    """Return the settings."""
    return _page(request)


@router.post("/settings")
def change(request: Request, form: CheckedForm) -> Response:
    """Replace the settings."""
    office = site_of(request).office
    try:
        office.change_settings(_changed(office.settings(), form), author=author_of(request))
    except AttendanceError as exc:
        return _page(request, problem=str(exc))
    return redirect("/settings?note=saved")


@router.post("/settings/password")
async def change_password(request: Request, form: CheckedForm) -> Response:
    """Change one's own password; every other login of the account ends."""
    site, account = site_of(request), author_of(request)
    key = f"account:{account.casefold()}"
    client = client_key(request.client.host if request.client else "")
    if site.limiter.begin(key, f"login:{client}") > 0.0:
        return _page(request, account_problem="login.later", status=429)
    if not await asyncio.to_thread(site.accounts.is_right, account, form.secret("old")):
        return _page(request, account_problem="password.old_wrong", status=401)
    site.limiter.forget(key)
    site.limiter.succeed(f"login:{client}")
    if form.secret("password") != form.secret("again"):
        return _page(request, account_problem="password.differs")
    try:
        await asyncio.to_thread(site.accounts.change_password, account, form.secret("password"))
    except InvalidInputError:
        return _page(request, account_problem="password.weak")
    site.sessions.end_all_of(account)
    answer = redirect("/settings?note=saved")
    answer.set_cookie(
        session_cookie_name(site.settings),
        site.sessions.begin(account),
        secure=site.settings.is_https,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/settings/logins")
def add_login(request: Request, form: CheckedForm) -> Response:
    """Make a login for somebody else."""
    try:
        site_of(request).accounts.add(form.text("name"), form.secret("password"))
    except InvalidInputError:
        return _page(request, account_problem="password.weak")
    return redirect("/settings?note=saved")


@router.post("/settings/logins/remove")
def remove_login(request: Request, form: CheckedForm) -> Response:
    """Remove a login and end its sessions."""
    site, name = site_of(request), form.text("name")
    try:
        site.accounts.remove(name)
    except InvalidInputError:
        return _page(request, account_problem="logins.last")
    site.sessions.end_all_of(name)
    return redirect("/settings?note=saved")


def _page(
    request: Request, *, problem: str = "", account_problem: str = "", status: int = 0
) -> HTMLResponse:
    site = site_of(request)
    return render(
        request,
        "settings.html",
        status=status or (400 if problem or account_problem else 200),
        zones=_zones(),
        displays=[display.value for display in NameDisplay],
        logins=site.accounts.names,
        health=site.office.health(),
        problem=problem,
        account_problem=account_problem,
    )


@cache
def _zones() -> tuple[str, ...]:
    return tuple(sorted(name for name in available_timezones() if "/" in name or name == "UTC"))


def _changed(now: Settings, form: Form) -> Settings:
    language = form.text("language")
    display = form.text("display_names")
    return replace(
        now,
        office_name=form.text("office_name"),
        zone_name=form.text("zone_name"),
        day_starts_at=_time(form.text("day_starts_at")),
        absence_s=60.0 * _number(form.text("absence_min")),
        blind_s=60.0 * _number(form.text("blind_min")),
        longest_pin_visit_s=3600.0 * _number(form.text("longest_pin_h")),
        retention_days=int(_number(form.text("retention_days"))),
        display_names=NameDisplay(display) if display in set(NameDisplay) else now.display_names,
        overlay_public=form.is_checked("overlay_public"),
        count_unknown=form.is_checked("count_unknown"),
        names_in_sinks=form.is_checked("names_in_sinks"),
        language=language if language in LANGUAGES else now.language,
    )


def _number(text: str) -> float:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AttendanceError("a number is written in digits, such as 5 or 2.5")
    return number


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text).replace(tzinfo=None)
    except ValueError as exc:
        raise AttendanceError("a time of day is written like 04:00") from exc
