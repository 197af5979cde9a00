"""Events as signed requests, by the rules of standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from examples.attendance.courier import Roll, SinkError
from examples.attendance.errors import AttendanceError
from examples.attendance.values import Person

__all__ = ["Webhook", "WebhookSink", "sign"]

_TIMEOUT_S = 10.0
_LEAST_SECRET_BYTES = 24


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events go, and the secret that signs them: at least 24 bytes.

    Addresses of other machines must be ``https``. ``ca_file`` (PEM) is for a receiver whose
    certificate is of an authority of one's own.
    """

    name: str
    url: str
    secret: bytes
    ca_file: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise AttendanceError(
                f"webhook {self.name}: the address must be https://host/path without a password"
            )
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise AttendanceError(
                f"webhook {self.name}: http to another machine shows who is in to everybody on "
                "the way; use https"
            )
        if len(self.secret) < _LEAST_SECRET_BYTES:
            raise AttendanceError(
                f"webhook {self.name}: the secret must have {_LEAST_SECRET_BYTES} bytes or more, "
                f"got {len(self.secret)}"
            )


def sign(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the header ``webhook-signature``: HMAC-SHA256 of id, time and body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


class WebhookSink:
    """Posts one event at a time; whatever is not answered by 2xx comes again, with the same id."""

    def __init__(self, webhook: Webhook, wall_s: Callable[[], float] = time.time) -> None:
        self.name = f"webhook-{webhook.name}"
        self._webhook = webhook
        self._parts = urlsplit(webhook.url)
        self._wall_s = wall_s
        self._tls = (
            ssl.create_default_context(cafile=webhook.ca_file)
            if self._parts.scheme == "https"
            else None
        )

    def start(self, roll: Callable[[], Roll]) -> None:
        """Do nothing: each request has its own connection."""

    def deliver(self, payloads: Sequence[Mapping[str, object]]) -> int:
        """Post events until one is refused; return how many were taken.

        Raises:
            SinkError: The first was refused.
        """
        taken = 0
        try:
            for payload in payloads:
                self._post(payload)
                taken += 1
        except SinkError:
            if not taken:
                raise
        return taken

    def forget(self, person: Person) -> None:
        """Do nothing: the receiver is told by an event of kind ``forgotten``."""

    def close(self) -> None:
        """Do nothing."""

    def _post(self, payload: Mapping[str, object]) -> None:
        body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        message_id, timestamp = str(payload["id"]), str(int(self._wall_s()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(self._webhook.secret, message_id, timestamp, body),
        }
        connection = self._connection()
        try:
            connection.request("POST", self._target, body, headers)
            status = connection.getresponse().status
        # The address may hold a token: it is not repeated.
        except (OSError, http.client.HTTPException) as exc:
            raise SinkError(f"{self.name}: no answer ({type(exc).__name__})") from exc
        finally:
            connection.close()
        # A redirect is no receipt, and is not followed: it would take the event elsewhere.
        if not 200 <= status < 300:
            raise SinkError(f"{self.name}: answered {status}")

    @property
    def _target(self) -> str:
        query = f"?{self._parts.query}" if self._parts.query else ""
        return (self._parts.path or "/") + query

    def _connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._tls is None:
            return http.client.HTTPConnection(host, self._parts.port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(
            host, self._parts.port, timeout=_TIMEOUT_S, context=self._tls
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
