"""The keys of a gallery: where they come from, and how they hang together.

::

    key of a source ── wraps ──> gallery key ─┬─ wraps ──> one key for each person ── seals ──> rows
                                              └─ derived: marks of rows, the head, look-up of names

A *slot* holds the gallery key wrapped for one source. A gallery may have several, so that a key
can be moved to another place, or opened with a passphrase where its device is lost.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeface.errors import GalleryIntegrityError, GalleryKeyError
from edgeface.gallery.key_sources import (
    DesktopKeyring,
    JetsonKey,
    KeyFile,
    KeySource,
    Passphrase,
    SystemdCredential,
)
from edgeface.gallery.sealing import derive, keyed_hash, new_key, seal, unseal

__all__ = [
    "INSECURE_SWITCH",
    "GalleryKeys",
    "KeyOptions",
    "Slot",
    "make_slot",
    "new_gallery_slot",
    "unlock",
    "where_the_key_is",
]

INSECURE_SWITCH = "EDGEFACE_INSECURE_KEY_FILE"
"""Environment variable that stands for ``insecure_key_file=True`` when it is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """Where the key of a gallery may be kept.

    The first source that exists is taken for a new gallery: systemd credential, Jetson OP-TEE,
    desktop keyring, passphrase, key file. ``ask_passphrase`` is called with true for a new
    passphrase and false for a known one, and returns None to give none; without it no passphrase
    is asked for. ``insecure_key_file`` allows a plain file in ``folder`` (None:
    ``$XDG_CONFIG_HOME/edgeface/keys``), which protects against who has the gallery's file alone;
    None stands for the environment variable ``EDGEFACE_INSECURE_KEY_FILE``. ``source`` names one
    source and leaves out the others. ``state_folder`` holds what shows that an older gallery
    file was put back (None: ``$STATE_DIRECTORY``, else ``$XDG_STATE_HOME/edgeface``).
    """

    ask_passphrase: Callable[[bool], str | None] | None = None
    insecure_key_file: bool | None = None
    folder: Path | None = None
    state_folder: Path | None = None
    source: str | None = None

    def for_new(self) -> list[KeySource]:
        """Return the sources that a new gallery may use, the best protected first."""
        allowed = self.insecure_key_file
        if allowed is None:
            allowed = os.environ.get(INSECURE_SWITCH) == "1"
        sources = [s for s in self.for_known() if allowed or s.name != KeyFile.name]
        return [s for s in sources if self.source in (None, s.name)]

    def for_known(self) -> list[KeySource]:
        """Return the sources that may have the key of a known gallery, in the same order.

        The key file is among them: it was asked for when the gallery was made.
        """
        sources: list[KeySource] = [SystemdCredential(), JetsonKey(), DesktopKeyring()]
        if self.ask_passphrase is not None:
            sources.append(Passphrase(self.ask_passphrase))
        return [*sources, KeyFile(self.folder or _home("XDG_CONFIG_HOME", ".config") / "keys")]

    def anchor_folder(self) -> Path:
        """Return the folder of what shows that an older gallery file was put back."""
        if self.state_folder is not None:
            return self.state_folder
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(given) if given else _home("XDG_STATE_HOME", ".local/state")


def _home(variable: str, default: str) -> Path:
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / default) / "edgeface"


@dataclass(frozen=True, slots=True)
class GalleryKeys:
    """The gallery key and what is derived from it; ``source`` is the source that opened it."""

    gallery_id: str
    gallery_key: bytes = field(repr=False)
    source: str
    _derived: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def of(self, purpose: str) -> bytes:
        """Return the 32-byte key for ``purpose``."""
        if purpose not in self._derived:
            self._derived[purpose] = derive(self.gallery_key, purpose, self.gallery_id)
        return self._derived[purpose]

    def wrap(self, person_key: bytes, person: bytes) -> bytes:
        """Return the key of one person, sealed."""
        return seal(self.of("wrap"), person_key, self.gallery_id, "person key", person)

    def unwrap(self, wrapped: bytes, person: bytes) -> bytes:
        """Return the key of one person.

        Raises:
            GalleryIntegrityError: It was changed, or is another person's.
        """
        return unseal(self.of("wrap"), wrapped, self.gallery_id, "person key", person)


