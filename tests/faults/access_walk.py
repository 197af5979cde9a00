"""Random days of a door, beside a reference that keeps its own account of what happened.

The reference is written from docs/access.md, not from the code: it keeps every frame, press and
code that was ever given, and says of each opening whether it was right, and of each attempt
whether it must be counted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from edgeface.access import AccessEventKind
from edgeface.camera import CameraState
from edgeface.errors import LeaseError
from tests.access_cases import ATTACK, CAMERA, PIN, POLICY, Door, seen

__all__ = ["Walk"]

_LOST = replace(CAMERA, state=CameraState.LOST)


@dataclass
class Shown:
    at_s: float
    who: str | None
    faces: int
    track: int
    is_attack: bool


@dataclass
class Account:
    """What the reference knows of the run: times are the door's own monotonic clock."""

    shown: list[Shown] = field(default_factory=list)
    pressed_s: float | None = None
    code_s: float | None = None
    failures: int = 0
    face_off: bool = False
    wait_until_s: float = 0.0
    wait_s: float = 0.0
    barred: dict[int, float] = field(default_factory=dict)
    camera_ok: bool = False

    def used_up(self) -> None:
        self.shown, self.pressed_s, self.code_s = [], None, None

    def failed(self, now_s: float, *, is_attack: bool = False) -> None:
        self.failures += 1
        wait_s = 10.0 if is_attack else 0.0
        if self.failures >= 5:
            wait_s = max(wait_s, min(900.0, 30.0 * 2.0 ** (self.failures - 5)))
        if now_s + wait_s > self.wait_until_s and wait_s > 0.0:
            self.wait_until_s, self.wait_s = now_s + wait_s, wait_s
        self.face_off = self.face_off or self.failures >= 20

    def why_closed(self, now_s: float) -> str:
        """Return why the door must stay closed now; empty where it may open."""
        frames = [one for one in self.shown if now_s - one.at_s <= 3.0]
        newest = frames[-7:]
        rules = {
            "waits": now_s < self.wait_until_s,
            "face off": self.face_off,
            "camera": not self.camera_ok,
            "press": self.pressed_s is None or now_s - self.pressed_s > 10.0,
            "code": self.code_s is None or now_s - self.code_s > 20.0,
            "frames": sum(one.who == "Ada" for one in newest) < 5 or len(newest) < 5,
            "other": any(one.who not in ("Ada", None) for one in newest),
            "faces": any(one.faces != 1 for one in newest),
            "tracks": len({one.track for one in newest}) > 1,
            "old": not newest or now_s - newest[-1].at_s > 0.5,
            "attack": any(one.is_attack or one.track in self.barred for one in newest),
        }
        return ", ".join(name for name, is_so in rules.items() if is_so)


