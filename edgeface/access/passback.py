"""Anti-passback: who came in and did not leave, so that nobody hands their entry to a friend."""

from __future__ import annotations

from dataclasses import replace

from edgeface.access.events import AccessEventKind
from edgeface.access.journal import Journal
from edgeface.access.lease import Lease
from edgeface.access.memory import DoorMemory
from edgeface.access.policy import AccessPolicy
from edgeface.access.state_file import DoorState
from edgeface.gallery.base import normalise_subject_name

__all__ = ["Passback"]


class Passback:
    """Who is inside, by one door's memory. Not for use from several threads.

    Somebody counts as inside from the moment that there is a lease: were it noted once the lock
    has opened, a crash between the two would let them in twice.
    """

    def __init__(self, policy: AccessPolicy, memory: DoorMemory, journal: Journal) -> None:
        self._policy, self._memory, self._journal = policy, memory, journal
        # The nonce of the newest lease, and whom it marked.
        self._newest: tuple[str, frozenset[str]] = ("", frozenset())

    def inside(self) -> frozenset[str]:
        """Return the subjects with a permit who are inside."""
        marked, keys = self._memory.state.inside, self._memory.keys
        names = (permit.subject for permit in self._policy.permits if marked)
        return frozenset(name for name in names if keys.pseudonym(name) in marked)

    def entered(self, state: DoorState, subject: str, nonce: str) -> DoorState:
        """Return ``state`` with ``subject`` inside, for whom there will be a lease for ``nonce``.

        Raises:
            AccessStateError: They were inside already, and that cannot be written.
            AuditError: As above.
        """
        name = self._memory.keys.pseudonym(subject)
        again = name in state.inside
        if again and self._policy.anti_passback == "soft":
            self._journal.tell(AccessEventKind.PASSBACK, subject)
        off = again or self._policy.anti_passback == "off"
        marked = frozenset() if off else frozenset({name})
        self._newest = (nonce, marked)
        return replace(state, inside=state.inside | marked)

    def not_opened(self, lease: Lease) -> None:
        """Take back what ``lease`` marked, if it is the newest.

        Raises:
            AccessStateError: It cannot be written.
            AuditError: As above.
        """
        newest, marked = self._newest
        if not newest or lease.nonce != newest:
            return
        self._newest = ("", frozenset())
        state = replace(self._memory.state, inside=self._memory.state.inside - marked)
        self._journal.tell(AccessEventKind.NOT_OPENED, state=state)

    def left(self, subject: str) -> None:
        """Take that ``subject`` went out.

        Raises:
            InvalidInputError: No name of a subject.
            AccessStateError: It cannot be written.
            AuditError: As above.
        """
        name = normalise_subject_name(subject)
        inside = self._memory.state.inside - {self._memory.keys.pseudonym(name)}
        state = replace(self._memory.state, inside=inside)
        self._journal.tell(AccessEventKind.LEFT, name, state=state)
