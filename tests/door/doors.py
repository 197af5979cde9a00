"""A door for tests: real keys, policy, controller and lock; frames that say what they are told."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeface.access import (
    AccessController,
    AccessEvent,
    AccessKeys,
    AccessPolicy,
    ControllerOptions,
    EvidenceRule,
    FactorStore,
    Lease,
    LeaseVerifier,
    ModelFacts,
    Permit,
    ScryptCost,
    sign_lease,
)
from edgeface.access.clock import DoorClocks
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
)

DOOR, PIN, DURESS_PIN = "test door", "271828", "314159"
KEY = bytes(range(32))
POLICY = AccessPolicy(
    door=DOOR,
    permits=(Permit(subject="alice"),),
    evidence=EvidenceRule(min_eyes_open=0.0),
    require_pad=False,
    risk_accepted_by="a test",
    demonstration=True,
)
_POINT = OperatingPoint(0.5, 1e-4, "fp32", "test", target_fpir=1e-4, gallery_size=100)
_PIXELS = np.zeros((48, 64, 3), np.uint8)


def facts(_policy: AccessPolicy) -> ModelFacts:
    return ModelFacts(
        model_id="m",
        operating_point=_POINT,
        gallery_size=1,
        gallery_model_id="m",
        is_demonstration=True,
    )


def seen(subject: str = "alice", *, score: float = 0.9, track_id: int = 1) -> Observation:
    """A face that this frame names ``subject``."""
    result = IdentificationResult(
        Outcome.KNOWN, subject, score, candidates=(Candidate(subject, score),)
    )
    box = BoundingBox(10.0, 10.0, 30.0, 30.0)
    return Observation(FaceDetection(box, 0.9), result, track_id=track_id)


def token(
    nonce: str,
    *,
    life_s: float = 0.3,
    key: bytes = KEY,
    door: str = DOOR,
    demonstration: bool = False,
) -> str:
    """A lease for a lock whose clock is another machine's."""
    lease = Lease(
        door=door,
        nonce=nonce,
        issued_s=0.0,
        life_s=life_s,
        boot="another machine",
        demonstration=demonstration,
    )
    return sign_lease(lease, key).token


def verifier(**more: bool) -> LeaseVerifier:
    return LeaseVerifier(DOOR, KEY, **more)  # type: ignore[arg-type]


@dataclass
class BoltOnPaper:
    """Keeps what it was told; ``fails`` breaks it."""

    name: str = "bolt"
    released: list[float] = field(default_factory=list)
    engaged: int = 0
    fails: bool = False
    closed: bool = False
    is_locked: bool = True
    problem: str = ""
    hangs_until: threading.Event | None = None

    def release(self, seconds: float) -> None:
        if self.hangs_until is not None:
            self.hangs_until.wait(30.0)
        if self.fails:
            raise OSError("the relay burnt")
        self.is_locked = False
        self.released.append(seconds)

    def engage(self) -> None:
        self.is_locked = True
        self.engaged += 1

    def close(self) -> None:
        self.engage()
        self.closed = True


@dataclass
class TestDoor:
    """A controller on a clock that stands still, with alice's PINs."""

    __test__ = False

    folder: Path
    policy: AccessPolicy = POLICY
    clock: ManualClock = field(default_factory=lambda: ManualClock(1000.0))
    events: list[AccessEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = AccessKeys.of_secret(secrets.token_bytes(32))
        self.folder.mkdir(mode=0o700, exist_ok=True)
        store = FactorStore(self.folder, self.keys, cost=ScryptCost(log2=1, block=1, lanes=1))
        store.set_pin("alice", PIN, duress_pin=DURESS_PIN)
        self.controller = AccessController.open(
            self.policy,
            self.folder,
            self.keys,
            facts,
            factors=store,
            options=ControllerOptions(
                create=True,
                clocks=DoorClocks(monotonic=self.clock, boot="app"),
                anchor_folder=self.folder.parent / "anchors",
                on_event=self.events.append,
            ),
        )

    def look(self, frames: int = 7, subject: str = "alice") -> None:
        """Show ``frames`` frames of one person, a tenth of a second apart."""
        for _ in range(frames):
            self.clock.advance(0.1)
            self.controller.observe(Frame(_PIXELS, self.clock()), [seen(subject)])
