"""The float32 originals that decide among the few best rows: in memory, or in a file.

A file of rows is a file of faces: a template can be turned back into a likeness. It is made only
in a folder that the caller names, for this process alone: mode 0600, unlinked as soon as it is
open (on Windows: deleted when it is closed), and encrypted with a key that is never written.
After a power cut what is left of it is noise. Rows are read by position instead of being mapped:
a failing disk is then an error, where reading a mapped page would kill the process.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import GalleryError, MissingDependencyError
from edgeface.types import FloatArray

__all__ = ["FileRows", "MemoryRows", "RowStore", "Slots"]

Slots = npt.NDArray[np.int64]
_SEGMENT_ROWS = 1 << 16
_STORED = np.dtype("<f4")
# Rows that are encrypted at once: 16 MB at 512 numbers.
_BLOCK_ROWS = 8192
_AES_BLOCK_BYTES = 16


class RowStore(Protocol):
    """Keeps (n, d) float32 rows, each in a slot."""

    def append(self, rows: FloatArray) -> Slots:
        """Keep ``rows`` and return their slots, (n,) int64.

        Raises:
            GalleryError: They cannot be kept; none is.
        """
        ...

    def read(self, slots: Slots) -> FloatArray:
        """Return the (n, d) rows of ``slots``.

        Raises:
            GalleryError: They cannot be read.
        """
        ...

    def forget(self, slots: Slots) -> None:
        """Overwrite the rows of ``slots``."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...


class MemoryRows:
    """Rows in memory; a slot is used again after it was forgotten."""

    def __init__(self, embedding_size: int) -> None:
        self._size = embedding_size
        self._segments: list[FloatArray] = []
        self._used = 0
        self._free: list[int] = []

    def append(self, rows: FloatArray) -> Slots:
        """Keep ``rows``: see :meth:`RowStore.append`."""
        again = [self._free.pop() for _ in range(min(len(self._free), len(rows)))]
        n_new = len(rows) - len(again)
        slots = np.concatenate(
            [np.array(again, np.int64), np.arange(self._used, self._used + n_new)]
        )
        self._used += n_new
        while len(self._segments) * _SEGMENT_ROWS < self._used:
            # Pages that were never written take no memory.
            self._segments.append(np.zeros((_SEGMENT_ROWS, self._size), np.float32))
        for number, rank in self._places(slots):
            self._segments[number][slots[rank] % _SEGMENT_ROWS] = rows[rank]
        return slots

    def read(self, slots: Slots) -> FloatArray:
        """Return the rows of ``slots``: see :meth:`RowStore.read`."""
        rows = np.empty((len(slots), self._size), np.float32)
        for number, rank in self._places(slots):
            rows[rank] = self._segments[number][slots[rank] % _SEGMENT_ROWS]
        return rows

    def forget(self, slots: Slots) -> None:
        """Overwrite the rows of ``slots``: see :meth:`RowStore.forget`."""
        for number, rank in self._places(slots):
            self._segments[number][slots[rank] % _SEGMENT_ROWS] = 0.0
        self._free += slots.tolist()

    def close(self) -> None:
        """Free everything: see :meth:`RowStore.close`."""
        self._segments.clear()
        self._free.clear()
        self._used = 0

    def _places(self, slots: Slots) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
        """Give the number of each segment that ``slots`` are in, and which of them are."""
        if len(self._segments) == 1:
            yield 0, np.arange(len(slots))
            return
        numbers = slots // _SEGMENT_ROWS
        for number in np.unique(numbers):
            yield int(number), np.flatnonzero(numbers == number)


