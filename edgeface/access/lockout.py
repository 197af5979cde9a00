"""Failed attempts in a row, and what they lead to: waits that grow, then no face at all.

Waits are counted on the monotonic clock. What is left of one is kept with the name of the run it
was counted in; in another run, the whole wait counts anew, since nobody can say how long the
machine was off. The time of day is never asked, so that setting it shortens nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgeface.access.policy import LockoutRule

__all__ = ["Lockout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockout:
    """How many attempts failed in a row, and until when everything waits.

    ``until_s`` is on the monotonic clock of the run ``boot``; ``wait_s`` is the whole wait that
    ends then. ``is_face_off`` stays until somebody gives a second factor.
    """

    boot: str
    failures: int = 0
    is_face_off: bool = False
    until_s: float = -math.inf
    wait_s: float = 0.0

    def failed(self, rule: LockoutRule, now_s: float, *, is_attack: bool = False) -> Lockout:
        """Return the state after one more failed attempt."""
        failures = self.failures + 1
        wait_s = rule.attack_wait_s if is_attack else 0.0
        excess = failures - rule.free_failures
        if excess >= 0:
            # 2.0**64 s are longer than any machine runs; more would overflow.
            wait_s = max(wait_s, min(rule.max_wait_s, rule.first_wait_s * 2.0 ** min(excess, 64)))
        left_s = self.left_s(now_s)
        longer = wait_s > left_s
        return replace(
            self,
            failures=failures,
            is_face_off=self.is_face_off or failures >= rule.face_off_after,
            until_s=now_s + wait_s if longer else self.until_s,
            wait_s=wait_s if longer else self.wait_s,
        )

    def succeeded(self) -> Lockout:
        """Return the state after the door opened: nothing is counted any more."""
        return Lockout(boot=self.boot)

    def left_s(self, now_s: float) -> float:
        """Return how long everything still waits, 0 or more; never more than the whole wait."""
        if not math.isfinite(now_s):
            return max(self.wait_s, 1.0)
        return min(self.wait_s, max(0.0, self.until_s - now_s))

    def to_dict(self) -> dict[str, object]:
        """Return the state as it is stored."""
        has_wait = self.wait_s > 0.0
        return {
            "boot": self.boot,
            "failures": self.failures,
            "is_face_off": self.is_face_off,
            "until_s": self.until_s if has_wait else 0.0,
            "wait_s": self.wait_s,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, object], *, boot: str, now_s: float) -> Lockout:
        """Return the stored state in the run ``boot``, in which it is ``now_s``.

        Raises:
            TypeError: A value has another type.
            ValueError: A value cannot be.
        """
        failures, wait_s, until_s = stored["failures"], stored["wait_s"], stored["until_s"]
        face_off = stored["is_face_off"]
        if type(failures) is not int or type(face_off) is not bool:
            raise TypeError("failures and is_face_off have other types")
        if not isinstance(wait_s, int | float) or not isinstance(until_s, int | float):
            raise TypeError("the wait has another type")
        if failures < 0 or not 0.0 <= wait_s < math.inf or not math.isfinite(until_s):
            raise ValueError("the wait or the failures cannot be")
        # In another run, or with a clock before the one that the wait began on, all of it counts.
        same_run = stored["boot"] == boot and now_s >= until_s - wait_s
        until_s = until_s if same_run else now_s + wait_s
        return cls(
            boot=boot,
            failures=failures,
            is_face_off=face_off,
            until_s=float(until_s) if wait_s > 0.0 else -math.inf,
            wait_s=float(wait_s),
        )
