"""Counts failed attempts: for the door, whoever made them, and wrong codes for each person too.

The door's count is forgotten when it opens, for whomever. A person's wrong codes are forgotten
after that person's right code alone: else somebody who may come in would give a friend as many
guesses at another one's PIN as they like.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface.access.events import AccessEventKind
from edgeface.access.journal import Detail, Journal
from edgeface.access.lockout import Lockout
from edgeface.access.memory import DoorMemory
from edgeface.access.policy import AccessPolicy

__all__ = ["Tally"]


class Tally:
    """The counts of one door, kept in its memory. Not for use from several threads."""

    def __init__(self, policy: AccessPolicy, memory: DoorMemory, journal: Journal) -> None:
        self._policy, self._memory, self._journal = policy, memory, journal
        self._clock = memory.clocks.monotonic

    def wait_s(self, subject: str | None = None) -> float:
        """Return how long everything still waits, or the codes of ``subject`` do."""
        now_s, state = self._clock(), self._memory.state
        own = None
        if subject is not None:
            own = state.wrong_codes.get(self._memory.keys.pseudonym(subject))
        return max(state.lockout.left_s(now_s), 0.0 if own is None else own.left_s(now_s))

    def failed(
        self,
        what: str,
        *,
        subject: str | None = None,
        is_attack: bool = False,
        hidden: Detail | None = None,
    ) -> None:
        """Count a failed attempt; the count holds in memory even where the disk fails.

        ``subject`` is whose code was wrong, None for anything but a code.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        before, now_s = self._memory.state, self._clock()
        lockout = before.lockout.failed(self._policy.lockout, now_s, is_attack=is_attack)
        wrong_codes, own_wait_s = dict(before.wrong_codes), 0.0
        # Others open nothing, and their names would fill the state.
        if subject is not None and self._policy.permit_of(subject) is not None:
            name = self._memory.keys.pseudonym(subject)
            own = wrong_codes.get(name, Lockout(boot=lockout.boot))
            wrong_codes[name] = own.failed(self._policy.lockout, now_s)
            own_wait_s = wrong_codes[name].left_s(now_s)
        state = replace(before, lockout=lockout, wrong_codes=wrong_codes)
        detail: Detail = {"what": what, "failures": lockout.failures}
        try:
            self._journal.tell(AccessEventKind.FAILED, state=state, detail=detail, hidden=hidden)
        finally:
            self._tell_waits(before.lockout, lockout, own_wait_s)

    def _tell_waits(self, before: Lockout, after: Lockout, own_wait_s: float) -> None:
        now_s, kinds = self._clock(), AccessEventKind
        wait_s = after.left_s(now_s)
        if wait_s > before.left_s(now_s):
            self._journal.tell(kinds.LOCKED_OUT, detail={"wait_s": wait_s})
        elif own_wait_s > wait_s:
            self._journal.tell(kinds.LOCKED_OUT, detail={"wait_s": own_wait_s, "codes": True})
        if after.is_face_off and not before.is_face_off:
            self._journal.tell(kinds.FACE_OFF)
