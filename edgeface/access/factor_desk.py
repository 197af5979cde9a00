"""Takes the codes that are typed at a door, and notices when people's second factors change."""

from __future__ import annotations

from dataclasses import replace

from edgeface.access.clock import WallWatch
from edgeface.access.events import AccessEventKind
from edgeface.access.journal import Journal
from edgeface.access.memory import DoorMemory
from edgeface.access.policy import AccessPolicy
from edgeface.access.second_factor import FactorCheck, FactorStore
from edgeface.access.tally import Tally
from edgeface.access.values import VerifiedFactor
from edgeface.errors import AccessStateError

__all__ = ["FactorDesk"]


class FactorDesk:
    """The codes of one door. Not for use from several threads."""

    def __init__(
        self,
        policy: AccessPolicy,
        memory: DoorMemory,
        journal: Journal,
        tally: Tally,
        store: FactorStore,
    ) -> None:
        self._policy, self._memory, self._journal = policy, memory, journal
        self._tally, self._store = tally, store

    def start(self) -> int:
        """Return which version of the second factors the door starts with.

        Raises:
            AccessStateError: An older file was put back.
        """
        self._require_newest()
        return self._store.version

    def notice_change(self) -> bool:
        """Take up a file of second factors that was changed; return whether it was.

        Raises:
            AccessStateError: It is gone, damaged, or older than one that was seen.
            AuditError: The log cannot be written.
        """
        if self._store.is_changed:
            self._store.reload()
        self._require_newest()
        if self._store.version == self._memory.state.factors_version:
            return False
        state = replace(self._memory.state, factors_version=self._store.version)
        detail = {"version": self._store.version}
        self._journal.tell(AccessEventKind.FACTORS, detail={**detail}, state=state)
        return True

    def present(self, code: str, subject: str, wall: WallWatch) -> VerifiedFactor | str:
        """Return the factor that ``code`` is of ``subject``, or what to say to the person.

        A duress PIN is told before anything that may refuse it or fail, and costs the same time
        and the same writes as any other.

        Raises:
            AccessStateError: State or second factors cannot be used.
            AuditError: The log cannot be written.
        """
        problem = self._reload()
        found = self._check(code, subject, wall)
        if found.is_duress:
            self._journal.tell_at_once(AccessEventKind.DURESS, subject)
        if self._tally.wait_s(subject) > 0.0:
            if found.is_duress:
                self._journal.write_later(AccessEventKind.DURESS, subject)
            return "please wait"
        if problem is not None:
            raise problem
        self.notice_change()
        self._memory.save()
        return self._take(found, subject)

    def _check(self, code: str, subject: str, wall: WallWatch) -> FactorCheck:
        used = self._memory.state.used_codes.get(self._memory.keys.pseudonym(subject), -1)
        return self._store.check(subject, code, wall.read(), used_step=used)

    def _reload(self) -> Exception | None:
        """Read the file anew; return what went wrong, since a call for help comes before it."""
        try:
            self._store.reload()
        except Exception as exc:  # noqa: BLE001 - raised by the caller, a moment later
            return exc
        return None

    def _take(self, found: FactorCheck, subject: str) -> VerifiedFactor | str:
        hidden = {"duress": found.is_duress}
        refused = found.is_duress and self._policy.factors.duress == "deny"
        if found.kind is None or refused:
            self._tally.failed("factor", subject=subject, hidden={**hidden})
            return "not accepted"
        state, name = self._memory.state, self._memory.keys.pseudonym(subject)
        if found.step is not None:
            state = replace(state, used_codes={**state.used_codes, name: found.step})
        others = {key: count for key, count in state.wrong_codes.items() if key != name}
        turned_on = state.lockout.is_face_off
        lockout = state.lockout.succeeded() if turned_on else state.lockout
        state = replace(state, wrong_codes=others, lockout=lockout)
        # On the disk before it holds: a code that is right once must not be right again.
        self._journal.tell(AccessEventKind.FACTOR, subject, state=state, hidden={**hidden})
        if turned_on:
            self._journal.tell(AccessEventKind.FACE_ON, subject)
        at_s = self._memory.clocks.monotonic()
        return VerifiedFactor(
            subject=subject, kind=found.kind, at_s=at_s, is_duress=found.is_duress
        )

    def _require_newest(self) -> None:
        if self._store.version < self._memory.state.factors_version:
            raise AccessStateError(
                "the second factors of the door are an older copy; put the newest file back"
            )
