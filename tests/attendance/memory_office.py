"""An office in memory, for tests of the pages: what the real one answers, without its engine."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from types import TracebackType

from edgeface.camera import CameraState
from edgeface.gallery import Consent
from examples.attendance.interface import (
    AttendanceError,
    CameraStatus,
    ChangeKind,
    Correction,
    CorrectionAction,
    DayRow,
    DayTable,
    EnrolmentProgress,
    EnrolmentSession,
    ExportRow,
    Forgotten,
    Health,
    LiveEvent,
    LiveFrame,
    Method,
    MonthRow,
    MonthTable,
    Person,
    PinAction,
    PinAnswer,
    PinOutcome,
    Present,
    Settings,
    SinkStatus,
    VisitRow,
)

POSES = ("front", "left", "right")


class MemorySubscription:
    def __init__(self, leave: Callable[[MemorySubscription], None]) -> None:
        self.events: queue.Queue[LiveEvent] = queue.Queue()
        self._leave = leave
        self.missed = 0

    def get(self, timeout_s: float) -> LiveEvent | None:
        try:
            return self.events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._leave(self)

    def __enter__(self) -> MemorySubscription:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class MemoryEnrolment:
    """Takes every picture that the SDK can read for the next pose."""

    def __init__(self, office: MemoryOffice, number: int) -> None:
        self._office, self.id, self._taken = office, f"enrolment{number}", 0

    def look(self, jpeg: bytes) -> EnrolmentProgress:
        from edgeface.camera.images import decode_image
        from edgeface.errors import CameraError

        try:
            decode_image(jpeg, where="the picture")
        except CameraError as exc:
            raise AttendanceError(str(exc)) from exc
        self._taken = min(len(POSES), self._taken + 1)
        is_done = self._taken == len(POSES)
        advice = "That is all, thank you." if is_done else "Hold still."
        return EnrolmentProgress(advice, self._taken, len(POSES), POSES[self._taken - 1], is_done)

    def finish(self, person_id: str, consent: Consent) -> int:
        if self._taken == 0:
            raise AttendanceError("no picture is good enough")
        known = self._office.person(person_id)
        self._office.everybody[person_id] = replace(known, has_face=True, consent=consent)
        return self._taken

    def close(self) -> None:
        self._office.enrolments.pop(self.id, None)


class MemoryOffice:
    """See :class:`examples.attendance.interface.Office`."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.data_dir = folder
        self._settings = settings or Settings(zone_name="Europe/Berlin", office_name="Hazel Lane")
        self.everybody: dict[str, Person] = {}
        self.pins: dict[str, str] = {}
        self.rows: dict[str, VisitRow] = {}
        self.enrolments: dict[str, MemoryEnrolment] = {}
        self.subscriptions: list[MemorySubscription] = []
        self.unknown = 2
        self.frames = 0
        self.jpeg = b"\xff\xd8\xff"
        self.camera_list: tuple[CameraStatus, ...] = (
            CameraStatus("entrance", CameraState.LIVE, True, 25.0, 12.0, 0.04, 0),
        )
        self._numbers = itertools.count(1)
        self._forgetters: list[Callable[[Person], None]] = []

    def settings(self) -> Settings:
        return self._settings

    def change_settings(self, settings: Settings, *, author: str) -> None:
        self._settings = settings
        self.tell(ChangeKind.SETTINGS)

    def people(self, *, with_inactive: bool = False) -> tuple[Person, ...]:
        listed = (one for one in self.everybody.values() if one.is_active or with_inactive)
        return tuple(sorted(listed, key=lambda one: one.name))

    def person(self, person_id: str) -> Person:
        if person_id not in self.everybody:
            raise AttendanceError("there is no such person")
        return self.everybody[person_id]

    def add_person(self, name: str, *, first_name: str = "", author: str) -> Person:
        if not name:
            raise AttendanceError("a name must not be empty")
        number = next(self._numbers)
        first = first_name or name.split()[0]
        person = Person(f"p{number:04d}", number, name, first)
        self.everybody[person.id] = person
        return person

    def change_person(
        self, person_id: str, *, name: str, first_name: str, is_active: bool, author: str
    ) -> Person:
        known = self.person(person_id)
        changed = replace(known, name=name, first_name=first_name, is_active=is_active)
        self.everybody[person_id] = changed
        return changed

    def set_pin(self, person_id: str, pin: str | None, *, author: str) -> None:
        known = self.person(person_id)
        if pin is not None and not (pin.isdigit() and 4 <= len(pin) <= 12):
            raise AttendanceError("a PIN has 4 to 12 digits that are not all the same")
        self.everybody[person_id] = replace(known, has_pin=pin is not None)
        self.pins.pop(person_id, None)
        if pin is not None:
            self.pins[person_id] = pin

    def start_enrolment(self) -> EnrolmentSession:
        session = MemoryEnrolment(self, next(self._numbers))
        self.enrolments[session.id] = session
        return session

    def enrolment(self, session_id: str) -> EnrolmentSession:
        if session_id not in self.enrolments:
            raise AttendanceError("this enrolment is over; begin again")
        return self.enrolments[session_id]

    def remove_face(self, person_id: str, *, author: str) -> None:
        self.everybody[person_id] = replace(self.person(person_id), has_face=False, consent=None)

    def export_person(self, person_id: str) -> Mapping[str, object]:
        own = [row for row in self.rows.values() if row.person_id == person_id]
        return {"person": {"name": self.person(person_id).name}, "visits": len(own)}

    def forget_person(self, person_id: str, *, author: str) -> Forgotten:
        known = self.person(person_id)
        for forgetter in self._forgetters:
            forgetter(known)
        del self.everybody[person_id]
        own = [key for key, row in self.rows.items() if row.person_id == person_id]
        for key in own:
            del self.rows[key]
        return Forgotten(person_id, datetime.now(timezone.utc), len(own), 0, ("attendance.db",))

    def on_forget(self, forgetter: Callable[[Person], None]) -> None:
        self._forgetters.append(forgetter)

    def present(self) -> tuple[Present, ...]:
        now = datetime.now(timezone.utc)
        open_rows = (r for r in self._kept() if r.departed_utc is None)
        return tuple(
            Present(r.person_id, r.visit_id, r.arrived_utc, now, r.camera, r.method)
            for r in sorted(open_rows, key=lambda r: r.arrived_utc)
        )

    def today(self) -> date:
        return datetime.now(self._settings.zone).date()

    def day(self, day: date) -> DayTable:
        zone, now = self._settings.zone, datetime.now(timezone.utc)
        rows = []
        for person_id in dict.fromkeys(row.person_id for row in self._of_day(day)):
            own = tuple(row for row in self._of_day(day) if row.person_id == person_id)
            last = own[-1].departed_utc
            total_s = sum(row.length_s(now) for row in own)
            rows.append(DayRow(person_id, own, own[0].arrived_utc, last, total_s, last is None))
        starts = datetime.combine(day, time(0), zone).astimezone(timezone.utc)
        ends = datetime.combine(day + timedelta(days=1), time(0), zone).astimezone(timezone.utc)
        unknown = self.unknown if self._settings.count_unknown else None
        return DayTable(day, starts, ends, tuple(rows), unknown)

    def month(self, year: int, month: int) -> MonthTable:
        first = date(year, month, 1)
        days = ((first + timedelta(days=32)).replace(day=1) - first).days
        seconds: dict[str, dict[int, float]] = {}
        for number in range(days):
            for row in self.day(first + timedelta(days=number)).rows:
                seconds.setdefault(row.person_id, {})[number + 1] = row.total_s
        rows = tuple(
            MonthRow(key, by_day, sum(by_day.values()), len(by_day))
            for key, by_day in sorted(seconds.items())
        )
        return MonthTable(year, month, days, rows)

    def visits(
        self,
        first: date,
        last: date,
        *,
        person_id: str | None = None,
        with_removed: bool = False,
    ) -> tuple[VisitRow, ...]:
        rows = (row for row in self.rows.values() if with_removed or not row.is_removed)
        return tuple(
            row
            for row in sorted(rows, key=lambda row: row.arrived_utc)
            if first <= self._day_of(row) <= last and person_id in (None, row.person_id)
        )

    def visit(self, visit_id: str) -> VisitRow:
        if visit_id not in self.rows:
            raise AttendanceError("there is no such visit")
        return self.rows[visit_id]

    def add_visit(
        self,
        person_id: str,
        arrived_utc: datetime,
        departed_utc: datetime,
        *,
        author: str,
        reason: str,
    ) -> VisitRow:
        if departed_utc <= arrived_utc:
            raise AttendanceError("a departure is after its arrival")
        row = self.come(person_id, arrived_utc, departed_utc, method=Method.MANUAL)
        return self._corrected(row, CorrectionAction.ADD, author, reason)

    def move_visit(
        self,
        visit_id: str,
        *,
        arrived_utc: datetime | None = None,
        departed_utc: datetime | None = None,
        author: str,
        reason: str,
    ) -> VisitRow:
        row = self.visit(visit_id)
        arrived, departed = arrived_utc or row.arrived_utc, departed_utc or row.departed_utc
        if departed is not None and departed <= arrived:
            raise AttendanceError("a departure is after its arrival")
        moved = replace(row, arrived_utc=arrived, departed_utc=departed)
        return self._corrected(moved, CorrectionAction.MOVE, author, reason)

    def remove_visit(self, visit_id: str, *, author: str, reason: str) -> VisitRow:
        gone = replace(self.visit(visit_id), is_removed=True)
        return self._corrected(gone, CorrectionAction.REMOVE, author, reason)

    def export_rows(self, first: date, last: date) -> tuple[ExportRow, ...]:
        zone, now = self._settings.zone, datetime.now(timezone.utc)
        return tuple(
            ExportRow(
                self._day_of(row).isoformat(),
                self.everybody[row.person_id].number,
                self.everybody[row.person_id].name,
                row.arrived_utc.astimezone(zone).isoformat(timespec="seconds"),
                row.departed_utc.astimezone(zone).isoformat(timespec="seconds")
                if row.departed_utc
                else "",
                round(row.length_s(now) / 3600, 2),
                row.method.value,
                row.camera,
                len(row.corrections),
                row.person_id,
                row.visit_id,
            )
            for row in self.visits(first, last)
        )

    def pin_entry(self, number: str, pin: str, action: PinAction, *, client: str) -> PinAnswer:
        for person_id, known in self.pins.items():
            if str(self.everybody[person_id].number) == number and known == pin:
                return self._by_pin(person_id, action)
        return PinAnswer(PinOutcome.WRONG)

    def subscribe(self) -> MemorySubscription:
        subscription = MemorySubscription(self.subscriptions.remove)
        self.subscriptions.append(subscription)
        return subscription

    def cameras(self) -> tuple[CameraStatus, ...]:
        return self.camera_list

    def live_frame(
        self, camera: str, *, after: int = -1, timeout_s: float = 0.0
    ) -> LiveFrame | None:
        self.frames += 1
        return LiveFrame(camera, self.jpeg, self.frames)

    def health(self) -> Health:
        is_ok = any(camera.is_usable for camera in self.camera_list)
        problems = () if is_ok else ("no camera gives a picture",)
        sinks = (SinkStatus("mqtt", 0, 214, 1), SinkStatus("webhook", 3, 211, 7, "timed out"))
        figures = {"frames_searched_total": 51234.0}
        return Health(is_ok, problems, self.camera_list, sinks, len(self.present()), figures)

    # what tests do

    def come(
        self,
        person_id: str,
        arrived: datetime,
        departed: datetime | None = None,
        *,
        method: Method = Method.FACE,
    ) -> VisitRow:
        camera = "entrance" if method is Method.FACE else ""
        visit_id = f"v{next(self._numbers):04d}"
        row = VisitRow(visit_id, person_id, arrived, departed, camera, method)
        self.rows[visit_id] = row
        self.tell(ChangeKind.ARRIVED, person_id)
        return row

    def tell(self, kind: ChangeKind, person_id: str | None = None) -> None:
        event = LiveEvent(f"e{next(self._numbers)}", kind, datetime.now(timezone.utc), person_id)
        for subscription in list(self.subscriptions):
            subscription.events.put(event)

    def _kept(self) -> list[VisitRow]:
        return [row for row in self.rows.values() if not row.is_removed]

    def _day_of(self, row: VisitRow) -> date:
        return row.arrived_utc.astimezone(self._settings.zone).date()

    def _of_day(self, day: date) -> list[VisitRow]:
        rows = (row for row in self._kept() if self._day_of(row) == day)
        return sorted(rows, key=lambda row: row.arrived_utc)

    def _corrected(
        self, row: VisitRow, action: CorrectionAction, author: str, reason: str
    ) -> VisitRow:
        if not reason:
            raise AttendanceError("a correction needs a reason")
        now = datetime.now(timezone.utc)
        made = Correction(f"c{next(self._numbers)}", row.visit_id, action, author, reason, now)
        self.rows[row.visit_id] = replace(row, corrections=(*row.corrections, made))
        return self.rows[row.visit_id]

    def _by_pin(self, person_id: str, action: PinAction) -> PinAnswer:
        inside = [one for one in self.present() if one.person_id == person_id]
        if bool(inside) == (action is PinAction.ARRIVE):
            return PinAnswer(PinOutcome.ALREADY, person_id)
        now = datetime.now(timezone.utc)
        if inside:
            row = self.rows[inside[0].visit_id]
            self.rows[row.visit_id] = replace(row, departed_utc=now)
        else:
            self.come(person_id, now, method=Method.PIN)
        return PinAnswer(PinOutcome.DONE, person_id)
