"""What the two torch containers share: persistent ids, and the check of a storage's size."""

from __future__ import annotations

from edgeface.errors import CheckpointFormatError
from edgeface_export.checkpoints.dtypes import DTYPES
from edgeface_export.checkpoints.nodes import GlobalName, StorageRef
from edgeface_export.checkpoints.rebuild import storage_dtype, whole_number
from edgeface_export.checkpoints.text import clip

__all__ = ["StorageTable", "item_bytes"]

_LONGEST_KEY = 256


def item_bytes(storage: StorageRef) -> int:
    """Size of one element of the storage."""
    return DTYPES[storage.dtype].item_bytes


class StorageTable:
    """Every storage that a pickle names, with one type and size for each key.

    ``folder`` is put before the keys of the file, to tell the storages of two pickles apart.
    """

    def __init__(self, *, folder: str = "") -> None:
        self._folder = folder
        self.by_key: dict[str, StorageRef] = {}

    def persistent(self, persistent_id: object) -> object:
        """The node for a persistent id as torch writes it.

        ``("storage", class, key, location, numel)`` in a zip; one more element, the view, in the
        legacy stream; ``("module", class, source file, source)`` around whole modules there.
        """
        if not isinstance(persistent_id, tuple) or not persistent_id:
            raise CheckpointFormatError("damaged: a persistent id is not a tuple")
        kind = persistent_id[0]
        if kind == "module" and len(persistent_id) == 4:
            return self._class_of(persistent_id[1])
        if kind != "storage" or len(persistent_id) not in {5, 6}:
            found = clip(kind) if isinstance(kind, str) else type(kind).__name__
            raise CheckpointFormatError(
                f"a persistent id of the kind {found}; wanted a storage as torch writes it"
            )
        return self._storage(persistent_id[1:])

    @staticmethod
    def _class_of(target: object) -> object:
        if not isinstance(target, GlobalName):
            raise CheckpointFormatError("damaged: a module's source belongs to no class")
        return target

    def _storage(self, fields: tuple[object, ...]) -> StorageRef:
        dtype, location = storage_dtype(fields[0]), fields[2]
        try:
            key, numel = self._folder + _key(fields[1]), whole_number(fields[3])
            window = _window(fields[4] if len(fields) > 4 else None)
        except TypeError as error:
            raise CheckpointFormatError(
                "damaged: a storage is described by unusable fields"
            ) from error
        if dtype is None or not isinstance(location, str) or numel < 0:
            raise CheckpointFormatError(
                f"storage {clip(key)} has a class or size that torch does not write"
            )
        storage = StorageRef(key, dtype, numel, location, window)
        known = self.by_key.setdefault(key, storage)
        if (known.dtype, known.numel) != (dtype, numel):
            raise CheckpointFormatError(
                f"damaged: storage {clip(key)} is {known.numel:,} x {known.dtype} in one place and "
                f"{numel:,} x {dtype} in another"
            )
        return storage


def _key(value: object) -> str:
    if isinstance(value, int):
        value = str(whole_number(value))
    if not isinstance(value, str) or len(value) > _LONGEST_KEY:
        raise TypeError
    return value


def _window(view: object) -> tuple[int, int] | None:
    if view is None:
        return None
    if not isinstance(view, tuple) or len(view) != 3:
        raise TypeError
    return whole_number(view[1]), whole_number(view[2])
