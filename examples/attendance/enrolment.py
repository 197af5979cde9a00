"""Enrolment from a browser's camera: pictures in memory, advice back, templates at the end."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable

from edgeface.camera import decode_image
from edgeface.errors import CameraError, EnrolmentError
from edgeface.gallery import Consent
from edgeface.pipeline import EnrolmentCoach, Recognizer
from edgeface.types import Frame
from examples.attendance.errors import AttendanceError
from examples.attendance.values import EnrolmentProgress, Person

__all__ = ["Enrolments", "Session"]

_MOST_SESSIONS = 4
_IDLE_S = 600.0
_LARGEST_BYTES = 8 << 20
_ID = re.compile(r"\b[0-9a-f]{32}\b")


class Session:
    """One enrolment; see :class:`~examples.attendance.interface.EnrolmentSession`."""

    def __init__(self, owner: Enrolments, clock: Callable[[], float]) -> None:
        self.id = secrets.token_urlsafe(18)
        self._owner = owner
        self._clock = clock
        self.used_s = clock()
        self._coach: EnrolmentCoach | None = None
        self._looks = 0

    def look(self, jpeg: bytes) -> EnrolmentProgress:
        """Take a picture and return what to do next."""
        frame = self._frame(jpeg)
        with self._owner.recognizer() as recognizer:
            coach = self._coach = self._coach or EnrolmentCoach(recognizer.identify)
            said = coach.look(frame)
        pose = None if said.pose is None else said.pose.value
        return EnrolmentProgress(said.advice, said.settled, said.wanted, pose, said.is_done)

    def finish(self, person_id: str, consent: Consent) -> int:
        """Store the person's face from the pictures held; return how many were stored."""
        frames = [] if self._coach is None else self._coach.frames
        if not frames:
            raise AttendanceError("no picture shows one person well enough; look again")
        stored = self._owner.store(person_id, frames, consent)
        self.close()
        return stored

    def close(self) -> None:
        """Drop everything; may be called twice."""
        self._coach = None
        self._owner.leave(self)

    def _frame(self, jpeg: bytes) -> Frame:
        self._owner.require(self.id)
        self.used_s = self._clock()
        if len(jpeg) > _LARGEST_BYTES:
            raise AttendanceError(f"a picture may have {_LARGEST_BYTES >> 20} MB, got more")
        try:
            pixels = decode_image(jpeg, where="the picture")
        except CameraError as exc:
            raise AttendanceError(str(exc)) from exc
        self._looks += 1
        return Frame(pixels, self._clock(), self._looks, "enrolment")


class _Held:
    """Gives the recogniser to one thread at a time."""

    def __init__(self, lock: threading.Lock, recognizer: Recognizer) -> None:
        self._lock, self._recognizer = lock, recognizer

    def __enter__(self) -> Recognizer:
        self._lock.acquire()
        return self._recognizer

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Enrolments:
    """The enrolments in progress, with a recogniser of their own: watching goes on meanwhile.

    ``open_recognizer`` is called at the first picture. ``person`` looks somebody up, and
    ``enrolled`` is called after a face was stored.
    """

    def __init__(
        self,
        open_recognizer: Callable[[], Recognizer],
        person: Callable[[str], Person],
        enrolled: Callable[[Person], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_recognizer
        self._person = person
        self._enrolled = enrolled
        self._clock = clock
        self._lock = threading.Lock()
        self._in_use = threading.Lock()
        self._recognizer: Recognizer | None = None
        self._sessions: dict[str, Session] = {}

    def start(self) -> Session:
        """Return a new enrolment."""
        self.drop_idle()
        with self._lock:
            if len(self._sessions) >= _MOST_SESSIONS:
                raise AttendanceError(
                    f"{_MOST_SESSIONS} enrolments are running; finish or leave one first"
                )
            session = Session(self, self._clock)
            self._sessions[session.id] = session
        return session

    def require(self, session_id: str) -> Session:
        """Return the enrolment of that id."""
        with self._lock:
            session = self._sessions.get(session_id)
        if session is None:
            raise AttendanceError("this enrolment is over; begin again")
        return session

    def leave(self, session: Session) -> None:
        """Take an enrolment out."""
        with self._lock:
            self._sessions.pop(session.id, None)

    def drop_idle(self) -> None:
        """Close the enrolments that nobody used for ten minutes."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            if self._clock() - session.used_s > _IDLE_S:
                session.close()

    def recognizer(self) -> _Held:
        """Return the recogniser, for a ``with``."""
        with self._lock:
            if self._recognizer is None:
                self._recognizer = self._open()
            return _Held(self._in_use, self._recognizer)

    def store(self, person_id: str, frames: list[Frame], consent: Consent) -> int:
        """Enrol a person from frames; return how many were stored."""
        person = self._person(person_id)
        if not person.is_active:
            raise AttendanceError("this person is not active; make them active first")
        with self.recognizer() as recognizer:
            try:
                report = recognizer.enrol(
                    person_id, frames, extend=person.has_face, consent=consent
                )
            except EnrolmentError as exc:
                raise self._with_number(exc, person) from exc
        self._enrolled(person)
        return len(report.accepted)

    def close(self) -> None:
        """Drop every enrolment and free the recogniser."""
        for session in list(self._sessions.values()):
            session.close()
        with self._in_use:
            if self._recognizer is not None:
                self._recognizer.close()
                self._recognizer = None

    def _with_number(self, error: EnrolmentError, person: Person) -> EnrolmentError:
        """Return the error with numbers where the gallery says ids."""
        message = str(error).replace(person.id, f"number {person.number}")
        for word in set(_ID.findall(message)):
            with contextlib.suppress(AttendanceError):
                message = message.replace(word, f"number {self._person(word).number}")
        return EnrolmentError(message, reasons=error.reasons)
