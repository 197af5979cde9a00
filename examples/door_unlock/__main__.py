"""``python -m examples.door_unlock``: a door from the command line. README.md has the whole way."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from edgeface import Recognizer, RecognizerOptions
from edgeface.access import (
    AccessController,
    AccessKeys,
    AccessPolicy,
    ControllerOptions,
    LeaseVerifier,
    read_guarded,
    recognizer_facts,
)
from edgeface.camera import SourceOptions, open_source
from edgeface.default_model import DEFAULT_MODEL_NOTICE, default_bundle_path
from edgeface.errors import EdgefaceError, InvalidInputError
from edgeface.pipeline import PadOptions, StreamOptions
from edgeface.signatures import PublicKey
from examples.door_unlock import setup_door
from examples.door_unlock.alarms import AlarmCommand, Alarms
from examples.door_unlock.app import Door
from examples.door_unlock.exits import ExitPin
from examples.door_unlock.gpio_lock import PinBolt
from examples.door_unlock.locks import LeasedLock, Lock, SimulatedBolt
from examples.door_unlock.mqtt import MqttOptions
from examples.door_unlock.mqtt_events import MqttEvents
from examples.door_unlock.mqtt_lock import MqttLock
from examples.door_unlock.panel import PanelServer
from examples.door_unlock.watchdog import Watchdog


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m examples.door_unlock", description="A door that edgeface.access opens."
    )
    add = made.add_argument
    add("--source", default="0", help="camera, stream or recording [0]")
    add("--policy", type=Path, help="policy of the door (TOML)")
    add("--state", type=Path, default=Path("door-state"), help="folder of the door [door-state]")
    add("--model", type=Path, help="bundle to recognise with")
    add("--gallery", type=Path, default=Path("people.db"), help="gallery [people.db]")
    add("--pad", type=Path, action="append", default=[], help="PAD bundle; may be repeated")
    add("--trusted-key", type=Path, action="append", default=[], help="who must sign bundles")
    add("--threads", type=int, help="threads of the engine")
    add("--lock", choices=("simulated", "gpio", "mqtt"), default="simulated")
    add("--panel-port", type=int, default=8080, help="port of the panel on this machine [8080]")
    add("--no-panel", action="store_true", help="terminal only")
    add("--pin", type=int, default=17, help="BCM number of the relay's pin [17]")
    add("--active-low", action="store_true", help="the relay opens on low")
    add("--exit-pin", type=int, help="BCM number of a contact that says that nobody is inside")
    add_alarm_option(made)
    add("--no-alarms", action="store_true", help="nobody hears of attacks, threats and faults")
    add_mqtt_options(made)
    once = made.add_argument_group("done once, instead of running")
    once.add_argument("--init", action="store_true", help="make the keys of a new door")
    once.add_argument("--set-pin", metavar="SUBJECT", help="ask for a PIN of an enrolled person")
    once.add_argument("--add-totp", metavar="SUBJECT", help="make a secret for a phone")
    once.add_argument("--remove-factor", metavar="SUBJECT", help="forget PINs and secret")
    once.add_argument("--trust-clock", action="store_true", help="the time of day is right")
    once.add_argument("--export-lease-key", type=Path, metavar="FILE", help="for a far lock")
    return made


def add_alarm_option(made: argparse.ArgumentParser) -> None:
    """Add the program that is told of alarms."""
    made.add_argument(
        "--alarm-command",
        type=Path,
        metavar="PROGRAM",
        help="run for each alarm, with its kind as argument: attack, duress, fault, lock …",
    )


def add_mqtt_options(made: argparse.ArgumentParser) -> None:
    """Add what both sides of a lock behind a broker need."""
    group = made.add_argument_group("broker")
    group.add_argument("--mqtt-host", help="tells BASE/event what happens, with any lock")
    group.add_argument("--mqtt-port", type=int, default=8883)
    group.add_argument("--mqtt-base", default="edgeface/door", help="topics begin with this")
    group.add_argument("--mqtt-no-tls", action="store_true", help="for a broker on this machine")
    group.add_argument("--mqtt-insecure", action="store_true", help="no TLS to another machine")
    group.add_argument("--mqtt-ca", type=Path, help="certificate of the broker's authority")
    group.add_argument("--mqtt-cert", type=Path, help="certificate of this client")
    group.add_argument("--mqtt-key", type=Path, help="key of that certificate")
    group.add_argument("--mqtt-user", default="")
    group.add_argument("--mqtt-password-file", type=Path)


def mqtt_options(given: argparse.Namespace) -> MqttOptions:
    """Return the options of the broker."""
    return MqttOptions(
        host=given.mqtt_host or "localhost",
        port=given.mqtt_port,
        tls=not (given.mqtt_no_tls or given.mqtt_insecure),
        insecure=given.mqtt_insecure,
        ca_file=given.mqtt_ca,
        certificate=given.mqtt_cert,
        key=given.mqtt_key,
        username=given.mqtt_user,
        password_file=given.mqtt_password_file,
        base=given.mqtt_base,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    given = parser().parse_args(arguments)
    try:
        line = _once(given)
        if line is None:
            _run(given)
        print(line or "the door is locked; the program ends")
    except EdgefaceError as exc:
        sys.stderr.write(f"door: {exc}\n")
        return exc.exit_code
    except KeyboardInterrupt:
        print("stopped at once; the door is locked")
    return 0


def _once(given: argparse.Namespace) -> str | None:
    if given.init:
        return setup_door.init(given.state, _policy(given))
    if given.set_pin:
        heard = _has_broker(given) or given.alarm_command is not None
        return setup_door.set_pin(given.state, given.set_pin, alarm_is_heard=heard)
    if given.add_totp:
        return setup_door.add_totp(given.state, given.add_totp)
    if given.remove_factor:
        return setup_door.remove_factor(given.state, given.remove_factor)
    if given.trust_clock:
        return setup_door.trust_clock(given.state, _policy(given))
    if given.export_lease_key:
        return setup_door.export_lease_key(given.state, given.export_lease_key)
    return None


def _policy(given: argparse.Namespace) -> AccessPolicy:
    if given.policy is None:
        raise InvalidInputError("a door needs its rules: give --policy FILE (policy.toml)")
    return AccessPolicy.from_toml(given.policy)


def _run(given: argparse.Namespace) -> None:
    """Open everything, run the door, and lock whatever happens."""
    policy = _policy(given)
    _require_ears(given, policy)
    with ExitStack() as stack:
        keys = AccessKeys.open(given.state, setup_door.key_options("door"))
        broker = MqttEvents(mqtt_options(given)) if _has_broker(given) else None
        alarms = Alarms([*_command(given), *([] if broker is None else [broker])])
        stack.callback(alarms.close)
        lock = _lock(given, policy, keys, alarms)
        stack.callback(lock.close)
        recognizer = stack.enter_context(_recognizer(given, policy))
        controller = stack.enter_context(
            AccessController.open(
                policy,
                given.state,
                keys,
                recognizer_facts(recognizer),
                # Told at once, in its own thread: a duress PIN must not wait for a disk or a turn.
                options=ControllerOptions(on_event=alarms.hear),
            )
        )
        door = Door(controller, lock)
        _take_signals(door)
        if not given.no_panel:
            panel = PanelServer(door, port=given.panel_port)
            stack.callback(panel.close)
            print(f"panel: {panel.address}")
        if given.exit_pin is not None:
            stack.callback(ExitPin(given.exit_pin, door.left).close)
        if broker is not None:
            broker.hear_left(door.left)
        watchdog = Watchdog(lambda: door.is_running)
        stack.callback(watchdog.stop)
        # A recording is played as a camera would show it: times and dropped frames are real.
        options = SourceOptions(real_time=True)
        source = stack.enter_context(open_source(given.source, options=options))
        watchdog.start()
        _listen(door)
        stack.enter_context(_no_echo())
        door.run(recognizer, source)


def _has_broker(given: argparse.Namespace) -> bool:
    return given.lock == "mqtt" or given.mqtt_host is not None


def _require_ears(given: argparse.Namespace, policy: AccessPolicy) -> None:
    """Return if somebody hears alarms, and of people who went out where that matters.

    Raises:
        InvalidInputError: Nobody does.
    """
    heard = _has_broker(given) or given.alarm_command is not None
    if given.lock != "simulated" and not heard and not given.no_alarms:
        raise InvalidInputError(
            "nobody would hear of attacks, duress PINs and faults at this door; give "
            "--alarm-command PROGRAM or --mqtt-host HOST, or say --no-alarms"
        )
    exits = _has_broker(given) or given.exit_pin is not None or sys.stdin.isatty()
    if policy.anti_passback == "hard" and not exits:
        raise InvalidInputError(
            'anti_passback = "hard" lets nobody in twice, and nothing here tells who went out; '
            "give --exit-pin, --mqtt-host or a terminal, or change the policy"
        )


def _command(given: argparse.Namespace) -> list[AlarmCommand]:
    return [] if given.alarm_command is None else [AlarmCommand(given.alarm_command)]


def _recognizer(given: argparse.Namespace, policy: AccessPolicy) -> Recognizer:
    if given.model is None:
        sys.stderr.write(DEFAULT_MODEL_NOTICE + "\n")
    for path in given.trusted_key:
        # Whoever can write the file says whom this door trusts.
        read_guarded(path, "trusted key")
    trusted = tuple(PublicKey.read(path) for path in given.trusted_key)
    options = RecognizerOptions(
        threads=given.threads,
        stream=StreamOptions.door(),
        pad=PadOptions(bundles=tuple(given.pad)) if given.pad else None,
        trusted_keys=trusted or None,
        gallery_keys=setup_door.key_options("gallery"),
        target_fpir=None if policy.demonstration else policy.max_fpir,
    )
    return Recognizer.open(given.model or default_bundle_path(), given.gallery, options=options)


def _lock(
    given: argparse.Namespace, policy: AccessPolicy, keys: AccessKeys, alarms: Alarms
) -> Lock:
    def fault(text: str) -> None:
        sys.stderr.write(f"door: {text}\n")
        alarms.lock_fault(text)

    if given.lock == "mqtt":
        return MqttLock(mqtt_options(given), on_fault=fault)
    # Only a lock that is none opens for a demonstration.
    simulated = given.lock == "simulated"
    verifier = LeaseVerifier(policy.door, keys.lease, demonstration=simulated)
    bolt = (
        SimulatedBolt()
        if simulated
        else PinBolt(given.pin, active_low=given.active_low, on_fault=fault)
    )
    return LeasedLock(verifier, bolt)


def _take_signals(door: Door) -> None:
    def end(_number: int, _frame: FrameType | None) -> None:
        # The first time the loop ends by itself, with its files closed; the second time at once.
        if door.is_stopped:
            raise KeyboardInterrupt
        # In a thread: this one may hold what stopping needs.
        threading.Thread(target=door.stop, name="stop", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(
            signal.SIGUSR1, lambda *_: threading.Thread(target=_trust_clock, args=(door,)).start()
        )


def _trust_clock(door: Door) -> None:
    read = door.controller.trust_clock()
    told = f"cannot be right: {read.doubt}" if read.doubt else "is taken for right"
    print(f"{read.moment:%Y-%m-%d %H:%M} UTC {told}")


def _listen(door: Door) -> None:
    """Take the button and codes from the terminal, where there is one."""
    if not sys.stdin.isatty():
        return
    print(
        "Enter: the button. Digits and Enter: a PIN or code. left NAME: went out; left: nobody is "
        "inside. clock: it is right. why: what keeps it closed. Ctrl-C: end."
    )
    threading.Thread(target=_read_keys, args=(door,), name="keys", daemon=True).start()


@contextmanager
def _no_echo() -> Iterator[None]:
    """Keep a terminal from showing what is typed at it: codes are among it."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios

    was = termios.tcgetattr(sys.stdin)
    silent = [*was]
    silent[3] = was[3] & ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, was)


def _read_keys(door: Door) -> None:
    for line in sys.stdin:
        word, _, name = line.strip().partition(" ")
        if not word:
            door.press()
            print("button pressed")
        elif word == "left":
            door.left(name.strip() or None)
            print("taken")
        elif word == "clock":
            _trust_clock(door)
        elif word == "why":
            for condition in door.controller.explain().unmet:
                print(f"  not yet: {condition}")
        else:
            answer = door.present(word)
            print("code accepted" if answer.accepted else f"code refused: {answer.reason}")


if __name__ == "__main__":
    sys.exit(main())