@dataclass(frozen=True, slots=True)
class Slot:
    """The gallery key wrapped for one source; ``key_id`` tells a wrong key from damage."""

    source: str
    key_id: bytes
    parameters: str
    wrapped: bytes


def make_slot(keys: GalleryKeys, source: KeySource) -> Slot | None:
    """Return a slot of ``source`` for the gallery, or None where the source does not exist here.

    Raises:
        GalleryKeyError: The source exists and is not safe, or refused.
    """
    made = source.make(keys.gallery_id)
    if made is None:
        return None
    parameters = json.dumps(dict(made.parameters), sort_keys=True)
    wrapping = derive(made.key, "slot", keys.gallery_id)
    return Slot(
        source.name,
        _key_id(wrapping),
        parameters,
        seal(wrapping, keys.gallery_key, keys.gallery_id, "slot", source.name, parameters),
    )


def new_gallery_slot(gallery_id: str, options: KeyOptions) -> tuple[GalleryKeys, Slot]:
    """Return new keys for a gallery and their first slot.

    Raises:
        GalleryKeyError: No protected place for the key exists here, and a plain file was not
            asked for.
    """
    gallery_key = new_key()
    for source in options.for_new():
        keys = GalleryKeys(gallery_id, gallery_key, source.name)
        slot = make_slot(keys, source)
        if slot is not None:
            return keys, slot
    asked = "" if options.source is None else f" in {options.source!r}"
    raise GalleryKeyError(
        f"no protected place for the gallery's key was found{asked} (looked for: a systemd "
        "credential, Jetson OP-TEE, a desktop keyring, a passphrase at a terminal); run this at a "
        "terminal to choose a passphrase, or accept a plain key file, which protects copies of "
        f"the gallery but not the disk: {INSECURE_SWITCH}=1, or --insecure-key-file where the "
        "command has it"
    )


def unlock(gallery_id: str, slots: Sequence[Slot], options: KeyOptions) -> GalleryKeys:
    """Return the keys of the gallery, from the first source that has one.

    Raises:
        GalleryKeyError: No source has the key, or what was given is a wrong key.
        GalleryIntegrityError: The key is right and the slot was changed.
    """
    wrong: list[str] = []
    for source in options.for_known():
        for slot in slots:
            if slot.source != source.name:
                continue
            key = source.find(gallery_id, _parameters(slot))
            if key is None:
                continue
            wrapping = derive(key, "slot", gallery_id)
            if hmac.compare_digest(_key_id(wrapping), slot.key_id):
                return GalleryKeys(gallery_id, _unwrap(wrapping, slot, gallery_id), source.name)
            wrong.append(source.name)
    if wrong:
        raise GalleryKeyError(
            f"the key from {', '.join(wrong)} does not open this gallery; give the right one, or "
            "restore a backup that has a passphrase"
        )
    places = ", ".join(sorted({slot.source for slot in slots})) or "nowhere"
    raise GalleryKeyError(
        f"the key of this gallery is not at hand: it is kept in {places}, which gave none here; "
        "open the gallery on the device and as the user it was made for, or restore a backup"
    )


def _parameters(slot: Slot) -> Mapping[str, object]:
    try:
        parameters = json.loads(slot.parameters)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise GalleryIntegrityError("a key slot of the gallery was changed")
    return parameters


def _unwrap(wrapping: bytes, slot: Slot, gallery_id: str) -> bytes:
    return unseal(wrapping, slot.wrapped, gallery_id, "slot", slot.source, slot.parameters)


def _key_id(wrapping: bytes) -> bytes:
    return keyed_hash(wrapping, "key id")[:16]


def where_the_key_is(keys: GalleryKeys) -> str:
    """Return what the user must know of the place of a new gallery's key."""
    if keys.source == KeyFile.name:
        return (
            "the key of the new gallery is a plain file: it protects copies of the gallery, and "
            "nothing from who can read this disk; `edgeface gallery rekey` moves it"
        )
    return f"the key of the new gallery is kept in: {keys.source}"
