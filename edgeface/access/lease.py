"""Leases: the right to open one door once, within seconds.

The lock gives a *nonce*, the controller answers with a lease that is bound to it, and the lock's
verifier accepts that lease once. A nonce cannot be foreseen, so that no lease for it is older than
it; and the verifier counts its age by its own clock. A lease holds no score and no name.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeface.access.clock import boot_id, uptime_s
from edgeface.errors import InvalidInputError, LeaseError
from edgeface.gallery.sealing import keyed_hash

__all__ = ["MAX_LEASE_S", "Lease", "LeaseVerifier", "new_nonce", "sign_lease"]

MAX_LEASE_S = 5.0
"""No lease holds for longer, and no lock is held open for longer by one."""

_PREFIX = "edgeface-lease-1"
_NONCE_CHARACTERS = 32
_MAX_TOKEN = 2048
_MAX_OPEN_NONCES = 16
_FIELDS = {
    "door": str,
    "nonce": str,
    "issued_s": float,
    "life_s": float,
    "boot": str,
    "demonstration": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to open ``door`` once.

    ``issued_s`` is when was decided, on :func:`~edgeface.access.uptime_s` of the machine and run
    that ``boot`` names, ``life_s`` at most :data:`MAX_LEASE_S`. ``token`` is the lease as text, to
    be sent to the lock; whoever has it can open the door with it once, so keep it out of logs.
    """

    door: str
    nonce: str
    issued_s: float
    life_s: float
    boot: str
    demonstration: bool = False
    token: str = field(default="", repr=False, compare=False)


def new_nonce() -> str:
    """Return a nonce: 32 hexadecimal digits that cannot be foreseen."""
    return secrets.token_hex(_NONCE_CHARACTERS // 2)


def is_nonce(text: object) -> bool:
    """Return whether ``text`` has the form of a nonce."""
    return (
        isinstance(text, str)
        and len(text) == _NONCE_CHARACTERS
        and all(character in "0123456789abcdef" for character in text)
    )


def sign_lease(lease: Lease, key: bytes) -> Lease:
    """Return ``lease`` with its token, signed under the 32-byte ``key``.

    Raises:
        InvalidInputError: The nonce has another form, or the lease would hold too long.
    """
    if not is_nonce(lease.nonce):
        raise InvalidInputError(
            f"a nonce is {_NONCE_CHARACTERS} hexadecimal digits of the lock's verifier"
        )
    if not (0.0 < lease.life_s <= MAX_LEASE_S and math.isfinite(lease.issued_s)):
        raise InvalidInputError(f"a lease holds for 0..{MAX_LEASE_S:g} s, got {lease.life_s}")
    content = {name: getattr(lease, name) for name in _FIELDS}
    body = json.dumps(content, sort_keys=True, allow_nan=False).encode()
    parts = (_PREFIX, _encoded(body), _encoded(_mac(key, body)))
    return Lease(**content, token=".".join(parts))


class LeaseVerifier:
    """The lock's side: gives nonces, and accepts a lease for each at most once.

    Args:
        door: The door of this lock.
        key: The 32-byte key of the door's leases: ``AccessKeys.lease``.
        demonstration: Whether leases of a demonstration open it; never for a real lock.
        clock: A monotonic clock, in seconds, that goes on while the machine sleeps.
        boot: Names the machine and run that ``clock`` belongs to.

    Usable from several threads. Nonces are kept in memory only: a verifier that starts again
    knows none, and no lease from before opens anything.
    """

    def __init__(
        self,
        door: str,
        key: bytes,
        *,
        demonstration: bool = False,
        clock: Callable[[], float] = uptime_s,
        boot: str | None = None,
    ) -> None:
        self.door = door
        self._key = key
        self._demonstration = demonstration
        self._clock = clock
        self._boot = boot_id() if boot is None else boot
        self._open: dict[str, float] = {}
        self._lock = threading.Lock()

    def challenge(self) -> str:
        """Return a new nonce; a lease for it must come back within :data:`MAX_LEASE_S`.

        Only the newest 16 nonces are kept, so that asking again and again fills nothing.
        """
        nonce = new_nonce()
        with self._lock:
            now_s = self._now()
            self._open = {old: at for old, at in self._open.items() if _holds(now_s, at)}
            while len(self._open) >= _MAX_OPEN_NONCES:
                del self._open[next(iter(self._open))]
            self._open[nonce] = now_s
        return nonce

    def verify(self, token: str | Lease) -> Lease:
        """Return the lease of ``token``, which may open this door now and never again.

        Raises:
            LeaseError: It is malformed, not signed with the key, for another door, not for a nonce
                of this verifier, used before, too old, or of a demonstration; the door must stay
                closed.
        """
        lease = _read(token.token if isinstance(token, Lease) else token, self._key)
        with self._lock:
            # Whatever comes of it, a nonce that was shown with a valid signature is used.
            given_s = self._open.pop(lease.nonce, None)
            now_s = self._now()
        if lease.door != self.door:
            raise LeaseError("the lease is for another door")
        if given_s is None:
            raise LeaseError("the lease was used before, or its nonce was not given by this lock")
        if not _holds(now_s, given_s):
            raise LeaseError("the lease's nonce is too old; ask for a new one")
        if lease.boot == self._boot:
            self._check_shared_clock(lease, now_s, given_s)
        if lease.demonstration and not self._demonstration:
            raise LeaseError("the lease is of a demonstration, which opens no real lock")
        return lease

    def _check_shared_clock(self, lease: Lease, now_s: float, given_s: float) -> None:
        if not _holds(now_s, lease.issued_s, lease.life_s):
            raise LeaseError("the lease is too old, or of the future; ask for a new one")
        if lease.issued_s < given_s:
            raise LeaseError("the lease is older than its nonce")

    def _now(self) -> float:
        now_s = self._clock()
        if not math.isfinite(now_s):
            raise LeaseError("the clock of the lock gives no time")
        return now_s


def _holds(now_s: float, since_s: float, life_s: float = MAX_LEASE_S) -> bool:
    return 0.0 <= now_s - since_s <= life_s


def _read(token: Any, key: bytes) -> Lease:
    if not isinstance(token, str) or len(token) > _MAX_TOKEN or not token.isascii():
        raise LeaseError("not a lease")
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != _PREFIX:
        raise LeaseError("not a lease")
    body, mac = _decoded(parts[1]), _decoded(parts[2])
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise LeaseError("the lease was not signed with the key of this door, or was changed")
    content = json.loads(body)
    if set(content) != set(_FIELDS) or not all(
        type(content[name]) is kind for name, kind in _FIELDS.items()
    ):
        raise LeaseError("the lease has other fields than this release knows")
    if not 0.0 < content["life_s"] <= MAX_LEASE_S:
        raise LeaseError("the lease would hold too long")
    return Lease(**content, token=token)


def _mac(key: bytes, body: bytes) -> bytes:
    return keyed_hash(key, _PREFIX, body)


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as exc:
        raise LeaseError("not a lease") from exc
    # One lease has one form: base64 passes over characters, and spare bits, that it does not know.
    if _encoded(content) != text:
        raise LeaseError("not a lease")
    return content
