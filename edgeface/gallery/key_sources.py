"""Where the key of a gallery is kept, the best protected place first.

A source gives 32 bytes that wrap the gallery's own key. None of them reads a key from an
environment variable or a setting: those end up in process lists, shells' histories and logs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeface.errors import GalleryKeyError
from edgeface.gallery.sealing import KEY_BYTES, derive, new_key

__all__ = [
    "CREDENTIAL_NAME",
    "DesktopKeyring",
    "JetsonKey",
    "KeyFile",
    "KeySource",
    "MadeKey",
    "Passphrase",
    "SystemdCredential",
]

CREDENTIAL_NAME = "edgeface.kek"
"""Name of the systemd credential."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A 32-byte key and what must be stored openly to get it again."""

    key: bytes = field(repr=False)
    parameters: Mapping[str, Any]


class KeySource(Protocol):
    """One place for keys. ``name`` is stored with the gallery and must never change."""

    name: str

    def make(self, gallery_id: str, /) -> MadeKey | None:
        """Return a key for the new gallery, or None where this place does not exist.

        Raises:
            GalleryKeyError: The place exists and is not safe, or refused.
        """
        ...

    def find(self, gallery_id: str, parameters: Mapping[str, Any], /) -> bytes | None:
        """Return the key made before, or None where it is not here.

        Raises:
            GalleryKeyError: The place exists and is not safe, or refused.
        """
        ...


