"""The values of the office: people, visits, tables, settings, how it is doing.

Times that end in ``_utc`` are aware datetimes in UTC; pages show them in ``Settings.zone``. A
person is ``person_id`` everywhere but in :class:`Person`: names are kept in one table, so that they
can be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import Enum
from zoneinfo import ZoneInfo

from edgeface.camera import CameraState
from edgeface.gallery import Consent
from examples.attendance.checks import check_settings

__all__ = [
    "CameraStatus",
    "ChangeKind",
    "Correction",
    "CorrectionAction",
    "DayRow",
    "DayTable",
    "EnrolmentProgress",
    "ExportRow",
    "Forgotten",
    "Health",
    "LiveEvent",
    "LiveFrame",
    "Method",
    "MonthRow",
    "MonthTable",
    "NameDisplay",
    "Person",
    "PinAction",
    "PinAnswer",
    "PinOutcome",
    "Present",
    "Settings",
    "SinkStatus",
    "VisitRow",
]


class Method(str, Enum):
    """How an arrival, a departure or a visit became known."""

    FACE = "face"
    PIN = "pin"
    MANUAL = "manual"
    """Written down by a person: a correction."""


class NameDisplay(str, Enum):
    """What the public display says of a person."""

    FULL = "full"
    FIRST = "first"
    NUMBER = "number"
    """The personal number alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the office is set up with; checked when made.

    ``zone_name`` is an IANA name, ``Europe/Berlin``. A working day begins at ``day_starts_at``,
    local time; a visit belongs to the working day in which it began, so a night shift is one visit
    of one day. Who was not seen for ``absence_s`` has left. Time in which no camera could have seen
    them (a camera that is cut, a restart) is no absence, up to ``blind_s``. A visit begun by PIN
    ends after ``longest_pin_visit_s`` where nobody signs out. Events older than ``retention_days``
    are deleted. ``display_names`` and ``overlay_public`` are for the public display: the live
    picture is not shown there unless ``overlay_public``. ``count_unknown`` counts visitors who are
    not enrolled. ``names_in_sinks`` sends names to CSV, webhook and MQTT; else ids and
    numbers alone.
    """

    zone_name: str = "UTC"
    day_starts_at: time = time(0, 0)
    absence_s: float = 300.0
    blind_s: float = 1800.0
    longest_pin_visit_s: float = 57600.0
    retention_days: int = 730
    display_names: NameDisplay = NameDisplay.FIRST
    overlay_public: bool = False
    count_unknown: bool = True
    names_in_sinks: bool = False
    language: str = "en"
    office_name: str = "Attendance"

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the office."""
        return ZoneInfo(self.zone_name)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may be in. ``number`` is short, for the PIN pad; ``first_name`` for displays.

    ``consent`` is the record made at enrolment of the face, None without one.
    """

    id: str
    number: int
    name: str
    first_name: str
    is_active: bool = True
    has_pin: bool = False
    has_face: bool = False
    created_utc: datetime | None = None
    consent: Consent | None = None


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody who is in now. ``last_seen_utc`` is when a camera saw them last."""

    person_id: str
    visit_id: str
    arrived_utc: datetime
    last_seen_utc: datetime
    camera: str
    method: Method


class CorrectionAction(str, Enum):
    """What a correction does to a visit."""

    ADD = "add"
    MOVE = "move"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Correction:
    """A change that a person made to a visit, kept beside what it changes.

    Times are those set by it; None where it left a time as it was.
    """

    event_id: str
    visit_id: str
    action: CorrectionAction
    author: str
    reason: str
    made_utc: datetime
    arrived_utc: datetime | None = None
    departed_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class VisitRow:
    """One stay, corrections applied; ``departed_utc`` is None while the person is in.

    ``camera`` saw the arrival, "" without one. ``is_removed`` is set for a visit that a correction
    took away; such rows are given only where asked for.
    """

    visit_id: str
    person_id: str
    arrived_utc: datetime
    departed_utc: datetime | None
    camera: str
    method: Method
    corrections: tuple[Correction, ...] = ()
    is_removed: bool = False

    def length_s(self, now_utc: datetime) -> float:
        """Return how long the stay was, or has been until ``now_utc``."""
        return max(0.0, ((self.departed_utc or now_utc) - self.arrived_utc).total_seconds())


@dataclass(frozen=True, slots=True)
class DayRow:
    """One person's working day. ``last_departed_utc`` is None while they are in."""

    person_id: str
    visits: tuple[VisitRow, ...]
    first_arrived_utc: datetime
    last_departed_utc: datetime | None
    total_s: float
    is_in: bool


