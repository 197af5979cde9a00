"""What every request passes first: host, origin, size, login; and the headers of every answer."""

from __future__ import annotations

import hmac
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from examples.attendance.web.sessions import AnonymousTokens, SessionStore
from examples.attendance.web.settings import WebSettings, is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "MAX_FORM_BYTES",
    "MAX_UPLOAD_BYTES",
    "PUBLIC_PATHS",
    "Guard",
    "session_cookie_name",
    "visitor_cookie_name",
]

_LOG = logging.getLogger("edgeface.attendance.web")
MAX_FORM_BYTES = 64 << 10
# The page makes pictures smaller before it sends them; 8 MB is what the office takes.
MAX_UPLOAD_BYTES = 8_000_000
UPLOAD_PATHS = frozenset({"/enrol/picture"})
PUBLIC_PATHS = frozenset(
    {
        *("/", "/display/events", "/display/people", "/display/picture"),
        *("/login", "/set-up", "/pin", "/language"),
    }
)
OPERATOR_PATHS = frozenset({"/healthz", "/metrics"})
# They go on by themselves: no sign that somebody is at the screen.
UNATTENDED_PATHS = frozenset(
    {"/live/events", "/live/picture", "/live/cameras", "/live/now", "/live/feed"}
)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Mapping[bytes, bytes] = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    # Not "no-referrer": browsers then hide the origin of forms, and it could not be compared.
    b"referrer-policy": b"same-origin",
    b"permissions-policy": b"camera=(self), microphone=(), geolocation=()",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-robots-tag": b"noindex, nofollow",
}


def session_cookie_name(settings: WebSettings) -> str:
    """Return the name of the cookie; ``__Host-`` keeps other hosts from setting it."""
    return "__Host-session" if settings.is_https else "session"


def visitor_cookie_name(settings: WebSettings) -> str:
    """Return the name of the cookie that binds the forms of somebody who is not signed in."""
    return "__Host-visitor" if settings.is_https else "visitor"


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    text: str
    location: str = ""


class Guard:
    """ASGI middleware. A page that is not named public is for those who signed in."""

    def __init__(
        self,
        app: ASGIApp,
        settings: WebSettings,
        sessions: SessionStore,
        tokens: AnonymousTokens,
    ) -> None:
        self._app = app
        self._settings = settings
        self._sessions = sessions
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answer = _Answer(scope, send, is_https=self._settings.is_https)
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer.refuse(refusal)
            return
        answer.set_cookie = self._new_visitor(scope)
        body = _LimitedBody(receive, _body_limit(scope["path"]))
        try:
            await self._app(scope, body.receive, answer.send)
        except Exception as exc:  # noqa: BLE001 - the last stop: nothing of it goes to the browser
            _log_failure(exc)
            await answer.refuse(_Refusal(500, "Something went wrong; it was logged."))

    def _refusal(self, scope: Scope) -> _Refusal | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if _without_port(host) not in self._settings.host_names:
            return _Refusal(421, "This host name is not served here.")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _Refusal(405, "Only GET and POST are answered.")
        if scope["method"] == "POST":
            refusal = _post_refusal(headers, (host, *self._settings.names), scope["path"])
            if refusal is not None:
                return refusal
        if scope["path"] in OPERATOR_PATHS:
            return self._operator_refusal(scope, headers)
        return self._login_refusal(scope, headers)

    def _login_refusal(self, scope: Scope, headers: Mapping[bytes, str]) -> _Refusal | None:
        path: str = scope["path"]
        identity = _cookie(headers.get(b"cookie", ""), session_cookie_name(self._settings))
        session = self._sessions.find(identity, is_use=path not in UNATTENDED_PATHS)
        scope.setdefault("state", {})
        scope["state"]["session"] = session
        scope["state"]["session_id"] = identity if session else None
        if session is not None or path in PUBLIC_PATHS or _is_static(path):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get(b"accept", ""):
            return _Refusal(303, "Please sign in.", "/login")
        return _Refusal(401, "Please sign in.")

    def _new_visitor(self, scope: Scope) -> bytes:
        """Return the Set-Cookie header that a first visit gets, b"" for others."""
        name = visitor_cookie_name(self._settings)
        headers = dict(scope["headers"])
        known = _cookie(headers.get(b"cookie", b"").decode("latin-1"), name)
        state = scope.setdefault("state", {})
        state.setdefault("session", None)
        if known and len(known) <= 64 and known.isascii():
            state["visitor"] = known
            return b""
        state["visitor"] = self._tokens.new_cookie()
        if scope["path"] not in PUBLIC_PATHS:
            return b""
        secure = "; Secure" if self._settings.is_https else ""
        value = f"{name}={state['visitor']}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return value.encode()

    def _operator_refusal(self, scope: Scope, headers: Mapping[bytes, str]) -> _Refusal | None:
        client = scope.get("client") or ("", 0)
        # A proxy on this machine makes every client look local.
        is_forwarded = any(name in headers for name in (b"x-forwarded-for", b"forwarded"))
        if is_loopback(client[0]) and not is_forwarded and not self._settings.is_behind_tls_proxy:
            return None
        wanted = f"Bearer {self._settings.metrics_token}".encode()
        given = headers.get(b"authorization", "").encode("latin-1")
        if self._settings.metrics_token and hmac.compare_digest(given, wanted):
            return None
        return _Refusal(403, "Only for this machine, or with the token.")