class Walk:
    """One door and the reference beside it; :meth:`step` does something at random to both."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.door = Door(folder, replace(POLICY, anti_passback="off"))
        self.rng = rng
        self.account = Account()
        self.track = 1
        self.opened = self.failed = self.attacks = 0
        self.last = ""
        # What people do comes more often than what goes wrong.
        self._steps: tuple[tuple[Callable[[], None], int], ...] = (
            (self.show_mated, 10), (self.show_stranger, 6), (self.press, 9), (self.type_right, 8),
            (self.type_wrong, 3), (self.decide, 14), (self.wait, 4), (self.show_attack, 2),
            (self.show_two, 1), (self.lose_camera, 2), (self.restart, 2), (self.reboot, 2),
            (self.set_clock, 2), (self.new_track, 2), (self.walk_away, 1),
            (self.suspend, 2),
        )  # fmt: skip

    def step(self) -> None:
        steps, weights = zip(*self._steps, strict=True)
        (chosen,) = self.rng.choices(steps, weights)
        self.last = chosen.__name__
        chosen()
        status = self.door.controller.status()
        assert status.failures == self.account.failures, self.last
        assert status.is_face_off == self.account.face_off, self.last
        left_s = max(0.0, self.account.wait_until_s - self.now_s)
        assert status.wait_s >= left_s - 1e-6, (self.last, "a wait was shortened")

    @property
    def now_s(self) -> float:
        return self.door.clock.now_s

    def _show(self, who: str | None, *, faces: int = 1, is_attack: bool = False) -> None:
        count = self.rng.randint(1, 9)
        pad = ATTACK if is_attack else seen().pad
        people = [seen(who, track_id=self.track, pad=pad)]
        if faces == 2:
            people.append(seen("Bob", track_id=self.track + 1000, left_px=30.0))
        for _ in range(count):
            self.door.look(*people, frames=1, gap_s=0.1)
            self.account.shown.append(Shown(self.now_s, who, faces, self.track, is_attack))
            self.account.camera_ok = True
            barred = self.account.barred
            for number in [n for n, at_s in barred.items() if self.now_s - at_s > 10.0]:
                del barred[number]
            if is_attack and self.track not in barred:
                self.attacks += 1
                self.account.used_up()
                self.account.failed(self.now_s, is_attack=True)
            if is_attack or self.track in barred:
                barred[self.track] = self.now_s

    def show_mated(self) -> None:
        self._show("Ada")

    def show_stranger(self) -> None:
        self._show(None)

    def show_attack(self) -> None:
        self._show("Ada", is_attack=True)

    def show_two(self) -> None:
        self._show("Ada", faces=2)

    def new_track(self) -> None:
        self.track += 1

    def walk_away(self) -> None:
        self.door.look(frames=0)
        self.door.advance(4.0)

    def press(self) -> None:
        self.door.controller.press()
        self.account.pressed_s = self.now_s

    def type_right(self) -> None:
        before = self.account.failures
        waits = self.now_s < self.account.wait_until_s
        answer = self.door.controller.present_factor(PIN, "Ada")
        assert answer.accepted is not waits
        self.account.code_s = None if waits else self.now_s
        if answer.accepted and self.account.face_off:
            self.account.face_off, self.account.failures = False, 0
            self.account.wait_until_s = self.account.wait_s = 0.0
        else:
            assert self.account.failures == before

    def type_wrong(self) -> None:
        waits = self.now_s < self.account.wait_until_s
        assert not self.door.controller.present_factor("000003", "Ada").accepted
        self.account.code_s = None
        if not waits:
            self.account.failed(self.now_s)

    def wait(self) -> None:
        self.door.advance(self.rng.choice((0.2, 0.6, 3.0, 31.0, 901.0)))

    def suspend(self) -> None:
        self.door.sleep(self.rng.choice((0.2, 3.0, 8 * 3600.0)))
        self.account.used_up()

    def lose_camera(self) -> None:
        self.door.controller.observe(None, (), _LOST)
        self.account.shown, self.account.camera_ok = [], False

    def restart(self) -> None:
        self.door.restart()
        self._forgot()

    def reboot(self) -> None:
        was_waiting = self.now_s < self.account.wait_until_s
        self.door.restart(reboot=True, uptime_s=self.rng.uniform(5.0, 1e5))
        self._forgot()
        if was_waiting:  # nobody knows how long it was off: all of it again
            self.account.wait_until_s = self.now_s + self.account.wait_s
        else:
            # A wait that was over may count anew, which keeps the door closed for longer.
            self.account.wait_until_s = self.now_s + self.door.controller.status().wait_s

    def _forgot(self) -> None:
        self.account.used_up()
        self.account.barred.clear()
        self.account.camera_ok = False

    def set_clock(self) -> None:
        self.door.wall += timedelta(days=self.rng.choice((-3653, 3653, -1, 1, 400)))

    def decide(self) -> None:
        why = self.account.why_closed(self.now_s)
        self.door.controller.take_events()
        answer = self.door.controller.decide(self.door.verifier.challenge)
        kinds = [event.kind for event in self.door.controller.take_events()]
        if answer.lease is not None:
            assert why == "", f"it opened although: {why}"
            self.door.verifier.verify(answer.lease.token)
            try:
                self.door.verifier.verify(answer.lease.token)
            except LeaseError:
                self.opened += 1
            else:
                raise AssertionError("a lease was accepted twice")
            self.account.used_up()
            self.account.failures = 0
            self.account.wait_until_s = self.account.wait_s = 0.0
        elif AccessEventKind.FAILED in kinds:
            self._check_failure()
        else:
            assert not self._must_fail(), "a failed attempt was not counted"

    def _check_failure(self) -> None:
        account = self.account
        recent = [one for one in account.shown if self.now_s - one.at_s <= 3.0]
        assert account.pressed_s is not None, "nobody asked"
        assert sum(one.who == "Ada" for one in recent[-7:]) < 5
        assert self.now_s >= account.wait_until_s
        self.failed += 1
        account.used_up()
        account.failed(self.now_s)

    def _must_fail(self) -> bool:
        """Return whether seven strangers of one track in a row were seen after a press."""
        account, now_s = self.account, self.now_s
        newest = [one for one in account.shown if now_s - one.at_s <= 3.0][-7:]
        asked = account.pressed_s is not None and now_s - account.pressed_s <= 10.0
        return (
            asked
            and account.camera_ok
            and not account.face_off
            and now_s >= account.wait_until_s
            and len(newest) == 7
            and all(one.who is None and one.faces == 1 and not one.is_attack for one in newest)
            and len({one.track for one in newest}) == 1
            and newest[0].at_s > now_s - 0.75
            and not any(one.is_attack for one in account.shown if now_s - one.at_s <= 3.2)
        )

    def must_still_open(self) -> None:
        """Bring everything in order: the right person must come in."""
        account = self.account
        self.door.advance(20.0 + max(0.0, account.wait_until_s - self.now_s))
        self.door.advance(self.door.controller.status().wait_s)
        self.track += 1
        self.account.used_up()
        account.wait_until_s = 0.0
        if account.face_off:
            self.type_right()
        self.door.track_id = self.track
        assert self.door.try_to_open(), self.door.controller.explain().unmet
        assert self.door.controller.status().failures == 0
        self.door.controller.close()
