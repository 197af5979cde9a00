"""What is done once for a door: its keys, the second factors of people, the key of a far lock."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edgeface.access import (
    AccessController,
    AccessKeys,
    AccessPolicy,
    ControllerOptions,
    ModelFacts,
    edit_factors,
)
from edgeface.errors import AccessStateError, InvalidInputError
from edgeface.gallery import KeyOptions

__all__ = [
    "add_totp",
    "export_lease_key",
    "init",
    "key_options",
    "read_lease_key",
    "remove_factor",
    "set_pin",
    "trust_clock",
]

_LEASE_KEY_BYTES = 32


def key_options(what: str) -> KeyOptions:
    """Return where the key of ``what`` may be; at a terminal a passphrase is asked for."""
    if not sys.stdin.isatty():
        return KeyOptions()

    def ask(is_new: bool) -> str:
        given = getpass.getpass(f"{'New passphrase' if is_new else 'Passphrase'} of the {what}: ")
        if is_new and getpass.getpass("again: ") != given:
            raise InvalidInputError("the passphrase was not repeated; nothing was made")
        return given

    return KeyOptions(ask_passphrase=ask)


def _keys(state: Path) -> AccessKeys:
    return AccessKeys.open(state, key_options("door"))


def init(state: Path, policy: AccessPolicy) -> str:
    """Make the folder of a new door, its keys, state and log; return a line about it.

    This alone makes them: a door whose state is gone is not a new door, and stays closed.

    Raises:
        AccessStateError: There are keys already.
        GalleryKeyError: There is no protected place for the key.
    """
    keys = AccessKeys.create(state, key_options("door"))
    options = ControllerOptions(create=True)
    AccessController.open(policy, state, keys, _no_facts, options=options).close()
    return f"made the door {keys.door_id} in {state}; add people's second factors next"


def _no_facts(_policy: AccessPolicy) -> ModelFacts:
    raise InvalidInputError("nothing is decided while a door is made")


def set_pin(
    state: Path,
    subject: str,
    ask: Callable[[str], str] = getpass.getpass,
    *,
    alarm_is_heard: bool = False,
) -> str:
    """Ask for a PIN of ``subject``; return a line about it.

    Also for one that calls for help, where ``alarm_is_heard``: a person under threat must not
    rely on a PIN that nobody hears of. A door that runs takes the change at its next decision.

    Raises:
        InvalidInputError: The PIN was not repeated, is too short or too plain.
        AccessStateError: The door's state is gone, changed, or being changed.
    """
    keys = _keys(state)
    try:
        pin = ask("PIN, 6 to 12 digits: ")
        if ask("again: ") != pin:
            raise InvalidInputError("the PIN was not repeated; nothing was changed")
        duress = (
            ask("PIN that calls for help silently (empty for none): ") if alarm_is_heard else ""
        )
    except EOFError as exc:
        raise InvalidInputError("a PIN is typed at a terminal; there is none here") from exc
    with edit_factors(state, keys) as store:
        store.set_pin(subject, pin, duress_pin=duress or None)
    if alarm_is_heard:
        return f"{subject} has a PIN{' and one that calls for help' if duress else ''}"
    return (
        f"{subject} has a PIN, and none that calls for help: nobody would hear it; for one, give "
        "the --alarm-command or --mqtt-host that the door runs with"
    )


def add_totp(state: Path, subject: str) -> str:
    """Make a secret for one-time passwords; return the address for the person's phone.

    Raises:
        AccessStateError: The door's state is gone, changed, or being changed.
    """
    with edit_factors(state, _keys(state)) as store:
        return store.add_totp(subject)


def remove_factor(state: Path, subject: str) -> str:
    """Forget every PIN and secret of ``subject``; return a line about it.

    Raises:
        InvalidInputError: There is none.
        AccessStateError: The door's state is gone, changed, or being changed.
    """
    with edit_factors(state, _keys(state)) as store:
        before = store.subjects()
        store.remove(subject)
        if store.subjects() == before:
            raise InvalidInputError(f"{subject} has no second factor at this door")
    return f"{subject} has no second factor any more"


def trust_clock(state: Path, policy: AccessPolicy) -> str:
    """Take the time of day for right; return a line about it. The door must not run.

    Raises:
        AccessStateError: The door runs, or its state is gone or changed.
        InvalidInputError: The time of day cannot be right.
    """
    try:
        controller = AccessController.open(policy, state, _keys(state), _no_facts)
    except AccessStateError as exc:
        raise AccessStateError(
            f"{exc}; a door that runs is told by the signal USR1: "
            "systemctl kill -s USR1 --kill-whom=main edgeface-door"
        ) from exc
    with controller:
        read = controller.trust_clock()
    if read.doubt:
        raise InvalidInputError(f"{read.moment:%Y-%m-%d %H:%M} UTC cannot be right: {read.doubt}")
    return f"the door takes {read.moment:%Y-%m-%d %H:%M} UTC for right"


def export_lease_key(state: Path, file: Path) -> str:
    """Write the key of the door's leases for a lock on another machine; return a line about it.

    Whoever has it can make leases for this door: carry it there by hand, mode 0600.

    Raises:
        InvalidInputError: The file exists or cannot be written.
    """
    key = _keys(state).lease
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(key.hex() + "\n")
    except OSError as exc:
        raise InvalidInputError(f"{file} cannot be written: {exc.strerror}") from exc
    return f"wrote {file}: move it to the lock's machine, mode 0600, and delete it here"


def read_lease_key(file: Path) -> bytes:
    """Return the key that :func:`export_lease_key` wrote.

    Raises:
        InvalidInputError: The file cannot be read, is open to others, or holds no key.
    """
    try:
        facts = file.lstat()
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"the lease key {file} cannot be read: {exc}") from exc
    if sys.platform != "win32" and facts.st_mode & 0o077:
        raise InvalidInputError(f"the lease key {file} is open to others; run: chmod 600 {file}")
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != _LEASE_KEY_BYTES:
        raise InvalidInputError(f"{file} holds no lease key; make it with --export-lease-key")
    return key
