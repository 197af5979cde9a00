"""What the camera of a door has shown lately: frames as evidence, tracks that are barred."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from edgeface._pad_words import PadOutcome
from edgeface.access.policy import AccessPolicy
from edgeface.access.values import FrameEvidence
from edgeface.camera.health import CameraHealth
from edgeface.errors import InvalidInputError
from edgeface.types import Frame, Observation

__all__ = ["Sight"]

_MAX_FRAMES = 512
# A track that was seen to be an attack stays barred until it has been gone for so long: a stream
# that was opened again counts its tracks from the start.
_BARRED_S = 10.0


class Sight:
    """Keeps the newest frames of one camera. Not for use from several threads."""

    def __init__(self, policy: AccessPolicy) -> None:
        self._policy = policy
        self._frames: deque[FrameEvidence] = deque(maxlen=_MAX_FRAMES)
        self._barred: dict[int, float] = {}
        self.camera: CameraHealth | None = None
        self.consumed_s = -math.inf

    @property
    def frames(self) -> tuple[FrameEvidence, ...]:
        """The newest frames, oldest first."""
        return tuple(self._frames)

    @property
    def barred(self) -> frozenset[int]:
        """Tracks that were seen to be an attack."""
        return frozenset(self._barred)

    @property
    def is_camera_usable(self) -> bool:
        """Whether the camera is live and nothing speaks against its pictures."""
        return self.camera is not None and self.camera.is_usable

    def see(
        self,
        frame: Frame | None,
        observations: Sequence[Observation],
        camera: CameraHealth | None,
        now_s: float,
    ) -> bool:
        """Take a frame; return whether a track turned out to be an attack just now.

        Raises:
            InvalidInputError: The clock gives no time, or ``camera`` is no health of one.
        """
        if not math.isfinite(now_s):
            raise InvalidInputError("the clock gives no time")
        given: object = camera
        if not isinstance(given, CameraHealth | None):
            kind = type(given).__name__
            raise InvalidInputError(f"wanted the health of a camera or None, got {kind}")
        self.camera = camera
        # What was seen by a camera that was unusable since proves nothing.
        if camera is not None and not camera.is_usable:
            self._frames.clear()
        if frame is None:
            return False
        # A recording has times of its own, which say nothing about now.
        at_s = now_s if camera is None and self._policy.demonstration else None
        ignored = self._policy.evidence.ignore_faces_below
        seen = FrameEvidence.of(frame, observations, ignore_faces_below=ignored, captured_s=at_s)
        self._keep(seen, now_s)
        return self._bar_attacks(observations, now_s)

    def use_up(self, now_s: float) -> None:
        """Let no frame seen so far count for another decision; ``now_s`` may be no number."""
        if self._frames:
            # A frame that claims to be of tomorrow must not keep out those of today.
            newest_s = self._frames[-1].captured_s
            self.consumed_s = max(self.consumed_s, newest_s if newest_s <= now_s else now_s)
        self._frames.clear()

    def begin_at(self, now_s: float) -> None:
        """Let no frame count that was taken up to now, seen so far or not."""
        self._frames.clear()
        self.consumed_s = max(self.consumed_s, now_s)

    def _keep(self, seen: FrameEvidence, now_s: float) -> None:
        if self._frames and seen.captured_s < self._frames[-1].captured_s:
            self._frames.clear()
        self._frames.append(seen)
        oldest_s = now_s - self._policy.evidence.max_window_s
        while self._frames and self._frames[0].captured_s < oldest_s:
            self._frames.popleft()

    def _bar_attacks(self, observations: Sequence[Observation], now_s: float) -> bool:
        gone = [number for number, at_s in self._barred.items() if now_s - at_s > _BARRED_S]
        for gone_number in gone:
            del self._barred[gone_number]
        is_new = False
        for face in observations:
            number = face.track_id
            if number is None:
                continue
            is_attack = face.pad is not None and face.pad.outcome is PadOutcome.ATTACK
            is_new = is_new or (is_attack and number not in self._barred)
            if is_attack or number in self._barred:
                self._barred[number] = now_s
        return is_new
