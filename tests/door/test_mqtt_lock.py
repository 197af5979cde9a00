"""A lock behind a real Mosquitto: what opens it, and what a broker or its guests cannot do."""

from __future__ import annotations

import getpass
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeface.access import AccessEvent, AccessEventKind, LeaseVerifier
from edgeface.errors import InvalidInputError, LeaseError
from edgeface.testing import ManualClock
from examples.door_unlock import mqtt_actuator
from examples.door_unlock.alarms import Alarms
from examples.door_unlock.locks import LeasedLock, LockError
from examples.door_unlock.mqtt import MqttOptions
from examples.door_unlock.mqtt_events import MqttEvents
from examples.door_unlock.mqtt_lock import MqttActuator, MqttLock
from tests.door.doors import DOOR, KEY, BoltOnPaper, token

pytest.importorskip("paho.mqtt.client")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

BASE = "edgeface/door"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: str, limit_s: float = 15.0) -> None:
    until = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


class Broker:
    """A Mosquitto on a free port; ``kill`` and ``start`` as a power cut would."""

    def __init__(self, folder: Path, extra: str = "", host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            # Without the user, a broker that root starts cannot read the test's certificates.
            f"user {getpass.getuser()}\npersistence false\nlistener {self.port} {host}\n"
            f"allow_anonymous true\n{extra}"
        )
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._listens, "mosquitto does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0


