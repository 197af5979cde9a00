"""A door that opens, and everything that may be changed about it: for tests of access."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.access import (
    AccessController,
    AccessEvent,
    AccessInputs,
    AccessKeys,
    AccessPolicy,
    AccessState,
    ControllerOptions,
    DoorClocks,
    FactorKind,
    FactorStore,
    FrameEvidence,
    LeaseVerifier,
    ModelFacts,
    Permit,
    Schedule,
    ScryptCost,
    VerifiedFactor,
    WallTime,
)
from edgeface.camera import CameraHealth, CameraState
from edgeface.pad import PadDecision, PadOutcome, PadReason
from edgeface.testing import ManualClock
from edgeface.types import (
    BoundingBox,
    Candidate,
    FaceDetection,
    Frame,
    IdentificationResult,
    Observation,
    OperatingPoint,
    Outcome,
    QualityMeasure,
    QualityReport,
)

# Second factors lie encrypted.
pytest.importorskip("cryptography")

__all__ = [
    "ATTACK",
    "BONA_FIDE",
    "CAMERA",
    "CHEAP",
    "FACTS",
    "MODEL",
    "NOON",
    "NOW_S",
    "PIN",
    "POINT",
    "POLICY",
    "UNDECIDED",
    "Door",
    "good_frames",
    "good_inputs",
    "seen",
]

MODEL = "a" * 64
NOW_S = 5000.0
PIN = "274913"
NOON = datetime(2026, 6, 3, 12, 0, tzinfo=timezone.utc)  # a Wednesday
CHEAP = ScryptCost(log2=4, block=1, lanes=1)
POINT = OperatingPoint(
    0.5, 1e-6, "fp32", "searches", target_fpir=1e-4, gallery_size=100, n_non_mated=10_000
)
FACTS = ModelFacts(
    model_id=MODEL,
    operating_point=POINT,
    gallery_size=20,
    gallery_model_id=MODEL,
    is_demonstration=False,
)
CAMERA = CameraHealth("webcam 0", CameraState.LIVE, fps=25.0, age_s=0.02, frames=100)
BONA_FIDE = PadDecision(PadOutcome.BONA_FIDE, 0.95, 8)
ATTACK = PadDecision(PadOutcome.ATTACK, 0.05, 8, (PadReason.LOOKS_LIKE_ATTACK,))
UNDECIDED = PadDecision(PadOutcome.UNDECIDED, None, 2, (PadReason.TOO_FEW_FRAMES,))
OFFICE = Schedule(
    name="office", days=("mon", "tue", "wed", "thu", "fri"), start="07:00", end="19:00"
)
POLICY = AccessPolicy(
    door="front",
    permits=(Permit(subject="Ada"), Permit(subject="Bob", schedules=("office",))),
    schedules=(OFFICE,),
    anti_passback="hard",
)


def good_frames(subject: str = "Ada", *, now_s: float = NOW_S) -> tuple[FrameEvidence, ...]:
    """Seven frames of one bona fide face, 0.1 s apart, the newest 0.05 s old."""
    return tuple(
        FrameEvidence(
            captured_s=now_s - 0.05 - 0.1 * (6 - k),
            faces=1,
            track_id=3,
            is_compared=True,
            subject=subject,
            score=0.8,
            rival=0.1,
            pad=BONA_FIDE,
            eyes_open=0.05,
        )
        for k in range(7)
    )


def good_inputs(subject: str = "Ada", **changes: Any) -> AccessInputs:
    """Everything that the policy asks for."""
    inputs = AccessInputs(
        now_s=NOW_S,
        frames=good_frames(subject),
        camera=CAMERA,
        model=FACTS,
        factor=VerifiedFactor(subject=subject, kind=FactorKind.PIN, at_s=NOW_S - 3.0),
        intent_s=NOW_S - 2.0,
        wall=WallTime(NOON),
    )
    return replace(inputs, **changes)


def good_state(**changes: Any) -> AccessState:
    return replace(AccessState(), **changes)


_PIXELS = np.zeros((48, 64, 3), np.uint8)


def seen(
    subject: str | None = "Ada",
    *,
    score: float = 0.8,
    track_id: int = 3,
    pad: PadDecision | None = BONA_FIDE,
    left_px: float = 10.0,
    is_carried: bool = False,
) -> Observation:
    """One face as a stream gives it; ``subject`` None is somebody whom nobody knows."""
    found = (Candidate(subject or "Ada", score if subject else 0.2),)
    outcome = Outcome.KNOWN if subject else Outcome.UNKNOWN
    result = IdentificationResult(outcome, subject, found[0].score, found)
    return Observation(
        FaceDetection(BoundingBox(left_px, 10.0, 20.0, 24.0), 0.9),
        result,
        QualityReport({QualityMeasure.EYES_OPEN: 0.05}, (), 0.9),
        track_id=track_id,
        is_carried=is_carried,
        pad=pad,
    )


class Door:
    """A controller in a folder, with clocks that stand still until they are told."""

    def __init__(
        self,
        folder: Path,
        policy: AccessPolicy = POLICY,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.folder, self.policy = folder, policy
        folder.mkdir(mode=0o700, exist_ok=True)
        self.clock = ManualClock(NOW_S)
        self.time = clock or self.clock
        self.slept_s = 0.0
        self.on_event: Callable[[AccessEvent], None] | None = None
        self.wall = NOON
        self.boot = "boot-1"
        self.keys = AccessKeys.of_secret(hashlib.sha256(b"a secret of tests").digest())
        self.health: CameraHealth | None = CAMERA
        self.facts = FACTS
        self.track_id = 3
        self.factors = FactorStore(folder, self.keys, cost=CHEAP)
        if not self.factors.subjects():
            self.factors.set_pin("Ada", PIN, duress_pin="274914")
            self.factors.set_pin("Bob", "905516")
        self.verifier = LeaseVerifier("front", self.keys.lease, clock=self.uptime, boot=self.boot)
        self.controller = self._open(create=True)

    def _open(self, *, create: bool) -> AccessController:
        clocks = DoorClocks(
            monotonic=self.time, wall=lambda: self.wall, boot=self.boot, uptime=self.uptime
        )
        return AccessController.open(
            self.policy,
            self.folder,
            self.keys,
            lambda _policy: self.facts,
            factors=self.factors,
            options=ControllerOptions(
                create=create,
                clocks=clocks,
                anchor_folder=self.folder / "anchors",
                on_event=lambda event: None if self.on_event is None else self.on_event(event),
            ),
        )

    def uptime(self) -> float:
        """The clock that goes on while the machine sleeps."""
        return self.time() + self.slept_s

    def sleep(self, seconds: float) -> None:
        """Suspend the machine: its monotonic clock stands still meanwhile."""
        self.slept_s += seconds
        self.wall += timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall += timedelta(seconds=seconds)

    def restart(self, *, reboot: bool = False, uptime_s: float = 30.0) -> None:
        """Start again: in the same run of the machine, or after it was off."""
        self.controller.close()
        if reboot:
            self.boot = f"boot-{int(self.boot[5:]) + 1}"
            self.clock.now_s, self.slept_s = uptime_s, 0.0
        self.verifier = LeaseVerifier("front", self.keys.lease, clock=self.uptime, boot=self.boot)
        self.factors = FactorStore(self.folder, self.keys)
        self.controller = self._open(create=False)

    def look(self, *faces: Observation, frames: int = 7, gap_s: float = 0.1) -> None:
        """Show ``frames`` frames of these faces; of Ada, where there are none."""
        for _ in range(frames):
            self.advance(gap_s)
            frame = Frame(_PIXELS, self.clock.now_s)
            self.controller.observe(frame, faces or (seen(track_id=self.track_id),), self.health)

    def try_to_open(self, *faces: Observation, pin: str | None = PIN) -> bool:
        """Press, look, type, and put the lease to the lock; return whether it opened."""
        self.controller.press()
        self.look(*faces)
        if pin is not None:
            self.controller.present_factor(pin)
        answer = self.controller.decide(self.verifier.challenge)
        if answer.lease is None:
            return False
        self.verifier.verify(answer.lease.token)
        return True

    def fail(self) -> None:
        """Make an attempt that nobody recognises, with a new track."""
        self.track_id += 1
        assert not self.try_to_open(seen(None, track_id=self.track_id), pin=None)
