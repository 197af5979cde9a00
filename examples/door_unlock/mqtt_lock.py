"""A lock behind a broker: the app's side, and the side that sits beside the bolt.

The lock gives a nonce for each opening, and opens for a lease that is bound to it. So a message
that the broker keeps, repeats or delivers late opens nothing, and neither does anybody who may
publish there. Nothing that opens is retained or queued: leases go with QoS 0 to a lock that is
there now. Home Assistant sees the lock, may lock it, and cannot open it.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from edgeface.access import uptime_s
from edgeface.access.lease import MAX_LEASE_S
from edgeface.errors import EdgefaceError, LeaseError
from examples.door_unlock.alarms import LOCK
from examples.door_unlock.locks import LeasedLock, LockError
from examples.door_unlock.mqtt import MqttOptions, decoded, new_client, start

__all__ = ["MqttActuator", "MqttLock"]

_ANSWER_TIMEOUT_S = 1.5
_SUBSCRIBE_TIMEOUT_S = 10.0
# A lock that obeys for longer hangs: a relay answers in milliseconds.
_HUNG_S = 2.0
_LOCKED, _UNLOCKED = "LOCKED", "UNLOCKED"


class MqttLock:
    """The app's side. Usable from several threads.

    ``on_fault`` gets a sentence when the lock, or the way to it, is gone.
    """

    def __init__(
        self,
        options: MqttOptions,
        *,
        clock: Callable[[], float] = uptime_s,
        on_fault: Callable[[str], object] | None = None,
    ) -> None:
        self.name = f"lock at {options.base} on {options.host}"
        self._topics, self._clock, self._on_fault = options.topics, clock, on_fault
        self._answers: dict[str, dict[str, str]] = {}
        self._changed = threading.Condition()
        self._state, self._is_ready = "", False
        self._opened_s: float | None = None
        self._is_online, self._is_closed = False, False
        self._client = new_client(options, "edgeface-door")
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._message
        start(self._client, options)
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_ready, _SUBSCRIBE_TIMEOUT_S):
                self.close()
                raise LockError(
                    f"{self.name}: the broker refused the connection; check user, password and "
                    "certificates"
                )

    def challenge(self) -> str:
        answer = self._ask(self._topics.ask, {})
        return answer.get("nonce", "")

    def unlock(self, token: str) -> None:
        with self._changed:
            self._state, self._opened_s = "", None
        answer = self._ask(self._topics.lease, {"lease": token})
        if answer.get("result") == "refused":
            raise LeaseError(f"{self.name} refused the lease: {answer.get('reason', '')}")
        if answer.get("result") != "open":
            raise LockError(f"{self.name} failed: {answer.get('reason', 'no reason')}")
        with self._changed:
            self._opened_s = self._clock()

    @property
    def is_open(self) -> bool:
        """Whether it is open: after its own answer, until it says otherwise, and for 5 s at most.

        What stands at the broker proves nothing: it outlives the lock, and others may write it.
        """
        with self._changed:
            if self._opened_s is None or self._state == _LOCKED:
                return False
            return 0.0 <= self._clock() - self._opened_s <= MAX_LEASE_S

    @property
    def problem(self) -> str:
        with self._changed:
            if not self._is_ready:
                return "there is no connection to the broker"
            return "" if self._is_online else "it is not there"

    def close(self) -> None:
        self._is_closed = True
        self._client.disconnect()
        self._client.loop_stop()

    def _ask(self, topic: str, content: dict[str, str]) -> dict[str, str]:
        number = secrets.token_hex(8)
        with self._changed:
            if not self._is_ready:
                raise LockError(f"{self.name}: there is no connection to the broker")
        self._client.publish(topic, json.dumps({"id": number, **content}), qos=0, retain=False)
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers, _ANSWER_TIMEOUT_S)
            answer = self._answers.pop(number, None)
        if answer is None:
            raise LockError(f"{self.name} does not answer; the door stays as it is")
        return answer

    def _connected(self, client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if not code.is_failure:
            names = ("nonce", "answer", "state", "availability")
            client.subscribe([(getattr(self._topics, name), 1) for name in names])

    def _subscribed(self, _client: Any, _data: Any, _mid: Any, codes: Any, _more: Any) -> None:
        with self._changed:
            self._is_ready = not any(code.is_failure for code in codes)
            self._changed.notify_all()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, _code: Any, _more: Any) -> None:
        with self._changed:
            self._is_ready, self._is_online = False, False
            self._answers.clear()
        self._fault("there is no connection to the broker")

    def _message(self, _client: Any, _data: Any, message: Any) -> None:
        was_online = self._is_online
        with self._changed:
            if message.topic == self._topics.availability:
                self._is_online = message.payload == b"online"
            elif message.topic == self._topics.state:
                self._state = message.payload.decode("ascii", "replace")[:16]
            elif not message.retain:
                answer = decoded(message.payload)
                # Answers that nobody waits for any more are few: each has its timeout.
                if "id" in answer and len(self._answers) < 64:
                    self._answers[answer["id"]] = answer
            self._changed.notify_all()
        if was_online and not self._is_online:
            self._fault("it is gone")

    def _fault(self, text: str) -> None:
        if self._on_fault is not None and not self._is_closed:
            self._on_fault(f"{self.name}: {text}")


class MqttActuator:
    """The lock's side: obeys leases from the broker with a lock at this machine.

    Announces itself to Home Assistant. Without a connection it locks at once.
    """

    def __init__(
        self,
        lock: LeasedLock,
        options: MqttOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock, self._options, self._topics = lock, options, options.topics
        self._clock = clock
        self._busy_since_s: float | None = None
        self._ready = threading.Event()
        self._client = new_client(options, "edgeface-lock")
        self._client.will_set(self._topics.availability, "offline", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._message
        self._thread = start(self._client, options)
        if not self._ready.wait(_SUBSCRIBE_TIMEOUT_S):
            self.close()
            raise LockError("the broker refused the lock's connection")

    @property
    def is_alive(self) -> bool:
        """Whether it could obey now: its thread runs and hangs in nothing, and so does the lock."""
        since_s = self._busy_since_s
        hangs = since_s is not None and self._clock() - since_s > _HUNG_S
        return self._thread.is_alive() and not hangs and self._lock.is_answering(_HUNG_S)

    def tell_fault(self, _text: str) -> None:
        """Publish that the bolt does not work as it should; for ``PinBolt(on_fault=…)``."""
        content = json.dumps({"kind": LOCK, "alarm": True})
        self._client.publish(self._topics.event, content, qos=1, retain=False)

    def tell(self, *, is_open: bool) -> None:
        """Publish whether the door is open; for ``LeasedLock(on_change=…)``."""
        state = _UNLOCKED if is_open else _LOCKED
        self._client.publish(self._topics.state, state, qos=1, retain=True)

    def close(self) -> None:
        """Lock, say so, and leave the broker."""
        self._lock.lock()
        self.tell(is_open=self._lock.is_open)
        last = self._client.publish(self._topics.availability, "offline", qos=1, retain=True)
        if self._client.is_connected():
            last.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if not code.is_failure:
            topics = (self._topics.ask, self._topics.lease, self._topics.command)
            client.subscribe([(topic, 0) for topic in topics])

    def _subscribed(self, client: Any, _data: Any, _mid: Any, codes: Any, _more: Any) -> None:
        if any(code.is_failure for code in codes):
            return
        self._announce(client)
        self.tell(is_open=self._lock.is_open)
        client.publish(self._topics.availability, "online", qos=1, retain=True)
        self._ready.set()

    def _announce(self, client: Any) -> None:
        """Publish what Home Assistant shows: https://www.home-assistant.io/integrations/lock.mqtt."""
        if not self._options.discovery:
            return
        unique = self._options.base.replace("/", "_")
        config = {
            "name": None,
            "unique_id": unique,
            "state_topic": self._topics.state,
            "command_topic": self._topics.command,
            "availability_topic": self._topics.availability,
            "optimistic": False,
            "device": {"identifiers": [unique], "name": self._options.base, "model": "edgeface"},
        }
        topic = f"{self._options.discovery}/lock/{unique}/config"
        client.publish(topic, json.dumps(config), qos=1, retain=True)

    def _message(self, client: Any, _data: Any, message: Any) -> None:
        # What a broker kept is not what somebody wants now.
        if message.retain:
            return
        self._busy_since_s = self._clock()
        try:
            self._obey(client, message.topic, message.payload)
        except Exception as exc:  # noqa: BLE001 - a thread of paho's: it must lock and go on
            self._lock.lock()
            sys.stderr.write(f"lock: {type(exc).__name__}; locked\n")
        finally:
            self._busy_since_s = None

    def _disconnected(self, *_: Any) -> None:
        self._busy_since_s = self._clock()
        self._lock.lock()
        self._busy_since_s = None

    def _obey(self, client: Any, topic: str, payload: bytes) -> None:
        if topic == self._topics.command:
            # UNLOCK too: to lock is all that an order without a lease can do.
            self._lock.lock()
            self.tell(is_open=self._lock.is_open)
            return
        given = decoded(payload)
        if "id" not in given:
            return
        if topic == self._topics.ask:
            answer, at = {"nonce": self._lock.challenge()}, self._topics.nonce
        else:
            answer, at = self._open(given.get("lease", "")), self._topics.answer
        client.publish(at, json.dumps({"id": given["id"][:64], **answer}), qos=0, retain=False)

    def _open(self, token: str) -> dict[str, str]:
        try:
            self._lock.unlock(token)
        except LeaseError as exc:
            return {"result": "refused", "reason": str(exc)}
        except EdgefaceError as exc:
            return {"result": "failed", "reason": str(exc)}
        return {"result": "open"}
