"""The lock's side behind a broker: ``python -m examples.door_unlock.mqtt_actuator``.

It runs on the machine that has the relay, knows the key of the door's leases and nothing else.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from edgeface.access import LeaseVerifier
from edgeface.errors import EdgefaceError
from examples.door_unlock.__main__ import add_mqtt_options, mqtt_options
from examples.door_unlock.gpio_lock import PinBolt
from examples.door_unlock.locks import LeasedLock, SimulatedBolt
from examples.door_unlock.mqtt_lock import MqttActuator
from examples.door_unlock.setup_door import read_lease_key
from examples.door_unlock.watchdog import Watchdog


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; return the exit code."""
    parser = argparse.ArgumentParser(description="A lock that takes leases from an MQTT broker.")
    parser.add_argument("--door", required=True, help="name of the door, as in its policy")
    parser.add_argument("--lease-key", type=Path, required=True, help="file of the door's app")
    parser.add_argument("--simulated", action="store_true", help="no relay; takes demonstrations")
    parser.add_argument("--pin", type=int, default=17, help="BCM number of the relay's pin [17]")
    parser.add_argument("--active-low", action="store_true", help="the relay opens on low")
    add_mqtt_options(parser)
    given = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    try:
        _serve(given, ended)
    except EdgefaceError as exc:
        sys.stderr.write(f"lock: {exc}\n")
        return exc.exit_code
    return 0


def _serve(given: argparse.Namespace, ended: threading.Event) -> None:
    key = read_lease_key(given.lease_key)
    verifier = LeaseVerifier(given.door, key, demonstration=given.simulated)
    bolt = SimulatedBolt() if given.simulated else PinBolt(given.pin, active_low=given.active_low)
    actuators: list[MqttActuator] = []

    def tell(is_open: bool) -> None:
        for actuator in actuators:
            actuator.tell(is_open=is_open)

    lock = LeasedLock(verifier, bolt, on_change=tell)
    try:
        actuators.append(MqttActuator(lock, mqtt_options(given)))
        watchdog = Watchdog(lambda: True)
        watchdog.start()
        print(f"{lock.name} of {given.door} listens at {given.mqtt_base}", flush=True)
        ended.wait()
        watchdog.stop()
    finally:
        for actuator in actuators:
            actuator.close()
        lock.close()


if __name__ == "__main__":
    sys.exit(main())
