"""How often one may try a password or a PIN. Time is monotonic: a clock set back helps nobody."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["AttemptLimiter", "LimitOptions", "client_key"]

# NIST SP 800-63B-4: 5 failures, then 30 s before each further try; doubled up to 15 minutes.
_FREE_FAILURES = 5
_FIRST_WAIT_S = 30.0
_LONGEST_WAIT_S = 900.0
_FORGIVEN_AFTER_S = 3600.0
_MOST_KEYS = 4096


def client_key(address: str) -> str:
    """Return what stands for a client: its IPv4 address, or the /64 network of its IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """After ``free_failures`` each failure closes for ``first_wait_s``, doubled each time."""

    free_failures: int = _FREE_FAILURES
    first_wait_s: float = _FIRST_WAIT_S
    longest_wait_s: float = _LONGEST_WAIT_S


@dataclass(slots=True)
class _Tries:
    failures: int = 0
    last_s: float = 0.0
    open_at_s: float = 0.0


class AttemptLimiter:
    """Counts failures by key. A try is counted when it begins, so many at once gain nothing."""

    def __init__(
        self, options: LimitOptions | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options or LimitOptions()
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, *keys: str) -> float:
        """Return 0.0 and count a try for every key, or the seconds to wait, and count nothing."""
        with self._lock:
            now_s = self._clock()
            entries = [self._entry(key, now_s) for key in keys]
            wait_s = max((entry.open_at_s - now_s for entry in entries), default=0.0)
            if wait_s > 0.0:
                return wait_s
            for entry in entries:
                self._count(entry, now_s)
            return 0.0

    def succeed(self, *keys: str) -> None:
        """Take back the try that was counted: only what failed before counts."""
        with self._lock:
            now_s = self._clock()
            for key in keys:
                entry = self._tries.get(key)
                if entry is not None:
                    entry.failures = max(0, entry.failures - 1)
                    entry.open_at_s = now_s

    def forget(self, key: str) -> None:
        """Forget every failure of ``key``."""
        with self._lock:
            self._tries.pop(key, None)

    def _entry(self, key: str, now_s: float) -> _Tries:
        entry = self._tries.pop(key, None)
        if entry is None or now_s - entry.last_s > _FORGIVEN_AFTER_S:
            entry = _Tries()
        self._tries[key] = entry
        # The oldest goes: a flood of addresses must not fill the memory.
        while len(self._tries) > _MOST_KEYS:
            self._tries.popitem(last=False)
        return entry

    def _count(self, entry: _Tries, now_s: float) -> None:
        entry.failures += 1
        entry.last_s = now_s
        over = entry.failures - self._options.free_failures
        if over >= 0:
            wait_s = self._options.first_wait_s * 2.0 ** min(over, 30)
            entry.open_at_s = now_s + min(self._options.longest_wait_s, wait_s)