class SystemdCredential:
    """A credential that systemd decrypts for the service: TPM 2.0, the host's key, or both.

    Make one with ``head -c 32 /dev/urandom | systemd-creds encrypt --name=edgeface.kek -
    /etc/credstore.encrypted/edgeface.kek`` and name it in the unit:
    ``LoadCredentialEncrypted=edgeface.kek``.
    """

    name = "systemd-credential"

    def make(self, gallery_id: str, /) -> MadeKey | None:
        """Return the key of the credential, which every gallery of the service shares."""
        key = self.find(gallery_id, {})
        return None if key is None else MadeKey(key, {})

    def find(self, _gallery_id: str, _parameters: Mapping[str, Any], /) -> bytes | None:
        """Return the key of the credential."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder or not Path(folder, CREDENTIAL_NAME).exists():
            return None
        return _read_key_file(Path(folder, CREDENTIAL_NAME))


class JetsonKey:
    """A key that OP-TEE of a Jetson derives from the fuses and the gallery's id.

    NVIDIA's ``nvluks-srv-app`` asks the trusted application luks-srv for it: see *Disk
    Encryption* in the Jetson Linux Developer Guide. It protects only where the board's own keys
    were fused, and where the service was not shut for this boot (``nvluks-srv-app -n``).
    """

    name = "jetson-op-tee"
    _TIMEOUT_S = 10.0

    def __init__(self, program: Path = Path("/usr/sbin/nvluks-srv-app")) -> None:
        self._program = program

    def make(self, gallery_id: str, /) -> MadeKey | None:
        """Return the key that the board derives for the gallery."""
        key = self.find(gallery_id, {})
        return None if key is None else MadeKey(key, {})

    def find(self, gallery_id: str, _parameters: Mapping[str, Any], /) -> bytes | None:
        """Return the key that the board derives for the gallery."""
        if not self._program.exists():
            return None
        # The context of luks-srv holds 40 bytes; a gallery's id has 32.
        command = [str(self._program), "--context-string", gallery_id, "--get-unique-pass"]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, timeout=self._TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        secret = done.stdout.strip()
        # 16: luks-srv gives 128 bits, as text or as bytes. Less is a message and not a key.
        if done.returncode != 0 or len(secret) < 16:
            return None
        return derive(hashlib.sha256(secret).digest(), "jetson", gallery_id)


class DesktopKeyring:
    """The login keyring of a desktop session: Secret Service, KWallet, macOS, Windows."""

    name = "desktop-keyring"
    _SERVICE = "edgeface gallery"
    # Backends that encrypt with the login. Others that `keyring` may find write plain files.
    _TRUSTED = (
        "keyring.backends.SecretService",
        "keyring.backends.libsecret",
        "keyring.backends.kwallet",
        "keyring.backends.macOS",
        "keyring.backends.Windows",
    )

    def make(self, gallery_id: str, /) -> MadeKey | None:
        """Return a new key, stored in the keyring."""
        ring = self._ring()
        if ring is None:
            return None
        key = new_key()
        try:
            ring.set_password(self._SERVICE, gallery_id, key.hex())
            kept = ring.get_password(self._SERVICE, gallery_id)
        except Exception as exc:  # each backend raises errors of its own
            raise GalleryKeyError(
                f"the desktop keyring refused to keep the gallery's key: {exc}; unlock it, or "
                "choose another place for the key"
            ) from exc
        if kept != key.hex():
            raise GalleryKeyError("the desktop keyring did not keep the gallery's key")
        return MadeKey(key, {})

    def find(self, gallery_id: str, _parameters: Mapping[str, Any], /) -> bytes | None:
        """Return the key that the keyring keeps for the gallery."""
        ring = self._ring()
        if ring is None:
            return None
        try:
            text = ring.get_password(self._SERVICE, gallery_id)
        except Exception as exc:  # each backend raises errors of its own
            raise GalleryKeyError(
                f"the desktop keyring cannot be read: {exc}; unlock it and try again"
            ) from exc
        return None if text is None else _key_of_hex(text, "the desktop keyring")

    def _ring(self) -> Any | None:
        try:
            from keyring.backend import get_all_keyring
        except ImportError:
            return None
        usable = [
            ring
            for ring in get_all_keyring()
            if type(ring).__module__.startswith(self._TRUSTED) and ring.priority > 0
        ]
        return max(usable, key=lambda ring: ring.priority) if usable else None


class Passphrase:
    """A passphrase that somebody types, made into a key by scrypt (RFC 7914).

    ``ask`` is called with true for a new passphrase and false for a known one.
    """

    name = "passphrase"
    # 128 MiB and about half a second on a small device: OWASP's figure for scrypt (2023).
    _COST_LOG2, _BLOCK, _LANES = 17, 8, 1
    # What a file may ask for: above, opening it would be an attack on the memory.
    _MAX_COST_LOG2 = 20
    _MIN_LENGTH = 8

    def __init__(self, ask: Callable[[bool], str | None], *, cost_log2: int | None = None) -> None:
        self._ask = ask
        self._cost_log2 = cost_log2 or self._COST_LOG2

    def make(self, _gallery_id: str, /) -> MadeKey | None:
        """Return the key of a new passphrase."""
        text = self._ask(True)
        if text is None:
            return None
        if len(text) < self._MIN_LENGTH:
            raise GalleryKeyError(
                f"a passphrase needs at least {self._MIN_LENGTH} characters, got {len(text)}"
            )
        parameters = {"salt": secrets.token_hex(16), "cost_log2": self._cost_log2}
        return MadeKey(self._stretch(text, parameters), parameters)

    def find(self, _gallery_id: str, parameters: Mapping[str, Any], /) -> bytes | None:
        """Return the key of the passphrase that is typed."""
        text = self._ask(False)
        return None if text is None else self._stretch(text, parameters)

    def _stretch(self, text: str, parameters: Mapping[str, Any]) -> bytes:
        cost, salt = parameters.get("cost_log2"), parameters.get("salt")
        if not isinstance(cost, int) or not 1 <= cost <= self._MAX_COST_LOG2:
            raise GalleryKeyError(f"the gallery asks for an impossible scrypt cost ({cost!r})")
        try:
            salted = bytes.fromhex(str(salt))
        except ValueError as exc:
            raise GalleryKeyError("the salt of the gallery's passphrase is damaged") from exc
        return hashlib.scrypt(
            text.encode("utf-8", "surrogatepass"),
            salt=salted,
            n=1 << cost,
            r=self._BLOCK,
            p=self._LANES,
            maxmem=(1 << cost) * self._BLOCK * 128 * 2,
            dklen=KEY_BYTES,
        )


class KeyFile:
    """A plain file of this user: it keeps out who has the gallery alone, and nobody else.

    Whoever has the disk has both. So it is used only where it was asked for by name.
    """

    name = "key-file"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, gallery_id: str) -> Path:
        """Return where the key of the gallery lies."""
        return self._folder / f"{gallery_id}.key"

    def make(self, gallery_id: str, /) -> MadeKey | None:
        """Return a new key, written to its file with mode 0600."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(self.path(gallery_id), new_key().hex().encode() + b"\n")
        key = _read_key_file(self.path(gallery_id))
        return MadeKey(key, {})

    def find(self, gallery_id: str, _parameters: Mapping[str, Any], /) -> bytes | None:
        """Return the key in the file."""
        path = self.path(gallery_id)
        return _read_key_file(path) if os.path.lexists(path) else None


def _write_once(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` unless a file is there; never a part of it."""
    handle, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _read_key_file(path: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            facts = os.fstat(file.fileno())
            content = file.read(4096)
    except OSError as exc:
        raise GalleryKeyError(f"the key file {path} cannot be read: {exc.strerror}") from exc
    if not stat.S_ISREG(facts.st_mode):
        raise GalleryKeyError(f"the key file {path} is not a plain file")
    if os.name == "posix" and facts.st_mode & 0o077:
        raise GalleryKeyError(
            f"other users may read the key file {path} (mode {stat.S_IMODE(facts.st_mode):04o}, "
            f"wanted 0600); make a new key for the gallery, or run: chmod 600 {path}"
        )
    if len(content) == KEY_BYTES:
        return content
    return _key_of_hex(content.decode("ascii", "replace"), f"the key file {path}")


def _key_of_hex(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise GalleryKeyError(
            f"{where} does not hold a key: wanted 32 bytes or 64 hexadecimal digits"
        )
    return key
