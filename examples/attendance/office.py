"""The office: everything that the pages and the commands may ask or do, put together."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from edgeface.gallery import Consent
from edgeface.pipeline import Recognizer
from examples.attendance.book import Book
from examples.attendance.broadcast import Broadcast, Queue
from examples.attendance.cameras import Camera
from examples.attendance.checks import clean_text
from examples.attendance.corrections import Writer, adding, moving, removing, require_visit
from examples.attendance.courier import Courier, PresenceLine, Roll, Sink
from examples.attendance.enrolment import Enrolments, Session
from examples.attendance.erasing import delete_person, files_with, needles_of
from examples.attendance.errors import AttendanceError
from examples.attendance.faces import Faces
from examples.attendance.health import Watched, health_of
from examples.attendance.housekeeping import Housekeeping
from examples.attendance.journal import Event, EventKind
from examples.attendance.people import People
from examples.attendance.pictures import Pictures
from examples.attendance.pins import PinPad
from examples.attendance.reports import Reports
from examples.attendance.settings_file import save_settings
from examples.attendance.store import Store
from examples.attendance.telling import live_event, overlay_label, payload_of
from examples.attendance.times import Clocks, as_utc, day_of
from examples.attendance.values import (
    CameraStatus,
    DayTable,
    ExportRow,
    Forgotten,
    Health,
    LiveFrame,
    MonthTable,
    Person,
    PinAction,
    PinAnswer,
    Present,
    Settings,
    VisitRow,
)
from examples.attendance.watcher import Watcher

__all__ = ["LocalOffice", "OfficeParts"]


@dataclass(frozen=True, slots=True)
class OfficeParts:
    """What an office is made of; ``open_recognizer`` is called for watching and for enrolment."""

    data_dir: Path
    store: Store
    faces: Faces
    settings: Settings
    open_recognizer: Callable[[], Recognizer]
    sinks: Sequence[Sink] = ()
    clocks: Clocks | None = None


class LocalOffice:
    """See :class:`~examples.attendance.interface.Office`. Close it, or use it in a ``with``."""

    def __init__(self, parts: OfficeParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._faces = parts.faces
        self._broadcast = Broadcast()
        self._counts: Counter[str] = Counter()
        self._people = People(parts.store, parts.faces.consents)
        self._known: dict[str, Person] = {}
        self._active: frozenset[str] = frozenset()
        self._know_people()
        self._couriers = [Courier(sink, parts.store, self._payload) for sink in parts.sinks]
        self._book = Book(
            parts.store,
            parts.settings,
            clocks=parts.clocks,
            sinks=[sink.name for sink in parts.sinks],
            tell=self._recorded,
        )
        self._reports = Reports(parts.store, self._people, self.settings, self._book.now)
        self._pictures = Pictures(self._overlay_label)
        self._enrolments = Enrolments(parts.open_recognizer, self.person, self._enrolled)
        self._pin_pad = PinPad(self._book, self._people)
        self._forgetters: list[Callable[[Person], None]] = []
        self._erasing = threading.Lock()
        self._watcher: Watcher | None = None
        self.housekeeping = Housekeeping(self._book, self._broadcast, self._enrolments)
        self._is_closed = False

    def start(self, cameras: Sequence[Camera] = ()) -> None:
        """Begin to watch ``cameras`` and to deliver events."""
        if cameras:
            recognizer = self._parts.open_recognizer()
            watcher = Watcher(
                recognizer, cameras, self._book, self._pictures, lambda who: who in self._active
            )
            self._watcher = watcher
            self.housekeeping.follow(watcher)
            watcher.start()
        for courier in self._couriers:
            courier.start(self._roll)
        self.housekeeping.start()

    def close(self) -> None:
        """Stop everything and write who is in; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._broadcast.tell(live_event(None, self._book.now()))
        self.housekeeping.close()
        if self._watcher is not None:
            self._watcher.close()
        self._enrolments.close()
        for courier in self._couriers:
            courier.close()
        self._book.close()
        self._pictures.close()
        self._faces.close()
        self._store.close()

    def __enter__(self) -> LocalOffice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def notices(self) -> tuple[str, ...]:
        """What is to be said once, such as where the key of the faces is kept."""
        return self._faces.notices

    @property
    def faces(self) -> Faces:
        """The enrolled faces."""
        return self._faces

    @property
    def book(self) -> Book:
        """The attendance book."""
        return self._book

    @property
    def watcher(self) -> Watcher | None:
        """What watches the cameras, None without any."""
        return self._watcher

    @property
    def data_dir(self) -> Path:
        """The folder of the office's files."""
        return self._parts.data_dir

    def settings(self) -> Settings:
        """Return the settings now."""
        return self._book.settings

    def change_settings(self, settings: Settings, *, author: str) -> None:
        """Replace the settings; the rules follow at once."""
        save_settings(self._store, settings)
        self._book.follow(settings)
        self._changed("settings", author)

    def people(self, *, with_inactive: bool = False) -> tuple[Person, ...]:
        """Return everybody, in order of name."""
        return self._people.everybody(with_inactive=with_inactive)

    def person(self, person_id: str) -> Person:
        """Return one person."""
        return self._people.get(person_id)

    def add_person(self, name: str, *, first_name: str = "", author: str) -> Person:
        """Add somebody."""
        author = clean_text(author, "the author")
        person = self._people.add(name, first_name, self._book.now().utc_ms)
        self._changed("person added", author, person.id)
        return person

    def change_person(
        self, person_id: str, *, name: str, first_name: str, is_active: bool, author: str
    ) -> Person:
        """Change a person."""
        author = clean_text(author, "the author")
        person = self._people.change(person_id, name, first_name, is_active=is_active)
        self._faces.set_active(person_id, active=is_active)
        self._changed("person changed", author, person_id)
        return person

    def set_pin(self, person_id: str, pin: str | None, *, author: str) -> None:
        """Set a PIN, or take it away with None."""
        author = clean_text(author, "the author")
        self._pin_pad.set(person_id, pin)
        self._changed("PIN taken away" if pin is None else "PIN set", author, person_id)

    def start_enrolment(self) -> Session:
        """Return a new enrolment."""
        return self._enrolments.start()

    def enrolment(self, session_id: str) -> Session:
        """Return the enrolment of that id."""
        return self._enrolments.require(session_id)

    def remove_face(self, person_id: str, *, author: str) -> None:
        """Delete the face of a person who stays listed."""
        author = clean_text(author, "the author")
        self.person(person_id)
        self._faces.forget(person_id)
        self._changed("face deleted", author, person_id)

    def export_person(self, person_id: str) -> Mapping[str, object]:
        """Return everything that is kept about a person, for JSON."""
        person = self.person(person_id)
        return {**self._reports.of_person(person), "face": self._faces.export(person_id)}

    def on_forget(self, forgetter: Callable[[Person], None]) -> None:
        """Have ``forgetter`` called with each person before they are forgotten."""
        self._forgetters.append(forgetter)

    def forget_person(self, person_id: str, *, author: str) -> Forgotten:
        """Delete a person, their face, PIN and events."""
        author = clean_text(author, "the author")
        with self._erasing:
            person = self.person(person_id)
            for forgetter in self._forgetters:
                forgetter(person)
            receipt = self._faces.forget(person_id)
            self._book.forget(person_id)
            try:
                events, texts = delete_person(self._store, self._people, person)
            finally:
                self._know_people()
            self._book.record(EventKind.FORGOTTEN, person_id=person_id, author=author)
            for courier in self._couriers:
                courier.forget(person)
            searched = self._require_gone(person)
        now_utc = as_utc(self._book.now().utc_ms)
        return Forgotten(person_id, now_utc, events, texts, searched, receipt)

    def present(self) -> tuple[Present, ...]:
        """Return who is in now, in order of arrival."""
        return tuple(one for one in self._book.present() if one.person_id in self._known)

    def today(self) -> date:
        """Return the working day that it is now."""
        return day_of(self._book.now().utc_ms, self.settings())

    def day(self, day: date) -> DayTable:
        """Return a working day."""
        return self._reports.day(day)

    def month(self, year: int, month: int) -> MonthTable:
        """Return a month of working days."""
        return self._reports.month(year, month)

    def visits(
        self, first: date, last: date, *, person_id: str | None = None, with_removed: bool = False
    ) -> tuple[VisitRow, ...]:
        """Return the visits of the working days from ``first`` to ``last``."""
        return self._reports.visits(first, last, person_id=person_id, with_removed=with_removed)

    def visit(self, visit_id: str) -> VisitRow:
        """Return one visit, also a removed one."""
        return self._reports.rows([require_visit(self._store, visit_id)])[0]

    def add_visit(
        self,
        person_id: str,
        arrived_utc: datetime,
        departed_utc: datetime,
        *,
        author: str,
        reason: str,
    ) -> VisitRow:
        """Add a visit that was missed."""
        self.person(person_id)
        writer = Writer(author, reason, self._book.now().utc_ms)
        return self._correct(adding(self._store, writer, person_id, arrived_utc, departed_utc))

    def move_visit(
        self,
        visit_id: str,
        *,
        arrived_utc: datetime | None = None,
        departed_utc: datetime | None = None,
        author: str,
        reason: str,
    ) -> VisitRow:
        """Set another arrival or departure."""
        writer = Writer(author, reason, self._book.now().utc_ms)
        return self._correct(moving(self._store, writer, visit_id, arrived_utc, departed_utc))

    def remove_visit(self, visit_id: str, *, author: str, reason: str) -> VisitRow:
        """Take a visit away; it stays in the record, marked."""
        writer = Writer(author, reason, self._book.now().utc_ms)
        return self._correct(removing(self._store, writer, visit_id))

    def export_rows(self, first: date, last: date) -> tuple[ExportRow, ...]:
        """Return the visits of some working days for a file."""
        return self._reports.export_rows(first, last)

    def pin_entry(self, number: str, pin: str, action: PinAction, *, client: str) -> PinAnswer:
        """Record an arrival or departure by PIN."""
        return self._pin_pad.enter(number, pin, action, client)

    def subscribe(self) -> Queue:
        """Return a new queue of what happens from now on."""
        return self._broadcast.subscribe()

    def cameras(self) -> tuple[CameraStatus, ...]:
        """Return how each camera is doing."""
        return () if self._watcher is None else self._watcher.statuses()

    def live_frame(
        self, camera: str, *, after: int = -1, timeout_s: float = 0.0
    ) -> LiveFrame | None:
        """Return the newest picture whose number is above ``after``."""
        if camera not in {one.name for one in self.cameras()}:
            raise AttendanceError("there is no camera of that name")
        return self._pictures.newest(camera, after=after, timeout_s=timeout_s)

    def health(self) -> Health:
        """Return how everything is doing."""
        parts = (self._watcher, self.housekeeping, self._book, self._pictures, self._broadcast)
        sinks = [courier.status() for courier in self._couriers]
        return health_of(Watched(*parts), sinks, dict(self._counts))

    def _correct(self, event: Event) -> VisitRow:
        self._book.correct(event)
        return self.visit(event.visit_id or "")

    def _changed(self, what: str, author: str, person_id: str | None = None) -> None:
        self._know_people()
        self._book.record(EventKind.CHANGE, person_id=person_id, author=author, reason=what)

    def _enrolled(self, person: Person) -> None:
        consent: Consent | None = self._faces.consents().get(person.id)
        author = consent.recorded_by if consent else ""
        self._changed("face enrolled", author, person.id)

    def _know_people(self) -> None:
        everybody = self._people.everybody(with_inactive=True)
        self._known = {person.id: person for person in everybody}
        self._active = frozenset(person.id for person in everybody if person.is_active)

    def _recorded(self, event: Event) -> None:
        self._counts[event.kind.value] += 1
        self._broadcast.tell(live_event(event, self._book.now()))
        for courier in self._couriers:
            courier.wake()

    def _payload(self, event: Event) -> dict[str, object]:
        label = None if event.person_id is None else self._people.label(event.person_id)
        return payload_of(event, label, self.settings())

    def _overlay_label(self, person_id: str) -> str:
        return overlay_label(self._known.get(person_id), self.settings())

    def _roll(self) -> Roll:
        here = {one.person_id for one in self._book.present()}
        names = self.settings().names_in_sinks
        lines = tuple(
            PresenceLine(one, number, name if names else f"Person {number}", one in here)
            for one, (number, name) in self._people.labels().items()
            if one in self._active
        )
        return Roll(lines, self._people.last_number)

    def _require_gone(self, person: Person) -> tuple[str, ...]:
        """Search the files for the name; return those that were searched.

        Raises:
            AttendanceError: A file still holds it.
        """
        needles = needles_of(person.name)
        if not needles or any(person.name in one.name for one in self._known.values()):
            return ()
        files = [path for path in self.data_dir.rglob("*") if path.is_file()]
        found, searched = files_with(needles, files)
        if found:
            raise AttendanceError(
                f"the person is forgotten, but the name is still in {', '.join(found)}; clear it "
                "there"
            )
        return tuple(searched)
