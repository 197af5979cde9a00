"""Second factors: one-time passwords (TOTP, RFC 6238) and PINs, each of one subject.

They lie in one encrypted file. A one-time password counts once: the step it was made for is
remembered, and no earlier one is taken. PINs are stretched by scrypt. A subject may have a second
PIN that asks for help; checking takes the same time whether there is one or not.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeface.access.audit import sync_folder
from edgeface.access.folder import FolderLock
from edgeface.access.keys import AccessKeys
from edgeface.access.values import FactorKind, WallTime
from edgeface.backends.sealed_file import Refusal, read_sealed, write_sealed
from edgeface.errors import AccessStateError, InvalidInputError, MissingDependencyError
from edgeface.gallery.base import normalise_subject_name
from edgeface.gallery.sealing import seal, unseal

__all__ = ["FactorCheck", "FactorStore", "ScryptCost"]

_STEP_S = 30
# One step before and after: phones' clocks differ by some seconds, and codes are typed slowly.
_STEPS_OFF = 1
_MAX_CODE = 12
_MIN_PIN = 6
_SALT_BYTES = 16
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What stretching a PIN costs: ``2**log2 * block * 128`` bytes, ``lanes`` times over.

    32 MiB three times: OWASP's figure for scrypt (2023) with the least memory that a small board
    has to spare.
    """

    log2: int = 15
    block: int = 8
    lanes: int = 3

    def __post_init__(self) -> None:
        if not (1 <= self.log2 <= 20 and 1 <= self.block <= 32 and 1 <= self.lanes <= 16):
            raise InvalidInputError(f"the cost of a PIN cannot be {self}")

    def stretch(self, pin: str, salt: bytes) -> bytes:
        """Return the 32-byte hash of ``pin``."""
        memory = (1 << self.log2) * self.block * 128
        return hashlib.scrypt(
            pin.encode(),
            salt=salt,
            n=1 << self.log2,
            r=self.block,
            p=self.lanes,
            maxmem=2 * memory + (1 << 20),
            dklen=_HASH_BYTES,
        )


@dataclass(frozen=True, slots=True)
class FactorCheck:
    """What a code was: ``kind`` is None for a wrong one, ``step`` of a one-time password."""

    kind: FactorKind | None = None
    is_duress: bool = field(default=False, repr=False)
    step: int | None = None


@dataclass(frozen=True, slots=True)
class _Pin:
    salt: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Factors:
    """What one subject has. A PIN always comes with a second one, which may be nobody's."""

    totp: str = field(default="", repr=False)
    pin: _Pin | None = field(default=None, repr=False)
    duress: _Pin | None = field(default=None, repr=False)


