"""Enrolment with the browser's camera: consent first, then pictures, each with the coach's word."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from edgeface.errors import EnrolmentError
from edgeface.gallery import Consent
from examples.attendance.interface import AttendanceError, Person
from examples.attendance.web.forms import Form, read_body, read_form
from examples.attendance.web.language import Messages
from examples.attendance.web.presenting import (
    now_utc,
    person_card,
    person_or_none,
)
from examples.attendance.web.views import author_of, language_of, redirect, render, site_of

__all__ = ["router"]

router = APIRouter()
CheckedForm = Annotated[Form, Depends(read_form)]
_PICTURE_TYPES = ("image/jpeg", "image/png")


@router.get("/enrol")
def enrol(request: Request, person: str = "") -> HTMLResponse:
    """Return the form: who it is, and that they agree."""
    return _first_page(request, person)


@router.post("/enrol")
def begin(request: Request, form: CheckedForm) -> Response:
    """Take down the person and the consent, and go on to the camera."""
    if not form.is_checked("consent"):
        return _first_page(request, form.text("person"), form=form, problem="enrol.no_consent")
    try:
        session = site_of(request).office.start_enrolment()
    except AttendanceError as exc:
        return _first_page(request, form.text("person"), form=form, detail=str(exc))
    try:
        person = _person(request, form)
    except AttendanceError as exc:
        session.close()
        return _first_page(request, form.text("person"), form=form, detail=str(exc))
    return redirect(f"/enrol/camera?person={person.id}&session={session.id}")


@router.get("/enrol/camera")
def camera(request: Request, person: str = "", session: str = "") -> HTMLResponse:
    """Return the page that takes the pictures."""
    office = site_of(request).office
    known = person_or_none(office, person)
    if known is None:
        raise HTTPException(404, "there is no such person")
    office.enrolment(session)
    return render(
        request, "enrol_camera.html", card=person_card(known), enrolment=session, problem=""
    )


@router.post("/enrol/picture")
def picture(
    request: Request, body: Annotated[bytes, Depends(read_body)], session: str = ""
) -> JSONResponse:
    """Look at one picture and return the coach's sentence as JSON."""
    if request.headers.get("content-type", "") not in _PICTURE_TYPES:
        raise HTTPException(415, "a picture is sent as image/jpeg or image/png")
    messages = language_of(request)
    try:
        progress = site_of(request).office.enrolment(session).look(body)
    except AttendanceError as exc:
        return JSONResponse({"error": str(exc)}, status_code=400)
    return JSONResponse(
        {
            "advice": messages.sentence(progress.advice),
            "taken": progress.taken,
            "wanted": progress.wanted,
            "pose": progress.pose,
            "done": progress.is_done,
        }
    )


@router.post("/enrol/finish")
def finish(request: Request, form: CheckedForm) -> Response:
    """Store the face with the record of consent."""
    office, person_id = site_of(request).office, form.text("person")
    known = person_or_none(office, person_id)
    if known is None:
        raise HTTPException(404, "there is no such person")
    session = office.enrolment(form.text("session"))
    try:
        session.finish(person_id, _consent(request))
    except (AttendanceError, EnrolmentError) as exc:
        return render(
            request,
            "enrol_camera.html",
            status=400,
            card=person_card(known),
            enrolment=session.id,
            problem=str(exc),
        )
    session.close()
    return redirect(f"/people/{person_id}?note=enrolled")


@router.post("/enrol/cancel")
def cancel(request: Request, form: CheckedForm) -> Response:
    """Drop the pictures."""
    site_of(request).office.enrolment(form.text("session")).close()
    return redirect("/people")


def consent_version(messages: Messages) -> str:
    """Return what names the text agreed to: its language and the start of its SHA-256."""
    digest = hashlib.sha256(messages.text("enrol.consent").encode()).hexdigest()
    return f"{messages.language} sha256:{digest[:16]}"


def _consent(request: Request) -> Consent:
    messages = language_of(request)
    return Consent(
        how=f"check box on the enrolment page: {messages.text('enrol.consent')}"[:500],
        given_at=now_utc().isoformat(timespec="seconds"),
        text_version=consent_version(messages),
        recorded_by=author_of(request),
    )


def _person(request: Request, form: Form) -> Person:
    office = site_of(request).office
    if form.text("person"):
        return office.person(form.text("person"))
    return office.add_person(
        form.text("name"), first_name=form.text("first_name"), author=author_of(request)
    )


def _first_page(
    request: Request,
    person: str,
    *,
    form: Form | None = None,
    problem: str = "",
    detail: str = "",
) -> HTMLResponse:
    people = [person_card(one) for one in site_of(request).office.people()]
    return render(
        request,
        "enrol.html",
        status=400 if problem or detail else 200,
        people=people,
        chosen=person,
        name=form.text("name") if form else "",
        first_name=form.text("first_name") if form else "",
        problem=problem,
        detail=detail,
    )