class FileRows:
    """Rows in a file of this process alone; see the text of the module.

    A slot is never used twice, so that no two rows are encrypted with the same part of the key
    stream; the room of forgotten rows comes back when the index is built again.

    Args:
        folder: Where the file is made; it must exist. A folder in memory (such as ``/dev/shm``)
            saves the disk, not the memory.
        embedding_size: The length of a row.
        encrypt: False only where the folder itself is never on a disk.

    Raises:
        GalleryError: The file cannot be made.
        MissingDependencyError: The package cryptography is not installed and ``encrypt`` is true.
    """

    def __init__(
        self, folder: str | os.PathLike[str], embedding_size: int, *, encrypt: bool = True
    ) -> None:
        self._size = embedding_size
        row_bytes = embedding_size * _STORED.itemsize
        self._row_bytes = -(-row_bytes // _AES_BLOCK_BYTES) * _AES_BLOCK_BYTES
        self._cipher = _RowCipher(self._row_bytes) if encrypt else None
        self._folder = Path(folder)
        self._used = 0
        self._file = self._make_file()

    def append(self, rows: FloatArray) -> Slots:
        """Keep ``rows``: see :meth:`RowStore.append`."""
        first = self._used
        with self._reported("written"):
            for start in range(0, len(rows), _BLOCK_ROWS):
                content = self._to_bytes(rows[start : start + _BLOCK_ROWS], first + start)
                self._file.seek((first + start) * self._row_bytes)
                self._write(content)
        self._used = first + len(rows)
        return np.arange(first, self._used)

    def read(self, slots: Slots) -> FloatArray:
        """Return the rows of ``slots``: see :meth:`RowStore.read`."""
        rows = np.empty((len(slots), self._size), np.float32)
        with self._reported("read"):
            for rank, slot in enumerate(slots.tolist()):
                self._file.seek(slot * self._row_bytes)
                content = self._file.read(self._row_bytes)
                if len(content) < self._row_bytes:
                    raise OSError(f"row {slot} is cut short")
                if self._cipher is not None:
                    content = self._cipher.apply(content, slot)
                rows[rank] = np.frombuffer(content, _STORED, self._size)
        return rows

    def forget(self, slots: Slots) -> None:
        """Overwrite the rows of ``slots``: see :meth:`RowStore.forget`."""
        with self._reported("overwritten"):
            for slot in slots.tolist():
                self._file.seek(slot * self._row_bytes)
                self._write(bytes(self._row_bytes))

    def close(self) -> None:
        """Free everything: see :meth:`RowStore.close`."""
        self._file.close()

    def _make_file(self) -> Any:
        try:
            # On POSIX it has no name from the start, or loses it at once; mode 0600 either way.
            return tempfile.TemporaryFile(dir=self._folder, prefix="edgeface-", buffering=0)
        except OSError as exc:
            raise GalleryError(
                f"no file for rows can be made in {self._folder}: {exc}; name a folder that exists "
                "and may be written"
            ) from exc

    def _to_bytes(self, rows: FloatArray, first_slot: int) -> bytes:
        padded = np.zeros((len(rows), self._row_bytes // _STORED.itemsize), _STORED)
        padded[:, : self._size] = rows
        content = padded.tobytes()
        return content if self._cipher is None else self._cipher.apply(content, first_slot)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        # A closed file is a ValueError.
        except (OSError, ValueError) as exc:
            raise GalleryError(
                f"the file for rows in {self._folder} cannot be {what}: {exc}; free some room "
                "there and open the gallery again"
            ) from exc


class _RowCipher:
    """AES-256 in counter mode; the counter of a row is where its slot lies in the file."""

    def __init__(self, row_bytes: int) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        except ImportError as exc:
            raise MissingDependencyError("cryptography", extra="search") from exc
        key = algorithms.AES(os.urandom(32))

        def begin(counter: bytes) -> Any:
            return Cipher(key, modes.CTR(counter)).encryptor()

        self._begin = begin
        self._blocks_per_row = row_bytes // _AES_BLOCK_BYTES

    def apply(self, content: bytes, first_slot: int) -> bytes:
        """Return ``content``, rows from ``first_slot`` on, encrypted or decrypted."""
        counter = (first_slot * self._blocks_per_row).to_bytes(_AES_BLOCK_BYTES, "big")
        return bytes(self._begin(counter).update(content))
