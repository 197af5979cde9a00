"""What the pickle machine builds in place of Python objects: inert descriptions, nothing else.

Besides these nodes the machine uses plain ``None``, ``bool``, ``int``, ``float``, ``str``,
``bytes``, ``list`` (also for sets) and ``tuple``. No node has an equality or a representation that
descends, because the structures may be cyclic or exponentially shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = [
    "DictNode",
    "EncodedBytes",
    "GlobalName",
    "NumpyArray",
    "NumpyDtype",
    "Quantiser",
    "Record",
    "StorageRef",
    "TensorView",
    "UnsupportedTensor",
]

_LONGEST_KEY = 4096


@dataclass(frozen=True, slots=True)
class GlobalName:
    """A class or function that the file names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Record:
    """An object of a class that is not built: what it was made of, by name."""

    of: GlobalName
    args: tuple[object, ...] = ()
    state: object = None
    entries: list[tuple[object, object]] = field(default_factory=list)


class DictNode:
    """A dictionary in insertion order; keys may be anything, unhashable nodes included."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[tuple[object, object]] = ()) -> None:
        self._entries: dict[object, tuple[object, object]] = {}
        for key, value in entries:
            self.set(key, value)

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, key: object, value: object) -> None:
        """Add the entry, or replace the one whose key has the same type and value."""
        if _is_comparable(key):
            self._entries[type(key), key] = (key, value)
        else:
            self._entries[DictNode, len(self._entries)] = (key, value)

    def get(self, key: str) -> object:
        """The value of a text key, or None."""
        return self._entries.get((str, key), (None, None))[1]

    def has(self, key: str) -> bool:
        """Whether there is a text key ``key``."""
        return (str, key) in self._entries

    def entries(self) -> Iterable[tuple[object, object]]:
        """Key and value, in insertion order."""
        return self._entries.values()


def _is_comparable(key: object) -> bool:
    # Comparing two equal keys takes time in their length, at every insertion.
    if isinstance(key, str):
        return len(key) <= _LONGEST_KEY
    if isinstance(key, int):
        return key.bit_length() <= 64
    return key is None or isinstance(key, float)


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """A storage by name. ``window`` is (offset, length) of a view of an old file, in elements."""

    key: str
    dtype: str
    numel: int
    location: str
    window: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Quantiser:
    """Scale and zero point: numbers, or tensors over ``axis`` when it is not None."""

    scale: object
    zero_point: object
    axis: int | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TensorView:
    """A strided view; offset, size and stride count elements of ``dtype`` and are unchecked."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    quantiser: Quantiser | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UnsupportedTensor:
    """A tensor that cannot be read; ``kind`` completes "is a …"."""

    kind: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EncodedBytes:
    """Bytes as protocol 2 writes them, one latin-1 character for each; not yet copied."""

    text: str


@dataclass(slots=True, eq=False)
class NumpyDtype:
    """A numpy type code such as ``f4``, and its byte order."""

    code: str
    order: str = "<"


@dataclass(slots=True, eq=False, repr=False)
class NumpyArray:
    """A numpy array, empty until its state arrives; stays inert when ``dtype`` is None.

    ``content`` is text, one latin-1 character for each byte, in old pickles.
    """

    dtype: NumpyDtype | None = None
    shape: tuple[int, ...] = ()
    fortran_order: bool = False
    content: bytes | bytearray | str = b""
