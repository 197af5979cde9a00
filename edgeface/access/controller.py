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
from edgeface.access.clock import SleepWatch, WallWatch
from edgeface.access.conditions import Condition
from edgeface.access.decide import AccessDecision, decide
from edgeface.access.events import AccessEvent, AccessEventKind
from edgeface.access.factor_desk import FactorDesk
from edgeface.access.journal import Detail, Journal
from edgeface.access.judging import Verdict, judge, named_subject
from edgeface.access.keys import AccessKeys
from edgeface.access.lease import Lease, sign_lease
from edgeface.access.memory import DoorMemory
from edgeface.access.options import ControllerOptions, Nonce
from edgeface.access.passback import Passback
from edgeface.access.policy import AccessPolicy
from edgeface.access.second_factor import FactorStore
from edgeface.access.sight import Sight
from edgeface.access.state_file import DoorState
from edgeface.access.tally import Tally
from edgeface.access.values import (
    AccessInputs,
    AccessState,
    Facts,
    VerifiedFactor,
    WallTime,
)
from edgeface.camera.health import CameraHealth
from edgeface.gallery.base import normalise_subject_name
from edgeface.types import Frame, Observation

__all__ = ["AccessController"]


class AccessController:
    """Decides on one door. Made by :meth:`open`; usable from several threads.

    Give it every frame with :meth:`observe`, the press of the button with :meth:`press`, codes with
    :meth:`present_factor`, and ask :meth:`decide` after each. Only the lease in its answer opens.
    Whatever goes wrong inside is a fault: an answer that denies, and an event.
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
        self._memory, self._facts, state = memory, facts, memory.state
        self._keys, self._clock = memory.keys, memory.clocks.monotonic
        self._uptime = memory.clocks.with_sleep
        self._sleep = SleepWatch(memory.clocks)
        self._wall = WallWatch(memory.clocks, noted=state.noted, ceiling=state.ceiling)
        self._journal = Journal(memory, on_event)
        self._tally = Tally(policy, memory, self._journal)
        self._passback = Passback(policy, memory, self._journal)
        self._desk = FactorDesk(policy, memory, self._journal, self._tally, factors)
        self._guard = threading.RLock()
        self._sight = Sight(policy)
        self._factor: VerifiedFactor | None = None
        self._intent_s: float | None = None
        self._judged_s = -math.inf
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
        is the health of a live source; None is accepted for demonstrations only. A track that
        turns out to be an attack is a failed attempt, whoever asked. Never raises: what cannot be
        used is a fault, and what was seen before is forgotten.
        """
        with self._guard:
            was_usable, attack = self._sight.is_camera_usable, False
            try:
                self._notice_sleep()
                attack = self._sight.see(frame, observations, camera, self._clock())
            except Exception as exc:  # noqa: BLE001 - nothing here may end the door's loop
                self._use_up_frames()
                self._journal.note_fault(exc)
            # Each by itself: what one of them cannot write must not keep back the next.
            if attack:
                self._safely(self._journal.tell, AccessEventKind.ATTACK)
                self._safely(self._tally.failed, "attack", is_attack=True)
                self._use_up()
            usable = self._sight.is_camera_usable
            if usable != was_usable:
                self._safely(self._journal.tell, AccessEventKind.CAMERA, detail={"usable": usable})

    def press(self) -> None:
        """Take a press of the button: somebody wants to come in."""
        with self._guard:
            self._notice_sleep()
            self._intent_s = self._clock()

    def present_factor(self, code: str, subject: str | None = None) -> FactorAnswer:
        """Return whether ``code`` is a second factor of ``subject``.

        Without a subject, of the one that the camera sees. A wrong code counts as a failed
        attempt, of the door and of that person. While either waits after failures no code is
        taken. Where failures turned the face off, a right code turns it on again. A duress PIN is
        told first of all, whatever is answered. Never raises.
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
            self._safely(self._passback.left, subject)

    def note_not_opened(self, lease: Lease) -> None:
        """Take that the lock refused ``lease``, for anti-passback. Never raises.

        Somebody counts as inside once there is a lease, since a crash must not let them in twice.
        This takes that back. Call it only where the lock said that it stays closed: when it did not
        answer, nobody knows, and :meth:`note_left` is for whoever looked.
        """
        with self._guard:
            self._safely(self._passback.not_opened, lease)

    def trust_clock(self) -> WallTime:
        """Take the time of day for right: NTP says so, or somebody who set it. It is logged."""
        with self._guard:
            read = self._wall.trust()
            state, told = self._noting(self._memory.state), {"trusted": not read.doubt}
            self._safely(self._journal.tell, AccessEventKind.CLOCK, detail=told, state=state)
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
                return self._decide(nonce)
            except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
                self._use_up()
                self._journal.note_fault(exc)
                return AccessAnswer(self._denied(exc))

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
            if not self._closed:
                self._safely(self._journal.write_kept)
                self._safely(self._desk.notice_change)
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

    def _start(self) -> None:
        version, state = self._desk.start(), self._noting(self._memory.state)
        digest = hashlib.sha256(repr(self.policy).encode()).hexdigest()
        if self._memory.is_new:
            state = replace(state, factors_version=version)
        detail: Detail = {"policy": digest, "factors": version}
        self._journal.tell(AccessEventKind.STARTED, detail=detail, state=state)
        if self._memory.unproven:
            detail = dict(self._memory.unproven)
            self._journal.tell_at_once(AccessEventKind.UNPROVEN, detail=detail)
        self._desk.notice_change()

    def _noting(self, state: DoorState) -> DoorState:
        """Return ``state`` with the time of day, where it is to be believed."""
        wall = self._wall.read()
        if wall.doubt:
            return state
        return replace(state, noted=wall.moment, ceiling=self._wall.ceiling)

    def _notice_sleep(self) -> None:
        """Forget what was seen, pressed and typed before the machine slept."""
        if self._sleep.has_slept():
            self._use_up()
            self._sight.begin_at(self._clock())

    def _safely(self, call: Callable[..., object], *given: object, **named: object) -> None:
        """Do what may fail without ending what comes after it."""
        try:
            call(*given, **named)
        except Exception as exc:  # noqa: BLE001 - a fault keeps the door closed
            self._journal.note_fault(exc)

    def _state(self) -> AccessState:
        state, now_s = self._memory.state, self._clock()
        fault = "closed" if self._closed else self._memory.problem
        return AccessState(
            fault=fault,
            wait_s=state.lockout.left_s(now_s),
            failures=state.lockout.failures,
            is_face_off=state.lockout.is_face_off,
            barred_tracks=self._sight.barred,
            consumed_s=self._sight.consumed_s,
            inside=self._passback.inside(),
        )

    def _inputs(self) -> AccessInputs:
        self._notice_sleep()
        return AccessInputs(
            now_s=self._clock(),
            frames=self._sight.frames,
            camera=self._sight.camera,
            model=self._facts(self.policy),
            factor=self._factor,
            intent_s=self._intent_s,
            wall=self._wall.read(),
        )

    def _decide(self, nonce: Nonce) -> AccessAnswer:
        if self._closed:
            return AccessAnswer(self._denied("closed"))
        self._journal.write_kept()
        self._memory.save()
        self._journal.tell_doubt(self._wall.read().doubt)
        if self._desk.notice_change():
            self._factor = None
        decision, inputs = self._look()
        if not decision.is_open:
            self._count(judge(self.policy, decision, inputs, self._judged_s), decision, inputs)
            return AccessAnswer(decision)
        text = nonce() if callable(nonce) else nonce
        # Fetching the nonce may have taken longer than a frame may be old.
        at_s = self._uptime()
        decision, inputs = self._look()
        if not decision.is_open or decision.subject is None:
            return AccessAnswer(decision)
        lease = Lease(
            door=self.policy.door,
            nonce=text,
            issued_s=at_s,
            life_s=self.policy.lease_s,
            boot=self._memory.clocks.boot,
            demonstration=self.policy.demonstration,
        )
        signed = sign_lease(lease, self._keys.lease)  # a nonce that cannot be used fails here
        self._open_for(decision.subject, text)
        self._safely(self._journal.recovered)
        if not 0.0 <= self._uptime() - at_s <= self.policy.evidence.max_age_s:
            # The disk took so long that somebody else may stand there by now.
            self.note_not_opened(signed)
            return AccessAnswer(self._denied("writing took too long"))
        return AccessAnswer(decision, signed)

    def _look(self) -> tuple[AccessDecision, AccessInputs]:
        inputs = self._inputs()
        return decide(self.policy, self._state(), inputs), inputs

    def _open_for(self, subject: str, nonce: str) -> None:
        self._use_up()
        entered = self._passback.entered(self._memory.state, subject, nonce)
        state = self._noting(replace(entered, lockout=entered.lockout.succeeded()))
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
        self._tally.failed("not recognised")

    def _present_factor(self, code: str, subject: str | None) -> FactorAnswer:
        self._notice_sleep()
        self._factor = None
        if self._closed:
            return FactorAnswer(False, "please wait")
        claimed = named_subject(self.policy, self._inputs()) if subject is None else subject
        if claimed is None:
            waits = self._tally.wait_s() > 0.0
            return FactorAnswer(False, "please wait" if waits else "look into the camera first")
        found = self._desk.present(code, normalise_subject_name(claimed), self._wall)
        if isinstance(found, str):
            return FactorAnswer(False, found)
        self._factor = found
        return FactorAnswer(True)

    def _use_up(self) -> None:
        """Let nothing that led to one decision lead to another."""
        self._use_up_frames()
        self._factor, self._intent_s = None, None

    def _use_up_frames(self) -> None:
        try:
            now_s = self._clock()
        except Exception:  # noqa: BLE001 - a clock that fails must not keep what was seen
            now_s = math.nan
        self._sight.use_up(now_s)

    def _denied(self, cause: Exception | str) -> AccessDecision:
        """Return the denial of a fault; its text tells no more than the kind of error."""
        got = cause if isinstance(cause, str) else type(cause).__name__
        return AccessDecision(False, (Condition("no fault", got, "no fault", False),))
