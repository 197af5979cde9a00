"""Events and who is in, over MQTT; Home Assistant finds both by itself."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgeface.errors import MissingDependencyError
from examples.attendance.courier import PresenceLine, Roll, SinkError
from examples.attendance.errors import AttendanceError
from examples.attendance.values import Person

__all__ = ["MqttBroker", "MqttSink"]

_ACK_TIMEOUT_S = 10.0
_LEAVE_TIMEOUT_S = 2.0
_KEEPALIVE_S = 30
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1, 60
_AT_LEAST_ONCE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttBroker:
    """A broker, and the topics below ``base``.

    ``tls`` is needed for a password to another machine than this one; ``ca_file`` (PEM) is for a
    broker whose certificate is of an authority of one's own, ``certificate`` and ``private_key``
    where it asks for one. ``discovery`` is Home Assistant's prefix, "" for none.
    """

    host: str
    port: int = 1883
    base: str = "attendance"
    discovery: str = "homeassistant"
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: str | None = None
    certificate: str | None = None
    private_key: str | None = None

    def __post_init__(self) -> None:
        for topic in (self.base, self.discovery):
            if set(topic) & set("#+\x00") or topic.startswith(("/", "$")):
                raise AttendanceError(f"an MQTT topic must not hold # or +, got {topic!r}")
        if not self.base or not self.host or not 1 <= self.port <= 65535:
            raise AttendanceError("an MQTT broker needs a host, a port and a base topic")
        is_here = self.host in ("localhost", "127.0.0.1", "::1")
        if self.password is not None and not (self.tls or is_here):
            raise AttendanceError(
                "a password to an MQTT broker on another machine needs tls: true; anybody on the "
                "way could read it"
            )


class MqttSink:
    """Publishes each event to ``BASE/event``, and keeps who is in as retained states.

    ``BASE/present`` is how many are in, ``BASE/person/NUMBER`` is ON or OFF, and ``BASE/status``
    online or offline. After every reconnection all states are published anew.
    """

    name = "mqtt"

    def __init__(self, broker: MqttBroker) -> None:
        self._broker = broker
        self._mqtt = _paho()
        self._roll: Callable[[], Roll] = Roll
        self._lock = threading.Lock()
        # What the broker keeps, as published over this connection.
        self._kept: dict[str, str] = {}
        self._client = self._new_client()
        self._is_started = False

    def start(self, roll: Callable[[], Roll]) -> None:
        """Connect, and stay connected."""
        self._roll = roll
        self._is_started = True
        self._client.connect_async(self._broker.host, self._broker.port, _KEEPALIVE_S)
        self._client.loop_start()

    def deliver(self, payloads: Sequence[Mapping[str, object]]) -> int:
        """Publish events, and what they change; return how many the broker took.

        Raises:
            SinkError: There is no connection, or the broker does not answer.
        """
        if not self._client.is_connected():
            raise SinkError("mqtt: there is no connection to the broker")
        topic = f"{self._broker.base}/event"
        messages = [
            self._client.publish(topic, json.dumps(payload, ensure_ascii=False), _AT_LEAST_ONCE)
            for payload in payloads
        ]
        for message in [*messages, *self._publish_states()]:
            _wait(message)
        return len(payloads)

    def forget(self, person: Person) -> None:
        """Do nothing: with the event of kind ``forgotten`` the person's states are deleted."""

    def close(self) -> None:
        """Say that the office is offline, and leave; may be called twice."""
        if not self._is_started:
            return
        self._is_started = False
        if self._client.is_connected():
            told = self._client.publish(f"{self._broker.base}/status", "offline", 1, retain=True)
            with contextlib.suppress(ValueError, RuntimeError):
                told.wait_for_publish(_LEAVE_TIMEOUT_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _new_client(self) -> Any:
        broker = self._broker
        client = self._mqtt.Client(self._mqtt.CallbackAPIVersion.VERSION2)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            client.tls_set(
                broker.ca_file,
                broker.certificate,
                broker.private_key,
                cert_reqs=ssl.CERT_REQUIRED,
            )
        client.will_set(f"{broker.base}/status", "offline", _AT_LEAST_ONCE, retain=True)
        client.reconnect_delay_set(_FIRST_RETRY_S, _LONGEST_RETRY_S)
        client.on_connect = self._connected
        return client

    def _connected(
        self, client: Any, _data: object, _flags: object, reason: Any, _properties: object
    ) -> None:
        if reason.is_failure:
            return
        client.publish(f"{self._broker.base}/status", "online", _AT_LEAST_ONCE, retain=True)
        with self._lock:
            self._kept.clear()
        # Not waited for: this is the thread that would hear the answer.
        self._publish_states()

    def _publish_states(self) -> list[Any]:
        """Publish the states that the broker does not keep yet; return the messages."""
        wanted = self._states()
        with self._lock:
            changed = {t: text for t, text in wanted.items() if self._kept.get(t) != text}
            self._kept.update(changed)
        return [
            self._client.publish(topic, text, _AT_LEAST_ONCE, retain=True)
            for topic, text in changed.items()
        ]

    def _states(self) -> dict[str, str]:
        """Return the retained topics as they should be now; an empty text deletes one."""
        base, roll = self._broker.base, self._roll()
        found = {f"{base}/present": str(sum(line.is_in for line in roll.lines))}
        for number in range(1, roll.last_number + 1):
            found[f"{base}/person/{number}"] = ""
            if self._broker.discovery:
                found[self._discovery_topic(number)] = ""
        for line in roll.lines:
            found[f"{base}/person/{line.number}"] = "ON" if line.is_in else "OFF"
        if self._broker.discovery:
            found.update([self._discovery_of_count(), *map(self._discovery_of, roll.lines)])
        return found

    def _discovery_topic(self, number: int) -> str:
        return f"{self._broker.discovery}/binary_sensor/{self._node}/person_{number}/config"

    @property
    def _node(self) -> str:
        return self._broker.base.replace("/", "_")

    def _discovery_of(self, line: PresenceLine) -> tuple[str, str]:
        config = {
            "name": line.label,
            "unique_id": f"{self._node}_person_{line.number}",
            "state_topic": f"{self._broker.base}/person/{line.number}",
            "device_class": "presence",
            **self._device(),
        }
        return self._discovery_topic(line.number), json.dumps(config, ensure_ascii=False)

    def _discovery_of_count(self) -> tuple[str, str]:
        config = {
            "name": "People in",
            "unique_id": f"{self._node}_present",
            "state_topic": f"{self._broker.base}/present",
            "unit_of_measurement": "people",
            **self._device(),
        }
        topic = f"{self._broker.discovery}/sensor/{self._node}/present/config"
        return topic, json.dumps(config)

    def _device(self) -> dict[str, object]:
        return {
            "availability_topic": f"{self._broker.base}/status",
            "device": {
                "identifiers": [self._node],
                "name": "Attendance",
                "manufacturer": "edgeface",
            },
        }


def _wait(message: Any) -> None:
    """Return when the broker has acknowledged ``message``."""
    try:
        message.wait_for_publish(_ACK_TIMEOUT_S)
    except (ValueError, RuntimeError) as exc:
        raise SinkError(f"mqtt: the event could not be sent ({type(exc).__name__})") from exc
    if not message.is_published():
        raise SinkError("mqtt: the broker does not answer")


def _paho() -> ModuleType:
    try:
        import paho.mqtt.client
    except ImportError as exc:
        raise MissingDependencyError("paho-mqtt", extra="mqtt") from exc
    return paho.mqtt.client
