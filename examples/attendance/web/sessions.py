"""Logins: kept by the server, known to the browser by a random number only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["AnonymousTokens", "Session", "SessionStore"]

_ID_BYTES = 32
_MOST_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """A login of ``account``; ``csrf`` is the token that its forms carry."""

    account: str
    csrf: str


@dataclass(slots=True)
class _Entry:
    session: Session
    begun_s: float
    used_s: float


class SessionStore:
    """Logins by the hash of their id; a copy of the memory does not sign in."""

    def __init__(
        self, idle_s: float, longest_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._idle_s, self._longest_s = idle_s, longest_s
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, account: str) -> str:
        """Return the id, 256 random bits, of a new login."""
        identity = secrets.token_urlsafe(_ID_BYTES)
        now_s = self._clock()
        session = Session(account, secrets.token_urlsafe(_ID_BYTES))
        with self._lock:
            self._entries[_digest(identity)] = _Entry(session, now_s, now_s)
            while len(self._entries) > _MOST_SESSIONS:
                self._entries.popitem(last=False)
        return identity

    def find(self, identity: str | None, *, is_use: bool = True) -> Session | None:
        """Return the login, None when there is none or it is over.

        ``is_use`` False looks without keeping an idle login alive, as a page that refreshes
        itself does.
        """
        if not identity:
            return None
        with self._lock:
            digest, now_s = _digest(identity), self._clock()
            entry = self._entries.get(digest)
            if entry is None:
                return None
            idle_s, age_s = now_s - entry.used_s, now_s - entry.begun_s
            if idle_s > self._idle_s or age_s > self._longest_s:
                del self._entries[digest]
                return None
            if is_use:
                entry.used_s = now_s
            return entry.session

    def end(self, identity: str | None) -> None:
        """End one login."""
        with self._lock:
            self._entries.pop(_digest(identity or ""), None)

    def end_all_of(self, account: str) -> None:
        """End every login of an account."""
        with self._lock:
            for digest in [d for d, e in self._entries.items() if e.session.account == account]:
                del self._entries[digest]


class AnonymousTokens:
    """CSRF tokens of pages without a login: bound to a random cookie by this process's key."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_ID_BYTES)

    def new_cookie(self) -> str:
        """Return the value of a new cookie."""
        return secrets.token_urlsafe(_ID_BYTES)

    def token(self, cookie: str) -> str:
        """Return the token that forms of the browser with ``cookie`` carry."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()


def _digest(identity: str) -> bytes:
    return hashlib.sha256(identity.encode(errors="replace")).digest()
