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
from examples.door_unlock.__main__ import add_alarm_option, add_mqtt_options, mqtt_options
from examples.door_unlock.alarms import AlarmCommand, Alarms
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
    add_alarm_option(parser)
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
    command = [] if given.alarm_command is None else [AlarmCommand(given.alarm_command)]
    alarms, actuators = Alarms(command), list[MqttActuator]()

    def tell(is_open: bool) -> None:
        for actuator in actuators:
            actuator.tell(is_open=is_open)

    def fault(text: str) -> None:
        sys.stderr.write(f"lock: {text}\n")
        alarms.lock_fault(text)
        for actuator in actuators:
            actuator.tell_fault(text)

    bolt = (
        SimulatedBolt()
        if given.simulated
        else PinBolt(given.pin, active_low=given.active_low, on_fault=fault)
    )
    lock = LeasedLock(verifier, bolt, on_change=tell)
    try:
        actuator = MqttActuator(lock, mqtt_options(given))
        actuators.append(actuator)
        watchdog = Watchdog(lambda: actuator.is_alive)
        watchdog.start()
        print(f"{lock.name} of {given.door} listens at {given.mqtt_base}", flush=True)
        ended.wait()
        watchdog.stop()
    finally:
        for one in actuators:
            one.close()
        lock.close()
        alarms.close()


if __name__ == "__main__":
    sys.exit(main())