@dataclass(frozen=True, slots=True)
class DayTable:
    """A working day: rows in order of arrival. ``unknown_visitors`` is None when not counted.

    The day runs from ``starts_utc`` to ``ends_utc``: 23, 24 or 25 hours.
    """

    day: date
    starts_utc: datetime
    ends_utc: datetime
    rows: tuple[DayRow, ...]
    unknown_visitors: int | None


@dataclass(frozen=True, slots=True)
class MonthRow:
    """One person's month: seconds by day of the month; days without a visit are left out."""

    person_id: str
    seconds_by_day: Mapping[int, float]
    total_s: float
    days_present: int


@dataclass(frozen=True, slots=True)
class MonthTable:
    """A month of working days; ``days`` is how many it has. Rows are in order of number."""

    year: int
    month: int
    days: int
    rows: tuple[MonthRow, ...]


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One visit for CSV and XLSX, as local times with their offset to UTC (ISO 8601)."""

    day: str
    number: int
    name: str
    arrived: str
    departed: str
    hours: float
    method: str
    camera: str
    corrections: int
    person_id: str
    visit_id: str


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How a camera is doing. ``conditions`` are words of the SDK, such as ``frozen``.

    ``error`` holds no credentials. ``compared_fps`` is how many frames a second are searched.
    """

    name: str
    state: CameraState
    is_usable: bool
    fps: float
    compared_fps: float
    age_s: float | None
    reconnects: int
    conditions: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """The newest picture of a camera with the overlay drawn on it: JPEG, held in memory only."""

    camera: str
    jpeg: bytes
    number: int


class ChangeKind(str, Enum):
    """What a :class:`LiveEvent` tells."""

    ARRIVED = "arrived"
    DEPARTED = "departed"
    CORRECTED = "corrected"
    UNKNOWN = "unknown"
    """One more visitor who is not enrolled; the event has no person."""
    PEOPLE = "people"
    """Somebody was added, changed or forgotten."""
    CAMERA = "camera"
    SETTINGS = "settings"
    CLOSED = "closed"
    """The office shuts down; no event follows."""


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """Something that pages want to know at once; ``id`` never repeats."""

    id: str
    kind: ChangeKind
    at_utc: datetime
    person_id: str | None = None
    visit_id: str | None = None
    camera: str = ""
    method: Method | None = None


@dataclass(frozen=True, slots=True)
class EnrolmentProgress:
    """What came of one picture: the coach's sentence, and how many of the poses are taken.

    ``pose`` is the pose this picture was taken for ("front", "left", "right"), None if it was not.
    """

    advice: str
    taken: int
    wanted: int
    pose: str | None
    is_done: bool


class PinAction(str, Enum):
    """What a person does at the PIN pad."""

    ARRIVE = "arrive"
    DEPART = "depart"


class PinOutcome(str, Enum):
    """What came of an entry at the PIN pad."""

    DONE = "done"
    ALREADY = "already"
    """They were in (or out) already; nothing was recorded."""
    WRONG = "wrong"
    """Wrong number or PIN; which of the two is not said."""
    WAIT = "wait"
    """Too many wrong entries."""


@dataclass(frozen=True, slots=True)
class PinAnswer:
    """What came of it; ``person_id`` is set for DONE and ALREADY, ``wait_s`` for WAIT."""

    outcome: PinOutcome
    person_id: str | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink of events: how many wait to be delivered, and why the last try failed."""

    name: str
    waiting: int
    delivered: int
    failures: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether attendance is being taken, for ``/healthz`` and ``/metrics``.

    ``is_ok`` is False when the watcher stands still, every camera is unusable, or the disk refuses
    events; ``problems`` says so in sentences without names. ``figures`` are numbers by a name that
    Prometheus accepts, such as ``frames_searched_total``.
    """

    is_ok: bool
    problems: tuple[str, ...]
    cameras: tuple[CameraStatus, ...]
    sinks: tuple[SinkStatus, ...]
    present: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Proof that a person was forgotten; it holds no name.

    ``gallery_receipt`` is the SDK's receipt, None for somebody without a face there. ``searched``
    are the files that were read afterwards and hold no byte of the name.
    """

    person_id: str
    at_utc: datetime
    events_deleted: int
    texts_redacted: int
    searched: tuple[str, ...]
    gallery_receipt: Mapping[str, object] | None = None
