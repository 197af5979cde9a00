"""A gallery that many devices share: a replica here, and rows that a server cannot read."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from edgeface.errors import EdgefaceError, FleetUnavailableError, GalleryKeyError, InvalidInputError
from edgeface.gallery.base import EnrolmentRecord, SubjectInfo, TemplateSource
from edgeface.gallery.fleet.key import FleetKey
from edgeface.gallery.fleet.milvus import MilvusAddress, MilvusServer
from edgeface.gallery.fleet.report import SyncReport
from edgeface.gallery.fleet.server import FleetServer
from edgeface.gallery.fleet.state import Membership, join_fleet, joined_fleet
from edgeface.gallery.fleet.sync import FleetSync
from edgeface.gallery.forgetting import Receipt
from edgeface.gallery.keys import KeyOptions
from edgeface.gallery.search import SearchOptions
from edgeface.gallery.sqlite import SqliteGallery
from edgeface.types import Candidate, Template

__all__ = ["FleetGallery", "FleetOptions", "FleetStatus", "membership"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """Where the fleet is, and how often it is asked.

    ``key`` may be left out once the gallery belongs to the fleet: it is kept there, sealed.
    ``interval_s`` is how long the background waits between two exchanges; a change here is sent
    after ``settle_s``.
    """

    address: MilvusAddress
    key: FleetKey | None = None
    interval_s: float = 60.0
    settle_s: float = 1.0

    def __post_init__(self) -> None:
        if not (self.interval_s > 0.0 and self.settle_s >= 0.0):
            raise InvalidInputError(
                "interval_s must be above 0 and settle_s at least 0, got "
                f"{self.interval_s} and {self.settle_s}"
            )


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """How the last exchange went: ``report``, or the ``error`` that ended it.

    ``age_s`` is how long ago the last one that succeeded ended; None when none has.
    """

    report: SyncReport | None = None
    error: EdgefaceError | None = None
    age_s: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the server gave what must not be believed: more than being out of reach."""
        return self.error is not None and not isinstance(self.error, FleetUnavailableError)


