"""Who may sign in: names and argon2id hashes in one file that only its owner reads."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeface.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["MAX_PASSWORD", "MIN_PASSWORD", "AccountBook"]

# NIST SP 800-63B-4: at least 15 characters where the password is the only factor, no rules of
# composition; 12 here, because tries are counted and the pages are loopback only by default.
MIN_PASSWORD = 12
MAX_PASSWORD = 128
_MAX_NAME = 60
_MAX_ACCOUNTS = 50
_FILE = "accounts.json"
# The hash of 32 random bytes that nobody kept: what a name without an account is compared with.
_NOBODY = (
    "$argon2id$v=19$m=65536,t=3,p=4$5iyc0BceGsQ9FWJtxrklOw$"
    "THhoK1ogmDY+PyT0SSD5G6la3i3fvHc64dkvhgafBLA"
)


class AccountBook:
    """The accounts in ``folder``. While there is none, ``set_up_token`` makes the first one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._lock = threading.Lock()
        # One hash at a time: each takes 64 MiB.
        self._hashing = threading.Semaphore(1)
        self._hasher = _password_hasher()
        self._hashes = self._read()
        self._token = None if self._hashes else secrets.token_urlsafe(24)

    @property
    def set_up_token(self) -> str | None:
        """The token for the first account; None when there is one."""
        return self._token

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all accounts, in the order they were made."""
        return tuple(self._hashes)

    def set_up(self, token: str, name: str, password: str) -> bool:
        """Make the first account and return True; False when ``token`` is wrong or was used.

        Raises:
            InvalidInputError: A name or password that cannot be taken.
        """
        _require_usable(name, password)
        with self._lock:
            wanted = self._token
            if wanted is None or not hmac.compare_digest(wanted.encode(), token.encode()):
                return False
            self._store({name.strip(): self._hash(password)})
            self._token = None
            return True

    def add(self, name: str, password: str) -> None:
        """Make another account.

        Raises:
            InvalidInputError: A name that is taken, or a name or password that cannot be.
        """
        _require_usable(name, password)
        with self._lock:
            if name.strip() in self._hashes or len(self._hashes) >= _MAX_ACCOUNTS:
                raise InvalidInputError("this account exists already, or there are too many")
            self._store({**self._hashes, name.strip(): self._hash(password)})

    def change_password(self, name: str, password: str) -> None:
        """Replace the password of an account.

        Raises:
            InvalidInputError: A password that cannot be taken, or no such account.
        """
        _require_usable(name, password)
        with self._lock:
            if name not in self._hashes:
                raise InvalidInputError("there is no such account")
            self._store({**self._hashes, name: self._hash(password)})

    def remove(self, name: str) -> None:
        """Remove an account; the last one stays.

        Raises:
            InvalidInputError: No such account, or the last one.
        """
        with self._lock:
            kept = {key: value for key, value in self._hashes.items() if key != name}
            if not kept or len(kept) == len(self._hashes):
                raise InvalidInputError("there is no such account, or it is the last one")
            self._store(kept)

    def is_right(self, name: str, password: str) -> bool:
        """Return whether the password is that of the account; as slowly when there is none."""
        from argon2.exceptions import InvalidHashError, VerificationError

        known = self._hashes.get(name.strip())
        if len(password) > MAX_PASSWORD:
            return False
        with self._hashing:
            try:
                self._hasher.verify(known or _NOBODY, password)
            except (VerificationError, InvalidHashError):
                return False
        return known is not None

    def _hash(self, password: str) -> str:
        with self._hashing:
            return self._hasher.hash(password)

    def _read(self) -> dict[str, str]:
        try:
            content: Any = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise InvalidInputError(
                f"the accounts in {self._path} cannot be read: {exc}; put the file back from a "
                "copy, or remove it to set up the first account again"
            ) from exc
        if not isinstance(content, dict) or not all(
            isinstance(value, str) and value.startswith("$argon2id$") for value in content.values()
        ):
            raise InvalidInputError(f"{self._path} is no file of accounts; put back a copy")
        return dict(content)

    def _store(self, hashes: dict[str, str]) -> None:
        """Write all accounts, or none: the file is replaced once it is on the disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(hashes, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        self._hashes = hashes


def _password_hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError as exc:
        raise MissingDependencyError("argon2-cffi", extra="web") from exc
    # RFC 9106, second recommended option: 64 MiB, three passes.
    return PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)


def _require_usable(name: str, password: str) -> None:
    if not 1 <= len(name.strip()) <= _MAX_NAME or not name.isprintable():
        raise InvalidInputError(f"a name has 1 to {_MAX_NAME} printable characters")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidInputError(
            f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters, got {len(password)}"
        )
    if len(set(password)) < 5 or name.strip().lower() in password.lower():
        raise InvalidInputError("this password is easy to guess; take a few random words")
