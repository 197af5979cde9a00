"""Enrolment from a stream: which frames to take, and what the person should do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from edgeface.errors import EnrolmentError, InvalidInputError
from edgeface.quality import QualityGateOptions, advice
from edgeface.quality.gates import failed_gates
from edgeface.types import Frame, Observation, RejectionReason

__all__ = ["CoachOptions", "Coaching", "EnrolmentCoach", "Pose", "collect_references"]


class Pose(str, Enum):
    """How the head is held in a reference, as seen in the picture."""

    FRONT = "front"
    LEFT = "left"
    RIGHT = "right"


_ASK = {
    Pose.FRONT: "Look straight into the camera.",
    Pose.LEFT: "Turn your head a little to the left edge of the picture.",
    Pose.RIGHT: "Turn your head a little to the right edge of the picture.",
}
_HOLD, _DONE = "Hold still.", "That is all, thank you."


@dataclass(frozen=True, slots=True, kw_only=True)
class CoachOptions:
    """Which references to collect from a stream.

    A face within ``front_deg`` of yaw is frontal; one beyond ``turned_deg`` is turned. ``quality``
    gates the faces, so its limit of yaw is the furthest turn. The first ``poses`` of the tuple is
    the one that must be found. A pose is settled after ``settle_frames`` frames that were no
    better than the one held: the person gets a moment to hold still. It stays settled.
    """

    poses: tuple[Pose, ...] = (Pose.FRONT, Pose.LEFT, Pose.RIGHT)
    front_deg: float = 8.0
    turned_deg: float = 12.0
    settle_frames: int = 5
    quality: QualityGateOptions = field(default_factory=QualityGateOptions.enrolment)

    def __post_init__(self) -> None:
        if not self.poses or len(set(self.poses)) != len(self.poses):
            raise InvalidInputError("a coach needs one or more different poses")
        if not 0 < self.front_deg <= self.turned_deg < self.quality.max_yaw_deg:
            raise InvalidInputError(
                f"front_deg, turned_deg and the gate's yaw must rise, got {self.front_deg}, "
                f"{self.turned_deg}, {self.quality.max_yaw_deg}"
            )
        if self.settle_frames < 0:
            raise InvalidInputError(f"settle_frames must be at least 0, got {self.settle_frames}")


@dataclass(frozen=True, slots=True)
class Coaching:
    """What came of one frame.

    ``advice`` is one short sentence for the person. ``pose`` is the pose that the frame was taken
    for, or None. ``settled`` of ``wanted`` poses are done; ``is_done`` when all are.
    """

    advice: str
    pose: Pose | None
    settled: int
    wanted: int

    @property
    def is_done(self) -> bool:
        """Whether every pose is settled."""
        return self.settled == self.wanted


@dataclass(slots=True, eq=False)
class _Held:
    frame: Frame
    score: float
    since: int = 0


class EnrolmentCoach:
    """Holds the best frame of each pose. ``observe`` gives the faces of a frame."""

    def __init__(
        self,
        observe: Callable[[Frame], list[Observation]],
        options: CoachOptions | None = None,
    ) -> None:
        self._observe = observe
        self._options = options or CoachOptions()
        self._held: dict[Pose, _Held] = {}

    @property
    def frames(self) -> list[Frame]:
        """The best frame of each pose found so far, in the order of the options."""
        return [self._held[pose].frame for pose in self._options.poses if pose in self._held]

    def look(self, frame: Frame) -> Coaching:
        """Take ``frame`` if it is better than what is held, and say what to do next."""
        faces = self._observe(frame)
        reasons = self._reasons(faces)
        if reasons:
            return self._coaching(advice(reasons[0]), None)
        pose = self._pose(faces[0])
        if pose is None:
            return self._coaching(self._ask(), None)
        score = faces[0].quality.score if faces[0].quality else 0.0
        held = self._held.get(pose)
        if held is None or score > held.score:
            self._held[pose] = _Held(frame, score, 0 if held is None else held.since)
            return self._coaching(self._ask(), pose)
        held.since += 1
        return self._coaching(self._ask(), None)

    def _reasons(self, faces: list[Observation]) -> tuple[RejectionReason, ...]:
        if not faces:
            return (RejectionReason.NO_FACE,)
        if len(faces) > 1:
            return (RejectionReason.SEVERAL_FACES,)
        (face,) = faces
        if face.quality is None or face.landmarks is None:
            return face.result.reasons or (RejectionReason.LANDMARKS_NOT_FOUND,)
        return failed_gates(face.quality.values, face.quality.score, self._options.quality)

    def _pose(self, face: Observation) -> Pose | None:
        yaw_deg = face.landmarks.yaw_deg if face.landmarks else 0.0
        if abs(yaw_deg) <= self._options.front_deg:
            found = Pose.FRONT
        elif abs(yaw_deg) >= self._options.turned_deg:
            found = Pose.RIGHT if yaw_deg > 0 else Pose.LEFT
        else:
            return None
        return found if found in self._options.poses else None

    def _settled(self, pose: Pose) -> bool:
        held = self._held.get(pose)
        return held is not None and held.since >= self._options.settle_frames

    def _ask(self) -> str:
        for pose in self._options.poses:
            if not self._settled(pose):
                return _HOLD if pose in self._held else _ASK[pose]
        return _DONE

    def _coaching(self, text: str, pose: Pose | None) -> Coaching:
        settled = sum(map(self._settled, self._options.poses))
        wanted = len(self._options.poses)
        return Coaching(_DONE if settled == wanted else text, pose, settled, wanted)


def collect_references(
    frames: Iterable[Frame],
    coach: EnrolmentCoach,
    say: Callable[[Coaching], None],
    *,
    most: int,
) -> list[Frame]:
    """Return the best frame of each pose in ``frames``, after at most ``most`` of them.

    ``say`` gets what came of each frame. A recording ends; poses that it does not show are left
    out.

    Raises:
        EnrolmentError: No frame shows one person well enough.
    """
    for frame in _first(frames, most):
        coaching = coach.look(frame)
        say(coaching)
        if coaching.is_done:
            break
    if not coach.frames:
        raise EnrolmentError(
            "no frame shows one person well enough to enrol; more light, a closer look straight "
            "into the camera, and nobody else in the picture help"
        )
    return coach.frames


def _first(frames: Iterable[Frame], most: int) -> Iterator[Frame]:
    for number, frame in enumerate(frames):
        if number >= most:
            return
        yield frame