class _Answer:
    """Sends an answer with the security headers."""

    def __init__(self, scope: Scope, send: Send, *, is_https: bool) -> None:
        self._scope, self._send, self._is_https = scope, send, is_https
        self._is_begun = False
        self.set_cookie = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_begun = True
            message["headers"] = self._with_own([*message.get("headers", [])])
        await self._send(message)

    async def refuse(self, refusal: _Refusal) -> None:
        if self._is_begun:
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if refusal.location:
            headers.append((b"location", refusal.location.encode()))
        start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
        await self.send(start)
        await self._send({"type": "http.response.body", "body": refusal.text.encode()})

    def _with_own(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _ in headers}
        own = dict(_HEADERS)
        if b"cache-control" not in present:
            # Styles may be kept, but are asked for anew; pages with people are not kept at all.
            is_static = _is_static(self._scope["path"])
            own[b"cache-control"] = b"no-cache" if is_static else b"no-store"
        if self._is_https:
            own[b"strict-transport-security"] = b"max-age=31536000"
        if self.set_cookie:
            headers = [*headers, (b"set-cookie", self.set_cookie)]
        return headers + [(name, value) for name, value in own.items() if name not in present]


class _LimitedBody:
    """Counts what comes in; a client may lie about the length or not tell it."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left = receive, most

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "The upload is too large.")
        return message


def _post_refusal(
    headers: Mapping[bytes, str], hosts: tuple[str, ...], path: str
) -> _Refusal | None:
    """Return why a form is refused; ``hosts`` are this site's: a proxy may rewrite the header."""
    length = headers.get(b"content-length", "0")
    if not length.isascii() or not length.isdigit():
        return _Refusal(400, "The length of the upload is not a number.")
    if int(length[:12]) > _body_limit(path):
        return _Refusal(413, "The upload is too large.")
    origin = headers.get(b"origin")
    if origin is not None and not _is_of(origin, hosts):
        return _Refusal(403, "The form was sent from another site.")
    if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _Refusal(403, "The form was sent from another site.")
    return None


def _is_of(origin: str, hosts: tuple[str, ...]) -> bool:
    try:
        found = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    return bool(found) and found in {host.lower() for host in hosts}


def _body_limit(path: str) -> int:
    return MAX_UPLOAD_BYTES if path in UPLOAD_PATHS else MAX_FORM_BYTES


def _is_static(path: str) -> bool:
    return path.startswith("/static/")


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _cookie(header: str, name: str) -> str | None:
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def _log_failure(error: Exception) -> None:
    """Log where it failed; the message stays out, it may hold a name."""
    places = traceback.extract_tb(error.__traceback__)
    where = f"{places[-1].filename}:{places[-1].lineno}" if places else "unknown"
    _LOG.error("a page failed: %s at %s", type(error).__name__, where)
