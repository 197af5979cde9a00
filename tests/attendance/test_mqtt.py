"""A real broker gets every event, and always knows who is in."""

from __future__ import annotations

import gc
import importlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.attendance.courier import Courier, PresenceLine, Roll
from examples.attendance.errors import AttendanceError
from examples.attendance.mqtt_sink import MqttBroker, MqttSink
from examples.attendance.store import Store
from tests.attendance.brokers import Broker, running_broker
from tests.attendance.test_sinks import payload, record_visits

pytest.importorskip("paho.mqtt", reason="the mqtt extra is not installed")

WAIT_S = 30.0
ROLL = Roll((PresenceLine("ann", 1, "Ann", True), PresenceLine("bob", 2, "Bob", False)), 2)


class Listener:
    """Keeps what the broker gives it; connects again by itself."""

    def __init__(self, broker: Broker, *, ca_file: str | None = None) -> None:
        mqtt: Any = importlib.import_module("paho.mqtt.client")
        self.events: list[str] = []
        self.kept: dict[str, str] = {}
        self._changed = threading.Condition()
        # A lasting session: what comes while the listener is away is kept for it.
        self.client: Any = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "listener", False)
        self.client.reconnect_delay_set(1, 1)
        if ca_file is not None:
            self.client.tls_set(ca_file)
        self.subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self._take
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self.subscribed.wait(WAIT_S)

    def _take(self, _client: object, _data: object, message: Any) -> None:
        with self._changed:
            text = message.payload.decode()
            if message.topic == "attendance/event":
                self.events.append(json.loads(text)["id"])
            else:
                self.kept[message.topic] = text
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, WAIT_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def wait_until_empty(courier: Courier) -> None:
    end_s = time.monotonic() + WAIT_S
    while courier.status().waiting and time.monotonic() < end_s:
        time.sleep(0.02)
    assert courier.status().waiting == 0


def courier_to(broker: Broker, store: Store, **options: Any) -> Courier:
    sink = MqttSink(MqttBroker(host="127.0.0.1", port=broker.port, **options))
    return Courier(sink, store, payload, first_delay_s=0.05)


def test_every_event_arrives_and_states_are_kept(tmp_path: Path) -> None:
    store, ids = record_visits(tmp_path, "mqtt", 20)
    with running_broker(tmp_path) as broker:
        listener = Listener(broker)
        courier = courier_to(broker, store)
        courier.start(lambda: ROLL)
        assert listener.wait(lambda: set(listener.events) >= set(ids))
        assert list(dict.fromkeys(listener.events)) == ids
        wait_until_empty(courier)
        topic = "homeassistant/binary_sensor/attendance/person_1/config"
        assert listener.wait(lambda: topic in listener.kept)
        late = listener.kept
        assert late["attendance/status"] == "online"
        assert late["attendance/present"] == "1"
        assert (late["attendance/person/1"], late["attendance/person/2"]) == ("ON", "OFF")
        config = json.loads(late[topic])
        assert config["state_topic"] == "attendance/person/1"
        assert config["availability_topic"] == "attendance/status"
        courier.close()
        assert listener.wait(lambda: listener.kept["attendance/status"] == "offline")
        listener.close()
    store.close()


def test_a_broker_that_goes_and_comes_back_gets_everything(tmp_path: Path) -> None:
    store, first = record_visits(tmp_path, "mqtt", 5)
    with running_broker(tmp_path) as broker:
        courier = courier_to(broker, store)
        listener = Listener(broker)
        courier.start(lambda: ROLL)
        assert listener.wait(lambda: set(listener.events) >= set(first))
        wait_until_empty(courier)
        broker.stop()
        listener.subscribed.clear()
        with store.writing() as connection:
            connection.executemany(
                "INSERT INTO outbox (sink, event_id) VALUES ('mqtt', ?)", [(one,) for one in first]
            )
        courier.wake()
        listener.events.clear()
        listener.kept.clear()
        end_s = time.monotonic() + WAIT_S
        while courier.status().error is None and time.monotonic() < end_s:
            time.sleep(0.02)
        assert courier.status().waiting == len(first)
        broker.start()
        assert listener.subscribed.wait(WAIT_S)
        wait_until_empty(courier)
        # The broker came back empty: the states are there again, without an event.
        assert listener.wait(lambda: listener.kept.get("attendance/person/1") == "ON")
        courier.close()
        listener.close()
    store.close()


def test_states_of_a_forgotten_person_are_deleted_from_the_broker(tmp_path: Path) -> None:
    store, ids = record_visits(tmp_path, "mqtt", 1)
    roll = [ROLL]
    with running_broker(tmp_path) as broker:
        courier = courier_to(broker, store)
        courier.start(lambda: roll[0])
        wait_until_empty(courier)
        roll[0] = Roll(ROLL.lines[1:], 2)
        with store.writing() as connection:
            connection.execute("INSERT INTO outbox (sink, event_id) VALUES ('mqtt', ?)", ids[:1])
        courier.wake()
        wait_until_empty(courier)
        courier.close()
        listener = Listener(broker)
        assert listener.wait(lambda: "attendance/person/2" in listener.kept)
        assert not [topic for topic in listener.kept if topic.endswith(("person/1", "person_1"))]
        assert "Ann" not in "".join(listener.kept.values())
        listener.close()
    store.close()


# paho does not close the socket of a handshake that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_with_tls_is_believed_only_with_its_authority(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    store, ids = record_visits(tmp_path, "mqtt", 2)
    with running_broker(tmp_path, tls=True) as broker:
        stranger = courier_to(broker, store, tls=True)
        stranger.start(lambda: ROLL)
        end_s = time.monotonic() + WAIT_S
        while stranger.status().error is None and time.monotonic() < end_s:
            time.sleep(0.02)
        assert stranger.status().waiting == len(ids)
        stranger.close()
        del stranger
        gc.collect()
        listener = Listener(broker, ca_file=str(tmp_path / "ca.pem"))
        courier = courier_to(broker, store, tls=True, ca_file=str(tmp_path / "ca.pem"))
        courier.start(lambda: ROLL)
        assert listener.wait(lambda: listener.events == ids)
        courier.close()
        listener.close()
    store.close()


def test_a_password_is_not_sent_in_the_clear() -> None:
    with pytest.raises(AttendanceError, match="tls"):
        MqttBroker(host="broker.example.org", username="a", password="b")
    MqttBroker(host="broker.example.org", username="a", password="b", tls=True)
    MqttBroker(host="127.0.0.1", username="a", password="b")
