"""What the web pages and the commands may ask of the office: its values, and three Protocols.

Import everything from here; see :mod:`examples.attendance.values` for the values, and
:mod:`examples.attendance.export` for CSV and XLSX of ``Office.export_rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edgeface.gallery import Consent
from examples.attendance.errors import AttendanceError
from examples.attendance.values import (
    CameraStatus,
    ChangeKind,
    Correction,
    CorrectionAction,
    DayRow,
    DayTable,
    EnrolmentProgress,
    ExportRow,
    Forgotten,
    Health,
    LiveEvent,
    LiveFrame,
    Method,
    MonthRow,
    MonthTable,
    NameDisplay,
    Person,
    PinAction,
    PinAnswer,
    PinOutcome,
    Present,
    Settings,
    SinkStatus,
    VisitRow,
)

__all__ = [
    "AttendanceError",
    "CameraStatus",
    "ChangeKind",
    "Correction",
    "CorrectionAction",
    "DayRow",
    "DayTable",
    "EnrolmentProgress",
    "EnrolmentSession",
    "ExportRow",
    "Forgotten",
    "Health",
    "LiveEvent",
    "LiveFrame",
    "Method",
    "MonthRow",
    "MonthTable",
    "NameDisplay",
    "Office",
    "Person",
    "PinAction",
    "PinAnswer",
    "PinOutcome",
    "Present",
    "Settings",
    "SinkStatus",
    "Subscription",
    "VisitRow",
]


class Subscription(Protocol):
    """A queue of events for one listener; a slow one loses the oldest."""

    @property
    def missed(self) -> int:
        """How many events were dropped because nobody took them."""
        ...

    def get(self, timeout_s: float) -> LiveEvent | None:
        """Return the next event, or None after ``timeout_s``."""
        ...

    def close(self) -> None:
        """Leave; may be called twice."""
        ...

    def __enter__(self) -> Subscription: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class EnrolmentSession(Protocol):
    """An enrolment in progress; pictures are in memory only, and dropped at the end.

    Methods may be called from any thread. A session that nobody uses for ten minutes is closed.
    """

    @property
    def id(self) -> str:
        """A random word that names the session."""
        ...

    def look(self, jpeg: bytes) -> EnrolmentProgress:
        """Take a picture (JPEG or PNG, at most 8 MB) and return what to do next.

        Raises:
            AttendanceError: It is no picture, or too large. The session goes on.
        """
        ...

    def finish(self, person_id: str, consent: Consent) -> int:
        """Store the person's face from the pictures held; return how many were stored.

        Raises:
            AttendanceError: No picture is good enough, or an unknown person.
            EnrolmentError: They show different people, or somebody enrolled under another number.
        """
        ...

    def close(self) -> None:
        """Drop everything; may be called twice."""
        ...


class Office(Protocol):
    """Everything the pages may ask or do. Every method may be called from any thread.

    ``author`` is the login of who does it, and is written down. Changes are on the disk when a
    method returns. Wrong use raises :class:`AttendanceError`.
    """

    @property
    def data_dir(self) -> Path:
        """The folder of the office's files, mode 0700; pages keep their logins here."""
        ...

    # settings

    def settings(self) -> Settings:
        """Return the settings now."""
        ...

    def change_settings(self, settings: Settings, *, author: str) -> None:
        """Replace the settings; the rules follow at once."""
        ...

    # people

    def people(self, *, with_inactive: bool = False) -> tuple[Person, ...]:
        """Return everybody, in order of name."""
        ...

    def person(self, person_id: str) -> Person:
        """Return one person."""
        ...

    def add_person(self, name: str, *, first_name: str = "", author: str) -> Person:
        """Add somebody; without ``first_name`` it is the first word of ``name``."""
        ...

    def change_person(
        self, person_id: str, *, name: str, first_name: str, is_active: bool, author: str
    ) -> Person:
        """Change a person; an inactive one is neither recognised nor listed."""
        ...

    def set_pin(self, person_id: str, pin: str | None, *, author: str) -> None:
        """Set a PIN of 4 to 12 digits, or take it away with None."""
        ...

    def start_enrolment(self) -> EnrolmentSession:
        """Return a new enrolment; at most four run at a time."""
        ...

    def enrolment(self, session_id: str) -> EnrolmentSession:
        """Return the enrolment of that id."""
        ...

    def remove_face(self, person_id: str, *, author: str) -> None:
        """Delete the face of a person who stays listed: consent withdrawn."""
        ...

    def export_person(self, person_id: str) -> Mapping[str, object]:
        """Return everything that is kept about a person, for JSON; no templates."""
        ...

    def forget_person(self, person_id: str, *, author: str) -> Forgotten:
        """Delete a person, their face, PIN and events; what others wrote is cleared of the name."""
        ...

    def on_forget(self, forgetter: Callable[[Person], None]) -> None:
        """Have ``forgetter`` called with each person before they are forgotten.

        For files that others keep in ``data_dir``; an exception stops the forgetting.
        """
        ...

    # attendance

    def present(self) -> tuple[Present, ...]:
        """Return who is in now, in order of arrival: the roll call."""
        ...

    def today(self) -> date:
        """Return the working day that it is now."""
        ...

    def day(self, day: date) -> DayTable:
        """Return a working day."""
        ...

    def month(self, year: int, month: int) -> MonthTable:
        """Return a month of working days."""
        ...

    def visits(
        self,
        first: date,
        last: date,
        *,
        person_id: str | None = None,
        with_removed: bool = False,
    ) -> tuple[VisitRow, ...]:
        """Return the visits of the working days from ``first`` to ``last``, both included."""
        ...

    def visit(self, visit_id: str) -> VisitRow:
        """Return one visit, also a removed one."""
        ...

    def add_visit(
        self,
        person_id: str,
        arrived_utc: datetime,
        departed_utc: datetime,
        *,
        author: str,
        reason: str,
    ) -> VisitRow:
        """Add a visit that was missed; it may not overlap another of the person's."""
        ...

    def move_visit(
        self,
        visit_id: str,
        *,
        arrived_utc: datetime | None = None,
        departed_utc: datetime | None = None,
        author: str,
        reason: str,
    ) -> VisitRow:
        """Set another arrival or departure; a departure ends a visit that is not over."""
        ...

    def remove_visit(self, visit_id: str, *, author: str, reason: str) -> VisitRow:
        """Take a visit away; it stays in the record, marked."""
        ...

    def export_rows(self, first: date, last: date) -> tuple[ExportRow, ...]:
        """Return the visits of the working days from ``first`` to ``last`` for a file."""
        ...

    def pin_entry(self, number: str, pin: str, action: PinAction, *, client: str) -> PinAnswer:
        """Record an arrival or departure by PIN; ``client`` names who is slowed down when wrong."""
        ...

    # live

    def subscribe(self) -> Subscription:
        """Return a new queue of what happens from now on."""
        ...

    def cameras(self) -> tuple[CameraStatus, ...]:
        """Return how each camera is doing."""
        ...

    def live_frame(
        self, camera: str, *, after: int = -1, timeout_s: float = 0.0
    ) -> LiveFrame | None:
        """Return the newest picture whose number is above ``after``, None when none came in time.

        Pictures are encoded only while somebody asks, at most ten a second, once for all who ask.
        """
        ...

    def health(self) -> Health:
        """Return how everything is doing."""
        ...
