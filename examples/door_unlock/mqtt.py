"""The connection to an MQTT broker that both sides of a lock share: options, TLS, topics."""

from __future__ import annotations

import ipaddress
import json
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeface.errors import InvalidInputError, MissingDependencyError
from examples.door_unlock.locks import LockError

__all__ = ["MqttOptions", "Topics", "decoded", "new_client", "start"]

# A broker notices after one and a half of these that a client is gone.
_KEEP_ALIVE_S = 5
_CONNECT_TIMEOUT_S = 10.0
# A lease has about 300 bytes.
_MAX_PAYLOAD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions:
    """Where the broker is, and how to reach it.

    Without ``ca_file`` the certificates of the system count. ``password_file`` holds the password
    in its first line. ``insecure`` allows a connection without TLS to another machine: whoever is
    on that network can then read leases, though not make or repeat one.
    """

    host: str
    port: int = 8883
    tls: bool = True
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str = ""
    password_file: Path | None = None
    insecure: bool = False
    base: str = "edgeface/door"
    discovery: str = "homeassistant"

    def __post_init__(self) -> None:
        if not self.tls and not self.insecure and not _is_this_machine(self.host):
            raise InvalidInputError(
                f"{self.host} would be reached without TLS; use TLS, or a broker on this machine, "
                "or accept that with --mqtt-insecure"
            )
        if any(mark in self.base for mark in "+#\0") or self.base.strip("/") != self.base:
            raise InvalidInputError(f"the topic {self.base!r} must be plain levels, such as a/b")
        if not 1 <= self.port <= 65535:
            raise InvalidInputError(f"a port is in 1..65535, got {self.port}")

    @property
    def topics(self) -> Topics:
        """The topics of the door."""
        return Topics(self.base)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics below one base. Only ``state`` and ``availability`` are ever retained."""

    base: str

    ask: str = field(init=False)
    """App to lock: wants a nonce."""
    nonce: str = field(init=False)
    """Lock to app: the nonce."""
    lease: str = field(init=False)
    """App to lock: a lease for it."""
    answer: str = field(init=False)
    """Lock to app: whether it opened."""
    command: str = field(init=False)
    """Home Assistant to lock: LOCK is obeyed, UNLOCK is refused."""
    state: str = field(init=False)
    availability: str = field(init=False)
    event: str = field(init=False)
    """What happened at the door, without names."""
    left: str = field(init=False)
    """Somebody's name: they went out. Empty: nobody is inside any more."""

    def __post_init__(self) -> None:
        for name in (
            "ask",
            "nonce",
            "lease",
            "answer",
            "command",
            "state",
            "availability",
            "event",
            "left",
        ):
            object.__setattr__(self, name, f"{self.base}/{name}")


def new_client(options: MqttOptions, role: str) -> Any:
    """Return a client that is not connected yet; ``role`` begins its name at the broker.

    Raises:
        MissingDependencyError: paho-mqtt is not installed.
        InvalidInputError: A file of the options cannot be read.
    """
    try:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as exc:
        raise MissingDependencyError("paho-mqtt", extra="mqtt") from exc
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{role}-{secrets.token_hex(4)}",
        protocol=mqtt.MQTTv5,
    )
    client.reconnect_delay_set(min_delay=1, max_delay=10)
    try:
        if options.tls:
            client.tls_set(
                ca_certs=_text(options.ca_file),
                certfile=_text(options.certificate),
                keyfile=_text(options.key),
            )
        if options.username:
            client.username_pw_set(options.username, _password(options.password_file))
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"the settings of the broker are unusable: {exc}") from exc
    return client


def start(client: Any, options: MqttOptions) -> threading.Thread:
    """Connect, and return the client's thread, which connects again by itself.

    Raises:
        LockError: The broker cannot be reached.
    """
    try:
        client.connect_timeout = _CONNECT_TIMEOUT_S
        # A clean start: the broker keeps nothing for a lock that is away.
        client.connect(options.host, options.port, keepalive=_KEEP_ALIVE_S, clean_start=True)
    except (OSError, ValueError) as exc:
        raise LockError(
            f"the broker {options.host}:{options.port} cannot be reached: {exc}"
        ) from exc
    before = set(threading.enumerate())
    client.loop_start()
    # The client keeps its thread to itself, and who watches over a lock must see that it runs.
    return next(one for one in threading.enumerate() if one not in before)


def decoded(payload: bytes) -> dict[str, str]:
    """Return the texts of a JSON object; an empty table for anything else."""
    if len(payload) > _MAX_PAYLOAD:
        return {}
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {name: value for name, value in data.items() if isinstance(value, str)}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    return (path.read_text(encoding="utf-8").splitlines() or [""])[0]
