"""What must happen while time passes: departures, heartbeats, retention, news of cameras."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from examples.attendance.book import Book
from examples.attendance.broadcast import Broadcast
from examples.attendance.enrolment import Enrolments
from examples.attendance.erasing import delete_old
from examples.attendance.errors import AttendanceError
from examples.attendance.rules import new_id
from examples.attendance.times import as_utc
from examples.attendance.values import ChangeKind, LiveEvent
from examples.attendance.watcher import Watcher

__all__ = ["Housekeeping"]

_LOG = logging.getLogger("attendance.housekeeping")
_PERIOD_S = 1.0
_RETENTION_PERIOD_S = 6 * 3600.0
_STANDSTILL_S = 60.0
_DAY_MS = 86_400_000


class Housekeeping:
    """A thread that does each of these once a second, or seldom."""

    def __init__(
        self,
        book: Book,
        broadcast: Broadcast,
        enrolments: Enrolments,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._broadcast = broadcast
        self._enrolments = enrolments
        self._clock = clock
        self._watcher: Watcher | None = None
        self._cameras: dict[str, tuple[object, ...]] = {}
        self._next_retention_s = clock()
        self._last_s = clock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="attendance-clockwork", daemon=True)
        self.refusal: AttendanceError | None = None

    def follow(self, watcher: Watcher) -> None:
        """Tell the book what the cameras of ``watcher`` can see, from now on."""
        self._watcher = watcher

    def start(self) -> None:
        """Begin."""
        self._last_s = self._clock()
        self._thread.start()

    def close(self) -> None:
        """Stop; may be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def stands_still(self) -> bool:
        """Whether the thread was started and does nothing any more."""
        if self._thread.ident is None or self._stopping.is_set():
            return False
        return not self._thread.is_alive() or self._clock() - self._last_s > _STANDSTILL_S

    def once(self) -> None:
        """Do everything that is due.

        Raises:
            AttendanceError: The disk refuses.
        """
        self._look_at_cameras()
        self._book.tick()
        self._book.beat()
        self._enrolments.drop_idle()
        now_s = self._clock()
        if now_s >= self._next_retention_s:
            self._next_retention_s = now_s + _RETENTION_PERIOD_S
            self.delete_old()

    def delete_old(self) -> int:
        """Delete what is older than the retention; return how many events."""
        days = self._book.settings.retention_days
        deleted = delete_old(self._book.store, self._book.now().utc_ms - days * _DAY_MS)
        if deleted:
            _LOG.info("retention: %d events deleted", deleted)
        return deleted

    def _run(self) -> None:
        while not self._stopping.wait(_PERIOD_S):
            self._last_s = self._clock()
            try:
                self.once()
                self.refusal = None
            # The disk may have room again later; until then health says so.
            except AttendanceError as exc:
                if self.refusal is None:
                    _LOG.error("the record refuses: %s", exc)
                self.refusal = exc

    def _look_at_cameras(self) -> None:
        if self._watcher is None:
            return
        for status in self._watcher.statuses():
            self._book.camera(status.name, usable=status.is_usable)
            state = (status.state, status.is_usable, status.conditions)
            if self._cameras.get(status.name) != state:
                self._cameras[status.name] = state
                _LOG.info(
                    "camera %s: %s%s", status.name, status.state.value,
                    f" ({', '.join(status.conditions)})" if status.conditions else "",
                )  # fmt: skip
                now_utc = as_utc(self._book.now().utc_ms)
                event = LiveEvent(new_id(), ChangeKind.CAMERA, now_utc, camera=status.name)
                self._broadcast.tell(event)
