"""Now and today: the live page, the day, the roll call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from examples.attendance.interface import CameraStatus, DayTable, Method, Office
from examples.attendance.web.charts import Span, day_chart
from examples.attendance.web.presenting import (
    PersonCard,
    VisitView,
    cards,
    day_of,
    now_utc,
    visit_view,
)
from examples.attendance.web.streams import event_stream, picture_stream
from examples.attendance.web.views import language_of, render, site_of

__all__ = ["router"]

router = APIRouter()
_FEED_LENGTH = 30


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """An arrival or a departure of today."""

    card: PersonCard
    at: datetime
    is_arrival: bool
    method: Method
    camera: str


@dataclass(frozen=True, slots=True)
class PresentRow:
    """Somebody who is in."""

    card: PersonCard
    arrived: datetime
    last_seen: datetime
    seconds: float
    camera: str
    method: Method


@dataclass(frozen=True, slots=True)
class DayLine:
    """One person's day."""

    card: PersonCard
    visits: tuple[VisitView, ...]
    first: datetime
    last: datetime | None
    seconds: float
    is_in: bool

    @property
    def is_corrected(self) -> bool:
        """Whether a correction was made."""
        return any(view.row.corrections for view in self.visits)


@router.get("/live")
def live(request: Request, camera: str = "") -> HTMLResponse:
    """Return the picture, who is in and what happened, kept up to date by the browser."""
    site = site_of(request)
    cameras = site.office.cameras()
    names = [status.name for status in cameras]
    chosen = camera if camera in names else (names[0] if names else "")
    return render(request, "live.html", chosen=chosen, **_live_values(site.office))


@router.get("/live/now")
def live_now(request: Request) -> HTMLResponse:
    """Return the part of the live page that changes when somebody comes or goes."""
    return render(request, "part_live.html", **_live_values(site_of(request).office))


@router.get("/live/feed")
def live_feed(request: Request) -> HTMLResponse:
    """Return the arrivals and departures of today."""
    office = site_of(request).office
    return render(request, "part_feed.html", feed=_feed(office, office.day(office.today())))


@router.get("/live/cameras")
def live_cameras(request: Request) -> HTMLResponse:
    """Return how the cameras are doing."""
    return render(request, "part_cameras.html", cameras=site_of(request).office.cameras())


@router.get("/live/events")
def live_events(request: Request) -> StreamingResponse:
    """Return what happens as server-sent events."""
    return event_stream(request, is_public=False)


@router.get("/live/picture")
def live_picture(request: Request, camera: str = "") -> StreamingResponse:
    """Return the pictures of a camera as Motion JPEG."""
    return picture_stream(request, camera, is_public=False)


@router.get("/today")
def today(request: Request, day: str = "") -> HTMLResponse:
    """Return the table of a day, and who was there when."""
    office = site_of(request).office
    current = office.today()
    shown = min(day_of(day, current), current)
    table = office.day(shown)
    lines = _day_lines(office, table)
    return render(
        request,
        "today.html",
        day=shown,
        is_today=shown == current,
        before=shown - timedelta(days=1),
        after=shown + timedelta(days=1),
        lines=lines,
        unknown_visitors=table.unknown_visitors,
        total_s=sum(line.seconds for line in lines),
        chart=_chart(request, table, lines, is_today=shown == current),
    )


@router.get("/roll-call")
def roll_call(request: Request) -> HTMLResponse:
    """Return who is in and who is not, to be ticked off or printed."""
    office = site_of(request).office
    rows = _present_rows(office)
    inside = {row.card.id for row in rows}
    outside = [card for card in cards(office.people()).values() if card.id not in inside]
    now = now_utc().astimezone(office.settings().zone)
    return render(request, "roll_call.html", rows=rows, outside=outside, now=now)


def _live_values(office: Office) -> dict[str, Any]:
    cameras: tuple[CameraStatus, ...] = office.cameras()
    day = office.today()
    table = office.day(day)
    return {
        "cameras": cameras,
        "present": _present_rows(office),
        "feed": _feed(office, table),
        "unknown_visitors": table.unknown_visitors,
        "arrivals": sum(len(row.visits) for row in table.rows),
    }


def _present_rows(office: Office) -> list[PresentRow]:
    zone, now, known = office.settings().zone, now_utc(), cards(office.people())
    return [
        PresentRow(
            known[one.person_id],
            one.arrived_utc.astimezone(zone),
            one.last_seen_utc.astimezone(zone),
            max(0.0, (now - one.arrived_utc).total_seconds()),
            one.camera,
            one.method,
        )
        for one in office.present()
        if one.person_id in known
    ]


def _feed(office: Office, table: DayTable) -> list[FeedEntry]:
    zone, known = office.settings().zone, cards(office.people(with_inactive=True))
    entries = []
    for row in table.rows:
        card = known.get(row.person_id)
        if card is None:
            continue
        for visit in row.visits:
            arrived = visit.arrived_utc.astimezone(zone)
            entries.append(FeedEntry(card, arrived, True, visit.method, visit.camera))
            if visit.departed_utc is not None:
                departed = visit.departed_utc.astimezone(zone)
                entries.append(FeedEntry(card, departed, False, visit.method, ""))
    return sorted(entries, key=lambda entry: entry.at, reverse=True)[:_FEED_LENGTH]


def _day_lines(office: Office, table: DayTable) -> list[DayLine]:
    zone, now, known = office.settings().zone, now_utc(), cards(office.people(with_inactive=True))
    return [
        DayLine(
            known[row.person_id],
            tuple(visit_view(visit, zone, now) for visit in row.visits),
            row.first_arrived_utc.astimezone(zone),
            row.last_departed_utc.astimezone(zone) if row.last_departed_utc else None,
            row.total_s,
            row.is_in,
        )
        for row in table.rows
        if row.person_id in known
    ]


def _chart(request: Request, table: DayTable, lines: list[DayLine], *, is_today: bool) -> object:
    messages = language_of(request)
    now = now_utc()

    def hour(moment: datetime) -> float:
        # Hours since the day began, set to its first hour on the clock; a day of a change of the
        # clocks is an hour shorter or longer.
        begin = table.starts_utc.astimezone(moment.tzinfo)
        return begin.hour + begin.minute / 60 + (moment - table.starts_utc).total_seconds() / 3600

    def spans(line: DayLine) -> list[Span]:
        found = []
        for view in line.visits:
            end = view.departed or now.astimezone(view.arrived.tzinfo)
            until = messages.clock(view.departed) if view.departed else messages.text("visit.now")
            title = f"{line.card.name}: {messages.clock(view.arrived)} - {until}"
            found.append(Span(hour(view.arrived), hour(end), title, view.departed is None))
        return found

    rows = [(_short(line.card.name), spans(line)) for line in lines]
    title = messages.text("today.chart", day=messages.day(table.day))
    zone = site_of(request).office.settings().zone
    return day_chart(
        rows, title=title, now=hour(now.astimezone(zone)) if is_today else float("nan")
    )


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
