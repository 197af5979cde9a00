"""What the app tells a broker, and hears from it, whatever lock the door has."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from examples.door_unlock.locks import LockError
from examples.door_unlock.mqtt import MqttOptions, new_client, start

__all__ = ["MqttEvents"]

_CONNECT_TIMEOUT_S = 10.0
_CLOSE_S = 2.0
_MAX_NAME_BYTES = 512
# What is kept while the broker is away; events are rare.
_MAX_QUEUED = 256


class MqttEvents:
    """A channel for alarms: publishes kinds of events. It may hear of people who went out, too.

    What happens while the broker is away is told when it is back.
    """

    def __init__(self, options: MqttOptions) -> None:
        """Connect.

        Raises:
            LockError: The broker cannot be reached, or refuses.
        """
        self._topics = options.topics
        self._on_left: Callable[[str | None], object] | None = None
        self._last: Any = None
        self._ready = threading.Event()
        self._client = new_client(options, "edgeface-events")
        self._client.max_queued_messages_set(_MAX_QUEUED)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        start(self._client, options)
        if not self._ready.wait(_CONNECT_TIMEOUT_S):
            self.close()
            raise LockError("the broker refused the connection; check user and certificates")

    def hear_left(self, on_left: Callable[[str | None], object]) -> None:
        """Call ``on_left`` with each name that comes to the topic ``left``, None for everybody."""
        self._on_left = on_left
        self._client.subscribe(self._topics.left, qos=1)

    def tell(self, kind: str, *, is_alarm: bool) -> None:
        content = json.dumps({"kind": kind, "alarm": is_alarm})
        self._last = self._client.publish(self._topics.event, content, qos=1, retain=False)

    def close(self) -> None:
        # The broker takes messages in their order: with the last one all are there.
        if self._last is not None and self._client.is_connected():
            # It raises for one that was queued without a connection, whatever became of it.
            with contextlib.suppress(RuntimeError, ValueError):
                self._last.wait_for_publish(_CLOSE_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if code.is_failure:
            return
        if self._on_left is not None:
            client.subscribe(self._topics.left, qos=1)
        self._ready.set()

    def _message(self, _client: Any, _data: Any, message: Any) -> None:
        # What a broker kept happened some time; a long text is no name.
        if message.retain or self._on_left is None or len(message.payload) > _MAX_NAME_BYTES:
            return
        try:
            name = message.payload.decode("utf-8").strip()
            self._on_left(name or None)
        except Exception as exc:  # noqa: BLE001 - a thread of paho's: it must go on
            sys.stderr.write(f"door: what came to {message.topic} is no name: {exc!r:.80}\n")