@dataclass(slots=True)
class _Last:
    report: SyncReport | None = None
    error: EdgefaceError | None = None
    success_s: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class FleetGallery:
    """A :class:`~edgeface.gallery.Gallery` whose people are those of a whole fleet.

    Every method but :meth:`sync` uses the replica alone, an encrypted
    :class:`~edgeface.gallery.SqliteGallery`: no search and no enrolment ever waits for the
    network. :meth:`sync` exchanges it with the server; :meth:`start` does so in the background.
    docs/fleet.md says what becomes of changes that several devices made.
    """

    def __init__(
        self,
        replica: SqliteGallery,
        server: FleetServer,
        key: FleetKey | None = None,
        *,
        options: FleetOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.replica = replica
        self._server = server
        self._sync = FleetSync(replica, server, membership(replica, key))
        self._interval_s = 60.0 if options is None else options.interval_s
        self._settle_s = 1.0 if options is None else options.settle_s
        self._clock = clock
        self._exchange = threading.Lock()
        self._last = _Last()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        options: FleetOptions,
        *,
        model_id: str,
        embedding_size: int,
        keys: KeyOptions | None = None,
        search: SearchOptions | None = None,
    ) -> FleetGallery:
        """Return the gallery whose replica is at ``path``, made there if need be.

        The server is not asked: this works without a network. Close the gallery afterwards.

        Raises:
            GalleryKeyError: The gallery belongs to another fleet, or to none and no key was given.
            GalleryError: As for :meth:`SqliteGallery.open`.
        """
        replica = SqliteGallery.open(
            path, model_id=model_id, embedding_size=embedding_size, keys=keys, search=search
        )
        try:
            member = membership(replica, options.key)
            server = MilvusServer(options.address, member.key, model_id)
            return cls(replica, server, options=options)
        except BaseException:
            replica.close()
            raise

    @property
    def model_id(self) -> str:
        """The model that every template of the gallery belongs to."""
        return self.replica.model_id

    @property
    def embedding_size(self) -> int:
        """The length of every template."""
        return self.replica.embedding_size

    @property
    def status(self) -> FleetStatus:
        """How the last exchange went."""
        with self._last.lock:
            success_s = self._last.success_s
            age_s = None if success_s is None else self._clock() - success_s
            return FleetStatus(self._last.report, self._last.error, age_s)

    def sync(self, *, accept_loss: bool = False) -> SyncReport:
        """Exchange with the server now; return what went either way.

        Raises:
            EdgefaceError: As :meth:`edgeface.gallery.fleet.sync.FleetSync.run`. The replica is
                whole, and goes on being searched.
        """
        with self._exchange:
            try:
                report = self._sync.run(accept_loss=accept_loss)
            except EdgefaceError as exc:
                with self._last.lock:
                    self._last.error = exc
                raise
        with self._last.lock:
            self._last.report, self._last.error = report, None
            self._last.success_s = self._clock()
        return report

    def start(self) -> None:
        """Exchange in the background from now on; :meth:`close` ends it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="edgeface-fleet", daemon=True)
            self._thread.start()

    def add(
        self,
        subject: str,
        templates: Sequence[Template],
        *,
        source: TemplateSource = TemplateSource.IMAGE,
        extend: bool = False,
        record: EnrolmentRecord | None = None,
    ) -> None:
        """Store ``templates`` in the replica: see :meth:`Gallery.add`."""
        self.replica.add(subject, templates, source=source, extend=extend, record=record)
        self._wake.set()

    def subjects(self) -> list[SubjectInfo]:
        """Return the enrolled subjects, sorted by name."""
        return self.replica.subjects()

    @property
    def subject_count(self) -> int:
        """How many subjects are enrolled here: see :attr:`Gallery.subject_count`."""
        return self.replica.subject_count

    def templates(self, subject: str) -> list[Template]:
        """Return the usable templates of ``subject``: see :meth:`Gallery.templates`."""
        return self.replica.templates(subject)

    def remove(self, subject: str) -> None:
        """Forget ``subject``: see :meth:`forget`."""
        self.forget(subject)

    def forget(self, subject: str) -> Receipt:
        """Forget ``subject`` here at once, and in the fleet with the next exchanges.

        The receipt is of this replica: see :meth:`SqliteGallery.forget`.
        """
        receipt = self.replica.forget(subject)
        self._wake.set()
        return receipt

    def rename(self, subject: str, new_name: str) -> None:
        """Give ``subject`` another name: see :meth:`SqliteGallery.rename`."""
        self.replica.rename(subject, new_name)
        self._wake.set()

    def set_active(self, subject: str, *, active: bool) -> None:
        """Let ``subject`` take part in searches, or not: see :meth:`SqliteGallery.set_active`."""
        self.replica.set_active(subject, active=active)
        self._wake.set()

    def search(self, template: Template, k: int = 5) -> list[Candidate]:
        """Return up to ``k`` candidates of the replica: see :meth:`Gallery.search`."""
        return self.replica.search(template, k)

    def search_many(self, templates: Sequence[Template], k: int = 5) -> list[list[Candidate]]:
        """Return what :meth:`search` returns, for each of ``templates``."""
        return self.replica.search_many(templates, k)

    def close(self) -> None:
        """End the background and close the replica; may be called twice.

        An exchange that waits for the network is left behind: it cannot change a closed replica.
        """
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        self.replica.close()
        self._server.close()

    def __enter__(self) -> FleetGallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            # The status has it, and the next exchange does what this one did not.
            with contextlib.suppress(EdgefaceError):
                self.sync()
            if self._wake.wait(self._interval_s):
                self._stop.wait(self._settle_s)


def membership(replica: SqliteGallery, key: FleetKey | None = None) -> Membership:
    """Return the fleet of ``replica``, which joins that of ``key`` where it has none.

    Raises:
        GalleryKeyError: It belongs to another fleet, or to none and no key was given.
    """
    with replica.vault.reading() as connection:
        known = joined_fleet(replica.vault.keys, connection)
    if known is not None and key in (None, known.key):
        return known
    if key is None:
        raise GalleryKeyError(
            "the gallery belongs to no fleet yet; give the fleet's key: --fleet-key FILE, which "
            "`edgeface gallery fleet-key FILE` makes once for all devices"
        )
    with replica.vault.changing() as change:
        return join_fleet(replica.vault.keys, change, key)
