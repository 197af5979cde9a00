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
    FactorStore,
    ModelFacts,
)
from edgeface.errors import InvalidInputError

__all__ = ["add_totp", "export_lease_key", "init", "read_lease_key", "set_pin"]

_LEASE_KEY_BYTES = 32


def init(state: Path, policy: AccessPolicy) -> str:
    """Make the folder of a new door, its keys, state and log; return a line about it.

    This alone makes them: a door whose state is gone is not a new door, and stays closed.

    Raises:
        AccessStateError: There are keys already.
        GalleryKeyError: There is no protected place for the key.
    """
    keys = AccessKeys.create(state)
    options = ControllerOptions(create=True)
    AccessController.open(policy, state, keys, _no_facts, options=options).close()
    return f"made the door {keys.door_id} in {state}; add people's second factors next"


def _no_facts(_policy: AccessPolicy) -> ModelFacts:
    raise InvalidInputError("nothing is decided while a door is made")


def set_pin(state: Path, subject: str, ask: Callable[[str], str] = getpass.getpass) -> str:
    """Ask for a PIN of ``subject``, and for one that calls for help; return a line about it.

    Raises:
        InvalidInputError: The PIN was not repeated, is too short or too plain.
    """
    store = FactorStore(state, AccessKeys.open(state))
    try:
        pin = ask("PIN, 6 to 12 digits: ")
        if ask("again: ") != pin:
            raise InvalidInputError("the PIN was not repeated; nothing was changed")
        duress = ask("PIN that calls for help silently (empty for none): ")
    except EOFError as exc:
        raise InvalidInputError("a PIN is typed at a terminal; there is none here") from exc
    store.set_pin(subject, pin, duress_pin=duress or None)
    return f"{subject} has a PIN{' and one that calls for help' if duress else ''}"


def add_totp(state: Path, subject: str) -> str:
    """Make a secret for one-time passwords; return the address for the person's phone."""
    store = FactorStore(state, AccessKeys.open(state))
    return store.add_totp(subject)


def export_lease_key(state: Path, file: Path) -> str:
    """Write the key of the door's leases for a lock on another machine; return a line about it.

    Whoever has it can make leases for this door: carry it there by hand, mode 0600.

    Raises:
        InvalidInputError: The file exists or cannot be written.
    """
    key = AccessKeys.open(state).lease
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
