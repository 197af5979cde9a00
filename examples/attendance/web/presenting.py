"""What pages show of people and visits: names, initials, local times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from zoneinfo import ZoneInfo

from examples.attendance.interface import (
    AttendanceError,
    NameDisplay,
    Office,
    Person,
    VisitRow,
)

__all__ = [
    "PersonCard",
    "VisitView",
    "cards",
    "day_of",
    "input_time",
    "month_of",
    "now_utc",
    "person_card",
    "person_or_none",
    "public_card",
    "utc_of",
    "visit_view",
]

_TINTS = 8
_INPUT_FORMAT = "%Y-%m-%dT%H:%M"
_YEARS = range(2000, 2101)


@dataclass(frozen=True, slots=True)
class PersonCard:
    """A person as shown: ``tint`` 0 to 7 colours the circle with the initials."""

    id: str
    name: str
    initials: str
    tint: int
    number: int
    is_active: bool = True
    has_face: bool = False
    has_pin: bool = False


@dataclass(frozen=True, slots=True)
class VisitView:
    """A visit with its times in the office's zone."""

    row: VisitRow
    arrived: datetime
    departed: datetime | None
    seconds: float


def now_utc() -> datetime:
    """Return the time now."""
    return datetime.now(timezone.utc)


def person_card(person: Person) -> PersonCard:
    """Return how a person is shown to those who signed in."""
    return _card(person, person.name)


def public_card(person: Person, display: NameDisplay) -> PersonCard:
    """Return how a person is shown on the public display; it holds no id."""
    name = {
        NameDisplay.FULL: person.name,
        NameDisplay.FIRST: person.first_name,
        NameDisplay.NUMBER: f"#{person.number}",
    }[display]
    card = _card(person, name)
    number = person.number if display is NameDisplay.NUMBER else 0
    return PersonCard("", card.name, card.initials, card.tint, number)


def cards(people: Iterable[Person]) -> dict[str, PersonCard]:
    """Return the cards by id."""
    return {person.id: person_card(person) for person in people}


def visit_view(row: VisitRow, zone: ZoneInfo, now: datetime) -> VisitView:
    """Return a visit in local times."""
    departed = row.departed_utc.astimezone(zone) if row.departed_utc else None
    return VisitView(row, row.arrived_utc.astimezone(zone), departed, row.length_s(now))


def input_time(moment: datetime | None, zone: ZoneInfo) -> str:
    """Return a time as the value of an input of type datetime-local; "" for None."""
    return "" if moment is None else moment.astimezone(zone).strftime(_INPUT_FORMAT)


def utc_of(text: str, zone: ZoneInfo) -> datetime:
    """Return the UTC time of the local ``text``, an hour that comes twice taken the first time.

    Raises:
        AttendanceError: Not a time, or an hour that was left out when the clocks went forward.
    """
    try:
        local = datetime.strptime(text[:16], _INPUT_FORMAT).replace(tzinfo=zone)
    except ValueError as exc:
        raise AttendanceError("a time is written like 2026-03-31T08:30") from exc
    moment = local.astimezone(timezone.utc)
    if moment.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise AttendanceError("this time does not exist: the clocks were put forward over it")
    return moment


def day_of(text: str, otherwise: date) -> date:
    """Return the day written like 2026-03-31, ``otherwise`` for "" or anything else."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return otherwise
    return day if day.year in _YEARS else otherwise


def month_of(text: str, otherwise: date) -> date:
    """Return the first day of the month written like 2026-03."""
    return day_of(f"{text}-01", otherwise.replace(day=1))


def person_or_none(office: Office, person_id: str | None) -> Person | None:
    """Return a person, None when they are not known any more."""
    if person_id is None:
        return None
    try:
        return office.person(person_id)
    except AttendanceError:
        return None


def _card(person: Person, name: str) -> PersonCard:
    return PersonCard(
        person.id,
        name,
        _initials(name),
        person.number % _TINTS,
        person.number,
        person.is_active,
        person.has_face,
        person.has_pin,
    )


def _initials(name: str) -> str:
    words = [word for word in name.replace("#", "").split() if word]
    picked = words[:1] + words[1:][-1:]
    return "".join(word[0] for word in picked).upper() or "?"
