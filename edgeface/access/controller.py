"""The controller of one door: takes what is seen and typed, keeps count, and gives leases."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from edgeface.access.answers import AccessAnswer, DoorStatus, FactorAnswer
from edgeface.access.clock import WallWatch
from edgeface.access.conditions import Condition
from edgeface.access.decide import AccessDecision, decide
from edgeface.access.events import AccessEvent, AccessEventKind
from edgeface.access.journal import Detail, Journal
from edgeface.access.judging import Verdict, judge, named_subject
from edgeface.access.keys import AccessKeys
from edgeface.access.lease import Lease, sign_lease
from edgeface.access.memory import DoorMemory
from edgeface.access.options import ControllerOptions, Nonce
from edgeface.access.policy import AccessPolicy
from edgeface.access.second_factor import FactorStore
from edgeface.access.sight import Sight
from edgeface.access.values import (
    AccessInputs,
    AccessState,
    Facts,
    VerifiedFactor,
    WallTime,
)
from edgeface.camera.health import CameraHealth
from edgeface.errors import AccessStateError
from edgeface.gallery.base import normalise_subject_name
from edgeface.types import Frame, Observation

__all__ = ["AccessController"]


class AccessController:
    """Decides on one door. Made by :meth:`open`; usable from several threads.

    Give it every frame with :meth:`observe`, the press of the button with :meth:`press`, codes with
    :meth:`present_factor`, and ask :meth:`decide` after each. Only the lease in its answer opens
    anything. Whatever goes wrong inside is a fault: an answer that denies, and an event.
    """

    def __init__(
        self,
        policy: AccessPolicy,
        memory: DoorMemory,
        facts: Facts,
        factors: FactorStore,
        *,
        on_event: Callable[[AccessEvent], None] | None = None,
    ) -> None:
        self.policy = policy
        self._memory, self._facts, self._factors = memory, facts, factors
        self._keys, self._clock = memory.keys, memory.clocks.monotonic
        self._wall = WallWatch(memory.clocks, noted=memory.state.noted)
        self._journal = Journal(memory, on_event)
        self._guard = threading.RLock()
        self._sight = Sight(policy)
        self._factor: VerifiedFactor | None = None
        self._intent_s: float | None = None
        self._judged_s = -math.inf
        self._clock_doubt = ""
        self._closed = False

    @classmethod
    def open(
        cls,
        policy: AccessPolicy,
        folder: Path,
        keys: AccessKeys,
        facts: Facts,
        *,
        factors: FactorStore | None = None,
        options: ControllerOptions | None = None,
    ) -> AccessController:
        """Return the controller of the door whose state is in ``folder``.

        ``facts`` gives model, threshold and gallery size anew; see
        :func:`~edgeface.access.recognizer_facts`. ``factors`` are those in the folder.

        Raises:
            AccessStateError: The state is missing, changed, older than it was, open to others, or
                in use by another controller.
            AuditError: The log is missing, changed, cut short or older than it was.
        """
        chosen = options or ControllerOptions()
        memory = DoorMemory(
            folder, keys, chosen.clocks, create=chosen.create, anchor_folder=chosen.anchor_folder
        )
        try:
            store = factors or FactorStore(folder, keys)
            controller = cls(policy, memory, facts, store, on_event=chosen.on_event)
            controller._start()
        except BaseException:
            memory.close()
            raise
        return controller

    # ------------------------------------------------------------------ what is seen and typed

    def observe(
        self,
        frame: Frame | None,
        observations: Sequence[Observation] = (),
        camera: CameraHealth | None = None,
    ) -> None:
        """Take a frame with what was seen in it, and how its camera is doing.

        Call it with ``frame`` None when no frame came: then only ``camera`` is taken. ``camera``
        is the health of a live source; None is accepted for demonstrations only. Never raises:
        what cannot be used is a fault, and what was seen before is forgotten.
        """
        with self._guard:
            try:
                was_usable = self._sight.is_camera_usable
                now_s = self._clock()
                attack = self._sight.see(frame, observations, camera, now_s)
                if self._sight.is_camera_usable != was_usable:
                    usable = self._sight.is_camera_usable
                    self._journal.tell(AccessEventKind.CAMERA, detail={"usable": usable})
                if attack:
                    self._journal.tell(AccessEventKind.ATTACK)
            except Exception as exc:  # noqa: BLE001 - nothing here may end the door's loop
                self._sight.forget()
                self._journal.note_fault(exc)

    def press(self) -> None:
        """Take a press of the button: somebody wants to come in."""
        with self._guard:
            self._intent_s = self._clock()

    def present_factor(self, code: str, subject: str | None = None) -> FactorAnswer:
        """Return whether ``code`` is a second factor of ``subject``.

        Without a subject, of the one that the camera sees. A wrong code counts as a failed
        attempt. While everything waits after failures no code is looked at. Where failures turned
        the face off, a right code turns it on again. Never raises.
        """
        with self._guard:
            try:
                return self._present_factor(code, subject)
            except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
                self._factor = None
                self._journal.note_fault(exc)
                return FactorAnswer(False, "out of order")

    def note_left(self, subject: str) -> None:
        """Take that ``subject`` went out, for anti-passback. Never raises."""
        with self._guard:
            try:
                name = normalise_subject_name(subject)
                inside = self._memory.state.inside - {self._keys.pseudonym(name)}
                state = replace(self._memory.state, inside=inside)
                self._journal.tell(AccessEventKind.LEFT, name, state=state)
            except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
                self._journal.note_fault(exc)

    def trust_clock(self) -> WallTime:
        """Take the time of day for right: NTP says so, or somebody who set it. It is logged."""
        with self._guard:
            read = self._wall.trust()
            try:
                self._journal.tell(AccessEventKind.CLOCK, detail={"trusted": not read.doubt})
            except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
                self._journal.note_fault(exc)
            return read

    # ------------------------------------------------------------------ decisions

    def explain(self) -> AccessDecision:
        """Return what would be decided now; opens nothing and counts nothing. Never raises."""
        with self._guard:
            try:
                return decide(self.policy, self._state(), self._inputs())
            except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
                return self._denied(exc)

    def decide(self, nonce: Nonce) -> AccessAnswer:
        """Return the decision, and a lease for ``nonce`` where the door opens.

        A lease uses up the frames, the press and the code that led to it. A failed attempt is
        counted, and is on the disk before this returns. Never raises.
        """
        with self._guard:
            try:
                answer = self._decide(nonce)
            except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
                self._use_up()
                self._journal.note_fault(exc)
                return AccessAnswer(self._denied(exc))
            return answer

    def status(self) -> DoorStatus:
        """Return how the door is doing."""
        with self._guard:
            lockout = self._memory.state.lockout
            return DoorStatus(
                door=self.policy.door,
                fault=self._journal.fault or self._memory.problem,
                wait_s=lockout.left_s(self._clock()),
                failures=lockout.failures,
                is_face_off=lockout.is_face_off,
                is_camera_usable=self._sight.is_camera_usable,
                clock_doubt=self._wall.read().doubt,
                is_demonstration=self.policy.demonstration,
            )

    def take_events(self) -> tuple[AccessEvent, ...]:
        """Return what happened since the last call, oldest first; at most the last 256."""
        with self._guard:
            return self._journal.take()

    def close(self) -> None:
        """Free the files; may be called twice. A closed controller gives no lease."""
        with self._guard:
            self._closed = True
            self._memory.close()

    def __enter__(self) -> AccessController:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ inside

    def _start(self) -> None:
        state, wall = self._memory.state, self._wall.read()
        if self._factors.version < state.factors_version:
            raise AccessStateError(
                "the second factors of the door are an older copy; put the newest file back"
            )
        noted = wall.moment if not wall.doubt else state.noted
        state = replace(state, factors_version=self._factors.version, noted=noted)
        digest = hashlib.sha256(repr(self.policy).encode()).hexdigest()
        self._journal.tell(AccessEventKind.STARTED, detail={"policy": digest}, state=state)

    def _state(self) -> AccessState:
        state, now_s = self._memory.state, self._clock()
        fault = "closed" if self._closed else self._memory.problem
        inside = frozenset(
            permit.subject
            for permit in self.policy.permits
            if state.inside and self._keys.pseudonym(permit.subject) in state.inside
        )
        return AccessState(
            fault=fault,
            wait_s=state.lockout.left_s(now_s),
            failures=state.lockout.failures,
            is_face_off=state.lockout.is_face_off,
            barred_tracks=self._sight.barred,
            consumed_s=self._sight.consumed_s,
            inside=inside,
        )

    def _inputs(self) -> AccessInputs:
        wall = self._wall.read()
        if wall.doubt != self._clock_doubt:
            self._clock_doubt = wall.doubt
            self._journal.tell(AccessEventKind.CLOCK, detail={"doubt": wall.doubt})
        return AccessInputs(
            now_s=self._clock(),
            frames=self._sight.frames,
            camera=self._sight.camera,
            model=self._facts(self.policy),
            factor=self._factor,
            intent_s=self._intent_s,
            wall=wall,
        )

    def _decide(self, nonce: Nonce) -> AccessAnswer:
        if self._closed:
            return AccessAnswer(self._denied("closed"))
        self._memory.save()
        decision, inputs = self._look()
        if not decision.is_open:
            self._count(judge(self.policy, decision, inputs, self._judged_s), decision, inputs)
            return AccessAnswer(decision)
        text = nonce() if callable(nonce) else nonce
        # Fetching the nonce may have taken longer than a frame may be old.
        decision, inputs = self._look()
        if not decision.is_open or decision.subject is None:
            return AccessAnswer(decision)
        lease = Lease(
            door=self.policy.door,
            nonce=text,
            issued_s=0.0,
            life_s=self.policy.lease_s,
            boot=self._memory.clocks.boot,
            demonstration=self.policy.demonstration,
        )
        sign_lease(lease, self._keys.lease)  # a nonce that cannot be used fails before the log
        self._open_for(decision.subject)
        self._journal.recovered()
        issued = replace(lease, issued_s=self._clock())
        return AccessAnswer(decision, sign_lease(issued, self._keys.lease))

    def _look(self) -> tuple[AccessDecision, AccessInputs]:
        inputs = self._inputs()
        return decide(self.policy, self._state(), inputs), inputs

    def _open_for(self, subject: str) -> None:
        self._use_up()
        state, name = self._memory.state, self._keys.pseudonym(subject)
        again = name in state.inside
        if self.policy.anti_passback != "off":
            state = replace(state, inside=state.inside | {name})
        wall = self._wall.read()
        state = replace(state, lockout=state.lockout.succeeded())
        if not wall.doubt:
            state = replace(state, noted=wall.moment)
        if again and self.policy.anti_passback == "soft":
            self._journal.tell(AccessEventKind.PASSBACK, subject)
        self._journal.tell(AccessEventKind.OPENED, subject, state=state)

    def _count(self, verdict: Verdict, decision: AccessDecision, inputs: AccessInputs) -> None:
        if verdict is Verdict.PENDING:
            return
        self._use_up()
        self._judged_s = inputs.now_s
        if verdict is Verdict.REFUSED:
            unmet = ", ".join(condition.what for condition in decision.unmet)
            self._journal.tell(AccessEventKind.DENIED, decision.subject, detail={"unmet": unmet})
            return
        what = "attack" if verdict is Verdict.ATTACK else "not recognised"
        self._failed(what, is_attack=verdict is Verdict.ATTACK)

    def _failed(self, what: str, *, is_attack: bool = False) -> None:
        """Count a failed attempt; the count holds in memory even where the disk fails."""
        before, now_s = self._memory.state, self._clock()
        lockout = before.lockout.failed(self.policy.lockout, now_s, is_attack=is_attack)
        state = replace(before, lockout=lockout)
        detail: Detail = {"what": what, "failures": lockout.failures}
        try:
            self._journal.tell(AccessEventKind.FAILED, state=state, detail=detail)
        finally:
            wait_s = lockout.left_s(now_s)
            if wait_s > before.lockout.left_s(now_s):
                self._journal.tell(AccessEventKind.LOCKED_OUT, detail={"wait_s": wait_s})
            if lockout.is_face_off and not before.lockout.is_face_off:
                self._journal.tell(AccessEventKind.FACE_OFF)

    def _present_factor(self, code: str, subject: str | None) -> FactorAnswer:
        self._factor = None
        self._memory.save()
        now_s = self._clock()
        if self._closed or self._memory.state.lockout.left_s(now_s) > 0.0:
            return FactorAnswer(False, "please wait")
        claimed = named_subject(self.policy, self._inputs()) if subject is None else subject
        if claimed is None:
            return FactorAnswer(False, "look into the camera first")
        name = normalise_subject_name(claimed)
        pseudonym = self._keys.pseudonym(name)
        used = self._memory.state.used_codes.get(pseudonym, -1)
        found = self._factors.check(name, code, self._wall.read(), used_step=used)
        refused = found.is_duress and self.policy.factors.duress == "deny"
        if found.is_duress:
            self._journal.tell(AccessEventKind.DURESS, name)
        if found.kind is None or refused:
            self._failed("factor")
            return FactorAnswer(False, "not accepted")
        state = self._memory.state
        if found.step is not None:
            state = replace(state, used_codes={**state.used_codes, pseudonym: found.step})
        turned_on = state.lockout.is_face_off
        if turned_on:
            state = replace(state, lockout=state.lockout.succeeded())
        # On the disk before it holds: a code that is right once must not be right again.
        self._journal.tell(AccessEventKind.FACTOR, name, state=state)
        if turned_on:
            self._journal.tell(AccessEventKind.FACE_ON, name)
        self._factor = VerifiedFactor(
            subject=name, kind=found.kind, at_s=self._clock(), is_duress=found.is_duress
        )
        return FactorAnswer(True)

    def _use_up(self) -> None:
        """Let nothing that led to one decision lead to another."""
        self._sight.use_up()
        self._factor, self._intent_s = None, None

    def _denied(self, cause: Exception | str) -> AccessDecision:
        """Return the denial of a fault; its text tells no more than the kind of error."""
        got = cause if isinstance(cause, str) else type(cause).__name__
        return AccessDecision(False, (Condition("no fault", got, "no fault", False),))