class FactorStore:
    """The second factors of a door's subjects, in the file ``factors.sealed`` of its folder.

    Needs the extra ``access``. Not for use from several threads; several processes may change the
    file, one after the other. To change it so that the door's log knows, see
    :func:`~edgeface.access.edit_factors`.
    """

    def __init__(self, folder: Path, keys: AccessKeys, *, cost: ScryptCost | None = None) -> None:
        """Read the file, if there is one.

        Raises:
            AccessStateError: It was changed, or is of another door.
        """
        self.path = folder / "factors.sealed"
        self._keys = keys
        self._seen = self._facts()
        self.version, self._factors, stored = self._read()
        self._cost = stored or cost or ScryptCost()
        self._nobody = self._stretched(secrets.token_hex(8))

    @property
    def is_changed(self) -> bool:
        """Whether the file is another one than was read or written last; a look at its facts."""
        return self._facts() != self._seen

    def reload(self) -> None:
        """Read the file anew: another process may have changed it.

        Raises:
            AccessStateError: It was changed by hand, is of another door, or is older than it was.
        """
        # Before it is read: what is written meanwhile counts as a change.
        facts = self._facts()
        version, factors, cost = self._read()
        if version < self.version:
            raise AccessStateError(
                "the second factors of the door are an older copy; put the newest file back"
            )
        self._seen, self.version, self._factors = facts, version, factors
        if cost is not None and cost != self._cost:
            self._cost = cost
            self._nobody = self._stretched(secrets.token_hex(8))

    def subjects(self) -> tuple[str, ...]:
        """Return who has a second factor, sorted."""
        return tuple(sorted(self._factors))

    def add_totp(self, subject: str, *, issuer: str = "edgeface") -> str:
        """Make a secret for one-time passwords; return the ``otpauth://`` address for a QR code.

        An earlier secret of the subject is replaced.

        Raises:
            MissingDependencyError: pyotp is not installed.
            AccessStateError: The file cannot be written.
        """
        name = normalise_subject_name(subject)
        secret = str(_pyotp().random_base32())
        self._change(name, lambda old: _Factors(secret, old.pin, old.duress))
        return str(_pyotp().TOTP(secret).provisioning_uri(name=name, issuer_name=issuer))

    def set_pin(self, subject: str, pin: str, *, duress_pin: str | None = None) -> None:
        """Store a PIN of 6 to 12 digits, and one that asks for help where it is given.

        Raises:
            InvalidInputError: A PIN is too short, too plain, or both are the same.
            AccessStateError: The file cannot be written.
        """
        name = normalise_subject_name(subject)
        for text in (pin, *([] if duress_pin is None else [duress_pin])):
            _require_pin(text)
        if pin == duress_pin:
            raise InvalidInputError("the duress PIN must differ from the PIN")
        # 64 bits that no keypad can type stand for a missing one: the file tells nothing.
        other = self._stretched(secrets.token_hex(8) if duress_pin is None else duress_pin)
        own = self._stretched(pin)
        self._change(name, lambda old: _Factors(old.totp, own, other))

    def remove(self, subject: str) -> None:
        """Forget every second factor of ``subject``; nothing happens where there is none.

        Raises:
            AccessStateError: The file cannot be written.
        """
        name = normalise_subject_name(subject)
        if name in self._factors:
            self._change(name, lambda _old: None)

    def check(self, subject: str, code: str, wall: WallTime, *, used_step: int = -1) -> FactorCheck:
        """Return what ``code`` is of ``subject``.

        ``used_step`` is the newest step of a one-time password that was used; none up to it is
        taken again, nor any while the time of day is in doubt. Takes as long for anybody who has
        no PIN, and for nobody.
        """
        typed = "".join(code.split())
        usable = typed.isascii() and typed.isdecimal() and len(typed) <= _MAX_CODE
        found = self._factors.get(subject, _Factors())
        own = self._fits(found.pin or self._nobody, typed)
        duress = self._fits(found.duress or self._nobody, typed)
        step = self._step_of(found.totp, typed, wall, used_step) if usable else None
        if usable and found.pin is not None and (own or duress):
            return FactorCheck(FactorKind.PIN, is_duress=duress and not own)
        if step is not None:
            return FactorCheck(FactorKind.TOTP, step=step)
        return FactorCheck()

    def _step_of(self, secret: str, typed: str, wall: WallTime, used_step: int) -> int | None:
        if not secret or wall.doubt:
            return None
        now = math.floor(wall.moment.timestamp() / _STEP_S)
        totp = _pyotp().TOTP(secret)
        right = None
        for step in range(now - _STEPS_OFF, now + _STEPS_OFF + 1):
            fits = hmac.compare_digest(str(totp.generate_otp(step)), typed)
            if fits and step > used_step:
                right = step
        return right

    def _stretched(self, pin: str) -> _Pin:
        salt = secrets.token_bytes(_SALT_BYTES)
        return _Pin(salt, self._cost.stretch(pin, salt))

    def _fits(self, pin: _Pin, typed: str) -> bool:
        # Of at most 12 digits, whatever was typed: the time must not grow with it.
        return hmac.compare_digest(self._cost.stretch(typed[:_MAX_CODE], pin.salt), pin.hash)

    def _change(self, name: str, change: Callable[[_Factors], _Factors | None]) -> None:
        # Two who change it at once must not lose what one of them wrote.
        with FolderLock(self.path.parent, "factors.lock"):
            self.reload()
            new = dict(self._factors)
            made = change(new.pop(name, _Factors()))
            if made is not None:
                new[name] = made
            self._write(self.version + 1, new)
            self._factors, self.version = new, self.version + 1
            self._seen = self._facts()

    def _facts(self) -> tuple[int, ...]:
        try:
            facts = self.path.lstat()
        except OSError:
            return ()
        return (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def _write(self, version: int, factors: dict[str, _Factors]) -> None:
        content = {
            "version": version,
            "cost": [self._cost.log2, self._cost.block, self._cost.lanes],
            "subjects": {name: _to_dict(entry) for name, entry in factors.items()},
        }
        text = json.dumps(content, sort_keys=True).encode()
        payload = seal(self._keys.factors, text, "access factors", self._keys.door_id)
        try:
            write_sealed(self.path, {}, payload, self._keys.state)
            sync_folder(self.path.parent)
        except OSError as exc:
            raise AccessStateError(f"{self.path} cannot be written: {exc.strerror}") from exc

    def _read(self) -> tuple[int, dict[str, _Factors], ScryptCost | None]:
        if not self._facts():
            return 0, {}, None
        sealed = read_sealed(self.path, self._keys.state)
        if isinstance(sealed, Refusal):
            raise AccessStateError(f"the second factors {self.path} are not believed: {sealed}")
        place = ("access factors", self._keys.door_id)
        content = json.loads(unseal(self._keys.factors, sealed.payload, *place))
        subjects = {name: _of_dict(entry) for name, entry in content["subjects"].items()}
        return int(content["version"]), subjects, ScryptCost(*content["cost"])


def _to_dict(factors: _Factors) -> dict[str, Any]:
    pins = [
        None if pin is None else [pin.salt.hex(), pin.hash.hex()]
        for pin in (factors.pin, factors.duress)
    ]
    return {"totp": factors.totp, "pin": pins[0], "duress": pins[1]}


def _of_dict(stored: dict[str, Any]) -> _Factors:
    pins = [
        None if entry is None else _Pin(bytes.fromhex(entry[0]), bytes.fromhex(entry[1]))
        for entry in (stored["pin"], stored["duress"])
    ]
    return _Factors(str(stored["totp"]), pins[0], pins[1])


def _require_pin(pin: str) -> None:
    if not (pin.isascii() and pin.isdecimal() and _MIN_PIN <= len(pin) <= _MAX_CODE):
        raise InvalidInputError(f"a PIN has {_MIN_PIN} to {_MAX_CODE} digits")
    steps = {(int(b) - int(a)) % 10 for a, b in itertools.pairwise(pin)}
    if len(steps) == 1:
        raise InvalidInputError("a PIN must not be one digit again and again, nor digits in a row")


def _pyotp() -> Any:
    try:
        import pyotp
    except ImportError as exc:
        raise MissingDependencyError("pyotp", extra="access") from exc
    return pyotp