class Rig:
    """Broker, lock and app side, and an observer of every message."""

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder)
        self.options = MqttOptions(host="127.0.0.1", port=self.broker.port, tls=False)
        self.bolt = BoltOnPaper()
        self.messages: list[tuple[str, bytes, bool]] = []
        self._observer = self._observe()
        self.lock = LeasedLock(LeaseVerifier(DOOR, KEY), self.bolt, on_change=self._tell)
        self.actuator: MqttActuator | None = None
        self.actuator = MqttActuator(self.lock, self.options)
        self.app = MqttLock(self.options)
        self.events = MqttEvents(self.options)

    def _tell(self, is_open: bool) -> None:
        if self.actuator is not None:
            self.actuator.tell(is_open=is_open)

    def _observe(self) -> Any:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        ready = threading.Event()
        observer = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        observer.on_subscribe = lambda *_: ready.set()
        observer.on_message = lambda _c, _d, m: self.messages.append(
            (m.topic, bytes(m.payload), m.retain)
        )
        observer.connect("127.0.0.1", self.broker.port)
        observer.subscribe("#")
        observer.loop_start()
        assert ready.wait(10.0)
        return observer

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish as a guest of the broker."""
        self._observer.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5.0)

    def on(self, topic: str) -> list[bytes]:
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def close(self) -> None:
        self.app.close()
        self.events.close()
        if self.actuator is not None:
            self.actuator.close()
        self.lock.close()
        self._observer.disconnect()
        self._observer.loop_stop()
        self.broker.kill()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def test_a_lease_opens_and_the_lock_closes_by_itself(rig: Rig) -> None:
    rig.app.unlock(token(rig.app.challenge(), life_s=0.3))
    assert rig.bolt.released == [0.3]
    wait_for(lambda: rig.app.is_open, "the app did not hear that it is open")
    wait_for(lambda: not rig.app.is_open, "it stayed open")
    assert rig.on(f"{BASE}/state")[-1] == b"LOCKED"


def test_a_lease_that_was_seen_on_the_broker_opens_nothing_again(rig: Rig) -> None:
    rig.app.unlock(token(rig.app.challenge(), life_s=0.05))
    wait_for(lambda: bool(rig.on(f"{BASE}/lease")), "the lease was not seen")
    seen = rig.on(f"{BASE}/lease")[0].decode()
    for retain in (False, True):
        rig.publish(f"{BASE}/lease", seen, retain=retain)
    with pytest.raises(LeaseError, match="used before"):
        rig.app.unlock(json.loads(seen)["lease"])
    assert rig.bolt.released == [0.05]


@pytest.mark.parametrize("retain", [False, True])
def test_what_a_guest_of_the_broker_sends_opens_nothing(rig: Rig, retain: bool) -> None:
    for topic in ("command", "lease", "ask", "state", "answer"):
        for payload in ("UNLOCK", "OPEN", "", "{}", '{"id": "x", "lease": "UNLOCK"}', "[" * 9999):
            rig.publish(f"{BASE}/{topic}", payload, retain=retain)
    rig.app.unlock(token(rig.app.challenge(), life_s=0.05))
    assert rig.bolt.released == [0.05], "something else opened it"


def test_nothing_that_opens_is_retained(rig: Rig) -> None:
    rig.app.unlock(token(rig.app.challenge(), life_s=0.05))
    rig.events.tell("opened", is_alarm=False)
    wait_for(lambda: bool(rig.on(f"{BASE}/event")), "no event")
    before = len(rig.messages)
    observer = rig._observe()  # a newcomer gets what the broker keeps
    wait_for(lambda: any(m[2] for m in rig.messages[before:]), "nothing was retained")
    time.sleep(0.2)
    kept = {topic: payload for topic, payload, retained in rig.messages[before:] if retained}
    observer.disconnect()
    observer.loop_stop()
    config = f"homeassistant/lock/{BASE.replace('/', '_')}/config"
    assert set(kept) == {f"{BASE}/state", f"{BASE}/availability", config}
    assert kept[f"{BASE}/state"] in (b"LOCKED", b"UNLOCKED")


def test_home_assistant_may_lock_and_not_unlock(rig: Rig) -> None:
    config = json.loads(rig.on(f"homeassistant/lock/{BASE.replace('/', '_')}/config")[0])
    assert config["command_topic"] == f"{BASE}/command"
    assert config["state_topic"] == f"{BASE}/state"
    assert config["optimistic"] is False
    rig.app.unlock(token(rig.app.challenge(), life_s=5.0))
    assert rig.lock.is_open
    rig.publish(config["command_topic"], "LOCK")
    wait_for(lambda: not rig.lock.is_open, "it stayed open")
    rig.publish(config["command_topic"], "UNLOCK")
    assert rig.bolt.released == [5.0]


def test_events_name_nobody(rig: Rig) -> None:
    Alarms([rig.events]).hear(AccessEvent(AccessEventKind.DURESS, 1.0, "alice", {"what": "alice"}))
    wait_for(lambda: bool(rig.on(f"{BASE}/event")), "no event")
    assert json.loads(rig.on(f"{BASE}/event")[0]) == {"kind": "duress", "alarm": True}
    assert not any(b"alice" in payload for _, payload, _ in rig.messages)


def test_events_of_the_time_without_a_broker_are_told_when_it_is_back(rig: Rig) -> None:
    rig.broker.kill()
    rig.events.tell("duress", is_alarm=True)
    rig.broker.start()
    # There before the events' client, which waits for a second.
    observer = rig._observe()
    wait_for(lambda: bool(rig.on(f"{BASE}/event")), "it was lost", 40.0)
    observer.disconnect()
    observer.loop_stop()
    assert json.loads(rig.on(f"{BASE}/event")[0])["kind"] == "duress"


def test_people_who_went_out_are_heard_of(rig: Rig) -> None:
    left: list[str | None] = []
    rig.publish(f"{BASE}/left", "kept by the broker", retain=True)
    rig.events.hear_left(left.append)
    for payload in ("Ada Lovelace", "", "x" * 5000):
        # The first ones may come before the subscription.
        rig.publish(f"{BASE}/left", payload)
    wait_for(lambda: None in left, "not heard")
    rig.publish(f"{BASE}/left", "Bob")
    wait_for(lambda: "Bob" in left, "not heard")
    assert set(left) <= {"Ada Lovelace", None, "Bob"}


def test_a_lock_that_is_killed_while_open_is_not_called_open_for_ever(rig: Rig) -> None:
    now = ManualClock(100.0)
    faults: list[str] = []
    app = MqttLock(rig.options, clock=now, on_fault=faults.append)
    wait_for(lambda: app.problem == "", "it is not there")
    app.unlock(token(app.challenge(), life_s=5.0))
    was_open = app.is_open
    # What stands at the broker for ever after: a lock that was killed says nothing more.
    rig.publish(f"{BASE}/state", "UNLOCKED", retain=True)
    now.advance(5.1)
    assert (was_open, app.is_open) == (True, False)
    rig.publish(f"{BASE}/availability", "offline", retain=True)
    wait_for(lambda: app.problem == "it is not there", "nobody is told that it is gone")
    wait_for(lambda: bool(faults), "no alarm")
    app.close()


def test_a_state_that_a_guest_publishes_opens_nothing_on_the_panel(rig: Rig) -> None:
    rig.publish(f"{BASE}/state", "UNLOCKED", retain=True)
    wait_for(lambda: b"UNLOCKED" in rig.on(f"{BASE}/state"), "not published")
    time.sleep(0.2)
    assert not rig.app.is_open


def test_an_actuator_that_hangs_is_not_called_alive(rig: Rig) -> None:
    assert rig.actuator is not None
    assert rig.actuator.is_alive
    nonce, done = rig.app.challenge(), threading.Event()
    rig.bolt.hangs_until = done
    with pytest.raises(LockError, match="does not answer"):
        rig.app.unlock(token(nonce, life_s=1.0))
    # The relay does not move: obeying takes too long, and the lock cannot be had.
    wait_for(lambda: not (rig.actuator and rig.actuator.is_alive), "it is called alive")
    done.set()
    wait_for(lambda: bool(rig.actuator and rig.actuator.is_alive), "it did not come back")


def test_an_actuator_whose_thread_died_is_not_called_alive(rig: Rig) -> None:
    assert rig.actuator is not None
    rig.actuator._client.loop_stop()
    assert not rig.actuator.is_alive


def test_a_lock_that_is_not_there_is_an_error_and_leaves_no_lease_behind(rig: Rig) -> None:
    assert rig.actuator is not None
    nonce = rig.app.challenge()
    rig.actuator.close()
    rig.actuator = None
    with pytest.raises(LockError, match="does not answer"):
        rig.app.unlock(token(nonce, life_s=1.0))
    rig.actuator = MqttActuator(rig.lock, rig.options)
    time.sleep(0.3)
    assert rig.bolt.released == []
    wait_for(lambda: rig.on(f"{BASE}/availability")[-1] == b"online", "not announced again")


def test_a_lost_broker_locks_at_once_and_everything_comes_back(rig: Rig) -> None:
    rig.app.unlock(token(rig.app.challenge(), life_s=5.0))
    assert rig.lock.is_open
    started = time.monotonic()
    rig.broker.kill()
    wait_for(lambda: not rig.lock.is_open, "it stayed open without a broker", 4.0)
    assert time.monotonic() - started < 4.0
    with pytest.raises(LockError):
        rig.app.challenge()
    rig.broker.start()

    def opens() -> bool:
        try:
            rig.app.unlock(token(rig.app.challenge(), life_s=0.05))
        except LockError:
            return False
        return True

    wait_for(opens, "it did not come back", 40.0)
    assert rig.bolt.released == [5.0, 0.05]


@pytest.mark.parametrize("alive", [True, False])
def test_the_program_beside_the_relay_tells_its_watchdog_whether_it_hangs(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    key = tmp_path / "lease.key"
    key.write_text(KEY.hex())
    key.chmod(0o600)
    told: list[bool] = []

    class Heard:
        def __init__(self, is_alive: Callable[[], bool]) -> None:
            self._is_alive = is_alive

        def start(self) -> None:
            told.append(self._is_alive())
            signal.raise_signal(signal.SIGTERM)

        def stop(self) -> None:
            pass

    monkeypatch.setattr(mqtt_actuator, "Watchdog", Heard)
    if not alive:
        monkeypatch.setattr(MqttActuator, "is_alive", property(lambda _self: False))
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    broker = ["--mqtt-host", "127.0.0.1", "--mqtt-port", str(rig.broker.port), "--mqtt-no-tls"]
    try:
        options = ["--door", DOOR, "--lease-key", str(key), "--simulated", *broker]
        assert mqtt_actuator.main([*options, "--mqtt-base", "another/door"]) == 0
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert told == [alive]


# ---------------------------------------------------------------------------- TLS and options


def test_another_machine_is_not_reached_without_tls() -> None:
    with pytest.raises(InvalidInputError, match="without TLS"):
        MqttOptions(host="broker.example", tls=False)
    assert MqttOptions(host="broker.example").tls
    assert MqttOptions(host="broker.example", tls=False, insecure=True).insecure
    with pytest.raises(InvalidInputError, match="plain levels"):
        MqttOptions(host="localhost", base="edgeface/#")


def test_a_broker_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="cannot be reached"):
        MqttLock(MqttOptions(host="127.0.0.1", port=free_port(), tls=False))


def certificates(folder: Path) -> None:
    """An authority, and a server's certificate for 127.0.0.1, by openssl."""
    run = [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=broker",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
        "-out server.crt -extfile names",
    ]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for line in run:
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)
    (folder / "server.key").chmod(0o644)


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_lock_behind_tls_and_a_broker_with_a_foreign_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    broker = Broker(tmp_path, f"certfile {tmp_path}/server.crt\nkeyfile {tmp_path}/server.key\n")
    bolt = BoltOnPaper()
    lock = LeasedLock(LeaseVerifier(DOOR, KEY), bolt)
    try:
        ours = MqttOptions(host="127.0.0.1", port=broker.port, ca_file=tmp_path / "ca.crt")
        actuator, app = MqttActuator(lock, ours), MqttLock(ours)
        app.unlock(token(app.challenge(), life_s=0.05))
        assert bolt.released == [0.05]
        app.close()
        actuator.close()
        # The system's authorities do not know this one.
        with pytest.raises((LockError, ssl.SSLError), match=r"cannot be reached|certificate"):
            MqttLock(MqttOptions(host="127.0.0.1", port=broker.port))
    finally:
        lock.close()
        broker.kill()
