"""How the pages are served: where, to whom, under which names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import InvalidInputError

__all__ = ["LANGUAGES", "WebSettings", "is_loopback"]

LANGUAGES = ("en", "de")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is this machine's own address or its name ``localhost``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Where the pages are served and how long a login lasts.

    ``host`` other than loopback wants ``certificate`` and
    ``private_key`` (PEM files), or ``is_behind_tls_proxy`` for a proxy on this machine that
    speaks HTTPS; browsers give their camera to no other page. ``names`` are the host names that
    requests may carry besides those of loopback. ``metrics_token`` opens ``/healthz`` and
    ``/metrics`` to other machines. ``session_idle_s`` and ``session_longest_s`` end a login, in
    seconds.

    Raises:
        InvalidInputError: An address that others reach without HTTPS, half a pair of
            certificate and key, a token that is too short, or a time that is not positive.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    is_behind_tls_proxy: bool = False
    metrics_token: str | None = None
    session_idle_s: float = 1800.0
    session_longest_s: float = 43200.0

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidInputError("HTTPS needs a certificate and a private key; got one of them")
        if not is_loopback(self.host) and not self.is_https:
            raise InvalidInputError(
                f"host {self.host!r} would send passwords unencrypted to other machines; give "
                "a certificate and a private key, or say that a TLS proxy stands in front"
            )
        if not 0 <= self.port <= 65535:
            raise InvalidInputError(f"port must be 0 to 65535, got {self.port}")
        if not 0 < self.session_idle_s <= self.session_longest_s:
            raise InvalidInputError(
                "session_idle_s must be above 0 and at most session_longest_s, got "
                f"{self.session_idle_s} and {self.session_longest_s}"
            )
        if self.metrics_token is not None and len(self.metrics_token) < 16:
            raise InvalidInputError("metrics_token needs at least 16 characters")

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the pages by HTTPS only."""
        return self.certificate is not None or self.is_behind_tls_proxy

    @property
    def host_names(self) -> frozenset[str]:
        """The values of the Host header, without port, that are answered."""
        own = () if self.host in ("0.0.0.0", "::") else (_bracketed(self.host),)
        return frozenset(name.lower() for name in (*LOOPBACK_NAMES, *own, *self.names))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
