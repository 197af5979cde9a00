"""People: the list, one person's visits, corrections, PIN, export, forgetting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from examples.attendance.interface import AttendanceError, Office, Person
from examples.attendance.web.charts import Bar, bar_chart
from examples.attendance.web.forms import Form, read_form
from examples.attendance.web.presenting import (
    input_time,
    month_of,
    now_utc,
    person_card,
    person_or_none,
    utc_of,
    visit_view,
)
from examples.attendance.web.views import author_of, language_of, redirect, render, site_of

__all__ = ["router"]

router = APIRouter()
CheckedForm = Annotated[Form, Depends(read_form)]
_CHART_DAYS = 14


@router.get("/people")
def people(request: Request) -> HTMLResponse:
    """Return the list of people."""
    office = site_of(request).office
    inside = {one.person_id for one in office.present()}
    everybody = [person_card(person) for person in office.people(with_inactive=True)]
    return render(request, "people.html", people=everybody, inside=inside)


@router.post("/people/new")
def add(request: Request, form: CheckedForm) -> Response:
    """Add somebody who comes by PIN, or whose face is enrolled later."""
    person = site_of(request).office.add_person(
        form.text("name"), first_name=form.text("first_name"), author=author_of(request)
    )
    return redirect(f"/people/{person.id}?note=added")


@router.get("/people/{person_id}")
def person(request: Request, person_id: str, month: str = "") -> HTMLResponse:
    """Return what is known of one person, and the forms to change it."""
    return _person_page(request, _found(request, person_id), month=month)


@router.post("/people/{person_id}/details")
def change(request: Request, person_id: str, form: CheckedForm) -> Response:
    """Change the name, or whether the person is active."""
    _found(request, person_id)
    site_of(request).office.change_person(
        person_id,
        name=form.text("name"),
        first_name=form.text("first_name"),
        is_active=form.is_checked("is_active"),
        author=author_of(request),
    )
    return redirect(f"/people/{person_id}?note=saved")


@router.post("/people/{person_id}/pin")
def set_pin(request: Request, person_id: str, form: CheckedForm) -> Response:
    """Set the PIN, or take it away when the field is empty."""
    _found(request, person_id)
    pin = form.text("pin", most=32)
    site_of(request).office.set_pin(person_id, pin or None, author=author_of(request))
    return redirect(f"/people/{person_id}?note=pin_set")


@router.post("/people/{person_id}/visits/new")
def add_visit(request: Request, person_id: str, form: CheckedForm) -> Response:
    """Add a visit that was missed."""
    known, office = _found(request, person_id), site_of(request).office
    zone = office.settings().zone
    try:
        office.add_visit(
            person_id,
            utc_of(form.text("arrived"), zone),
            utc_of(form.text("departed"), zone),
            author=author_of(request),
            reason=form.text("reason", most=500),
        )
    except AttendanceError as exc:
        return _person_page(request, known, month=form.text("arrived")[:7], problem=str(exc))
    return redirect(f"/people/{person_id}?note=corrected&month={form.text('arrived')[:7]}")


@router.post("/people/{person_id}/visits/{visit_id}")
def correct(request: Request, person_id: str, visit_id: str, form: CheckedForm) -> Response:
    """Move or remove a visit."""
    known, office = _found(request, person_id), site_of(request).office
    try:
        _correct(office, known, visit_id, form, author=author_of(request))
    except AttendanceError as exc:
        return _person_page(request, known, month=form.text("month"), problem=str(exc))
    return redirect(f"/people/{person_id}?note=corrected&month={form.text('month')[:7]}")


@router.get("/people/{person_id}/export.json")
def export(request: Request, person_id: str) -> Response:
    """Return everything that is kept about a person as a file."""
    known = _found(request, person_id)
    content = site_of(request).office.export_person(person_id)
    return Response(
        json.dumps(content, ensure_ascii=False, indent=2, default=_as_json),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="person-{known.number}.json"'},
    )


@router.post("/people/{person_id}/face/remove")
def remove_face(request: Request, person_id: str, _form: CheckedForm) -> Response:
    """Delete the face; the person stays listed."""
    _found(request, person_id)
    site_of(request).office.remove_face(person_id, author=author_of(request))
    return redirect(f"/people/{person_id}?note=face_removed")


@router.get("/people/{person_id}/forget")
def forget_page(request: Request, person_id: str) -> HTMLResponse:
    """Ask whether the person is to be forgotten."""
    known = _found(request, person_id)
    return render(request, "forget.html", card=person_card(known), problem="")


@router.post("/people/{person_id}/forget")
def forget(request: Request, person_id: str, form: CheckedForm) -> Response:
    """Forget a person for good, once the name was typed."""
    known = _found(request, person_id)
    if form.text("name") != known.name:
        card = person_card(known)
        return render(request, "forget.html", status=400, card=card, problem="forget.differs")
    done = site_of(request).office.forget_person(person_id, author=author_of(request))
    receipt = json.dumps(asdict(done), indent=2, default=_as_json)
    return render(request, "forgotten.html", receipt=receipt, done=done)


def _correct(office: Office, person: Person, visit_id: str, form: Form, *, author: str) -> None:
    zone, reason = office.settings().zone, form.text("reason", most=500)
    visit = office.visit(visit_id)
    if visit.person_id != person.id:
        raise AttendanceError("this visit is somebody else's")
    if form.text("action") == "remove":
        office.remove_visit(visit_id, author=author, reason=reason)
        return
    arrived, departed = form.text("arrived"), form.text("departed")
    # What was not changed keeps its seconds, and the hour it has where the clocks were put back.
    keeps_arrival = arrived == input_time(visit.arrived_utc, zone)
    keeps_departure = departed in ("", input_time(visit.departed_utc, zone))
    office.move_visit(
        visit_id,
        arrived_utc=None if keeps_arrival else utc_of(arrived, zone),
        departed_utc=None if keeps_departure else utc_of(departed, zone),
        author=author,
        reason=reason,
    )


def _found(request: Request, person_id: str) -> Person:
    known = person_or_none(site_of(request).office, person_id)
    if known is None:
        raise HTTPException(404, "there is no such person")
    return known


def _person_page(
    request: Request, person: Person, *, month: str, problem: str = ""
) -> HTMLResponse:
    office = site_of(request).office
    zone, now, today = office.settings().zone, now_utc(), office.today()
    first = month_of(month, today)
    after = (first + timedelta(days=32)).replace(day=1)
    rows = office.visits(first, after - timedelta(days=1), person_id=person.id, with_removed=True)
    views = [visit_view(row, zone, now) for row in reversed(rows)]
    is_in = any(one.person_id == person.id for one in office.present())
    return render(
        request,
        "person.html",
        status=400 if problem else 200,
        person=person,
        card=person_card(person),
        is_in=is_in,
        visits=views,
        input_time=lambda moment: input_time(moment, zone),
        local=lambda moment: moment.astimezone(zone),
        month=first,
        before=(first - timedelta(days=1)).replace(day=1),
        after=after if after <= today else None,
        total_s=sum(view.seconds for view in views if not view.row.is_removed),
        chart=_chart(request, office, person, today),
        problem=problem,
    )


def _chart(request: Request, office: Office, person: Person, today: date) -> object:
    """Return the hours of the last two weeks."""
    messages = language_of(request)
    days = [today - timedelta(days=back) for back in reversed(range(_CHART_DAYS))]
    months = {
        (year, month): {row.person_id: row for row in office.month(year, month).rows}
        for year, month in {(day.year, day.month) for day in days}
    }
    hours = {}
    for day in days:
        row = months[day.year, day.month].get(person.id)
        hours[day] = row.seconds_by_day.get(day.day, 0.0) / 3600 if row else 0.0
    if not any(hours.values()):
        return ""
    bars = [
        Bar(
            messages.short_day(day),
            value,
            f"{messages.day(day)}: {messages.hours(value)} h",
            is_marked=day == today,
        )
        for day, value in hours.items()
    ]
    return bar_chart(bars, title=messages.text("person.chart"), unit=" h")


def _as_json(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)
